//! The documents that define the kinds to an API server.

use kube::CustomResourceExt;
use serde_json::Value;

/// The CustomResourceDefinition of every fleet kind, and of SIG-Multicluster's kinds that a hub serves.
#[must_use]
pub fn custom_resource_definitions() -> Vec<Value> {
    [
        crate::Cluster::crd(),
        crate::Profile::crd(),
        crate::Placement::crd(),
        crate::Assignment::crd(),
        crate::rollout::Rollout::crd(),
        crate::source::Source::crd(),
        crate::test_workflow::TestWorkflow::crd(),
        crate::test_workflow::TestWorkflowTemplate::crd(),
        crate::test_run::TestRun::crd(),
        crate::test_run::TestExecution::crd(),
        crate::test_trigger::TestTrigger::crd(),
        crate::test_trigger::TestTriggerAssignment::crd(),
        crate::compliance::ComplianceReport::crd(),
        crate::alert::AlertRule::crd(),
        crate::alert::AlertReceiver::crd(),
        crate::alert::AlertSilence::crd(),
        crate::test_webhook::TestWebhook::crd(),
        crate::multicluster::ClusterProfile::crd(),
    ]
    .iter()
    .map(|definition| {
        serde_json::to_value(definition).expect("a definition made of strings and maps is JSON")
    })
    .chain([crate::multicluster::placement_decision_definition()])
    .collect()
}

/// Those of them that the hub and its agents write, and people read: by the definition's name.
const WRITTEN_BY_PROGRAMS: [&str; 7] = [
    "assignments.fleet.fairlead.dev",
    "clusters.fleet.fairlead.dev",
    "compliancereports.fleet.fairlead.dev",
    "testexecutions.fleet.fairlead.dev",
    "testtriggerassignments.fleet.fairlead.dev",
    "clusterprofiles.multicluster.x-k8s.io",
    "placementdecisions.multicluster.x-k8s.io",
];

/// Whether objects of a definition are written by the hub and its agents; there are some for each cluster. People at most
/// label them.
#[must_use]
pub fn is_written_by_programs(definition: &Value) -> bool {
    definition["metadata"]["name"].as_str().is_some_and(|name| WRITTEN_BY_PROGRAMS.contains(&name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_programs_write_is_defined() {
        let all = custom_resource_definitions();
        let written = all.iter().filter(|definition| is_written_by_programs(definition));
        assert_eq!(written.count(), WRITTEN_BY_PROGRAMS.len());
    }

    #[test]
    fn every_definition_is_structural_and_has_a_status_and_columns() {
        let all = custom_resource_definitions();
        assert!(all.len() >= 4);
        for definition in all {
            let name = definition["metadata"]["name"].as_str().unwrap();
            let version = &definition["spec"]["versions"][0];
            // A workflow is only ever written by people, a trigger's part only by the hub.
            let written = name.starts_with("testworkflow")
                || name.starts_with("testtriggerassignments.")
                || name.ends_with(".x-k8s.io");
            assert!(written || version["subresources"]["status"].is_object(), "{name}");
            let columns = version["additionalPrinterColumns"].as_array();
            assert!(written || columns.is_some_and(|columns| columns.len() > 3), "{name}");
            let schema = &version["schema"]["openAPIV3Schema"];
            assert_eq!(schema["type"], "object", "{name}");
            if schema["properties"]["spec"].is_object() {
                structural(&schema["properties"]["spec"], name);
            }
            if schema["properties"]["status"].is_object() {
                structural(&schema["properties"]["status"], name);
            }
        }
    }

    fn structural(schema: &Value, path: &str) {
        let open = schema["x-kubernetes-preserve-unknown-fields"] == true
            || schema["x-kubernetes-int-or-string"] == true;
        assert!(schema["type"].is_string() || open, "{path} has no type: {schema}");
        assert!(schema.get("$ref").is_none(), "{path}");
        if let Some(properties) = schema["properties"].as_object() {
            for (name, property) in properties {
                structural(property, &format!("{path}.{name}"));
            }
        }
        if schema["items"].is_object() {
            structural(&schema["items"], &format!("{path}[]"));
        }
    }
}
