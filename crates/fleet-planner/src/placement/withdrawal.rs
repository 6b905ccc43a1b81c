//! The guard of withdrawals: a placement that suddenly chooses few clusters or none, because a label, a property or a
//! selector went wrong, empties nothing before a person confirms it.

use std::collections::BTreeSet;

use fleet_objects::{HeldWithdrawal, PlacementSpec};

use crate::digest;
use crate::share::{Round, share};

/// So many clusters may always lose a profile at once, unless they are all that have it.
const ALWAYS_ALLOWED: usize = 4;
/// Beyond that, one of so many.
const PART: usize = 3;
/// Clusters listed and confirmed at a time: some 60 kB of a status.
const MAX_LISTED: usize = 1000;

/// What is judged.
pub struct Leaving<'a> {
    /// The placement.
    pub placement: &'a PlacementSpec,
    /// How many clusters it chooses.
    pub selected: usize,
    /// Clusters that have the profile by it.
    pub holding: &'a BTreeSet<String>,
    /// Of these, those that lose something that nothing brings them any more.
    pub leaving: &'a BTreeSet<String>,
    /// The profiles that they lose: of several that had one of them none keeps it, where the placement names another profile.
    pub profiles: &'a BTreeSet<String>,
    /// This hub's epoch.
    pub epoch: &'a str,
    /// Another epoch decided before, and its withdrawals have not been settled: the hub came back from a backup, and what it
    /// knows may be old.
    pub restored: bool,
    /// Clusters that were told to remove it and have not done so yet.
    pub going: &'a BTreeSet<String>,
    /// What was held when it was looked at last.
    pub known: Option<&'a HeldWithdrawal>,
    /// What a person confirms, by its `id`.
    pub confirmed: Option<&'a str>,
}

/// What may go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Guarded {
    /// Clusters that may lose the profile.
    pub allowed: BTreeSet<String>,
    /// Clusters that keep it until a person confirms.
    pub kept: BTreeSet<String>,
    /// For the placement's status.
    pub held: Option<HeldWithdrawal>,
    /// Why they are kept.
    pub problem: Option<String>,
}

/// Which clusters may lose the profile now.
#[must_use]
pub fn guard(input: &Leaving<'_>) -> Guarded {
    let speaks_of_this = |known: &&HeldWithdrawal| {
        known.hub_epoch == input.epoch && input.profiles.iter().all(|name| known.profiles.contains(name))
    };
    let confirmed = input.known.filter(speaks_of_this);
    let confirmed = confirmed.filter(|known| known.confirmed || input.confirmed == Some(known.id.as_str()));
    let is_confirmed = |name: &&String| confirmed.is_some_and(|known| known.clusters.contains(*name));
    let (spoken_for, rest): (BTreeSet<String>, BTreeSet<String>) =
        input.leaving.iter().cloned().partition(|name| is_confirmed(&name));
    let going = input.going.iter().filter(|name| !is_confirmed(name)).count();
    let has_had = input.holding.len() + going;
    let limit = limit(input, has_had);
    let over = match &limit {
        Ok(limit) => rest.len() + going > *limit && !rest.is_empty(),
        Err(_) => !rest.is_empty(),
    };
    let under_way = confirmed.filter(|known| {
        let open = |name: &String| spoken_for.contains(name) || input.going.contains(name);
        known.clusters.iter().any(open)
    });
    let under_way = under_way.map(|known| HeldWithdrawal { confirmed: true, ..known.clone() });
    if !over {
        return Guarded { allowed: input.leaving.clone(), held: under_way, ..Guarded::default() };
    }
    let why = match limit {
        Ok(limit) => {
            let would = format!("{} of {has_had} clusters would lose the profile", rest.len() + going);
            if input.restored {
                format!("{would}, and this hub came back from a backup: what it knows may be old")
            } else {
                format!("{would} where {limit} may")
            }
        }
        Err(problem) => problem,
    };
    // One at a time: the next is asked for when what was confirmed is done.
    let held = under_way.unwrap_or_else(|| listed(input, &rest, has_had));
    Guarded { allowed: spoken_for, kept: rest, held: Some(held), problem: Some(why) }
}

fn limit(input: &Leaving<'_>, has_had: usize) -> Result<usize, String> {
    if input.restored {
        return Ok(0);
    }
    let replaced = input.profiles.iter().any(|name| *name != input.placement.profile);
    match &input.placement.max_withdrawal {
        Some(value) => {
            share(value, has_had, Round::Down).map_err(|problem| format!("maxWithdrawal: {problem}"))
        }
        None if (input.selected == 0 || replaced) && has_had > 1 => Ok(0),
        None => Ok((has_had / PART).max(ALWAYS_ALLOWED)),
    }
}

fn listed(input: &Leaving<'_>, kept: &BTreeSet<String>, holding: usize) -> HeldWithdrawal {
    let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    let clusters: Vec<String> = kept.iter().take(MAX_LISTED).cloned().collect();
    let profiles: Vec<String> = input.profiles.iter().cloned().collect();
    let mut id = digest(format!("{}/{}/{}", input.epoch, profiles.join(","), clusters.join(",")).as_bytes());
    id.truncate(16);
    HeldWithdrawal {
        id,
        profiles,
        hub_epoch: input.epoch.to_owned(),
        clusters,
        count: count(kept.len()),
        holding: count(holding),
        confirmed: false,
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
    use proptest::prelude::*;

    use super::*;

    fn names(range: std::ops::Range<usize>) -> BTreeSet<String> {
        range.map(|index| format!("c{index:02}")).collect()
    }

    fn look(holding: usize, leaving: usize, limit: Option<&str>) -> Guarded {
        let max_withdrawal = limit.map(|limit| IntOrString::String(limit.to_owned()));
        let placement = PlacementSpec { profile: "app".into(), max_withdrawal, ..PlacementSpec::default() };
        guard(&Leaving {
            placement: &placement,
            selected: holding - leaving,
            holding: &names(0..holding),
            leaving: &names(0..leaving),
            profiles: &BTreeSet::from(["app".to_owned()]),
            epoch: "one",
            restored: false,
            going: &BTreeSet::new(),
            known: None,
            confirmed: None,
        })
    }

    #[test]
    fn a_few_may_go_and_never_all_of_several() {
        for (holding, leaving, limit, goes) in [
            (1, 1, None, true),
            (2, 1, None, true),
            (2, 2, None, false),
            (5, 4, None, true),
            (10, 5, None, false),
            (30, 10, None, true),
            (30, 11, None, false),
            (30, 30, Some("100%"), true),
            (30, 4, Some("10%"), false),
            (30, 1, Some("some"), false),
        ] {
            let guarded = look(holding, leaving, limit);
            assert_eq!(guarded.kept.is_empty(), goes, "{leaving} of {holding} with {limit:?}: {guarded:?}");
            assert_eq!(guarded.allowed.len(), if goes { leaving } else { 0 });
            assert_eq!(guarded.problem.is_none(), goes);
        }
        let why = look(10, 5, None).problem.unwrap();
        assert_eq!(why, "5 of 10 clusters would lose the profile where 4 may");
    }

    #[test]
    fn a_word_is_about_the_clusters_that_were_shown_and_holds_until_they_are_empty() {
        let placement = PlacementSpec { profile: "app".into(), ..PlacementSpec::default() };
        let profiles = BTreeSet::from(["app".to_owned()]);
        let shown = look(10, 6, None).held.unwrap();
        assert_eq!((shown.count, shown.clusters.len(), shown.holding), (6, 6, 10));
        let again = |holding, leaving: BTreeSet<String>, going, known: &HeldWithdrawal, confirmed| {
            guard(&Leaving {
                placement: &placement,
                selected: 4,
                holding: &holding,
                leaving: &leaving,
                profiles: &profiles,
                epoch: "one",
                restored: false,
                going: &going,
                known: Some(known),
                confirmed,
            })
        };
        let none = BTreeSet::new;
        // Another set has another name, so that an old word does not reach it.
        let other = again(names(0..10), names(0..7), none(), &shown, None).held.unwrap();
        assert_ne!(other.id, shown.id);
        assert!(!again(names(0..10), names(0..7), none(), &other, Some(&shown.id)).kept.is_empty());
        let begun = again(names(0..10), names(0..6), none(), &shown, Some(&shown.id));
        assert_eq!((begun.allowed.len(), begun.kept.len()), (6, 0));
        let known = begun.held.unwrap();
        assert!(known.confirmed);
        // Some are gone, and more want to leave: what was confirmed goes on, the others are held.
        let later = again(names(3..10), names(4..10), names(3..4), &known, None);
        assert_eq!((later.allowed, later.kept), (names(4..10), none()), "four more are within bounds");
        let later = again(names(3..20), names(4..20), names(3..4), &known, None);
        assert_eq!((later.allowed, later.kept), (names(4..6), names(6..20)));
        assert_eq!(later.held.unwrap().id, known.id, "one at a time");
        let done = again(names(6..10), none(), none(), &known, None);
        assert_eq!(done, Guarded::default());
    }

    #[test]
    fn another_profile_and_a_hub_from_a_backup_are_asked_about_however_few_they_are() {
        let ask = |profile: &str, count: usize, known: Option<&HeldWithdrawal>, epoch: &str, restored| {
            guard(&Leaving {
                placement: &PlacementSpec { profile: "new".into(), ..PlacementSpec::default() },
                selected: 3,
                holding: &names(0..3),
                leaving: &names(0..count),
                profiles: &BTreeSet::from([profile.to_owned()]),
                epoch,
                restored,
                going: &BTreeSet::new(),
                known,
                confirmed: None,
            })
        };
        assert_eq!(ask("new", 2, None, "one", false).kept.len(), 0);
        let replaced = ask("old", 3, None, "one", false);
        assert_eq!((replaced.kept.len(), replaced.allowed.len()), (3, 0));
        // A word about it counts for these profiles and this life of the hub alone.
        let word = HeldWithdrawal { confirmed: true, ..replaced.held.unwrap() };
        assert_eq!(ask("old", 3, Some(&word), "one", false).allowed.len(), 3);
        assert_eq!(ask("older", 3, Some(&word), "one", false).allowed.len(), 0);
        let restored = ask("old", 1, Some(&word), "two", true);
        assert_eq!((restored.kept.len(), restored.allowed.len()), (1, 0));
        assert!(restored.problem.unwrap().ends_with("what it knows may be old"));
        let word = HeldWithdrawal { confirmed: true, ..restored.held.unwrap() };
        assert_eq!(ask("old", 1, Some(&word), "two", true).allowed.len(), 1);
    }

    proptest! {
        /// Whatever leaves: nobody goes beyond the bound without a word, and everybody is either allowed or kept.
        #[test]
        fn nothing_beyond_the_bound(holding in 1usize..60, leaving in 0usize..60) {
            let leaving = leaving.min(holding);
            let guarded = look(holding, leaving, None);
            prop_assert_eq!(guarded.allowed.len() + guarded.kept.len(), leaving);
            prop_assert!(guarded.allowed.len() <= 4.max(holding / 3));
            prop_assert!(holding == 1 || leaving < holding || guarded.allowed.is_empty());
        }
    }
}
