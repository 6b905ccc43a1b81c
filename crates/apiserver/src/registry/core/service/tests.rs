use super::*;

fn defaulted(mut object: Value) -> Value {
    Service::default().default_fields(&mut object);
    object
}

fn fields(object: &Value) -> Vec<String> {
    let mut problems = Problems::default();
    validate_spec(&mut problems, &object["spec"], Some("10.96.0.0/16"));
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
fn addresses_have_to_be_of_the_network() {
    for (address, bad) in [("10.96.3.4", false), ("10.97.0.1", true), ("10.96.0.0", true), ("x", true)] {
        let service = defaulted(json!({"spec": {"clusterIP": address, "ports": [{"port": 80}]}}));
        assert_eq!(!fields(&service).is_empty(), bad, "{address}");
    }
}

#[test]
fn a_row_shows_ports_and_addresses() {
    let service = json!({"metadata": {"name": "s"}, "spec": {"type": "LoadBalancer", "clusterIPs": ["10.96.0.9"],
        "ports": [{"port": 80, "nodePort": 30080, "protocol": "TCP"}, {"port": 53, "protocol": "UDP"}]}});
    let cells = Service::default().cells(&service, Timestamp::UNIX_EPOCH);
    assert_eq!(
        cells[1..5],
        [json!("LoadBalancer"), json!("10.96.0.9"), json!("<pending>"), json!("80:30080/TCP,53/UDP")]
    );
}
