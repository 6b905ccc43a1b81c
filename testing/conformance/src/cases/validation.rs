//! Strict, warning and ignoring validation of fields; defaults.

use anyhow::ensure;
use serde_json::json;

use super::patches::deployment;
use crate::case;
use crate::case::Case;
use crate::subject::Subject;

pub(super) const CASES: &[Case] = &[
    case!(
        "validation/unknown and duplicate fields, three ways",
        ApiServer,
        [
            "FieldValidation should detect unknown and duplicate fields of a typed object",
            "FieldValidation should detect unknown metadata fields of a typed object",
        ],
        field_validation
    ),
    case!("validation/defaults are filled in", ApiServer, [], defaults),
    case!("validation/a selector cannot be changed", ApiServer, [], immutable),
    case!(
        "validation/immutable data stays",
        ApiServer,
        [
            "ConfigMap should be immutable if `immutable` field is set",
            "Secrets should be immutable if `immutable` field is set",
        ],
        immutable_data
    ),
    case!(
        "validation/the class of service follows from resources",
        ApiServer,
        [
            "Pods Extended Pods Set QOS Class should be set on Pods with matching resource requests and limits for memory and cpu",
        ],
        quality_of_service
    ),
];

async fn field_validation(subject: &Subject) -> anyhow::Result<()> {
    let space = subject.namespace("validation").await?;
    let all = space.of("apps/v1", "deployments");
    let text = deployment("d").to_string().replacen(
        "\"replicas\":0",
        "\"replicas\":0,\"replicas\":1,\"nothing\":1",
        1,
    );
    let headers = [("content-type", "application/json")];
    let send = async |mode: &str| {
        let path = format!("{all}?dryRun=All&fieldValidation={mode}");
        subject.send(http::Method::POST, &path, &headers, text.clone()).await
    };
    let strict = send("Strict").await?;
    strict.refused(400, "BadRequest")?;
    ensure!(strict.message().contains("strict decoding error: "), "{}", strict.json);
    ensure!(strict.message().contains("unknown field \"spec.nothing\""), "{}", strict.json);
    ensure!(strict.message().contains("duplicate field \"spec.replicas\""), "{}", strict.json);
    let warned = send("Warn").await?;
    ensure!(warned.code == 201, "{}", warned.json);
    let warnings = warned.warnings();
    ensure!(warnings.iter().any(|text| text == "unknown field \"spec.nothing\""), "{warnings:?}");
    ensure!(warnings.iter().any(|text| text == "duplicate field \"spec.replicas\""), "{warnings:?}");
    let ignored = send("Ignore").await?;
    ensure!(ignored.code == 201 && ignored.warnings().is_empty(), "{:?}", ignored.warnings());
    let other = send("Sometimes").await?;
    ensure!(matches!(other.code, 400 | 422), "{}", other.json);
    let mut metadata = deployment("d");
    metadata["metadata"]["nothing"] = json!("x");
    let strict = subject.post(&format!("{all}?fieldValidation=Strict"), &metadata).await?;
    strict.refused(400, "BadRequest")?;
    ensure!(strict.message().contains("unknown field \"metadata.nothing\""), "{}", strict.json);
    space.end().await
}

async fn defaults(subject: &Subject) -> anyhow::Result<()> {
    let space = subject.namespace("validation").await?;
    let made = subject.post(&space.of("apps/v1", "deployments"), &deployment("d")).await?.expect(201)?;
    let spec = &made["spec"];
    ensure!(spec["revisionHistoryLimit"] == 10 && spec["progressDeadlineSeconds"] == 600, "{spec}");
    ensure!(
        spec["strategy"]
            == json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "25%", "maxSurge": "25%"}}),
        "{}",
        spec["strategy"]
    );
    let pod = &spec["template"]["spec"];
    ensure!(pod["restartPolicy"] == "Always" && pod["dnsPolicy"] == "ClusterFirst", "{pod}");
    ensure!(
        pod["terminationGracePeriodSeconds"] == 30 && pod["schedulerName"] == "default-scheduler",
        "{pod}"
    );
    let container = &pod["containers"][0];
    ensure!(container["imagePullPolicy"] == "IfNotPresent", "{container}");
    ensure!(container["terminationMessagePath"] == "/dev/termination-log", "{container}");
    space.end().await
}

async fn immutable(subject: &Subject) -> anyhow::Result<()> {
    let space = subject.namespace("validation").await?;
    subject.post(&space.of("apps/v1", "deployments"), &deployment("d")).await?.expect(201)?;
    let patch = json!({"spec": {"selector": {"matchLabels": {"more": "x"}}, "template": {"metadata": {"labels": {"more": "x"}}}}});
    let refused = subject.patch(&space.of("apps/v1", "deployments/d"), "merge", &patch).await?;
    refused.refused(422, "Invalid")?;
    let cause = &refused.json["details"]["causes"][0];
    ensure!(cause["field"] == "spec.selector" && cause["reason"] == "FieldValueInvalid", "{cause}");
    ensure!(cause["message"].as_str().is_some_and(|text| text.ends_with("field is immutable")), "{cause}");
    space.end().await
}

async fn immutable_data(subject: &Subject) -> anyhow::Result<()> {
    let space = subject.namespace("validation").await?;
    for (kind, resource, value) in [("ConfigMap", "configmaps", "x"), ("Secret", "secrets", "eA==")] {
        let body = json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": "a"}, "immutable": true, "data": {"k": value}});
        subject.post(&space.core(resource), &body).await?.expect(201)?;
        let path = space.core(&format!("{resource}/a"));
        let refused = subject.patch(&path, "merge", &json!({"data": {"k": "eQ=="}})).await?;
        refused.refused(422, "Invalid")?;
        ensure!(refused.json["details"]["causes"][0]["field"] == "data", "{}", refused.json);
        let unset = subject.patch(&path, "merge", &json!({"immutable": false})).await?;
        unset.refused(422, "Invalid")?;
        subject.patch(&path, "merge", &json!({"metadata": {"labels": {"l": "1"}}})).await?.expect(200)?;
        subject.delete(&path).await?.expect(200)?;
    }
    space.end().await
}

async fn quality_of_service(subject: &Subject) -> anyhow::Result<()> {
    let space = subject.namespace("validation").await?;
    let amounts = json!({"cpu": "100m", "memory": "100Mi"});
    for (name, resources, class) in [
        ("guaranteed", json!({"limits": amounts, "requests": amounts}), "Guaranteed"),
        ("burstable", json!({"requests": {"cpu": "100m"}}), "Burstable"),
        ("best-effort", json!({}), "BestEffort"),
    ] {
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
            "spec": {"nodeSelector": {"example.com/nowhere": "x"}, "containers": [
                {"name": "c", "image": "example.com/c:1", "resources": resources},
            ]},
        });
        let made = subject.post(&space.core("pods"), &pod).await?.expect(201)?;
        ensure!(made["status"]["qosClass"] == class, "{name}: {}", made["status"]);
        ensure!(made["status"]["phase"] == "Pending", "{}", made["status"]);
    }
    space.end().await
}
