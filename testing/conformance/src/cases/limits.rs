//! What a namespace lets in: limit ranges, quotas, pod security.

use std::time::Duration;

use anyhow::ensure;
use serde_json::{Value, json};

use super::kinds::nowhere;
use super::patches::deployment;
use super::status_errors::config_map;
use crate::case;
use crate::case::Case;
use crate::subject::{Answer, Namespace, Subject};

pub(super) const CASES: &[Case] = &[
    case!(
        "limits/ranges give defaults and refuse what is outside",
        ApiServer,
        ["LimitRange should create a LimitRange with defaults and ensure pod has those defaults applied."],
        ranges
    ),
    case!("limits/ratios, sums and claims", ApiServer, [], ratios),
    case!("limits/ranges that make no sense", ApiServer, [], senseless),
    case!("limits/quotas refuse what would exceed them", Controllers, [], quotas),
    case!(
        "limits/priorities of classes stay",
        ApiServer,
        [
            "SchedulerPreemption [Serial] PriorityClass endpoints verify PriorityClass endpoints can be operated with different HTTP methods",
        ],
        priority_classes
    ),
    case!("limits/pod security refuses", ApiServer, [], security_enforced),
    case!("limits/pod security warns", ApiServer, [], security_warns),
];

fn pod(name: &str, resources: Value) -> Value {
    let mut spec = nowhere();
    spec["containers"][0]["resources"] = resources;
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec})
}

async fn limit(subject: &Subject, space: &Namespace<'_>, limits: Value) -> anyhow::Result<()> {
    let range = json!({"apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "l"}, "spec": {"limits": limits}});
    subject.post(&space.core("limitranges"), &range).await?.expect(201)?;
    Ok(())
}

/// Tries until admission, which may look at a copy that is a moment behind, has seen what was set up.
async fn until(
    subject: &Subject,
    path: &str,
    body: &Value,
    seen: impl Fn(&Answer) -> bool,
) -> anyhow::Result<Answer> {
    loop {
        let answer = subject.post(&format!("{path}?dryRun=All"), body).await?;
        if seen(&answer) {
            return Ok(answer);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn refused(answer: &Answer, name: &str, why: &str) -> anyhow::Result<()> {
    answer.refused(403, "Forbidden")?;
    let message = format!("{name} is forbidden: {why}");
    ensure!(answer.message() == message, "{message:?} expected, not {:?}", answer.message());
    Ok(())
}

async fn ranges(subject: &Subject) -> anyhow::Result<()> {
    let space = subject.namespace("limits").await?;
    let amounts = |cpu: &str, memory: &str, disk: &str| json!({"cpu": cpu, "memory": memory, "ephemeral-storage": disk});
    let limits = json!([{
        "type": "Container", "min": amounts("50m", "100Mi", "100Gi"), "max": amounts("500m", "500Mi", "500Gi"),
        "default": amounts("500m", "500Mi", "500Gi"), "defaultRequest": amounts("100m", "200Mi", "200Gi"),
    }]);
    limit(subject, &space, limits).await?;
    let pods = space.core("pods");
    let resources = |answer: &Answer| answer.json["spec"]["containers"][0]["resources"].clone();
    let wanted =
        json!({"limits": amounts("500m", "500Mi", "500Gi"), "requests": amounts("100m", "200Mi", "200Gi")});
    until(subject, &pods, &pod("p", json!({})), |answer| resources(answer) == wanted).await?;
    let made = subject.post(&pods, &pod("p", json!({}))).await?.expect(201)?;
    let told = &made["metadata"]["annotations"]["kubernetes.io/limit-ranger"];
    ensure!(told.as_str().is_some_and(|text| text.starts_with("LimitRanger plugin set: ")), "{told}");
    let partial =
        json!({"requests": {"memory": "150Mi", "ephemeral-storage": "150Gi"}, "limits": {"cpu": "300m"}});
    let made = subject.post(&pods, &pod("q", partial)).await?;
    let wanted =
        json!({"limits": amounts("300m", "500Mi", "500Gi"), "requests": amounts("300m", "150Mi", "150Gi")});
    ensure!(resources(&made) == wanted, "{wanted} expected, not {}", resources(&made));
    let small = pod("r", json!({"requests": amounts("10m", "50Mi", "50Gi")}));
    subject.post(&pods, &small).await?.refused(403, "Forbidden")?;
    let large = pod("s", json!({"requests": amounts("600m", "600Mi", "600Gi")}));
    let answer = subject.post(&pods, &large).await?;
    ensure!(matches!(answer.code, 403 | 422), "{} {}", answer.code, answer.json);
    let lower =
        json!([{"op": "replace", "path": "/spec/limits/0/min", "value": amounts("9m", "49Mi", "49Gi")}]);
    subject.patch(&space.core("limitranges/l"), "json", &lower).await?.expect(200)?;
    until(subject, &pods, &small, |answer| answer.code == 201).await?;
    subject.delete(&space.core("limitranges/l")).await?.expect(200)?;
    until(subject, &pods, &large, |answer| answer.code == 201).await?;
    space.end().await
}

async fn ratios(subject: &Subject) -> anyhow::Result<()> {
    let space = subject.namespace("limits").await?;
    let limits = json!([
        {
            "type": "Container", "min": {"cpu": "50m"}, "max": {"cpu": "500m"}, "default": {"cpu": "400m"},
            "defaultRequest": {"cpu": "100m"}, "maxLimitRequestRatio": {"cpu": "4"},
        },
        {"type": "Pod", "max": {"cpu": "700m"}},
        {"type": "PersistentVolumeClaim", "min": {"storage": "1Gi"}, "max": {"storage": "2Gi"}},
    ]);
    limit(subject, &space, limits).await?;
    let pods = space.core("pods");
    let cpu = |request: &str, limit: &str| json!({"requests": {"cpu": request}, "limits": {"cpu": limit}});
    let over = until(subject, &pods, &pod("p", cpu("600m", "600m")), |answer| answer.code == 403).await?;
    refused(&over, "pods \"p\"", "maximum cpu usage per Container is 500m, but limit is 600m")?;
    let ratio = subject.post(&pods, &pod("p", cpu("50m", "400m"))).await?;
    let why = "cpu max limit to request ratio per Container is 4, but provided ratio is 8.000000";
    refused(&ratio, "pods \"p\"", why)?;
    let mut two = pod("p", json!({}));
    two["spec"]["containers"] =
        json!([{"name": "a", "image": "example.com/c:1"}, {"name": "b", "image": "example.com/c:1"}]);
    let sum = subject.post(&pods, &two).await?;
    refused(&sum, "pods \"p\"", "maximum cpu usage per Pod is 700m, but limit is 800m")?;
    let claim = json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "c"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "5Gi"}}},
    });
    let large = subject.post(&space.core("persistentvolumeclaims"), &claim).await?;
    let why = "maximum storage usage per PersistentVolumeClaim is 2Gi, but request is 5Gi";
    refused(&large, "persistentvolumeclaims \"c\"", why)?;
    space.end().await
}

async fn senseless(subject: &Subject) -> anyhow::Result<()> {
    let space = subject.namespace("limits").await?;
    for (limit, field) in [
        (json!({"type": "Container", "min": {"cpu": "2"}, "max": {"cpu": "1"}}), "spec.limits[0].min[cpu]"),
        (
            json!({"type": "Container", "default": {"cpu": "2"}, "max": {"cpu": "1"}}),
            "spec.limits[0].default[cpu]",
        ),
        (json!({"type": "Pod", "default": {"cpu": "1"}}), "spec.limits[0].default"),
    ] {
        let range = json!({"apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "l"}, "spec": {"limits": [limit]}});
        let refused = subject.post(&space.core("limitranges"), &range).await?;
        refused.refused(422, "Invalid")?;
        let causes = refused.json["details"]["causes"].as_array().cloned().unwrap_or_default();
        ensure!(causes.iter().any(|cause| cause["field"] == field), "{field}: {}", refused.json);
    }
    let quota = json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "q"}, "spec": {"hard": {"bogus": "1", "pods": "-1"}}});
    let refused = subject.post(&space.core("resourcequotas"), &quota).await?;
    refused.refused(422, "Invalid")?;
    let fields = refused.json["details"]["causes"].to_string();
    ensure!(fields.contains("spec.hard[bogus]") && fields.contains("spec.hard[pods]"), "{fields}");
    space.end().await
}

async fn quotas(subject: &Subject) -> anyhow::Result<()> {
    let space = subject.namespace("limits").await?;
    let hard = json!({"pods": "1", "requests.cpu": "1", "services": "0", "count/secrets": "1"});
    let quota = json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "q"}, "spec": {"hard": hard}});
    subject.post(&space.core("resourcequotas"), &quota).await?.expect(201)?;
    let path = space.core("resourcequotas/q");
    subject.wait_for(&path, |answer| answer.json["status"]["hard"] == hard).await?;
    let pods = space.core("pods");
    let cpu = |amount: &str| json!({"requests": {"cpu": amount}});
    let unsaid = until(subject, &pods, &pod("p", json!({})), |answer| answer.code == 403).await?;
    refused(&unsaid, "pods \"p\"", "failed quota: q: must specify requests.cpu for: c")?;
    let much = subject.post(&pods, &pod("p", cpu("2"))).await?;
    let why = "exceeded quota: q, requested: requests.cpu=2, used: requests.cpu=0, limited: requests.cpu=1";
    refused(&much, "pods \"p\"", why)?;
    subject.post(&pods, &pod("p", cpu("500m"))).await?.expect(201)?;
    let second = subject.post(&pods, &pod("q", cpu("100m"))).await?;
    refused(&second, "pods \"q\"", "exceeded quota: q, requested: pods=1, used: pods=1, limited: pods=1")?;
    let used = |answer: &Answer| answer.json["status"]["used"]["requests.cpu"] == "500m";
    subject.wait_for(&path, used).await?;
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}, "spec": {"ports": [{"port": 80}]}});
    let third = subject.post(&space.core("services"), &service).await?;
    refused(
        &third,
        "services \"s\"",
        "exceeded quota: q, requested: services=1, used: services=0, limited: services=0",
    )?;
    // What the quota does not count comes in.
    subject.post(&space.core("configmaps"), &config_map("a", "1")).await?.expect(201)?;
    subject.delete(&space.core("pods/p")).await?.expect(200)?;
    subject.wait_for(&path, |answer| answer.json["status"]["used"]["pods"] == "0").await?;
    subject.post(&pods, &pod("q", cpu("100m"))).await?.expect(201)?;
    space.end().await
}

async fn priority_classes(subject: &Subject) -> anyhow::Result<()> {
    let all = "/apis/scheduling.k8s.io/v1/priorityclasses";
    let name = format!("conformance-{}", &uuid::Uuid::new_v4().simple().to_string()[..8]);
    let class = json!({"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": name}, "value": 10});
    let made = subject.post(all, &class).await?.expect(201)?;
    ensure!(made["preemptionPolicy"] == "PreemptLowerPriority", "{made}");
    let path = format!("{all}/{name}");
    subject.patch(&path, "strategic-merge", &json!({"value": 100})).await?.refused(422, "Invalid")?;
    let mut other = made.clone();
    other["value"] = json!(100);
    let refused = subject.put(&path, &other).await?;
    refused.refused(422, "Invalid")?;
    ensure!(refused.json["details"]["causes"][0]["field"] == "value", "{}", refused.json);
    let described = json!({"description": "updated description"});
    subject.patch(&path, "strategic-merge", &described).await?.expect(200)?;
    let kept = subject.get(&path).await?.expect(200)?;
    ensure!(kept["value"] == 10 && kept["description"] == "updated description", "{kept}");
    let mut high = class.clone();
    high["value"] = json!(2_000_000_000);
    high["metadata"]["name"] = json!(format!("{name}-high"));
    subject.post(all, &high).await?.refused(422, "Invalid")?;
    subject.delete(&path).await?.expect(200)?;
    for system in ["system-cluster-critical", "system-node-critical"] {
        subject.get(&format!("{all}/{system}")).await?.expect(200)?;
    }
    Ok(())
}

/// A namespace with a label of pod security.
async fn secured<'a>(subject: &'a Subject, mode: &str, level: &str) -> anyhow::Result<Namespace<'a>> {
    let space = subject.namespace("security").await?;
    let label = json!({"metadata": {"labels": {format!("pod-security.kubernetes.io/{mode}"): level}}});
    subject.patch(&format!("/api/v1/namespaces/{}", space.name), "merge", &label).await?.expect(200)?;
    Ok(space)
}

const RESTRICTED: &str = "allowPrivilegeEscalation != false (container \"c\" must set securityContext.allowPrivilegeEscalation=false), \
    unrestricted capabilities (container \"c\" must set securityContext.capabilities.drop=[\"ALL\"]), \
    runAsNonRoot != true (pod or container \"c\" must set securityContext.runAsNonRoot=true), \
    seccompProfile (pod or container \"c\" must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\")";

async fn security_enforced(subject: &Subject) -> anyhow::Result<()> {
    let space = secured(subject, "enforce", "restricted").await?;
    let pods = space.core("pods");
    let plain = until(subject, &pods, &pod("p", json!({})), |answer| answer.code == 403).await?;
    refused(&plain, "pods \"p\"", &format!("violates PodSecurity \"restricted:latest\": {RESTRICTED}"))?;
    let mut fine = pod("p", json!({}));
    fine["spec"]["securityContext"] =
        json!({"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}});
    fine["spec"]["containers"][0]["securityContext"] =
        json!({"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}});
    subject.post(&pods, &fine).await?.expect(201)?;
    let mut template = deployment("d");
    template["spec"]["template"]["spec"]["containers"] = json!([{"name": "c", "image": "example.com/c:1"}]);
    // Templates are never refused, only warned about.
    let warned = subject.post(&space.of("apps/v1", "deployments"), &template).await?;
    ensure!(warned.code == 201, "{} {}", warned.code, warned.json);
    let said = format!("would violate PodSecurity \"restricted:latest\": {RESTRICTED}");
    ensure!(warned.warnings() == [said.as_str()], "{:?}", warned.warnings());
    space.end().await?;
    let space = secured(subject, "enforce", "baseline").await?;
    let pods = space.core("pods");
    let mut host = pod("p", json!({}));
    host["spec"]["hostNetwork"] = json!(true);
    host["spec"]["hostPID"] = json!(true);
    let host = until(subject, &pods, &host, |answer| answer.code == 403).await?;
    let why = "violates PodSecurity \"baseline:latest\": host namespaces (hostNetwork=true, hostPID=true)";
    refused(&host, "pods \"p\"", why)?;
    subject.post(&pods, &pod("p", json!({}))).await?.expect(201)?;
    space.end().await
}

async fn security_warns(subject: &Subject) -> anyhow::Result<()> {
    let space = secured(subject, "warn", "restricted").await?;
    let said = format!("would violate PodSecurity \"restricted:latest\": {RESTRICTED}");
    let answer =
        until(subject, &space.core("pods"), &pod("p", json!({})), |answer| !answer.warnings().is_empty())
            .await?;
    ensure!(answer.code == 201 && answer.warnings() == [said.as_str()], "{:?}", answer.warnings());
    subject.post(&space.core("pods"), &pod("old", json!({}))).await?.expect(201)?;
    let label = json!({"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}});
    let path = format!("/api/v1/namespaces/{}", space.name);
    let tried = subject.patch(&format!("{path}?dryRun=All"), "merge", &label).await?;
    let told = "old: allowPrivilegeEscalation != false, unrestricted capabilities, runAsNonRoot != true, seccompProfile";
    ensure!(tried.code == 200 && tried.warnings().iter().any(|text| text == told), "{:?}", tried.warnings());
    let bogus = json!({"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "bogus"}}});
    let refused = subject.patch(&path, "merge", &bogus).await?;
    refused.refused(422, "Invalid")?;
    let field = "metadata.labels[pod-security.kubernetes.io/enforce]";
    ensure!(refused.json["details"]["causes"][0]["field"] == field, "{}", refused.json);
    space.end().await
}
