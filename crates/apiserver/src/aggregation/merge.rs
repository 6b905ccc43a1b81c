//! The aggregated servers' part of discovery and OpenAPI. Pure.

use std::sync::Arc;

use kind_rules::json::{list, text};
use serde_json::{Value, json};

use super::Remote;

fn version_entry(remote: &Remote) -> Value {
    let known = remote.known.load();
    let mut entry = known.version.clone();
    if !entry.is_object() {
        entry = json!({"version": remote.version});
    }
    entry["freshness"] = json!(if remote.is_available() { "Current" } else { "Stale" });
    entry
}

/// Adds them to an APIGroupDiscoveryList of named groups.
pub(crate) fn into_aggregated(document: &mut Value, remotes: &[Arc<Remote>]) {
    let Some(items) = document.get_mut("items").and_then(Value::as_array_mut) else { return };
    for remote in remotes.iter().filter(|remote| !remote.group.is_empty()) {
        let entry = version_entry(remote);
        let group = match items.iter_mut().find(|item| text(&item["metadata"], "name") == remote.group) {
            Some(group) => group,
            None => {
                items.push(json!({"metadata": {"name": remote.group}, "versions": []}));
                let Some(group) = items.last_mut() else { return };
                group
            }
        };
        let Some(versions) = group.get_mut("versions").and_then(Value::as_array_mut) else { continue };
        match versions.iter_mut().find(|own| text(own, "version") == remote.version) {
            Some(own) => *own = entry,
            None => versions.push(entry),
        }
    }
}

/// Adds those that answer to an APIGroupList.
pub(crate) fn into_groups(document: &mut Value, remotes: &[Arc<Remote>]) {
    let Some(groups) = document.get_mut("groups").and_then(Value::as_array_mut) else { return };
    for remote in shown(remotes) {
        match groups.iter_mut().find(|group| text(group, "name") == remote.group) {
            Some(group) => add_version(group, remote),
            None => {
                let mut group = json!({"name": remote.group, "versions": []});
                add_version(&mut group, remote);
                groups.push(group);
            }
        }
    }
}

/// An APIGroup with them; `None` when nobody serves the group.
pub(crate) fn group(own: Option<Value>, name: &str, remotes: &[Arc<Remote>]) -> Option<Value> {
    let mut group = own;
    for remote in shown(remotes).filter(|remote| remote.group == name) {
        let empty = || json!({"kind": "APIGroup", "apiVersion": "v1", "name": name, "versions": []});
        add_version(group.get_or_insert_with(empty), remote);
    }
    group
}

fn shown(remotes: &[Arc<Remote>]) -> impl Iterator<Item = &Arc<Remote>> {
    remotes.iter().filter(|remote| remote.is_available() && !remote.group.is_empty())
}

fn add_version(group: &mut Value, remote: &Remote) {
    let entry =
        json!({"groupVersion": format!("{}/{}", remote.group, remote.version), "version": remote.version});
    let Some(versions) = group.get_mut("versions").and_then(Value::as_array_mut) else { return };
    if !versions.contains(&entry) {
        versions.push(entry);
    }
    let first = versions[0].clone();
    if group["preferredVersion"].is_null() {
        group["preferredVersion"] = first;
    }
}

/// Adds theirs to the index of OpenAPI v3.
pub(crate) fn into_openapi(index: &mut Value, remotes: &[Arc<Remote>]) {
    for remote in shown(remotes) {
        let path = remote.root().trim_start_matches('/').to_owned();
        let known = remote.known.load();
        let url = known.openapi.clone().unwrap_or_else(|| format!("/openapi/v3/{path}"));
        index["paths"][path] = json!({"serverRelativeURL": url});
    }
}

/// A version's aggregated form, from its APIResourceList.
pub(super) fn version_of(group: &str, version: &str, plain: &Value) -> Value {
    let kind_of = |own: &Value| {
        let part = |key: &str, otherwise: &str| {
            let text = text(own, key);
            if text.is_empty() { otherwise.to_owned() } else { text.to_owned() }
        };
        json!({"group": part("group", group), "version": part("version", version), "kind": text(own, "kind")})
    };
    let mut resources: Vec<Value> = Vec::new();
    for own in list(plain, "resources") {
        let (parent, sub) = text(own, "name").split_once('/').unwrap_or((text(own, "name"), ""));
        if sub.is_empty() {
            let mut described = json!({
                "resource": parent, "responseKind": kind_of(own), "verbs": own["verbs"],
                "scope": if own["namespaced"] == true { "Namespaced" } else { "Cluster" },
                "singularResource": text(own, "singularName"),
            });
            for key in ["shortNames", "categories"] {
                if own[key].is_array() {
                    described[key] = own[key].clone();
                }
            }
            resources.push(described);
        } else if let Some(owner) = resources.iter_mut().find(|owner| owner["resource"] == parent) {
            if !owner["subresources"].is_array() {
                owner["subresources"] = json!([]);
            }
            if let Some(subs) = owner["subresources"].as_array_mut() {
                subs.push(json!({"subresource": sub, "responseKind": kind_of(own), "verbs": own["verbs"]}));
            }
        }
    }
    json!({"version": version, "resources": resources})
}
