//! MutatingAdmissionPolicy.

use kube_objects::StatusCause;
use serde_json::{Map, Value as Json};

use super::conditions::{self, Conditions, Match};
use super::context::{Context, Evaluation, Inputs, OUT_OF_BUDGET};
use super::expression::{self, Expression, OBJECT, PATCHES, Scope, Variables};
use super::{FailurePolicy, POLICY_BUDGET, items, problem, text};
use crate::cel::value::{Object, Value, to_json};

/// A compiled policy.
#[derive(Debug)]
pub struct MutatingPolicy {
    failure_policy: FailurePolicy,
    reinvoked: bool,
    conditions: Conditions,
    variables: Variables,
    mutations: Vec<(Kind, Result<Expression, String>)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Apply,
    Patch,
}

/// What a mutation wants done to the object.
#[derive(Clone, Debug, PartialEq)]
pub enum Mutation {
    /// These fields merged in, as by an apply that owns nothing.
    Apply(Json),
    /// A JSON patch. If one of its tests fails, nothing is done.
    Patch(Json),
}

fn scope(policy: &Json) -> Scope {
    Scope { params: policy["spec"]["paramKind"].is_object(), authorizer: true, patches: false }
}

/// The kind, the name of its field and the expression of a mutation.
fn mutation(json: &Json) -> (Kind, &'static str, &str) {
    let (kind, field) = match text(json, "patchType") {
        "JSONPatch" => (Kind::Patch, "jsonPatch"),
        _ => (Kind::Apply, "applyConfiguration"),
    };
    (kind, field, json.get(field).map_or("", |inner| text(inner, "expression")).trim())
}

fn compile(kind: Kind, source: &str, variables: &Variables, scope: Scope) -> Result<Expression, String> {
    let environment = variables.environment(Scope { patches: true, ..scope });
    expression::compile(source, &environment, Some(if kind == Kind::Apply { OBJECT } else { PATCHES }))
}

/// What is wrong with the expressions of a MutatingAdmissionPolicy.
#[must_use]
pub fn check_mutating(policy: &Json) -> Vec<StatusCause> {
    let (spec, scope) = (&policy["spec"], scope(policy));
    let variables = Variables::compile(items(spec, "variables"), scope);
    let mut causes = variables.check(spec);
    let environment = variables.environment(scope);
    causes.extend(conditions::check(items(spec, "matchConditions"), "spec.matchConditions", &environment));
    for (index, json) in items(spec, "mutations").iter().enumerate() {
        let (kind, field, source) = mutation(json);
        if !source.is_empty() {
            let compiled = compile(kind, source, &variables, scope);
            causes.extend(problem(&format!("spec.mutations[{index}].{field}.expression"), source, &compiled));
        }
    }
    causes
}

impl MutatingPolicy {
    /// Compiles a policy. Expressions that do not compile fail when they are evaluated.
    #[must_use]
    pub fn compile(policy: &Json) -> Self {
        let (spec, scope) = (&policy["spec"], scope(policy));
        let variables = Variables::compile(items(spec, "variables"), scope);
        let one = |json: &Json| {
            let (kind, _, source) = mutation(json);
            (kind, compile(kind, source, &variables, scope))
        };
        Self {
            failure_policy: FailurePolicy::read(&spec["failurePolicy"]),
            reinvoked: text(spec, "reinvocationPolicy") == "IfNeeded",
            conditions: Conditions::of_policy(items(spec, "matchConditions"), scope, &variables),
            mutations: items(spec, "mutations").iter().map(one).collect(),
            variables,
        }
    }

    /// What happens when something about the policy fails.
    #[must_use]
    pub fn failure_policy(&self) -> FailurePolicy {
        self.failure_policy
    }

    /// Whether it wants to see the object again when others changed it.
    #[must_use]
    pub fn is_reinvoked(&self) -> bool {
        self.reinvoked
    }

    /// How many mutations it has.
    #[must_use]
    pub fn mutations(&self) -> usize {
        self.mutations.len()
    }

    /// Whether its conditions hold.
    #[must_use]
    pub fn matches(&self, inputs: &Inputs<'_>) -> Match {
        self.conditions.evaluate_with(inputs, Some(&self.variables), self.failure_policy)
    }

    /// What one of its mutations wants done to the object as it is by then.
    ///
    /// # Errors
    /// Says why there is nothing to be done: the expression does not compile, fails, or made something else.
    pub fn mutation(&self, index: usize, inputs: &Inputs<'_>) -> Result<Mutation, String> {
        let (kind, expression) = self.mutations.get(index).ok_or("policy evaluator is nil")?;
        if let Err(error) = expression {
            return Err(error.clone());
        }
        let mut context = Context::new(inputs, Some(&self.variables), true, POLICY_BUDGET);
        let value = match context.evaluate(expression) {
            Evaluation::Value(value) => value,
            Evaluation::Failed(error) => return Err(error),
            Evaluation::OutOfBudget => return Err(OUT_OF_BUDGET.to_owned()),
        };
        match (kind, value) {
            (Kind::Apply, Value::Object(object)) => {
                check_names("Object", &object).map_err(|why| format!("type mismatch: {why}"))?;
                let json = to_json(&Value::Object(object)).map_err(|error| error.to_string())?;
                Ok(Mutation::Apply(json))
            }
            (Kind::Patch, Value::List(list)) => {
                let operations = list.iter().map(|item| match item {
                    Ok(Value::Object(object)) => operation(&object),
                    Ok(_) => {
                        Err("type mismatch: JSONPatchType.expression should evaluate to array of JSONPatch"
                            .to_owned())
                    }
                    Err(error) => Err(error.to_string()),
                });
                Ok(Mutation::Patch(Json::Array(operations.collect::<Result<_, _>>()?)))
            }
            _ => Err("unsupported return type".to_owned()),
        }
    }
}

fn operation(object: &Object<'_>) -> Result<Json, String> {
    let mut out = Map::new();
    for (name, value) in &object.fields {
        if let Value::Object(inner) = value {
            let root = inner.type_name.clone();
            check_names(&root, inner).map_err(|why| format!("type mismatch: {why}"))?;
        }
        let json = to_json(value).map_err(|error| {
            format!("JSONPath valueExpression evaluated to a type that could not marshal to JSON: {error}")
        })?;
        let empty_source = name == "from" && json.as_str() == Some("");
        if !empty_source {
            out.insert(name.clone(), json);
        }
    }
    for name in ["op", "path"] {
        out.entry(name).or_insert_with(|| Json::from(""));
    }
    Ok(Json::Object(out))
}

/// Objects within an object go by the path of fields to them: `Object.spec.template`.
fn check_names(expected: &str, object: &Object<'_>) -> Result<(), String> {
    if object.type_name != expected {
        return Err(format!(
            "unexpected type name {:?}, expected {expected:?}, which matches field name path from root Object type",
            object.type_name
        ));
    }
    object.fields.iter().try_for_each(|(name, value)| check_value(&format!("{expected}.{name}"), value))
}

fn check_value(expected: &str, value: &Value<'_>) -> Result<(), String> {
    match value {
        Value::Object(object) => check_names(expected, object),
        Value::List(list) => list.iter().try_for_each(|item| match item {
            Ok(item) => check_value(expected, &item),
            Err(error) => Err(error.to_string()),
        }),
        Value::Map(map) => {
            let entries = map.entries().map_err(|error| error.to_string())?;
            entries.iter().try_for_each(|(_, value)| match value {
                Value::Object(_) => check_value(expected, value),
                _ => Ok(()),
            })
        }
        _ => Ok(()),
    }
}
