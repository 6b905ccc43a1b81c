//! Small clusters with pods that care about each other.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Node;
use serde_json::{Value, json};

use super::*;
use crate::decide::{Demand, Surroundings, decide};

fn node(name: &str, zone: &str, pods: &[Pod]) -> NodeState {
    let node: Node = serde_json::from_value(json!({
        "metadata": {"name": name, "labels": {"host": name, "zone": zone}},
        "status": {"allocatable": {"cpu": "8", "pods": "10"}},
    }))
    .expect("a node");
    let mut state = NodeState::new(&node);
    for (number, pod) in pods.iter().enumerate() {
        state.settle(&format!("{name}-{number}"), &Arc::new(pod.clone()), &Demand::of(pod));
    }
    state
}

fn pod(app: &str, spec: Value) -> Pod {
    let mut pod = json!({"metadata": {"name": app, "namespace": "ns", "labels": {"app": app}},
        "spec": {"containers": []}});
    for (key, value) in spec.as_object().cloned().unwrap_or_default() {
        pod["spec"][key] = value;
    }
    serde_json::from_value(pod).expect("a pod")
}

fn term(app: &str, key: &str) -> Value {
    json!({"labelSelector": {"matchLabels": {"app": app}}, "topologyKey": key})
}

fn near(app: &str, key: &str) -> Value {
    json!({"affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term(app, key)]}}})
}

fn apart(app: &str, key: &str) -> Value {
    json!({"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term(app, key)]}}})
}

fn place(pod: &Pod, nodes: &[NodeState]) -> Result<String, String> {
    let nodes: Vec<&NodeState> = nodes.iter().collect();
    decide(pod, &Demand::of(pod), &nodes, &Surroundings::default())
        .map(str::to_owned)
        .map_err(|unfit| unfit.to_string())
}

#[test]
fn company_is_needed_within_the_domain_and_the_first_may_come_alone() {
    let nodes = [node("a", "x", &[]), node("b", "y", &[pod("db", json!({}))]), node("c", "y", &[])];
    assert_eq!(place(&pod("web", near("db", "host")), &nodes).as_deref(), Ok("b"));
    let placed = place(&pod("web", near("db", "zone")), &nodes).expect("fits");
    assert!(["b", "c"].contains(&placed.as_str()));
    let why = place(&pod("web", near("cache", "zone")), &nodes).expect_err("nobody is there");
    assert_eq!(why, "0/3 nodes are available: 3 node(s) didn't match pod affinity rules.");
    assert!(place(&pod("cache", near("cache", "zone")), &nodes).is_ok(), "the first of its sort");
}

#[test]
fn anti_affinity_binds_both_sides() {
    let proud = pod("db", apart("db", "host"));
    let nodes = [node("a", "x", std::slice::from_ref(&proud)), node("b", "x", &[])];
    assert_eq!(place(&proud, &nodes).as_deref(), Ok("b"));
    let meek = pod("db", json!({}));
    assert_eq!(place(&meek, &nodes).as_deref(), Ok("b"), "who is there keeps it out");
    let full = [node("a", "x", std::slice::from_ref(&proud))];
    let why = place(&meek, &full).expect_err("kept out");
    assert!(why.contains("node(s) didn't satisfy existing pods anti-affinity rules"), "{why}");
    let why = place(&proud, &[node("a", "x", &[meek])]).expect_err("keeps away");
    assert!(why.contains("node(s) didn't match pod anti-affinity rules"), "{why}");
}

#[test]
fn other_namespaces_count_only_when_named_or_selected() {
    let mut there = pod("db", json!({}));
    there.metadata.namespace = Some("other".to_owned());
    let nodes = [node("a", "x", &[there])];
    assert!(place(&pod("web", near("db", "host")), &nodes).is_err());
    let with = |key: &str, value: Value| {
        let mut spec = near("db", "host");
        spec["affinity"]["podAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"][0][key] = value;
        pod("web", spec)
    };
    assert!(place(&with("namespaces", json!(["other"])), &nodes).is_ok());
    assert!(place(&with("namespaceSelector", json!({})), &nodes).is_ok(), "an empty selector means all");
    let team = with("namespaceSelector", json!({"matchLabels": {"team": "t"}}));
    assert!(place(&team, &nodes).is_err());
    let namespaces = [("other".to_owned(), [("team".to_owned(), "t".to_owned())].into())].into();
    let around = Surroundings { namespaces: Arc::new(namespaces), ..Surroundings::default() };
    assert!(decide(&team, &Demand::of(&team), &[&nodes[0]], &around).is_ok());
}

#[test]
fn a_hard_spread_holds_and_a_soft_one_is_preferred() {
    let spread = |when: &str| {
        json!({"topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": when,
            "labelSelector": {"matchLabels": {"app": "web"}}}]})
    };
    let hard = pod("web", spread("DoNotSchedule"));
    let one = std::slice::from_ref(&hard);
    let nodes = [node("a", "x", one), node("b", "y", &[])];
    assert_eq!(place(&hard, &nodes).as_deref(), Ok("b"));
    let mut barred = node("b", "y", &[]);
    barred.unschedulable = true;
    let why = place(&hard, &[node("a", "x", one), barred]).expect_err("uneven");
    assert!(why.contains("1 node(s) didn't match pod topology spread constraints"), "{why}");
    let mut homeless = node("c", "z", &[]);
    homeless.labels.clear();
    let why = place(&hard, &[homeless]).expect_err("no zone");
    assert!(why.contains("(missing required label)"), "{why}");
    let soft = pod("web", spread("ScheduleAnyway"));
    assert_eq!(place(&soft, &nodes).as_deref(), Ok("b"));
    assert!(place(&soft, &nodes[..1]).is_ok());
}
