//! Which clusters a placement chooses, and why.

use std::collections::BTreeSet;

use fleet_objects::{ClusterDecision, ClusterTaint, PlacementSpec, Toleration};

use crate::cluster_view::{ClusterView, selects};

/// A decision for every cluster: the chosen first, then by name. `already` are clusters that hold the profile by this
/// placement: a new taint does not drive it away.
#[must_use]
pub fn decide(
    placement: &PlacementSpec,
    clusters: &[ClusterView],
    already: &BTreeSet<String>,
) -> Vec<ClusterDecision> {
    let mut decisions: Vec<_> =
        clusters.iter().map(|cluster| decide_one(placement, cluster, already)).collect();
    decisions.sort_by(|a, b| b.selected.cmp(&a.selected).then_with(|| a.cluster.cmp(&b.cluster)));
    decisions
}

fn decide_one(
    placement: &PlacementSpec,
    cluster: &ClusterView,
    already: &BTreeSet<String>,
) -> ClusterDecision {
    let verdict = match &placement.cluster_selector {
        None => Err("the placement has no clusterSelector".to_owned()),
        Some(selector) => selects(selector, cluster).and_then(|()| tolerates(placement, cluster, already)),
    };
    ClusterDecision {
        cluster: cluster.name.clone(),
        selected: verdict.is_ok(),
        reason: verdict.err().unwrap_or_else(|| "matches the selector".to_owned()),
    }
}

fn tolerates(
    placement: &PlacementSpec,
    cluster: &ClusterView,
    already: &BTreeSet<String>,
) -> Result<(), String> {
    if already.contains(&cluster.name) {
        return Ok(());
    }
    let against =
        cluster.taints.iter().find(|taint| !placement.tolerations.iter().any(|own| covers(own, taint)));
    against.map_or(Ok(()), |taint| {
        let value = taint.value.as_ref().map_or_else(String::new, |value| format!("={value}"));
        Err(format!("taint {}{value} is not tolerated", taint.key))
    })
}

fn covers(toleration: &Toleration, taint: &ClusterTaint) -> bool {
    toleration.key.as_ref().is_none_or(|key| *key == taint.key)
        && toleration.value.as_ref().is_none_or(|value| taint.value.as_ref() == Some(value))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use fleet_objects::{ClusterSelector, TaintEffect};

    use super::*;

    #[test]
    fn everything_nothing_and_taints() {
        let tainted = ClusterView {
            name: "b".into(),
            taints: vec![ClusterTaint { key: "busy".into(), value: None, effect: TaintEffect::NoPlace }],
            ..ClusterView::default()
        };
        let plain = ClusterView { name: "z".into(), labels: BTreeMap::new(), ..ClusterView::default() };
        let clusters = [tainted, plain];
        let mut spec =
            PlacementSpec { cluster_selector: Some(ClusterSelector::default()), ..PlacementSpec::default() };
        let decisions = decide(&spec, &clusters, &BTreeSet::new());
        assert_eq!((decisions[0].cluster.as_str(), decisions[0].selected), ("z", true));
        assert_eq!(
            (decisions[1].selected, decisions[1].reason.as_str()),
            (false, "taint busy is not tolerated")
        );
        assert!(
            decide(&spec, &clusters, &BTreeSet::from(["b".into()])).iter().all(|decision| decision.selected)
        );
        spec.tolerations.push(Toleration { key: None, value: None });
        assert!(decide(&spec, &clusters, &BTreeSet::new()).iter().all(|decision| decision.selected));
        spec.cluster_selector = None;
        assert!(decide(&spec, &clusters, &BTreeSet::new()).iter().all(|decision| !decision.selected));
    }
}
