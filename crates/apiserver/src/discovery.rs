//! What is served, as clients ask for it: `/api`, `/apis`, per-group and per-version documents, and the aggregated
//! form (`apidiscovery.k8s.io` v2 and v2beta1) that today's clients ask for first.
//!
//! Documents are encoded once, when they are first asked for, and shared by all readers. They follow from the
//! [`Catalogue`] alone, so discovery cannot promise what is not served.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use sha2::{Digest, Sha256};

use crate::catalogue::{Catalogue, Resource};

mod aggregated;
mod legacy;

pub(crate) use aggregated::AggregatedVersion;

/// An encoded document with the tag by which a client can ask whether it changed.
#[derive(Clone, Debug)]
pub(crate) struct Document {
    /// JSON.
    pub(crate) body: Bytes,
    /// A strong entity tag, quotes included.
    pub(crate) etag: String,
}

impl Document {
    pub(crate) fn of(json: &serde_json::Value) -> Self {
        let body = Bytes::from(json.to_string());
        // Upstream's tag is the upper-case hex SHA-512 of the body; clients compare it, none recomputes it.
        let etag = format!("\"{}\"", hex::encode_upper(Sha256::digest(&body)));
        Self { body, etag }
    }
}

/// Which of the two aggregated documents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Root {
    /// `/api`: the core group.
    Core,
    /// `/apis`: every named group.
    Groups,
}

/// All discovery documents of a catalogue.
#[derive(Debug)]
pub(crate) struct Discovery {
    catalogue: Arc<Catalogue>,
    legacy: OnceLock<HashMap<String, Document>>,
    aggregated: OnceLock<HashMap<(Root, AggregatedVersion), Document>>,
}

impl Discovery {
    /// Over what is served. Costs nothing until a document is asked for.
    pub(crate) fn new(catalogue: Arc<Catalogue>) -> Self {
        Self { catalogue, legacy: OnceLock::new(), aggregated: OnceLock::new() }
    }

    /// The plain document at a path (`/api`, `/apis/apps`, `/apis/apps/v1` …; no trailing slash), if there is one.
    pub(crate) fn plain(&self, path: &str) -> Option<&Document> {
        self.legacy.get_or_init(|| legacy::documents(&self.catalogue)).get(path)
    }

    /// The aggregated document of a root.
    pub(crate) fn aggregated(&self, root: Root, version: AggregatedVersion) -> &Document {
        let documents = self.aggregated.get_or_init(|| aggregated::documents(&self.catalogue));
        &documents[&(root, version)]
    }
}

/// What a client is told it may do. While a definition goes, nothing new comes (changes that release objects are still
/// served).
fn verbs(resource: &Resource) -> Vec<&str> {
    let ending = resource.definition.as_ref().is_some_and(|definition| definition.terminating);
    let told = resource.verbs.iter().map(String::as_str);
    told.filter(|verb| !ending || !matches!(*verb, "create" | "patch" | "update")).collect()
}

/// The groups of a catalogue in order of service, each with its versions, preferred first.
fn groups(catalogue: &Catalogue) -> Vec<(String, Vec<String>)> {
    let mut groups: Vec<(String, Vec<String>)> = Vec::new();
    for resource in catalogue.resources() {
        let (group, version) = (&resource.gvr.group, &resource.gvr.version);
        match groups.iter_mut().find(|(name, _)| name == group) {
            Some((_, versions)) if versions.contains(version) => {}
            Some((_, versions)) => versions.push(version.clone()),
            None => groups.push((group.clone(), vec![version.clone()])),
        }
    }
    for (_, versions) in &mut groups {
        versions.sort_by_key(|version| std::cmp::Reverse(priority(version)));
    }
    groups
}

/// Kubernetes' order of versions: stable over beta over alpha, then the higher number
/// (apimachinery `version.CompareKubeAwareVersionStrings`). A name of another form comes last.
pub(crate) fn priority(version: &str) -> (u8, u32, u32) {
    let Some(rest) = version.strip_prefix('v') else { return (0, 0, 0) };
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let (major, stage) = rest.split_at(digits);
    let Ok(major) = major.parse() else { return (0, 0, 0) };
    if stage.is_empty() {
        return (3, major, 0);
    }
    for (name, rank) in [("beta", 2), ("alpha", 1)] {
        if let Some(Ok(minor)) = stage.strip_prefix(name).map(str::parse) {
            return (rank, major, minor);
        }
    }
    (0, 0, 0)
}

#[cfg(test)]
mod tests;
