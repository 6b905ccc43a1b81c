//! The files that a step leaves: reports that are read, files that are kept, outputs for later steps.

use std::collections::BTreeMap;

use fleet_objects::test_run::{JunitSummary, Outcome};
use workflow::collect::check_archive;
use workflow::plan::PlannedStep;
use workflow::pod::{FILES_DIR, OUTPUTS_DIRS};
use workflow::progress::{AttemptMessage, StepMessage};
use workflow::read;

use super::{Runner, short};

/// Bytes of one output.
const MAX_OUTPUT: usize = 16 * 1024;
/// Bytes of the outputs of all steps together: they go from pod to pod in variables, and a pod must fit into a store.
const MAX_OUTPUTS_BYTES: usize = 256 * 1024;
/// Outputs of one step.
const MAX_OUTPUTS: usize = 32;

impl Runner<'_> {
    /// A failing case fails the attempt whatever the exit code.
    pub(super) fn read_reports(&mut self, step: &PlannedStep, attempt: &mut AttemptMessage) {
        if step.junit.is_empty() || !matches!(attempt.outcome, Outcome::Passed | Outcome::Failed) {
            return;
        }
        let mut summary = JunitSummary::default();
        for (path, _) in self.found(step, &step.junit) {
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

    /// Files that match globs: absolute path and the path they are told by.
    fn found(&mut self, step: &PlannedStep, globs: &[String]) -> Vec<(String, String)> {
        let mut out: Vec<(String, String)> = Vec::new();
        for glob in globs {
            let Ok(glob) = self.text(glob) else { continue };
            let whole = workflow::expression::absolute_path(&glob, &step.artifacts_dir);
            // Down to where the first wildcard may stand.
            let end = whole.find(['*', '?', '[', '{']).unwrap_or(whole.len());
            let root = match whole[..end].rfind('/') {
                Some(0) | None => "/".to_owned(),
                Some(at) => whole[..at].to_owned(),
            };
            let pattern = whole[root.trim_end_matches('/').len() + 1..].to_owned();
            let Ok(paths) = self.matching(&root, &[pattern]) else { continue };
            for path in paths {
                let path = format!("{}/{path}", root.trim_end_matches('/'));
                let told = path
                    .strip_prefix(&step.artifacts_dir)
                    .unwrap_or(&path)
                    .trim_start_matches('/')
                    .to_owned();
                if out.iter().all(|(own, _)| *own != path) {
                    out.push((path, told));
                }
            }
        }
        out
    }

    pub(super) fn keep_files(&mut self, step: &PlannedStep, message: &mut StepMessage) {
        let reports = self.found(step, &step.junit);
        let files = self.found(step, &step.artifacts);
        let files = files.into_iter().filter(|file| !reports.contains(file)).collect::<Vec<_>>();
        let mut lost = 0_usize;
        let one_by_one = if step.archive.is_empty() { files.as_slice() } else { &[] };
        if !step.archive.is_empty() && !files.is_empty() {
            let name = self.text(&step.archive).and_then(|name| check_archive(&name).map(|()| name));
            let kept = name.and_then(|name| {
                let to = format!("{FILES_DIR}/file/{}/{name}", step.name);
                self.host.archive(&files, &to).map_err(|error| error.to_string())
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
        }
    }

    fn bytes_of_outputs(&self) -> usize {
        self.progress.outputs.values().flat_map(BTreeMap::values).map(String::len).sum()
    }

    pub(super) fn take_outputs(&mut self, step: &PlannedStep) {
        let mut outputs = BTreeMap::new();
        for dir in OUTPUTS_DIRS {
            for (key, size) in self.host.list(dir, MAX_OUTPUTS) {
                let path = format!("{dir}/{key}");
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
