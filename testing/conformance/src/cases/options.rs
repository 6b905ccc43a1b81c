//! What a write's options may be, and names that are refused.

use anyhow::ensure;
use serde_json::{Value, json};

use super::patches::deployment;
use super::status_errors::config_map;
use crate::case;
use crate::case::Case;
use crate::subject::{Answer, Subject};

pub(super) const CASES: &[Case] = &[
    case!("options/of writes are validated", ApiServer, [], of_writes),
    case!("options/of deletions are validated", ApiServer, [], of_deletions),
    case!("options/apply wants a whole identity and its types", ApiServer, [], of_applies),
    case!("options/patches are judged like documents", ApiServer, [], of_patches),
    case!("options/a document names what the path names", ApiServer, [], identities),
    case!("options/metadata that makes no sense", ApiServer, [], metadata),
    case!("options/what is too large", ApiServer, [], sizes),
    case!("options/parameters of lists that make no sense", ApiServer, [], of_lists),
];

/// 422 of options of this kind about this one.
fn invalid(answer: &Answer, kind: &str, field: &str, message: &str) -> anyhow::Result<()> {
    answer.refused(422, "Invalid")?;
    let whole = format!("{kind}.meta.k8s.io \"\" is invalid: {field}: {message}");
    ensure!(answer.message() == whole, "{whole:?} expected, not {:?}", answer.message());
    let details = &answer.json["details"];
    ensure!(details["kind"] == kind && details["group"] == "meta.k8s.io", "{details}");
    ensure!(details["causes"][0]["field"] == field, "{details}");
    Ok(())
}

async fn of_writes(subject: &Subject) -> anyhow::Result<()> {
    let space = subject.namespace("options").await?;
    let (all, one) = (space.core("configmaps"), space.core("configmaps/a"));
    subject.post(&all, &config_map("a", "1")).await?.expect(201)?;
    let long = "x".repeat(129);
    for (query, field, message) in [
        (format!("fieldManager={long}"), "fieldManager", "Too long: may not be more than 128 bytes"),
        (
            "fieldManager=%01".to_owned(),
            "fieldManager",
            "Invalid value: \"\\x01\": invalid character U+0001 (at position 0)",
        ),
        ("dryRun=Some".to_owned(), "dryRun", "Unsupported value: [\"Some\"]: supported values: \"All\""),
        (
            "fieldValidation=Sometimes".to_owned(),
            "fieldValidation",
            "Unsupported value: \"Sometimes\": supported values: \"\", \"Ignore\", \"Strict\", \"Warn\"",
        ),
    ] {
        let posted = subject.post(&format!("{all}?{query}"), &config_map("b", "1")).await?;
        invalid(&posted, "CreateOptions", field, message)?;
        let put = subject.put(&format!("{one}?{query}"), &config_map("a", "2")).await?;
        invalid(&put, "UpdateOptions", field, message)?;
        let patched = subject.patch(&format!("{one}?{query}"), "merge", &json!({})).await?;
        invalid(&patched, "PatchOptions", field, message)?;
    }
    let forced = subject.patch(&format!("{one}?force=true"), "merge", &json!({})).await?;
    invalid(&forced, "PatchOptions", "force", "Forbidden: may not be specified for non-apply patch")?;
    let unmanaged = subject.patch(&one, "apply", &config_map("a", "2")).await?;
    invalid(&unmanaged, "PatchOptions", "fieldManager", "Required value: is required for apply patch")?;
    let kept = subject.get(&one).await?.expect(200)?;
    ensure!(kept["data"]["key"] == "1", "{kept}");
    space.end().await
}

async fn of_deletions(subject: &Subject) -> anyhow::Result<()> {
    let space = subject.namespace("options").await?;
    let one = space.core("configmaps/a");
    subject.post(&space.core("configmaps"), &config_map("a", "1")).await?.expect(201)?;
    let options = |own: Value| {
        let mut options = json!({"apiVersion": "v1", "kind": "DeleteOptions"});
        for (key, value) in own.as_object().into_iter().flatten() {
            options[key] = value.clone();
        }
        options
    };
    let unknown =
        "Unsupported value: \"Other\": supported values: \"Foreground\", \"Background\", \"Orphan\", \"nil\"";
    let both = "Invalid value: \"Orphan\": orphanDependents and deletionPropagation cannot be both set";
    for (own, field, message) in [
        (json!({"propagationPolicy": "Other"}), "propagationPolicy", unknown),
        (json!({"propagationPolicy": "Orphan", "orphanDependents": true}), "propagationPolicy", both),
        (json!({"dryRun": ["Some"]}), "dryRun", "Unsupported value: [\"Some\"]: supported values: \"All\""),
    ] {
        invalid(&subject.delete_with(&one, &options(own)).await?, "DeleteOptions", field, message)?;
    }
    for (query, message) in
        [("propagationPolicy=Other", unknown), ("propagationPolicy=Orphan&orphanDependents=true", both)]
    {
        let refused = subject.delete(&format!("{one}?{query}")).await?;
        invalid(&refused, "DeleteOptions", "propagationPolicy", message)?;
    }
    let other = json!({"apiVersion": "v1", "kind": "Other"});
    subject.delete_with(&one, &other).await?.refused(400, "BadRequest")?;
    subject.delete(&format!("{one}?gracePeriodSeconds=x")).await?.refused(400, "BadRequest")?;
    subject
        .delete_with(&one, &options(json!({"dryRun": ["All"], "propagationPolicy": "Foreground"})))
        .await?
        .expect(200)?;
    let kept = subject.get(&one).await?.expect(200)?;
    ensure!(kept["metadata"]["deletionTimestamp"].is_null(), "{kept}");
    space.end().await
}

async fn of_applies(subject: &Subject) -> anyhow::Result<()> {
    let space = subject.namespace("options").await?;
    subject.post(&space.of("apps/v1", "deployments"), &deployment("d")).await?.expect(201)?;
    let path = space.of("apps/v1", "deployments/d?fieldManager=m");
    let bad = async |body: Value, message: &str| {
        let refused = subject.patch(&path, "apply", &body).await?;
        refused.refused(400, "BadRequest")?;
        ensure!(refused.message() == message, "{message:?} expected, not {:?}", refused.message());
        anyhow::Ok(())
    };
    bad(json!({"kind": "Deployment"}), "invalid object type: /, Kind=Deployment").await?;
    bad(json!({"apiVersion": "apps/v1"}), "invalid object type: apps/v1, Kind=").await?;
    bad(json!({"apiVersion": "v1", "kind": "Deployment"}), "invalid object type: /v1, Kind=Deployment")
        .await?;
    let mut body = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "other"}});
    bad(body.clone(), "the name of the object (other) does not match the name on the URL (d)").await?;
    body["metadata"] = json!({"name": "d", "managedFields": [{"manager": "x"}]});
    bad(body.clone(), "metadata.managedFields must be nil").await?;
    body["metadata"] = json!({"name": "d"});
    for (spec, message) in [
        (json!({"replicas": "three"}), ".spec.replicas: expected numeric (int or float), got string"),
        (json!({"template": []}), ".spec.template: expected map, got &{[]}"),
        (json!({"nothing": 1}), ".spec.nothing: field not declared in schema"),
        (
            json!({"template": {"spec": {"containers": [{"name": "x"}, {"name": "x"}]}}}),
            ".spec.template.spec.containers: duplicate entries for key [name=\"x\"]",
        ),
    ] {
        body["spec"] = spec;
        let refused = subject.patch(&path, "apply", &body).await?;
        // An error of the library that upstream passes on without a reason.
        let whole = format!("failed to create typed patch object (/d; apps/v1, Kind=Deployment): {message}");
        ensure!(
            refused.code == 500 && refused.message() == whole,
            "{whole:?}: {} {}",
            refused.code,
            refused.json
        );
    }
    let absent = space.core("configmaps/absent?fieldManager=m");
    let mut map = config_map("absent", "1");
    map["metadata"]["uid"] = json!("u");
    let refused = subject.patch(&absent, "apply", &map).await?;
    refused.refused(409, "Conflict")?;
    ensure!(
        refused
            .message()
            .ends_with("uid mismatch: the provided object specified uid u, and no existing object was found"),
        "{}",
        refused.message()
    );
    space.end().await
}

async fn of_patches(subject: &Subject) -> anyhow::Result<()> {
    let space = subject.namespace("options").await?;
    subject.post(&space.of("apps/v1", "deployments"), &deployment("d")).await?.expect(201)?;
    let path = space.of("apps/v1", "deployments/d?dryRun=All");
    let unknown = json!({"spec": {"nothing": 1}});
    let added = json!([{"op": "add", "path": "/spec/nothing", "value": 1}]);
    for (kind, patch) in [("merge", &unknown), ("strategic-merge", &unknown), ("json", &added)] {
        let warned = subject.patch(&path, kind, patch).await?;
        ensure!(warned.warnings() == ["unknown field \"spec.nothing\""], "{kind}: {:?}", warned.warnings());
        warned.expect(200)?;
        let strict = subject.patch(&format!("{path}&fieldValidation=Strict"), kind, patch).await?;
        strict.refused(422, "Invalid")?;
        let cause = &strict.json["details"]["causes"][0];
        ensure!(cause["field"] == "patch", "{kind}: {cause}");
        let message = cause["message"].as_str().unwrap_or_default();
        ensure!(
            message.ends_with("strict decoding error: unknown field \"spec.nothing\""),
            "{kind}: {message}"
        );
    }
    let twice = r#"{"spec": {"paused": true, "paused": false}}"#;
    let headers = [("content-type", "application/merge-patch+json")];
    let warned = subject.send(http::Method::PATCH, &path, &headers, twice).await?;
    ensure!(warned.warnings() == ["duplicate field \"spec.paused\""], "{:?}", warned.warnings());
    let one = json!({"op": "add", "path": "/metadata/annotations", "value": {"x": "y"}});
    let many = Value::Array(vec![one; 10_001]);
    subject.patch(&path, "json", &many).await?.refused(413, "RequestEntityTooLarge")?;
    for (step, code) in [
        (json!({"op": "bogus", "path": "/a"}), 422),
        (json!({"op": "add", "path": "/metadata/nothing/x", "value": "y"}), 422),
        (json!({"op": "remove", "path": "/spec/template/spec/containers/5"}), 422),
        (json!({"op": "test", "path": "/spec/template/spec/containers/-1/name", "value": "two"}), 200),
        (json!({"op": "replace", "path": "/metadata/nothing", "value": "y"}), 200),
        (json!({"op": "move", "from": "/spec/paused", "path": "/spec/replicas"}), 422),
    ] {
        let answer = subject.patch(&path, "json", &json!([step])).await?;
        ensure!(answer.code == code, "{step}: {code} expected, not {}: {}", answer.code, answer.json);
    }
    let headers = [("content-type", "application/json")];
    let plain = subject.send(http::Method::PATCH, &path, &headers, "{}").await?;
    plain.refused(415, "UnsupportedMediaType")?;
    let stale = json!({"metadata": {"resourceVersion": "1", "labels": {"a": "b"}}});
    subject.patch(&space.of("apps/v1", "deployments/d"), "merge", &stale).await?.refused(409, "Conflict")?;
    space.end().await
}

async fn identities(subject: &Subject) -> anyhow::Result<()> {
    let space = subject.namespace("options").await?;
    let (all, one) = (space.core("configmaps"), space.core("configmaps/a"));
    subject.post(&all, &config_map("a", "1")).await?.expect(201)?;
    let mut nameless = config_map("a", "2");
    nameless["metadata"] = json!({});
    let refused = subject.put(&one, &nameless).await?;
    refused.refused(400, "BadRequest")?;
    let message = "the name of the object (a based on URL) was undeterminable: name must be provided";
    ensure!(refused.message() == message, "{}", refused.message());
    for (key, value) in [("kind", "Secret"), ("apiVersion", "v2")] {
        let mut other = config_map("b", "1");
        other[key] = json!(value);
        subject.post(&all, &other).await?.refused(400, "BadRequest")?;
    }
    let mut elsewhere = config_map("a", "1");
    elsewhere["metadata"]["namespace"] = json!("other");
    for answer in [subject.post(&all, &elsewhere).await?, subject.put(&one, &elsewhere).await?] {
        answer.refused(400, "BadRequest")?;
        let message = "the namespace of the provided object does not match the namespace sent on the request";
        ensure!(answer.message() == message, "{}", answer.message());
    }
    // What says nothing of its kind is taken for what the path is about.
    let silent = json!({"metadata": {"name": "silent"}});
    let made = subject.post(&all, &silent).await?.expect(201)?;
    ensure!(made["kind"] == "ConfigMap" && made["apiVersion"] == "v1", "{made}");
    for key in ["uid", "creationTimestamp", "deletionTimestamp"] {
        let mut set = config_map(&format!("set-{}", key.to_lowercase()), "1");
        set["metadata"][key] = json!("2001-01-01T00:00:00Z");
        let made = subject.post(&all, &set).await?.expect(201)?;
        ensure!(made["metadata"][key] != set["metadata"][key], "only the server sets {key}: {made}");
    }
    let absent = "/api/v1/namespaces/nothing-of-the-kind/configmaps";
    let refused = subject.post(absent, &config_map("a", "1")).await?;
    refused.refused(404, "NotFound")?;
    ensure!(refused.message() == "namespaces \"nothing-of-the-kind\" not found", "{}", refused.message());
    ensure!(subject.get(absent).await?.expect(200)?["items"] == json!([]));
    space.end().await
}

async fn metadata(subject: &Subject) -> anyhow::Result<()> {
    let space = subject.namespace("options").await?;
    let owner = |kind: &str, uid: &str| json!({"apiVersion": "v1", "kind": kind, "name": "p", "uid": uid, "controller": true});
    for (metadata, field) in [
        (json!({"name": "x".repeat(254)}), "metadata.name"),
        (json!({"name": "a/b"}), "metadata.name"),
        (json!({"generateName": "Bad_"}), "metadata.generateName"),
        (json!({"name": "a", "labels": {"a b": "c"}}), "metadata.labels"),
        (json!({"name": "a", "labels": {"a": "b c"}}), "metadata.labels"),
        (json!({"name": "a", "annotations": {"/": "c"}}), "metadata.annotations"),
        (json!({"name": "a", "annotations": {"a": "x".repeat(256 << 10)}}), "metadata.annotations"),
        (json!({"name": "a", "finalizers": ["unqualified"]}), "metadata.finalizers[0]"),
        (json!({"name": "a", "finalizers": ["orphan", "foregroundDeletion"]}), "metadata.finalizers"),
        (json!({"name": "a", "ownerReferences": [owner("Pod", "")]}), "metadata.ownerReferences.uid"),
        (json!({"name": "a", "ownerReferences": [owner("Event", "1")]}), "metadata.ownerReferences"),
        (
            json!({"name": "a", "ownerReferences": [owner("Pod", "1"), owner("Pod", "2")]}),
            "metadata.ownerReferences",
        ),
    ] {
        let body = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata});
        let refused = subject.post(&space.core("configmaps"), &body).await?;
        refused.refused(422, "Invalid")?;
        let causes = refused.json["details"]["causes"].as_array().cloned().unwrap_or_default();
        ensure!(causes.iter().any(|cause| cause["field"] == field), "{field}: {}", refused.json);
    }
    space.end().await
}

async fn sizes(subject: &Subject) -> anyhow::Result<()> {
    let space = subject.namespace("options").await?;
    let mut big = config_map("big", "1");
    big["data"]["key"] = json!("x".repeat((1 << 20) + 1));
    let refused = subject.post(&space.core("configmaps"), &big).await?;
    refused.refused(422, "Invalid")?;
    let cause = &refused.json["details"]["causes"][0];
    ensure!(cause["message"] == "Too long: may not be more than 1048576 bytes", "{cause}");
    big["data"]["key"] = json!("x".repeat(3 << 20));
    let refused = subject.post(&space.core("configmaps"), &big).await?;
    refused.refused(413, "RequestEntityTooLarge")?;
    ensure!(refused.message() == "Request entity too large: limit is 3145728", "{}", refused.message());
    space.end().await
}

async fn of_lists(subject: &Subject) -> anyhow::Result<()> {
    let all = "/api/v1/namespaces/default/configmaps";
    for (query, code, message) in [
        ("limit=x", 400, "strconv.ParseInt: parsing \"x\": invalid syntax"),
        (
            "fieldSelector=spec.x%3D1",
            400,
            "\"spec.x\" is not a known field selector: only \"metadata.name\", \"metadata.namespace\"",
        ),
        ("labelSelector=%3D", 400, "expected: !, identifier, or 'end of string'"),
        ("resourceVersion=-1", 400, "invalid resource version"),
        (
            "resourceVersionMatch=Exact",
            422,
            "resourceVersionMatch is forbidden unless resourceVersion is provided",
        ),
        (
            "resourceVersionMatch=Foo&resourceVersion=1",
            422,
            "Unsupported value: \"Foo\": supported values: \"Exact\", \"NotOlderThan\", \"\"",
        ),
        ("sendInitialEvents=true", 422, "sendInitialEvents is forbidden for list"),
        ("continue=abc", 400, "continue key is not valid"),
    ] {
        let refused = subject.get(&format!("{all}?{query}")).await?;
        ensure!(
            refused.code == code && refused.message().contains(message),
            "{query}: {code} {message:?} expected, not {} {}",
            refused.code,
            refused.json
        );
    }
    Ok(())
}
