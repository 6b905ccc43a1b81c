//! Two runs set against each other: what broke, what was mended, what came, went and slowed down.

use std::collections::BTreeMap;

use serde::Serialize;
use similar::{ChangeTag, TextDiff};

use super::columns;
use super::told::{Told, Verdict};

/// A case counts as slower or faster when its time changes by half …
const FACTOR: f64 = 1.5;
/// … and by this much: below it is noise.
const SECONDS: f64 = 1.0;
/// Lines of a difference that are kept.
const MAX_LINES: usize = 40;

/// How a case changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Change {
    /// It passed, or was not there, and fails.
    Broken,
    /// It fails in another way.
    FailsDifferently,
    /// It fails as before.
    StillFails,
    /// It failed and passes.
    Mended,
    /// It is not told any more.
    Gone,
    /// It was not told before.
    New,
    /// It takes much longer.
    Slower,
    /// It takes much less.
    Faster,
}

impl Change {
    fn word(self) -> &'static str {
        match self {
            Self::Broken => "BROKEN",
            Self::FailsDifferently => "FAILS DIFFERENTLY",
            Self::StillFails => "still fails",
            Self::Mended => "mended",
            Self::Gone => "gone",
            Self::New => "new",
            Self::Slower => "slower",
            Self::Faster => "faster",
        }
    }
}

/// A case that changed.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Difference {
    /// How.
    pub change: Change,
    /// Where.
    pub cluster: String,
    /// Its class, which begins with the step.
    pub class_name: String,
    /// Its name.
    pub name: String,
    /// Seconds before and after, where both are known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds: Option<(f64, f64)>,
    /// What it says now, or what differs in what it says.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
}

/// What differs from `before` to `after`; what matters most comes first.
#[must_use]
pub fn runs(before: &[Told], after: &[Told]) -> Vec<Difference> {
    let old: BTreeMap<_, _> = before.iter().map(|told| ((&told.cluster, told.key()), told)).collect();
    let new: BTreeMap<_, _> = after.iter().map(|told| ((&told.cluster, told.key()), told)).collect();
    let mut all: Vec<Difference> =
        new.iter().filter_map(|(key, told)| changed(old.get(key).copied(), told)).collect();
    let gone = old.iter().filter(|(key, _)| !new.contains_key(*key));
    all.extend(gone.map(|(_, told)| difference(Change::Gone, told, None, String::new())));
    // Within a kind the keys' order stays: the maps gave it.
    all.sort_by_key(|difference| difference.change);
    all
}

fn changed(before: Option<&Told>, after: &Told) -> Option<Difference> {
    let times = before.map(|before| (before.case.seconds, after.case.seconds));
    let (change, message) = match (before.map(Told::verdict), after.verdict()) {
        (Some(Verdict::Failed), Verdict::Failed) => {
            let told = before.map(Told::message).unwrap_or_default();
            if super::side_by_side::shape(told) == super::side_by_side::shape(after.message()) {
                (Change::StillFails, after.message().to_owned())
            } else {
                (Change::FailsDifferently, lines(told, after.message()))
            }
        }
        (_, Verdict::Failed) => (Change::Broken, after.message().to_owned()),
        (None, _) => (Change::New, String::new()),
        (Some(Verdict::Failed), _) => (Change::Mended, String::new()),
        (Some(_), _) => {
            let (old, new) = times.unwrap_or_default();
            if new > old * FACTOR && new - old > SECONDS {
                (Change::Slower, String::new())
            } else if old > new * FACTOR && old - new > SECONDS {
                (Change::Faster, String::new())
            } else {
                return None;
            }
        }
    };
    Some(difference(change, after, times, message))
}

fn difference(change: Change, told: &Told, seconds: Option<(f64, f64)>, message: String) -> Difference {
    let (class_name, name) = told.key();
    Difference { change, cluster: told.cluster.clone(), class_name, name, seconds, message }
}

/// The lines that differ, as `diff` marks them.
#[must_use]
pub fn lines(before: &str, after: &str) -> String {
    let diff = TextDiff::from_lines(before, after);
    let mut out = String::new();
    for (count, change) in diff.iter_all_changes().filter(|line| line.tag() != ChangeTag::Equal).enumerate() {
        if count == MAX_LINES {
            out.push_str("…\n");
            break;
        }
        out.push(if change.tag() == ChangeTag::Delete { '-' } else { '+' });
        out.push_str(change.value().trim_end_matches('\n'));
        out.push('\n');
    }
    out
}

/// A table, then what the failures say.
#[must_use]
pub fn table(all: &[Difference]) -> String {
    if all.is_empty() {
        return "no difference\n".to_owned();
    }
    let mut rows = vec![["CHANGE", "CLUSTER", "CASE", "TIME"].map(str::to_owned).to_vec()];
    for found in all {
        let time = found.seconds.filter(|_| matches!(found.change, Change::Slower | Change::Faster));
        rows.push(vec![
            found.change.word().to_owned(),
            found.cluster.clone(),
            format!("{} {}", found.class_name, found.name),
            time.map_or_else(String::new, |(old, new)| format!("{old:.1}s → {new:.1}s")),
        ]);
    }
    let mut out = columns(&rows);
    let told = |found: &&Difference| matches!(found.change, Change::Broken | Change::FailsDifferently);
    for found in all.iter().filter(told) {
        let head = format!("\n[{}] {} {}\n", found.cluster, found.class_name, found.name);
        out.push_str(&head);
        out.extend(found.message.lines().take(MAX_LINES).map(|line| format!("  {line}\n")));
    }
    out
}
