use serde_json::json;

use super::*;

fn outputs(value: Value, query: &str) -> Value {
    run(&value, query).unwrap_or_else(|why| panic!("{query}: {why}"))
}

#[test]
fn queries_give_what_jq_gives() {
    let pods = || {
        json!({"items": [
            {"name": "b", "ready": true, "ports": [80, 443], "labels": {"tier": "web"}},
            {"name": "a", "ready": false, "ports": [], "labels": {}},
        ]})
    };
    for (input, query, wanted) in [
        (json!([1, 2, 3, 4, 5]), ". | max", json!([5])),
        (pods(), ".items[].name", json!(["b", "a"])),
        (pods(), "[.items[] | select(.ready) | .ports[]]", json!([[80, 443]])),
        (
            pods(),
            ".items | map({name, tier: (.labels.tier // \"none\")}) | sort_by(.name)",
            json!([[{"name": "a", "tier": "none"}, {"name": "b", "tier": "web"}]]),
        ),
        (pods(), "[.items[].ports | length] | add", json!([2])),
        (pods(), ".items[0].ports[-1], .items[1].none?.x", json!([443, null])),
        (pods(), "\"\\(.items | length) pods, \\(.items[0].name)\"", json!(["2 pods, b"])),
        (json!([[1, 2], [10, 20]]), "map(. as [$x, $y] | $x + $y)", json!([[3, 30]])),
        (
            json!([3, 1, 2, 3]),
            "unique, group_by(. % 2), .[1:3], (. - [3])",
            json!([[1, 2, 3], [[2], [3, 1, 3]], [1, 2], [1, 2]]),
        ),
        (json!({"a": 1, "b": 2}), "to_entries | map(select(.value > 1)) | from_entries", json!([{"b": 2}])),
        (
            json!({"a": {"b": 1}}),
            ".a.b |= . + 1 | .c = 5 | del(.a.b) | .d += 1",
            json!([{"a": {}, "c": 5, "d": 1}]),
        ),
        (
            json!([1, 2, 3, 4]),
            "reduce .[] as $n (0; . + $n), [foreach .[] as $n (0; . + $n)], [limit(2; .[])], (map(select(. > 2)) | length)",
            json!([10, [1, 3, 6, 10], [1, 2], 2]),
        ),
        (json!([1, 2, 3]), ".[] |= empty", json!([[]])),
        (
            json!({"a": [1, {"b": 2}]}),
            "[paths], [.. | numbers], path(.a[1].b)",
            json!([[["a"], ["a", 0], ["a", 1], ["a", 1, "b"]], [1, 2], ["a", 1, "b"]]),
        ),
        (
            json!("a,b c"),
            "split(\",\"), test(\"^A\"; \"i\"), sub(\",\"; \"-\"), (@base64 | @base64d), @uri, ascii_upcase",
            json!([["a", "b c"], true, "a-b c", "a,b c", "a%2Cb%20c", "A,B C"]),
        ),
        (
            json!(null),
            "try error(\"x\") catch \"caught \\(.)\", (1, null | not), (1 as $x | [$x, $x * 2])",
            json!(["caught x", false, true, [1, 2]]),
        ),
        (
            json!([1, "a", null, [2], {"k": 1}]),
            "map(type), (map(tojson) | join(\"|\"))",
            json!([["number", "string", "null", "array", "object"], "1|\"a\"|null|[2]|{\"k\":1}"]),
        ),
        (
            json!([1, [2]]),
            "walk(if type == \"number\" then . + 1 else . end), flatten, (.[1] | first), any(.[]; . == 1)",
            json!([[2, [3]], [1, 2], 2, true]),
        ),
        (
            json!({"n": 7}),
            "if .n > 10 then \"big\" elif .n > 5 then \"some\" else \"few\" end, .n / 2, -(.n), 10 / 5",
            json!(["some", 3.5, -7, 2]),
        ),
        (
            json!(["x"]),
            "{a: 1, (.[0]): 2, \"b\": (3, 4)}",
            json!([{"a": 1, "b": 3, "x": 2}, {"a": 1, "b": 4, "x": 2}]),
        ),
    ] {
        assert_eq!(outputs(input, query), wanted, "{query}");
    }
}

#[test]
fn what_a_query_usually_does_is_within_its_bounds() {
    let names: Vec<Value> =
        (0..5000).map(|number| json!({"name": format!("suite-{number}.spec.ts")})).collect();
    let many =
        "map(select(.name | test(\"^\\\\w+-(\\\\d{1,3}|9\\\\w*)\\\\.spec\\\\.(js|ts)$\"; \"i\"))) | length";
    assert_eq!(outputs(Value::from(names), many), json!([1000]));
    let input = json!({"a": ["x-1", "y-2"], "b": {"c": [1, "foobar", {"d": [2, 3]}]}});
    for (query, wanted) in [
        (".a | map(capture(\"(?<name>[a-z])-(?<n>\\\\d)\") | .name + .n)", json!([["x1", "y2"]])),
        (".a[0] | [scan(\"[a-z]\")], [scan(\"([a-z])-(.)\")]", json!([["x"], [["x", "1"]]])),
        (
            ".b | contains({c: [\"bar\", {d: [3]}]}), contains({c: [\"nope\"]}), contains({c: 1})",
            json!([true, false, false]),
        ),
        ("[range(500)] - [range(1; 500)]", json!([[0]])),
        ("\"banana\" | indices(\"an\"), index(\"an\"), rindex(\"an\")", json!([[1, 3], 1, 3])),
        (
            "\"a,b\" / \",\", (\"\" / \",\"), (\"ab\" | split(\"\")), (\"ab\" | explode)",
            json!([["a", "b"], [], ["a", "b"], [97, 98]]),
        ),
        ("setpath([\"b\", \"c\", 0]; 9) | getpath([\"b\", \"c\", 0]), .a[1, 0]", json!([9, "y-2", "x-1"])),
    ] {
        assert_eq!(outputs(input.clone(), query), wanted, "{query}");
    }
}

#[test]
fn what_is_wrong_is_told() {
    for (query, wanted) in [
        (".a.b", "cannot look up \"b\" in number"),
        (".[] | nope", "there is no function nope with 0 arguments"),
        (".a |", "the query ends where term was expected"),
        (".a }", "the query cannot be read"),
        ("def f: 1; f", "functions cannot be defined here (def)"),
        ("$nothing", "there is no variable $nothing"),
        ("error(\"my own\")", "my own"),
        (".a + \"x\"", "number and string cannot be combined by +"),
        ("env.HOME", "there is no function env with 0 arguments"),
        ("input", "there is no function input with 0 arguments"),
    ] {
        let why = run(&json!({"a": 1}), query).expect_err(query);
        assert!(why.contains(wanted), "{query}: {why}");
    }
}

#[test]
fn no_query_takes_long_or_eats_the_machine() {
    // Each of them would never end, or take all memory, or all of the stack.
    let deep = format!("{}1{}", "[".repeat(40), "]".repeat(40));
    for query in [
        "[range(9999)] | [.[] as $a | .[] as $b | $a + $b] | length",
        "range(1000000000)",
        "reduce range(9999) as $i (\"x\"; . + .)",
        "reduce range(9999) as $i ([0]; . + .)",
        "reduce range(9999) as $i (0; [.])",
        "reduce range(9999) as $i ({}; .a = .)",
        "\"x\" * 1000000000",
        ".[1000000000] = 1",
        "[recurse(.)]",
        "[limit(3; recurse(. + 1))]",
        "reduce range(9999) as $i ([1]; map(., .))",
        "try (reduce range(9999) as $i (\"x\"; . + .)) catch .",
        // What one function does by itself, however little goes in.
        "[range(9999) | \"a\"] as $path | setpath($path; 1)",
        "[range(9999) | \"a\"] as $path | getpath($path)",
        "[range(9000)] as $all | [range(9000) | $all | contains([-1])]",
        "[range(9000)] as $all | [range(20)] | map($all - [range(9000; 18000)])",
        "(\"a\" * 1000000) as $text | [range(9)] | map($text | indices(\"a\" * 500000))",
        "(\"a\" * 1000000) | split(\"\")",
        "(\"a\" * 1000000) | explode",
        "(\"a\" * 1000000) | [scan(\"(a?)(a?)(a?)(a?)(a?)(a?)(a?)(a?)(a?)(a?)(a?)(a?)(a?)(a?)(a?)(a?)\")]",
        "[range(9999) | tostring as $n | \"x\" | test(\"(\\\\w{9}){9}\" + $n)]",
        "(\"a\" * 100000) as $text | [range(9999) | {a: $text, b: .}]",
        "(\"a\" * 100000) as $text | {a: $text, b: range(9999)}",
        "(\"a\" * 100000) as $text | [setpath([$text]; range(9999))]",
        "{a: (\"a\" * 100000)} | [.[range(9999) | \"a\"]] | length",
        &format!("[\"\\(range(9000))\\(range(100)){}\"]", "l".repeat(3500)),
        &deep,
        &"(".repeat(3000),
        &"-".repeat(4000),
        &format!("{}.", ".a|".repeat(1300)),
    ] {
        let told = run(&Value::Null, query);
        assert!(told.is_err() || query.starts_with(".a|."), "{query}");
    }
}

proptest::proptest! {
    #[test]
    fn no_query_panics(query in "[\\[\\](){}.|,;$a-c0-9\"\\\\ +*/=<>@?:-]{0,40}", text in "\\PC{0,10}") {
        let _ = run(&json!({"a": [1, {"b": text}], "c": null}), &query);
    }
}
