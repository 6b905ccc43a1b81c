//! What is known when an execution is planned.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use fleet_objects::test_run::TestExecutionSpec;
use fleet_objects::test_workflow::EnvironmentVariable;
use serde_json::{Value, json};

use super::Found;
use crate::collect;
use crate::expression::{Expression, Lookup, Scope};

/// The Secret whose keys `credential("…")` reads.
const CREDENTIALS: &str = "credentials";

/// What an instance sees of its place among the others.
const OF_INSTANCES: [&str; 4] = ["matrix", "shard", "index", "count"];

/// Parameters, the execution, matrix and shard; what a container knows comes later.
#[derive(Debug, Default)]
pub(crate) struct PlanScope {
    known: BTreeMap<String, Value>,
    /// What containers found of lists, by the name of the step that runs instances of them.
    found: Arc<BTreeMap<String, Found>>,
    /// What an instance sees is not known: the plan of one is only tried.
    trial: bool,
    /// Secrets that were asked for since the last [`PlanScope::take_secrets`].
    secrets: RefCell<BTreeMap<String, EnvironmentVariable>>,
}

impl PlanScope {
    pub(super) fn of_execution(spec: &TestExecutionSpec, config: Value) -> Self {
        let short: String = spec.run.uid.chars().filter(char::is_ascii_alphanumeric).take(12).collect();
        let claims = spec.workflow.pvcs.keys();
        let claims = claims.map(|name| (name.clone(), json!({ "name": super::claim_name(&spec.run, name) })));
        let known = [
            ("pvcs", Value::Object(claims.collect())),
            ("config", config),
            ("always", json!(true)),
            ("never", json!(false)),
            ("workflow", json!({ "name": spec.run.name })),
            ("cluster", json!({ "name": spec.cluster })),
            ("run", json!({ "name": spec.run.name, "namespace": spec.run.namespace })),
            (
                "execution",
                json!({ "id": format!("{short}-{}", spec.cluster), "name": spec.run.name, "number": 1, "tags": {} }),
            ),
        ];
        let known = known.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        Self { known, ..Self::default() }
    }

    /// With what containers found.
    pub(super) fn with_found(self, found: BTreeMap<String, Found>) -> Self {
        Self { found: Arc::new(found), ..self }
    }

    /// What a container found for a step.
    pub(super) fn found(&self, step: &str) -> Option<Found> {
        self.found.get(step).cloned()
    }

    /// For an instance of which nobody knows yet what it sees.
    pub(super) fn trial(&self) -> Self {
        let mut trial = self.with([]);
        trial.known.retain(|name, _| !OF_INSTANCES.contains(&name.as_str()));
        trial.trial = true;
        trial
    }

    /// Whether what is made with this is only tried.
    pub(super) fn is_trial(&self) -> bool {
        self.trial
    }

    /// The same with more names.
    pub(crate) fn with(&self, more: impl IntoIterator<Item = (&'static str, Value)>) -> Self {
        let mut known = self.known.clone();
        known.extend(more.into_iter().map(|(name, value)| (name.to_owned(), value)));
        Self { known, found: Arc::clone(&self.found), trial: self.trial, secrets: RefCell::default() }
    }

    /// The variables that stand for the secrets asked for.
    pub(super) fn take_secrets(&self) -> Vec<EnvironmentVariable> {
        self.secrets.take().into_values().collect()
    }

    fn secret(&self, name: &str, key: &str) -> Result<Expression, String> {
        let digest = collect::digest(format!("{name}/{key}").as_bytes());
        let variable = format!("FAIRLEAD_SECRET_{}", digest[..10].to_uppercase());
        let reference = json!({ "secretKeyRef": { "name": name, "key": key, "optional": true } });
        self.secrets.borrow_mut().insert(
            variable.clone(),
            EnvironmentVariable { name: variable.clone(), value_from: Some(reference), ..Default::default() },
        );
        Expression::parse(&format!("env.{variable}")).map_err(|error| error.to_string())
    }
}

impl Scope for PlanScope {
    fn name(&self, name: &str) -> Lookup {
        if let Some(value) = self.known.get(name) {
            return Lookup::Known(value.clone());
        }
        match name {
            _ if self.trial && OF_INSTANCES.contains(&name) => Lookup::Later,
            "env" | "step" | "services" | "passed" | "failed" | "status" | "self" => Lookup::Later,
            _ => Lookup::Unknown,
        }
    }

    fn call(&self, name: &str, arguments: &[Value]) -> Option<Result<Expression, String>> {
        match (name, arguments) {
            ("secret", [Value::String(name), Value::String(key)]) => Some(self.secret(name, key)),
            ("credential", [Value::String(key)]) => Some(self.secret(CREDENTIALS, key)),
            ("secret" | "credential", _) => {
                Some(Err(format!("{name} wants names that are known before the run")))
            }
            _ => None,
        }
    }

    fn calls_later(&self, name: &str) -> bool {
        matches!(name, "file" | "glob" | "date")
    }
}
