//! What is there from the start, and what `kubectl` asks a server it does not know.

use std::collections::BTreeSet;

use anyhow::ensure;
use serde_json::{Value, json};

use super::patches::deployment;
use crate::case;
use crate::case::Case;
use crate::subject::{Subject, text};

pub(super) const CASES: &[Case] = &[
    case!(
        "startup/the API server has a service with endpoints",
        ApiServer,
        [
            "API Server should provide secure master service",
            "API Server should have Endpoints and EndpointSlices pointing to API Server",
            "Services should find a service from listing all namespaces",
        ],
        own_service
    ),
    case!("startup/namespaces and what they may not lose", ApiServer, [], namespaces),
    case!("startup/aggregated servers find what they trust", ApiServer, [], trust),
    case!("startup/levels and flows of requests", ApiServer, [], flows),
    case!("startup/groups have their services", ApiServer, [], api_services),
    case!(
        "startup/what kubectl asks first",
        ApiServer,
        [
            "Kubectl client Kubectl api-versions should check if v1 is in available api versions",
            "Kubectl client Kubectl version should check is all data is printed",
            "Kubectl client Kubectl cluster-info should check if Kubernetes control plane services is included in cluster-info",
            "Kubectl client Proxy server should support proxy with --port 0",
            "Kubectl client Proxy server should support --unix-socket=/path",
        ],
        first_questions
    ),
    case!(
        "startup/what kubectl diff sends",
        ApiServer,
        ["Kubectl client Kubectl diff should check if kubectl diff finds a difference for Deployments"],
        difference
    ),
    case!("startup/health in parts", ApiServer, [], health),
    case!("startup/health of the other parts", ApiServer, [], components),
];

fn strings(value: &Value) -> BTreeSet<String> {
    match value {
        Value::String(text) => BTreeSet::from([text.clone()]),
        Value::Number(number) => BTreeSet::from([number.to_string()]),
        Value::Array(list) => list.iter().flat_map(strings).collect(),
        _ => BTreeSet::new(),
    }
}

/// The values of a field in every item of a list.
fn each(list: &Value, field: &str) -> BTreeSet<String> {
    list.as_array().into_iter().flatten().flat_map(|item| strings(&item[field])).collect()
}

async fn own_service(subject: &Subject) -> anyhow::Result<()> {
    let service = subject.get("/api/v1/namespaces/default/services/kubernetes").await?.expect(200)?;
    ensure!(
        service["metadata"]["labels"] == json!({"component": "apiserver", "provider": "kubernetes"}),
        "{}",
        service["metadata"]
    );
    let port = &service["spec"]["ports"][0];
    ensure!(port["name"] == "https" && port["port"] == 443, "{port}");
    ensure!(text(&service, "/spec/clusterIP")? != "None", "{}", service["spec"]);
    let all = subject.get("/api/v1/services").await?.expect(200)?;
    let found = all["items"].as_array().into_iter().flatten();
    let found = found.filter(|own| own["metadata"]["uid"] == service["metadata"]["uid"]).count();
    ensure!(found == 1, "the service is not among all");
    let endpoints = subject.get("/api/v1/namespaces/default/endpoints/kubernetes").await?.expect(200)?;
    let skip = &endpoints["metadata"]["labels"]["endpointslice.kubernetes.io/skip-mirror"];
    ensure!(skip == "true", "nobody mirrors them: {}", endpoints["metadata"]);
    let subset = &endpoints["subsets"][0];
    let (addresses, ports) = (each(&subset["addresses"], "ip"), each(&subset["ports"], "port"));
    ensure!(!addresses.is_empty() && !ports.is_empty(), "{endpoints}");
    let path = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices?labelSelector=kubernetes.io/service-name%3Dkubernetes";
    let slices = subject.get(path).await?.expect(200)?;
    let slices = slices["items"].as_array().cloned().unwrap_or_default();
    let of_slices = |list: &str, field: &str| -> BTreeSet<String> {
        slices.iter().flat_map(|slice| each(&slice[list], field)).collect()
    };
    ensure!(of_slices("endpoints", "addresses") == addresses, "{slices:?}");
    ensure!(of_slices("ports", "port") == ports, "{slices:?}");
    Ok(())
}

async fn namespaces(subject: &Subject) -> anyhow::Result<()> {
    for name in ["default", "kube-system", "kube-public", "kube-node-lease"] {
        let path = format!("/api/v1/namespaces/{name}");
        let space = subject.get(&path).await?.expect(200)?;
        ensure!(space["status"]["phase"] == "Active", "{space}");
        ensure!(space["metadata"]["labels"]["kubernetes.io/metadata.name"] == name, "{}", space["metadata"]);
        ensure!(space["spec"]["finalizers"] == json!(["kubernetes"]), "{}", space["spec"]);
        if name != "kube-node-lease" {
            let refused = subject.delete(&format!("{path}?dryRun=All")).await?;
            refused.refused(403, "Forbidden")?;
            let message = format!("namespaces \"{name}\" is forbidden: this namespace may not be deleted");
            ensure!(refused.message() == message, "{}", refused.message());
        }
    }
    let relabelled = json!({"metadata": {"labels": {"kubernetes.io/metadata.name": "other"}}});
    let kept = subject
        .patch("/api/v1/namespaces/kube-public?dryRun=All", "merge", &relabelled)
        .await?
        .expect(200)?;
    let label = &kept["metadata"]["labels"]["kubernetes.io/metadata.name"];
    ensure!(label == "kube-public", "a namespace is labelled with its name: {label}");
    Ok(())
}

async fn trust(subject: &Subject) -> anyhow::Result<()> {
    let path = "/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication";
    let map = subject.get(path).await?.expect(200)?;
    for key in ["client-ca-file", "requestheader-client-ca-file"] {
        ensure!(
            text(&map, &format!("/data/{key}"))?.starts_with("-----BEGIN CERTIFICATE-----"),
            "{key}: {map}"
        );
    }
    for (key, wanted) in [
        ("requestheader-username-headers", "[\"X-Remote-User\"]"),
        ("requestheader-group-headers", "[\"X-Remote-Group\"]"),
        ("requestheader-extra-headers-prefix", "[\"X-Remote-Extra-\"]"),
    ] {
        ensure!(map["data"][key] == wanted, "{key}: {}", map["data"][key]);
    }
    Ok(())
}

fn names(list: &Value) -> BTreeSet<&str> {
    let items = list["items"].as_array().into_iter().flatten();
    items.filter_map(|item| item["metadata"]["name"].as_str()).collect()
}

async fn flows(subject: &Subject) -> anyhow::Result<()> {
    let levels = subject
        .get("/apis/flowcontrol.apiserver.k8s.io/v1/prioritylevelconfigurations")
        .await?
        .expect(200)?;
    let wanted = [
        "catch-all",
        "exempt",
        "global-default",
        "leader-election",
        "node-high",
        "system",
        "workload-high",
        "workload-low",
    ];
    ensure!(names(&levels).is_superset(&BTreeSet::from(wanted)), "{:?}", names(&levels));
    let flows = subject.get("/apis/flowcontrol.apiserver.k8s.io/v1/flowschemas").await?.expect(200)?;
    let wanted = [
        "catch-all",
        "exempt",
        "global-default",
        "kube-controller-manager",
        "kube-scheduler",
        "kube-system-service-accounts",
        "probes",
        "service-accounts",
        "system-leader-election",
        "system-node-high",
        "system-nodes",
    ];
    ensure!(names(&flows).is_superset(&BTreeSet::from(wanted)), "{:?}", names(&flows));
    Ok(())
}

async fn api_services(subject: &Subject) -> anyhow::Result<()> {
    for name in ["v1.", "v1.apps", "v1.rbac.authorization.k8s.io", "v1.apiextensions.k8s.io"] {
        let service =
            subject.get(&format!("/apis/apiregistration.k8s.io/v1/apiservices/{name}")).await?.expect(200)?;
        ensure!(service["spec"]["service"].is_null(), "{name} is served here: {}", service["spec"]);
        let condition = &service["status"]["conditions"][0];
        let shown = (&condition["type"], &condition["status"], &condition["reason"]);
        ensure!(shown == (&json!("Available"), &json!("True"), &json!("Local")), "{name}: {condition}");
    }
    Ok(())
}

async fn first_questions(subject: &Subject) -> anyhow::Result<()> {
    for path in ["/api", "/api/"] {
        let versions = subject.get(path).await?.expect(200)?;
        ensure!(versions["kind"] == "APIVersions" && versions["versions"] == json!(["v1"]), "{versions}");
    }
    let groups = subject.get("/apis").await?.expect(200)?;
    ensure!(groups["kind"] == "APIGroupList" && crate::operations::count(&groups, "groups") > 10, "{groups}");
    let version = subject.get("/version").await?.expect(200)?;
    let git = text(&version, "/gitVersion")?;
    ensure!(git.starts_with('v') && git.split('.').count() >= 3, "{git}");
    ensure!(version["major"] == "1" && text(&version, "/minor")?.parse::<u32>().is_ok(), "{version}");
    for key in ["gitCommit", "gitTreeState", "buildDate", "goVersion", "compiler", "platform"] {
        ensure!(version[key].is_string(), "{key} is missing: {version}");
    }
    let services =
        "/api/v1/namespaces/kube-system/services?labelSelector=kubernetes.io/cluster-service%3Dtrue";
    let list = subject.get(services).await?.expect(200)?;
    ensure!(list["kind"] == "ServiceList", "{list}");
    Ok(())
}

async fn difference(subject: &Subject) -> anyhow::Result<()> {
    let space = subject.namespace("startup").await?;
    subject.post(&space.of("apps/v1", "deployments"), &deployment("d")).await?.expect(201)?;
    let path = space.of("apps/v1", "deployments/d");
    let live = subject.get(&path).await?.expect(200)?;
    let image = "/spec/template/spec/containers/0/image";
    let patch = json!({"spec": {"template": {"spec": {
        "$setElementOrder/containers": [{"name": "one"}, {"name": "two"}],
        "containers": [{"name": "one", "image": "example.com/one:2"}],
    }}}});
    let query = "dryRun=All&fieldManager=kubectl-client-side-apply";
    let merged = subject.patch(&format!("{path}?{query}"), "strategic-merge", &patch).await?.expect(200)?;
    ensure!(
        text(&live, image)? == "example.com/one:1" && text(&merged, image)? == "example.com/one:2",
        "{merged}"
    );
    ensure!(merged["metadata"]["uid"] == live["metadata"]["uid"], "{}", merged["metadata"]);
    let mut config = deployment("d");
    config["spec"]["template"]["spec"]["containers"][0]["image"] = json!("example.com/one:2");
    let query = "dryRun=All&force=true&fieldManager=kubectl";
    let applied = subject.patch(&format!("{path}?{query}"), "apply", &config).await?.expect(200)?;
    ensure!(text(&applied, image)? == "example.com/one:2", "{applied}");
    let kept = subject.get(&path).await?.expect(200)?;
    ensure!(text(&kept, image)? == "example.com/one:1", "a dry run was kept: {kept}");
    space.end().await
}

/// ComponentStatuses: read only, and going away.
async fn components(subject: &Subject) -> anyhow::Result<()> {
    const ALL: &str = "/api/v1/componentstatuses";
    const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io";
    let answer = subject.get(ALL).await?;
    ensure!(answer.warnings() == ["v1 ComponentStatus is deprecated in v1.19+"], "{:?}", answer.warnings());
    let list = answer.expect(200)?;
    ensure!(list["kind"] == "ComponentStatusList" && list["metadata"] == json!({}), "{list}");
    let names: BTreeSet<&str> = list["items"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|item| item["metadata"]["name"].as_str())
        .collect();
    ensure!(names == BTreeSet::from(["controller-manager", "etcd-0", "scheduler"]), "{names:?}");
    let store = subject.get(&format!("{ALL}/etcd-0")).await?.expect(200)?;
    let healthy = json!([{"type": "Healthy", "status": "True", "message": "ok"}]);
    let wanted = json!({"kind": "ComponentStatus", "apiVersion": "v1", "metadata": {"name": "etcd-0"},
        "conditions": healthy});
    ensure!(store == wanted, "{store}");
    let one = subject.get(&format!("{ALL}?fieldSelector=metadata.name%3Detcd-0")).await?.expect(200)?;
    ensure!(one["items"] == json!([{"metadata": {"name": "etcd-0"}, "conditions": healthy}]), "{one}");
    let none = subject.get(&format!("{ALL}?labelSelector=a%3Db")).await?.expect(200)?;
    ensure!(none["items"] == json!([]), "{none}");
    let table = subject.get_as(&format!("{ALL}/etcd-0"), TABLE).await?.expect(200)?;
    ensure!(table["rows"][0]["cells"] == json!(["etcd-0", "Healthy", "ok", ""]), "{table}");
    let absent = subject.get(&format!("{ALL}/zz")).await?;
    absent.refused(404, "NotFound")?;
    ensure!(absent.message() == "componentstatus \"zz\" not found", "{}", absent.message());
    let watch = subject.get(&format!("{ALL}?watch=1")).await?;
    watch.refused(405, "MethodNotAllowed")?;
    let message = "watch is not supported on resources of kind \"componentstatuses\"";
    ensure!(watch.message() == message, "{}", watch.message());
    subject.delete(&format!("{ALL}/etcd-0")).await?.refused(405, "MethodNotAllowed")?;
    subject.post(ALL, &wanted).await?.refused(405, "MethodNotAllowed")
}

async fn health(subject: &Subject) -> anyhow::Result<()> {
    for path in ["/livez", "/readyz", "/healthz"] {
        let whole = subject.get(&format!("{path}?verbose")).await?;
        let shown = String::from_utf8_lossy(&whole.bytes).into_owned();
        ensure!(whole.code == 200 && shown.contains("[+]ping ok\n"), "{path}: {shown}");
        ensure!(shown.ends_with("check passed\n"), "{path}: {shown}");
        let part = subject.get(&format!("{path}/ping")).await?;
        ensure!(part.code == 200 && &*part.bytes == b"ok", "{path}/ping: {}", part.code);
        let absent = subject.get(&format!("{path}/nothing")).await?;
        ensure!(absent.code == 404, "{path}/nothing: {}", absent.code);
    }
    let metrics = subject.get("/metrics").await?;
    let content =
        metrics.headers.get("content-type").and_then(|value| value.to_str().ok()).unwrap_or_default();
    ensure!(content.starts_with("text/plain; version=0.0.4"), "{content}");
    Ok(())
}
