//! Whole rollouts, played without a server.

use super::*;
use serde_json::json;

fn deployment(replicas: i32, image: &str) -> Deployment {
    serde_json::from_value(json!({
        "metadata": {"name": "web", "namespace": "ns", "uid": "d", "generation": 1},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "c", "image": image}]}}},
    }))
    .expect("a Deployment")
}

/// Carries plans out as if every pod became available at once, until nothing is left to do.
fn settle(deployment: &Deployment, sets: &mut Vec<Arc<ReplicaSet>>) -> usize {
    for step in 0..100 {
        let plan = plan(deployment, sets, false, Timestamp::UNIX_EPOCH);
        if plan.create.is_none() && plan.resize.is_empty() && plan.delete.is_empty() {
            return step;
        }
        sets.retain(|set| !plan.delete.contains(set.metadata.name.as_ref().expect("named")));
        let mut changed: Vec<ReplicaSet> = sets.iter().map(|set| (**set).clone()).collect();
        for resize in plan.resize {
            let set = changed
                .iter_mut()
                .find(|set| set.metadata.name.as_ref() == Some(&resize.name))
                .expect("known");
            set.spec.as_mut().expect("spec").replicas = Some(resize.to);
            set.metadata.annotations.get_or_insert_default().extend(resize.annotations);
        }
        changed.extend(plan.create.map(|set| *set));
        for set in &mut changed {
            let replicas = set.spec.as_ref().expect("spec").replicas.expect("replicas");
            let status = set.status.get_or_insert_default();
            status.replicas = replicas;
            status.available_replicas = Some(replicas);
            status.ready_replicas = Some(replicas);
        }
        *sets = changed.into_iter().map(Arc::new).collect();
    }
    panic!("the rollout never ends");
}

fn sizes(sets: &[Arc<ReplicaSet>]) -> Vec<i32> {
    sets.iter().map(|set| size(set).replicas).collect()
}

#[test]
fn rolls_out_and_back_to_the_same_set_with_a_new_revision() {
    let mut sets = Vec::new();
    settle(&deployment(4, "a"), &mut sets);
    assert_eq!(sizes(&sets), [4]);
    settle(&deployment(4, "b"), &mut sets);
    assert_eq!(sizes(&sets), [0, 4]);
    settle(&deployment(4, "a"), &mut sets);
    assert_eq!(sizes(&sets), [4, 0]);
    assert_eq!(revision(&sets[0]), 3);
}

#[test]
fn keeps_as_much_history_as_asked() {
    let mut sets = Vec::new();
    for image in ["a", "b", "c", "d", "e"] {
        let mut deployment = deployment(2, image);
        deployment.spec.as_mut().expect("spec").revision_history_limit = Some(2);
        settle(&deployment, &mut sets);
    }
    assert_eq!(sizes(&sets), [0, 0, 2]);
}

#[test]
fn recreation_waits_for_the_old_pods() {
    let mut sets = Vec::new();
    settle(&deployment(2, "a"), &mut sets);
    let mut next = deployment(2, "b");
    next.spec.as_mut().expect("spec").strategy.get_or_insert_default().type_ = Some("Recreate".to_owned());
    let first = plan(&next, &sets, true, Timestamp::UNIX_EPOCH);
    assert!(first.create.is_none());
    assert_eq!((first.resize[0].from, first.resize[0].to), (2, 0));
    settle(&next, &mut sets);
    assert_eq!(sizes(&sets), [0, 2]);
}

#[test]
fn a_paused_deployment_scales_but_rolls_nothing_out() {
    let mut sets = Vec::new();
    settle(&deployment(2, "a"), &mut sets);
    let mut paused = deployment(5, "b");
    paused.spec.as_mut().expect("spec").paused = Some(true);
    settle(&paused, &mut sets);
    assert_eq!(sizes(&sets), [5]);
}

#[test]
fn the_hash_depends_on_template_and_collisions_alone() {
    let one = deployment(1, "a").spec.expect("spec").template;
    assert_eq!(template_hash(&one, 0), template_hash(&one.clone(), 0));
    assert_ne!(template_hash(&one, 0), template_hash(&one, 1));
}
