//! What `/metrics` tells, by upstream's names and labels, so that dashboards made for kube-apiserver work.
//!
//! * [`requests`]: counts and durations of requests, by what was asked for.
//! * [`histogram`]: durations in buckets.
//! * [`process`]: this process, as the system sees it.
//! * [`text`]: the exposition format.
//!
//! Counting costs a lookup and a few additions for a request. Every label is of a bounded set: what is not served is
//! counted together, and nothing that a client chooses freely (names, namespaces, users) is a label.

pub(crate) mod histogram;
mod process;
pub(crate) mod requests;
pub(crate) mod text;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use histogram::Histogram;
use requests::Requests;
use text::Text;

/// Numbers that other parts of the program tell under `/metrics`; called for each scrape.
pub type Source = std::sync::Arc<dyn Fn(&mut dyn FnMut(&Sample)) + Send + Sync>;

/// One number of a [`Source`]. Samples of one name come one after another.
#[derive(Clone, Debug)]
pub struct Sample {
    /// `workqueue_depth`.
    pub name: &'static str,
    /// `counter` or `gauge`.
    pub kind: &'static str,
    /// What it counts.
    pub help: &'static str,
    /// Of a bounded set.
    pub labels: Vec<(&'static str, String)>,
    /// The number now.
    pub value: f64,
}

/// Upper bounds of the buckets of requests' durations, in seconds (upstream `endpoints/metrics`).
pub(crate) const REQUEST_BUCKETS: [f64; 23] = [
    0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0,
    20.0, 30.0, 45.0, 60.0,
];
/// Of admission steps (upstream `admission/metrics`).
pub(crate) const ADMISSION_BUCKETS: [f64; 6] = [0.005, 0.025, 0.1, 0.5, 1.0, 2.5];
/// Of requests to the store (upstream `storage/etcd3/metrics`).
const STORE_BUCKETS: [f64; 20] = [
    0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 8.0, 15.0, 30.0, 45.0,
    60.0,
];

/// What is asked of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StoreOperation {
    Create,
    Update,
    Delete,
}

impl StoreOperation {
    const ALL: [(Self, &'static str); 3] =
        [(Self::Create, "create"), (Self::Update, "update"), (Self::Delete, "delete")];
}

/// What the store was asked for, and how long it took: from asking to the durable answer.
#[derive(Debug)]
pub(crate) struct StoreRequests {
    durations: [Histogram<20>; 3],
    errors: [AtomicU64; 3],
}

impl Default for StoreRequests {
    fn default() -> Self {
        Self {
            durations: std::array::from_fn(|_| Histogram::new(&STORE_BUCKETS)),
            errors: Default::default(),
        }
    }
}

impl StoreRequests {
    pub(crate) fn observe(&self, operation: StoreOperation, since: Instant, failed: bool) {
        let index = operation as usize;
        self.durations[index].observe(since.elapsed());
        if failed {
            self.errors[index].fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn write(&self, text: &mut Text) {
        text.family("etcd_request_duration_seconds", "histogram", "Duration of requests to the store.");
        for (operation, name) in StoreOperation::ALL {
            let labels = [("operation", name), ("type", "")];
            self.durations[operation as usize].write(text, "etcd_request_duration_seconds", &labels);
        }
        text.family("etcd_requests_total", "counter", "Requests to the store.");
        for (operation, name) in StoreOperation::ALL {
            let count = self.durations[operation as usize].count();
            text.number("etcd_requests_total", &[("operation", name)], count as f64);
        }
        text.family("etcd_request_errors_total", "counter", "Requests to the store that failed.");
        for (operation, name) in StoreOperation::ALL {
            let count = self.errors[operation as usize].load(Ordering::Relaxed);
            text.number("etcd_request_errors_total", &[("operation", name)], count as f64);
        }
    }
}

/// Everything a server counts.
#[derive(Default)]
pub(crate) struct Metrics {
    pub(crate) requests: Requests,
    pub(crate) sources: Vec<Source>,
}

impl Metrics {
    pub(crate) fn new(sources: Vec<Source>) -> Self {
        Self { sources, ..Self::default() }
    }

    /// Appends all that is counted here.
    pub(crate) fn write(&self, text: &mut Text) {
        text.family("kubernetes_build_info", "gauge", "The build of this server; always 1.");
        let platform = format!("{}/{}", std::env::consts::OS, crate::server::paths::platform());
        let build = [
            ("major", "1"),
            ("minor", "36"),
            ("git_version", crate::server::paths::VERSION),
            ("git_commit", ""),
            ("git_tree_state", "clean"),
            ("build_date", "1970-01-01T00:00:00Z"),
            ("go_version", "none"),
            ("compiler", "rustc"),
            ("platform", &platform),
        ];
        text.number("kubernetes_build_info", &build, 1.0);
        self.requests.write(text);
        process::write(text);
        for source in &self.sources {
            let mut told = "";
            source(&mut |sample: &Sample| {
                if told != sample.name {
                    text.family(sample.name, sample.kind, sample.help);
                    told = sample.name;
                }
                let labels: Vec<(&str, &str)> =
                    sample.labels.iter().map(|(name, value)| (*name, value.as_str())).collect();
                text.number(sample.name, &labels, sample.value);
            });
        }
    }
}

/// A duration as Prometheus tells it.
pub(crate) fn seconds(duration: Duration) -> f64 {
    duration.as_secs_f64()
}

#[cfg(test)]
mod tests;
