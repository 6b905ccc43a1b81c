//! Who owns which field: shared, given up, taken over, reset; through subresources too.

use anyhow::ensure;
use serde_json::{Value, json};

use super::patches::deployment;
use super::status_errors::config_map;
use crate::case;
use crate::case::Case;
use crate::subject::Subject;

pub(super) const CASES: &[Case] = &[
    case!("ownership/a shared field stays until its last owner lets go", ApiServer, [], shared),
    case!("ownership/an update takes what it changes", ApiServer, [], updates),
    case!("ownership/of status is a matter of its own", ApiServer, [], status),
    case!("ownership/of replicas through their subresource", ApiServer, [], scale),
    case!("ownership/a manager is named after its tool", ApiServer, [], named),
    case!("ownership/what is sent of it", ApiServer, [], sent),
    case!("ownership/of what comes anew", ApiServer, [], anew),
    case!("ownership/over the versions of a kind", ApiServer, [], versions),
    case!("ownership/is forgotten over the groups of a kind", ApiServer, [], groups),
    case!("ownership/several conflicts are told together", ApiServer, [], several),
];

/// Manager, operation, subresource and fields of each entry.
fn owners(object: &Value) -> Value {
    let entries = object["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
    let shown = entries
        .iter()
        .map(|own| json!([own["manager"], own["operation"], own["subresource"], own["fieldsV1"]]));
    shown.collect()
}

fn map(data: Value) -> Value {
    let mut map = config_map("a", "");
    map["data"] = data;
    map
}

fn data(keys: &[&str]) -> Value {
    let each = keys.iter().map(|key| (format!("f:{key}"), json!({}))).collect();
    json!({"f:data": Value::Object(each)})
}

async fn shared(subject: &Subject) -> anyhow::Result<()> {
    let space = subject.namespace("ownership").await?;
    let path = |manager: &str| space.core(&format!("configmaps/a?fieldManager={manager}"));
    subject.patch(&path("one"), "apply", &map(json!({"x": "1", "y": "1"}))).await?.expect(201)?;
    subject.patch(&path("two"), "apply", &map(json!({"x": "1", "z": "1"}))).await?.expect(200)?;
    let let_go = subject.patch(&path("one"), "apply", &map(json!({"y": "2"}))).await?.expect(200)?;
    ensure!(let_go["data"] == json!({"x": "1", "y": "2", "z": "1"}), "{}", let_go["data"]);
    // They stand by the seconds in which they wrote.
    let own = owners(&let_go);
    for wanted in
        [json!(["one", "Apply", null, data(&["y"])]), json!(["two", "Apply", null, data(&["x", "z"])])]
    {
        ensure!(own.as_array().is_some_and(|all| all.contains(&wanted)), "{wanted} expected in {own}");
    }
    let gone = subject.patch(&path("two"), "apply", &map(json!({}))).await?.expect(200)?;
    ensure!(gone["data"] == json!({"y": "2"}), "nobody else owned it: {}", gone["data"]);
    ensure!(owners(&gone)[0] == json!(["one", "Apply", null, data(&["y"])]), "{}", owners(&gone));
    space.end().await
}

async fn updates(subject: &Subject) -> anyhow::Result<()> {
    let space = subject.namespace("ownership").await?;
    let path = |manager: &str| space.core(&format!("configmaps/a?fieldManager={manager}"));
    subject.patch(&path("one"), "apply", &map(json!({"x": "1", "y": "1"}))).await?.expect(201)?;
    let patch = json!({"data": {"x": "2"}});
    let taken = subject.patch(&path("two"), "merge", &patch).await?.expect(200)?;
    let wanted = json!([["one", "Apply", null, data(&["y"])], ["two", "Update", null, data(&["x"])]]);
    ensure!(owners(&taken) == wanted, "{wanted} expected, not {}", owners(&taken));
    let refused = subject.patch(&path("one"), "apply", &map(json!({"x": "1", "y": "1"}))).await?;
    refused.refused(409, "Conflict")?;
    let cause = &refused.json["details"]["causes"][0];
    ensure!(cause["message"] == "conflict with \"two\" using v1" && cause["field"] == ".data.x", "{cause}");
    let forced = format!("{}&force=true", path("one"));
    let back = subject.patch(&forced, "apply", &map(json!({"x": "1", "y": "1"}))).await?.expect(200)?;
    ensure!(owners(&back) == json!([["one", "Apply", null, data(&["x", "y"])]]), "{}", owners(&back));
    let put = subject.put(&path("three"), &map(json!({"q": "1"}))).await?.expect(200)?;
    ensure!(put["data"] == json!({"q": "1"}), "{put}");
    ensure!(owners(&put).to_string().contains("\"three\",\"Update\""), "{}", owners(&put));
    space.end().await
}

fn replica_set() -> Value {
    let mut set = deployment("d");
    set["kind"] = json!("ReplicaSet");
    set
}

async fn status(subject: &Subject) -> anyhow::Result<()> {
    let space = subject.namespace("ownership").await?;
    subject.post(&space.of("apps/v1", "replicasets"), &replica_set()).await?.expect(201)?;
    let condition = |status: &str| {
        json!({
            "apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": {"name": "d"}, "spec": {"replicas": 9},
            "status": {"conditions": [{"type": "X", "status": status}]},
        })
    };
    let path = |name: &str, manager: &str| {
        space.of("apps/v1", &format!("replicasets/{name}/status?fieldManager={manager}"))
    };
    let applied = subject.patch(&path("d", "s"), "apply", &condition("True")).await?.expect(200)?;
    ensure!(applied["spec"]["replicas"] == 0, "no specification through the status: {}", applied["spec"]);
    let own = owners(&applied);
    let own = own.as_array().into_iter().flatten().find(|own| own[0] == "s").cloned().unwrap_or_default();
    let fields = json!({"f:status": {"f:conditions": {"k:{\"type\":\"X\"}": {".": {}, "f:status": {}, "f:type": {}}}}});
    ensure!(own == json!(["s", "Apply", "status", fields]), "{own}");
    subject.patch(&path("d", "t"), "apply", &condition("False")).await?.refused(409, "Conflict")?;
    let mut absent = condition("True");
    absent["metadata"]["name"] = json!("absent");
    subject.patch(&path("absent", "s"), "apply", &absent).await?.refused(404, "NotFound")?;
    space.end().await
}

async fn scale(subject: &Subject) -> anyhow::Result<()> {
    let space = subject.namespace("ownership").await?;
    subject.post(&space.of("apps/v1", "deployments"), &deployment("d")).await?.expect(201)?;
    let path = space.of("apps/v1", "deployments/d/scale");
    let body = |replicas: i64, name: &str| {
        json!({
            "apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": name, "namespace": space.name},
            "spec": {"replicas": replicas},
        })
    };
    let got = subject.get(&path).await?.expect(200)?;
    ensure!(got["kind"] == "Scale" && got["status"]["selector"] == "app=d", "{got}");
    subject.put(&path, &body(1, "other")).await?.refused(400, "BadRequest")?;
    let negative = subject.put(&path, &body(-1, "d")).await?;
    negative.refused(422, "Invalid")?;
    ensure!(negative.json["details"]["causes"][0]["field"] == "spec.replicas", "{}", negative.json);
    let mut stale = body(1, "d");
    stale["metadata"]["resourceVersion"] = json!("1");
    subject.put(&path, &stale).await?.refused(409, "Conflict")?;
    let conflict = subject.patch(&format!("{path}?fieldManager=scaler"), "apply", &body(1, "d")).await?;
    conflict.refused(409, "Conflict")?;
    let forced = format!("{path}?fieldManager=scaler&force=true");
    let scaled = subject.patch(&forced, "apply", &body(1, "d")).await?.expect(200)?;
    ensure!(scaled["kind"] == "Scale" && scaled["spec"]["replicas"] == 1, "{scaled}");
    let parent = subject.get(&space.of("apps/v1", "deployments/d")).await?.expect(200)?;
    ensure!(parent["spec"]["replicas"] == 1, "{}", parent["spec"]);
    let owned = json!(["scaler", "Apply", "scale", {"f:spec": {"f:replicas": {}}}]);
    ensure!(owners(&parent).as_array().is_some_and(|all| all.contains(&owned)), "{}", owners(&parent));
    let patched = subject.patch(&path, "merge", &json!({"spec": {"replicas": 2}})).await?.expect(200)?;
    ensure!(patched["spec"]["replicas"] == 2, "{patched}");
    space.end().await
}

async fn named(subject: &Subject) -> anyhow::Result<()> {
    let space = subject.namespace("ownership").await?;
    let headers = [("content-type", "application/json"), ("user-agent", "sometool/v1.2 (linux/amd64)")];
    let body = config_map("a", "1").to_string();
    let made =
        subject.send(http::Method::POST, &space.core("configmaps"), &headers, body).await?.expect(201)?;
    let own = &made["metadata"]["managedFields"][0];
    ensure!(own["manager"] == "sometool" && own["operation"] == "Update", "{own}");
    ensure!(own["fieldsType"] == "FieldsV1" && own["apiVersion"] == "v1" && own["time"].is_string(), "{own}");
    space.end().await
}

async fn sent(subject: &Subject) -> anyhow::Result<()> {
    let space = subject.namespace("ownership").await?;
    let path = space.core("configmaps/a");
    subject.post(&space.core("configmaps?fieldManager=maker"), &config_map("a", "1")).await?.expect(201)?;
    let mut put = config_map("a", "1");
    put["metadata"]["annotations"] = json!({"more": "x"});
    // One that sends nothing of it keeps what there is.
    let kept = subject.put(&format!("{path}?fieldManager=maker"), &put).await?.expect(200)?;
    ensure!(owners(&kept)[0][0] == "maker", "{}", owners(&kept));
    let reset =
        subject.patch(&path, "merge", &json!({"metadata": {"managedFields": [{}]}})).await?.expect(200)?;
    ensure!(reset["metadata"]["managedFields"].is_null(), "{}", reset["metadata"]);
    let own = json!({"metadata": {"managedFields": [{
        "manager": "x", "operation": "Update", "apiVersion": "v1", "fieldsType": "FieldsV1", "fieldsV1": {"f:data": {}},
        "time": "2024-01-01T00:00:00Z",
    }]}});
    let set = subject.patch(&path, "merge", &own).await?.expect(200)?;
    ensure!(owners(&set) == json!([["x", "Update", null, {"f:data": {}}]]), "{}", owners(&set));
    space.end().await
}

async fn several(subject: &Subject) -> anyhow::Result<()> {
    let space = subject.namespace("ownership").await?;
    let path = |manager: &str| space.core(&format!("configmaps/a?fieldManager={manager}"));
    subject.patch(&path("one"), "apply", &map(json!({"x": "1", "y": "1"}))).await?.expect(201)?;
    let refused = subject.patch(&path("two"), "apply", &map(json!({"x": "2", "y": "2"}))).await?;
    refused.refused(409, "Conflict")?;
    let message = "Apply failed with 2 conflicts: conflicts with \"one\":\n- .data.x\n- .data.y";
    ensure!(refused.message() == message, "{message:?} expected, not {:?}", refused.message());
    ensure!(crate::operations::count(&refused.json["details"], "causes") == 2, "{}", refused.json);
    space.end().await
}

fn share(percent: i64) -> Value {
    json!([{"type": "Resource", "resource": {"name": "cpu", "target": {
        "type": "Utilization", "averageUtilization": percent}}}])
}

async fn versions(subject: &Subject) -> anyhow::Result<()> {
    let space = subject.namespace("ownership").await?;
    let scaler = |version: &str, more: Value| {
        let mut spec = json!({"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"}, "maxReplicas": 3});
        spec.as_object_mut()
            .into_iter()
            .for_each(|spec| spec.extend(more.as_object().cloned().unwrap_or_default()));
        json!({"apiVersion": version, "kind": "HorizontalPodAutoscaler", "metadata": {"name": "a"}, "spec": spec})
    };
    let (old, new) = ("autoscaling/v1", "autoscaling/v2");
    let path = |version: &str, manager: &str| {
        space.of(version, &format!("horizontalpodautoscalers/a?fieldManager={manager}"))
    };
    let half = scaler(old, json!({"minReplicas": 2, "targetCPUUtilizationPercentage": 50}));
    let applied = subject.patch(&path(old, "one"), "apply", &half).await?.expect(201)?;
    let stated = json!({"f:spec": {
        "f:maxReplicas": {}, "f:minReplicas": {}, "f:scaleTargetRef": {}, "f:targetCPUUtilizationPercentage": {}}});
    ensure!(owners(&applied) == json!([["one", "Apply", null, stated]]), "{}", owners(&applied));
    ensure!(applied["metadata"]["managedFields"][0]["apiVersion"] == old, "{}", applied["metadata"]);
    let patch = json!({"spec": {"metrics": share(60)}});
    let taken = subject.patch(&path(new, "two"), "merge", &patch).await?.expect(200)?;
    let left = json!({"f:spec": {"f:maxReplicas": {}, "f:minReplicas": {}, "f:scaleTargetRef": {}}});
    let wanted =
        json!([["one", "Apply", null, left], ["two", "Update", null, {"f:spec": {"f:metrics": {}}}]]);
    ensure!(owners(&taken) == wanted, "{wanted} expected, not {}", owners(&taken));
    let refused = subject.patch(&path(old, "one"), "apply", &half).await?;
    refused.refused(409, "Conflict")?;
    let cause = &refused.json["details"]["causes"][0];
    let told = "conflict with \"two\" using autoscaling/v2";
    ensure!(cause["message"] == told && cause["field"] == ".spec.metrics", "{cause}");
    // What it states no more goes by its path; what has another name in the other version stays.
    let forced = format!("{}&force=true", path(old, "one"));
    let back = subject.patch(&forced, "apply", &half).await?.expect(200)?;
    ensure!(owners(&back) == json!([["one", "Apply", null, stated]]), "{}", owners(&back));
    let moved = subject.patch(&path(new, "one"), "apply", &scaler(new, json!({}))).await?.expect(200)?;
    ensure!(moved["spec"]["minReplicas"] == 1 && moved["spec"]["metrics"] == share(50), "{}", moved["spec"]);
    ensure!(moved["metadata"]["managedFields"][0]["apiVersion"] == new, "{}", moved["metadata"]);
    space.end().await
}

async fn groups(subject: &Subject) -> anyhow::Result<()> {
    let space = subject.namespace("ownership").await?;
    let event = json!({
        "apiVersion": "v1", "kind": "Event", "metadata": {"name": "e"}, "reason": "R", "type": "Normal", "message": "m",
        "involvedObject": {"kind": "Pod", "name": "p", "namespace": space.name}, "count": 1,
    });
    let made = subject.post(&space.core("events?fieldManager=one"), &event).await?.expect(201)?;
    let fields =
        json!({"f:count": {}, "f:involvedObject": {}, "f:message": {}, "f:reason": {}, "f:type": {}});
    ensure!(owners(&made) == json!([["one", "Update", null, fields]]), "{}", owners(&made));
    let label = json!({"metadata": {"labels": {"a": "b"}}});
    let path = space.of("events.k8s.io/v1", "events/e?fieldManager=two");
    let labelled = subject.patch(&path, "merge", &label).await?.expect(200)?;
    let labels = json!({"f:metadata": {"f:labels": {".": {}, "f:a": {}}}});
    ensure!(owners(&labelled) == json!([["two", "Update", null, labels]]), "{}", owners(&labelled));
    ensure!(labelled["metadata"]["managedFields"][0]["apiVersion"] == "events.k8s.io/v1", "{labelled}");
    let counted =
        subject.patch(&space.core("events/e?fieldManager=one"), "merge", &json!({"count": 3})).await?;
    let counted = counted.expect(200)?;
    ensure!(owners(&counted) == json!([["one", "Update", null, {"f:count": {}}]]), "{}", owners(&counted));
    space.end().await
}

/// What was not there before is owned with the maps, lists and structures around it; what Go's type always has is not.
async fn anew(subject: &Subject) -> anyhow::Result<()> {
    let space = subject.namespace("ownership").await?;
    let mut made = deployment("d");
    made["spec"]["template"]["spec"] = json!({"containers": [{
        "name": "c", "image": "i", "env": [{"name": "E", "value": "v"}], "resources": {"limits": {"cpu": "1"}}}]});
    let path = space.of("apps/v1", "deployments?fieldManager=one");
    let made = subject.post(&path, &made).await?.expect(201)?;
    let fields = &made["metadata"]["managedFields"][0]["fieldsV1"]["f:spec"];
    let container = json!({
        ".": {}, "f:name": {}, "f:image": {}, "f:imagePullPolicy": {}, "f:terminationMessagePath": {},
        "f:terminationMessagePolicy": {}, "f:env": {".": {}, "k:{\"name\":\"E\"}": {".": {}, "f:name": {}, "f:value": {}}},
        "f:resources": {".": {}, "f:limits": {".": {}, "f:cpu": {}}},
    });
    let inside = &fields["f:template"]["f:spec"]["f:containers"];
    ensure!(*inside == json!({"k:{\"name\":\"c\"}": container}), "{inside}");
    let rolling =
        json!({"f:type": {}, "f:rollingUpdate": {".": {}, "f:maxSurge": {}, "f:maxUnavailable": {}}});
    ensure!(fields["f:strategy"] == rolling, "{fields}");
    let patch = json!({"metadata": {"labels": {"a": "b"}}});
    let path = space.of("apps/v1", "deployments/d?fieldManager=two");
    let noted = subject.patch(&path, "merge", &patch).await?.expect(200)?;
    let wanted = json!(["two", "Update", null, {"f:metadata": {"f:labels": {".": {}, "f:a": {}}}}]);
    ensure!(owners(&noted).as_array().is_some_and(|all| all.contains(&wanted)), "{}", owners(&noted));
    let more = json!({"metadata": {"labels": {"c": "d"}}});
    let path = space.of("apps/v1", "deployments/d?fieldManager=three");
    let noted = subject.patch(&path, "merge", &more).await?.expect(200)?;
    let wanted = json!(["three", "Update", null, {"f:metadata": {"f:labels": {"f:c": {}}}}]);
    ensure!(owners(&noted).as_array().is_some_and(|all| all.contains(&wanted)), "{}", owners(&noted));
    space.end().await
}
