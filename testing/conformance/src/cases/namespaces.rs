//! Namespaces as objects: labels, status, finalizers.

use anyhow::ensure;
use serde_json::{Value, json};

use crate::case;
use crate::case::Case;
use crate::subject::{Subject, text};

pub(super) const CASES: &[Case] = &[
    case!(
        "namespaces/are patched and updated",
        ApiServer,
        [
            "Namespaces [Serial] should patch a Namespace",
            "Namespaces [Serial] should apply an update to a Namespace",
        ],
        changed
    ),
    case!(
        "namespaces/have a status of their own",
        ApiServer,
        ["Namespaces [Serial] should apply changes to a namespace status"],
        status
    ),
    case!(
        "namespaces/finalizers are written by finalizing",
        ApiServer,
        ["Namespaces [Serial] should apply a finalizer to a Namespace"],
        finalizers
    ),
    case!("namespaces/some cannot be deleted", ApiServer, [], immortal),
];

fn path(space: &crate::subject::Namespace<'_>) -> String {
    format!("/api/v1/namespaces/{}", space.name)
}

/// Reads, changes and puts until nobody wrote in between.
async fn put(
    subject: &Subject,
    path: &str,
    onto: &str,
    change: impl Fn(&mut Value),
) -> anyhow::Result<Value> {
    loop {
        let mut object = subject.get(path).await?.expect(200)?;
        change(&mut object);
        let answer = subject.put(onto, &object).await?;
        if answer.code != 409 {
            return answer.expect(200);
        }
    }
}

async fn changed(subject: &Subject) -> anyhow::Result<()> {
    let space = subject.namespace("namespaces").await?;
    let path = path(&space);
    let before = subject.get(&path).await?.expect(200)?;
    let label = &before["metadata"]["labels"]["kubernetes.io/metadata.name"];
    ensure!(*label == *space.name, "a namespace is labelled with its name: {}", before["metadata"]);
    let patch = json!({"metadata": {"labels": {"testLabel": "testValue"}}});
    let patched = subject.patch(&path, "strategic-merge", &patch).await?.expect(200)?;
    let version =
        |object: &Value| -> anyhow::Result<u64> { Ok(text(object, "/metadata/resourceVersion")?.parse()?) };
    ensure!(version(&patched)? > version(&before)?, "{}", patched["metadata"]);
    let read = subject.get(&path).await?.expect(200)?;
    ensure!(read["metadata"]["labels"]["testLabel"] == "testValue", "{}", read["metadata"]);
    let updated =
        put(subject, &path, &path, |object| object["metadata"]["labels"]["updated"] = json!("yes")).await?;
    ensure!(updated["metadata"]["labels"]["updated"] == "yes", "{}", updated["metadata"]);
    let relabel = json!({"metadata": {"labels": {"kubernetes.io/metadata.name": "other"}}});
    let kept = subject.patch(&path, "merge", &relabel).await?.expect(200)?;
    ensure!(kept["metadata"]["labels"]["kubernetes.io/metadata.name"] == *space.name, "{}", kept["metadata"]);
    space.end().await
}

async fn status(subject: &Subject) -> anyhow::Result<()> {
    let space = subject.namespace("namespaces").await?;
    let (path, status) = (path(&space), format!("{}/status", path(&space)));
    let read = subject.get(&status).await?.expect(200)?;
    ensure!(read["status"]["phase"] == "Active", "{}", read["status"]);
    let condition =
        |kind: &str| json!({"type": kind, "status": "True", "reason": "Told", "message": "by a test"});
    let patch = json!({
        "metadata": {"annotations": {"patched-status": "yes"}},
        "status": {"conditions": [condition("StatusPatch")]},
    });
    let patched = subject.patch(&status, "merge", &patch).await?.expect(200)?;
    ensure!(patched["metadata"]["annotations"]["patched-status"] == "yes", "{}", patched["metadata"]);
    ensure!(patched["status"]["conditions"][0]["reason"] == "Told", "{}", patched["status"]);
    let add = |object: &mut Value| {
        if let Some(conditions) = object["status"]["conditions"].as_array_mut() {
            conditions.push(condition("StatusUpdate"));
        }
    };
    let updated = put(subject, &status, &status, add).await?;
    let mut conditions = updated["status"]["conditions"].as_array().into_iter().flatten();
    ensure!(conditions.any(|one| one["type"] == "StatusUpdate"), "{}", updated["status"]);
    let patch = json!({"status": {"conditions": null}});
    let main = subject.patch(&path, "merge", &patch).await?.expect(200)?;
    ensure!(main["status"]["conditions"].is_array(), "the status was written through the object: {main}");
    space.end().await
}

async fn finalizers(subject: &Subject) -> anyhow::Result<()> {
    const OURS: &str = "example.com/conformance";
    let space = subject.namespace("namespaces").await?;
    let (path, finalize) = (path(&space), format!("{}/finalize", path(&space)));
    let ours = |object: &Value| {
        object["spec"]["finalizers"].as_array().is_some_and(|all| all.iter().any(|one| one == OURS))
    };
    let add = |object: &mut Value| {
        if let Some(all) = object["spec"]["finalizers"].as_array_mut() {
            all.push(json!(OURS));
        }
    };
    let kept = put(subject, &path, &path, add).await?;
    ensure!(!ours(&kept), "only finalizing writes them: {}", kept["spec"]);
    let added = put(subject, &path, &finalize, add).await?;
    ensure!(ours(&added), "{}", added["spec"]);
    subject.delete(&path).await?.expect(200)?;
    let held = subject.get(&path).await?.expect(200)?;
    ensure!(held["status"]["phase"] == "Terminating" && ours(&held), "{held}");
    let remove = |object: &mut Value| {
        if let Some(all) = object["spec"]["finalizers"].as_array_mut() {
            all.retain(|one| one != OURS);
        }
    };
    let removed = put(subject, &path, &finalize, remove).await?;
    ensure!(!ours(&removed), "{}", removed["spec"]);
    Ok(())
}

async fn immortal(subject: &Subject) -> anyhow::Result<()> {
    for name in ["default", "kube-system", "kube-public"] {
        let refused = subject.delete(&format!("/api/v1/namespaces/{name}?dryRun=All")).await?;
        refused.refused(403, "Forbidden")?;
        let wanted = format!("namespaces \"{name}\" is forbidden: this namespace may not be deleted");
        ensure!(refused.message() == wanted, "{wanted:?} expected, not {:?}", refused.message());
    }
    Ok(())
}
