//! Values of secrets that an execution uses, so that they are masked in everything that leaves the cluster.
//!
//! They are read anew before each pod, and what was read stays masked: a Secret may be changed while the run goes on. They
//! are held in memory alone. An execution whose Secrets cannot be read does not run, rather than tell them.

use std::collections::BTreeSet;
use std::sync::Arc;

use fleet_objects::test_run::{AttemptResult, StepResult};
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use parking_lot::Mutex;
use tracing::warn;
use workflow::mask::{self, Mask, SecretReference};
use workflow::plan::ExecutionPlan;

use super::journal::Note;
use super::pods;
use super::run::Execution;

/// What is masked, and of what.
#[derive(Default)]
pub(super) struct Secrets {
    references: Mutex<BTreeSet<SecretReference>>,
    values: Mutex<BTreeSet<Vec<u8>>>,
    mask: Mutex<Arc<Mask>>,
}

impl Secrets {
    /// Values of sensitive parameters are known; those of Secrets come with [`Execution::read_secrets`].
    pub(super) fn new(note: &Note, plan: Option<&ExecutionPlan>) -> Result<Self, String> {
        let declared = note.spec.workflow.config.iter().filter(|(_, parameter)| parameter.sensitive);
        let values = declared
            .filter_map(|(name, parameter)| note.spec.config.get(name).or(parameter.default.as_ref()))
            .map(|value| workflow::expression::render(value).into_bytes());
        let references = plan.map(mask::references).transpose().map_err(|error| error.to_string())?;
        let own = Self { references: Mutex::new(references.unwrap_or_default()), ..Self::default() };
        own.add(values).map(|()| own)
    }

    /// Secrets that a plan names which was made later.
    pub(super) fn name(&self, plan: &ExecutionPlan) -> Result<(), String> {
        let more = mask::references(plan).map_err(|error| error.to_string())?;
        self.references.lock().extend(more);
        Ok(())
    }

    pub(super) fn mask(&self) -> Arc<Mask> {
        Arc::clone(&self.mask.lock())
    }

    fn add(&self, new: impl IntoIterator<Item = Vec<u8>>) -> Result<(), String> {
        let mut values = self.values.lock();
        let before = values.len();
        values.extend(new);
        if values.len() > before {
            let mask = Mask::new(values.iter()).map_err(|error| error.to_string())?;
            *self.mask.lock() = Arc::new(mask);
        }
        Ok(())
    }
}

impl Execution {
    /// Reads the Secrets that the plan names. One that is not there has no value to mask.
    pub(super) async fn read_secrets(&self) -> Result<(), pods::Refused> {
        let api: Api<Secret> = Api::namespaced(self.shared.cluster.clone(), &self.shared.options.namespace);
        let references = self.secrets.references.lock().clone();
        let names: BTreeSet<&String> = references.iter().map(|(name, _)| name).collect();
        for name in names {
            let found = loop {
                match api.get_opt(name).await {
                    Ok(found) => break found,
                    Err(kube::Error::Api(status)) if matches!(status.code, 401 | 403) => {
                        let message = format!("its values could not be masked: {}", status.message);
                        return Err(("SecretUnreadable".to_owned(), message));
                    }
                    Err(error) => warn!(%error, secret = %name, "cannot read a Secret; trying again"),
                }
                tokio::select! {
                    () = tokio::time::sleep(pods::RETRY) => {}
                    () = self.cancel.cancelled() => return Err(("Cancelled".to_owned(), "the run was cancelled".to_owned())),
                    () = self.shutdown.cancelled() => return Err(("Shutdown".to_owned(), String::new())),
                }
            };
            let data = found.and_then(|secret| secret.data).unwrap_or_default();
            let wanted = |key: &String| {
                let whole = references.contains(&(name.clone(), None));
                whole || references.contains(&(name.clone(), Some(key.clone())))
            };
            let values = data.into_iter().filter(|(key, _)| wanted(key)).map(|(_, value)| value.0);
            self.secrets.add(values).map_err(|why| ("SecretUnreadable".to_owned(), why))?;
        }
        Ok(())
    }

    pub(super) fn masked(&self, text: &str) -> String {
        let mask = self.secrets.mask();
        if mask.is_empty() { text.to_owned() } else { mask.text(text) }
    }

    /// Without values of secrets in what a step says for people. Names come from the workflow itself.
    pub(super) fn mask_step(&self, step: &mut StepResult) {
        let mask = self.secrets.mask();
        if mask.is_empty() {
            return;
        }
        step.title = mask.text(&step.title);
        for attempt in &mut step.attempts {
            mask_attempt(&mask, attempt);
        }
    }
}

fn mask_attempt(mask: &Mask, attempt: &mut AttemptResult) {
    let junit = attempt.junit.iter_mut().flat_map(|junit| &mut junit.failures);
    let cases =
        junit.flat_map(|case| [&mut case.suite, &mut case.class_name, &mut case.name, &mut case.message]);
    let paths = attempt.artifacts.iter_mut().map(|artifact| &mut artifact.path);
    let own = [&mut attempt.reason, &mut attempt.message].into_iter();
    for text in own.chain(&mut attempt.warnings).chain(paths).chain(cases) {
        *text = mask.text(text);
    }
}
