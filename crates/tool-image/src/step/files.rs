//! The files that a step leaves: reports that are read, files that are kept, outputs for later steps.

use std::collections::{BTreeMap, BTreeSet};

use fleet_objects::test_run::{JunitSummary, Outcome};
use workflow::collect::check_archive;
use workflow::plan::PlannedStep;
use workflow::pod::{FILES_DIR, OUTPUTS_DIRS};
use workflow::progress::{AttemptMessage, StepMessage};
use workflow::read;

use super::{MAX_LOOKED_AT, Runner, short};

/// Bytes of one output.
const MAX_OUTPUT: usize = 16 * 1024;
/// Bytes of the outputs of all steps together: they go from pod to pod in variables, and a pod must fit into a store.
const MAX_OUTPUTS_BYTES: usize = 256 * 1024;
/// Outputs of one step.
const MAX_OUTPUTS: usize = 32;

/// The path of a file as it is told: relative to the step's directory, where it lies in that.
fn told_by<'a>(path: &'a str, dir: &str) -> &'a str {
    let below = path.strip_prefix(dir.trim_end_matches('/')).and_then(|rest| rest.strip_prefix('/'));
    below.unwrap_or(path).trim_start_matches('/')
}

impl Runner<'_> {
    /// A failing case fails the attempt whatever the exit code.
    pub(super) fn read_reports(&mut self, step: &PlannedStep, attempt: &mut AttemptMessage) {
        if step.junit.is_empty() || !matches!(attempt.outcome, Outcome::Passed | Outcome::Failed) {
            return;
        }
        let mut summary = JunitSummary::default();
        let (reports, unread) = self.found(step, &step.junit);
        // What is not read may have failed.
        if let Some(why) = unread {
            attempt.outcome = Outcome::Failed;
            "ReportsUnread".clone_into(&mut attempt.reason);
            attempt.message = short(&why);
        }
        for (path, _) in reports {
            if let Ok(report) = self.host.read(&path).map(|content| read::report(&content)) {
                report.iter().for_each(|report| report.add_to(&mut summary));
            }
        }
        let wrong = summary.counts.failed + summary.counts.errors;
        if wrong > 0 {
            attempt.outcome = Outcome::Failed;
            "CasesFailed".clone_into(&mut attempt.reason);
            attempt.message = short(&match summary.failures.first() {
                Some(first) if wrong == 1 => format!("{} failed", first.name),
                Some(first) => format!("{} and {} more failed", first.name, wrong - 1),
                None => format!("{wrong} cases failed"),
            });
        }
    }

    /// Files that match globs: absolute path and the path they are told by; and why some were not looked for.
    fn found(&mut self, step: &PlannedStep, globs: &[String]) -> (Vec<(String, String)>, Option<String>) {
        let (mut out, mut known, mut wrong) = (Vec::new(), BTreeSet::new(), None);
        for glob in globs {
            let found = self.text(glob).and_then(|glob| {
                let whole = workflow::expression::absolute_path(&glob, &step.artifacts_dir);
                self.matching("/", &[whole.trim_start_matches('/').to_owned()])
            });
            let paths = found.unwrap_or_else(|why| {
                self.host.err(&format!("fairlead: nothing is kept by {glob}: {why}"));
                wrong = Some(why);
                Vec::new()
            });
            for path in paths.into_iter().map(|path| format!("/{path}")) {
                let told = told_by(&path, &step.artifacts_dir).to_owned();
                if known.insert(path.clone()) {
                    out.push((path, told));
                }
            }
        }
        (out, wrong)
    }

    pub(super) fn keep_files(&mut self, step: &PlannedStep, message: &mut StepMessage) {
        let (reports, _) = self.found(step, &step.junit);
        let (files, unseen) = self.found(step, &step.artifacts);
        let known: BTreeSet<_> = reports.iter().map(|(path, _)| path).collect();
        let files = files.into_iter().filter(|(path, _)| !known.contains(path)).collect::<Vec<_>>();
        let mut lost = 0_usize;
        let one_by_one = if step.archive.is_empty() { files.as_slice() } else { &[] };
        if !step.archive.is_empty() && !files.is_empty() {
            let name = self.text(&step.archive).and_then(|name| check_archive(&name).map(|()| name));
            let kept = name.and_then(|name| {
                let to = format!("{FILES_DIR}/file/{}/{name}", step.name);
                let made = self.host.archive(&files, &to).map_err(|error| error.to_string());
                // Half an archive is none.
                made.inspect_err(|_| self.host.remove(&to))
            });
            if let Err(why) = kept {
                lost += files.len();
                self.host.err(&format!("fairlead: the archive of kept files was not made: {why}"));
            }
        }
        for (kind, found) in [("junit", reports.as_slice()), ("file", one_by_one)] {
            for (path, told) in found {
                let kept = self.host.copy(path, &format!("{FILES_DIR}/{kind}/{}/{told}", step.name));
                if let Err(error) = kept {
                    lost += 1;
                    self.host.err(&format!("fairlead: {path} was not kept: {error}"));
                }
            }
        }
        if lost > 0 {
            message.why = format!("{lost} files were not kept; the log says why");
        } else if let Some(why) = unseen {
            message.why = short(&why);
        }
    }

    fn bytes_of_outputs(&self) -> usize {
        self.progress.outputs.values().flat_map(BTreeMap::values).map(String::len).sum()
    }

    pub(super) fn take_outputs(&mut self, step: &PlannedStep) {
        let mut outputs = BTreeMap::new();
        for dir in OUTPUTS_DIRS {
            for (number, (key, size)) in
                self.host.list(dir, usize::MAX, MAX_LOOKED_AT).files.into_iter().enumerate()
            {
                let path = format!("{dir}/{key}");
                // What is left would be the next step's.
                if number >= MAX_OUTPUTS {
                    self.host.remove(&path);
                    self.host.err(&format!(
                        "fairlead: a step has at most {MAX_OUTPUTS} outputs; {key} is not kept"
                    ));
                    continue;
                }
                let all = self.bytes_of_outputs() + outputs.values().map(String::len).sum::<usize>();
                if all + size as usize > MAX_OUTPUTS_BYTES {
                    self.host.err(&format!(
                        "fairlead: the outputs of all steps have more than {MAX_OUTPUTS_BYTES} bytes; {key} is not kept"
                    ));
                } else if size as usize <= MAX_OUTPUT
                    && let Ok(content) = self.host.read(&path)
                {
                    let text = String::from_utf8_lossy(&content).trim_end_matches('\n').to_owned();
                    outputs.insert(key.replace(['/', '.'], "_"), text);
                } else {
                    self.host.err(&format!("fairlead: the output {key} has more than {MAX_OUTPUT} bytes"));
                }
                self.host.remove(&path);
            }
        }
        if !outputs.is_empty() && !step.id.is_empty() {
            self.progress.outputs.insert(step.id.clone(), outputs);
        }
    }
}
