//! What was measured.

use std::fmt::Write;
use std::fs;
use std::time::Duration;

use serde::Serialize;

/// One measured figure.
#[derive(Clone, Debug, Serialize)]
pub struct Figure {
    /// What was measured.
    pub name: String,
    /// The middle value, or the only one.
    pub value: f64,
    /// Its unit.
    pub unit: &'static str,
    /// The value that 99 of 100 measurements do not exceed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p99: Option<f64>,
    /// How many measurements there were.
    pub samples: usize,
}

impl Figure {
    /// A single measurement.
    #[must_use]
    pub fn one(name: impl Into<String>, value: f64, unit: &'static str) -> Self {
        Self { name: name.into(), value, unit, p99: None, samples: 1 }
    }

    /// Median and 99th percentile, in milliseconds; `None` without samples.
    #[must_use]
    pub fn times(name: impl Into<String>, mut samples: Vec<Duration>) -> Option<Self> {
        samples.sort_unstable();
        let at = |share: usize| samples.get(samples.len().checked_sub(1)? * share / 100);
        let milliseconds = |duration: &Duration| duration.as_secs_f64() * 1000.0;
        let (value, p99) = (milliseconds(at(50)?), at(99).map(milliseconds));
        Some(Self { name: name.into(), value, unit: "ms", p99, samples: samples.len() })
    }
}

/// The machine, as far as it explains the figures.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// The processor's name.
    pub processor: String,
    /// How many of its threads this process may use.
    pub threads: usize,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// The kernel's release.
    pub kernel: String,
    /// Processes waiting to run, averaged over a minute, when the run began: above `threads`, distrust the figures.
    pub load: f64,
}

impl Machine {
    /// Looks at this machine.
    #[must_use]
    pub fn here() -> Self {
        let text = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let field = |text: &str, name: &str| {
            let line = text.lines().find(|line| line.starts_with(name))?;
            Some(line.split_once(':')?.1.trim().to_owned())
        };
        let memory = field(&text("/proc/meminfo"), "MemTotal").unwrap_or_default();
        Self {
            processor: field(&text("/proc/cpuinfo"), "model name").unwrap_or_else(|| "unknown".to_owned()),
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            memory_mib: memory.trim_end_matches(" kB").parse::<u64>().unwrap_or_default() / 1024,
            kernel: text("/proc/sys/kernel/osrelease").trim().to_owned(),
            load: text("/proc/loadavg")
                .split(' ')
                .next()
                .and_then(|load| load.parse().ok())
                .unwrap_or_default(),
        }
    }
}

impl Machine {
    /// For people.
    #[must_use]
    pub fn line(&self) -> String {
        let Self { processor, threads, memory_mib, kernel, load } = self;
        format!("{processor}, {threads} threads, {memory_mib} MiB, Linux {kernel}, load {load}")
    }
}

/// A whole run.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Where it ran.
    pub machine: Machine,
    /// What was measured.
    pub figures: Vec<Figure>,
}

impl Report {
    /// For people.
    #[must_use]
    pub fn table(&self) -> String {
        let mut out = format!(
            "{}\n\n{:<52} {:>12} {:>12} {:>8}\n",
            self.machine.line(),
            "measured",
            "median",
            "p99",
            "samples"
        );
        for figure in &self.figures {
            let p99 = figure.p99.map(|p99| format!("{p99:.2} {}", figure.unit)).unwrap_or_default();
            let value = format!("{:.2} {}", figure.value, figure.unit);
            // Writing to a String cannot fail.
            let _ = writeln!(out, "{:<52} {value:>12} {p99:>12} {:>8}", figure.name, figure.samples);
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_measurements_and_nothing_is_no_figure() {
        let samples = (1..=100).rev().map(Duration::from_millis).collect();
        let figure = Figure::times("x", samples).expect("samples");
        assert_eq!((figure.value, figure.p99, figure.samples), (50.0, Some(99.0), 100));
        assert!(Figure::times("x", Vec::new()).is_none());
    }
}
