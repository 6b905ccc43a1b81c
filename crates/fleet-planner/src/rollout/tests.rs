mod withdrawal;

use std::collections::BTreeMap;

use fleet_objects::rollout::{
    FailureAction, Gate, GateType, RollbackRequest, RolloutPhase, RolloutSpec, RolloutStatus, RolloutStep,
    RolloutStrategy, Wave,
};
use fleet_objects::{ClusterSelector, ContentReference};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use proptest::prelude::*;

use super::*;
use crate::expressions::NoExpressions;

/// A cluster that does what it is told by the test.
#[derive(Clone, Debug)]
struct Cluster {
    name: String,
    labels: BTreeMap<String, String>,
    online: bool,
    holds: Option<Holding>,
    observed: bool,
    health: MemberHealth,
}

/// A fleet beside a rollout.
struct Fleet {
    spec: RolloutSpec,
    status: RolloutStatus,
    desired: Desired,
    clusters: Vec<Cluster>,
    now: i64,
    releases: BTreeMap<String, Release>,
    leaving: Vec<Leaver>,
    /// What is not healthy of what else a cluster holds, by its name.
    sick: BTreeMap<String, String>,
    tests: BTreeMap<String, TestState>,
}

fn content(version: u32) -> Desired {
    let Holding { content, variables } = holding(version);
    Desired { content, variables, values: Vec::new() }
}

fn holding(version: u32) -> Holding {
    Holding { content: ContentReference { digest: version.to_string(), size: 1 }, variables: Values::new() }
}

/// The revision's own, and for a cluster with a rule of its name that rule's.
fn variables_of(revision: &Revision, view: &ClusterView) -> Result<Values, String> {
    let mut values = revision.variables.clone();
    let rules = revision.values.iter().filter(|rule| rule.clusters.contains(&view.name));
    values.extend(rules.flat_map(|rule| rule.variables.clone()));
    Ok(values)
}

impl Fleet {
    fn new(count: usize, strategy: RolloutStrategy) -> Self {
        let cluster = |index: usize| Cluster {
            name: format!("c{index:02}"),
            labels: BTreeMap::from([("parity".to_owned(), (index % 2).to_string())]),
            online: true,
            holds: None,
            observed: true,
            health: MemberHealth::Healthy,
        };
        Self {
            spec: RolloutSpec { strategy, ..RolloutSpec::default() },
            status: RolloutStatus::default(),
            desired: content(1),
            clusters: (0..count).map(cluster).collect(),
            now: 1_000_000,
            releases: BTreeMap::new(),
            leaving: Vec::new(),
            sick: BTreeMap::new(),
            tests: BTreeMap::new(),
        }
    }

    /// A fleet that has version 1 already and is to get version 2.
    fn changing(count: usize, strategy: RolloutStrategy) -> Self {
        let mut fleet = Self::new(count, RolloutStrategy::default());
        fleet.settle();
        assert_eq!(fleet.status.phase, RolloutPhase::Completed, "{}", fleet.status.message);
        fleet.spec.strategy = strategy;
        fleet.desired = content(2);
        fleet
    }

    fn members(&self) -> Vec<Member> {
        let member = |cluster: &Cluster| Member {
            view: ClusterView {
                name: cluster.name.clone(),
                labels: cluster.labels.clone(),
                ..ClusterView::default()
            },
            unavailable: (!cluster.online).then(|| "the agent is not connected".to_owned()),
            holds: cluster.holds.clone(),
            observed: cluster.observed,
            health: cluster.health.clone(),
        };
        self.clusters.iter().map(member).collect()
    }

    /// Those that the withdrawal has touched, all of them there.
    fn touched(&self) -> Vec<Touched> {
        let state = self.status.withdrawal.clone().unwrap_or_default();
        let names = state.removing.into_iter().map(|one| one.cluster);
        let names = names.chain(state.emptied.into_iter().map(|one| one.cluster));
        let touched = |name: String| Touched {
            unhealthy: self.sick.get(&name).cloned(),
            view: ClusterView { name, ..ClusterView::default() },
            unavailable: None,
        };
        names.map(touched).collect()
    }

    fn plan(&self) -> Outcome {
        let members = self.members();
        let touched = self.touched();
        plan(&Input {
            name: "app",
            tests: &self.tests,
            spec: &self.spec,
            status: &self.status,
            desired: Some(&self.desired),
            members: &members,
            leaving: &self.leaving,
            touched: &touched,
            variables_of: &variables_of,
            expressions: &NoExpressions,
            now: Timestamp::from_second(self.now).unwrap(),
        })
    }

    /// One look, its invariants checked, its releases given out. Answers who got the target for the first time.
    fn look(&mut self) -> Vec<String> {
        let outcome = self.plan();
        let newly = self.check(&outcome);
        self.status = outcome.status;
        self.releases = outcome.releases;
        let revision = |revision: &Option<Revision>, name: &str| {
            let view = ClusterView { name: name.to_owned(), ..ClusterView::default() };
            revision.as_ref().map(|revision| Holding {
                content: revision.content.clone(),
                variables: variables_of(revision, &view).unwrap(),
            })
        };
        for cluster in &mut self.clusters {
            let given = match self.releases[&cluster.name] {
                Release::Target => revision(&self.status.target, &cluster.name),
                Release::Stable => revision(&self.status.stable, &cluster.name),
                Release::Keep => continue,
            };
            if cluster.holds != given {
                cluster.holds = given;
                cluster.observed = false;
                cluster.health = MemberHealth::Unhealthy("applying".to_owned());
            }
        }
        newly
    }

    fn check(&self, outcome: &Outcome) -> Vec<String> {
        let (before, after) = (&self.status, &outcome.status);
        assert!(after.revision >= before.revision && after.step >= before.step, "time goes on");
        let Some(target) = &after.target else { return Vec::new() };
        let newly: Vec<&Cluster> = self
            .clusters
            .iter()
            .filter(|cluster| outcome.releases[&cluster.name] == Release::Target)
            .filter(|cluster| {
                cluster.holds.as_ref().is_none_or(|holds| !is_told(holds, target, &cluster.name))
            })
            .collect();
        let back = after.phase == RolloutPhase::RollingBack || after.phase == RolloutPhase::RolledBack;
        let total = self.clusters.len();
        let max = waves::max_concurrency(&self.spec.strategy, total).unwrap_or(0);
        let budget = waves::failure_budget(&self.spec.strategy, total).unwrap_or(0);
        let failures = after.failed.iter().filter(|failed| !failed.accepted).count();
        for cluster in &newly {
            if !cluster.online {
                assert!(back, "{} is away and gets a change", cluster.name);
                continue;
            }
            assert!(after.updating.iter().any(|update| update.cluster == cluster.name), "not counted");
            assert!(after.updating.len() <= max, "{} under change, {max} may be", after.updating.len());
            assert!(back || failures <= budget, "{failures} failed, {budget} may, and {} goes", cluster.name);
            let counted = before.updating.iter().any(|update| update.cluster == cluster.name);
            assert!(!self.spec.paused || counted, "paused, and {} goes", cluster.name);
        }
        newly.into_iter().map(|cluster| cluster.name.clone()).collect()
    }

    /// Every agent that is there answers: healthy.
    fn all_become_healthy(&mut self) {
        for cluster in self.clusters.iter_mut().filter(|cluster| cluster.online && cluster.holds.is_some()) {
            cluster.observed = true;
            cluster.health = MemberHealth::Healthy;
        }
    }

    fn settle(&mut self) {
        for _ in 0..20 {
            self.look();
            self.all_become_healthy();
        }
    }

    fn find(&mut self, name: &str) -> &mut Cluster {
        self.clusters.iter_mut().find(|cluster| cluster.name == name).unwrap()
    }

    fn step(&self) -> RolloutStep {
        RolloutStep { revision: self.status.revision, step: self.status.step }
    }
}

fn is_told(holds: &Holding, revision: &Revision, name: &str) -> bool {
    let view = ClusterView { name: name.to_owned(), ..ClusterView::default() };
    holds.content == revision.content && Ok(&holds.variables) == variables_of(revision, &view).as_ref()
}

fn number(number: i32) -> Option<IntOrString> {
    Some(IntOrString::Int(number))
}

fn percent(text: &str) -> Option<IntOrString> {
    Some(IntOrString::String(text.to_owned()))
}

fn canary_and(waves: Vec<Wave>) -> RolloutStrategy {
    RolloutStrategy { canary: Some(Wave::default()), waves, ..RolloutStrategy::default() }
}

#[test]
fn canary_then_waves_by_share_then_the_rest() {
    let mut fleet =
        Fleet::changing(10, canary_and(vec![Wave { clusters: percent("25%"), ..Wave::default() }]));
    let mut order = Vec::new();
    for _ in 0..8 {
        let got = fleet.look();
        if !got.is_empty() {
            order.push((fleet.status.wave_name.clone().unwrap(), got.len()));
        }
        fleet.all_become_healthy();
    }
    let expected = [("canary", 1), ("wave 1", 3), ("rest", 6)];
    assert_eq!(order, expected.map(|(name, count)| (name.to_owned(), count)));
    assert_eq!((fleet.status.phase, fleet.status.updated), (RolloutPhase::Completed, 10));
    assert_eq!(fleet.status.stable.as_ref().unwrap().number, 2);
    assert!(fleet.look().is_empty());
}

#[test]
fn waves_by_label_and_concurrency() {
    let odd = ClusterSelector {
        match_labels: BTreeMap::from([("parity".to_owned(), "1".to_owned())]),
        ..ClusterSelector::default()
    };
    let mut fleet = Fleet::changing(
        8,
        RolloutStrategy {
            waves: vec![Wave { cluster_selector: Some(odd), ..Wave::default() }],
            max_concurrency: number(3),
            ..RolloutStrategy::default()
        },
    );
    assert_eq!(fleet.look(), ["c01", "c03", "c05"]);
    assert!(fleet.look().is_empty(), "three are under change");
    fleet.all_become_healthy();
    assert_eq!(fleet.look(), ["c07"]);
    fleet.all_become_healthy();
    assert_eq!(fleet.look().len(), 3);
}

#[test]
fn a_failing_canary_halts_and_nobody_else_gets_the_change() {
    let mut fleet = Fleet::changing(5, canary_and(Vec::new()));
    assert_eq!(fleet.look(), ["c00"]);
    fleet.find("c00").observed = true;
    assert!(fleet.look().is_empty());
    fleet.now += i64::from(DEFAULT_DEADLINE_SECONDS);
    assert!(fleet.look().is_empty());
    assert_eq!(fleet.status.phase, RolloutPhase::Halted);
    assert!(fleet.status.message.contains("c00") && fleet.status.message.contains("1 failed where 0 may"));
    // A person goes on, at exactly this step; the wave has still no proof.
    fleet.spec.promote = Some(RolloutStep { step: fleet.status.step - 1, ..fleet.step() });
    fleet.look();
    assert_eq!(fleet.status.phase, RolloutPhase::Halted, "a word about an earlier moment");
    // Rolled back by one command.
    fleet.spec.rollback = Some(RollbackRequest { revision: fleet.status.revision, to: None });
    assert_eq!(fleet.look(), ["c00"]);
    assert_eq!(fleet.status.phase, RolloutPhase::RollingBack);
    fleet.all_become_healthy();
    fleet.look();
    assert_eq!(fleet.status.phase, RolloutPhase::RolledBack);
    assert!(fleet.clusters.iter().all(|cluster| cluster.holds == Some(holding(1))));
    assert!(fleet.look().is_empty(), "the same request does nothing twice");
    // What is wanted changes: a new run.
    fleet.desired = content(3);
    assert_eq!(fleet.look(), ["c00"]);
    assert_eq!(fleet.status.revision, 3);
}

#[test]
fn the_budget_rolls_back_by_itself_where_it_is_told_to() {
    let strategy = RolloutStrategy {
        failure_budget: number(1),
        on_failure: FailureAction::RollBack,
        ..canary_and(vec![Wave { clusters: number(3), ..Wave::default() }])
    };
    let mut fleet = Fleet::changing(6, strategy);
    fleet.look();
    fleet.all_become_healthy();
    assert_eq!(fleet.look().len(), 3);
    for name in ["c01", "c02"] {
        fleet.find(name).health = MemberHealth::Failed("crash".to_owned());
        fleet.find(name).observed = true;
    }
    fleet.look();
    assert_eq!(fleet.status.phase, RolloutPhase::RollingBack, "{}", fleet.status.message);
    fleet.all_become_healthy();
    fleet.look();
    fleet.all_become_healthy();
    fleet.look();
    assert_eq!(fleet.status.phase, RolloutPhase::RolledBack);
    assert!(fleet.clusters.iter().all(|cluster| cluster.holds == Some(holding(1))));
}

#[test]
fn a_failure_within_the_budget_does_not_stop_it() {
    let strategy = RolloutStrategy { failure_budget: percent("20%"), ..canary_and(Vec::new()) };
    let mut fleet = Fleet::changing(5, strategy);
    fleet.look();
    fleet.all_become_healthy();
    fleet.look();
    fleet.all_become_healthy();
    fleet.find("c03").health = MemberHealth::Failed("crash".to_owned());
    fleet.look();
    assert_eq!((fleet.status.phase, fleet.status.failed_count), (RolloutPhase::Completed, 1));
}

#[test]
fn soak_and_approval_hold_until_time_and_person_say_so() {
    let gate = Gate::default();
    let strategy = RolloutStrategy {
        canary: Some(Wave { soak_seconds: 300, ..Wave::default() }),
        waves: vec![Wave { gates: vec![gate], ..Wave::default() }],
        ..RolloutStrategy::default()
    };
    let mut fleet = Fleet::changing(3, strategy);
    fleet.look();
    fleet.all_become_healthy();
    fleet.look();
    assert_eq!(fleet.status.phase, RolloutPhase::Soaking);
    assert_eq!(fleet.plan().wake, Timestamp::from_second(fleet.now + 300).ok());
    // Unhealthy for a moment: the soak begins again.
    fleet.now += 200;
    fleet.find("c00").health = MemberHealth::Unhealthy("restarting".to_owned());
    fleet.look();
    assert_eq!(fleet.status.phase, RolloutPhase::Progressing);
    fleet.all_become_healthy();
    fleet.look();
    fleet.now += 299;
    fleet.look();
    assert_eq!(fleet.status.phase, RolloutPhase::Soaking);
    fleet.now += 1;
    assert!(fleet.look().is_empty());
    assert_eq!(fleet.status.phase, RolloutPhase::Waiting);
    assert!(fleet.status.message.contains("approval"), "{}", fleet.status.message);
    fleet.now += 100_000;
    assert!(fleet.look().is_empty());
    fleet.spec.promote = Some(fleet.step());
    assert_eq!(fleet.look().len(), 2);
}

fn tested() -> RolloutStrategy {
    let gate = Gate { kind: GateType::TestRun, workflow: Some("smoke".to_owned()), ..Gate::default() };
    let wave = Wave { gates: vec![gate], ..Wave::default() };
    RolloutStrategy {
        canary: Some(Wave { clusters: number(2), ..Wave::default() }),
        ..canary_and(vec![wave])
    }
}

#[test]
fn a_test_must_pass_in_the_wave_before() {
    let mut fleet = Fleet::changing(5, tested());
    assert_eq!(fleet.look(), ["c00", "c01"]);
    assert!(fleet.status.tests.is_empty(), "not before they are healthy");
    fleet.all_become_healthy();
    assert!(fleet.look().is_empty());
    let test = fleet.status.tests[0].clone();
    assert_eq!(
        (test.workflow.as_str(), test.clusters.as_slice()),
        ("smoke", &["c00".into(), "c01".into()][..])
    );
    fleet.tests.insert(test.run.clone(), TestState::Running("1 of 2".to_owned()));
    assert!(fleet.look().is_empty());
    assert_eq!(fleet.status.phase, RolloutPhase::Waiting);
    assert!(fleet.status.message.contains("has not ended"), "{}", fleet.status.message);
    fleet.tests.insert(test.run.clone(), TestState::Passed);
    assert_eq!(fleet.look().len(), 3);
    fleet.settle();
    assert_eq!(fleet.status.phase, RolloutPhase::Completed);
    // Another revision is tested anew.
    fleet.desired = content(3);
    for _ in 0..4 {
        fleet.look();
        fleet.all_become_healthy();
    }
    assert_ne!(fleet.status.tests[0].run, test.run);
    assert_eq!(fleet.status.phase, RolloutPhase::Waiting);
}

#[test]
fn a_test_that_fails_stops_the_rollout_or_takes_it_back() {
    for back in [false, true] {
        let on_failure = if back { FailureAction::RollBack } else { FailureAction::Halt };
        // However many clusters may fail.
        let mut fleet =
            Fleet::changing(5, RolloutStrategy { on_failure, failure_budget: percent("100%"), ..tested() });
        fleet.look();
        fleet.all_become_healthy();
        fleet.look();
        let run = fleet.status.tests[0].run.clone();
        fleet.tests.insert(run.clone(), TestState::Failed("c01: login".to_owned()));
        fleet.look();
        assert!(fleet.status.message.contains(&format!("test run {run} failed: c01: login")));
        if back {
            assert_eq!(fleet.status.phase, RolloutPhase::RollingBack);
            continue;
        }
        assert_eq!(fleet.status.phase, RolloutPhase::Halted);
        assert!(fleet.look().is_empty());
        fleet.spec.promote = Some(fleet.step());
        assert_eq!(fleet.look().len(), 3, "a person went on");
        assert_eq!(fleet.status.tests[0].state, fleet_objects::rollout::GateTestState::Accepted);
    }
}

#[test]
fn one_that_was_away_catches_up_through_the_canary() {
    let strategy = RolloutStrategy {
        canary: Some(Wave { soak_seconds: 60, ..Wave::default() }),
        ..RolloutStrategy::default()
    };
    let mut fleet = Fleet::changing(6, strategy);
    for name in ["c03", "c04"] {
        fleet.find(name).online = false;
    }
    for _ in 0..6 {
        fleet.look();
        fleet.all_become_healthy();
        fleet.now += 60;
    }
    assert_eq!(fleet.status.phase, RolloutPhase::Completed);
    assert_eq!((fleet.status.updated, fleet.status.debt_count), (4, 2));
    assert!(fleet.status.debts[0].reason.contains("not connected"));
    assert_eq!(fleet.find("c03").holds, Some(holding(1)));
    for name in ["c03", "c04"] {
        fleet.find(name).online = true;
    }
    assert_eq!(fleet.look(), ["c03"], "one at a time");
    fleet.all_become_healthy();
    assert!(fleet.look().is_empty(), "it soaks first");
    fleet.now += 60;
    assert_eq!(fleet.look(), ["c04"]);
    fleet.all_become_healthy();
    fleet.now += 60;
    fleet.look();
    assert_eq!((fleet.status.updated, fleet.status.debt_count), (6, 0));
}

#[test]
fn what_a_cluster_did_not_take_before_it_went_away_is_called_back() {
    let mut fleet = Fleet::changing(3, RolloutStrategy::default());
    assert_eq!(fleet.look().len(), 3);
    fleet.all_become_healthy();
    let lost = fleet.find("c02");
    lost.observed = false;
    lost.online = false;
    lost.health = MemberHealth::Unhealthy("unknown".to_owned());
    fleet.look();
    assert_eq!(fleet.releases["c02"], Release::Stable);
    assert_eq!(fleet.find("c02").holds, Some(holding(1)));
    assert_eq!(fleet.status.debt_count, 1);
}

#[test]
fn a_new_cluster_gets_what_is_proven() {
    let mut fleet = Fleet::changing(4, canary_and(Vec::new()));
    fleet.look();
    let mut new = fleet.clusters[3].clone();
    new.name = "a-new-one".to_owned();
    new.holds = None;
    fleet.clusters.push(new);
    fleet.look();
    assert_eq!(fleet.find("a-new-one").holds, Some(holding(1)));
}

#[test]
fn a_value_for_one_cluster_is_a_revision_and_reaches_that_cluster() {
    let mut fleet = Fleet::changing(3, RolloutStrategy::default());
    fleet.settle();
    let variables = Values::from([("size".to_owned(), serde_json::json!(3))]);
    fleet.desired.values = vec![fleet_objects::ValueRule {
        clusters: vec!["c01".to_owned()],
        variables: variables.clone(),
        ..fleet_objects::ValueRule::default()
    }];
    assert_eq!(fleet.look(), ["c01"], "nothing changes for the others");
    assert_eq!(fleet.find("c01").holds.as_ref().unwrap().variables, variables);
    fleet.spec.rollback = Some(RollbackRequest { revision: fleet.status.revision, to: None });
    fleet.settle();
    assert_eq!(fleet.find("c01").holds, Some(holding(2)), "values go back too");
}

#[test]
fn times_of_a_clock_that_was_ahead_hold_nothing_up() {
    let canary = Some(Wave { soak_seconds: 60, ..Wave::default() });
    let mut fleet = Fleet::changing(3, RolloutStrategy { canary, ..RolloutStrategy::default() });
    fleet.now += 100_000;
    fleet.look();
    fleet.all_become_healthy();
    fleet.look();
    assert_eq!(fleet.status.phase, RolloutPhase::Soaking);
    fleet.now -= 100_000;
    fleet.look();
    assert_eq!(fleet.status.soaking_since.as_ref().map(|time| time.0.as_second()), Some(fleet.now));
    fleet.now += 60;
    fleet.settle();
    assert_eq!(fleet.status.phase, RolloutPhase::Completed, "{}", fleet.status.message);
}

#[test]
fn an_abort_leaves_what_is_there() {
    let mut fleet = Fleet::changing(4, canary_and(Vec::new()));
    fleet.look();
    fleet.all_become_healthy();
    fleet.spec.abort = Some(fleet.status.revision);
    assert!(fleet.look().is_empty());
    assert_eq!(fleet.status.phase, RolloutPhase::Aborted);
    assert_eq!(fleet.find("c00").holds, Some(holding(2)));
    assert_eq!(fleet.find("c01").holds, Some(holding(1)));
}

#[test]
fn nobody_there_is_no_success() {
    let mut fleet = Fleet::changing(2, RolloutStrategy::default());
    for cluster in &mut fleet.clusters {
        cluster.online = false;
    }
    for _ in 0..3 {
        assert!(fleet.look().is_empty());
    }
    assert_eq!(fleet.status.phase, RolloutPhase::Waiting);
    assert_eq!(fleet.status.stable.as_ref().unwrap().number, 1);
}

#[test]
fn a_strategy_that_cannot_be_read_changes_nothing_and_says_why() {
    let strategy = RolloutStrategy {
        waves: vec![Wave { clusters: percent("many"), ..Wave::default() }],
        ..RolloutStrategy::default()
    };
    let mut fleet = Fleet::changing(2, strategy);
    assert!(fleet.look().is_empty());
    assert!(fleet.status.message.contains("wave 1: clusters: \"many\""), "{}", fleet.status.message);
}

#[derive(Clone, Debug)]
enum Event {
    Online(usize, bool),
    Answer(usize, u8),
    Pass(u16),
    Change(u8),
    Pause(bool),
    Promote,
    Abort,
    RollBack,
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        3 => (0usize..8, any::<bool>()).prop_map(|(index, online)| Event::Online(index, online)),
        8 => (0usize..8, 0u8..6).prop_map(|(index, how)| Event::Answer(index, how)),
        3 => (0u16..700).prop_map(Event::Pass),
        1 => (1u8..4).prop_map(Event::Change),
        1 => any::<bool>().prop_map(Event::Pause),
        1 => Just(Event::Promote),
        1 => Just(Event::Abort),
        1 => Just(Event::RollBack),
    ];
    prop::collection::vec(event, 0..60)
}

fn strategies() -> impl Strategy<Value = RolloutStrategy> {
    let wave = (1i32..4, 0u32..100, any::<bool>()).prop_map(|(count, soak_seconds, gated)| Wave {
        clusters: number(count),
        soak_seconds,
        gates: if gated { vec![Gate::default()] } else { Vec::new() },
        ..Wave::default()
    });
    let canary = prop::option::of(wave.clone());
    (canary, prop::collection::vec(wave, 0..3), prop::option::of(1i32..4), 0i32..3, any::<bool>()).prop_map(
        |(canary, waves, concurrency, budget, back)| RolloutStrategy {
            canary,
            waves,
            max_concurrency: concurrency.map(IntOrString::Int),
            failure_budget: number(budget),
            on_failure: if back { FailureAction::RollBack } else { FailureAction::Halt },
            ..RolloutStrategy::default()
        },
    )
}

impl Fleet {
    fn happen(&mut self, event: &Event) {
        match event {
            Event::Online(index, online) => self.clusters[*index].online = *online,
            Event::Answer(index, how) => {
                let cluster = &mut self.clusters[*index];
                if cluster.online && cluster.holds.is_some() {
                    cluster.observed = true;
                    cluster.health = match how {
                        0 => MemberHealth::Failed("crash".to_owned()),
                        1 => MemberHealth::Unhealthy("slow".to_owned()),
                        2 => MemberHealth::Waiting("window".to_owned()),
                        _ => MemberHealth::Healthy,
                    };
                }
            }
            Event::Pass(seconds) => self.now += i64::from(*seconds),
            Event::Change(version) => self.desired = content(u32::from(*version)),
            Event::Pause(paused) => self.spec.paused = *paused,
            Event::Promote => self.spec.promote = Some(self.step()),
            Event::Abort => self.spec.abort = Some(self.status.revision),
            Event::RollBack => {
                self.spec.rollback = Some(RollbackRequest { revision: self.status.revision, to: None });
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Whatever happens: the bounds hold at every look (see `check`), a look at an unchanged fleet changes nothing more,
    /// and once clusters answer and a person helps, the run ends.
    #[test]
    fn bounds_hold_and_it_ends(strategy in strategies(), events in events(), new in any::<bool>()) {
        let mut fleet = if new { Fleet::new(8, strategy) } else { Fleet::changing(8, strategy) };
        for event in &events {
            fleet.happen(event);
            // Who has begun comes first in a wave, so a look may move others between waves once more.
            for _ in 0..4 {
                fleet.look();
            }
            let again = fleet.plan();
            prop_assert_eq!(&again.status, &fleet.status, "a look at nothing new wrote something");
        }
        fleet.spec.paused = false;
        for cluster in &mut fleet.clusters {
            cluster.online = true;
        }
        // What is wanted may have changed unseen.
        fleet.look();
        let mut looks = 0;
        while !(fleet.status.phase.is_final() && fleet.status.phase != RolloutPhase::Halted) {
            fleet.look();
            fleet.all_become_healthy();
            fleet.now += 1000;
            fleet.spec.promote = Some(fleet.step());
            looks += 1;
            prop_assert!(looks < 100, "no end: {:?}", fleet.status);
        }
        if fleet.status.phase == RolloutPhase::Completed {
            // Those that were away follow.
            for _ in 0..40 {
                fleet.look();
                fleet.all_become_healthy();
                fleet.now += 1000;
            }
            prop_assert_eq!(fleet.status.updated, 8, "{:?}", fleet.status);
        }
    }
}
