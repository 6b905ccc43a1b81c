//! What is known when an execution is planned.

use std::cell::RefCell;
use std::collections::BTreeMap;

use fleet_objects::test_run::TestExecutionSpec;
use fleet_objects::test_workflow::EnvironmentVariable;
use serde_json::{Value, json};

use crate::collect;
use crate::expression::{Expression, Lookup, Scope};

/// The Secret whose keys `credential("…")` reads.
const CREDENTIALS: &str = "credentials";

/// Parameters, the execution, matrix and shard; what a container knows comes later.
#[derive(Debug, Default)]
pub(crate) struct PlanScope {
    known: BTreeMap<String, Value>,
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
        Self { known, secrets: RefCell::default() }
    }

    /// The same with more names.
    pub(crate) fn with(&self, more: impl IntoIterator<Item = (&'static str, Value)>) -> Self {
        let mut known = self.known.clone();
        known.extend(more.into_iter().map(|(name, value)| (name.to_owned(), value)));
        Self { known, secrets: RefCell::default() }
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
