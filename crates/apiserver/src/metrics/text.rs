//! Prometheus' text format, version 0.0.4.

use std::fmt::Write as _;

/// What is told, as it grows.
#[derive(Debug, Default)]
pub(crate) struct Text(String);

impl Text {
    /// Begins the numbers of one name.
    pub(crate) fn family(&mut self, name: &str, kind: &str, help: &str) {
        self.push(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
    }

    /// One number. Labels that are "" are told, as upstream tells them.
    pub(crate) fn number(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        self.0.push_str(name);
        self.labels(labels, None);
        self.push(format_args!(" {value}\n"));
    }

    /// One bucket of a histogram: how many were at most `bound`.
    pub(crate) fn bucket(&mut self, name: &str, labels: &[(&str, &str)], bound: Option<f64>, count: u64) {
        self.push(format_args!("{name}_bucket"));
        let bound = bound.map_or_else(|| "+Inf".to_owned(), |bound| bound.to_string());
        self.labels(labels, Some(&bound));
        self.push(format_args!(" {count}\n"));
    }

    fn labels(&mut self, labels: &[(&str, &str)], bound: Option<&str>) {
        if labels.is_empty() && bound.is_none() {
            return;
        }
        let mut separator = '{';
        for (name, value) in labels.iter().copied().chain(bound.map(|bound| ("le", bound))) {
            self.0.push(separator);
            separator = ',';
            self.0.push_str(name);
            self.0.push_str("=\"");
            for letter in value.chars() {
                match letter {
                    '\\' => self.0.push_str("\\\\"),
                    '"' => self.0.push_str("\\\""),
                    '\n' => self.0.push_str("\\n"),
                    other => self.0.push(other),
                }
            }
            self.0.push('"');
        }
        self.0.push('}');
    }

    fn push(&mut self, text: std::fmt::Arguments<'_>) {
        // Writing to a String does not fail.
        let _ = self.0.write_fmt(text);
    }

    /// The whole of it.
    pub(crate) fn finish(self) -> String {
        self.0
    }
}
