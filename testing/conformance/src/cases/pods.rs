//! Pods, as far as no container has to run: what is refused, subresources, connections to nowhere.

use anyhow::ensure;
use serde_json::{Value, json};

use super::kinds::nowhere;
use crate::case;
use crate::case::Case;
use crate::operations::contains;
use crate::subject::{Namespace, Subject};

pub(super) const CASES: &[Case] = &[
    case!(
        "pods/want a runtime class that is there",
        ApiServer,
        [
            "RuntimeClass should reject a Pod requesting a non-existent RuntimeClass [NodeConformance]",
            "RuntimeClass should reject a Pod requesting a deleted RuntimeClass [NodeConformance]",
        ],
        runtime_classes
    ),
    case!("pods/get the overhead of their runtime class", ApiServer, [], overhead),
    case!(
        "pods/sysctls have names",
        ApiServer,
        ["Sysctls [LinuxOnly] [NodeConformance] should reject invalid sysctls"],
        sysctls
    ),
    case!(
        "pods/may have volumes of storage drivers",
        ApiServer,
        ["CSIInlineVolumes should support CSIVolumeSource in Pod API"],
        inline_volumes
    ),
    case!("pods/get a priority from its class", ApiServer, [], priorities),
    case!("pods/get tolerations and defaults", ApiServer, [], defaults),
    case!("pods/change in few places only", ApiServer, [], updates),
    case!("pods/are bound once", ApiServer, [], binding),
    case!("pods/are evicted unless a budget holds them", ApiServer, [], eviction),
    case!("pods/take containers for debugging by their subresource alone", ApiServer, [], ephemeral),
    case!("pods/are resized by their subresource alone", ApiServer, [], resize),
    case!("pods/sessions need a node and a container", ApiServer, [], sessions),
    case!("pods/logs need a container and sense", ApiServer, [], logs),
    case!("pods/proxies need somewhere to go", ApiServer, [], proxies),
    case!("pods/without a node go at once", ApiServer, [], deletion),
    case!("pods/gates hold them back", ApiServer, [], gates),
];

fn pod(name: &str, spec: Value) -> Value {
    let mut whole = nowhere();
    for (key, value) in spec.as_object().into_iter().flatten() {
        whole[key] = value.clone();
    }
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": name}}, "spec": whole})
}

async fn make(subject: &Subject, space: &Namespace<'_>, pod: &Value) -> anyhow::Result<Value> {
    subject.post(&space.core("pods"), pod).await?.expect(201)
}

const RUNTIME_CLASSES: &str = "/apis/node.k8s.io/v1/runtimeclasses";

fn runtime_class(name: &str, rest: Value) -> Value {
    let mut class = json!({"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": name}, "handler": "h"});
    for (key, value) in rest.as_object().into_iter().flatten() {
        class[key] = value.clone();
    }
    class
}

async fn runtime_classes(subject: &Subject) -> anyhow::Result<()> {
    let space = subject.namespace("pods").await?;
    let wants = pod("p", json!({"runtimeClassName": space.name}));
    let refused = subject.post(&space.core("pods"), &wants).await?;
    refused.refused(403, "Forbidden")?;
    let message = format!("pods \"p\" is forbidden: pod rejected: RuntimeClass \"{}\" not found", space.name);
    ensure!(refused.message() == message, "{}", refused.message());
    subject.post(RUNTIME_CLASSES, &runtime_class(&space.name, json!({}))).await?.expect(201)?;
    // Admission may look at a copy that is a moment behind.
    while subject.post(&space.core("pods"), &wants).await?.code == 403 {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    subject.delete(&format!("{RUNTIME_CLASSES}/{}", space.name)).await?.expect(200)?;
    let mut again = wants;
    again["metadata"]["name"] = json!("q");
    while subject.post(&space.core("pods?dryRun=All"), &again).await?.code != 403 {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    space.end().await
}

async fn overhead(subject: &Subject) -> anyhow::Result<()> {
    let space = subject.namespace("pods").await?;
    let more = json!({
        "overhead": {"podFixed": {"cpu": "250m"}},
        "scheduling": {"nodeSelector": {"of": "class"}, "tolerations": [{"key": "class", "operator": "Exists"}]},
    });
    subject.post(RUNTIME_CLASSES, &runtime_class(&space.name, more)).await?.expect(201)?;
    let wants = pod("p", json!({"runtimeClassName": space.name}));
    let made = loop {
        let answer = subject.post(&space.core("pods"), &wants).await?;
        if answer.code != 403 {
            break answer.expect(201)?;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    };
    ensure!(made["spec"]["overhead"] == json!({"cpu": "250m"}), "{}", made["spec"]);
    ensure!(made["spec"]["nodeSelector"]["of"] == "class", "{}", made["spec"]);
    let tolerations = made["spec"]["tolerations"].as_array().cloned().unwrap_or_default();
    ensure!(tolerations.contains(&json!({"key": "class", "operator": "Exists"})), "{tolerations:?}");
    subject.delete(&format!("{RUNTIME_CLASSES}/{}", space.name)).await?.expect(200)?;
    space.end().await
}

async fn sysctls(subject: &Subject) -> anyhow::Result<()> {
    let space = subject.namespace("pods").await?;
    let names = ["foo-", "kernel.shmmax", "safe-and-unsafe", "bar.."];
    let list: Vec<Value> = names.iter().map(|name| json!({"name": name, "value": "1"})).collect();
    let refused =
        subject.post(&space.core("pods"), &pod("p", json!({"securityContext": {"sysctls": list}}))).await?;
    refused.refused(422, "Invalid")?;
    let message = refused.message();
    ensure!(
        message.contains("Invalid value: \"foo-\"") && message.contains("Invalid value: \"bar..\""),
        "{message}"
    );
    ensure!(!message.contains("kernel.shmmax\"") && !message.contains("safe-and-unsafe"), "{message}");
    ensure!(
        refused.json["details"]["causes"][0]["field"] == "spec.securityContext.sysctls[0].name",
        "{}",
        refused.json
    );
    space.end().await
}

async fn inline_volumes(subject: &Subject) -> anyhow::Result<()> {
    let space = subject.namespace("pods").await?;
    let volumes = json!([
        {"name": "one", "csi": {"driver": "e2e.example.com"}},
        {"name": "two", "csi": {"driver": "e2e.example.com", "fsType": "ext4", "readOnly": true}},
    ]);
    let body = pod("p", json!({"volumes": volumes, "automountServiceAccountToken": false}));
    let made = make(subject, &space, &body).await?;
    ensure!(contains(&made["spec"]["volumes"], &volumes), "{}", made["spec"]);
    subject.post(&space.core("pods"), &body).await?.refused(409, "AlreadyExists")?;
    let patch = json!({"metadata": {"annotations": {"patched": "true"}}});
    let patched = subject.patch(&space.core("pods/p"), "merge", &patch).await?.expect(200)?;
    ensure!(patched["metadata"]["annotations"]["patched"] == "true", "{}", patched["metadata"]);
    subject.delete(&space.core("pods/p")).await?.expect(200)?;
    subject.get(&space.core("pods/p")).await?.refused(404, "NotFound")?;
    space.end().await
}

async fn priorities(subject: &Subject) -> anyhow::Result<()> {
    let space = subject.namespace("pods").await?;
    let classes = "/apis/scheduling.k8s.io/v1/priorityclasses";
    let class = json!({
        "apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": space.name},
        "value": 1000, "preemptionPolicy": "Never",
    });
    subject.post(classes, &class).await?.expect(201)?;
    let wants = pod("p", json!({"priorityClassName": space.name}));
    let made = loop {
        let answer = subject.post(&space.core("pods"), &wants).await?;
        if answer.code != 403 {
            break answer.expect(201)?;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    };
    ensure!(
        made["spec"]["priority"] == 1000 && made["spec"]["preemptionPolicy"] == "Never",
        "{}",
        made["spec"]
    );
    let plain = make(subject, &space, &pod("q", json!({}))).await?;
    ensure!(plain["spec"]["priority"] == 0, "{}", plain["spec"]);
    let absent =
        subject.post(&space.core("pods"), &pod("r", json!({"priorityClassName": "nothing"}))).await?;
    absent.refused(403, "Forbidden")?;
    let message = "pods \"r\" is forbidden: no PriorityClass with name nothing was found";
    ensure!(absent.message() == message, "{}", absent.message());
    let own = subject.post(&space.core("pods"), &pod("s", json!({"priority": 5}))).await?;
    own.refused(403, "Forbidden")?;
    subject.delete(&format!("{classes}/{}", space.name)).await?.expect(200)?;
    space.end().await
}

async fn defaults(subject: &Subject) -> anyhow::Result<()> {
    let space = subject.namespace("pods").await?;
    let made = make(subject, &space, &pod("p", json!({}))).await?;
    let tolerations = json!([
        {"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300},
        {"key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300},
    ]);
    ensure!(made["spec"]["tolerations"] == tolerations, "{}", made["spec"]["tolerations"]);
    let wanted = json!({
        "restartPolicy": "Always", "dnsPolicy": "ClusterFirst", "terminationGracePeriodSeconds": 30,
        "schedulerName": "default-scheduler", "serviceAccountName": "default", "serviceAccount": "default",
        "enableServiceLinks": true, "securityContext": {}, "preemptionPolicy": "PreemptLowerPriority",
    });
    ensure!(contains(&made["spec"], &wanted), "{wanted} is not in {}", made["spec"]);
    ensure!(
        made["status"]["phase"] == "Pending" && made["status"]["qosClass"] == "BestEffort",
        "{}",
        made["status"]
    );
    ensure!(made["metadata"]["generation"] == 1, "{}", made["metadata"]);
    space.end().await
}

async fn updates(subject: &Subject) -> anyhow::Result<()> {
    let space = subject.namespace("pods").await?;
    make(subject, &space, &pod("p", json!({}))).await?;
    let path = space.core("pods/p");
    let image = json!({"spec": {"containers": [{"name": "c", "image": "example.com/c:2"}]}});
    let changed = subject.patch(&path, "strategic-merge", &image).await?.expect(200)?;
    ensure!(changed["spec"]["containers"][0]["image"] == "example.com/c:2", "{}", changed["spec"]);
    ensure!(changed["metadata"]["generation"] == 2, "{}", changed["metadata"]);
    subject.patch(&path, "merge", &json!({"spec": {"activeDeadlineSeconds": 600}})).await?.expect(200)?;
    subject.patch(&path, "merge", &json!({"spec": {"activeDeadlineSeconds": 60}})).await?.expect(200)?;
    for (patch, field) in [
        (json!({"spec": {"activeDeadlineSeconds": 700}}), "spec.activeDeadlineSeconds"),
        (json!({"spec": {"restartPolicy": "Never"}}), "spec"),
        (json!({"spec": {"hostNetwork": true}}), "spec"),
        (json!({"spec": {"containers": [{"name": "d", "image": "example.com/d:1"}]}}), "spec.containers"),
    ] {
        let refused = subject.patch(&path, "strategic-merge", &patch).await?;
        refused.refused(422, "Invalid")?;
        let causes = refused.json["details"]["causes"].as_array().cloned().unwrap_or_default();
        ensure!(causes.iter().any(|cause| cause["field"] == field), "{field} of {patch}: {}", refused.json);
    }
    let unscheduled = json!({"spec": {"tolerations": [{"key": "more", "operator": "Exists"}]}});
    subject.patch(&path, "strategic-merge", &unscheduled).await?.expect(200)?;
    space.end().await
}

fn posted(kind: &str, name: &str, rest: Value) -> Value {
    let version = if kind == "Eviction" { "policy/v1" } else { "v1" };
    let mut body = json!({"apiVersion": version, "kind": kind, "metadata": {"name": name}});
    for (key, value) in rest.as_object().into_iter().flatten() {
        body[key] = value.clone();
    }
    body
}

async fn binding(subject: &Subject) -> anyhow::Result<()> {
    let space = subject.namespace("pods").await?;
    make(subject, &space, &pod("p", json!({}))).await?;
    let path = space.core("pods/p/binding");
    let to = |kind: &str, name: &str| json!({"target": {"kind": kind, "name": name}});
    let absent = space.core("pods/absent/binding");
    subject.post(&absent, &posted("Binding", "absent", to("Node", "n"))).await?.refused(404, "NotFound")?;
    subject.post(&path, &posted("Binding", "other", to("Node", "n"))).await?.refused(400, "BadRequest")?;
    for (target, message) in [
        (to("Pod", "n"), "target.kind: Unsupported value: \"Pod\": supported values: \"Node\", \"<empty>\""),
        (to("Node", ""), "target.name: Required value"),
    ] {
        let refused = subject.post(&path, &posted("Binding", "p", target)).await?;
        ensure!(refused.code == 500 && refused.message() == message, "{} {}", refused.code, refused.json);
    }
    // A node that is there for nobody else: its name is the namespace's.
    let node = space.name.as_str();
    let mut body = posted("Binding", "p", to("Node", node));
    body["metadata"]["annotations"] = json!({"bound": "yes"});
    let done = subject.post(&path, &body).await?.expect(201)?;
    ensure!(done["status"] == "Success", "{done}");
    let bound = subject.get(&space.core("pods/p")).await?.json;
    // Where controllers run, one may have ended a pod of a node that is not there.
    if bound["kind"] == "Pod" {
        ensure!(bound["spec"]["nodeName"] == node, "{}", bound["spec"]);
        ensure!(bound["metadata"]["annotations"]["bound"] == "yes", "{}", bound["metadata"]);
        let conditions = bound["status"]["conditions"].as_array().cloned().unwrap_or_default();
        ensure!(
            conditions.iter().any(|own| own["type"] == "PodScheduled" && own["status"] == "True"),
            "{conditions:?}"
        );
        let again = subject.post(&path, &posted("Binding", "p", to("Node", "m"))).await?;
        again.refused(409, "Conflict")?;
        let why = format!("pod p is already assigned to node \"{node}\"");
        ensure!(
            again.message().ends_with(&why) || again.message().contains("is being deleted"),
            "{}",
            again.message()
        );
    }
    let options = json!({"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0});
    let gone = subject.delete_with(&space.core("pods/p"), &options).await?;
    ensure!(matches!(gone.code, 200 | 404), "{} {}", gone.code, gone.json);
    space.end().await
}

async fn eviction(subject: &Subject) -> anyhow::Result<()> {
    let space = subject.namespace("pods").await?;
    for name in ["p", "q"] {
        make(subject, &space, &pod(name, json!({}))).await?;
    }
    let path = space.core("pods/p/eviction");
    let absent = space.core("pods/absent/eviction");
    subject.post(&absent, &posted("Eviction", "absent", json!({}))).await?.refused(404, "NotFound")?;
    subject.post(&path, &posted("Eviction", "q", json!({}))).await?.refused(400, "BadRequest")?;
    subject.post(&format!("{path}?dryRun=All"), &posted("Eviction", "p", json!({}))).await?.expect(201)?;
    subject.get(&space.core("pods/p")).await?.expect(200)?;
    let budget = json!({
        "apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "b"},
        "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "q"}}},
    });
    subject.post(&space.of("policy/v1", "poddisruptionbudgets"), &budget).await?.expect(201)?;
    // One that does not run yet is held by no budget.
    subject.post(&path, &posted("Eviction", "p", json!({}))).await?.expect(201)?;
    subject.get(&space.core("pods/p")).await?.refused(404, "NotFound")?;
    let running =
        json!({"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}});
    subject.patch(&space.core("pods/q/status"), "strategic-merge", &running).await?.expect(200)?;
    let held = subject.post(&space.core("pods/q/eviction"), &posted("Eviction", "q", json!({}))).await?;
    held.refused(429, "TooManyRequests")?;
    let message = "Cannot evict pod as it would violate the pod's disruption budget.";
    ensure!(held.message() == message, "{}", held.message());
    ensure!(held.json["details"]["causes"][0]["reason"] == "DisruptionBudget", "{}", held.json);
    let policy = json!({"deleteOptions": {"preconditions": {"uid": "other"}}});
    let other = subject.post(&space.core("pods/q/eviction"), &posted("Eviction", "q", policy)).await?;
    ensure!(matches!(other.code, 409 | 429), "{} {}", other.code, other.json);
    subject.delete_with(&space.core("pods/q"), &json!({"gracePeriodSeconds": 0})).await?.expect(200)?;
    space.end().await
}

async fn ephemeral(subject: &Subject) -> anyhow::Result<()> {
    let space = subject.namespace("pods").await?;
    make(subject, &space, &pod("p", json!({}))).await?;
    let (main, sub) = (space.core("pods/p"), space.core("pods/p/ephemeralcontainers"));
    let add =
        |name: &str, image: &str| json!({"spec": {"ephemeralContainers": [{"name": name, "image": image}]}});
    let refused = subject.patch(&main, "strategic-merge", &add("debug", "example.com/d:1")).await?;
    refused.refused(422, "Invalid")?;
    let made = subject.patch(&sub, "strategic-merge", &add("debug", "example.com/d:1")).await?.expect(200)?;
    let own = &made["spec"]["ephemeralContainers"][0];
    ensure!(own["terminationMessagePolicy"] == "File" && own["imagePullPolicy"] == "IfNotPresent", "{own}");
    let changed = subject.patch(&sub, "strategic-merge", &add("debug", "example.com/d:2")).await?;
    changed.refused(422, "Invalid")?;
    ensure!(
        changed.message().contains("existing ephemeral containers \"debug\" may not be changed"),
        "{}",
        changed.message()
    );
    let taken = subject.patch(&sub, "strategic-merge", &add("c", "example.com/d:1")).await?;
    taken.refused(422, "Invalid")?;
    ensure!(taken.json["details"]["causes"][0]["message"] == "Duplicate value: \"c\"", "{}", taken.json);
    let mut more = add("second", "example.com/d:1");
    more["spec"]["activeDeadlineSeconds"] = json!(7);
    let made = subject.patch(&sub, "strategic-merge", &more).await?.expect(200)?;
    ensure!(
        made["spec"]["activeDeadlineSeconds"].is_null(),
        "nothing else is written here: {}",
        made["spec"]
    );
    ensure!(crate::operations::count(&made["spec"], "ephemeralContainers") == 2, "{}", made["spec"]);
    space.end().await
}

async fn resize(subject: &Subject) -> anyhow::Result<()> {
    let space = subject.namespace("pods").await?;
    let amounts = |cpu: &str, memory: &str| json!({"cpu": cpu, "memory": memory});
    let resources = json!({"requests": amounts("100m", "100Mi"), "limits": amounts("200m", "200Mi")});
    let containers = json!([{"name": "c", "image": "example.com/c:1", "resources": resources}]);
    make(subject, &space, &pod("p", json!({"containers": containers}))).await?;
    let (main, sub) = (space.core("pods/p"), space.core("pods/p/resize"));
    let to = |requests: Value| json!({"spec": {"containers": [{"name": "c", "resources": {"requests": requests}}]}});
    subject.patch(&main, "strategic-merge", &to(json!({"cpu": "110m"}))).await?.refused(422, "Invalid")?;
    let resized = subject.patch(&sub, "strategic-merge", &to(json!({"cpu": "110m"}))).await?.expect(200)?;
    let own = &resized["spec"]["containers"][0]["resources"];
    ensure!(own["requests"] == amounts("110m", "100Mi"), "{own}");
    ensure!(resized["metadata"]["generation"] == 2, "{}", resized["metadata"]);
    let image = json!({"spec": {"containers": [{"name": "c", "image": "example.com/c:2"}]}});
    let same = subject.patch(&sub, "strategic-merge", &image).await?.expect(200)?;
    ensure!(same["spec"]["containers"][0]["image"] == "example.com/c:1", "{}", same["spec"]);
    let class = subject.patch(&sub, "strategic-merge", &to(amounts("200m", "200Mi"))).await?;
    class.refused(422, "Invalid")?;
    ensure!(
        class.message().ends_with("Pod QOS Class may not change as a result of resizing"),
        "{}",
        class.message()
    );
    let other = subject.patch(&sub, "strategic-merge", &to(json!({"example.com/x": "1"}))).await?;
    other.refused(422, "Invalid")?;
    ensure!(other.message().contains("only cpu and memory resources are mutable"), "{}", other.message());
    space.end().await
}

async fn two_containers(subject: &Subject, space: &Namespace<'_>) -> anyhow::Result<()> {
    let containers =
        json!([{"name": "a", "image": "example.com/c:1"}, {"name": "b", "image": "example.com/c:1"}]);
    make(subject, space, &pod("p", json!({"containers": containers}))).await?;
    Ok(())
}

const CHOOSE: &str = "a container name must be specified for pod p, choose one of: [a b]";

async fn sessions(subject: &Subject) -> anyhow::Result<()> {
    let space = subject.namespace("pods").await?;
    two_containers(subject, &space).await?;
    let homeless = "pod p does not have a host assigned";
    for (path, message) in [
        ("exec?command=x&stdout=1", CHOOSE),
        ("exec?command=x&stdout=1&container=x", "container x is not valid for pod p"),
        ("exec?command=x&stdout=1&container=a", homeless),
        ("attach?stdout=1", CHOOSE),
        ("attach?stdout=1&container=a", homeless),
        ("portforward?ports=80", homeless),
    ] {
        let whole = space.core(&format!("pods/p/{path}"));
        for answer in [subject.get(&whole).await?, subject.post(&whole, &json!({})).await?] {
            answer.refused(400, "BadRequest")?;
            ensure!(answer.message() == message, "{path}: {message:?} expected, not {:?}", answer.message());
        }
        let absent = space.core(&format!("pods/absent/{path}"));
        subject.get(&absent).await?.refused(404, "NotFound")?;
    }
    space.end().await
}

async fn logs(subject: &Subject) -> anyhow::Result<()> {
    let space = subject.namespace("pods").await?;
    two_containers(subject, &space).await?;
    let log = async |query: &str| subject.get(&space.core(&format!("pods/p/log?{query}"))).await;
    let none = log("").await?;
    none.refused(400, "BadRequest")?;
    ensure!(none.message() == CHOOSE, "{}", none.message());
    log("container=x").await?.refused(400, "BadRequest")?;
    let empty = log("container=a").await?;
    ensure!(
        empty.code == 204 && empty.bytes.is_empty(),
        "no log without a node: {} {:?}",
        empty.code,
        empty.bytes
    );
    for (query, field, message) in [
        ("tailLines=-1", "tailLines", "Invalid value: -1: must be greater than or equal to 0"),
        ("sinceSeconds=-1", "sinceSeconds", "Invalid value: -1: must be greater than 0"),
        ("limitBytes=0", "limitBytes", "Invalid value: 0: must be greater than 0"),
        (
            "sinceSeconds=1&sinceTime=2024-01-01T00:00:00Z",
            "[]",
            "Forbidden: at most one of `sinceTime` or `sinceSeconds` may be specified",
        ),
    ] {
        let refused = log(&format!("container=a&{query}")).await?;
        refused.refused(422, "Invalid")?;
        let whole = format!("PodLogOptions \"p\" is invalid: {field}: {message}");
        ensure!(refused.message() == whole, "{query}: {}", refused.message());
    }
    subject.get(&space.core("pods/absent/log")).await?.refused(404, "NotFound")?;
    space.end().await
}

async fn proxies(subject: &Subject) -> anyhow::Result<()> {
    let space = subject.namespace("pods").await?;
    two_containers(subject, &space).await?;
    for path in ["pods/p/proxy/", "pods/p:80/proxy/x", "pods/http:p:80/proxy"] {
        let answer = subject.get(&space.core(path)).await?;
        answer.refused(400, "BadRequest")?;
        ensure!(answer.message() == "address not allowed", "{path}: {}", answer.message());
    }
    for path in ["pods/absent/proxy/", "services/absent/proxy/", "services/http:absent:x/proxy/"] {
        subject.get(&space.core(path)).await?.refused(404, "NotFound")?;
    }
    subject.get("/api/v1/nodes/nothing-of-the-kind/proxy/healthz").await?.refused(404, "NotFound")?;
    space.end().await
}

async fn deletion(subject: &Subject) -> anyhow::Result<()> {
    let space = subject.namespace("pods").await?;
    make(subject, &space, &pod("p", json!({}))).await?;
    let gone = subject.delete(&space.core("pods/p")).await?.expect(200)?;
    ensure!(
        gone["kind"] == "Pod" && gone["metadata"]["deletionGracePeriodSeconds"] == 0,
        "{}",
        gone["metadata"]
    );
    subject.get(&space.core("pods/p")).await?.refused(404, "NotFound")?;
    space.end().await
}

async fn gates(subject: &Subject) -> anyhow::Result<()> {
    let space = subject.namespace("pods").await?;
    let made =
        make(subject, &space, &pod("p", json!({"schedulingGates": [{"name": "example.com/wait"}]}))).await?;
    let conditions = made["status"]["conditions"].as_array().cloned().unwrap_or_default();
    ensure!(conditions.iter().any(|own| own["reason"] == "SchedulingGated"), "{conditions:?}");
    let body = posted("Binding", "p", json!({"target": {"kind": "Node", "name": "n"}}));
    subject.post(&space.core("pods/p/binding"), &body).await?.refused(409, "Conflict")?;
    let more = json!({"spec": {"schedulingGates": [{"name": "example.com/more"}]}});
    subject.patch(&space.core("pods/p"), "strategic-merge", &more).await?.refused(422, "Invalid")?;
    let open = json!({"spec": {"schedulingGates": null}});
    let opened = subject.patch(&space.core("pods/p"), "merge", &open).await?.expect(200)?;
    ensure!(opened["spec"]["schedulingGates"].is_null(), "{}", opened["spec"]);
    space.end().await
}
