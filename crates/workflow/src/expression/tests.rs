use serde_json::{Value, json};

use super::*;

/// Knows `config`, `index`, `list` and `env`; `step` and `services` come later.
struct Fixture;

impl Scope for Fixture {
    fn name(&self, name: &str) -> Lookup {
        match name {
            "config" => {
                Lookup::Known(json!({"workers": 3, "name": "a b", "on": "true", "nested": {"x": [1, 2]}}))
            }
            "index" => Lookup::Known(json!(2)),
            "files" => Lookup::Known(json!(["cypress/e2e/a.js", "cypress/e2e/b.js"])),
            "env" => Lookup::Known(json!({"HOME": "/root"})),
            "step" | "services" => Lookup::Later,
            _ => Lookup::Unknown,
        }
    }

    fn missing(&self, root: &str, _: &str) -> Option<Value> {
        (root == "env").then(|| Value::from(""))
    }
}

fn eval(text: &str) -> Value {
    Expression::parse(text)
        .and_then(|expression| expression.evaluate(&Fixture))
        .unwrap_or_else(|error| panic!("{text}: {error}"))
}

#[test]
fn operators_bind_as_everywhere() {
    for (text, value) in [
        ("1 + 2 * 3", json!(7)),
        ("(1 + 2) * 3", json!(9)),
        ("2 ** 3 ** 2", json!(512)),
        ("7 / 2", json!(3.5)),
        ("6 / 2", json!(3)),
        ("-3 - -2", json!(-1)),
        ("7 % 4", json!(3)),
        ("\"a\" + 1", json!("a1")),
        ("1 < 2 && 2 < 3", json!(true)),
        ("10 > 9", json!(true)),
        ("'10' > '9'", json!(true)),
        ("config.workers = 3", json!(true)),
        ("config.on == true", json!(true)),
        ("config.workers <> 4 ? 'yes' : 'no'", json!("yes")),
        ("!config.workers || false", json!(false)),
        ("[1, \"a\", {\"k\": null}]", json!([1, "a", {"k": null}])),
        ("config.nested.x.1", json!(2)),
        ("config.nested.x[index - 2]", json!(1)),
        ("config.nested.x.*", json!([1, 2])),
        ("env.MISSING", json!("")),
        ("env.HOME", json!("/root")),
    ] {
        assert_eq!(eval(text), value, "{text}");
    }
}

#[test]
fn functions_do_what_their_names_say() {
    for (text, value) in [
        ("join(map(files, \"relpath(_.value, \\\"cypress/e2e\\\")\"), \", \")", json!("a.js, b.js")),
        ("filter(range(5), '_.value % 2 == 0')", json!([0, 2, 4])),
        ("list(range(3)..., 9)", json!([0, 1, 2, 9])),
        ("chunk(range(5), 2)", json!([[0, 1], [2, 3], [4]])),
        ("split('a,b')", json!(["a", "b"])),
        ("len(files) + len('abc') + len({\"a\": 1})", json!(6)),
        ("at({\"my-db\": [7]}, 'my-db').0", json!(7)),
        ("shellquote('a b', \"it's\", 'c')", json!("'a b' 'it'\\''s' c")),
        ("shellparse(\"a 'b c'\")", json!(["a", "b c"])),
        ("int('4') + floor(1.9) + ceil(1.1) + round(1.5)", json!(9)),
        ("json(tojson({\"a\": [1]})).a.0", json!(1)),
        ("yaml('a: [1, x]').a.1", json!("x")),
        ("eval('index + 1')", json!(3)),
        ("any('', 0, 'x')", json!("x")),
        ("makepath('/data', '../tmp', 'a')", json!("/tmp/a")),
        ("abspath('a/../b', '/data')", json!("/data/b")),
        ("entries({\"a\": 1})", json!([{"key": "a", "value": 1}])),
        ("trim('  x ') + upper('a') + string(1, true)", json!("xA1true")),
        ("bool('false') ? 1 : 2", json!(2)),
    ] {
        assert_eq!(eval(text), value, "{text}");
    }
}

#[test]
fn what_is_wrong_is_told_with_its_place() {
    for (text, at, message) in [
        ("1 +", 3, "an expression is wanted"),
        ("config.", 7, "a name, a number or * is wanted after the point"),
        ("'abc", 0, "a text that is not closed"),
        ("(1", 2, "\")\" is wanted, the end was found"),
        ("1 2", 2, "2 is not expected here"),
        ("a § b", 2, "'§' means nothing here"),
        ("1 + nope.x", 4, "there is nothing called \"nope\""),
        ("config.wrokers", 0, "config has no \"wrokers\""),
        ("2 * nope(1)", 4, "there is no function \"nope\""),
        ("1 - 'x'", 2, "\"-\" wants numbers, \"x\" is none"),
        ("1 / 0", 2, "1 / 0 is no number"),
        ("range(100000)", 0, "range: more than 10000 numbers"),
        ("trim(1)", 0, "trim does not take a number"),
    ] {
        let error = Expression::parse(text).and_then(|expression| expression.evaluate(&Fixture));
        let error = error.expect_err(text);
        assert_eq!((error.at, error.message.as_str()), (at, message), "{text}");
    }
}

#[test]
fn what_is_not_known_yet_stays_an_expression_that_reads_back() {
    for (text, left) in [
        ("config.workers + step.a.outputs.n", "3+step.a.outputs.n"),
        ("services.db.*.ip", "services.db.*.ip"),
        ("step.a.ok && config.workers", "step.a.ok&&3"),
        ("false && step.a.ok", "false"),
        ("true && step.a.ok", "step.a.ok"),
        ("join(services.db.*.ip, config.name)", "join(services.db.*.ip,\"a b\")"),
        ("glob('**/*.js')", "glob(\"**/*.js\")"),
        ("(index - 5) * step.n", "(-3)*step.n"),
        ("services.\"my-db\".0.ip", "services.\"my-db\".0.ip"),
    ] {
        let resolved = Expression::parse(text).and_then(|e| e.resolve(&Fixture));
        let resolved = resolved.unwrap_or_else(|error| panic!("{text}: {error}")).to_string();
        assert_eq!(resolved, left, "{text}");
        let again = Expression::parse(&resolved).and_then(|e| e.resolve(&Fixture)).expect("reads back");
        assert_eq!(again.to_string(), left, "{text}");
    }
}

#[test]
fn a_text_keeps_its_braces_when_values_bring_them() {
    struct Braces;
    impl Scope for Braces {
        fn name(&self, name: &str) -> Lookup {
            if name == "x" { Lookup::Known(json!("{{ y }}")) } else { Lookup::Later }
        }
    }
    let template = Template::parse("a {{ x }} b {{ later }} {{ '}}' }}").expect("reads");
    let resolved = template.resolve(&Braces).expect("resolves");
    let text = resolved.to_string();
    let again = Template::parse(&text).expect("reads back");
    struct All;
    impl Scope for All {
        fn name(&self, _: &str) -> Lookup {
            Lookup::Known(json!("L"))
        }
    }
    assert_eq!(again.evaluate(&All).expect("known"), "a {{ y }} b L }}");
    let open = Template::parse("abc {{ 1 ").expect_err("open");
    assert_eq!(open.at, 4);
}

mod properties {
    use proptest::prelude::*;

    use super::*;

    fn anything() -> impl Strategy<Value = String> {
        let leaf = prop_oneof![
            (-50i64..50).prop_map(|n| n.to_string()),
            "[a-c]".prop_map(|s| format!("'{s}'")),
            Just("config.workers".to_owned()),
            Just("step.a".to_owned()),
        ];
        leaf.prop_recursive(4, 24, 3, |inner| {
            let sign =
                prop_oneof![Just("+"), Just("*"), Just("-"), Just("=="), Just("&&"), Just("||"), Just("<")];
            prop_oneof![
                (inner.clone(), sign, inner.clone()).prop_map(|(a, s, b)| format!("{a} {s} {b}")),
                (inner.clone(), inner.clone(), inner.clone())
                    .prop_map(|(a, b, c)| format!("({a} ? {b} : {c})")),
                inner.clone().prop_map(|a| format!("!({a})")),
                inner.prop_map(|a| format!("list({a}, {a})")),
            ]
        })
    }

    proptest! {
        #[test]
        fn printing_and_reading_is_the_same_expression(text in anything()) {
            let first = Expression::parse(&text).expect("made to be read");
            let printed = first.to_string();
            let again = Expression::parse(&printed).expect("reads back");
            prop_assert_eq!(again.to_string(), printed);
        }

        #[test]
        fn no_text_makes_it_panic(text in "\\PC{0,60}") {
            if let Ok(expression) = Expression::parse(&text) {
                let _ = expression.evaluate(&Fixture);
            }
            if let Ok(template) = Template::parse(&text) {
                let _ = template.evaluate(&Fixture);
            }
        }
    }
}
