//! What a further definition costs in memory.

use std::process::Command;

use http::Method;
use serde_json::{Value, json};

use super::custom_resources::{DEFINITIONS, ask};
use super::*;

/// The promise.
const MOST_BYTES_EACH: u64 = 100 << 10;
const DEFINED: u64 = 200;
const MARK: &str = "bytes per definition: ";

/// About what an operator's definition weighs: 60 fields with descriptions, 12 kB.
fn definition(index: u64) -> Value {
    let description =
        "What this field is for, in a sentence or two, as generated definitions have it. ".repeat(2);
    let fields: serde_json::Map<String, Value> = (0..60)
        .map(|field| {
            (
                format!("field{field}"),
                json!({ "type": "string", "description": description, "maxLength": 64 }),
            )
        })
        .collect();
    json!({
        "metadata": { "name": format!("things{index}.g{}.example.com", index % 10) },
        "spec": {
            "group": format!("g{}.example.com", index % 10), "scope": "Namespaced",
            "names": { "kind": format!("Thing{index}"), "plural": format!("things{index}") },
            "versions": [{ "name": "v1", "served": true, "storage": true, "subresources": { "status": {} },
                "schema": { "openAPIV3Schema": { "type": "object", "properties": {
                    "spec": { "type": "object", "properties": fields }, "status": { "type": "object" } } } } }],
        },
    })
}

fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() << 10
}

/// Alone in its process, for other tests allocate too.
#[tokio::test]
#[ignore = "run by the test below, in a process of its own"]
async fn measured_alone() {
    let (handle, _client, _stop) = start().await;
    for index in 1_000..1_050 {
        assert_eq!(ask(&handle, Method::POST, DEFINITIONS, &definition(index)).await.0, 201);
    }
    ask(&handle, Method::GET, "/apis", &Value::Null).await;
    let before = resident_bytes();
    for index in 0..DEFINED {
        assert_eq!(ask(&handle, Method::POST, DEFINITIONS, &definition(index)).await.0, 201);
    }
    let (code, list) =
        ask(&handle, Method::GET, "/apis/g1.example.com/v1/namespaces/default/things1", &Value::Null).await;
    assert_eq!((code, &list["items"]), (200, &json!([])));
    println!("{MARK}{}", resident_bytes().saturating_sub(before) / DEFINED);
}

#[test]
fn a_further_definition_costs_less_than_promised() {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "--nocapture", "custom_memory::measured_alone"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = said.lines().find_map(|line| line.split_once(MARK)).unwrap_or_else(|| panic!("{said}"));
    let bytes: u64 = line.1.trim().parse().unwrap();
    assert!(bytes <= MOST_BYTES_EACH, "{bytes} bytes each");
}
