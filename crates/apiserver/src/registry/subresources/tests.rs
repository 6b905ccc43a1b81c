use super::*;

#[test]
fn a_pod_is_bound_once() {
    let pod = json!({"metadata": {"uid": "u"}, "spec": {}, "status": {}});
    let binding = json!({"metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n"}});
    assert!(refuse_binding(&pod, &binding, "p", "n").is_ok());
    let mut bound = pod.clone();
    bound["spec"]["nodeName"] = json!("m");
    assert_eq!(refuse_binding(&bound, &binding, "p", "n").unwrap_err().code, 409);
    let mut leaving = pod.clone();
    leaving["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    assert_eq!(refuse_binding(&leaving, &binding, "p", "n").unwrap_err().code, 409);
    let other = json!({"metadata": {"uid": "v"}});
    assert_eq!(refuse_binding(&pod, &other, "p", "n").unwrap_err().code, 409);
}

#[test]
fn the_scheduled_condition_is_set_once() {
    let mut status = json!({"conditions": [{"type": "PodScheduled", "status": "False"}]});
    set_scheduled(&mut status, "2026-01-01T00:00:00Z");
    set_scheduled(&mut status, "2026-01-02T00:00:00Z");
    assert_eq!(status["conditions"].as_array().unwrap().len(), 1);
    assert_eq!(status["conditions"][0]["lastTransitionTime"], "2026-01-01T00:00:00Z");
}

#[test]
fn a_budget_without_room_refuses_with_the_cause_clients_look_for() {
    let budget = |allowed: i64, observed: i64| {
        json!({"metadata": {"generation": 1}, "status": {"disruptionsAllowed": allowed, "observedGeneration": observed,
            "desiredHealthy": 2, "currentHealthy": 2}})
    };
    assert!(eviction::allowed(&budget(1, 1), "b").is_ok());
    let refused = eviction::allowed(&budget(0, 1), "b").unwrap_err();
    assert_eq!(refused.code, 429);
    let cause = &refused.details.unwrap().causes[0];
    assert_eq!(cause.reason, "DisruptionBudget");
    assert!(cause.message.contains("needs 2 healthy pods and has 2"));
    assert!(eviction::allowed(&budget(1, 0), "b").is_err(), "nobody has looked at this generation yet");
}

#[test]
fn a_scale_reads_and_writes_replicas() {
    let mut object = json!({"metadata": {"name": "d", "namespace": "n", "resourceVersion": "7"},
        "spec": {"replicas": 2, "selector": {"matchLabels": {"a": "b"}}}, "status": {"replicas": 1}});
    let mut scale = scale_of(&object);
    assert_eq!(scale["status"], json!({"replicas": 1, "selector": "a=b"}));
    scale["spec"]["replicas"] = json!(5);
    apply_scale(&mut object, &scale).unwrap();
    assert_eq!(object["spec"]["replicas"], 5);
    scale["spec"]["replicas"] = json!(-1);
    assert_eq!(apply_scale(&mut object, &scale).unwrap_err().code, 422);
}
