//! Configurations of webhooks as objects: listed, changed, validated, and exempt from what they configure.

use anyhow::ensure;
use serde_json::{Value, json};

use super::stage::{BOTH, Sort, Stage};
use crate::subject::{Answer, Subject, text};

const GROUP: &str = "admissionregistration.k8s.io";

pub(super) async fn discovered(subject: &Subject) -> anyhow::Result<()> {
    let groups = subject.get("/apis").await?.expect(200)?;
    let listed = groups["groups"].as_array().into_iter().flatten().find(|one| one["name"] == GROUP);
    let alone = subject.get(&format!("/apis/{GROUP}")).await?.expect(200)?;
    for group in [listed.unwrap_or(&Value::Null), &alone] {
        let mut versions = group["versions"].as_array().into_iter().flatten();
        let v1 = versions.any(|one| one["groupVersion"] == format!("{GROUP}/v1") && one["version"] == "v1");
        ensure!(v1 && group["name"] == GROUP, "no v1 of {GROUP} in {group}");
    }
    let resources = subject.get(&format!("/apis/{GROUP}/v1")).await?.expect(200)?;
    ensure!(resources["groupVersion"] == format!("{GROUP}/v1"), "{resources}");
    for name in ["mutatingwebhookconfigurations", "validatingwebhookconfigurations"] {
        let mut all = resources["resources"].as_array().into_iter().flatten();
        ensure!(all.any(|one| one["name"] == name), "no {name} in {resources}");
    }
    Ok(())
}

pub(super) async fn exempt(subject: &Subject) -> anyhow::Result<()> {
    let stage = &Stage::new(subject).await?;
    let outcome = async {
        let both = ["validatingwebhookconfigurations", "mutatingwebhookconfigurations"];
        let deny = stage.hook_of_cluster("/deny", &["DELETE"], GROUP, &both);
        let label = stage.hook_of_cluster("/label", &["CREATE"], GROUP, &both);
        stage.configure(Sort::Validating, "guard", vec![deny]).await?;
        stage.configure(Sort::Mutating, "guard", vec![label]).await?;
        for sort in BOTH {
            let mut nothing = stage.hook("/nothing", &["CREATE"], "", &["invalid"]);
            nothing["failurePolicy"] = json!("Ignore");
            let configuration = stage.configuration(sort, "guarded", vec![nothing]);
            let made = subject.post(&sort.path(), &configuration).await?.expect(201)?;
            ensure!(made["metadata"]["labels"]["added"].is_null(), "a webhook changed {made}");
            let path = format!("{}/{}", sort.path(), text(&made, "/metadata/name")?);
            subject.delete(&path).await?.expect(200)?;
        }
        ensure!(stage.calls("/deny").is_empty() && stage.calls("/label").is_empty(), "webhooks were asked");
        Ok(())
    };
    stage.end(outcome.await).await
}

/// A sort of webhook for config maps: which, given what, and whether it was at work.
struct Effect {
    sort: Sort,
    path: &'static str,
    data: Value,
    at_work: fn(&Answer) -> bool,
}

fn effect(sort: Sort) -> Effect {
    match sort {
        Sort::Validating => Effect {
            sort,
            path: "/config-maps",
            data: json!({"unwanted": "x"}),
            at_work: |answer| answer.code == 400,
        },
        Sort::Mutating => Effect {
            sort,
            path: "/stage-1",
            data: json!({"start": "yes"}),
            at_work: |answer| answer.json["data"]["stage-1"] == "yes",
        },
    }
}

pub(super) async fn validating_changed(subject: &Subject) -> anyhow::Result<()> {
    changed(subject, effect(Sort::Validating)).await
}

pub(super) async fn mutating_changed(subject: &Subject) -> anyhow::Result<()> {
    changed(subject, effect(Sort::Mutating)).await
}

async fn changed(subject: &Subject, effect: Effect) -> anyhow::Result<()> {
    let stage = &Stage::new(subject).await?;
    let outcome = async {
        let hook = stage.hook(effect.path, &["CREATE"], "", &["configmaps"]);
        let path = stage.configure(effect.sort, "changed", vec![hook]).await?;
        stage.until(effect.data.clone(), effect.at_work).await?;
        let mut configuration = subject.get(&path).await?.expect(200)?;
        configuration["webhooks"][0]["rules"][0]["operations"] = json!(["UPDATE"]);
        let updated = subject.put(&path, &configuration).await?.expect(200)?;
        ensure!(
            updated["metadata"]["generation"] == 2,
            "a change of webhooks counts: {}",
            updated["metadata"]
        );
        stage.until(effect.data.clone(), |answer| !(effect.at_work)(answer)).await?;
        let patch = json!([{"op": "replace", "path": "/webhooks/0/rules/0/operations", "value": ["CREATE"]}]);
        let patched = subject.patch(&path, "json", &patch).await?.expect(200)?;
        let version = |object: &Value| text(object, "/metadata/resourceVersion").map(str::to_owned);
        ensure!(version(&patched)? != version(&updated)?, "{patched}");
        stage.until(effect.data.clone(), effect.at_work).await
    };
    stage.end(outcome.await).await
}

pub(super) async fn validating_listed(subject: &Subject) -> anyhow::Result<()> {
    listed(subject, effect(Sort::Validating)).await
}

pub(super) async fn mutating_listed(subject: &Subject) -> anyhow::Result<()> {
    listed(subject, effect(Sort::Mutating)).await
}

async fn listed(subject: &Subject, effect: Effect) -> anyhow::Result<()> {
    const COUNT: usize = 10;
    let stage = &Stage::new(subject).await?;
    let outcome = async {
        for index in 0..COUNT {
            let hook = stage.hook(effect.path, &["CREATE"], "", &["configmaps"]);
            let configuration = stage.configuration(effect.sort, &index.to_string(), vec![hook]);
            stage.create(effect.sort, &configuration).await?;
            if index + 1 == COUNT {
                stage.in_effect(&configuration).await?;
            }
        }
        let all = format!("{}?labelSelector=conformance%3D{}", effect.sort.path(), stage.space.name);
        let list = subject.get(&all).await?.expect(200)?;
        let count = list["items"].as_array().map_or(0, Vec::len);
        ensure!(count == COUNT, "{count} configurations listed, not {COUNT}");
        stage.until(effect.data.clone(), effect.at_work).await?;
        subject.delete(&all).await?.expect(200)?;
        let list = subject.get(&all).await?.expect(200)?;
        ensure!(list["items"] == json!([]), "left over: {list}");
        stage.until(effect.data.clone(), |answer| !(effect.at_work)(answer)).await
    };
    stage.end(outcome.await).await
}

/// A configuration that no server needs to answer for.
fn unused(sort: Sort, conditions: Value) -> Value {
    let kind = match sort {
        Sort::Validating => "ValidatingWebhookConfiguration",
        Sort::Mutating => "MutatingWebhookConfiguration",
    };
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": kind,
        "metadata": {"name": format!("conformance-{}", uuid::Uuid::new_v4().simple())},
        "webhooks": [{
            "name": "conditions.example.com", "sideEffects": "None", "admissionReviewVersions": ["v1"],
            "clientConfig": {"url": "https://example.com/"}, "failurePolicy": "Ignore",
            "rules": [{"operations": ["CREATE"], "apiGroups": ["example.com"], "apiVersions": ["v1"], "resources": ["invalid"]}],
            "matchConditions": conditions,
        }],
    })
}

pub(super) async fn conditions_kept(subject: &Subject) -> anyhow::Result<()> {
    let condition = |name: &str, space: &str| json!({"name": name, "expression": format!("object.metadata.namespace == '{space}'")});
    for sort in BOTH {
        let one = json!([condition("expression-1", "production")]);
        let two = json!([condition("expression-1", "production"), condition("expression-2", "staging")]);
        let made = subject.post(&sort.path(), &unused(sort, one.clone())).await?.expect(201)?;
        let path = format!("{}/{}", sort.path(), text(&made, "/metadata/name")?);
        let mut read = subject.get(&path).await?.expect(200)?;
        ensure!(read["webhooks"][0]["matchConditions"] == one, "{one} expected, not {read}");
        read["webhooks"][0]["matchConditions"] = two.clone();
        subject.put(&path, &read).await?.expect(200)?;
        let read = subject.get(&path).await?.expect(200)?;
        subject.delete(&path).await?.expect(200)?;
        ensure!(read["webhooks"][0]["matchConditions"] == two, "{two} expected, not {read}");
    }
    Ok(())
}

pub(super) async fn conditions_refused(subject: &Subject) -> anyhow::Result<()> {
    for sort in BOTH {
        let conditions = json!([{"name": "invalid-expression-1", "expression": "... [] bad expression"}]);
        let refused = subject.post(&sort.path(), &unused(sort, conditions)).await?;
        refused.refused(422, "Invalid")?;
        ensure!(refused.message().contains("compilation failed"), "{}", refused.message());
        let field = &refused.json["details"]["causes"][0]["field"];
        ensure!(field == "webhooks[0].matchConditions[0].expression", "{}", refused.json);
    }
    Ok(())
}
