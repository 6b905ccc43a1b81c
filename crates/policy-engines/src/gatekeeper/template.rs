//! `ConstraintTemplate`: a kind of constraint, the schema of its parameters, and what it looks for.

use api_machinery::custom_resource::normal::normalise_schema;
use api_machinery::schema::Schema;
use kind_rules::json::{list, text, texts, truth};
use kube_objects::UserInfo;
use serde_json::{Value, json};

use super::constraint::Constraint;
use super::inventory::{self, SyncKind};
use super::{Problem, Reviewed, Said};
use crate::admission_policy::{Decision, Inputs, ValidatingPolicy, check_validating, namespace_document};
use crate::cel::authorizer::Question;
use crate::rego::{Document, Program, Source};

/// The target that templates are for; there is no other.
const TARGET: &str = "admission.k8s.gatekeeper.sh";

/// What looks for violations.
#[derive(Debug)]
enum Engine {
    Rego(Box<Program>),
    Cel(Box<ValidatingPolicy>),
}

/// A compiled template.
#[derive(Debug)]
pub struct Template {
    /// The kind of its constraints.
    pub kind: String,
    /// Of `spec.parameters`.
    pub(super) parameters: Option<Schema>,
    engine: Engine,
    /// Kinds that it says it needs in the inventory.
    pub(super) requires: Vec<SyncKind>,
}

/// Which engine a template is read for, where it has several.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Preferred {
    /// CEL where there is any, as Gatekeeper does.
    #[default]
    Cel,
    /// Rego where there is any.
    Rego,
}

/// What a template has to say, in one language.
enum Code<'a> {
    Rego(Source, &'static str),
    Cel(&'a Value),
}

fn strings(json: &Value, key: &str) -> Vec<String> {
    texts(json, key).map(str::to_owned).collect()
}

/// The languages of a target, in the order of preference.
fn codes(target: &Value, preferred: Preferred) -> Vec<Code<'_>> {
    let mut codes = Vec::new();
    for code in list(target, "code") {
        let source = &code["source"];
        match text(code, "engine") {
            "K8sNativeValidation" => codes.push(Code::Cel(source)),
            "Rego" => {
                let v1 = text(source, "version") == "v1";
                let source =
                    Source { rego: text(source, "rego").to_owned(), libs: strings(source, "libs"), v1 };
                codes.push(Code::Rego(source, "spec.targets[0].code"));
            }
            _ => {}
        }
    }
    let has_rego = codes.iter().any(|code| matches!(code, Code::Rego(..)));
    if !has_rego && !text(target, "rego").is_empty() {
        let source =
            Source { rego: text(target, "rego").to_owned(), libs: strings(target, "libs"), v1: false };
        codes.push(Code::Rego(source, "spec.targets[0].rego"));
    }
    codes.sort_by_key(|code| matches!(code, Code::Cel(_)) == (preferred == Preferred::Rego));
    codes
}

/// The validation as a policy with Gatekeeper's two variables.
fn cel_policy(kind: &str, source: &Value) -> Value {
    let mut variables = vec![
        json!({"name": "params",
            "expression": "!has(params.spec) ? null : !has(params.spec.parameters) ? null : params.spec.parameters"}),
        json!({"name": "anyObject",
            "expression": "has(request.operation) && request.operation == \"DELETE\" && object == null ? oldObject : object"}),
    ];
    variables.extend(list(source, "variables").iter().cloned());
    json!({
        "metadata": {"name": kind.to_lowercase()},
        "spec": {
            "paramKind": {"apiVersion": "constraints.gatekeeper.sh/v1beta1", "kind": kind},
            "failurePolicy": source["failurePolicy"], "matchConditions": source["matchConditions"],
            "variables": variables, "validations": source["validations"],
        },
    })
}

impl Template {
    /// Compiles a template; the kind that it makes is said also of one that is wrong.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn compile(document: &Value) -> (String, Result<Self, Problem>) {
        Self::compile_for(document, Preferred::default())
    }

    /// The same, with a preference for a language.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn compile_for(document: &Value, preferred: Preferred) -> (String, Result<Self, Problem>) {
        let kind = text(&document["spec"]["crd"]["spec"]["names"], "kind").to_owned();
        let template = Self::read(document, &kind, preferred).map_err(|(field, message)| Problem {
            policy: text(&document["metadata"], "name").to_owned(),
            field: field.to_owned(),
            message,
        });
        (kind, template)
    }

    fn read(document: &Value, kind: &str, preferred: Preferred) -> Result<Self, (&'static str, String)> {
        let spec = &document["spec"];
        if kind.is_empty() {
            return Err(("spec.crd.spec.names.kind", "Required value".to_owned()));
        }
        let name = text(&document["metadata"], "name");
        if name != kind.to_lowercase() {
            let message = format!("a template of kind {kind} is called {}", kind.to_lowercase());
            return Err(("metadata.name", message));
        }
        let [target] = list(spec, "targets") else {
            return Err(("spec.targets", "a template has exactly one target".to_owned()));
        };
        if text(target, "target") != TARGET {
            return Err(("spec.targets[0].target", format!("the target is {TARGET}")));
        }
        let engine = match codes(target, preferred).into_iter().next() {
            Some(Code::Rego(source, field)) => {
                let program = Program::compile(&source);
                Engine::Rego(Box::new(program.map_err(|error| (field, error.to_string()))?))
            }
            Some(Code::Cel(source)) => {
                let policy = cel_policy(kind, source);
                if let Some(cause) = check_validating(&policy).into_iter().next() {
                    return Err(("spec.targets[0].code", format!("{}: {}", cause.field, cause.message)));
                }
                Engine::Cel(Box::new(ValidatingPolicy::compile(&policy)))
            }
            None => {
                let message = "no code in Rego or K8sNativeValidation".to_owned();
                return Err(("spec.targets[0]", message));
            }
        };
        let parameters = schema(&spec["crd"]["spec"]["validation"])
            .map_err(|message| ("spec.crd.spec.validation.openAPIV3Schema", message))?;
        let requires = inventory::required(&document["metadata"])
            .map_err(|message| ("metadata.annotations", message))?;
        Ok(Self { kind: kind.to_owned(), parameters, engine, requires })
    }

    /// Whether it looks at other objects.
    #[must_use]
    pub fn is_referential(&self) -> bool {
        matches!(&self.engine, Engine::Rego(program) if program.is_referential())
    }

    pub(super) fn set_inventory(&self, inventory: &Document) -> Result<(), String> {
        match &self.engine {
            Engine::Rego(program) => program.set_inventory(inventory).map_err(|error| error.to_string()),
            Engine::Cel(_) => Ok(()),
        }
    }

    /// What it says of an object. `review`: the same for Rego.
    pub(super) fn review(&self, constraint: &Constraint, reviewed: &Reviewed<'_>, review: &Document) -> Said {
        match &self.engine {
            Engine::Rego(program) => match program.violations(review, &constraint.parameters) {
                Ok(found) => {
                    let violations = found.into_iter().map(|violation| violation.message).collect();
                    Said { violations, errors: Vec::new() }
                }
                Err(error) => Said { violations: Vec::new(), errors: vec![error.to_string()] },
            },
            Engine::Cel(policy) => by_cel(policy, constraint, reviewed),
        }
    }
}

/// The schema of parameters; `None`: anything goes.
fn schema(validation: &Value) -> Result<Option<Schema>, String> {
    let json = &validation["openAPIV3Schema"];
    // Before version 1 templates could leave types out.
    if !json.is_object() || truth(validation, "legacySchema") {
        return Ok(None);
    }
    let mut json = json.clone();
    normalise_schema(&mut json, 0);
    Schema::from_openapi_v3(&json).map(Some).map_err(|error| error.to_string())
}

fn by_cel(policy: &ValidatingPolicy, constraint: &Constraint, reviewed: &Reviewed<'_>) -> Said {
    let kind = reviewed.kind;
    let mut request = reviewed.request.cloned().unwrap_or_else(|| {
        let metadata = &reviewed.object["metadata"];
        json!({
            "uid": "", "operation": "CREATE", "dryRun": true,
            "kind": {"group": kind.group, "version": kind.version, "kind": kind.kind},
            "name": text(metadata, "name"), "namespace": text(metadata, "namespace"),
            "userInfo": UserInfo::new(crate::audit::USER, &["system:authenticated"]),
        })
    });
    let mut take =
        |key: &str| request.as_object_mut().and_then(|request| request.remove(key)).unwrap_or_default();
    let (_, old) = (take("object"), take("oldObject"));
    let deleted = text(&request, "operation") == "DELETE";
    let namespace = reviewed.namespace.map_or(Value::Null, namespace_document);
    let inputs = Inputs {
        object: if deleted { &Value::Null } else { reviewed.object },
        old_object: &old,
        request: &request,
        namespace_object: &namespace,
        params: Some(&constraint.document),
        authorizer: None,
        request_resource: Question::default(),
    };
    let mut said = Said { violations: Vec::new(), errors: Vec::new() };
    for decision in policy.evaluate(&inputs).decisions {
        match decision {
            Decision::Admit => {}
            Decision::Deny { message, .. } => said.violations.push(message),
            Decision::Failed { message } => said.errors.push(message),
        }
    }
    said
}
