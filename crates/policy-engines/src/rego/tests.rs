//! Programs within their bounds.

use serde_json::json;

use super::*;

fn compile(rego: &str, libs: &[&str]) -> Result<Program, RegoError> {
    let libs = libs.iter().map(|lib| (*lib).to_owned()).collect();
    Program::compile(&Source { rego: rego.to_owned(), libs, v1: false })
}

fn run(program: &Program, review: &Json, parameters: &Json) -> Result<Vec<String>, RegoError> {
    let found = program.violations(&Document::of(review), &Document::of(parameters))?;
    Ok(found.into_iter().map(|violation| violation.message).collect())
}

const OWNERS: &str = r#"
package owners

import data.lib.texts.joined

# A comment with function(calls) and "quotes
violation[{"msg": msg, "details": {"missing": missing}}] {
  given := {label | input.review.object.metadata.labels[label]}
  wanted := {label | label := input.parameters.labels[_]}
  missing := wanted - given
  count(missing) > 0
  msg := sprintf("labels are missing: %v", [joined(missing)])
}
"#;
const TEXTS: &str = "package lib.texts\n\njoined(all) = text {\n  text := concat(\", \", sort(all))\n}\n";

#[test]
fn a_program_with_a_library_finds_what_is_missing() {
    let program = compile(OWNERS, &[TEXTS]).expect("a program");
    assert!(!program.is_referential());
    let review = json!({"object": {"metadata": {"labels": {"app": "web"}}}});
    let ask = |labels: Json| run(&program, &review, &json!({"labels": labels}));
    assert_eq!(ask(json!(["team", "app", "cost"])), Ok(vec!["labels are missing: cost, team".to_owned()]));
    assert_eq!(ask(json!(["app"])), Ok(vec![]));
    // What it was asked before has no effect.
    assert_eq!(ask(json!(["zone"])), Ok(vec!["labels are missing: zone".to_owned()]));
}

#[test]
fn both_versions_of_the_language_are_read_as_they_say() {
    let newer = "package p\n\nviolation contains {\"msg\": msg} if {\n  some key in input.parameters.keys\n  msg := key\n}\n";
    assert!(compile(newer, &[]).is_err(), "version 0 has no such words");
    let program = Program::compile(&Source { rego: newer.to_owned(), libs: Vec::new(), v1: true });
    assert_eq!(
        run(&program.expect("version 1"), &json!({}), &json!({"keys": ["b", "a", "b"]})),
        Ok(vec!["a".to_owned(), "b".to_owned()])
    );
}

#[test]
fn what_else_there_is_is_seen_where_it_is_asked_for() {
    let program = compile(
        "package p\nviolation[{\"msg\": n}] {\n  data.inventory.namespace[ns][_][\"Service\"][n]\n  ns == input.review.namespace\n}\n",
        &[],
    )
    .expect("a program");
    assert!(program.is_referential());
    let review = json!({"namespace": "shop"});
    assert_eq!(run(&program, &review, &json!({})), Ok(vec![]), "before there is anything");
    for name in ["web", "api"] {
        let inventory = json!({"namespace": {"shop": {"v1": {"Service": {name: {}}}}, "other": {"v1": {"Service": {"x": {}}}}}});
        program.set_inventory(&Document::of(&inventory)).expect("an inventory");
        assert_eq!(run(&program, &review, &json!({})), Ok(vec![name.to_owned()]));
    }
}

#[test]
fn what_cannot_be_run_is_told_when_it_is_compiled() {
    let body = |body: &str| compile(&format!("package p\n{body}\n"), &[]).map(drop);
    assert_eq!(body("deny[x] { x := 1 }"), Err(RegoError::NoViolation));
    assert!(matches!(body("violation[{"), Err(RegoError::Compile(_))));
    assert!(
        matches!(body("violation[{\"msg\": x}] { y := 1 }"), Err(RegoError::Compile(_))),
        "an unsafe variable"
    );
    for (function, call) in [
        ("external_data", "external_data({\"provider\": \"p\", \"keys\": [\"k\"]})"),
        ("http.send", "http.send({\"url\": \"http://x\", \"method\": \"get\"})"),
        ("opa.runtime", "opa.runtime()"),
        ("bits.lsh", "bits.lsh(1, 1000000000)"),
        ("data.lib.absent.f", "data.lib.absent.f(1)"),
    ] {
        // Also within a function, where the engine takes it for one without a value.
        let text = format!("f(x) = y {{ y := {call} }}\nviolation[{{\"msg\": \"m\"}}] {{ not f(1) }}");
        assert_eq!(body(&text), Err(RegoError::UnknownFunction(function.to_owned())));
    }
    let recursive = "f(x) = y { y := g(x) }\ng(x) = y { y := f(x) }\nviolation[{\"msg\": \"m\"}] { f(1) }";
    assert_eq!(body(recursive), Err(RegoError::Recursion("data.p.f".to_owned())));
    let rules = "a { b }\nb { a }\nviolation[{\"msg\": \"m\"}] { a }";
    assert!(matches!(body(rules), Err(RegoError::Compile(_))), "rules that need one another");
    let long = format!("#{}\nviolation[{{\"msg\": \"m\"}}] {{ true }}", "x".repeat(MAX_SOURCE));
    assert_eq!(body(&long), Err(RegoError::TooLarge));
}

/// A chain of functions of this length.
fn chain(length: usize) -> String {
    let mut text = "package p\nf0(x) = x { true }\n".to_owned();
    for index in 1..length {
        text.push_str(&format!(
            "f{index}(x) = y {{\n  all := [z | z := f{}(x)]\n  y := all[_]\n}}\n",
            index - 1
        ));
    }
    text + &format!("violation[{{\"msg\": msg}}] {{ msg := f{}(\"m\") }}\n", length - 1)
}

#[test]
fn definitions_within_one_another_are_bounded_below_what_a_threads_stack_holds() {
    let program = compile(&chain(names::MAX_DEPTH - 1), &[]).expect("as deep as may be");
    let thread = std::thread::Builder::new().stack_size(2 * 1024 * 1024);
    let found = thread
        .spawn(move || run(&program, &json!({}), &json!({})))
        .expect("a thread")
        .join()
        .expect("no overflow");
    assert_eq!(found, Ok(vec!["m".to_owned()]));
    assert_eq!(compile(&chain(names::MAX_DEPTH + 1), &[]).map(drop), Err(RegoError::TooDeep));
    // A variable called like a rule is no use of it.
    let shadowed = "package p\nmissing[x] { x := f(1) }\nf(y) = z { missing := y; z := missing }\nviolation[{\"msg\": \"m\"}] { missing[1] }\n";
    assert_eq!(
        run(&compile(shadowed, &[]).expect("no recursion"), &json!({}), &json!({})),
        Ok(vec!["m".to_owned()])
    );
}

#[test]
fn what_does_not_end_is_an_error_and_soon_not_tried_any_more() {
    // Within a function and a negation, where an error would read as `nothing found`.
    let text = "package p\nslow(n) = c { c := count([1 | numbers.range(1, n)[_]; numbers.range(1, n)[_]; numbers.range(1, n)[_]]) }\n\
        violation[{\"msg\": \"m\"}] { not slow(input.review.n) }\n";
    let program = compile(text, &[]).expect("a program");
    assert_eq!(run(&program, &json!({"n": 3}), &json!({})), Ok(vec![]));
    for _ in 0..MAX_OVERRUNS {
        assert_eq!(run(&program, &json!({"n": 2000}), &json!({})), Err(RegoError::OutOfTime));
    }
    let began = Instant::now();
    assert_eq!(run(&program, &json!({"n": 3}), &json!({})), Err(RegoError::OutOfTime), "it is given up");
    assert!(began.elapsed() < TIME_LIMIT);
}

#[test]
fn lists_of_numbers_are_bounded() {
    let text = "package p\nviolation[{\"msg\": msg}] { msg := sprintf(\"%v\", [numbers.range(input.review.from, input.review.to)]) }\n";
    let program = compile(text, &[]).expect("a program");
    let ask = |from: i64, to: i64| run(&program, &json!({"from": from, "to": to}), &json!({}));
    assert_eq!(ask(1, 3), Ok(vec!["[1, 2, 3]".to_owned()]));
    assert_eq!(ask(3, 1), Ok(vec!["[3, 2, 1]".to_owned()]));
    assert_eq!(ask(1, 1_000_000_000_000), Ok(vec![]), "as if it had no value");
    assert_eq!(ask(i64::MIN, i64::MAX), Ok(vec![]));
}

#[test]
fn what_is_no_violation_is_an_error() {
    let program = compile("package p\nviolation[x] { x := input.review.x }\n", &[]).expect("a program");
    assert_eq!(run(&program, &json!({"x": {"msg": "m"}}), &json!({})), Ok(vec!["m".to_owned()]));
    for wrong in [json!({"msg": 1}), json!("text"), json!({})] {
        assert_eq!(run(&program, &json!({"x": wrong}), &json!({})), Err(RegoError::Shape));
    }
}

#[test]
fn what_the_engine_reads_differently_is_read_as_the_open_policy_agent_does() {
    let text = "package p\nspread(o) {\n  o.least\n  (o.high - o.low) >= o.least\n}\n\
        violation[{\"msg\": msg}] {\n  spread(input.review)\n  msg := \"spread\"\n} {\n  \
        input.review.object[\"a\"]\n  (input.review.low + 1) == 1\n  msg := \"low\"\n}{ input.review.last; msg := \"last\" }\n";
    let program = compile(text, &[]).expect("a program");
    let ask = |review: Json| run(&program, &review, &json!({}));
    assert_eq!(ask(json!({"least": 2, "high": 3, "low": 1})), Ok(vec!["spread".to_owned()]));
    assert_eq!(ask(json!({"least": 2, "high": 2, "low": 1})), Ok(vec![]));
    assert_eq!(
        ask(json!({"object": {"a": 1}, "low": 0, "last": true})),
        Ok(vec!["last".to_owned(), "low".to_owned()])
    );
    // Nothing else is touched.
    assert_eq!(mend::mended(OWNERS), OWNERS);
    let call =
        "package p\nf(x) = y {\n  y := (x +\n    (1))\n} {\n  y := [\n    (x),\n    not_a_call (x)]\n}\n";
    assert_eq!(mend::mended(call), call);
}

#[test]
fn words_of_any_text_are_taken_apart_without_harm() {
    for text in [
        "",
        "\"",
        "`",
        "((((",
        "}}}}",
        "package",
        "import",
        "import a as",
        "f(",
        "x.",
        "é(ü",
        "\"\\",
        "a.b.c.(",
    ] {
        let _ = (names::check(&[text.to_owned()]), mend::mended(text));
        assert!(compile(text, &[]).is_err(), "{text}");
    }
}

#[test]
fn results_that_are_written_as_a_last_argument_are_refused_and_not_lost() {
    let body = |call: &str| compile(&format!("package p\nviolation[{{\"msg\": m}}] {{ {call} }}\n"), &[]);
    let refused = body("sprintf(\"%v, %v\", [f(1, 2), {3, 4}], m)").map(drop);
    let wanted = RegoError::Arguments { name: "sprintf".to_owned(), given: 3, wanted: 2 };
    assert_eq!(refused, Err(wanted));
    let program =
        body("m := sprintf(\"%v, %v\", [concat(\",\", [\"a\", \"b\"]), {3, 4},],)").expect("a program");
    assert_eq!(run(&program, &json!({}), &json!({})), Ok(vec!["a,b, {3, 4}".to_owned()]));
}
