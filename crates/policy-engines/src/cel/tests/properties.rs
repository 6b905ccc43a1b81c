//! Nothing that anybody writes may panic, overflow the stack, or run without a bound.

use proptest::prelude::*;

use super::*;

/// On a stack as small as an async worker's.
fn on_small_stack(run: impl FnOnce() + Send + 'static) {
    let thread = std::thread::Builder::new().stack_size(2 << 20).spawn(run);
    thread.expect("a thread").join().expect("no panic");
}

#[test]
fn deep_and_long_texts_end() {
    on_small_stack(|| {
        let deep = |open: &str, close: &str, count: usize| open.repeat(count) + "1" + &close.repeat(count);
        let mut sources = vec![
            deep("(", ")", 100_000),
            deep("[", "]", 10_000),
            deep("(", ")", 240),
            deep("[", "]", 240),
            deep("{1:", "}", 240),
            deep("!", "", 50_000),
            deep("-", "", 50_000),
            deep("f(", ")", 5_000),
            "1".to_owned() + &"+1".repeat(200),
            "1".to_owned() + &"+1".repeat(30_000),
            "a".to_owned() + &".b".repeat(30_000),
            "true".to_owned() + &"&&true".repeat(10_000),
            "object".to_owned() + &".optMap(x, x)".repeat(200),
            "optional.of(1)".to_owned() + &".optMap(x, x)".repeat(60),
            deep("true ? ", " : 1", 20_000),
        ];
        for depth in [10, 40, 60, 80, 200] {
            sources.push(deep("[1].map(x, ", ")", depth));
            sources.push(deep("[1, 2].all(x, 1 == ", ")", depth));
            sources.push(deep("optional.of([1]).optMap(x, x + x == ", ")", depth));
        }
        let mut doubling = "a.size() > 0".to_owned();
        for _ in 0..60 {
            doubling = format!("optional.of(a + a).optMap(a, {doubling}).value()");
        }
        sources.push(format!("optional.of([1, 1]).optMap(a, {doubling})"));
        for source in sources {
            let _ = evaluated(&source, &json!({"b": [1]}));
        }
    });
}

fn fragment() -> impl Strategy<Value = String> {
    let words = [
        "object",
        "object.a",
        "object.b",
        "[1, 2]",
        "{'a': 1}",
        "'text'",
        "1",
        "2u",
        "1.5",
        "null",
        "true",
        "x",
        "(",
        ")",
        "[",
        "]",
        "{",
        "}",
        ".",
        "?",
        ":",
        ",",
        "+",
        "-",
        "*",
        "/",
        "%",
        "==",
        "!=",
        "<",
        ">=",
        "&&",
        "||",
        "!",
        " in ",
        ".all(x, ",
        ".map(x, ",
        ".exists(x, ",
        "has(",
        "size(",
        ".size()",
        ".orValue(",
        ".?a",
        "[?0]",
        "duration('1h')",
        "timestamp(",
        "string(",
        "int(",
        ".matches('a')",
        "type(",
        "dyn(",
        "\"",
        "'",
        "r'",
        "b\"",
        "//",
        "\n",
        "`",
        "\\",
        "0x",
        "é",
        "👑",
        "quantity('1')",
        "ip('::1')",
        ".format([",
        "Object{",
        "__",
    ];
    prop_oneof![
        prop::sample::select(words.to_vec()).prop_map(ToOwned::to_owned),
        prop::sample::select(words.to_vec()).prop_map(ToOwned::to_owned),
        "[ -~]{0,4}",
        "\\PC{0,3}",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn any_text_gets_an_answer(parts in prop::collection::vec(fragment(), 0..14)) {
        let data = json!({"a": {"a": [1, "x", null]}, "b": [3, 2, 1], "x": 1.5});
        let _ = evaluated(&parts.concat(), &data);
    }

    #[test]
    fn any_pattern_gets_an_answer(pattern in "[\\[\\]()\\\\dwsb.*+?|^$a-c&~-]{0,12}") {
        let _ = crate::cel::patterns::compile(&pattern);
    }

    #[test]
    fn names_survive_escaping(name in "[a-zA-Z_./-][a-zA-Z0-9_./-]{0,12}") {
        if let Some(escaped) = crate::cel::names::escape(&name) {
            prop_assert_eq!(crate::cel::names::unescape(&escaped), Some(name));
        }
    }
}
