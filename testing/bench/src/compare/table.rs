//! Rows of two columns and their ratio.

use std::fmt::Write;

use serde::Serialize;

/// Which way is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Better {
    /// Throughput.
    More,
    /// Cost.
    Less,
}

/// One figure of one server.
#[derive(Clone, Debug)]
pub(crate) struct Cell {
    pub(crate) name: String,
    pub(crate) unit: &'static str,
    pub(crate) better: Better,
    /// The ratio that is aimed at, as [`Row::ratio`] reckons it.
    pub(crate) aim: Option<f64>,
    pub(crate) value: f64,
}

impl Cell {
    pub(crate) fn new(name: impl Into<String>, unit: &'static str, better: Better, value: f64) -> Self {
        Self { name: name.into(), unit, better, aim: None, value }
    }

    pub(crate) fn aim(mut self, aim: f64) -> Self {
        self.aim = Some(aim);
        self
    }
}

/// One figure of all servers.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    name: String,
    unit: &'static str,
    better: Better,
    #[serde(skip_serializing_if = "Option::is_none")]
    aim: Option<f64>,
    /// The subject's, then the reference's.
    values: Vec<f64>,
}

impl Row {
    /// How many times better the subject is than the reference.
    fn ratio(&self) -> Option<f64> {
        let [subject, reference] = self.values[..] else { return None };
        let (over, under) = match self.better {
            Better::More => (subject, reference),
            Better::Less => (reference, subject),
        };
        (under > 0.0).then(|| over / under)
    }
}

/// Puts the columns of a phase beside each other.
pub(crate) fn joined(columns: Vec<Vec<Cell>>) -> Vec<Row> {
    let mut columns = columns.into_iter();
    let mut rows: Vec<Row> = columns.next().unwrap_or_default().into_iter().map(row).collect();
    for column in columns {
        for (row, cell) in rows.iter_mut().zip(column) {
            row.values.push(cell.value);
        }
    }
    rows
}

fn row(cell: Cell) -> Row {
    Row { name: cell.name, unit: cell.unit, better: cell.better, aim: cell.aim, values: vec![cell.value] }
}

/// For people: a table in Markdown.
#[must_use]
pub fn table(rows: &[Row]) -> String {
    let mut out =
        String::from("| what | subject | reference | times better | aim |\n|---|---|---|---|---|\n");
    for row in rows {
        let value = |at: usize| match row.values.get(at) {
            Some(value) => format!("{} {}", figure(*value), row.unit),
            None => String::new(),
        };
        let ratio = row.ratio().map(|ratio| format!("{ratio:.1}")).unwrap_or_default();
        let aim = row.aim.map(|aim| format!("{aim}")).unwrap_or_default();
        // Writing to a String cannot fail.
        let _ = writeln!(out, "| {} | {} | {} | {ratio} | {aim} |", row.name, value(0), value(1));
    }
    out
}

fn figure(value: f64) -> String {
    if value >= 100.0 { format!("{value:.0}") } else { format!("{value:.2}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_say_how_many_times_better_the_subject_is() {
        let columns = [(200.0, 10.0), (100.0, 40.0)].map(|(rate, cost)| {
            vec![
                Cell::new("gets", "/s", Better::More, rate).aim(10.0),
                Cell::new("CPU", "us", Better::Less, cost),
            ]
        });
        let rows = joined(columns.into());
        assert_eq!((rows[0].ratio(), rows[1].ratio()), (Some(2.0), Some(4.0)));
        let text = table(&rows);
        assert!(text.contains("| gets | 200 /s | 100 /s | 2.0 | 10 |"), "{text}");
        assert_eq!(joined(vec![vec![Cell::new("x", "s", Better::Less, 0.0)]])[0].ratio(), None);
    }
}
