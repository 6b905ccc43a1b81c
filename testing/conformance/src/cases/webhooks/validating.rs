//! Webhooks that admit or deny.

use anyhow::ensure;
use http::Method;
use serde_json::{Value, json};

use super::stage::{Sort, Stage, denied};
use crate::custom_kind::{CustomKind, DEFINITIONS, definition, fresh_group, open_version};
use crate::subject::Subject;

fn pod(name: &str, container: &str, label: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"unwanted": label}},
        "spec": {"nodeSelector": {"example.com/nowhere": "x"}, "containers": [{"name": container, "image": "example.com/c:1"}]},
    })
}

pub(super) async fn pods_and_config_maps(subject: &Subject) -> anyhow::Result<()> {
    let stage = &Stage::new(subject).await?;
    let outcome = async {
        let mut pods = stage.hook("/pods", &["CREATE"], "", &["pods"]);
        pods["timeoutSeconds"] = json!(1);
        let maps = stage.hook("/config-maps", &["CREATE", "UPDATE"], "", &["configmaps"]);
        stage.configure(Sort::Validating, "deny", vec![pods, maps]).await?;
        let unwanted = subject.post(&stage.space.core("pods"), &pod("p", "unwanted", "yes")).await?;
        denied(
            &unwanted,
            "pods",
            "the pod contains unwanted container name; the pod contains unwanted label",
        )?;
        let hanging = subject.post(&stage.space.core("pods"), &pod("p", "c", "hang")).await?;
        ensure!(hanging.code == 500, "a webhook that hangs: {} {}", hanging.code, hanging.json);
        ensure!(hanging.message().contains("context deadline exceeded"), "{}", hanging.message());
        subject.get(&stage.space.core("pods/p")).await?.refused(404, "NotFound")?;
        subject.post(&stage.space.core("pods"), &pod("p", "c", "no")).await?.expect(201)?;
        let fault = "the configmap contains unwanted key and value";
        denied(&stage.config_map("a", json!({"unwanted": "x"})).await?, "config-maps", fault)?;
        let mut admitted = stage.config_map("a", json!({"admit": "this"})).await?.expect(201)?;
        let path = stage.space.core("configmaps/a");
        admitted["data"]["unwanted"] = json!("x");
        denied(&subject.put(&path, &admitted).await?, "config-maps", fault)?;
        let patch = json!({"data": {"unwanted": "x"}});
        for kind in ["merge", "strategic-merge"] {
            denied(&subject.patch(&path, kind, &patch).await?, "config-maps", fault)?;
        }
        let elsewhere = subject.namespace("webhooks").await?;
        let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"unwanted": "x"}});
        subject.post(&elsewhere.core("configmaps"), &map).await?.expect(201)?;
        elsewhere.end().await
    };
    stage.end(outcome.await).await
}

pub(super) async fn connections(subject: &Subject) -> anyhow::Result<()> {
    let stage = &Stage::new(subject).await?;
    let outcome = async {
        let mut hook = stage.hook("/attach", &["CONNECT"], "", &["pods/attach"]);
        // Options of a connection have no labels: a selector, whichever, would never choose them.
        hook["objectSelector"] = json!({});
        let mut labelled = stage.hook("/deny", &["CONNECT"], "", &["pods/attach"]);
        labelled["name"] = json!("aa.example.com");
        stage.configure(Sort::Validating, "attach", vec![hook, labelled]).await?;
        subject.post(&stage.space.core("pods"), &pod("p", "c", "no")).await?.expect(201)?;
        let path = stage.space.core("pods/p/attach?container=c&stdout=true");
        let answer = subject.send(Method::POST, &path, &[], "").await?;
        denied(&answer, "attach", "attaching to pod 'p' is not allowed")?;
        let calls = stage.calls("/attach");
        let review = calls.last().map(|call| call.body["request"].clone()).unwrap_or_default();
        ensure!(review["operation"] == "CONNECT" && review["subResource"] == "attach", "{review}");
        ensure!(
            review["object"]["kind"] == "PodAttachOptions" && review["object"]["container"] == "c",
            "{review}"
        );
        Ok(())
    };
    stage.end(outcome.await).await
}

pub(super) async fn custom_resources(subject: &Subject) -> anyhow::Result<()> {
    let kind = CustomKind::define(subject, &[open_version("v1", true)], &json!({})).await?;
    let stage = &Stage::new(subject).await?;
    let outcome = async {
        let hook = stage.hook("/custom", &["CREATE", "UPDATE", "DELETE"], &kind.group, &["widgets"]);
        stage.configure(Sort::Validating, "custom", vec![hook]).await?;
        let objects = kind.objects("v1", &stage.space.name);
        let widget = |value: &str| kind.object("v1", "w", &json!({"data": {"key": value}}));
        let fault = "the custom resource contains unwanted data";
        denied(&subject.post(&objects, &widget("unwanted")).await?, "custom", fault)?;
        let mut made = subject.post(&objects, &widget("kept")).await?.expect(201)?;
        let one = format!("{objects}/w");
        made["data"]["key"] = json!("unwanted");
        denied(&subject.put(&one, &made).await?, "custom", fault)?;
        let kept = "the custom resource cannot be deleted because it contains unwanted key and value";
        denied(&subject.delete(&one).await?, "custom", kept)?;
        let patch = json!({"data": {"key": "any"}});
        subject.patch(&one, "merge", &patch).await?.expect(200)?;
        subject.delete(&one).await?.expect(200)?;
        Ok(())
    };
    stage.end(outcome.await).await?;
    kind.end().await
}

pub(super) async fn definitions(subject: &Subject) -> anyhow::Result<()> {
    let stage = &Stage::new(subject).await?;
    let outcome = async {
        let group = "apiextensions.k8s.io";
        let hook = stage.hook_of_cluster("/deny", &["CREATE"], group, &["customresourcedefinitions"]);
        stage.configure(Sort::Validating, "definitions", vec![hook]).await?;
        let mut definition = definition(&fresh_group(), &[open_version("v1", true)], &json!({}));
        definition["metadata"]["labels"] = stage.label();
        denied(&subject.post(DEFINITIONS, &definition).await?, "deny", "this webhook denies all")
    };
    stage.end(outcome.await).await
}

pub(super) async fn unreachable(subject: &Subject) -> anyhow::Result<()> {
    let stage = &Stage::new(subject).await?;
    let outcome = async {
        let untrusted = |policy: &str| {
            let mut hook = stage.hook("/anything", &["CREATE"], "", &["configmaps"]);
            let fields = hook["clientConfig"].as_object_mut();
            fields.map(|fields| fields.remove("caBundle"));
            hook["failurePolicy"] = json!(policy);
            hook
        };
        let closed = stage.configure(Sort::Validating, "closed", vec![untrusted("Fail")]).await?;
        let refused = stage.config_map("a", json!({})).await?;
        refused.refused(500, "InternalError")?;
        let wanted = "Internal error occurred: failed calling webhook \"anything.example.com\": failed to call webhook: ";
        ensure!(refused.message().starts_with(wanted), "{}", refused.message());
        subject.delete(&closed).await?.expect(200)?;
        stage.configure(Sort::Validating, "open", vec![untrusted("Ignore")]).await?;
        stage.until(json!({}), |answer| answer.code == 201).await?;
        ensure!(
            stage.calls("/anything").is_empty(),
            "a server whose certificate nobody vouches for was told"
        );
        Ok(())
    };
    stage.end(outcome.await).await
}

pub(super) async fn timeouts(subject: &Subject) -> anyhow::Result<()> {
    let stage = &Stage::new(subject).await?;
    let outcome = async {
        for (end, timeout, policy, admitted) in [
            ("short", json!(1), "Fail", false),
            ("ignored", json!(1), "Ignore", true),
            ("long", json!(10), "Fail", true),
            ("default", Value::Null, "Fail", true),
        ] {
            let mut hook = stage.hook("/slow", &["CREATE"], "", &["configmaps"]);
            hook["timeoutSeconds"] = timeout;
            hook["failurePolicy"] = json!(policy);
            let path = stage.configure(Sort::Validating, end, vec![hook]).await?;
            let defaulted = subject.get(&path).await?.expect(200)?;
            ensure!(end != "default" || defaulted["webhooks"][0]["timeoutSeconds"] == 10, "{defaulted}");
            let answer = stage.config_map(end, json!({})).await?;
            if admitted {
                answer.expect(201)?;
            } else {
                answer.refused(500, "InternalError")?;
                ensure!(answer.message().contains("context deadline exceeded"), "{}", answer.message());
            }
            subject.delete(&path).await?.expect(200)?;
        }
        Ok(())
    };
    stage.end(outcome.await).await
}

/// What a webhook hears, and what of its answer the client hears.
pub(super) async fn reviews(subject: &Subject) -> anyhow::Result<()> {
    let stage = &Stage::new(subject).await?;
    let outcome = async {
        let named = |path: &str, value: &str| {
            let mut hook = stage.hook(path, &["CREATE", "UPDATE", "DELETE"], "", &["configmaps"]);
            hook["matchConditions"] =
                json!([{"name": "named", "expression": format!("request.name == '{value}'")}]);
            hook
        };
        let hooks =
            vec![named("/silently-deny", "silent"), named("/teapot", "teapot"), named("/warn", "warned")];
        stage.configure(Sort::Validating, "reviews", hooks).await?;
        let silent = stage.config_map("silent", json!({})).await?;
        let wanted = "admission webhook \"silently-deny.example.com\" denied the request without explanation";
        ensure!(silent.code == 400 && silent.message() == wanted, "{} {}", silent.code, silent.json);
        let teapot = stage.config_map("teapot", json!({})).await?;
        teapot.refused(418, "Teapot")?;
        let warned = stage.config_map("warned", json!({"k": "1"})).await?;
        ensure!(warned.code == 201 && warned.warnings() == ["this is a warning"], "{:?}", warned.warnings());
        let path = stage.space.core("configmaps/warned");
        subject.patch(&path, "merge", &json!({"data": {"k": "2"}})).await?.expect(200)?;
        subject.delete(&path).await?.expect(200)?;
        let calls = stage.calls("/warn");
        let told = |operation: &str| {
            let mut requests = calls.iter().map(|call| &call.body["request"]);
            requests.find(|request| request["operation"] == operation).cloned().unwrap_or_default()
        };
        let (create, update, delete) = (told("CREATE"), told("UPDATE"), told("DELETE"));
        ensure!(create["object"]["data"]["k"] == "1" && create["oldObject"].is_null(), "{create}");
        ensure!(
            create["resource"] == json!({"group": "", "version": "v1", "resource": "configmaps"}),
            "{create}"
        );
        ensure!(create["kind"] == json!({"group": "", "version": "v1", "kind": "ConfigMap"}), "{create}");
        ensure!(
            create["namespace"] == *stage.space.name && create["userInfo"]["username"].is_string(),
            "{create}"
        );
        ensure!(create["dryRun"] == false && create["options"]["kind"] == "CreateOptions", "{create}");
        ensure!(update["object"]["data"]["k"] == "2" && update["oldObject"]["data"]["k"] == "1", "{update}");
        ensure!(delete["object"].is_null() && delete["oldObject"]["data"]["k"] == "2", "{delete}");
        Ok(())
    };
    stage.end(outcome.await).await
}
