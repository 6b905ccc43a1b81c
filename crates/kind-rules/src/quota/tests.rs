use serde_json::json;

use super::*;

fn usage(group: &str, resource: &str, object: Value) -> String {
    Evaluator::of(group, resource).unwrap().usage(&object, Timestamp::UNIX_EPOCH).shown()
}

#[test]
fn kinds_cost_what_upstream_counts() {
    for (group, resource, object, wanted) in [
        ("apps", "deployments", json!({}), "count/deployments.apps=1"),
        ("", "secrets", json!({}), "count/secrets=1,secrets=1"),
        (
            "",
            "services",
            json!({"spec": {"type": "NodePort", "ports": [{}, {}]}}),
            "count/services=1,services=1,services.loadbalancers=0,services.nodeports=2",
        ),
        (
            "",
            "services",
            json!({"spec": {"type": "LoadBalancer", "allocateLoadBalancerNodePorts": false, "ports": [{"nodePort": 30000}, {}]}}),
            "count/services=1,services=1,services.loadbalancers=1,services.nodeports=1",
        ),
        (
            "",
            "persistentvolumeclaims",
            json!({"spec": {"storageClassName": "gold", "resources": {"requests": {"storage": "1Gi"}}}}),
            "count/persistentvolumeclaims=1,gold.storageclass.storage.k8s.io/persistentvolumeclaims=1,\
             gold.storageclass.storage.k8s.io/requests.storage=1Gi,persistentvolumeclaims=1,requests.storage=1Gi",
        ),
        (
            "",
            "pods",
            json!({"spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": "100m", "example.com/gpu": "2"},
                "limits": {"memory": "1Gi", "example.com/gpu": "2"}}}]}}),
            "count/pods=1,cpu=100m,limits.memory=1Gi,pods=1,requests.cpu=100m,requests.example.com/gpu=2",
        ),
        ("", "pods", json!({"spec": {"containers": []}, "status": {"phase": "Succeeded"}}), "count/pods=1"),
    ] {
        assert_eq!(usage(group, resource, object), wanted);
    }
    assert_eq!(Evaluator::of("", "events"), None);
}

fn quota(hard: Value, used: Value) -> Value {
    json!({"metadata": {"name": "q"}, "spec": {"hard": hard}, "status": {"hard": hard, "used": used}})
}

fn pod(resources: Value) -> Value {
    json!({"spec": {"containers": [{"name": "c", "resources": resources}]}})
}

fn charged(quota: &Value, object: &Value, old: Option<&Value>) -> Result<String, String> {
    let added = charge(quota, &Evaluator::Pods, object, old, Timestamp::UNIX_EPOCH, false)?;
    Ok(added.map_or_else(String::new, |added| added.shown()))
}

#[test]
fn refusals_are_upstreams() {
    let full = quota(json!({"pods": "2", "cpu": "1"}), json!({"pods": "2", "cpu": "800m"}));
    let small = pod(json!({"requests": {"cpu": "300m"}}));
    assert_eq!(
        charged(&full, &small, None).unwrap_err(),
        "exceeded quota: q, requested: cpu=300m,pods=1, used: cpu=800m,pods=2, limited: cpu=1,pods=2"
    );
    let free = quota(json!({"pods": "3", "cpu": "1"}), json!({"pods": "2", "cpu": "800m"}));
    assert_eq!(
        charged(&free, &small, None).unwrap_err(),
        "exceeded quota: q, requested: cpu=300m, used: cpu=800m, limited: cpu=1"
    );
    assert_eq!(charged(&free, &pod(json!({"requests": {"cpu": "0.2"}})), None).unwrap(), "cpu=200m,pods=1");
    assert_eq!(
        charged(&free, &pod(json!({})), None).unwrap_err(),
        "failed quota: q: must specify cpu for: c"
    );
    let limits = quota(
        json!({"limits.cpu": "1", "limits.memory": "1Gi"}),
        json!({"limits.cpu": "0", "limits.memory": "0"}),
    );
    assert_eq!(
        charged(&limits, &pod(json!({"limits": {"cpu": "1"}})), None).unwrap_err(),
        "failed quota: q: must specify limits.memory for: c"
    );
    let unknown = quota(json!({"pods": "3"}), json!({}));
    assert_eq!(charged(&unknown, &small, None).unwrap_err(), "status unknown for quota: q, resources: pods");
    assert_eq!(charged(&free, &small, Some(&small)).unwrap(), "", "nothing more than before");
    let other = quota(json!({"services": "0"}), json!({"services": "0"}));
    assert_eq!(charged(&other, &small, None).unwrap(), "");
}

#[test]
fn scopes_choose_objects() {
    let scoped = |spec: Value| {
        let mut quota = quota(json!({"pods": "0"}), json!({"pods": "0"}));
        for (key, value) in spec.as_object().unwrap() {
            quota["spec"][key] = value.clone();
        }
        quota
    };
    let selector = |operator: &str, values: &[&str]| {
        json!({"scopeSelector": {"matchExpressions": [
            {"scopeName": "PriorityClass", "operator": operator, "values": values}]}})
    };
    let best_effort = pod(json!({}));
    let burstable = pod(json!({"requests": {"cpu": "1"}}));
    let mut ending = best_effort.clone();
    ending["spec"]["activeDeadlineSeconds"] = json!(5);
    let mut ranked = best_effort.clone();
    ranked["spec"]["priorityClassName"] = json!("high");
    let mut crossing = best_effort.clone();
    crossing["spec"]["affinity"] = json!({"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution":
        [{"podAffinityTerm": {"namespaceSelector": {}}}]}});
    for (spec, inside, outside) in [
        (json!({"scopes": ["BestEffort"]}), &best_effort, &burstable),
        (json!({"scopes": ["NotBestEffort"]}), &burstable, &best_effort),
        (json!({"scopes": ["Terminating"]}), &ending, &best_effort),
        (json!({"scopes": ["NotTerminating", "BestEffort"]}), &best_effort, &ending),
        (json!({"scopes": ["CrossNamespacePodAffinity"]}), &crossing, &best_effort),
        (selector("In", &["high"]), &ranked, &best_effort),
        (selector("NotIn", &["high"]), &best_effort, &ranked),
        (selector("Exists", &[]), &ranked, &best_effort),
        (selector("DoesNotExist", &[]), &best_effort, &ranked),
    ] {
        let quota = scoped(spec);
        assert!(charged(&quota, inside, None).is_err(), "{quota}");
        assert_eq!(charged(&quota, outside, None).unwrap(), "", "{quota}");
    }
}

#[test]
fn recalculation_counts_what_is_there() {
    let quota = json!({"metadata": {"name": "q"}, "spec": {"hard": {"pods": "5", "requests.cpu": "2", "secrets": "9"}}});
    let running = pod(json!({"requests": {"cpu": "250m"}}));
    let mut ended = running.clone();
    ended["status"] = json!({"phase": "Failed"});
    let secrets = Evaluator::of("", "secrets").unwrap();
    let objects = [
        (&Evaluator::Pods, &running),
        (&Evaluator::Pods, &running),
        (&Evaluator::Pods, &ended),
        (&secrets, &running),
    ];
    let used = recalculate(&quota, objects.into_iter(), Timestamp::UNIX_EPOCH);
    assert_eq!(used.shown(), "pods=2,requests.cpu=500m,secrets=1");
}

#[test]
fn claims_of_devices_cost_their_worst_case_by_class() {
    let claims = Evaluator::of("resource.k8s.io", "resourceclaims").unwrap();
    let claim = json!({"spec": {"devices": {"requests": [
        {"name": "a", "exactly": {"deviceClassName": "gpu", "allocationMode": "ExactCount", "count": 2}},
        {"name": "b", "exactly": {"deviceClassName": "nic", "allocationMode": "All"}},
        {"name": "c", "firstAvailable": [
            {"name": "x", "deviceClassName": "gpu", "allocationMode": "ExactCount", "count": 4},
            {"name": "y", "deviceClassName": "gpu", "allocationMode": "ExactCount", "count": 1},
            {"name": "z", "deviceClassName": "nic", "allocationMode": "ExactCount", "count": 1}]}]}}});
    let usage = claims.usage(&claim, Timestamp::UNIX_EPOCH);
    let amount = |name: &str| usage.0.get(name).map(ToString::to_string);
    assert_eq!(amount("count/resourceclaims.resource.k8s.io").as_deref(), Some("1"));
    assert_eq!(amount("gpu.deviceclass.resource.k8s.io/devices").as_deref(), Some("6"));
    assert_eq!(amount("nic.deviceclass.resource.k8s.io/devices").as_deref(), Some("33"));
    assert!(usage.0.keys().all(|name| claims.covers(name)));
    assert!(!claims.covers("count/resourceclaims") && !claims.covers("pods"));
}
