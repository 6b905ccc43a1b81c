//! Decisions over small clusters, and properties over random ones.

use super::*;
use proptest::prelude::*;
use serde_json::{Value, json};

fn node(name: &str, cpu: &str, taints: &Value) -> NodeState {
    let node: Node = serde_json::from_value(json!({
        "metadata": {"name": name, "labels": {"name": name}},
        "spec": {"taints": taints},
        "status": {"allocatable": {"cpu": cpu, "memory": "1Gi", "pods": "10"}},
    }))
    .expect("a node");
    NodeState::new(&node)
}

fn pod(spec: Value) -> Pod {
    let mut pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c",
        "resources": {"requests": {"cpu": "500m"}}}]}});
    for (key, value) in spec.as_object().cloned().unwrap_or_default() {
        pod["spec"][key] = value;
    }
    serde_json::from_value(pod).expect("a pod")
}

fn place<'a>(pod: &Pod, nodes: &'a [NodeState]) -> Result<&'a str, String> {
    decide(pod, &Demand::of(pod), &nodes.iter().collect::<Vec<_>>(), &Surroundings::default())
        .map_err(|unfit| unfit.to_string())
}

#[test]
fn says_why_in_upstreams_words() {
    let taint = json!([{"key": "gpu", "value": "yes", "effect": "NoSchedule"}]);
    let nodes = [node("a", "100m", &json!([])), node("b", "100m", &json!([])), node("c", "4", &taint)];
    assert_eq!(
        place(&pod(json!({})), &nodes).expect_err("fits nowhere"),
        "0/3 nodes are available: 1 node(s) had untolerated taint {gpu: yes}, 2 Insufficient cpu."
    );
    assert_eq!(place(&pod(json!({})), &[]).expect_err("no nodes"), "no nodes available to schedule pods");
}

#[test]
fn tolerations_selectors_and_ports_count() {
    let taint = json!([{"key": "gpu", "value": "yes", "effect": "NoSchedule"}]);
    let nodes = [node("a", "4", &json!([])), node("b", "4", &taint)];
    let picky = json!({"nodeSelector": {"name": "b"}, "tolerations": [{"key": "gpu", "operator": "Exists"}]});
    assert_eq!(place(&pod(picky), &nodes), Ok("b"));
    let port = json!({"containers": [{"name": "c", "ports": [{"containerPort": 80, "hostPort": 80}]}]});
    let mut taken = node("a", "4", &json!([]));
    taken.add(&Demand::of(&pod(port.clone())));
    assert!(place(&pod(port), &[taken]).expect_err("taken").contains("free ports"));
}

#[test]
fn an_idle_node_is_preferred_and_names_break_ties() {
    let mut busy = node("a", "4", &json!([]));
    busy.add(&Demand::of(&pod(json!({}))));
    assert_eq!(
        place(&pod(json!({})), &[busy, node("c", "4", &json!([])), node("b", "4", &json!([]))]),
        Ok("b")
    );
}

#[test]
fn init_containers_count_at_their_peak_and_sidecars_always() {
    let pod = pod(json!({
        "containers": [{"name": "c", "resources": {"requests": {"cpu": "1"}}}],
        "initContainers": [
            {"name": "side", "restartPolicy": "Always", "resources": {"requests": {"cpu": "500m"}}},
            {"name": "init", "resources": {"requests": {"cpu": "2"}}}],
    }));
    assert_eq!(Demand::of(&pod).requests["cpu"], 2_500);
}

proptest! {
    #[test]
    fn never_overcommits(pods in prop::collection::vec(1..2_000_u32, 1..40), sizes in prop::collection::vec(1..5_u32, 1..5)) {
        let mut nodes: Vec<NodeState> =
            sizes.iter().enumerate().map(|(number, cpu)| node(&format!("n{number}"), &cpu.to_string(), &json!([]))).collect();
        for milli in pods {
            let pod = pod(json!({"containers": [{"name": "c", "resources": {"requests": {"cpu": format!("{milli}m")}}}]}));
            let demand = Demand::of(&pod);
            let chosen = decide(&pod, &demand, &nodes.iter().collect::<Vec<_>>(), &Surroundings::default()).map(str::to_owned);
            match chosen {
                Ok(name) => nodes.iter_mut().find(|node| node.name == name).expect("known").add(&demand),
                Err(unfit) => prop_assert_eq!(unfit.nodes, nodes.len()),
            }
        }
        for node in nodes {
            prop_assert!(node.used.iter().all(|(name, used)| used <= &node.allocatable[name]));
        }
    }
}
