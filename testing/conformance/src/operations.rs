//! Every verb of a kind, one after the other: what each of Kubernetes' "API operations" and "lifecycle" tests goes through,
//! and what clients do besides: dry runs, strict fields, tables, metadata alone, protobuf.
//!
//! A server may hold an object by finalizers and its controllers may write in between; neither is a fault here.

use anyhow::{Context as _, bail, ensure};
use serde_json::{Value, json};

use crate::subject::{Namespace, Subject, text};
use crate::watching::Watch;

/// Objects of a kind that a case makes: one for each thing that is done.
const NAMES: usize = 4;

/// What `kubectl get` asks for.
pub const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io";
/// What a collector of garbage asks for.
pub const METADATA_LIST: &str = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io";
/// What Go clients ask for.
pub const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";

/// A kind, and an object of it.
#[derive(Clone, Debug)]
pub struct Kind {
    group_version: &'static str,
    resource: &'static str,
    namespaced: bool,
    body: Value,
    name: fn(&str, usize) -> String,
    status: Option<Value>,
    annotated: bool,
    change: Option<Value>,
}

impl Kind {
    /// A kind whose objects live in namespaces; `body` is one without metadata.
    #[must_use]
    pub fn namespaced(group_version: &'static str, resource: &'static str, body: Value) -> Self {
        let name = |_: &str, index: usize| format!("object-{index}");
        Self {
            group_version,
            resource,
            namespaced: true,
            body,
            name,
            status: None,
            annotated: true,
            change: None,
        }
    }

    /// A kind whose objects live in no namespace.
    #[must_use]
    pub fn of_cluster(group_version: &'static str, resource: &'static str, body: Value) -> Self {
        let name = |space: &str, index: usize| format!("{space}-{index}");
        Self {
            group_version,
            resource,
            namespaced: false,
            body,
            name,
            status: None,
            annotated: true,
            change: None,
        }
    }

    /// Names that are not just any: from the case's namespace and an index below four.
    #[must_use]
    pub fn named(self, name: fn(&str, usize) -> String) -> Self {
        Self { name, ..self }
    }

    /// It has a status, and this may be part of one.
    #[must_use]
    pub fn with_status(self, status: Value) -> Self {
        Self { status: Some(status), ..self }
    }

    /// The same, where writing the status writes no annotations.
    #[must_use]
    pub fn with_status_alone(self, status: Value) -> Self {
        Self { status: Some(status), annotated: false, ..self }
    }

    /// A change of its content as a strategic merge patch whose lists are whole.
    #[must_use]
    pub fn with_change(self, change: Value) -> Self {
        Self { change: Some(change), ..self }
    }

    fn root(&self) -> String {
        let prefix = if self.group_version.contains('/') { "/apis" } else { "/api" };
        format!("{prefix}/{}", self.group_version)
    }

    fn everywhere(&self) -> String {
        format!("{}/{}", self.root(), self.resource)
    }

    fn collection(&self, space: &Namespace<'_>) -> String {
        if self.namespaced {
            format!("{}/namespaces/{}/{}", self.root(), space.name, self.resource)
        } else {
            self.everywhere()
        }
    }

    fn object(&self, space: &Namespace<'_>, index: usize) -> Value {
        let mut object = self.body.clone();
        if object["involvedObject"].is_object() {
            object["involvedObject"]["namespace"] = json!(space.name);
        }
        object["metadata"] =
            json!({"name": (self.name)(&space.name, index), "labels": {"conformance": space.name}});
        object
    }

    /// Goes through every verb.
    ///
    /// # Errors
    /// What did not hold, with the verb.
    pub async fn holds(&self, subject: &Subject) -> anyhow::Result<()> {
        let space = subject.namespace("kinds").await?;
        let run = Run { kind: self, subject, space: &space };
        let result = run.all().await.with_context(|| format!("{} {}", self.group_version, self.resource));
        if !self.namespaced {
            run.emptied().await?;
        }
        space.end().await?;
        result
    }
}

/// One going through of a kind's verbs.
struct Run<'a> {
    kind: &'a Kind,
    subject: &'a Subject,
    space: &'a Namespace<'a>,
}

impl Run<'_> {
    async fn all(&self) -> anyhow::Result<()> {
        self.discovered().await.context("discovery")?;
        let before = self.list(&self.kind.collection(self.space)).await?;
        ensure!(before["items"] == json!([]), "no object yet: {before}");
        let version = text(&before, "/metadata/resourceVersion")?;
        let query = format!("?{}&resourceVersion={version}", self.selector());
        let mut near = self.subject.watch(&format!("{}{query}", self.kind.collection(self.space))).await?;
        let mut wide = self.subject.watch(&format!("{}{query}", self.kind.everywhere())).await?;
        self.created().await.context("create")?;
        self.read().await.context("read")?;
        self.patched().await.context("patch")?;
        self.replaced().await.context("update")?;
        for watch in [&mut near, &mut wide] {
            self.watched(watch).await.context("watch")?;
        }
        if let Some(status) = &self.kind.status {
            self.status(status).await.context("status")?;
        }
        self.deleted(&mut near).await.context("delete")?;
        self.emptied().await.context("delete a collection")
    }

    fn selector(&self) -> String {
        format!("labelSelector=conformance%3D{}", self.space.name)
    }

    fn path(&self, index: usize) -> String {
        format!("{}/{}", self.kind.collection(self.space), (self.kind.name)(&self.space.name, index))
    }

    async fn list(&self, collection: &str) -> anyhow::Result<Value> {
        self.subject.get(&format!("{collection}?{}", self.selector())).await?.expect(200)
    }

    async fn discovered(&self) -> anyhow::Result<()> {
        let kind = self.kind;
        if let Some((group, version)) = kind.group_version.split_once('/') {
            let groups = self.subject.get("/apis").await?.expect(200)?;
            let all = groups["groups"].as_array().cloned().unwrap_or_default();
            ensure!(all.iter().any(|entry| entry["name"] == group), "/apis has no {group}");
            let one = self.subject.get(&format!("/apis/{group}")).await?.expect(200)?;
            let versions = one["versions"].as_array().cloned().unwrap_or_default();
            ensure!(versions.iter().any(|entry| entry["version"] == version), "/apis/{group}: {one}");
        }
        let document = self.subject.get(&kind.root()).await?.expect(200)?;
        let resources = document["resources"].as_array().cloned().unwrap_or_default();
        let named = |name: &str| resources.iter().find(|entry| entry["name"] == name).cloned();
        let Some(main) = named(kind.resource) else { bail!("{} is not among {document}", kind.resource) };
        ensure!(main["namespaced"] == kind.namespaced && main["kind"] == kind.body["kind"], "{main}");
        for verb in ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"] {
            ensure!(
                main["verbs"].as_array().is_some_and(|verbs| verbs.contains(&json!(verb))),
                "{verb}: {main}"
            );
        }
        if kind.status.is_some() {
            let status = named(&format!("{}/status", kind.resource)).unwrap_or_default();
            ensure!(status["verbs"] == json!(["get", "patch", "update"]), "status: {status}");
        }
        Ok(())
    }

    async fn created(&self) -> anyhow::Result<()> {
        let collection = self.kind.collection(self.space);
        let first = self.kind.object(self.space, 0);
        let tried = self.subject.post(&format!("{collection}?dryRun=All"), &first).await?.expect(201)?;
        ensure!(tried["metadata"]["uid"].is_string(), "a dry run answers what would be: {tried}");
        self.subject.get(&self.path(0)).await?.refused(404, "NotFound")?;
        let mut unknown = first.clone();
        unknown["nothing"] = json!("x");
        let strict = self.subject.post(&format!("{collection}?fieldValidation=Strict"), &unknown).await?;
        strict.refused(400, "BadRequest")?;
        ensure!(strict.message().contains("unknown field \"nothing\""), "{}", strict.message());
        for index in 0..NAMES - 1 {
            let object = self.kind.object(self.space, index);
            let made = self.subject.post(&collection, &object).await?.expect(201)?;
            ensure!(contains(&made, &object), "what was sent is not in what was made: {made}");
            ensure!(made["metadata"]["uid"].is_string() && version(&made)? > 0, "{made}");
            ensure!(made["metadata"]["creationTimestamp"].is_string(), "{made}");
        }
        self.subject.post(&collection, &first).await?.refused(409, "AlreadyExists")?;
        let last = self.kind.object(self.space, NAMES - 1);
        let path = format!("{}?fieldManager=conformance", self.path(NAMES - 1));
        let applied = self.subject.patch(&path, "apply", &last).await?.expect(201)?;
        ensure!(contains(&applied, &last), "what was applied is not in what was made: {applied}");
        let owner = &applied["metadata"]["managedFields"][0];
        ensure!(owner["manager"] == "conformance" && owner["operation"] == "Apply", "{owner}");
        Ok(())
    }

    async fn read(&self) -> anyhow::Result<()> {
        let object = self.kind.object(self.space, 0);
        let got = self.subject.get(&self.path(0)).await?.expect(200)?;
        ensure!(contains(&got, &object), "{got}");
        for collection in [self.kind.collection(self.space), self.kind.everywhere()] {
            let list = self.list(&collection).await?;
            ensure!(count(&list, "items") == NAMES, "{NAMES} objects expected: {list}");
            ensure!(text(&list, "/kind")?.ends_with("List") && version(&list)? > 0, "{}", list["kind"]);
            let path = format!("{collection}?{}", self.selector());
            let table = self.subject.get_as(&path, TABLE).await?.expect(200)?;
            ensure!(table["kind"] == "Table" && count(&table, "rows") == NAMES, "{table}");
            let width = count(&table, "columnDefinitions");
            // Upstream shows an age of addresses that it has no column for.
            ensure!(width > 0 && count(&table["rows"][0], "cells") >= width, "{table}");
            let bare = self.subject.get_as(&path, METADATA_LIST).await?.expect(200)?;
            ensure!(count(&bare, "items") == NAMES && bare["items"][0]["spec"].is_null(), "{bare}");
            let protobuf = self.subject.get_as(&path, PROTOBUF).await?;
            ensure!(protobuf.bytes.starts_with(b"k8s\0"), "no protobuf: {} {}", protobuf.code, protobuf.json);
        }
        let named = format!("{}?fieldSelector=metadata.name%3D{}", self.kind.collection(self.space), {
            text(&got, "/metadata/name")?
        });
        let one = self.subject.get(&named).await?.expect(200)?;
        ensure!(count(&one, "items") == 1, "one by its name: {one}");
        let protobuf = self.subject.get_as(&self.path(0), PROTOBUF).await?;
        ensure!(protobuf.bytes.starts_with(b"k8s\0"), "no protobuf: {}", protobuf.code);
        let yaml = self.subject.get_as(&self.path(0), "application/yaml").await?;
        let line = format!("kind: {}\n", self.kind.body["kind"].as_str().unwrap_or_default());
        ensure!(String::from_utf8_lossy(&yaml.bytes).contains(&line), "no YAML: {}", yaml.code);
        Ok(())
    }

    async fn patched(&self) -> anyhow::Result<()> {
        let before = self.subject.get(&self.path(0)).await?.expect(200)?;
        let mark = |name: &str| json!({"metadata": {"annotations": {name: "true"}}});
        let merged = self.subject.patch(&self.path(0), "merge", &mark("patched")).await?.expect(200)?;
        ensure!(contains(&merged, &mark("patched")), "merge: {merged}");
        ensure!(version(&merged)? > version(&before)?, "a change has a greater version: {merged}");
        ensure!(merged["metadata"]["uid"] == before["metadata"]["uid"], "{merged}");
        let strategic =
            self.subject.patch(&self.path(0), "strategic-merge", &mark("strategic")).await?.expect(200)?;
        ensure!(contains(&strategic, &mark("strategic")), "strategic merge: {strategic}");
        let add = json!([{"op": "add", "path": "/metadata/annotations/json", "value": "true"}]);
        let listed = self.subject.patch(&self.path(0), "json", &add).await?.expect(200)?;
        ensure!(contains(&listed, &mark("json")), "JSON patch: {listed}");
        let mut config = mark("applied");
        config["apiVersion"] = self.kind.body["apiVersion"].clone();
        config["kind"] = self.kind.body["kind"].clone();
        let path = format!("{}?fieldManager=conformance", self.path(0));
        let applied = self.subject.patch(&path, "apply", &config).await?.expect(200)?;
        for name in ["patched", "strategic", "json", "applied"] {
            ensure!(contains(&applied, &mark(name)), "{name} is gone: {applied}");
        }
        let tried = format!("{}?dryRun=All", self.path(0));
        let tried = self.subject.patch(&tried, "merge", &mark("tried")).await?.expect(200)?;
        ensure!(contains(&tried, &mark("tried")), "{tried}");
        let after = self.subject.get(&self.path(0)).await?.expect(200)?;
        ensure!(!contains(&after, &mark("tried")), "a dry run was kept: {after}");
        if let Some(change) = &self.kind.change {
            let changed = self.subject.patch(&self.path(0), "strategic-merge", change).await?.expect(200)?;
            ensure!(contains(&changed, change), "{change} is not in {changed}");
        }
        Ok(())
    }

    async fn replaced(&self) -> anyhow::Result<()> {
        let mark = json!({"metadata": {"annotations": {"updated": "true"}}});
        let updated = self.put(&self.path(0), &mark).await?;
        ensure!(contains(&updated, &mark), "{updated}");
        let mut stale = updated.clone();
        stale["metadata"]["resourceVersion"] = json!("1");
        stale["metadata"]["annotations"]["updated"] = json!("again");
        self.subject.put(&self.path(0), &stale).await?.refused(409, "Conflict")?;
        let mut other = updated;
        other["metadata"]["uid"] = json!("00000000-0000-0000-0000-000000000000");
        let refused = self.subject.put(&self.path(0), &other).await?;
        ensure!(matches!(refused.code, 409 | 422), "another's uid: {} {}", refused.code, refused.json);
        Ok(())
    }

    /// Reads, changes and puts back, again while others write in between.
    async fn put(&self, path: &str, change: &Value) -> anyhow::Result<Value> {
        loop {
            let mut document = self.subject.get(path).await?.expect(200)?;
            merge(&mut document, change);
            let answer = self.subject.put(path, &document).await?;
            if answer.code != 409 {
                return answer.expect(200);
            }
        }
    }

    async fn watched(&self, watch: &mut Watch) -> anyhow::Result<()> {
        let mut added = Vec::new();
        loop {
            let Some((kind, object)) = watch.next().await? else { bail!("the watch ended") };
            ensure!(object["kind"] == self.kind.body["kind"] || kind == "BOOKMARK", "{kind} {object}");
            let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
            match kind.as_str() {
                "ADDED" => added.push(name),
                "MODIFIED" if object["metadata"]["annotations"]["updated"] == "true" => break,
                "MODIFIED" | "BOOKMARK" => {}
                _ => bail!("{kind} of {name} unexpected: {object}"),
            }
        }
        added.sort_unstable();
        let mut wanted: Vec<_> = (0..NAMES).map(|index| (self.kind.name)(&self.space.name, index)).collect();
        // Addresses are no texts in order.
        wanted.sort_unstable();
        ensure!(added == wanted, "ADDED of {added:?}, not of {wanted:?}");
        Ok(())
    }

    async fn status(&self, status: &Value) -> anyhow::Result<()> {
        let path = format!("{}/status", self.path(1));
        let whole = json!({"status": status});
        let main = self.subject.patch(&self.path(1), "merge", &whole).await?.expect(200)?;
        ensure!(!contains(&main, &whole), "the status was written: {main}");
        let got = self.subject.get(&path).await?.expect(200)?;
        ensure!(got["metadata"]["uid"] == main["metadata"]["uid"] && got["kind"] == main["kind"], "{got}");
        let mut patch = whole.clone();
        patch["metadata"] = json!({"annotations": {"patchedstatus": "true"}});
        let patched = self.subject.patch(&path, "merge", &patch).await?.expect(200)?;
        ensure!(contains(&patched, &whole), "{whole} is not in {patched}");
        let annotated = patched["metadata"]["annotations"]["patchedstatus"] == "true";
        ensure!(annotated == self.kind.annotated, "annotated by its status: {annotated}: {patched}");
        let put = self.put(&path, &whole).await?;
        ensure!(contains(&put, &whole), "{whole} is not in {put}");
        Ok(())
    }

    async fn deleted(&self, watch: &mut Watch) -> anyhow::Result<()> {
        let path = self.path(2);
        self.subject.delete(&format!("{path}?dryRun=All")).await?.expect(200)?;
        let kept = self.subject.get(&path).await?.expect(200)?;
        ensure!(kept["metadata"]["deletionTimestamp"].is_null(), "a dry run deleted: {kept}");
        let answer = self.subject.delete(&path).await?;
        ensure!(matches!(answer.code, 200 | 202), "{} {}", answer.code, answer.json);
        self.gone(&path).await?;
        let name = (self.kind.name)(&self.space.name, 2);
        loop {
            let Some((kind, object)) = watch.next().await? else { bail!("the watch ended before DELETED") };
            if kind == "DELETED" {
                ensure!(object["metadata"]["name"] == name, "DELETED of {name} expected: {object}");
                break;
            }
        }
        self.subject.delete(&path).await?.refused(404, "NotFound")?;
        let left = self.list(&self.kind.collection(self.space)).await?;
        ensure!(count(&left, "items") == NAMES - 1, "{left}");
        Ok(())
    }

    /// What was deleted is gone, or waits for finalizers, which are taken off here.
    async fn gone(&self, path: &str) -> anyhow::Result<()> {
        let answer = self.subject.get(path).await?;
        if answer.code == 404 {
            return Ok(());
        }
        let left = answer.expect(200)?;
        ensure!(left["metadata"]["deletionTimestamp"].is_string(), "still there: {left}");
        let free = json!({"metadata": {"finalizers": null}});
        let freed = self.subject.patch(path, "merge", &free).await?;
        ensure!(matches!(freed.code, 200 | 404), "{} {}", freed.code, freed.json);
        self.subject.wait_for(path, |answer| answer.code == 404).await?;
        Ok(())
    }

    async fn emptied(&self) -> anyhow::Result<()> {
        let collection = self.kind.collection(self.space);
        let path = format!("{collection}?{}", self.selector());
        self.subject.delete(&path).await?.expect(200)?;
        let left = self.subject.get(&path).await?.expect(200)?;
        for item in left["items"].as_array().into_iter().flatten() {
            self.gone(&format!("{collection}/{}", text(item, "/metadata/name")?)).await?;
        }
        let left = self.list(&collection).await?;
        ensure!(left["items"] == json!([]), "{left}");
        Ok(())
    }
}

/// The version of an object or list, which is a decimal number without leading zeros so that clients can compare.
///
/// # Errors
/// When it is none.
pub fn version(document: &Value) -> anyhow::Result<u64> {
    let version = text(document, "/metadata/resourceVersion")?;
    ensure!(!version.starts_with('0'), "leading zeros in version {version}");
    version.parse().with_context(|| format!("version {version} is no number"))
}

/// How many items a list under `key` has.
#[must_use]
pub fn count(document: &Value, key: &str) -> usize {
    document[key].as_array().map_or(0, Vec::len)
}

/// Whether everything in `wanted` is in `document`; lists are compared item by item and have one length.
#[must_use]
pub fn contains(document: &Value, wanted: &Value) -> bool {
    match (document, wanted) {
        (Value::Object(document), Value::Object(wanted)) => {
            wanted.iter().all(|(key, value)| document.get(key).is_some_and(|found| contains(found, value)))
        }
        (Value::Array(document), Value::Array(wanted)) => {
            document.len() == wanted.len()
                && document.iter().zip(wanted).all(|(found, value)| contains(found, value))
        }
        _ => document == wanted,
    }
}

fn merge(document: &mut Value, change: &Value) {
    match (document, change) {
        (Value::Object(document), Value::Object(change)) => {
            for (key, value) in change {
                merge(document.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (document, change) => *document = change.clone(),
    }
}
