//! The text of an expression: positions, and problems shown the way Kubernetes shows them.

use std::fmt;

/// Where in an expression: code points from its start. `None` is the expression as a whole.
pub(crate) type Offset = Option<u32>;

/// One thing wrong with an expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Issue {
    pub(crate) at: Offset,
    pub(crate) message: String,
}

/// Everything wrong with an expression; shows as cel-go shows it, one `ERROR: <input>:line:column:` block per problem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issues {
    shown: String,
}

/// More problems than this are counted, not shown (cel-go `maxErrorsToReport`).
const MAX_SHOWN: usize = 100;
/// A longer line is not shown below its problem (cel-go `maxSnippetLength`, in bytes).
const MAX_SNIPPET: usize = 16_384;

impl Issues {
    pub(crate) fn new(source: &str, mut issues: Vec<Issue>) -> Self {
        let count = issues.len();
        issues.truncate(MAX_SHOWN);
        issues.sort_by_key(|issue| issue.at.map_or((-1, 0), |at| position(source, at)));
        let mut blocks: Vec<String> = issues.iter().map(|issue| block(source, issue)).collect();
        if count > MAX_SHOWN {
            blocks.push(format!("{} more errors were truncated", count - MAX_SHOWN));
        }
        Self { shown: blocks.join("\n") }
    }
}

impl fmt::Display for Issues {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl std::error::Error for Issues {}

/// Line (from 1) and column (from 0) of a code point.
fn position(source: &str, at: u32) -> (i64, i64) {
    let (mut line, mut column) = (1, 0);
    for letter in source.chars().take(at as usize) {
        if letter == '\n' {
            (line, column) = (line + 1, 0);
        } else {
            column += 1;
        }
    }
    (line, column)
}

fn block(source: &str, issue: &Issue) -> String {
    let Some(at) = issue.at else {
        return format!("ERROR: <input>:-1:0: {}", issue.message);
    };
    let (line, column) = position(source, at);
    let mut shown = format!("ERROR: <input>:{line}:{}: {}", column + 1, issue.message);
    let snippet = usize::try_from(line - 1).ok().and_then(|line| source.split('\n').nth(line));
    let Some(snippet) = snippet.filter(|snippet| snippet.len() <= MAX_SNIPPET) else { return shown };
    let snippet = snippet.replace('\t', " ");
    let mut letters = snippet.chars();
    let mut pointer = String::new();
    for letter in letters.by_ref().take(usize::try_from(column).unwrap_or(0)) {
        pointer.push(if letter.len_utf8() > 1 { '\u{ff0e}' } else { '.' });
    }
    pointer.push(if letters.next().is_some_and(|letter| letter.len_utf8() > 1) { '\u{ff3e}' } else { '^' });
    shown.push_str(&format!("\n | {snippet}\n | {pointer}"));
    shown
}
