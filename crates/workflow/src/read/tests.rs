use super::*;
use crate::junit::CaseOutcome;

fn told(report: &Report) -> Vec<String> {
    let line = |case: &crate::junit::Case| {
        let (word, message) = match &case.outcome {
            CaseOutcome::Passed => ("passed", ""),
            CaseOutcome::Failed { message } => ("failed", message.as_str()),
            CaseOutcome::Error { message } => ("error", message.as_str()),
            CaseOutcome::Skipped { message } => ("skipped", message.as_str()),
        };
        format!("{}|{}|{word}|{}", case.suite, case.name, message.lines().next().unwrap_or_default())
    };
    report.cases.iter().map(line).collect()
}

fn read(text: &str) -> Report {
    report(text.as_bytes()).expect("a report")
}

#[test]
fn the_format_is_told_by_the_content() {
    for (text, expected) in [
        ("\u{feff}<testsuite/>", Some(Format::Junit)),
        (r#"{"results": {"tests": []}}"#, Some(Format::Ctrf)),
        (r#"{"metrics": {}, "root_group": {}}"#, Some(Format::K6)),
        (
            "{\"Action\":\"run\",\"Package\":\"a\"}\n{\"Action\":\"pass\",\"Package\":\"a\"}",
            Some(Format::GoTest),
        ),
        ("{\"ImportPath\":\"a\",\"Action\":\"build-output\"}", Some(Format::GoTest)),
        ("# comment\nTAP version 14\n1..0", Some(Format::Tap)),
        ("not ok 1 - x", Some(Format::Tap)),
        ("okay", None),
        ("{\"a\": 1}", None),
        ("", None),
    ] {
        assert_eq!(format(text.trim_start_matches('\u{feff}')), expected, "{text}");
    }
    assert_eq!(report(b"hello"), Err(NotAReport));
}

#[test]
fn tap_with_directives_subtests_and_a_plan_that_is_not_met() {
    let text = "TAP version 14\n1..6\nok 1 - a\nnot ok 2 - b\n  ---\n  message: 'expected 1'\n  ...\n\
        ok 3 - c # SKIP no disk\nnot ok 4 - d # TODO later\n    ok 1 - e\n    not ok 2 - f\n    1..2\nnot ok 5 - group\n";
    assert_eq!(
        told(&read(text)),
        [
            "|a|passed|",
            "|b|failed|message: 'expected 1'",
            "|c|skipped|no disk",
            "|d|skipped|TODO later",
            "group|e|passed|",
            "group|f|failed|",
            "|plan|error|6 tests are planned, 5 were told",
        ]
    );
    assert_eq!(
        told(&read("ok 1\nBail out! no database\n")).last().expect("a case"),
        "|bail out|error|no database"
    );
    // A group that fails although nothing in it does is a failure of its own.
    assert_eq!(told(&read("    ok 1 - e\nnot ok 1 - group\n")), ["group|e|passed|", "|group|failed|"]);
}

#[test]
fn go_tests_that_fail_panic_or_do_not_compile() {
    let text = r#"
{"Action":"start","Package":"p"}
{"Action":"run","Package":"p","Test":"TestA"}
{"Action":"output","Package":"p","Test":"TestA","Output":"a.go:1: wrong\n"}
{"Action":"fail","Package":"p","Test":"TestA","Elapsed":0.5}
{"Action":"run","Package":"p","Test":"TestB"}
{"Action":"fail","Package":"p","Elapsed":1}
FAIL p [build failed]
{"ImportPath":"q","Action":"build-output","Output":"q.go:3: undefined: x\n"}
{"ImportPath":"q","Action":"build-fail"}
{"Action":"run","Package":"r","Test":"TestC"}
{"Action":"pass","Package":"r","Test":"TestC","Elapsed":0.1}
{"Action":"pass","Package":"r","Elapsed":0.1}
"#;
    let report = read(text.trim());
    assert_eq!(
        told(&report),
        [
            "p|TestA|failed|a.go:1: wrong",
            "p|TestB|error|it did not end",
            "q|package|error|q.go:3: undefined: x",
            "r|TestC|passed|",
        ]
    );
    assert_eq!(report.warnings, ["1 lines are no events of go test"]);
}

#[test]
fn thresholds_of_k6_decide_where_there_are_any() {
    let export = r#"{"root_group": {"checks": {"ok": {"name": "status is 200", "passes": 9, "fails": 1}}},
        "metrics": {"http_req_duration": {"p(95)": 310.5, "thresholds": {"p(95)<200": true, "avg<500": false}}}}"#;
    let report = read(export);
    assert_eq!(
        told(&report),
        [
            "thresholds|avg<500|passed|",
            "thresholds|p(95)<200|failed|threshold p(95)<200 of http_req_duration is crossed: p(95)=310.5",
            "checks|status is 200|passed|",
        ]
    );
    assert_eq!(report.warnings, ["check \"status is 200\": 1 of 10 failed; thresholds decide"]);
    let data = r#"{"metrics": {"checks": {"values": {"rate": 0.9}}}, "root_group": {"groups": [
        {"name": "login", "checks": [{"name": "has cookie", "passes": 1, "fails": 2}]}]}}"#;
    assert_eq!(told(&read(data)), ["checks/login|has cookie|failed|2 of 3 failed"]);
}

#[test]
fn ctrf_with_every_status() {
    let text = r#"{"reportFormat": "CTRF", "specVersion": "1.0.0", "results": {"tool": {"name": "x"}, "tests": [
        {"name": "a", "status": "passed", "duration": 1500, "suite": ["top", "inner"]},
        {"name": "b", "status": "failed", "duration": 1, "message": "wrong", "trace": "at x"},
        {"name": "c", "status": "pending", "duration": 0},
        {"name": "d", "status": "other", "duration": 0, "suite": "old"}]}}"#;
    let report = read(text);
    assert_eq!(report.cases[0].seconds, 1.5);
    assert_eq!(
        told(&report),
        ["top/inner|a|passed|", "|b|failed|wrong", "|c|skipped|", "old|d|error|its status is \"other\""]
    );
}
