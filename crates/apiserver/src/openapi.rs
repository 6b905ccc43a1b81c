//! OpenAPI documents of what is served: v3 (an index and a document per group version, for `kubectl explain`, client-side
//! validation and apply) and v2 (JSON and protobuf, for older clients).
//!
//! Each document follows from the [`Catalogue`] and the schemas and is made when it is asked for. Of v3 only the hashes are
//! kept: clients cache a document under its hash, so that none is asked for often, and together they are many megabytes.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::catalogue::{Catalogue, Resource};
use descriptions::Descriptions;

mod descriptions;
mod gnostic;
mod paths;
mod schemas;
#[cfg(test)]
mod tests;
mod v2;

/// An encoded document and what names its content.
#[derive(Clone, Debug)]
pub(crate) struct Document {
    /// JSON or protobuf.
    pub(crate) body: Bytes,
    /// Hex SHA-256 of the JSON form; the `hash` of v3 URLs and, quoted, the entity tag.
    pub(crate) hash: String,
}

impl Document {
    fn of(json: &Value) -> Self {
        let body = Bytes::from(json.to_string());
        let hash = hex::encode_upper(Sha256::digest(&body));
        Self { body, hash }
    }

    /// The entity tag.
    pub(crate) fn etag(&self) -> String {
        format!("\"{}\"", self.hash)
    }
}

/// All OpenAPI documents of a catalogue.
#[derive(Debug)]
pub(crate) struct OpenApi {
    catalogue: Arc<Catalogue>,
    version: String,
    index: OnceLock<Document>,
    v2: OnceLock<(Document, Document)>,
}

impl OpenApi {
    /// Over what is served; `version` stands in `info`. Costs nothing until a document is asked for.
    pub(crate) fn new(catalogue: Arc<Catalogue>, version: &str) -> Self {
        Self { catalogue, version: version.to_owned(), index: OnceLock::new(), v2: OnceLock::new() }
    }

    /// `/openapi/v3`: where each group version's document is, with its hash, so that clients may cache it for ever.
    pub(crate) fn index(&self) -> &Document {
        self.index.get_or_init(|| {
            let mut paths = Map::new();
            let descriptions = Descriptions::new();
            for path in group_version_paths(&self.catalogue) {
                let Some(document) = self.described(&path, &descriptions) else { continue };
                let url = format!("/openapi/v3/{path}?hash={}", document.hash);
                paths.insert(path, json!({ "serverRelativeURL": url }));
            }
            Document::of(&json!({ "paths": paths }))
        })
    }

    /// `/openapi/v3/PATH` with PATH like `api/v1`, `apis/apps/v1`; `None` when that is not served.
    pub(crate) fn group_version(&self, path: &str) -> Option<Document> {
        self.described(path, &Descriptions::new())
    }

    fn described(&self, path: &str, descriptions: &Descriptions) -> Option<Document> {
        let resources = served_at(&self.catalogue, path);
        if resources.is_empty() {
            return None;
        }
        let mut described = Map::new();
        for resource in &resources {
            paths::describe(resource, &mut described);
        }
        Some(Document::of(&json!({
            "openapi": "3.0.0",
            "info": { "title": "Kubernetes", "version": self.version },
            "paths": described,
            "components": { "schemas": schemas::components(&resources, descriptions) },
        })))
    }

    /// `/openapi/v2` as JSON.
    pub(crate) fn v2_json(&self) -> &Document {
        &self.v2().0
    }

    /// `/openapi/v2` as `application/com.github.proto-openapi.spec.v2@v1.0+protobuf`.
    pub(crate) fn v2_protobuf(&self) -> &Document {
        &self.v2().1
    }

    /// The same with what `add` brings from elsewhere; made anew each time, for what is elsewhere changes. `None` when it
    /// cannot be read back, which it always can.
    pub(crate) fn v2_with(&self, add: impl FnOnce(&mut Value), protobuf: bool) -> Option<Document> {
        let mut json: Value = serde_json::from_slice(&self.v2_json().body).ok()?;
        add(&mut json);
        let plain = Document::of(&json);
        Some(if protobuf { Document { body: gnostic::encode(&json), ..plain } } else { plain })
    }

    fn v2(&self) -> &(Document, Document) {
        self.v2.get_or_init(|| {
            let json = v2::document(self.catalogue.resources(), &self.version);
            let plain = Document::of(&json);
            let encoded = Document { body: gnostic::encode(&json), hash: plain.hash.clone() };
            (plain, encoded)
        })
    }
}

/// `api/v1`, `apis/apps/v1` of every version served, sorted.
fn group_version_paths(catalogue: &Catalogue) -> Vec<String> {
    let mut paths: Vec<String> = catalogue.resources().iter().map(|resource| path_of(resource)).collect();
    paths.sort();
    paths.dedup();
    paths
}

fn path_of(resource: &Resource) -> String {
    if resource.gvr.group.is_empty() {
        format!("api/{}", resource.gvr.version)
    } else {
        format!("apis/{}/{}", resource.gvr.group, resource.gvr.version)
    }
}

fn served_at(catalogue: &Catalogue, path: &str) -> Vec<Arc<Resource>> {
    catalogue.resources().iter().filter(|resource| path_of(resource) == path).cloned().collect()
}

/// `CoreV1`, `AppsV1`, `RbacAuthorizationV1`: the middle of operation ids.
fn operation_infix(resource: &Resource) -> String {
    let group = resource.gvr.group.trim_end_matches(".k8s.io");
    let mut infix = String::new();
    for part in
        if group.is_empty() { "core" } else { group }.split('.').chain([resource.gvr.version.as_str()])
    {
        let mut letters = part.chars();
        if let Some(first) = letters.next() {
            // Writing to a String cannot fail.
            let _ = write!(infix, "{}{}", first.to_ascii_uppercase(), letters.as_str());
        }
    }
    infix
}

/// A kind as the `x-kubernetes-group-version-kind` extension spells it.
fn gvk_extension(kind: &kube_objects::GroupVersionKind) -> Value {
    json!({ "group": kind.group, "version": kind.version, "kind": kind.kind })
}

/// The schema names of each kind, by what a component is called.
type Components = BTreeMap<String, Value>;
