//! How the runs of each workflow ended, so that a change is noticed: a few words per run.

use std::collections::{BTreeMap, HashMap};

use fleet_objects::test_run::TestRun;
use jiff::Timestamp;
use kube::ResourceExt;
use workflow::report::history::workflow_of;
use workflow::webhook::{End, end};

/// Ended runs kept per workflow: those before the ones that still run.
const KEPT: usize = 100;

/// Namespace and workflow; when the run was made, and its uid.
type Runs = BTreeMap<(Timestamp, String), End>;

/// Ended runs by workflow.
#[derive(Debug, Default)]
pub(super) struct History {
    runs: HashMap<(String, String), Runs>,
}

impl History {
    /// Takes note of a run that has passed or failed.
    pub(super) fn take(&mut self, run: &TestRun) {
        let Some(end) = end(run).filter(|end| *end != End::Neither) else { return };
        let Some((workflow, made)) = place(run) else { return };
        let runs = self.runs.entry(workflow).or_default();
        runs.insert(made, end);
        while runs.len() > KEPT {
            runs.pop_first();
        }
    }

    /// A run is gone.
    pub(super) fn forget(&mut self, run: &TestRun) {
        let Some((workflow, made)) = place(run) else { return };
        if let Some(runs) = self.runs.get_mut(&workflow) {
            runs.remove(&made);
            if runs.is_empty() {
                self.runs.remove(&workflow);
            }
        }
    }

    /// How the workflow's last run before this one ended.
    pub(super) fn before(&self, run: &TestRun) -> Option<End> {
        let (workflow, made) = place(run)?;
        self.runs.get(&workflow)?.range(..made).next_back().map(|(_, end)| *end)
    }
}

fn place(run: &TestRun) -> Option<((String, String), (Timestamp, String))> {
    let made = run.metadata.creation_timestamp.as_ref()?.0;
    Some(((run.namespace()?, workflow_of(run)), (made, run.uid()?)))
}
