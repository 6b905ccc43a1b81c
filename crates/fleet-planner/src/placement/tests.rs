use std::collections::BTreeMap;

use fleet_objects::{
    ClusterSelector, ClusterTaint, FieldOperator, FieldRequirement, LabelOperator, LabelRequirement,
    Prioritizer, ProfileReference, SpreadConstraint, TaintEffect, WhenUnsatisfiable,
};
use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::expressions::NoExpressions;

/// Stands for a language: `labels.KEY` as a number, and `labels.KEY=VALUE` as a condition.
struct Labels;

impl Expressions for Labels {
    fn check_condition(&self, expression: &str) -> Result<(), String> {
        expression.split_once('=').map(drop).ok_or_else(|| "no condition".to_owned())
    }

    fn holds(&self, expression: &str, cluster: &Value) -> Result<bool, String> {
        let (key, value) = expression.split_once('=').ok_or("no condition")?;
        let label = cluster["labels"][key].as_str().ok_or(format!("no such key: {key}"))?;
        Ok(label == value)
    }

    fn score(&self, expression: &str, cluster: &Value) -> Result<i64, String> {
        let text = cluster["labels"][expression].as_str().ok_or(format!("no such key: {expression}"))?;
        text.parse().map_err(|_| "not a number".to_owned())
    }

    fn value(&self, _: &str, _: &Value) -> Result<Value, String> {
        Err("not used".to_owned())
    }
}

fn cluster(name: &str, labels: &[(&str, &str)]) -> ClusterView {
    ClusterView {
        name: name.to_owned(),
        labels: labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
        ..ClusterView::default()
    }
}

fn all() -> PlacementSpec {
    PlacementSpec { cluster_selector: Some(ClusterSelector::default()), ..PlacementSpec::default() }
}

fn taint(effect: TaintEffect) -> ClusterTaint {
    ClusterTaint { key: "busy".into(), value: None, effect }
}

fn decided(
    placement: &PlacementSpec,
    clusters: &[ClusterView],
    already: &[&str],
    expressions: &dyn Expressions,
) -> Vec<ClusterDecision> {
    let already = already.iter().map(|name| (*name).to_owned()).collect();
    decide(&Input {
        placement,
        clusters,
        already: &already,
        holding: &already.iter().map(String::as_str).collect(),
        chosen: &BTreeSet::new(),
        expressions,
    })
    .decisions
}

fn chosen(decisions: &[ClusterDecision]) -> Vec<&str> {
    decisions.iter().filter(|one| one.selected).map(|one| one.cluster.as_str()).collect()
}

fn of<'a>(decisions: &'a [ClusterDecision], name: &str) -> &'a ClusterDecision {
    decisions.iter().find(|one| one.cluster == name).unwrap()
}

#[test]
fn everything_nothing_and_taints() {
    let mut tainted = cluster("b", &[]);
    tainted.taints.push(taint(TaintEffect::NoPlace));
    let mut clusters = [tainted, cluster("z", &[])];
    let mut spec = all();
    let decisions = decided(&spec, &clusters, &[], &NoExpressions);
    assert_eq!(chosen(&decisions), ["z"]);
    let refused = of(&decisions, "b");
    assert_eq!((refused.step, refused.reason.as_str()), (DecisionStep::Taint, "taint busy is not tolerated"));
    assert_eq!(chosen(&decided(&spec, &clusters, &["b"], &NoExpressions)), ["b", "z"], "what is there stays");
    clusters[0].taints = vec![taint(TaintEffect::Evict)];
    assert_eq!(chosen(&decided(&spec, &clusters, &["b"], &NoExpressions)), ["z"], "not with this effect");
    spec.tolerations.push(Toleration { key: None, value: None });
    assert_eq!(chosen(&decided(&spec, &clusters, &[], &NoExpressions)), ["b", "z"]);
    spec.cluster_selector = None;
    assert!(chosen(&decided(&spec, &clusters, &[], &NoExpressions)).is_empty());
}

#[test]
fn sets_and_expressions_narrow_and_say_so() {
    let clusters = [
        cluster("a", &[(LABEL_CLUSTER_SET, "eu"), ("tier", "1")]),
        cluster("b", &[(LABEL_CLUSTER_SET, "us"), ("tier", "1")]),
        cluster("c", &[("tier", "1")]),
        cluster("d", &[(LABEL_CLUSTER_SET, "eu"), ("tier", "2")]),
    ];
    let mut spec = PlacementSpec { cluster_sets: vec!["eu".into(), "ap".into()], ..all() };
    spec.cluster_selector.as_mut().unwrap().cel_expressions = vec!["tier=1".into()];
    let decisions = decided(&spec, &clusters, &[], &Labels);
    assert_eq!(chosen(&decisions), ["a"]);
    assert_eq!(of(&decisions, "b").reason, "it is in cluster set us, not in eu, ap");
    assert_eq!(of(&decisions, "c").step, DecisionStep::ClusterSet);
    assert_eq!(of(&decisions, "d").reason, "tier=1 does not hold");
    let decisions = decided(&spec, &clusters, &[], &NoExpressions);
    assert!(of(&decisions, "a").reason.contains("evaluates no expressions"));
}

#[test]
fn an_expression_that_fails_for_one_cluster_moves_nobody() {
    let mut evicted = cluster("e", &[("region", "eu")]);
    evicted.taints.push(taint(TaintEffect::Evict));
    let clusters = [
        cluster("a", &[("region", "us"), (LABEL_CLUSTER_SET, "one")]),
        cluster("b", &[("region", "eu"), (LABEL_CLUSTER_SET, "one")]),
        cluster("c", &[(LABEL_CLUSTER_SET, "one")]),
        cluster("d", &[(LABEL_CLUSTER_SET, "one")]),
        cluster("new", &[("region", "us"), (LABEL_CLUSTER_SET, "one")]),
        cluster("other", &[("region", "us")]),
        ClusterView { labels: clusters_of_one("eu"), ..evicted },
    ];
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<String>>();
    let already = names(&["a", "b", "c", "other", "e"]);
    let mut spec = PlacementSpec { cluster_sets: vec!["one".into()], ..all() };
    let look = |spec: &PlacementSpec| {
        decide(&Input {
            placement: spec,
            clusters: &clusters,
            already: &already,
            holding: &already.iter().map(String::as_str).collect(),
            chosen: &BTreeSet::from(["d", "other"]),
            expressions: &Labels,
        })
    };
    for (expression, problem) in [
        ("region=us", "cluster c (and 1 more): region=us: no such key: region"),
        ("region", "region: no condition"),
    ] {
        spec.cluster_selector.as_mut().unwrap().cel_expressions = vec![expression.into()];
        let choice = look(&spec);
        assert_eq!(chosen(&choice.decisions), ["a", "b", "c", "d"], "who was chosen, also what waits");
        assert_eq!(choice.problem.as_deref(), Some(problem));
        assert_eq!(choice.undecided, names(&["a", "b", "c", "d", "new"]));
        let of = |name| of(&choice.decisions, name);
        assert_eq!((of("other").step, of("e").step), (DecisionStep::ClusterSet, DecisionStep::Taint));
        assert!(of("new").reason.starts_with("it is not added") && of("new").reason.ends_with(problem));
    }
    // Whom labels rule out already, nobody asks the expression about.
    spec.cluster_selector.as_mut().unwrap().cel_expressions = vec!["region=us".into()];
    spec.cluster_selector.as_mut().unwrap().match_expressions =
        vec![LabelRequirement { key: "region".into(), operator: LabelOperator::Exists, values: Vec::new() }];
    let choice = look(&spec);
    assert_eq!((chosen(&choice.decisions), choice.problem), (vec!["a", "new"], None));
    // What no cluster can be asked holds also where the fleet is empty.
    spec.cluster_selector.as_mut().unwrap().match_fields = vec![FieldRequirement {
        key: "kubernetsVersion".into(),
        operator: FieldOperator::Ge,
        values: vec!["1.34".into()],
    }];
    let problem = look(&spec).problem.unwrap();
    assert!(problem.starts_with("there is no field \"kubernetsVersion\""), "{problem}");
}

fn clusters_of_one(region: &str) -> BTreeMap<String, String> {
    [("region".to_owned(), region.to_owned()), (LABEL_CLUSTER_SET.to_owned(), "one".to_owned())].into()
}

#[test]
fn the_best_are_taken_and_one_that_is_there_stays_until_another_is_clearly_better() {
    let clusters =
        [cluster("a", &[("free", "10")]), cluster("b", &[("free", "60")]), cluster("c", &[("free", "110")])];
    let prioritizers = vec![Prioritizer { expression: "free".into(), weight: 1 }];
    let mut spec = PlacementSpec { number_of_clusters: Some(1), prioritizers, ..all() };
    let decisions = decided(&spec, &clusters, &[], &Labels);
    assert_eq!((chosen(&decisions), of(&decisions, "c").score), (vec!["c"], Some(100)));
    assert_eq!((of(&decisions, "b").step, of(&decisions, "b").score), (DecisionStep::Number, Some(50)));
    assert_eq!(chosen(&decided(&spec, &clusters, &["b"], &Labels)), ["b"]);
    spec.stickiness = Some(0);
    assert_eq!(chosen(&decided(&spec, &clusters, &["b"], &Labels)), ["c"]);
    spec.prioritizers[0].weight = -1;
    assert_eq!(chosen(&decided(&spec, &clusters, &[], &Labels)), ["a"]);
    // A score that cannot be told moves nobody.
    spec.prioritizers[0].expression = "nope".into();
    let decisions = decided(&spec, &clusters, &["b"], &Labels);
    assert_eq!(chosen(&decisions), ["b"]);
    assert!(of(&decisions, "a").reason.contains("no such key: nope"), "{decisions:?}");
}

#[test]
fn who_cannot_be_told_gets_nothing_new_and_loses_nothing() {
    let mut clusters = [cluster("a", &[]), cluster("b", &[]), cluster("c", &[]), cluster("d", &[])];
    clusters[0].barred = Some("the cluster is revoked");
    clusters[1].barred = Some("the cluster waits for approval");
    let mut spec = PlacementSpec { number_of_clusters: Some(2), ..all() };
    let decisions = decided(&spec, &clusters, &[], &NoExpressions);
    assert_eq!(chosen(&decisions), ["c", "d"], "no place is theirs");
    assert_eq!(of(&decisions, "a").reason, "the cluster is revoked");
    assert_eq!(of(&decisions, "b").reason, "the cluster waits for approval");
    let decisions = decided(&spec, &clusters, &["a"], &NoExpressions);
    assert_eq!(chosen(&decisions), ["a", "c"], "who has it keeps it, and its place");
    assert!(of(&decisions, "a").reason.ends_with("; the cluster is revoked, and keeps what it holds"));
    spec.number_of_clusters = None;
    assert_eq!(chosen(&decided(&spec, &clusters, &["a"], &NoExpressions)), ["a", "c", "d"]);
    clusters[0].taints.push(taint(TaintEffect::Evict));
    assert_eq!(chosen(&decided(&spec, &clusters, &["a"], &NoExpressions)), ["c", "d"], "a person's word");
    // Another placement takes over what one brought that is being deleted.
    clusters[0].taints.clear();
    let profile = ProfileReference { namespace: "default".into(), name: "app".into() };
    let gone = PlacementSpec { cluster_selector: None, ..all() };
    let asked = |name: &str, spec, already: &[&str]| Asked {
        name: name.into(),
        profile: profile.clone(),
        spec,
        already: already.iter().map(|name| (*name).to_owned()).collect(),
        chosen: BTreeSet::new(),
    };
    let both = [asked("old", &gone, &["a"]), asked("new", &spec, &[])];
    let taken = decide_all(&both, &clusters, &NoExpressions);
    assert_eq!(chosen(&taken[1].decisions), ["a", "c", "d"]);
}

#[test]
fn a_taint_can_be_a_wish() {
    let mut clusters = [cluster("a", &[]), cluster("b", &[])];
    clusters[0].taints.push(taint(TaintEffect::PreferNoPlace));
    let mut spec = PlacementSpec { number_of_clusters: Some(1), ..all() };
    assert_eq!(chosen(&decided(&spec, &clusters, &[], &NoExpressions)), ["b"]);
    spec.number_of_clusters = Some(2);
    assert_eq!(chosen(&decided(&spec, &clusters, &[], &NoExpressions)), ["a", "b"]);
}

fn spread(when_unsatisfiable: WhenUnsatisfiable) -> SpreadConstraint {
    SpreadConstraint { topology_key: "zone".into(), max_skew: 1, when_unsatisfiable }
}

#[test]
fn spread_is_kept_or_preferred() {
    let clusters = [
        cluster("a1", &[("zone", "a")]),
        cluster("a2", &[("zone", "a")]),
        cluster("a3", &[("zone", "a")]),
        cluster("b1", &[("zone", "b")]),
        cluster("n", &[]),
    ];
    let mut spec = PlacementSpec {
        number_of_clusters: Some(4),
        spread_constraints: vec![spread(WhenUnsatisfiable::DoNotPlace)],
        ..all()
    };
    let decisions = decided(&spec, &clusters, &[], &NoExpressions);
    assert_eq!(chosen(&decisions), ["a1", "a2", "b1"]);
    assert_eq!(of(&decisions, "a3").reason, "zone=a would have more than 1 clusters more than another");
    assert_eq!(of(&decisions, "n").reason, "label zone is not set: it has no place in the spread");
    spec.spread_constraints = vec![spread(WhenUnsatisfiable::PlaceAnyway)];
    assert_eq!(chosen(&decided(&spec, &clusters, &[], &NoExpressions)).len(), 4);
    spec.number_of_clusters = Some(2);
    assert_eq!(chosen(&decided(&spec, &clusters, &[], &NoExpressions)), ["a1", "b1"]);
}

proptest! {
    /// The number and the spread hold, every cluster has a decision, the order of clusters does not matter, and deciding
    /// again changes nothing.
    #[test]
    fn choices_are_bounded_and_steady(
        zones in prop::collection::vec(0u8..4, 1..24), number in 0u32..12, skew in 1u32..3, rotate in 0usize..24,
    ) {
        let clusters: Vec<ClusterView> = zones
            .iter()
            .enumerate()
            .map(|(index, zone)| cluster(&format!("c{index:02}"), &[("zone", &zone.to_string())]))
            .collect();
        let constraint = SpreadConstraint { max_skew: skew, ..spread(WhenUnsatisfiable::DoNotPlace) };
        let spec =
            PlacementSpec { number_of_clusters: Some(number), spread_constraints: vec![constraint], ..all() };
        let decisions = decided(&spec, &clusters, &[], &NoExpressions);
        prop_assert_eq!(decisions.len(), clusters.len());
        let names = chosen(&decisions);
        prop_assert!(names.len() <= number as usize);
        let mut counts: BTreeMap<&str, u32> =
            clusters.iter().map(|cluster| (cluster.labels["zone"].as_str(), 0)).collect();
        for cluster in clusters.iter().filter(|cluster| names.contains(&cluster.name.as_str())) {
            *counts.get_mut(cluster.labels["zone"].as_str()).unwrap() += 1;
        }
        let (least, most) = (counts.values().min().unwrap(), counts.values().max().unwrap());
        prop_assert!(most - least <= skew, "{counts:?}");
        let mut turned = clusters.clone();
        turned.rotate_left(rotate % clusters.len());
        prop_assert_eq!(&decided(&spec, &turned, &[], &NoExpressions), &decisions);
        let again = decided(&spec, &clusters, &names, &NoExpressions);
        prop_assert_eq!(chosen(&again), names);
    }
}
