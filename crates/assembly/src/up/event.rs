//! What happens while a fleet comes up.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::plan::RuntimeKind;

/// Is told what happens; called from many tasks, must not block for long.
pub type Report = Arc<dyn Fn(Event) + Send + Sync>;

/// Something worth a line. Its `Display` is that line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// What will run pods, and why.
    Runtime {
        /// What.
        kind: RuntimeKind,
        /// Why; a part of a sentence.
        why: String,
    },
    /// Processes of an earlier `up` that had lost their supervisor were ended.
    Leftovers(Vec<String>),
    /// A server is ready.
    Ready {
        /// Which.
        name: String,
        /// Since the beginning.
        after: Duration,
    },
    /// An agent is connected to the hub.
    Connected {
        /// Its cluster.
        cluster: String,
        /// Since the beginning.
        after: Duration,
    },
    /// The remembered address is taken by somebody else.
    AddressTaken {
        /// Whose.
        name: String,
        /// Which.
        address: String,
    },
    /// The sample application runs everywhere.
    SampleApplied {
        /// In so many clusters.
        clusters: usize,
        /// Since the beginning.
        after: Duration,
    },
    /// The sample test has ended, or could not be run.
    SampleTest {
        /// For people.
        result: String,
        /// Since the beginning.
        after: Duration,
    },
    /// A process ended by itself and is started again.
    Restarting {
        /// Which.
        name: String,
        /// How it ended.
        ended: String,
        /// How long until the next start.
        pause: Duration,
    },
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Runtime { kind, why } => write!(f, "nodes: {kind} ({why})"),
            Self::Leftovers(names) => write!(f, "ended what an earlier run had left: {}", names.join(", ")),
            Self::Ready { name, after } => write!(f, "{name} ready after {}", seconds(*after)),
            Self::Connected { cluster, after } => {
                write!(f, "agent of {cluster} connected after {}", seconds(*after))
            }
            Self::AddressTaken { name, address } => {
                write!(f, "{address} is taken by another program; {name} gets a new address")
            }
            Self::SampleApplied { clusters, after } => {
                write!(f, "sample application applied in {clusters} clusters after {}", seconds(*after))
            }
            Self::SampleTest { result, after } => write!(f, "sample test {result} after {}", seconds(*after)),
            Self::Restarting { name, ended, pause } => {
                write!(f, "{name} ended ({ended}); starting it again in {}", seconds(*pause))
            }
        }
    }
}

fn seconds(duration: Duration) -> String {
    format!("{:.1}s", duration.as_secs_f64())
}
