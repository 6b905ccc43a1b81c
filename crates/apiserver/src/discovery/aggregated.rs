//! `APIGroupDiscoveryList`: everything in one document per root.

use std::collections::HashMap;

use serde_json::{Value, json};

use super::{Document, Root, groups};
use crate::catalogue::{Catalogue, Resource};

/// The two served forms; they differ in nothing but their apiVersion.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum AggregatedVersion {
    /// GA since 1.30.
    V2,
    /// Asked for by clients of 1.26 to 1.29.
    V2Beta1,
}

impl AggregatedVersion {
    /// As it stands in an Accept header's `v` parameter.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::V2 => "v2",
            Self::V2Beta1 => "v2beta1",
        }
    }

    /// From an Accept header's `v` parameter.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        [Self::V2, Self::V2Beta1].into_iter().find(|version| version.name() == name)
    }
}

pub(super) fn documents(catalogue: &Catalogue) -> HashMap<(Root, AggregatedVersion), Document> {
    let mut documents = HashMap::new();
    for root in [Root::Core, Root::Groups] {
        let items: Vec<Value> = groups(catalogue)
            .iter()
            .filter(|(group, _)| group.is_empty() == (root == Root::Core))
            .map(|(group, versions)| describe_group(catalogue, group, versions))
            .collect();
        for version in [AggregatedVersion::V2, AggregatedVersion::V2Beta1] {
            let list = json!({
                "kind": "APIGroupDiscoveryList",
                "apiVersion": format!("apidiscovery.k8s.io/{}", version.name()),
                "metadata": {},
                "items": items,
            });
            documents.insert((root, version), Document::of(&list));
        }
    }
    documents
}

fn describe_group(catalogue: &Catalogue, group: &str, versions: &[String]) -> Value {
    let versions: Vec<Value> = versions
        .iter()
        .map(|version| {
            let mut resources: Vec<Value> = catalogue
                .resources()
                .iter()
                .filter(|resource| resource.gvr.group == group && &resource.gvr.version == version)
                .map(|resource| describe(resource))
                .collect();
            resources.sort_by(|a, b| a["resource"].as_str().cmp(&b["resource"].as_str()));
            json!({ "version": version, "freshness": "Current", "resources": resources })
        })
        .collect();
    let metadata = if group.is_empty() { json!({}) } else { json!({ "name": group }) };
    json!({ "metadata": metadata, "versions": versions })
}

fn describe(resource: &Resource) -> Value {
    // Upstream names group and version for custom kinds, and leaves the list's own out for built-in ones.
    let custom = resource.custom;
    let (group, version) =
        if custom { (resource.gvr.group.as_str(), resource.gvr.version.as_str()) } else { ("", "") };
    let mut described = json!({
        "resource": resource.gvr.resource,
        "responseKind": { "group": group, "version": version, "kind": resource.kind },
        "scope": if resource.namespaced { "Namespaced" } else { "Cluster" },
        "singularResource": resource.singular,
        "verbs": super::verbs(resource),
    });
    if !resource.short_names.is_empty() {
        described["shortNames"] = json!(resource.short_names);
    }
    if !resource.categories.is_empty() {
        described["categories"] = json!(resource.categories);
    }
    if !resource.subresources.is_empty() {
        let mut subresources: Vec<Value> = resource
            .subresources
            .iter()
            .map(|subresource| {
                let kind = &subresource.kind;
                let own = kind.group == resource.gvr.group && kind.version == resource.gvr.version;
                // Upstream leaves group and version empty where they are the list's own.
                let (group, version) =
                    if own && !custom { ("", "") } else { (kind.group.as_str(), kind.version.as_str()) };
                json!({
                    "subresource": subresource.name,
                    "responseKind": { "group": group, "version": version, "kind": kind.kind },
                    "verbs": subresource.verbs,
                })
            })
            .collect();
        subresources.sort_by(|a, b| a["subresource"].as_str().cmp(&b["subresource"].as_str()));
        described["subresources"] = json!(subresources);
    }
    described
}
