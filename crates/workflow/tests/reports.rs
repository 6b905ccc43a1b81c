//! Reports that other projects' test runners wrote, and workflows of another tool. They are not part of the repository: without them there is nothing to
//! read, and the test says so.

#[path = "reports/import.rs"]
mod import;

use serde_json::Value;
use workflow::read::report;

#[test]
fn reports_of_other_projects_are_read() {
    let Some(data) = fixtures::samples::find("test-reports") else { return };
    let go = std::fs::read(data.join("dorny-test-reporter/golang-json.json")).expect("the example");
    let counts = report(&go).expect("go test").counts();
    assert_eq!((counts.passed, counts.failed, counts.errors, counts.skipped), (5, 6, 0, 1));
    let ctrf = std::fs::read(data.join("ctrf/examples/comprehensive.json")).expect("the example");
    let document: Value = serde_json::from_slice(&ctrf).expect("JSON");
    let told = &document["results"]["summary"];
    let counts = report(&ctrf).expect("CTRF").counts();
    assert_eq!(
        (u64::from(counts.passed), u64::from(counts.failed)),
        (told["passed"].as_u64().unwrap(), told["failed"].as_u64().unwrap())
    );
}
