use serde_json::Value;

use super::*;

/// Upstream's documents, where the third-party data lies beside the repository.
fn upstream(name: &str) -> Option<Value> {
    let path = fixtures::samples::find(&format!("kubernetes-1.36/discovery/{name}"))?;
    let bytes = std::fs::read(path).expect("a file");
    Some(serde_json::from_slice(&bytes).expect("published documents are JSON"))
}

fn cluster() -> Discovery {
    Discovery::new(Arc::new(Catalogue::cluster()))
}

fn by_name(list: &Value) -> HashMap<String, Value> {
    let entries = list["resources"].as_array().expect("a resource list has resources");
    entries
        .iter()
        .map(|entry| (entry["name"].as_str().unwrap_or_default().to_owned(), entry.clone()))
        .collect()
}

#[test]
fn every_served_resource_is_described_as_upstream_describes_it() {
    let discovery = cluster();
    let mut compared = 0;
    for (group, versions) in groups(&discovery.catalogue) {
        for version in versions {
            let (path, file) = if group.is_empty() {
                (format!("/api/{version}"), format!("api__{version}.json"))
            } else {
                (format!("/apis/{group}/{version}"), format!("apis__{group}__{version}.json"))
            };
            let Some(theirs) = upstream(&file) else { return };
            let ours: Value =
                serde_json::from_slice(&discovery.plain(&path).expect("a document per version").body)
                    .expect("JSON");
            let theirs = by_name(&theirs);
            let own = by_name(&ours);
            compared += own.len();
            assert_eq!(own, theirs, "{path}");
        }
    }
    assert!(compared > 40, "only {compared} resources compared");
}

#[test]
fn groups_and_their_stable_versions_are_upstreams_in_its_order() {
    let Some(theirs) = upstream("apis.json") else { return };
    let discovery = cluster();
    let ours: Value =
        serde_json::from_slice(&discovery.plain("/apis").expect("a list of groups").body).expect("JSON");
    let shape = |document: &Value| -> Vec<(String, Vec<String>, String)> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let groups = document["groups"].as_array().expect("groups").iter().map(|group| {
            let versions = group["versions"].as_array().expect("versions").iter();
            let stable = versions
                .map(|version| text(&version["version"]))
                .filter(|version| !version.contains("alpha") && !version.contains("beta"))
                .collect::<Vec<_>>();
            (text(&group["name"]), stable, text(&group["preferredVersion"]["version"]))
        });
        // Groups without a stable version are off by default.
        groups.filter(|(_, stable, _)| !stable.is_empty()).collect()
    };
    assert_eq!(shape(&ours), shape(&theirs));
}

#[test]
fn the_aggregated_documents_say_the_same_as_upstream() {
    let discovery = cluster();
    let Some(theirs) = upstream("aggregated_v2.json") else { return };
    let ours: Value = serde_json::from_slice(&discovery.aggregated(Root::Groups, AggregatedVersion::V2).body)
        .expect("JSON");
    assert_eq!(ours["apiVersion"], theirs["apiVersion"]);
    for group in ours["items"].as_array().expect("items") {
        let same_group = |other: &&Value| other["metadata"] == group["metadata"];
        let other =
            theirs["items"].as_array().expect("items").iter().find(same_group).expect("a known group");
        for version in group["versions"].as_array().expect("versions") {
            let same_version = |other: &&Value| other["version"] == version["version"];
            let other =
                other["versions"].as_array().expect("versions").iter().find(same_version).expect("known");
            for resource in version["resources"].as_array().expect("resources") {
                let same = |other: &&Value| other["resource"] == resource["resource"];
                let mut other = other["resources"].as_array().expect("resources").iter().find(same).cloned();
                // What is not served is not promised: only the subresources that we do serve are compared.
                if let Some(subs) =
                    other.as_mut().and_then(|other| other.get_mut("subresources")?.as_array_mut())
                {
                    let own = resource["subresources"].as_array().cloned().unwrap_or_default();
                    subs.retain(|sub| own.iter().any(|mine| mine["subresource"] == sub["subresource"]));
                }
                let mut expected = other.expect("a known resource");
                if expected["subresources"].as_array().is_some_and(Vec::is_empty) {
                    expected.as_object_mut().expect("object").remove("subresources");
                }
                assert_eq!(resource, &expected);
            }
        }
    }
}

#[test]
fn versions_are_ordered_as_kubernetes_orders_them() {
    let mut versions = ["v1alpha3", "v2", "v1beta1", "foo", "v10", "v1", "v1beta2"];
    versions.sort_by_key(|version| std::cmp::Reverse(priority(version)));
    assert_eq!(versions, ["v10", "v2", "v1", "v1beta2", "v1beta1", "v1alpha3", "foo"]);
}

#[test]
fn the_tag_changes_with_the_document() {
    let (cluster, hub) = (cluster(), Discovery::new(Arc::new(Catalogue::control_plane())));
    let tag = |discovery: &Discovery| discovery.aggregated(Root::Core, AggregatedVersion::V2).etag.clone();
    assert_eq!(tag(&cluster), tag(&cluster));
    assert_ne!(tag(&cluster), tag(&hub));
}
