//! A run as one HTML file: no script, nothing fetched, so that it can be kept, mailed and opened anywhere.

use std::fmt::Write as _;

use fleet_objects::test_run::{Outcome, StepResult, TestRunStatus};

use super::side_by_side::{self, Row};
use super::told::{self, Told, Verdict};
use super::{Cases, matrix, seconds, sums, word};
use crate::junit::write::escape;
use crate::{duration, fold};

/// Cases shown; a table of more is of no use to a browser or a reader.
const MAX_ROWS: usize = 5000;

/// Colours carry no meaning alone: every cell says its word too.
const STYLE: &str = "\
:root{color-scheme:light dark;--ok:#1a7f37;--bad:#cf222e;--odd:#9a6700;--line:#8886}\
body{font:15px/1.5 system-ui,sans-serif;max-width:80rem;margin:2rem auto;padding:0 1rem}\
h1{font-size:1.5rem}h2{font-size:1.15rem;margin-top:2rem}\
table{border-collapse:collapse;display:block;overflow-x:auto}\
th,td{border:1px solid var(--line);padding:.25rem .6rem;text-align:left;vertical-align:top}\
.passed{color:var(--ok)}.FAILED,.TIMED{color:var(--bad);font-weight:600}.NOT,.running{color:var(--odd)}.skipped{opacity:.7}\
pre{white-space:pre-wrap;overflow-wrap:anywhere;margin:.3rem 0 .3rem 1rem}\
@media print{details{break-inside:avoid}}";

/// The file.
#[must_use]
pub fn report(run: &str, status: &TestRunStatus, cases: &Cases) -> String {
    let all = told::all(run, status, cases);
    let outcome = fold::outcome(&status.clusters);
    let title = escape(run);
    let mut out = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>{title}: {0}</title>\
         <style>{STYLE}</style></head><body>\n<h1>{title}: <span class=\"{0}\">{0}</span></h1>\n",
        word(outcome)
    );
    let _ = writeln!(out, "<p>{}</p>", sums(status));
    steps_by_clusters(&mut out, status);
    alike(&mut out, &all);
    let clusters: Vec<String> = status.clusters.iter().map(|cluster| cluster.cluster.clone()).collect();
    let rows = side_by_side::rows(&all);
    let (wrong, right): (Vec<Row>, Vec<Row>) =
        rows.into_iter().partition(|row| row.cells.values().any(|cell| cell.verdict == Verdict::Failed));
    section(&mut out, "Cases that fail somewhere", &wrong, &clusters, true);
    section(&mut out, "All other cases", &right, &clusters, false);
    out.push_str("</body></html>\n");
    out
}

fn steps_by_clusters(out: &mut String, status: &TestRunStatus) {
    let (names, rows) = matrix(status);
    out.push_str("<h2>Clusters and steps</h2>\n<table><thead><tr><th scope=\"col\">Cluster</th>");
    for name in names {
        let _ = write!(out, "<th scope=\"col\">{}</th>", escape(name));
    }
    out.push_str("<th scope=\"col\">Result</th></tr></thead><tbody>\n");
    for (cluster, steps) in rows {
        let _ = write!(out, "<tr><th scope=\"row\">{}</th>", escape(&cluster.cluster));
        for step in steps {
            let _ = write!(out, "<td>{}</td>", step.map_or_else(|| "-".to_owned(), step_cell));
        }
        let _ = writeln!(
            out,
            "<td><span class=\"{0}\">{0}</span> {1}</td></tr>",
            word(cluster.outcome),
            escape(&cluster.message)
        );
    }
    out.push_str("</tbody></table>\n");
}

fn step_cell(step: &StepResult) -> String {
    let mut cell = format!("<span class=\"{0}\">{0}</span>", word(step.outcome));
    if let Some(time) = seconds(step) {
        let _ = write!(cell, " {}", duration::display(std::time::Duration::from_secs_f64(time)));
    }
    if step.attempts.len() > 1 {
        let _ = write!(cell, ", attempt {}", step.attempts.len());
    }
    if step.outcome != Some(Outcome::Passed)
        && let Some(last) = step.attempts.last().filter(|last| !last.message.is_empty())
    {
        let _ = write!(cell, "<br>{}", escape(&last.message));
    }
    cell
}

fn alike(out: &mut String, all: &[Told]) {
    let groups = side_by_side::alike(all);
    if groups.is_empty() {
        return;
    }
    out.push_str("<h2>First failures</h2>\n");
    for group in groups {
        let _ = writeln!(
            out,
            "<details open><summary>{} in {}: {}</summary><pre>{}</pre></details>",
            escape(&group.case),
            group.clusters.len(),
            escape(&group.clusters.join(", ")),
            escape(&group.message)
        );
    }
}

fn section(out: &mut String, title: &str, rows: &[Row], clusters: &[String], open: bool) {
    if rows.is_empty() {
        return;
    }
    let open = if open { " open" } else { "" };
    let _ = writeln!(
        out,
        "<details{open}><summary><h2 style=\"display:inline\">{title} ({})</h2></summary>",
        rows.len()
    );
    out.push_str("<table><thead><tr><th scope=\"col\">Case</th>");
    for cluster in clusters {
        let _ = write!(out, "<th scope=\"col\">{}</th>", escape(cluster));
    }
    out.push_str("</tr></thead><tbody>\n");
    for row in rows.iter().take(MAX_ROWS) {
        let _ = write!(out, "<tr><th scope=\"row\">{} {}</th>", escape(&row.class_name), escape(&row.name));
        for cluster in clusters {
            match row.cells.get(cluster) {
                None => out.push_str("<td>-</td>"),
                Some(cell) => {
                    let _ = write!(out, "<td><span class=\"{0}\">{0}</span>", cell.verdict.word());
                    if !cell.message.is_empty() {
                        let _ = write!(out, "<pre>{}</pre>", escape(&cell.message));
                    }
                    out.push_str("</td>");
                }
            }
        }
        out.push_str("</tr>\n");
    }
    out.push_str("</tbody></table>");
    if rows.len() > MAX_ROWS {
        let _ = write!(out, "<p>{} more are not shown.</p>", rows.len() - MAX_ROWS);
    }
    out.push_str("</details>\n");
}
