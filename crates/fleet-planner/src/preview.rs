//! What a change of intent would do in each cluster, before it does it: the same decisions and the same rendering as hub
//! and agents make, compared with what each cluster was told to hold.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use fleet_objects::{ProfileReference, assignment_name};
use serde::Serialize;

use crate::breaker::{self, Limits};
use crate::bundle::Bundle;
use crate::cluster_view::ClusterView;
use crate::compare::{self, Action, ObjectChange};
use crate::expressions::Expressions;
use crate::placement::{Asked, Choice, Leaving, decide_all, guard};
use crate::render::{Rendered, render};
use crate::values;
use crate::variables::Values;

/// The fleet as it would be.
pub struct Input<'a> {
    /// Every cluster.
    pub clusters: &'a [ClusterView],
    /// Every placement, the oldest first.
    pub placements: &'a [Asked<'a>],
    /// What each profile would say, or why it cannot be used. One that is missing does not exist.
    pub bundles: &'a BTreeMap<ProfileReference, Result<Arc<Bundle>, String>>,
    /// What each cluster was told to hold, by cluster and assignment.
    pub held: &'a BTreeMap<String, BTreeMap<String, Held>>,
    /// Evaluates CEL.
    pub expressions: &'a dyn Expressions,
}

/// What a cluster was told to hold of a profile.
#[derive(Clone, Debug)]
pub struct Held {
    /// The content.
    pub bundle: Arc<Bundle>,
    /// Every variable.
    pub variables: Values,
}

/// What becomes of a profile in a cluster.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterChange {
    /// The profile, `namespace/name`.
    pub profile: String,
    /// Whether the cluster gets, keeps or loses it.
    pub action: Action,
    /// The placement by which it has it then, `namespace/name`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub placement: Option<String>,
    /// The rollout that decides when.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rollout: Option<String>,
    /// The objects.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub objects: Vec<ObjectChange>,
    /// Why the cluster keeps what it has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// What else there is to know.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// A placement of which it cannot be told whom it would choose: who has its profile keeps it, and nobody is added.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Unchosen {
    /// The placement, `namespace/name`.
    pub placement: String,
    /// What is wrong with its selector or an expression, with the first cluster for which it has no value.
    pub problem: String,
    /// How many clusters cannot be told.
    pub clusters: usize,
}

/// What would become of some profiles.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Preview {
    /// By cluster. Those in which nothing changes are not there.
    pub changes: BTreeMap<String, Vec<ClusterChange>>,
    /// In the order of the placements.
    pub unchosen: Vec<Unchosen>,
}

/// What becomes of `profiles` in every cluster.
#[must_use]
pub fn preview(input: &Input<'_>, profiles: &BTreeSet<ProfileReference>) -> Preview {
    let decided = decide_all(input.placements, input.clusters, input.expressions);
    let mut previewer = Previewer { input, compared: BTreeMap::new() };
    let mut changes: BTreeMap<String, Vec<ClusterChange>> = BTreeMap::new();
    for profile in profiles {
        let winners = winners(profile, input.placements, &decided);
        for cluster in input.clusters {
            let change = previewer.change(profile, cluster, winners.get(cluster.name.as_str()).copied());
            if let Some(change) = change {
                changes.entry(cluster.name.clone()).or_default().push(change);
            }
        }
    }
    for (asked, choice) in input.placements.iter().zip(&decided) {
        let winners = winners(&asked.profile, input.placements, &decided);
        note_held(asked, choice, &winners, &mut changes);
    }
    let affected =
        input.placements.iter().zip(&decided).filter(|(asked, _)| profiles.contains(&asked.profile));
    let unchosen = affected.filter_map(|(asked, choice)| {
        let problem = choice.problem.clone()?;
        Some(Unchosen { placement: asked.name.clone(), problem, clusters: choice.undecided.len() })
    });
    Preview { unchosen: unchosen.collect(), changes }
}

/// What a cluster's agent would apply of a profile.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Where namespaced objects go that name no namespace.
    pub target_namespace: Option<String>,
    /// The objects, in the order of applying.
    pub objects: Vec<Rendered>,
}

/// What the agents of these clusters would apply of a profile. A cluster that would hold nothing of it, or keep what it has
/// because something is wrong, is not there.
#[must_use]
pub fn wanted(
    input: &Input<'_>,
    profile: &ProfileReference,
    clusters: &BTreeSet<&str>,
) -> BTreeMap<String, Wanted> {
    let decided = decide_all(input.placements, input.clusters, input.expressions);
    let winners = winners(profile, input.placements, &decided);
    let assignment = assignment_name(&profile.namespace, &profile.name);
    let previewer = Previewer { input, compared: BTreeMap::new() };
    let one = |cluster: &ClusterView| {
        let winner = winners.get(cluster.name.as_str())?;
        let (bundle, values) = previewer.wanted(profile, cluster, winner).ok()?;
        let objects = render(&bundle, &values, &assignment).ok()?;
        Some((cluster.name.clone(), Wanted { target_namespace: bundle.target_namespace.clone(), objects }))
    };
    let chosen = input.clusters.iter().filter(|cluster| clusters.contains(cluster.name.as_str()));
    chosen.filter_map(one).collect()
}

/// Says where the hub would hold a withdrawal for a person's word.
fn note_held(
    asked: &Asked<'_>,
    choice: &Choice,
    winners: &BTreeMap<&str, &Asked<'_>>,
    changes: &mut BTreeMap<String, Vec<ClusterChange>>,
) {
    let stays = |name: &&String| winners.contains_key(name.as_str());
    let leaving: BTreeSet<String> = asked.already.iter().filter(|name| !stays(name)).cloned().collect();
    let guarded = guard(&Leaving {
        placement: asked.spec,
        selected: choice.decisions.iter().filter(|decision| decision.selected).count(),
        holding: &asked.already,
        leaving: &leaving,
        profiles: &BTreeSet::from([asked.profile.name.clone()]),
        epoch: "",
        restored: false,
        going: &BTreeSet::new(),
        known: None,
        confirmed: None,
    });
    let Some(problem) = guarded.problem else { return };
    let name = asked.name.rsplit('/').next().unwrap_or_default();
    let note = format!("{problem}; the hub holds that until `fairlead placement confirm {name}`");
    let profile = format!("{}/{}", asked.profile.namespace, asked.profile.name);
    for cluster in &guarded.kept {
        let of_cluster = changes.get_mut(cluster).into_iter().flatten();
        let removed =
            of_cluster.filter(|change| change.profile == profile && change.action == Action::Remove);
        removed.for_each(|change| change.notes.push(note.clone()));
    }
}

/// By which placement each cluster has the profile.
fn winners<'a>(
    profile: &ProfileReference,
    placements: &'a [Asked<'a>],
    decided: &'a [Choice],
) -> BTreeMap<&'a str, &'a Asked<'a>> {
    let of_profile = placements.iter().zip(decided).filter(|(asked, _)| asked.profile == *profile);
    let selected = |(asked, choice): (&'a Asked<'a>, &'a Choice)| {
        let selected = choice.decisions.iter().filter(|decision| decision.selected);
        selected.map(move |decision| (decision.cluster.as_str(), asked))
    };
    of_profile.flat_map(selected).collect()
}

struct Previewer<'a> {
    input: &'a Input<'a>,
    /// Comparisons made: most clusters of a fleet have the same content and values.
    compared: BTreeMap<(Option<Side>, Option<Side>), Compared>,
}

/// A bundle by its place in memory, with the values: enough to know that the same was rendered before.
type Side = (usize, String);

#[derive(Clone)]
struct Compared {
    objects: Result<Vec<ObjectChange>, String>,
    /// How many objects there were.
    managed: usize,
}

impl Previewer<'_> {
    fn change(
        &mut self,
        profile: &ProfileReference,
        cluster: &ClusterView,
        winner: Option<&Asked<'_>>,
    ) -> Option<ClusterChange> {
        let assignment = assignment_name(&profile.namespace, &profile.name);
        let held = self.input.held.get(&cluster.name).and_then(|held| held.get(&assignment));
        let action = match (held, winner) {
            (None, None) => return None,
            (None, Some(_)) => Action::Add,
            (Some(_), Some(_)) => Action::Change,
            (Some(_), None) => Action::Remove,
        };
        let mut change = ClusterChange {
            profile: format!("{}/{}", profile.namespace, profile.name),
            action,
            placement: winner.map(|winner| winner.name.clone()),
            rollout: winner.and_then(|winner| winner.spec.rollout.clone()),
            objects: Vec::new(),
            problem: None,
            notes: Vec::new(),
        };
        let after = match winner.map(|winner| self.wanted(profile, cluster, winner)).transpose() {
            Ok(after) => after,
            Err(problem) => return Some(ClusterChange { problem: Some(problem), ..change }),
        };
        let before = held.map(|held| (&held.bundle, &held.variables));
        let compared =
            self.compare(&assignment, before, after.as_ref().map(|(bundle, values)| (bundle, values)));
        match compared.objects {
            Ok(objects) => change.objects = objects,
            Err(problem) => return Some(ClusterChange { problem: Some(problem), ..change }),
        }
        if let (Some((before, _)), Some((after, _))) = (before, &after) {
            settings(before, after, &mut change.notes);
        }
        let removed = change.objects.iter().filter(|object| object.action == Action::Remove);
        let removed: Vec<_> = removed.map(|object| object.object.clone()).collect();
        if let Err(held) = breaker::check(&removed, compared.managed, Limits::default(), false) {
            change.notes.push(held);
        }
        let nothing = change.objects.is_empty() && change.notes.is_empty();
        (action != Action::Change || !nothing).then_some(change)
    }

    /// What the cluster would be told to hold.
    fn wanted(
        &self,
        profile: &ProfileReference,
        cluster: &ClusterView,
        winner: &Asked<'_>,
    ) -> Result<(Arc<Bundle>, Values), String> {
        let ProfileReference { namespace, name } = profile;
        let bundle = match self.input.bundles.get(profile) {
            Some(Ok(bundle)) => bundle,
            Some(Err(problem)) => return Err(problem.clone()),
            None => return Err(format!("there is no profile {name} in namespace {namespace}")),
        };
        let (given, rules) = (&winner.spec.variables, winner.spec.values.as_slice());
        let expressions = self.input.expressions;
        let values = values::of_cluster(&bundle.variables, given, rules, cluster, expressions)?;
        Ok((bundle.clone(), values))
    }

    fn compare(
        &mut self,
        assignment: &str,
        before: Option<(&Arc<Bundle>, &Values)>,
        after: Option<(&Arc<Bundle>, &Values)>,
    ) -> Compared {
        let key = (before.map(side), after.map(side));
        let compared = self.compared.entry(key).or_insert_with(|| {
            let rendered = |side: Option<(&Arc<Bundle>, &Values)>| match side {
                Some((bundle, values)) => render(bundle, values, assignment),
                None => Ok(Vec::<Rendered>::new()),
            };
            // What could once be handed out could be rendered; were it not so, everything would count as new.
            let before = rendered(before).unwrap_or_default();
            let objects = rendered(after).map(|after| compare::objects(&before, &after));
            Compared { objects: objects.map_err(|error| error.to_string()), managed: before.len() }
        });
        compared.clone()
    }
}

fn side((bundle, values): (&Arc<Bundle>, &Values)) -> Side {
    (Arc::as_ptr(bundle).addr(), serde_json::to_string(values).unwrap_or_default())
}

/// What is not said in any object.
fn settings(before: &Bundle, after: &Bundle, notes: &mut Vec<String>) {
    if before.target_namespace != after.target_namespace {
        let name = |namespace: &Option<String>| namespace.clone().unwrap_or_else(|| "default".to_owned());
        notes.push(format!(
            "objects that name no namespace move from {} to {}",
            name(&before.target_namespace),
            name(&after.target_namespace)
        ));
    }
    if before.conflicts != after.conflicts {
        notes.push(format!("fields that others own: {:?} becomes {:?}", before.conflicts, after.conflicts));
    }
    if before.health != after.health {
        notes.push("health rules change".to_owned());
    }
}

#[cfg(test)]
mod tests {
    use fleet_objects::{ClusterSelector, PlacementSpec, ProfileSpec};
    use serde_json::json;

    use super::*;
    use crate::bundle::build;
    use crate::expressions::NoExpressions;

    fn bundle(value: &str, extra: bool) -> Arc<Bundle> {
        let map = |name: &str, value: &str| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"key": value}});
        let mut manifests = vec![map("a", value), map("b", "${var.size}")];
        manifests.extend(extra.then(|| map("c", "1")));
        let spec = ProfileSpec {
            manifests,
            variables: serde_json::from_value(json!([{"name": "size", "default": "s"}])).unwrap(),
            ..ProfileSpec::default()
        };
        Arc::new(build(&spec, "default", &[]).unwrap())
    }

    fn view(name: &str) -> ClusterView {
        let labels = [("tier".to_owned(), if name == "prod" { "prod" } else { "test" }.to_owned())];
        ClusterView { name: name.to_owned(), labels: labels.into(), ..ClusterView::default() }
    }

    #[test]
    fn each_cluster_is_told_what_it_gets_changes_and_loses() {
        let profile = ProfileReference { namespace: "default".into(), name: "app".into() };
        let clusters = ["dev", "new", "prod"].map(view);
        let tests = ClusterSelector {
            match_labels: [("tier".to_owned(), "test".to_owned())].into(),
            ..ClusterSelector::default()
        };
        let spec = PlacementSpec {
            profile: "app".into(),
            cluster_selector: Some(tests),
            variables: Values::from([("size".into(), json!("xl"))]),
            ..PlacementSpec::default()
        };
        let placements = [Asked {
            name: "default/app".into(),
            profile: profile.clone(),
            spec: &spec,
            already: BTreeSet::new(),
            chosen: BTreeSet::new(),
        }];
        let held =
            Held { bundle: bundle("1", false), variables: Values::from([("size".into(), json!("s"))]) };
        let held: BTreeMap<String, BTreeMap<String, Held>> = ["dev", "prod"]
            .map(|name| (name.to_owned(), BTreeMap::from([("default.app".to_owned(), held.clone())])))
            .into();
        let run = |after: Result<Arc<Bundle>, String>| {
            let bundles = BTreeMap::from([(profile.clone(), after)]);
            let input = Input {
                clusters: &clusters,
                placements: &placements,
                bundles: &bundles,
                held: &held,
                expressions: &NoExpressions,
            };
            preview(&input, &BTreeSet::from([profile.clone()]))
        };
        let changes = run(Ok(bundle("2", true))).changes;
        let shown = |cluster: &str| {
            let change = &changes[cluster][0];
            let objects = change.objects.iter().map(|one| (one.action, one.object.name.as_str()));
            (change.action, objects.collect::<Vec<_>>())
        };
        let (add, changed, remove) = (Action::Add, Action::Change, Action::Remove);
        assert_eq!(shown("dev"), (changed, vec![(changed, "a"), (changed, "b"), (add, "c")]));
        assert_eq!(shown("new"), (add, vec![(add, "a"), (add, "b"), (add, "c")]));
        assert_eq!(shown("prod"), (remove, vec![(remove, "a"), (remove, "b")]));
        let field = &changes["dev"][0].objects[1].fields[0];
        assert_eq!((field.path.as_str(), &field.after), ("data.key", &Some(json!("xl"))));
        let broken = run(Err("no YAML".into())).changes;
        assert_eq!(broken["dev"][0].problem.as_deref(), Some("no YAML"));
        assert!(broken["dev"][0].objects.is_empty(), "a profile that cannot be read takes nothing away");
    }
    #[test]
    fn a_placement_that_cannot_choose_is_told_and_takes_nothing_away() {
        struct NoValue;
        impl Expressions for NoValue {
            fn check_condition(&self, _: &str) -> Result<(), String> {
                Ok(())
            }
            fn holds(&self, _: &str, cluster: &serde_json::Value) -> Result<bool, String> {
                if cluster["name"] == "prod" { Err("no such key: gpu".into()) } else { Ok(true) }
            }
            fn score(&self, expression: &str, cluster: &serde_json::Value) -> Result<i64, String> {
                NoExpressions.score(expression, cluster)
            }
            fn value(
                &self,
                expression: &str,
                cluster: &serde_json::Value,
            ) -> Result<serde_json::Value, String> {
                NoExpressions.value(expression, cluster)
            }
        }
        let profile = ProfileReference { namespace: "default".into(), name: "app".into() };
        let clusters = ["dev", "prod"].map(view);
        let spec = PlacementSpec {
            profile: "app".into(),
            cluster_selector: Some(ClusterSelector {
                cel_expressions: vec!["cluster.labels.gpu == 'yes'".into()],
                ..ClusterSelector::default()
            }),
            ..PlacementSpec::default()
        };
        let placements = [Asked {
            name: "default/app".into(),
            profile: profile.clone(),
            spec: &spec,
            already: BTreeSet::from(["dev".to_owned()]),
            chosen: BTreeSet::new(),
        }];
        let same = bundle("1", false);
        let variables = Values::from([("size".into(), json!("s"))]);
        let held = Held { bundle: same.clone(), variables };
        let held = BTreeMap::from([("dev".to_owned(), BTreeMap::from([("default.app".to_owned(), held)]))]);
        let bundles = BTreeMap::from([(profile.clone(), Ok(same))]);
        let input = Input {
            clusters: &clusters,
            placements: &placements,
            bundles: &bundles,
            held: &held,
            expressions: &NoValue,
        };
        let told = preview(&input, &BTreeSet::from([profile]));
        assert_eq!(told.changes, BTreeMap::new());
        let problem = "cluster prod: cluster.labels.gpu == 'yes': no such key: gpu".to_owned();
        assert_eq!(told.unchosen, [Unchosen { placement: "default/app".into(), problem, clusters: 2 }]);
        assert!(preview(&input, &BTreeSet::new()).unchosen.is_empty(), "of other profiles nothing is said");
    }
}
