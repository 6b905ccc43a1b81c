//! Testkube's own samples: every one is read, checked and planned, or refused with its reason.

use std::path::Path;

use fleet_objects::test_run::{RunReference, TestExecutionSpec};
use fleet_objects::test_workflow::{TestWorkflow, TestWorkflowTemplate};
use serde_json::{Value, json};
use workflow::import::{Imported, document};

fn documents(dir: &Path, out: &mut Vec<(String, Value)>) {
    let mut entries: Vec<_> =
        std::fs::read_dir(dir).expect("a directory").flatten().map(|e| e.path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            documents(&path, out);
        } else if path.extension().is_some_and(|kind| kind == "yaml") {
            let text = std::fs::read_to_string(&path).expect("a file");
            let values: Vec<Value> = serde_saphyr::from_multiple(&text).expect("YAML");
            let values = values.into_iter().filter(|value| !value.is_null());
            out.extend(values.map(|value| (path.display().to_string(), value)));
        }
    }
}

/// Reasons that name what is not built; every other loss would be a mistake of the importer.
const KNOWN_LOSSES: [&str; 7] =
    [".events", ".execution.", ".transfer", ".fetch", ".paused", ".execute.tests", ".selector"];

#[test]
fn every_sample_is_read_checked_and_planned() {
    let Some(dir) = fixtures::samples::find("manifests/testkube") else { return };
    let mut all = Vec::new();
    documents(&dir, &mut all);
    assert!(all.len() > 150, "{}", all.len());
    let mut templates = std::collections::BTreeMap::new();
    let mut workflows = Vec::new();
    for (origin, value) in all {
        let Imported { document, lost } = document(&value);
        let name = value["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let document = document.unwrap_or_else(|| panic!("{origin} {name}: {lost:?}"));
        for (field, why) in &lost {
            assert!(
                KNOWN_LOSSES.iter().any(|known| field.contains(known)),
                "{origin} {name}: {field}: {why}"
            );
        }
        if value["kind"] == "TestWorkflowTemplate" {
            let template: TestWorkflowTemplate =
                serde_json::from_value(document).unwrap_or_else(|error| panic!("{origin} {name}: {error}"));
            templates.insert(name, template.spec);
        } else {
            let workflow: TestWorkflow =
                serde_json::from_value(document).unwrap_or_else(|error| panic!("{origin} {name}: {error}"));
            workflows.push((origin, name, workflow.spec));
        }
    }
    let find = |name: &str| templates.get(name).cloned();
    let specs: std::collections::BTreeMap<_, _> =
        workflows.iter().map(|(_, name, spec)| (name.clone(), spec.clone())).collect();
    let mut planned = 0;
    let mut refused = Vec::new();
    for (origin, name, spec) in &workflows {
        let mut resolved = match workflow::templates::apply(spec, &[], &find, "spec") {
            Ok(resolved) => resolved,
            Err(error) => {
                refused.push(format!("{name}: {error}"));
                continue;
            }
        };
        for step in &mut resolved.steps {
            if let Some(execute) = &mut step.execute {
                for wanted in &execute.workflows {
                    // Workflows that the samples name but do not hold stand for a step that passes.
                    let other = specs
                        .get(&wanted.name)
                        .filter(|spec| spec.steps.iter().all(|own| own.execute.is_none()));
                    let other = other.map(|other| {
                        workflow::templates::apply(other, &[], &find, "spec").unwrap_or_default()
                    });
                    let stand_in =
                        || serde_json::from_value(json!({"steps": [{"shell": "true"}]})).expect("a workflow");
                    execute.resolved.insert(
                        wanted.name.clone(),
                        other.filter(|o| !o.steps.is_empty()).unwrap_or_else(stand_in),
                    );
                }
            }
        }
        let execution = TestExecutionSpec {
            run: RunReference { namespace: "default".into(), name: name.clone(), uid: "u".into() },
            cluster: "dev".into(),
            workflow: resolved,
            variables: Default::default(),
            config: Default::default(),
            cancel: false,
            pause: None,
        };
        match workflow::plan::execution(&execution) {
            Ok(plan) => {
                assert!(!plan.steps.is_empty(), "{origin} {name}");
                planned += 1;
            }
            Err(error) => refused.push(format!("{name}: {error}")),
        }
    }
    insta::assert_snapshot!(format!("{planned} workflows are planned; refused:\n{}", refused.join("\n")));
}
