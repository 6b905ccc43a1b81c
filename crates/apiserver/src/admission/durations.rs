//! How long admission takes, plug-in by plug-in.

use std::sync::OnceLock;
use std::time::Duration;

use super::Operation;
use crate::metrics::ADMISSION_BUCKETS;
use crate::metrics::histogram::Histogram;
use crate::metrics::text::Text;

/// Upstream's word for each phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// May change the object.
    Admit,
    /// May not.
    Validate,
}

const PHASES: [(Phase, &str); 2] = [(Phase::Admit, "admit"), (Phase::Validate, "validate")];
const OPERATIONS: [Operation; 4] =
    [Operation::Create, Operation::Update, Operation::Delete, Operation::Connect];
const OUTCOMES: [(bool, &str); 2] = [(false, "false"), (true, "true")];

/// Of one plug-in. Each histogram is made when something is counted in it: most plug-ins know one phase and refuse nothing.
#[derive(Debug, Default)]
pub(super) struct Durations([[[OnceLock<Box<Histogram<6>>>; 2]; 4]; 2]);

impl Durations {
    pub(super) fn observe(&self, phase: Phase, operation: Operation, rejected: bool, duration: Duration) {
        let slot = &self.0[phase as usize][operation as usize][usize::from(rejected)];
        slot.get_or_init(|| Box::new(Histogram::new(&ADMISSION_BUCKETS))).observe(duration);
    }

    pub(super) fn write(&self, text: &mut Text, name: &str, plugin: &str) {
        for (phase, shown) in PHASES {
            for operation in OPERATIONS {
                for (rejected, told) in OUTCOMES {
                    let slot = &self.0[phase as usize][operation as usize][usize::from(rejected)];
                    let labels = [
                        ("name", plugin),
                        ("operation", operation.as_str()),
                        ("rejected", told),
                        ("type", shown),
                    ];
                    if let Some(histogram) = slot.get() {
                        histogram.write(text, name, &labels);
                    }
                }
            }
        }
    }
}
