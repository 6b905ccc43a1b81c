//! How the runs of each workflow ended, so that a change is noticed: a few words per run.

use std::collections::{BTreeMap, HashMap};

use fleet_objects::test_run::TestRun;
use jiff::Timestamp;
use kube::ResourceExt;
use workflow::report::history::workflow_of;
use workflow::webhook::{End, end};

/// Ended runs kept per workflow: those before the ones that still run.
const KEPT: usize = 100;

/// When a run was made, to the second; which of that second it was, by when it was seen; its uid.
type Place = (Timestamp, u64, String);
type Runs = BTreeMap<Place, End>;

/// Ended runs by workflow.
#[derive(Debug, Default)]
pub(super) struct History {
    runs: HashMap<(String, String), Runs>,
    /// In which order runs were seen first.
    seen: HashMap<String, u64>,
    number: u64,
}

impl History {
    /// Takes note of a run that has passed or failed.
    pub(super) fn take(&mut self, run: &TestRun) {
        if let Some(uid) = run.uid() {
            let next = self.number + 1;
            self.number = self.number.max(*self.seen.entry(uid).or_insert(next));
        }
        let Some(end) = end(run).filter(|end| *end != End::Neither) else { return };
        let Some((workflow, made)) = self.place(run) else { return };
        let runs = self.runs.entry(workflow).or_default();
        runs.insert(made, end);
        while runs.len() > KEPT {
            runs.pop_first();
        }
    }

    /// A run is gone.
    pub(super) fn forget(&mut self, run: &TestRun) {
        let Some((workflow, made)) = self.place(run) else { return };
        self.seen.remove(&made.2);
        if let Some(runs) = self.runs.get_mut(&workflow) {
            runs.remove(&made);
            if runs.is_empty() {
                self.runs.remove(&workflow);
            }
        }
    }

    /// How the workflow's last run before this one ended.
    pub(super) fn before(&self, run: &TestRun) -> Option<End> {
        let (workflow, made) = self.place(run)?;
        self.runs.get(&workflow)?.range(..made).next_back().map(|(_, end)| *end)
    }

    /// Namespace and workflow of a run, and its place among those of it.
    fn place(&self, run: &TestRun) -> Option<((String, String), Place)> {
        let (made, uid) = (run.metadata.creation_timestamp.as_ref()?.0, run.uid()?);
        let number = self.seen.get(&uid).copied().unwrap_or(u64::MAX);
        Some(((run.namespace()?, workflow_of(run)), (made, number, uid)))
    }
}
