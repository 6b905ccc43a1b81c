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
    /// Of these, those that nothing chooses any more.
    pub leaving: &'a BTreeSet<String>,
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
    let confirmed = input.known.filter(|known| known.confirmed || input.confirmed == Some(known.id.as_str()));
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
            format!("{} of {has_had} clusters would lose the profile where {limit} may", rest.len() + going)
        }
        Err(problem) => problem,
    };
    // One at a time: the next is asked for when what was confirmed is done.
    let held = under_way.unwrap_or_else(|| listed(&rest, has_had));
    Guarded { allowed: spoken_for, kept: rest, held: Some(held), problem: Some(why) }
}

fn limit(input: &Leaving<'_>, has_had: usize) -> Result<usize, String> {
    match &input.placement.max_withdrawal {
        Some(value) => {
            share(value, has_had, Round::Down).map_err(|problem| format!("maxWithdrawal: {problem}"))
        }
        None if input.selected == 0 && has_had > 1 => Ok(0),
        None => Ok((has_had / PART).max(ALWAYS_ALLOWED)),
    }
}

fn listed(kept: &BTreeSet<String>, holding: usize) -> HeldWithdrawal {
    let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    let clusters: Vec<String> = kept.iter().take(MAX_LISTED).cloned().collect();
    let mut id = digest(clusters.join(",").as_bytes());
    id.truncate(16);
    HeldWithdrawal { id, clusters, count: count(kept.len()), holding: count(holding), confirmed: false }
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
        let placement = PlacementSpec { max_withdrawal, ..PlacementSpec::default() };
        guard(&Leaving {
            placement: &placement,
            selected: holding - leaving,
            holding: &names(0..holding),
            leaving: &names(0..leaving),
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
        let placement = PlacementSpec::default();
        let shown = look(10, 6, None).held.unwrap();
        assert_eq!((shown.count, shown.clusters.len(), shown.holding), (6, 6, 10));
        let again = |holding, leaving: BTreeSet<String>, going, known: &HeldWithdrawal, confirmed| {
            guard(&Leaving {
                placement: &placement,
                selected: 4,
                holding: &holding,
                leaving: &leaving,
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
