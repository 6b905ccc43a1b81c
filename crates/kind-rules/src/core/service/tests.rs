use super::*;
use crate::problems::Problems;

fn defaulted(mut object: Value) -> Value {
    (RULES.defaults)(&mut object);
    normalize(&mut object, None);
    object
}

fn fields(object: &Value) -> Vec<String> {
    let mut problems = Problems::default();
    (RULES.validate)(&mut problems, object);
    problems.into_causes().into_iter().map(|cause| cause.field).collect()
}

#[test]
fn a_service_is_completed() {
    let service = defaulted(json!({"spec": {"ports": [{"port": 80}], "selector": {"a": "b"}}}));
    let spec = &service["spec"];
    assert_eq!((&spec["type"], &spec["sessionAffinity"]), (&json!("ClusterIP"), &json!("None")));
    assert_eq!(spec["ports"][0], json!({"port": 80, "protocol": "TCP", "targetPort": 80}));
    assert_eq!(spec["internalTrafficPolicy"], "Cluster");
    assert!(fields(&service).is_empty());
    let balancer = defaulted(json!({"spec": {"type": "LoadBalancer", "ports": [{"port": 80}]}}));
    assert_eq!(balancer["spec"]["externalTrafficPolicy"], "Cluster");
    assert_eq!(balancer["spec"]["allocateLoadBalancerNodePorts"], true);
}

#[test]
fn ports_need_names_and_differ() {
    let service = defaulted(json!({"spec": {"ports": [{"port": 80}, {"port": 80}]}}));
    assert_eq!(fields(&service), ["spec.ports[0].name", "spec.ports[1].name", "spec.ports[1]"]);
    assert_eq!(fields(&defaulted(json!({"spec": {}}))), ["spec.ports"]);
    assert!(fields(&defaulted(json!({"spec": {"clusterIP": "None"}}))).is_empty());
}

#[test]
fn a_change_of_type_takes_along_what_the_new_one_can_have() {
    let old = defaulted(json!({"spec": {"type": "NodePort", "clusterIP": "10.96.0.9",
        "ports": [{"name": "a", "port": 80, "nodePort": 30080}]}}));
    let mut new = defaulted(json!({"spec": {"type": "ClusterIP", "externalTrafficPolicy": "Cluster",
        "ports": [{"name": "a", "port": 81, "nodePort": 30080}]}}));
    (RULES.prepare_update)(&mut new, &old);
    assert_eq!(new["spec"]["clusterIPs"], json!(["10.96.0.9"]));
    assert!(new["spec"]["ports"][0]["nodePort"].is_null());
    assert!(new["spec"]["externalTrafficPolicy"].is_null());
    let mut named = defaulted(json!({"spec": {"type": "ExternalName", "externalName": "a.b",
        "clusterIP": "10.96.0.9", "clusterIPs": ["10.96.0.9"]}}));
    (RULES.prepare_update)(&mut named, &old);
    assert!(named["spec"]["clusterIP"].is_null());
    let mut moved = old.clone();
    moved["spec"]["clusterIP"] = json!("10.96.0.10");
    (RULES.prepare_update)(&mut moved, &old);
    let mut problems = Problems::default();
    (RULES.validate_update)(&mut problems, &moved, &old);
    assert_eq!(problems.into_causes()[0].field, "spec.clusterIPs[0]");
}

#[test]
fn a_row_shows_ports_and_addresses() {
    let service = json!({"metadata": {"name": "s"}, "spec": {"type": "LoadBalancer", "clusterIPs": ["10.96.0.9"],
        "ports": [{"port": 80, "nodePort": 30080, "protocol": "TCP"}, {"port": 53, "protocol": "UDP"}]}});
    let cells = (RULES.cells)(&service, Timestamp::UNIX_EPOCH);
    assert_eq!(
        cells[0..4],
        [json!("LoadBalancer"), json!("10.96.0.9"), json!("<pending>"), json!("80:30080/TCP,53/UDP")]
    );
}
