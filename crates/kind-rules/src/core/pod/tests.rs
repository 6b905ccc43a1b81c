use jiff::Timestamp;
use serde_json::json;

use super::*;

fn status_cell(pod: &Value) -> (String, String, String) {
    let now: Timestamp = "2026-01-01T00:10:00Z".parse().unwrap();
    let cells = (RULES.cells)(pod, now);
    let text = |index: usize| cells[index].as_str().unwrap().to_owned();
    (text(0), text(1), text(2))
}

fn cell(ready: &str, status: &str, restarts: &str) -> (String, String, String) {
    (ready.into(), status.into(), restarts.into())
}

#[test]
fn the_status_column_reads_as_upstreams() {
    let pod = |status: Value| {
        json!({"metadata": {"name": "p"}, "status": status,
            "spec": {"containers": [{"name": "a"}, {"name": "b"}],
                "initContainers": [{"name": "i"}, {"name": "j"}]}})
    };
    assert_eq!(status_cell(&pod(json!({"phase": "Pending"}))), cell("0/2", "Pending", "0"));
    let init = pod(json!({"phase": "Pending", "initContainerStatuses": [
        {"name": "i", "state": {"terminated": {"exitCode": 0}}}, {"name": "j", "state": {"running": {}}}]}));
    assert_eq!(status_cell(&init), cell("0/2", "Init:1/2", "0"));
    let failed = pod(json!({"phase": "Pending", "initContainerStatuses": [
        {"name": "i", "restartCount": 2, "state": {"waiting": {"reason": "CrashLoopBackOff"}},
         "lastState": {"terminated": {"finishedAt": "2026-01-01T00:05:00Z"}}}]}));
    assert_eq!(status_cell(&failed), cell("0/2", "Init:CrashLoopBackOff", "2 (5m ago)"));
    let running = pod(json!({"phase": "Running", "containerStatuses": [
        {"name": "a", "ready": true, "state": {"running": {}}},
        {"name": "b", "restartCount": 3, "state": {"waiting": {"reason": "CrashLoopBackOff"}}}]}));
    assert_eq!(status_cell(&running), cell("1/2", "CrashLoopBackOff", "3"));
    let done = pod(json!({"phase": "Succeeded", "containerStatuses": [
        {"name": "a", "state": {"terminated": {"exitCode": 0, "reason": "Completed"}}}]}));
    assert_eq!(status_cell(&done).1, "Completed");
    let mut leaving = running.clone();
    leaving["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    assert_eq!(status_cell(&leaving).1, "Terminating");
}

#[test]
fn the_quality_of_service_follows_from_requests_and_limits() {
    let spec = |resources: Value| json!({"containers": [{"resources": resources}]});
    assert_eq!(quality_of_service(&spec(json!({}))), "BestEffort");
    let limits = json!({"cpu": "1", "memory": "1Gi"});
    let both = json!({"limits": limits, "requests": {"cpu": "1000m", "memory": "1Gi"}});
    assert_eq!(quality_of_service(&spec(both)), "Guaranteed");
    assert_eq!(quality_of_service(&spec(json!({"requests": {"cpu": "1"}}))), "Burstable");
    let shared =
        json!({"resources": {"limits": limits, "requests": limits}, "containers": [{"resources": {}}]});
    assert_eq!(quality_of_service(&shared), "Guaranteed");
}

fn pod(spec: Value) -> Value {
    let mut pod = json!({"metadata": {"name": "p", "namespace": "n"}, "spec": spec});
    pod_spec::default_pod(&mut pod);
    prepare_create(&mut pod);
    pod
}

#[test]
fn a_pod_update_may_change_images_and_add_tolerations_only() {
    let old = pod(json!({"containers": [{"name": "a", "image": "i:1"}], "tolerations": [{"key": "k"}]}));
    let check = |change: &dyn Fn(&mut Value)| {
        let mut new = old.clone();
        change(&mut new);
        let mut problems = Problems::default();
        (RULES.validate_update)(&mut problems, &new, &old);
        problems.into_causes().into_iter().map(|cause| cause.field).collect::<Vec<_>>()
    };
    assert!(check(&|_| {}).is_empty());
    assert!(check(&|new| new["spec"]["containers"][0]["image"] = json!("i:2")).is_empty());
    assert!(check(&|new| new["spec"]["tolerations"] = json!([{"key": "k"}, {"key": "l"}])).is_empty());
    assert_eq!(check(&|new| new["spec"]["tolerations"] = json!([])), ["spec.tolerations"]);
    assert_eq!(check(&|new| new["spec"]["nodeName"] = json!("n")), ["spec"]);
    assert_eq!(check(&|new| new["spec"]["containers"][0]["command"] = json!(["x"])), ["spec"]);
    assert_eq!(check(&|new| new["spec"]["containers"] = json!([])), ["spec.containers", "spec.containers"]);
}

#[test]
fn a_resize_changes_cpu_and_memory_only() {
    let old = pod(json!({"containers": [{"name": "a", "image": "i:1",
        "resources": {"requests": {"cpu": "1"}}}]}));
    let check = |change: &dyn Fn(&mut Value)| {
        let mut new = old.clone();
        change(&mut new);
        prepare_resize(&mut new, &old);
        let mut problems = Problems::default();
        validate_resize(&mut problems, &new, &old);
        (new, problems.into_causes().into_iter().map(|cause| cause.message).collect::<Vec<_>>())
    };
    let (new, found) = check(&|new| {
        new["spec"]["containers"][0]["resources"]["requests"]["cpu"] = json!("2");
        new["spec"]["containers"][0]["image"] = json!("other");
    });
    assert!(found.is_empty(), "{found:?}");
    assert_eq!(new["spec"]["containers"][0]["image"], "i:1", "everything else stays");
    let (_, found) = check(&|new| new["spec"]["containers"][0]["resources"] = json!({}));
    assert!(
        found.iter().any(|message| message == "Forbidden: resource requests cannot be removed"),
        "{found:?}"
    );
}
