//! `data.inventory`: the other objects that policies may look at.
//!
//! `data.inventory.cluster[apiVersion][kind][name]` and `data.inventory.namespace[namespace][apiVersion][kind][name]`, of the
//! kinds that templates ask for in the annotation `metadata.gatekeeper.sh/requires-sync-data`, that a `Config` names in
//! `spec.sync.syncOnly` or a `SyncSet` in `spec.gvks`. The object that is judged is among them.

use std::collections::BTreeMap;

use kind_rules::json::{list, text, texts};
use serde_json::Value;

use crate::rego::Document;

const REQUIRES: &str = "metadata.gatekeeper.sh/requires-sync-data";

/// A kind whose objects are in the inventory.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SyncKind {
    /// `apps`; "" is the core group.
    pub group: String,
    /// `v1`.
    pub version: String,
    /// `Deployment`.
    pub kind: String,
}

/// What a template asks for. Where it would do with one of several, it gets all that there are.
pub(super) fn required(metadata: &Value) -> Result<Vec<SyncKind>, String> {
    let annotation = text(&metadata["annotations"], REQUIRES).trim();
    if annotation.is_empty() {
        return Ok(Vec::new());
    }
    // Most are written as a text within a text.
    let bare = annotation.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(annotation);
    let requirements: Vec<Vec<Value>> =
        serde_json::from_str(bare).map_err(|error| format!("{REQUIRES} cannot be read: {error}"))?;
    let mut kinds = Vec::new();
    for one in requirements.iter().flatten() {
        for group in texts(one, "groups") {
            for version in texts(one, "versions") {
                kinds.extend(texts(one, "kinds").map(|kind| SyncKind {
                    group: group.to_owned(),
                    version: version.to_owned(),
                    kind: kind.to_owned(),
                }));
            }
        }
    }
    Ok(kinds)
}

/// What a `Config` or a `SyncSet` names.
pub(super) fn named(document: &Value) -> Vec<SyncKind> {
    let spec = &document["spec"];
    let named = match text(document, "kind") {
        "Config" => list(&spec["sync"], "syncOnly"),
        "SyncSet" => list(spec, "gvks"),
        _ => &[],
    };
    let kind = |one: &Value| SyncKind {
        group: text(one, "group").to_owned(),
        version: text(one, "version").to_owned(),
        kind: text(one, "kind").to_owned(),
    };
    named.iter().map(kind).collect()
}

#[derive(Default)]
struct Tree(BTreeMap<String, Node>);

enum Node {
    Leaf(Document),
    Branch(Tree),
}

impl Tree {
    fn put(&mut self, path: &[&str], leaf: Document) {
        match path {
            [] => {}
            [last] => drop(self.0.insert((*last).to_owned(), Node::Leaf(leaf))),
            [first, rest @ ..] => {
                let node = self.0.entry((*first).to_owned()).or_insert_with(|| Node::Branch(Self::default()));
                if let Node::Branch(tree) = node {
                    tree.put(rest, leaf);
                }
            }
        }
    }

    fn document(self) -> Document {
        Document::map(self.0.into_iter().map(|(key, node)| match node {
            Node::Leaf(leaf) => (key, leaf),
            Node::Branch(tree) => (key, tree.document()),
        }))
    }
}

/// Objects as an inventory.
pub(super) fn document<'a>(objects: impl IntoIterator<Item = &'a Value>) -> Document {
    let mut tree = Tree::default();
    for object in objects {
        let metadata = &object["metadata"];
        let (version, kind, name) =
            (text(object, "apiVersion"), text(object, "kind"), text(metadata, "name"));
        let leaf = Document::of(object);
        match text(metadata, "namespace") {
            "" => tree.put(&["cluster", version, kind, name], leaf),
            namespace => tree.put(&["namespace", namespace, version, kind, name], leaf),
        }
    }
    tree.document()
}
