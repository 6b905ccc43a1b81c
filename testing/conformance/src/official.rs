//! Titles of Kubernetes' own conformance tests, and which of them our cases cover.

use std::collections::BTreeSet;

use crate::case::Case;

/// The titles; a line each, `+` before those that need an API server alone.
const TITLES: &str = include_str!("official_titles.txt");

/// A title of Kubernetes' conformance tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Title {
    /// As upstream prints it, without the `[sig-…]` in front.
    pub text: &'static str,
    /// Whether this suite sets out to cover it.
    pub wanted: bool,
}

/// All titles, in the order of the file.
pub fn titles() -> impl Iterator<Item = Title> {
    TITLES.lines().filter_map(|line| {
        let (mark, title) = line.split_once(' ')?;
        let wanted = match mark {
            "+" => true,
            "-" => false,
            _ => return None,
        };
        let (_, text) = title.split_once(' ')?;
        Some(Title { text, wanted })
    })
}

/// What of the wanted titles some case names, and what none does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Coverage {
    /// Wanted and named.
    pub covered: Vec<&'static str>,
    /// Wanted and named by none.
    pub missing: Vec<&'static str>,
}

/// Looks which wanted titles `cases` name.
#[must_use]
pub fn coverage(cases: &[Case]) -> Coverage {
    let named: BTreeSet<_> = cases.iter().flat_map(|case| case.official.iter().copied()).collect();
    let (covered, missing) = titles()
        .filter(|title| title.wanted)
        .map(|title| title.text)
        .partition(|title| named.contains(title));
    Coverage { covered, missing }
}
