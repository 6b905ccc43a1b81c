//! Webhooks that change what is written.

use anyhow::ensure;
use serde_json::{Value, json};

use super::stage::{Sort, Stage};
use crate::custom_kind::{CustomKind, open_version, version};
use crate::subject::Subject;

pub(super) async fn in_order(subject: &Subject) -> anyhow::Result<()> {
    let stage = &Stage::new(subject).await?;
    let outcome = async {
        let hooks = ["/stage-1", "/stage-2"].map(|path| stage.hook(path, &["CREATE"], "", &["configmaps"]));
        stage.configure(Sort::Mutating, "ordered", hooks.to_vec()).await?;
        let made = stage.config_map("a", json!({"start": "yes"})).await?.expect(201)?;
        let wanted = json!({"start": "yes", "stage-1": "yes", "stage-2": "yes"});
        ensure!(made["data"] == wanted, "{wanted} expected, not {}", made["data"]);
        let untouched = stage.config_map("b", json!({"other": "yes"})).await?.expect(201)?;
        ensure!(untouched["data"] == json!({"other": "yes"}), "{}", untouched["data"]);
        Ok(())
    };
    stage.end(outcome.await).await
}

pub(super) async fn defaulted(subject: &Subject) -> anyhow::Result<()> {
    let stage = &Stage::new(subject).await?;
    let outcome = async {
        let hook = stage.hook("/init-container", &["CREATE"], "", &["pods"]);
        stage.configure(Sort::Mutating, "pods", vec![hook]).await?;
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"},
            "spec": {"nodeSelector": {"example.com/nowhere": "x"}, "containers": [{"name": "c", "image": "example.com/c:1"}]},
        });
        let made = subject.post(&stage.space.core("pods"), &pod).await?.expect(201)?;
        let added = &made["spec"]["initContainers"];
        ensure!(
            added.as_array().is_some_and(|list| list.len() == 1) && added[0]["name"] == "added",
            "{added}"
        );
        ensure!(added[0]["terminationMessagePolicy"] == "File", "not defaulted: {added}");
        ensure!(added[0]["imagePullPolicy"] == "IfNotPresent", "not defaulted: {added}");
        Ok(())
    };
    stage.end(outcome.await).await
}

/// Both stages for the widgets of a kind.
fn stages(stage: &Stage<'_>, kind: &CustomKind<'_>) -> Vec<Value> {
    ["/stage-1", "/stage-2"]
        .map(|path| stage.hook(path, &["CREATE", "UPDATE"], &kind.group, &["widgets"]))
        .to_vec()
}

pub(super) async fn custom_resources(subject: &Subject) -> anyhow::Result<()> {
    let kind = CustomKind::define(subject, &[open_version("v1", true)], &json!({})).await?;
    let wanted = json!({"start": "yes", "stage-1": "yes", "stage-2": "yes"});
    created(subject, &kind, &wanted).await?;
    kind.end().await
}

pub(super) async fn pruned(subject: &Subject) -> anyhow::Result<()> {
    let text = json!({"type": "string"});
    let schema = json!({"type": "object", "properties": {"data": {
        "type": "object", "properties": {"start": text, "stage-1": text},
    }}});
    let kind = CustomKind::define(subject, &[version("v1", true, schema)], &json!({})).await?;
    created(subject, &kind, &json!({"start": "yes", "stage-1": "yes"})).await?;
    kind.end().await
}

async fn created(subject: &Subject, kind: &CustomKind<'_>, wanted: &Value) -> anyhow::Result<()> {
    let stage = &Stage::new(subject).await?;
    let outcome = async {
        stage.configure(Sort::Mutating, "custom", stages(stage, kind)).await?;
        let widget = kind.object("v1", "w", &json!({"data": {"start": "yes"}}));
        let made = subject.post(&kind.objects("v1", &stage.space.name), &widget).await?.expect(201)?;
        ensure!(made["data"] == *wanted, "{wanted} expected, not {}", made["data"]);
        Ok(())
    };
    stage.end(outcome.await).await
}

pub(super) async fn stored_version(subject: &Subject) -> anyhow::Result<()> {
    let versions = |second: bool| [open_version("v1", !second), open_version("v2", second)];
    let kind = CustomKind::define(subject, &versions(false), &json!({})).await?;
    let stage = &Stage::new(subject).await?;
    let outcome = async {
        stage.configure(Sort::Mutating, "custom", stages(stage, &kind)).await?;
        let objects = kind.objects("v1", &stage.space.name);
        let widget = kind.object("v1", "w", &json!({"data": {"start": "yes"}}));
        subject.post(&objects, &widget).await?.expect(201)?;
        let patch = json!({"spec": {"versions": versions(true)}});
        let changed = subject.patch(&kind.definition_path(), "merge", &patch).await?.expect(200)?;
        ensure!(changed["spec"]["versions"][1]["storage"] == true, "{changed}");
        let stored =
            |answer: &crate::subject::Answer| answer.json["status"]["storedVersions"] == json!(["v1", "v2"]);
        subject.wait_for(&kind.definition_path(), stored).await?;
        let one = format!("{objects}/w");
        let patched =
            subject.patch(&one, "merge", &json!({"data": {"other": "dummy"}})).await?.expect(200)?;
        let wanted = json!({"start": "yes", "stage-1": "yes", "stage-2": "yes", "other": "dummy"});
        ensure!(patched["data"] == wanted, "{wanted} expected, not {}", patched["data"]);
        let second = format!("{}/w", kind.objects("v2", &stage.space.name));
        let second = subject.get(&second).await?.expect(200)?;
        ensure!(second["data"] == wanted && second["apiVersion"] == format!("{}/v2", kind.group), "{second}");
        Ok(())
    };
    stage.end(outcome.await).await?;
    kind.end().await
}

pub(super) async fn conditions(subject: &Subject) -> anyhow::Result<()> {
    let stage = &Stage::new(subject).await?;
    let outcome = async {
        let mut hook = stage.hook("/stage-1", &["CREATE"], "", &["configmaps"]);
        hook["matchConditions"] =
            json!([{"name": "skip-me", "expression": "object.metadata.name != 'skip-me'"}]);
        stage.configure(Sort::Mutating, "conditions", vec![hook]).await?;
        let made = stage.config_map("any", json!({"start": "yes"})).await?.expect(201)?;
        ensure!(made["data"] == json!({"start": "yes", "stage-1": "yes"}), "{}", made["data"]);
        let skipped = stage.config_map("skip-me", json!({"start": "yes"})).await?.expect(201)?;
        ensure!(skipped["data"] == json!({"start": "yes"}), "{}", skipped["data"]);
        Ok(())
    };
    stage.end(outcome.await).await
}

/// The first webhook misses what the second adds, unless it may be asked again.
pub(super) async fn again(subject: &Subject) -> anyhow::Result<()> {
    let stage = &Stage::new(subject).await?;
    let outcome = async {
        for (policy, wanted) in [
            ("Never", json!({"given": "yes", "start": "yes"})),
            ("IfNeeded", json!({"given": "yes", "start": "yes", "stage-1": "yes"})),
        ] {
            let mut first = stage.hook("/stage-1", &["CREATE"], "", &["configmaps"]);
            first["reinvocationPolicy"] = json!(policy);
            let second = stage.hook("/start", &["CREATE"], "", &["configmaps"]);
            let end = policy.to_lowercase();
            let path = stage.configure(Sort::Mutating, &end, vec![first, second]).await?;
            let made = stage.config_map(&end, json!({"given": "yes"})).await?.expect(201)?;
            ensure!(made["data"] == wanted, "{policy}: {wanted} expected, not {}", made["data"]);
            subject.delete(&path).await?.expect(200)?;
            stage.until(json!({"given": "yes"}), |answer| answer.json["data"]["start"].is_null()).await?;
        }
        Ok(())
    };
    stage.end(outcome.await).await
}
