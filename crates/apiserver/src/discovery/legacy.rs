//! The plain documents: `APIVersions`, `APIGroupList`, `APIGroup`, `APIResourceList`.

use std::collections::HashMap;

use api_machinery::resources;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{Document, groups};
use crate::catalogue::{Catalogue, Resource, Subresource};

pub(super) fn documents(catalogue: &Catalogue) -> HashMap<String, Document> {
    let mut documents = HashMap::new();
    let mut listed = Vec::new();
    let mut core_versions = Vec::new();
    for (group, versions) in groups(catalogue) {
        for version in &versions {
            let (path, list) = resource_list(catalogue, &group, version);
            documents.insert(path, Document::of(&list));
        }
        if group.is_empty() {
            core_versions = versions;
            continue;
        }
        let described = api_group(&group, &versions);
        let mut alone = described.clone();
        alone["kind"] = json!("APIGroup");
        alone["apiVersion"] = json!("v1");
        documents.insert(format!("/apis/{group}"), Document::of(&alone));
        listed.push(described);
    }
    let core = json!({ "kind": "APIVersions", "versions": core_versions, "serverAddressByClientCIDRs": [] });
    documents.insert("/api".to_owned(), Document::of(&core));
    let all = json!({ "kind": "APIGroupList", "apiVersion": "v1", "groups": listed });
    documents.insert("/apis".to_owned(), Document::of(&all));
    documents
}

fn api_group(group: &str, versions: &[String]) -> Value {
    let described: Vec<Value> = versions
        .iter()
        .map(|version| json!({ "groupVersion": format!("{group}/{version}"), "version": version }))
        .collect();
    json!({ "name": group, "preferredVersion": described.first(), "versions": described })
}

fn resource_list(catalogue: &Catalogue, group: &str, version: &str) -> (String, Value) {
    let served: Vec<_> = catalogue
        .resources()
        .iter()
        .filter(|resource| resource.gvr.group == group && resource.gvr.version == version)
        .collect();
    let mut entries: Vec<Value> = served.iter().map(|resource| entry(resource)).collect();
    for resource in served {
        entries.extend(resource.subresources.iter().map(|subresource| sub_entry(resource, subresource)));
    }
    entries.sort_by(|a, b| a["name"].as_str().cmp(&b["name"].as_str()));
    if group.is_empty() {
        let list = json!({ "kind": "APIResourceList", "groupVersion": version, "resources": entries });
        return (format!("/api/{version}"), list);
    }
    let list = json!({
        "kind": "APIResourceList", "apiVersion": "v1",
        "groupVersion": format!("{group}/{version}"), "resources": entries,
    });
    (format!("/apis/{group}/{version}"), list)
}

fn entry(resource: &Resource) -> Value {
    let mut entry = json!({
        "name": resource.gvr.resource,
        "singularName": resource.singular,
        "namespaced": resource.namespaced,
        "kind": resource.kind,
        "verbs": super::verbs(resource),
    });
    if !resource.short_names.is_empty() {
        entry["shortNames"] = json!(resource.short_names);
    }
    if !resource.categories.is_empty() {
        entry["categories"] = json!(resource.categories);
    }
    if !resource.virtual_only {
        entry["storageVersionHash"] = json!(storage_version_hash(resource));
    }
    entry
}

fn sub_entry(resource: &Resource, subresource: &Subresource) -> Value {
    let mut entry = json!({
        "name": format!("{}/{}", resource.gvr.resource, subresource.name),
        "singularName": "",
        "namespaced": resource.namespaced,
        "kind": subresource.kind.kind,
        "verbs": subresource.verbs,
    });
    // Said only where it differs from the list's own group and version.
    if subresource.kind.group != resource.gvr.group || subresource.kind.version != resource.gvr.version {
        if !subresource.kind.group.is_empty() {
            entry["group"] = json!(subresource.kind.group);
        }
        entry["version"] = json!(subresource.kind.version);
    }
    entry
}

/// Upstream's published value for a built-in kind (a kind that is new in v1 is still stored as its beta version
/// there); for others as upstream computes it (apiserver `discovery.StorageVersionHash`), so that a client that saw
/// another server's value for the same kind is not misled into a storage migration.
fn storage_version_hash(resource: &Resource) -> String {
    let published = resources::builtin().iter().find(|row| {
        row.name == resource.gvr.resource
            && row.group == resource.gvr.group
            && row.version == resource.gvr.version
    });
    if let Some(row) = published.filter(|row| !row.storage_version_hash.is_empty()) {
        return row.storage_version_hash.to_owned();
    }
    let stored = format!("{}/{}/{}", resource.storage.0, resource.gvr.version, resource.kind);
    STANDARD.encode(&Sha256::digest(stored)[..8])
}
