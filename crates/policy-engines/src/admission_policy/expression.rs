//! Compiled expressions of policies.

use kube_objects::StatusCause;
use serde_json::Value as Json;

use super::{items, problem, text, types};
use crate::cel::environment::Environment;
use crate::cel::types::Type;
use crate::cel::{self, CompileError, Program};

/// What an expression can refer to beside the object and the request.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Scope {
    pub(super) params: bool,
    pub(super) authorizer: bool,
    pub(super) patches: bool,
}

/// A compiled expression.
#[derive(Debug)]
pub(super) struct Expression {
    pub(super) source: String,
    pub(super) program: Program,
}

/// A variable of a policy.
#[derive(Debug)]
pub(super) struct Variable {
    pub(super) name: String,
    pub(super) expression: Result<Expression, String>,
}

/// The variables of a policy, and their types for what comes behind them.
#[derive(Debug, Default)]
pub(super) struct Variables {
    pub(super) list: Vec<Variable>,
    types: Vec<(String, Type)>,
}

impl Variables {
    /// Compiles them in order; each sees those before it.
    pub(super) fn compile(list: &[Json], scope: Scope) -> Self {
        Self::compile_in(list, &environment(scope))
    }

    /// The same over another environment.
    pub(super) fn compile_in(list: &[Json], base: &Environment) -> Self {
        let mut variables = Self::default();
        for json in list {
            let (name, source) = (text(json, "name"), text(json, "expression").trim());
            let expression = compile(source, &variables.over(base.clone()), None);
            let t =
                expression.as_ref().map_or(Type::Dyn, |compiled| compiled.program.checked.output().clone());
            variables.types.push((name.to_owned(), t));
            variables.list.push(Variable { name: name.to_owned(), expression });
        }
        variables
    }

    /// What is wrong with them; `spec` is the policy's that they were compiled from.
    pub(super) fn check(&self, spec: &Json) -> Vec<StatusCause> {
        let mut causes = Vec::new();
        for (index, (variable, json)) in self.list.iter().zip(items(spec, "variables")).enumerate() {
            let source = text(json, "expression").trim();
            if !source.is_empty() {
                let field = format!("spec.variables[{index}].expression");
                causes.extend(problem(&field, source, &variable.expression));
            }
        }
        causes
    }

    /// What an expression behind all these variables can refer to.
    pub(super) fn environment(&self, scope: Scope) -> Environment {
        self.over(environment(scope))
    }

    /// An environment with these variables.
    pub(super) fn over(&self, base: Environment) -> Environment {
        base.with("variables", types::variables(&self.types))
    }
}

/// What an expression without variables can refer to.
pub(super) fn environment(scope: Scope) -> Environment {
    let mut environment = Environment::default()
        .with("object", Type::Dyn)
        .with("oldObject", Type::Dyn)
        .with("namespaceObject", types::namespace())
        .with("request", types::request());
    if scope.params {
        environment = environment.with("params", Type::Dyn);
    }
    if scope.authorizer {
        environment = environment
            .with("authorizer", Type::Object("kubernetes.authorization.Authorizer"))
            .with("authorizer.requestResource", Type::Object("kubernetes.authorization.ResourceCheck"));
    }
    if scope.patches { environment.with_patches() } else { environment }
}

/// The types that an expression may be of.
pub(super) type Allowed = (&'static str, fn(&Type) -> bool);

pub(super) const BOOL: Allowed = ("bool", |t| matches!(t, Type::Bool));
pub(super) const STRING: Allowed = ("string", |t| matches!(t, Type::String));
pub(super) const STRING_OR_NULL: Allowed = ("[string null_type]", |t| matches!(t, Type::String | Type::Null));
pub(super) const OBJECT: Allowed =
    ("Object", |t| matches!(t, Type::Struct(declared) if declared.name() == "Object"));
pub(super) const PATCHES: Allowed = (
    "list(JSONPatch)",
    |t| matches!(t, Type::List(of) if matches!(&**of, Type::Struct(declared) if declared.name() == "JSONPatch")),
);

/// Compiles an expression; the error is upstream's detail.
pub(super) fn compile(
    source: &str,
    environment: &Environment,
    allowed: Option<Allowed>,
) -> Result<Expression, String> {
    let program = cel::compile(source, environment).map_err(|error: CompileError| error.to_string())?;
    let found = program.checked.output();
    if let Some((name, fits)) = allowed
        && !fits(found)
    {
        let one_of = if name.starts_with('[') { "one of " } else { "" };
        return Err(format!("must evaluate to {one_of}{name} but got {}", written(found)));
    }
    Ok(Expression { source: source.to_owned(), program })
}

/// A type as cel-go's `String()` has it.
fn written(t: &Type) -> String {
    match t {
        Type::Timestamp | Type::Duration | Type::Null => t.runtime_name().to_string(),
        other => other.to_string(),
    }
}
