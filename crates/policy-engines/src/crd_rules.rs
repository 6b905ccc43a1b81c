//! Validation rules of custom resources (`x-kubernetes-validations`).
//!
//! Tasks: say what is wrong with the rules of a schema when a CustomResourceDefinition is written ([`check_rules`]);
//! compile them once per version ([`RuleSet::compile`]); evaluate them on every write ([`RuleSet::validate`]), with
//! transition rules where old data can be told apart, and ratcheting where it did not change.
//!
//! Must never: evaluate a rule beyond the object's budget; copy the object.

use std::collections::BTreeMap;
use std::sync::Arc;

use api_machinery::schema::{Additional, Dialect, SchemaRef};
use kube_objects::StatusCause;
use serde_json::Value as Json;

use crate::cel::cost::{self, Range};
use crate::cel::declared::{self, Shape};
use crate::cel::environment::Environment;
use crate::cel::types::Type;
use crate::cel::{self, CompileError, Program};

mod check;
mod correlation;
mod evaluate;
mod field_path;

pub use check::check_rules;

/// What all rules of one object may cost together, per write (upstream `RuntimeCELCostBudget`).
pub const RULE_BUDGET: i64 = 10_000_000;

/// What the rules said of an object.
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    /// Rules that do not hold.
    pub causes: Vec<StatusCause>,
    /// Rules that do not hold on data that was not changed: warned of, not refused.
    pub warnings: Vec<String>,
}

/// The compiled rules of a custom resource's schema.
#[derive(Debug)]
pub struct RuleSet {
    root: Node,
}

/// Rules at one place of a schema and below.
#[derive(Debug)]
struct Node {
    schema: SchemaRef,
    rules: Vec<Rule>,
    items: Option<Box<Node>>,
    properties: BTreeMap<Box<str>, Node>,
    additional: Option<Box<Node>>,
    all_of: Vec<Node>,
}

/// A rule as it is written.
#[derive(Clone, Debug, Default)]
struct Written {
    rule: String,
    message: String,
    message_expression: String,
    reason: Option<String>,
    field_path: String,
    optional_old_self: Option<bool>,
}

/// A compiled rule.
#[derive(Debug)]
struct Rule {
    written: Written,
    /// `None` for an empty rule.
    program: Option<Result<Program, String>>,
    uses_old_self: bool,
    message: Option<Program>,
    /// Where the problem is shown, below the place of the rule.
    field_path: Option<String>,
}

/// What compiling one rule came to.
struct Compiled {
    program: Option<Result<Program, String>>,
    cost: Range,
    message: Option<Result<(Program, Range), String>>,
}

impl Written {
    fn read(json: &Json) -> Self {
        let text = |key: &str| json.get(key).and_then(Json::as_str).unwrap_or_default().to_owned();
        Self {
            rule: text("rule"),
            message: text("message"),
            message_expression: text("messageExpression"),
            reason: json.get("reason").and_then(Json::as_str).map(ToOwned::to_owned),
            field_path: text("fieldPath"),
            optional_old_self: json.get("optionalOldSelf").and_then(Json::as_bool),
        }
    }

    /// How messages call the rule.
    fn shown(&self) -> &str {
        if self.message.is_empty() { self.rule.trim() } else { self.message.trim() }
    }
}

fn rules_of(schema: &SchemaRef) -> Vec<Written> {
    let rules = schema.constraints.as_ref().map_or(&[][..], |constraints| &constraints.rules);
    rules.iter().map(Written::read).collect()
}

/// Compiles a rule for `self` of this shape.
fn compile(written: &Written, shape: &Shape) -> Compiled {
    let mut compiled = Compiled { program: None, cost: Range::fixed(0), message: None };
    if written.rule.trim().is_empty() {
        return compiled;
    }
    let old = match written.optional_old_self {
        Some(true) => Type::optional(shape.ty.clone()),
        _ => shape.ty.clone(),
    };
    let environment = Environment::default().with("self", shape.ty.clone()).with("oldSelf", old);
    let program = match cel::compile(&written.rule, &environment) {
        Err(error) => {
            compiled.program = Some(Err(error.to_string()));
            return compiled;
        }
        Ok(program) => program,
    };
    if !matches!(program.checked.output(), Type::Bool) {
        compiled.program = Some(Err("cel expression must evaluate to a bool".to_owned()));
        return compiled;
    }
    compiled.cost = cost::estimate(&program.checked, shape);
    compiled.program = Some(Ok(program));
    if !written.message_expression.is_empty() {
        compiled.message = Some(compile_message(&written.message_expression, &environment, shape));
    }
    compiled
}

fn compile_message(
    source: &str,
    environment: &Environment,
    shape: &Shape,
) -> Result<(Program, Range), String> {
    let program = cel::compile(source, environment).map_err(|error| match error {
        CompileError::Issues(issues) => format!("messageExpression compilation failed: {issues}"),
        CompileError::Constant(why) => format!("messageExpression instantiation failed: {why}"),
    })?;
    if !matches!(program.checked.output(), Type::String) {
        return Err("messageExpression must evaluate to a string".to_owned());
    }
    let cost = cost::estimate(&program.checked, shape);
    Ok((program, cost))
}

impl RuleSet {
    /// Compiles all rules of a schema; `None` when it has none. `resource_root`: the schema is of a whole resource, so
    /// that rules see its kind and name. It should then be made by `Schema::for_custom_resource`.
    #[must_use]
    pub fn compile(schema: &SchemaRef, resource_root: bool) -> Option<Arc<Self>> {
        if !has_rules(schema) {
            return None;
        }
        let shape = declared::self_shape(schema, resource_root);
        let root = node(schema, schema, shape.as_ref())?;
        Some(Arc::new(Self { root }))
    }

    /// Evaluates the rules on a write. `path`: where the object stands, empty for a whole resource. `old`: what it was
    /// before, if it was. `budget` is what may still be spent, below zero when it was overdrawn: nothing more is
    /// evaluated then.
    #[must_use]
    pub fn validate(&self, path: &str, new: &Json, old: Option<&Json>, budget: &mut i64) -> Verdict {
        let mut verdict = Verdict::default();
        evaluate::run(&self.root, path, new, old, budget, &mut verdict);
        verdict
    }
}

fn has_rules(schema: &SchemaRef) -> bool {
    if schema.dialect != Dialect::Custom {
        return false;
    }
    let below = |schema: &SchemaRef| has_rules(schema);
    let constraints = schema.constraints.as_ref();
    constraints
        .is_some_and(|constraints| !constraints.rules.is_empty() || constraints.all_of.iter().any(below))
        || schema.items.as_ref().is_some_and(below)
        || schema.properties.values().any(below)
        || matches!(&schema.additional, Additional::Schema(values) if has_rules(values))
}

/// Compiles the rules that `rules` has and below; `schema` says what the data is (they differ below `allOf`).
fn node(rules: &SchemaRef, schema: &SchemaRef, shape: Option<&Shape>) -> Option<Node> {
    if rules.dialect != Dialect::Custom || !has_rules(rules) {
        return None;
    }
    let compile_one = |written: Written| {
        let compiled = shape.map(|shape| compile(&written, shape));
        let program = compiled.map_or_else(
            || (Some(Err("rule compiler initialization error: failed to convert to declType for CEL validation rules".to_owned())), None),
            |compiled| (compiled.program, compiled.message.and_then(Result::ok).map(|(program, _)| program)),
        );
        let uses_old_self = matches!(&program.0, Some(Ok(program)) if program.checked.uses("oldSelf"));
        let field_path = field_path::normalize(&written.field_path, schema)
            .ok()
            .filter(|_| !written.field_path.is_empty());
        Rule { written, program: program.0, uses_old_self, message: program.1, field_path }
    };
    let elem = shape.and_then(|shape| shape.elem.as_deref());
    let items = match (&rules.items, &schema.items) {
        (Some(rules), Some(items)) => node(rules, items, elem).map(Box::new),
        _ => None,
    };
    let additional = match (&rules.additional, &schema.additional) {
        (Additional::Schema(rules), Additional::Schema(values)) => node(rules, values, elem).map(Box::new),
        _ => None,
    };
    let properties = rules.properties.iter().filter_map(|(name, rules)| {
        let property = schema.properties.get(name)?;
        let made;
        let shape = match cel::names::escape(name) {
            Some(escaped) => shape?.field(&escaped)?.as_ref(),
            None => {
                made = declared::self_shape(property, property.embedded_resource)?;
                &made
            }
        };
        Some((name.clone(), node(rules, property, Some(shape))?))
    });
    let properties = properties.collect();
    let all_of = rules.constraints.as_ref().map_or(&[][..], |constraints| &constraints.all_of);
    let all_of = all_of.iter().filter_map(|rules| node(rules, schema, shape)).collect();
    let rules = rules_of(rules).into_iter().map(compile_one).collect();
    Some(Node { schema: schema.clone(), rules, items, properties, additional, all_of })
}
