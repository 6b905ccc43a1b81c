//! Clusters that are no longer chosen: emptied in waves, behind gates, within the bounds.

use super::*;

impl Fleet {
    /// Clusters from `from` on are no longer chosen.
    fn lose(&mut self, from: usize) {
        let leaver = |cluster: Cluster| Leaver {
            view: ClusterView { name: cluster.name, labels: cluster.labels, ..ClusterView::default() },
            unavailable: (!cluster.online).then(|| "the agent is not connected".to_owned()),
            told: false,
            waiting: false,
            unhealthy: None,
            message: "7 objects are being removed".to_owned(),
        };
        self.leaving.extend(self.clusters.drain(from..).map(leaver));
    }

    /// One look; answers who is told to remove the profile for the first time.
    fn withdraw(&mut self) -> Vec<String> {
        let outcome = self.plan();
        let told = |name: &str| outcome.withdraws.contains(name);
        assert!(self.leaving.iter().all(|leaver| !leaver.told || told(&leaver.view.name)), "taken back");
        self.look();
        let mut newly = Vec::new();
        for leaver in &mut self.leaving {
            if told(&leaver.view.name) && !leaver.told {
                assert_eq!(leaver.unavailable, None, "{} is away and is told", leaver.view.name);
                leaver.told = true;
                newly.push(leaver.view.name.clone());
            }
        }
        newly
    }

    /// Agents that are there remove what they were told to.
    fn empty(&mut self) {
        self.leaving.retain(|leaver| !leaver.told || leaver.unavailable.is_some());
    }

    fn withdrawal(&self) -> &fleet_objects::rollout::Withdrawal {
        self.status.withdrawal.as_ref().unwrap()
    }
}

#[test]
fn clusters_that_are_no_longer_chosen_are_emptied_in_waves() {
    let strategy = RolloutStrategy {
        canary: Some(Wave { soak_seconds: 60, ..Wave::default() }),
        waves: vec![Wave { clusters: percent("25%"), ..Wave::default() }],
        ..RolloutStrategy::default()
    };
    let mut fleet = Fleet::changing(12, strategy);
    fleet.desired = content(1);
    fleet.settle();
    fleet.lose(4);
    assert_eq!(fleet.withdraw(), ["c04"]);
    assert!(fleet.withdraw().is_empty(), "the canary is not empty yet");
    fleet.empty();
    assert!(fleet.withdraw().is_empty());
    assert!(fleet.withdrawal().message.contains("soaking"), "{}", fleet.withdrawal().message);
    assert_eq!(fleet.plan().wake, Timestamp::from_second(fleet.now + 60).ok());
    fleet.now += 60;
    assert_eq!(fleet.withdraw(), ["c05", "c06", "c07"], "a quarter of those chosen and those that were");
    fleet.empty();
    assert_eq!(fleet.withdraw().len(), 4);
    fleet.empty();
    fleet.look();
    assert_eq!(fleet.status.withdrawal, None);
    assert_eq!((fleet.status.phase, fleet.status.updated), (RolloutPhase::Completed, 4));
}

#[test]
fn a_cluster_that_cannot_be_emptied_stops_the_others() {
    let mut fleet = Fleet::changing(6, canary_and(Vec::new()));
    fleet.desired = content(1);
    fleet.settle();
    fleet.lose(2);
    fleet.leaving[1].unavailable = Some("the agent is not connected".to_owned());
    assert_eq!(fleet.withdraw(), ["c02"]);
    fleet.now += i64::from(DEFAULT_DEADLINE_SECONDS);
    assert!(fleet.withdraw().is_empty());
    let message = &fleet.withdrawal().message;
    assert!(
        message.starts_with("1 failed where 0 may: c02: not emptied after 600 s: 7 objects"),
        "{message}"
    );
    fleet.spec.paused = true;
    fleet.spec.strategy.failure_budget = number(1);
    assert!(fleet.withdraw().is_empty(), "paused");
    fleet.spec.paused = false;
    assert_eq!(fleet.withdraw(), ["c04", "c05"], "the budget allows it, and who is away waits");
    fleet.empty();
    fleet.withdraw();
    assert_eq!(fleet.withdrawal().left, 1, "also the late one is empty at last");
    fleet.leaving[0].unavailable = None;
    assert_eq!(fleet.withdraw(), ["c03"]);
}

#[test]
fn gates_are_asked_when_clusters_are_emptied_and_one_word_opens_one_door() {
    let gates = |kind| vec![Gate { kind, workflow: Some("smoke".to_owned()), ..Gate::default() }];
    let wave = |kind| Wave { clusters: number(1), gates: gates(kind), ..Wave::default() };
    let strategy = canary_and(vec![wave(GateType::Approval), wave(GateType::TestRun)]);
    let mut fleet = Fleet::new(8, RolloutStrategy::default());
    fleet.settle();
    fleet.spec.strategy = strategy;
    fleet.lose(4);
    assert_eq!(fleet.withdraw(), ["c04"]);
    fleet.empty();
    assert!(fleet.withdraw().is_empty());
    assert_eq!(fleet.withdrawal().message, "wave 1: waits for an approval");
    // A word about the revision is none about this, and none about another moment either.
    fleet.spec.promote = Some(fleet.step());
    fleet.spec.promote_withdrawal = Some(fleet.status.withdrawal_step - 1);
    assert!(fleet.withdraw().is_empty());
    fleet.spec.promote_withdrawal = Some(fleet.status.withdrawal_step);
    assert_eq!(fleet.withdraw(), ["c05"]);
    fleet.empty();
    assert!(fleet.withdraw().is_empty());
    let test = fleet.withdrawal().tests[0].clone();
    assert_eq!((test.workflow.as_str(), test.clusters.as_slice()), ("smoke", &["c05".to_owned()][..]));
    fleet.tests.insert(test.run.clone(), TestState::Failed("no answer".to_owned()));
    assert!(fleet.withdraw().is_empty());
    let said = format!("wave 2: test run {} failed: no answer", test.run);
    assert_eq!(fleet.withdrawal().message, said);
    fleet.spec.promote_withdrawal = Some(fleet.status.withdrawal_step);
    assert_eq!(fleet.withdraw(), ["c06"], "in spite of the test");
    fleet.empty();
    assert_eq!(fleet.withdraw(), ["c07"], "the rest has no gates");
}

#[test]
fn what_else_was_healthy_must_be_so_after_a_cluster_was_emptied() {
    let mut fleet = Fleet::new(6, RolloutStrategy::default());
    fleet.settle();
    fleet.spec.strategy = canary_and(Vec::new());
    fleet.lose(3);
    fleet.leaving[1].waiting = true;
    assert_eq!(fleet.withdraw(), ["c03"]);
    fleet.empty();
    fleet.sick.insert("c03".to_owned(), "default.web: no endpoints".to_owned());
    assert!(fleet.withdraw().is_empty());
    let said = &fleet.withdrawal().message;
    assert_eq!(said, "canary: c03 is not healthy since it was emptied: default.web: no endpoints");
    fleet.now += i64::from(DEFAULT_DEADLINE_SECONDS);
    assert!(fleet.withdraw().is_empty());
    let said = &fleet.withdrawal().message;
    assert!(said.starts_with("1 failed where 0 may: c03: not healthy since it was emptied"), "{said}");
    fleet.spec.promote_withdrawal = Some(fleet.status.withdrawal_step);
    assert_eq!(fleet.withdraw(), ["c04", "c05"], "a person goes on in spite of it");
    // One that waits for its window is in no hurry; the other is late.
    fleet.now += i64::from(DEFAULT_DEADLINE_SECONDS);
    fleet.withdraw();
    let late: Vec<_> = fleet.withdrawal().failed.iter().map(|failed| failed.cluster.as_str()).collect();
    assert_eq!(late, ["c05"]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever happens: never more under change than the strategy allows, nobody told beyond the budget, who was told
    /// stays told, and once clusters answer all are empty.
    #[test]
    fn withdrawals_keep_the_bounds_and_end(strategy in strategies(), from in 0usize..7, events in events()) {
        let mut fleet = Fleet::changing(8, strategy);
        fleet.desired = content(1);
        fleet.settle();
        fleet.lose(from);
        let max = waves::max_concurrency(&fleet.spec.strategy, 8).unwrap();
        for event in &events {
            match event {
                Event::Online(index, online) => {
                    if let Some(leaver) = fleet.leaving.get_mut(*index) {
                        leaver.unavailable = (!online).then(|| "away".to_owned());
                    }
                }
                Event::Answer(_, how) if *how > 3 => fleet.empty(),
                Event::Pass(seconds) => fleet.now += i64::from(*seconds),
                Event::Pause(paused) => fleet.spec.paused = *paused,
                Event::Promote => fleet.spec.promote_withdrawal = Some(fleet.status.withdrawal_step),
                _ => {}
            }
            let newly = fleet.withdraw();
            let Some(state) = &fleet.status.withdrawal else { continue };
            let budget = waves::failure_budget(&fleet.spec.strategy, 8).unwrap();
            prop_assert!(newly.is_empty() || state.removing.len() + fleet.status.updating.len() <= max);
            let failed = state.failed.iter().filter(|failed| !failed.accepted).count();
            prop_assert!(newly.is_empty() || (failed <= budget && !fleet.spec.paused));
            prop_assert_eq!(&fleet.plan().status, &fleet.status, "a look at nothing new wrote something");
        }
        fleet.spec.paused = false;
        for leaver in &mut fleet.leaving {
            leaver.unavailable = None;
        }
        for _ in 0..60 {
            fleet.spec.promote_withdrawal = Some(fleet.status.withdrawal_step);
            fleet.withdraw();
            fleet.empty();
            fleet.now += 1000;
        }
        prop_assert_eq!(fleet.leaving.len(), 0, "{:?}", fleet.status.withdrawal);
    }
}
