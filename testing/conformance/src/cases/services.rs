//! Services: addresses, ports, types, and what is selected by fields.

use anyhow::ensure;
use serde_json::{Value, json};

use super::patches::deployment;
use crate::case;
use crate::case::Case;
use crate::subject::{Subject, text};

pub(super) const CASES: &[Case] = &[
    case!("services/get addresses and ports", ApiServer, [], allocation),
    case!("services/keep their address", ApiServer, [], address),
    case!("services/that make no sense", ApiServer, [], refusals),
    case!("services/fields that objects are selected by", ApiServer, [], selectable),
    case!("services/new items of merged lists come first", ApiServer, [], order),
];

fn service(name: &str, rest: Value) -> Value {
    let mut spec = json!({"ports": [{"port": 80}]});
    for (key, value) in rest.as_object().into_iter().flatten() {
        spec[key] = value.clone();
    }
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec})
}

async fn allocation(subject: &Subject) -> anyhow::Result<()> {
    let space = subject.namespace("services").await?;
    let all = space.core("services");
    let plain = subject.post(&all, &service("plain", json!({}))).await?.expect(201)?;
    let spec = &plain["spec"];
    ensure!(spec["type"] == "ClusterIP" && spec["sessionAffinity"] == "None", "{spec}");
    ensure!(spec["ports"][0]["targetPort"] == 80 && spec["ports"][0]["protocol"] == "TCP", "{spec}");
    ensure!(
        spec["clusterIPs"] == json!([spec["clusterIP"]]) && spec["ipFamilies"] == json!(["IPv4"]),
        "{spec}"
    );
    ensure!(spec["internalTrafficPolicy"] == "Cluster" && spec["ipFamilyPolicy"] == "SingleStack", "{spec}");
    let taken = json!({"clusterIP": spec["clusterIP"]});
    let second = subject.post(&all, &service("second", taken)).await?;
    second.refused(422, "Invalid")?;
    ensure!(second.message().contains("provided IP is already allocated"), "{}", second.message());
    let headless =
        subject.post(&all, &service("headless", json!({"clusterIP": "None"}))).await?.expect(201)?;
    ensure!(headless["spec"]["clusterIPs"] == json!(["None"]), "{}", headless["spec"]);
    let node = subject.post(&all, &service("node", json!({"type": "NodePort"}))).await?.expect(201)?;
    let port = node["spec"]["ports"][0]["nodePort"].as_i64().unwrap_or_default();
    ensure!((30_000..=32_767).contains(&port), "{port}");
    let external = json!({"type": "ExternalName", "externalName": "x.example.com", "ports": null});
    let external = subject.post(&all, &service("external", external)).await?.expect(201)?;
    ensure!(external["spec"]["clusterIP"].is_null(), "{}", external["spec"]);
    space.end().await
}

async fn address(subject: &Subject) -> anyhow::Result<()> {
    let space = subject.namespace("services").await?;
    let made = subject.post(&space.core("services"), &service("a", json!({}))).await?.expect(201)?;
    let path = space.core("services/a");
    let other = json!({"spec": {"clusterIP": "10.255.255.254"}});
    subject.patch(&path, "merge", &other).await?.refused(422, "Invalid")?;
    // One that puts back without the address means the same one.
    let put = subject.put(&path, &service("a", json!({"selector": {"app": "a"}}))).await?.expect(200)?;
    ensure!(text(&put, "/spec/clusterIP")? == text(&made, "/spec/clusterIP")?, "{}", put["spec"]);
    let wider = subject.patch(&path, "merge", &json!({"spec": {"type": "NodePort"}})).await?.expect(200)?;
    ensure!(wider["spec"]["ports"][0]["nodePort"].is_i64(), "{}", wider["spec"]);
    let narrow = subject.patch(&path, "merge", &json!({"spec": {"type": "ClusterIP"}})).await?.expect(200)?;
    ensure!(narrow["spec"]["ports"][0]["nodePort"].is_null(), "{}", narrow["spec"]);
    space.end().await
}

async fn refusals(subject: &Subject) -> anyhow::Result<()> {
    let space = subject.namespace("services").await?;
    for (name, rest, field) in [
        ("a", json!({"type": "Bogus"}), "spec.type"),
        ("a", json!({"ports": []}), "spec.ports"),
        ("a", json!({"ports": [{"port": 0}]}), "spec.ports[0].port"),
        ("a", json!({"ports": [{"port": 80}, {"port": 81}]}), "spec.ports[0].name"),
        ("a", json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": 22}]}), "spec.ports[0].nodePort"),
        ("a", json!({"clusterIP": "1.2.3"}), "spec.clusterIPs[0]"),
        ("a", json!({"sessionAffinity": "Bogus"}), "spec.sessionAffinity"),
        ("Bad_", json!({}), "metadata.name"),
    ] {
        let refused = subject.post(&space.core("services"), &service(name, rest)).await?;
        refused.refused(422, "Invalid")?;
        let causes = refused.json["details"]["causes"].as_array().cloned().unwrap_or_default();
        ensure!(causes.iter().any(|cause| cause["field"] == field), "{field}: {}", refused.json);
    }
    space.end().await
}

async fn selectable(subject: &Subject) -> anyhow::Result<()> {
    let space = subject.namespace("services").await?;
    for (resource, fields) in [
        (
            "pods",
            "status.phase spec.nodeName spec.restartPolicy spec.schedulerName spec.serviceAccountName status.podIP \
             status.nominatedNodeName spec.hostNetwork",
        ),
        ("events", "involvedObject.kind involvedObject.name reason type source reportingComponent"),
        ("secrets", "type"),
        ("replicationcontrollers", "status.replicas"),
        ("services", "spec.clusterIP spec.type"),
    ] {
        for field in fields.split_whitespace() {
            let path = space.core(&format!("{resource}?fieldSelector={field}%3Dnothing"));
            let list = subject.get(&path).await?.expect(200)?;
            ensure!(list["items"] == json!([]), "{resource} by {field}: {list}");
        }
        subject
            .get(&space.core(&format!("{resource}?fieldSelector=spec.none%3D1")))
            .await?
            .refused(400, "BadRequest")?;
    }
    let active =
        subject.get("/api/v1/namespaces?fieldSelector=status.phase%3DActive,metadata.name%3Ddefault").await?;
    ensure!(crate::operations::count(&active.expect(200)?, "items") == 1);
    subject.get("/api/v1/nodes?fieldSelector=spec.unschedulable%3Dtrue").await?.expect(200)?;
    subject.get("/apis/batch/v1/jobs?fieldSelector=status.successful%3D1").await?.expect(200)?;
    space.end().await
}

/// As upstream's strategic merge orders a list: what the server does not know yet, before what only it has.
async fn order(subject: &Subject) -> anyhow::Result<()> {
    let space = subject.namespace("services").await?;
    subject.post(&space.of("apps/v1", "deployments"), &deployment("d")).await?.expect(201)?;
    let path = space.of("apps/v1", "deployments/d?dryRun=All");
    let add = |name: &str| json!({"name": name, "image": "example.com/new:1"});
    let told = |names: &[&str]| names.iter().map(|name| json!({"name": name})).collect::<Value>();
    for (spec, wanted) in [
        (json!({"containers": [add("new")]}), ["new", "one", "two"]),
        (json!({"containers": [add("two"), add("new")]}), ["one", "two", "new"]),
        (json!({"containers": [add("new"), add("two"), add("one")]}), ["new", "two", "one"]),
        (
            json!({"$setElementOrder/containers": told(&["two", "new", "one"]), "containers": [add("new")]}),
            ["two", "new", "one"],
        ),
    ] {
        let patch = json!({"spec": {"template": {"spec": spec}}});
        let patched = subject.patch(&path, "strategic-merge", &patch).await?.expect(200)?;
        let list = patched["spec"]["template"]["spec"]["containers"].as_array().cloned().unwrap_or_default();
        let names: Vec<_> = list.iter().filter_map(|own| own["name"].as_str()).collect();
        ensure!(names == wanted, "{wanted:?} expected of {patch}, not {names:?}");
    }
    for (spec, message) in [
        (json!({"containers": [{"image": "x"}]}), "does not contain declared merge key: name"),
        (json!({"containers": [{"name": "one", "$patch": "bogus"}]}), "unknown patch type: "),
    ] {
        let patch = json!({"spec": {"template": {"spec": spec}}});
        let refused = subject.patch(&path, "strategic-merge", &patch).await?;
        ensure!(
            refused.code == 500 && refused.message().contains(message),
            "{} {}",
            refused.code,
            refused.json
        );
    }
    let retained = json!({"spec": {"strategy": {"$retainKeys": ["other"], "type": "Recreate"}}});
    subject.patch(&path, "strategic-merge", &retained).await?.refused(400, "BadRequest")?;
    space.end().await
}
