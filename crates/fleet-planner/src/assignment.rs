//! From what a partition should hold and what it holds to the writes that lead there. Nothing is removed because it is
//! missing from the plan: it gets a tombstone with a higher generation, and goes only after the agent says it is pruned.

use std::collections::BTreeMap;

use fleet_objects::rollout::MaintenanceWindow;
use fleet_objects::{
    AssignmentSpec, AssignmentState, ContentReference, GenerationMark, HeldAssignment, ProfileReference,
};

use crate::variables::Values;

/// What a cluster should hold of one profile.
#[derive(Clone, Debug, PartialEq)]
pub struct Wanted {
    /// The profile.
    pub profile: ProfileReference,
    /// The placement that wants it, `namespace/name`.
    pub placement: String,
    /// The content.
    pub content: ContentReference,
    /// Every variable.
    pub variables: Values,
    /// When the agent may begin with it.
    pub maintenance_windows: Vec<MaintenanceWindow>,
}

/// What the hub has of one assignment.
#[derive(Clone, Debug, PartialEq)]
pub struct Existing {
    /// What it says now.
    pub spec: AssignmentSpec,
    /// Whether the agent reported the tombstone's prune done, at this generation.
    pub pruned: bool,
}

/// A partition as the hub knows it.
#[derive(Clone, Debug, Default)]
pub struct Partition {
    /// Its assignments by name.
    pub existing: BTreeMap<String, Existing>,
    /// When the agent may begin to remove one, by name; at once where nothing is said.
    pub windows: BTreeMap<String, Vec<MaintenanceWindow>>,
    /// What the agent reported to hold, by name.
    pub held: BTreeMap<String, HeldAssignment>,
    /// The generation up to which the agent may hold one that somebody deleted at this hub, by name: it was given out by this
    /// hub in its present life, so nothing of it is unknown.
    pub lost: BTreeMap<String, i64>,
    /// The highest generation ever used here, as far as recorded.
    pub floor: i64,
    /// A person accepted that this hub's view replaces the agent's.
    pub adopt: bool,
    /// With `adopt`: tombstones for what this hub knows nothing of.
    pub prune_orphans: bool,
}

/// One write to a partition.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Create the assignment.
    Create {
        /// Its name.
        name: String,
        /// What it says.
        spec: Box<AssignmentSpec>,
    },
    /// Replace what it says.
    Update {
        /// Its name.
        name: String,
        /// What it says.
        spec: Box<AssignmentSpec>,
    },
    /// Remove it: its tombstone has done its work. The floor must be raised first.
    Remove {
        /// Its name.
        name: String,
    },
}

/// What to do with a partition.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// Writes, in order of names.
    pub steps: Vec<Step>,
    /// The floor to record before any of them.
    pub floor: i64,
    /// Assignments not touched because the agent holds something newer, with the reason.
    pub behind: BTreeMap<String, String>,
}

/// Plans a partition. `wanted` is by assignment name; `epoch` is this hub's.
#[must_use]
pub fn plan(wanted: &BTreeMap<String, Wanted>, partition: &Partition, epoch: &str) -> Plan {
    let highest = partition.existing.values().map(|existing| existing.spec.generation);
    // A generation above what the agent holds is only drawn for what a person adopts, but the counter must not give out
    // a number the agent has seen with other content.
    let held = partition.held.values().map(|held| held.generation);
    let lost = partition.lost.values().copied();
    let floor = highest.chain(held).chain(lost).chain([partition.floor]).max().unwrap_or(0);
    let mut planner = Planner { partition, epoch, next: floor, plan: Plan { floor, ..Plan::default() } };
    for (name, wanted) in wanted {
        planner.present(name, wanted);
    }
    for (name, existing) in &partition.existing {
        if !wanted.contains_key(name) {
            planner.absent(name, existing);
        }
    }
    if partition.adopt && partition.prune_orphans {
        for (name, held) in &partition.held {
            if !held.pruned && !wanted.contains_key(name) && !partition.existing.contains_key(name) {
                planner.orphan(name, held);
            }
        }
    }
    planner.plan
}

struct Planner<'a> {
    partition: &'a Partition,
    epoch: &'a str,
    next: i64,
    plan: Plan,
}

impl Planner<'_> {
    fn present(&mut self, name: &str, wanted: &Wanted) {
        let existing = self.partition.existing.get(name);
        let mut spec = AssignmentSpec {
            profile: wanted.profile.clone(),
            placement: Some(wanted.placement.clone()),
            generation: 0,
            hub_epoch: self.epoch.to_owned(),
            basis: None,
            state: AssignmentState::Present,
            content: Some(wanted.content.clone()),
            variables: wanted.variables.clone(),
            maintenance_windows: wanted.maintenance_windows.clone(),
        };
        let same = existing.is_some_and(|existing| says_the_same(&existing.spec, &spec));
        if same && !self.must_reissue(name) {
            self.note_if_behind(name);
            return;
        }
        // A tombstone whose prune is under way is replaced by a higher generation: the agent stops pruning and applies.
        if !self.partition.adopt && self.note_if_behind(name) {
            return;
        }
        self.number(name, &mut spec);
        self.write(name, spec);
    }

    fn absent(&mut self, name: &str, existing: &Existing) {
        if existing.spec.state == AssignmentState::Tombstone {
            if existing.pruned {
                self.plan.steps.push(Step::Remove { name: name.to_owned() });
                return;
            }
            if !self.must_reissue(name) {
                self.note_if_behind(name);
                return;
            }
        }
        if !self.partition.adopt && self.note_if_behind(name) {
            return;
        }
        let mut spec = AssignmentSpec {
            state: AssignmentState::Tombstone,
            content: None,
            variables: Values::new(),
            maintenance_windows: self.partition.windows.get(name).cloned().unwrap_or_default(),
            hub_epoch: self.epoch.to_owned(),
            ..existing.spec.clone()
        };
        self.number(name, &mut spec);
        self.write(name, spec);
    }

    fn orphan(&mut self, name: &str, held: &HeldAssignment) {
        let (namespace, profile) = name.split_once('.').unwrap_or(("default", name));
        let mut spec = AssignmentSpec {
            profile: ProfileReference { namespace: namespace.to_owned(), name: profile.to_owned() },
            placement: None,
            generation: held.generation,
            hub_epoch: self.epoch.to_owned(),
            basis: None,
            state: AssignmentState::Tombstone,
            content: None,
            variables: Values::new(),
            maintenance_windows: Vec::new(),
        };
        self.number(name, &mut spec);
        self.write(name, spec);
    }

    /// Whether a person's adoption needs a new number although the assignment says the right thing.
    fn must_reissue(&self, name: &str) -> bool {
        self.partition.adopt && self.behind(name).is_some()
    }

    /// Why the agent would refuse what the hub has, if it would.
    fn behind(&self, name: &str) -> Option<String> {
        let held = self.partition.held.get(name)?;
        let existing = self.partition.existing.get(name).map(|existing| &existing.spec);
        let covered = existing.is_some_and(|spec| {
            if spec.hub_epoch == held.hub_epoch {
                spec.generation >= held.generation
            } else {
                spec.basis.as_ref().is_some_and(|basis| {
                    basis.hub_epoch == held.hub_epoch && basis.generation >= held.generation
                })
            }
        });
        // A pruned one whose assignment is gone from the hub is history of this hub, when the epoch is its own. So is one
        // that the hub saw go.
        let seen = held.pruned || self.partition.lost.get(name).is_some_and(|lost| held.generation <= *lost);
        let own_history = existing.is_none() && seen && held.hub_epoch == self.epoch;
        (!covered && !own_history).then(|| {
            format!(
                "the agent holds generation {} of hub epoch {}, which this hub does not know of; \
                 accept this hub's view with `kubectl annotate clusters.fleet.fairlead.dev NAME \
                 fleet.fairlead.dev/adopt=keep-orphans`",
                held.generation, held.hub_epoch
            )
        })
    }

    fn note_if_behind(&mut self, name: &str) -> bool {
        let reason = self.behind(name);
        let behind = reason.is_some();
        if let Some(reason) = reason {
            self.plan.behind.insert(name.to_owned(), reason);
        }
        behind
    }

    fn number(&mut self, name: &str, spec: &mut AssignmentSpec) {
        self.next += 1;
        spec.generation = self.next;
        spec.basis = self.basis(name);
        self.plan.floor = self.next;
    }

    /// The last mark of another epoch that this hub knows of for this assignment.
    fn basis(&self, name: &str) -> Option<GenerationMark> {
        if self.partition.adopt
            && let Some(held) = self.partition.held.get(name)
            && held.hub_epoch != self.epoch
        {
            return Some(GenerationMark { hub_epoch: held.hub_epoch.clone(), generation: held.generation });
        }
        let existing = &self.partition.existing.get(name)?.spec;
        if existing.hub_epoch == self.epoch {
            return existing.basis.clone();
        }
        Some(GenerationMark { hub_epoch: existing.hub_epoch.clone(), generation: existing.generation })
    }

    fn write(&mut self, name: &str, spec: AssignmentSpec) {
        let (name, spec) = (name.to_owned(), Box::new(spec));
        self.plan.steps.push(if self.partition.existing.contains_key(&name) {
            Step::Update { name, spec }
        } else {
            Step::Create { name, spec }
        });
    }
}

fn says_the_same(a: &AssignmentSpec, b: &AssignmentSpec) -> bool {
    a.state == b.state
        && a.content == b.content
        && a.variables == b.variables
        && a.profile == b.profile
        && a.placement == b.placement
        && a.maintenance_windows == b.maintenance_windows
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(crate) fn wanted(digest: &str) -> BTreeMap<String, Wanted> {
        BTreeMap::from([(
            "default.web".to_owned(),
            Wanted {
                profile: ProfileReference { namespace: "default".into(), name: "web".into() },
                placement: "default/all".into(),
                content: ContentReference { digest: digest.into(), size: 1 },
                variables: Values::new(),
                maintenance_windows: Vec::new(),
            },
        )])
    }

    fn applied(partition: &Partition, plan: &Plan) -> Partition {
        let mut partition = partition.clone();
        partition.floor = plan.floor;
        for step in &plan.steps {
            match step {
                Step::Create { name, spec } | Step::Update { name, spec } => {
                    partition
                        .existing
                        .insert(name.clone(), Existing { spec: (**spec).clone(), pruned: false });
                }
                Step::Remove { name } => {
                    partition.existing.remove(name);
                }
            }
        }
        partition
    }

    #[test]
    fn leaving_goes_by_tombstone_and_numbers_never_return() {
        let empty = BTreeMap::new();
        let first = plan(&wanted("a"), &Partition::default(), "e");
        let mut partition = applied(&Partition::default(), &first);
        assert_eq!(partition.existing["default.web"].spec.generation, 1);
        assert!(plan(&wanted("a"), &partition, "e").steps.is_empty());
        partition = applied(&partition, &plan(&empty, &partition, "e"));
        let tombstone = &partition.existing["default.web"].spec;
        assert_eq!((tombstone.state, tombstone.generation), (AssignmentState::Tombstone, 2));
        assert!(plan(&empty, &partition, "e").steps.is_empty(), "not before the agent has pruned");
        partition.existing.get_mut("default.web").unwrap().pruned = true;
        partition = applied(&partition, &plan(&empty, &partition, "e"));
        assert!(partition.existing.is_empty());
        partition = applied(&partition, &plan(&wanted("a"), &partition, "e"));
        assert_eq!(partition.existing["default.web"].spec.generation, 3);
    }

    #[test]
    fn a_hub_that_is_behind_waits_for_a_person() {
        let held = HeldAssignment {
            name: "default.web".into(),
            generation: 7,
            hub_epoch: "old".into(),
            digest: Some("a".into()),
            pruned: false,
        };
        let mut partition =
            Partition { held: BTreeMap::from([("default.web".into(), held)]), ..Partition::default() };
        let stopped = plan(&wanted("b"), &partition, "new");
        assert!(stopped.steps.is_empty() && stopped.behind.contains_key("default.web"));
        partition.adopt = true;
        let adopted = plan(&wanted("b"), &partition, "new");
        let Step::Create { spec, .. } = &adopted.steps[0] else { panic!("{adopted:?}") };
        assert_eq!(spec.generation, 8);
        assert_eq!(spec.basis, Some(GenerationMark { hub_epoch: "old".into(), generation: 7 }));
        assert!(plan(&BTreeMap::new(), &partition, "new").steps.is_empty(), "orphans stay unless asked");
        partition.prune_orphans = true;
        let Step::Create { spec, .. } = &plan(&BTreeMap::new(), &partition, "new").steps[0] else { panic!() };
        assert_eq!(spec.state, AssignmentState::Tombstone);
    }

    #[test]
    fn what_was_deleted_at_the_hub_is_issued_anew_in_the_same_life_only() {
        let mut partition = applied(&Partition::default(), &plan(&wanted("a"), &Partition::default(), "e"));
        partition.existing.clear();
        partition.floor = 0;
        let held = |epoch: &str, generation| HeldAssignment {
            name: "default.web".into(),
            generation,
            hub_epoch: epoch.into(),
            digest: Some("a".into()),
            pruned: false,
        };
        let table = [
            ("e", 7, Some(7), Some(8)),
            ("e", 6, Some(7), Some(8)),
            // It holds more than was seen to go, or nothing was.
            ("e", 8, Some(7), None),
            ("e", 7, None, None),
            ("other", 7, Some(7), None),
        ];
        for (epoch, generation, lost, issued) in table {
            partition.held = BTreeMap::from([("default.web".into(), held(epoch, generation))]);
            partition.lost = lost.map(|lost| ("default.web".to_owned(), lost)).into_iter().collect();
            let planned = plan(&wanted("a"), &partition, "e");
            let found = planned.steps.first().map(|step| match step {
                Step::Create { spec, .. } => spec.generation,
                step => panic!("{step:?}"),
            });
            assert_eq!(found, issued, "{epoch} {generation} {lost:?}");
            assert_eq!(planned.behind.is_empty(), issued.is_some());
            assert!(plan(&BTreeMap::new(), &partition, "e").steps.is_empty(), "nobody wants it: it stays");
        }
        // Before the agent has said what it holds.
        partition.held.clear();
        partition.lost.insert("default.web".into(), 7);
        let Step::Create { spec, .. } = &plan(&wanted("a"), &partition, "e").steps[0] else { panic!() };
        assert_eq!(spec.generation, 8);
    }

    #[test]
    fn a_new_epoch_carries_its_basis_forward() {
        let mut partition = applied(&Partition::default(), &plan(&wanted("a"), &Partition::default(), "e1"));
        partition = applied(&partition, &plan(&wanted("b"), &partition, "e2"));
        partition = applied(&partition, &plan(&wanted("c"), &partition, "e2"));
        let spec = &partition.existing["default.web"].spec;
        assert_eq!((spec.generation, spec.hub_epoch.as_str()), (3, "e2"));
        assert_eq!(spec.basis, Some(GenerationMark { hub_epoch: "e1".into(), generation: 1 }));
    }
}
