//! What an agent takes over from a hub: never anything older than what it holds, never anything of a hub that does not
//! show that it continues what the agent holds.

use fleet_objects::{AssignmentSpec, AssignmentState, GenerationMark, Refusal, RefusalReason};

use crate::variables::Values;

/// What the agent holds of an assignment, or the number left of one it pruned.
#[derive(Clone, Debug, PartialEq)]
pub struct Held {
    /// Its number.
    pub mark: GenerationMark,
    /// Its state.
    pub state: AssignmentState,
    /// Its content.
    pub digest: Option<String>,
    /// Its variables.
    pub variables: Values,
}

/// What to do with what the hub says.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// It is what is held already.
    Unchanged,
    /// Take it over.
    Accept,
    /// Keep what is held, and say so.
    Refuse(Refusal),
}

/// Judges one assignment.
#[must_use]
pub fn judge(offered: &AssignmentSpec, held: Option<&Held>) -> Verdict {
    if offered.state == AssignmentState::Present && offered.content.is_none() {
        return refuse(RefusalReason::ContentInvalid, offered, "it names no content".to_owned());
    }
    let Some(held) = held else { return Verdict::Accept };
    let offered_digest = offered.content.as_ref().map(|content| content.digest.clone());
    let same =
        offered.state == held.state && offered_digest == held.digest && offered.variables == held.variables;
    if offered.hub_epoch == held.mark.hub_epoch {
        return within_epoch(offered, held, same);
    }
    let continues = offered.basis.as_ref().is_some_and(|basis| {
        basis.hub_epoch == held.mark.hub_epoch && basis.generation >= held.mark.generation
    });
    if continues && offered.generation > held.mark.generation {
        return Verdict::Accept;
    }
    refuse(
        RefusalReason::EpochChanged,
        offered,
        format!(
            "generation {} comes from hub epoch {}, which does not show that it knew generation {} of epoch {} held here; \
             what is held stays",
            offered.generation, offered.hub_epoch, held.mark.generation, held.mark.hub_epoch
        ),
    )
}

fn within_epoch(offered: &AssignmentSpec, held: &Held, same: bool) -> Verdict {
    use std::cmp::Ordering::{Equal, Greater, Less};
    match offered.generation.cmp(&held.mark.generation) {
        Greater => Verdict::Accept,
        Equal if same => Verdict::Unchanged,
        Equal => refuse(
            RefusalReason::GenerationReused,
            offered,
            format!(
                "generation {} is held with other content; the hub went back in time",
                offered.generation
            ),
        ),
        Less => refuse(
            RefusalReason::GenerationRegressed,
            offered,
            format!(
                "the hub offers generation {} and {} is held; the hub went back in time, what is held stays",
                offered.generation, held.mark.generation
            ),
        ),
    }
}

fn refuse(reason: RefusalReason, offered: &AssignmentSpec, message: String) -> Verdict {
    Verdict::Refuse(Refusal { reason, message, generation: offered.generation })
}

#[cfg(test)]
mod tests {
    use fleet_objects::{ContentReference, ProfileReference};
    use proptest::prelude::*;

    use super::*;

    fn offer(
        epoch: u8,
        generation: i64,
        basis: Option<(u8, i64)>,
        digest: u8,
        tombstone: bool,
    ) -> AssignmentSpec {
        AssignmentSpec {
            profile: ProfileReference::default(),
            placement: None,
            generation,
            hub_epoch: epoch.to_string(),
            basis: basis
                .map(|(epoch, generation)| GenerationMark { hub_epoch: epoch.to_string(), generation }),
            state: if tombstone { AssignmentState::Tombstone } else { AssignmentState::Present },
            content: (!tombstone).then(|| ContentReference { digest: digest.to_string(), size: 1 }),
            variables: Values::new(),
            maintenance_windows: Vec::new(),
        }
    }

    fn hold(spec: &AssignmentSpec) -> Held {
        Held {
            mark: GenerationMark { hub_epoch: spec.hub_epoch.clone(), generation: spec.generation },
            state: spec.state,
            digest: spec.content.as_ref().map(|content| content.digest.clone()),
            variables: Values::new(),
        }
    }

    proptest! {
        /// Whatever a hub offers, in whatever order: generations taken over only grow, and the epoch changes only to one
        /// that names at least what was held.
        #[test]
        fn time_never_goes_back(offers in prop::collection::vec(
            (0u8..3, 0i64..6, prop::option::of((0u8..3, 0i64..6)), 0u8..2, any::<bool>()), 0..40)) {
            let mut held: Option<Held> = None;
            for (epoch, generation, basis, digest, tombstone) in offers {
                let offered = offer(epoch, generation, basis, digest, tombstone);
                if judge(&offered, held.as_ref()) == Verdict::Accept {
                    if let Some(held) = &held {
                        prop_assert!(offered.generation > held.mark.generation);
                        if offered.hub_epoch != held.mark.hub_epoch {
                            let basis = offered.basis.clone().unwrap();
                            prop_assert_eq!(&basis.hub_epoch, &held.mark.hub_epoch);
                            prop_assert!(basis.generation >= held.mark.generation);
                        }
                    }
                    held = Some(hold(&offered));
                }
            }
        }
    }

    #[test]
    fn refusals_say_why() {
        let held = hold(&offer(1, 5, None, 1, false));
        let reason = |spec: &AssignmentSpec| match judge(spec, Some(&held)) {
            Verdict::Refuse(refusal) => Some(refusal.reason),
            _ => None,
        };
        assert_eq!(judge(&offer(1, 5, None, 1, false), Some(&held)), Verdict::Unchanged);
        assert_eq!(reason(&offer(1, 4, None, 1, false)), Some(RefusalReason::GenerationRegressed));
        assert_eq!(reason(&offer(1, 5, None, 2, false)), Some(RefusalReason::GenerationReused));
        assert_eq!(reason(&offer(2, 9, None, 2, false)), Some(RefusalReason::EpochChanged));
        assert_eq!(reason(&offer(2, 9, None, 2, true)), Some(RefusalReason::EpochChanged));
        assert_eq!(judge(&offer(2, 9, Some((1, 5)), 2, false), Some(&held)), Verdict::Accept);
    }
}
