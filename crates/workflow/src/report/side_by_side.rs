//! The same case side by side over clusters, and clusters that fail alike.

use std::collections::BTreeMap;

use serde::Serialize;

use super::columns;
use super::told::{Told, Verdict};

/// A case and what became of it in each cluster.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Row {
    /// Its class, which begins with the step.
    pub class_name: String,
    /// Its name.
    pub name: String,
    /// By cluster; a cluster that is missing did not tell it.
    pub cells: BTreeMap<String, Cell>,
}

/// A case in one cluster.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Cell {
    /// What became of it.
    pub verdict: Verdict,
    /// How long it took.
    pub seconds: f64,
    /// Why, unless it passed.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
}

/// Clusters in which the first failure is the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Alike {
    /// The case that failed first.
    pub case: String,
    /// What it said in the first of them.
    pub message: String,
    /// The clusters.
    pub clusters: Vec<String>,
}

/// One row per case, in the order in which cases are first told.
#[must_use]
pub fn rows(all: &[Told]) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    let mut index: BTreeMap<(String, String), usize> = BTreeMap::new();
    for told in all {
        let key = told.key();
        let at = *index.entry(key.clone()).or_insert_with(|| {
            rows.push(Row { class_name: key.0, name: key.1, cells: BTreeMap::new() });
            rows.len() - 1
        });
        let cell =
            Cell { verdict: told.verdict(), seconds: told.case.seconds, message: told.message().to_owned() };
        // Of cases that a cluster tells several times the worst counts.
        let cells = &mut rows[at].cells;
        if cells.get(&told.cluster).is_none_or(|known| known.verdict != Verdict::Failed) {
            cells.insert(told.cluster.clone(), cell);
        }
    }
    rows
}

/// Whether the clusters disagree about a case, or one of them did not tell it.
#[must_use]
pub fn differs(row: &Row, clusters: &[String]) -> bool {
    let mut verdicts = clusters.iter().map(|cluster| row.cells.get(cluster).map(|cell| cell.verdict));
    let first = verdicts.next();
    verdicts.any(|verdict| Some(verdict) != first)
}

/// A table with a column per cluster.
#[must_use]
pub fn table(rows: &[Row], clusters: &[String]) -> String {
    let mut lines = vec![["CASE".to_owned()].into_iter().chain(clusters.iter().cloned()).collect::<Vec<_>>()];
    for row in rows {
        let mut line = vec![format!("{} {}", row.class_name, row.name)];
        line.extend(clusters.iter().map(|cluster| {
            row.cells.get(cluster).map_or_else(|| "-".to_owned(), |cell| cell.verdict.word().to_owned())
        }));
        lines.push(line);
    }
    columns(&lines)
}

/// Groups clusters by their first failure; the largest group first. Numbers, addresses and ids in a message do not make
/// it another one.
#[must_use]
pub fn alike(all: &[Told]) -> Vec<Alike> {
    let mut groups: Vec<(String, Alike)> = Vec::new();
    let mut seen: Vec<&str> = Vec::new();
    for told in all.iter().filter(|told| told.verdict() == Verdict::Failed) {
        if seen.contains(&told.cluster.as_str()) {
            continue;
        }
        seen.push(&told.cluster);
        let case = format!("{} {}", told.case.class_name, told.case.name);
        let shape = format!("{case}\n{}", shape(told.message()));
        match groups.iter_mut().find(|(known, _)| *known == shape) {
            Some((_, group)) => group.clusters.push(told.cluster.clone()),
            None => groups.push((
                shape,
                Alike { case, message: told.message().to_owned(), clusters: vec![told.cluster.clone()] },
            )),
        }
    }
    let mut groups: Vec<Alike> = groups.into_iter().map(|(_, group)| group).collect();
    groups.sort_by_key(|group| std::cmp::Reverse(group.clusters.len()));
    groups
}

/// A message without what differs from run to run: every word that holds a digit.
pub(super) fn shape(message: &str) -> String {
    let word = |word: &str| {
        if word.bytes().any(|byte| byte.is_ascii_digit()) { "#".to_owned() } else { word.to_owned() }
    };
    message.split_whitespace().map(word).collect::<Vec<_>>().join(" ")
}
