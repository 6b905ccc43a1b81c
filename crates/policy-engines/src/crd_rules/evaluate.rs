//! Evaluates rules over an object, in upstream's order (`schema/cel/validation.go`).

use api_machinery::schema::ValueType;
use kube_objects::StatusCause;
use serde_json::Value as Json;

use super::correlation::{Correlation, old_item};
use super::{Node, Rule, Verdict};
use crate::cel::evaluate::{self, Activation};
use crate::cel::value::{self, Value, from_json};
use crate::cel::{CALL_LIMIT, Program};
use crate::problems::{self, child};

/// The longest message that an expression may make, in bytes.
const MAX_MESSAGE: usize = 5 * 1024;
/// An object nests no deeper than the decoder lets it.
const MAX_DEPTH: usize = 512;

/// Evaluates all rules at `node` and below.
pub(super) fn run(
    node: &Node,
    path: &str,
    new: &Json,
    old: Option<&Json>,
    budget: &mut i64,
    verdict: &mut Verdict,
) {
    let correlation = Correlation::new(new, old, &node.schema);
    let mut walk = Walk { budget, verdict, depth: 0 };
    walk.node(node, path, new, old, correlation);
}

struct Walk<'w> {
    budget: &'w mut i64,
    verdict: &'w mut Verdict,
    depth: usize,
}

/// What rules can refer to.
struct Selves<'a> {
    node: &'a Node,
    new: &'a Json,
    old: Option<&'a Json>,
    optional: bool,
}

impl<'a> Activation<'a> for Selves<'a> {
    fn variable(&self, name: &str) -> Option<value::Result<'a>> {
        let typing = Some(&self.node.schema);
        match (name, self.old) {
            ("self", _) => Some(from_json(self.new, typing)),
            ("oldSelf", Some(old)) => {
                let old = from_json(old, typing);
                Some(if self.optional { old.map(Value::some) } else { old })
            }
            ("oldSelf", None) if self.optional => Some(Ok(Value::Optional(None))),
            _ => None,
        }
    }
}

/// What the message of a rule that does not hold comes to.
enum Message {
    Text(String),
    /// It failed; the rule's own message stands in.
    None,
    /// The budget is spent.
    Stop(String),
}

impl Walk<'_> {
    fn node(
        &mut self,
        node: &Node,
        path: &str,
        new: &Json,
        old: Option<&Json>,
        correlation: Correlation<'_>,
    ) {
        if new.is_null() || self.depth > MAX_DEPTH {
            return;
        }
        let old = old.filter(|old| !old.is_null());
        self.rules(node, path, new, old, correlation);
        for rules in &node.all_of {
            if *self.budget < 0 {
                return;
            }
            self.depth += 1;
            self.node(rules, path, new, old, correlation.without_here());
            self.depth -= 1;
        }
        if *self.budget < 0 {
            return;
        }
        self.depth += 1;
        match new {
            Json::Array(items) => self.items(node, path, items, old, correlation),
            Json::Object(map) => self.fields(node, path, map, old, correlation),
            _ => {}
        }
        self.depth -= 1;
    }

    fn items(
        &mut self,
        node: &Node,
        path: &str,
        items: &[Json],
        old: Option<&Json>,
        correlation: Correlation<'_>,
    ) {
        let Some(below) = &node.items else { return };
        let old = old.and_then(Json::as_array).map_or(&[][..], Vec::as_slice);
        for (index, item) in items.iter().enumerate() {
            let before = old_item(&node.schema, old, item);
            self.node(below, &format!("{path}[{index}]"), item, before, correlation.index(index));
            if *self.budget < 0 {
                return;
            }
        }
    }

    fn fields(
        &mut self,
        node: &Node,
        path: &str,
        map: &serde_json::Map<String, Json>,
        old: Option<&Json>,
        correlation: Correlation<'_>,
    ) {
        let old = old.and_then(Json::as_object);
        for (name, value) in map {
            let before = old.and_then(|old| old.get(name));
            if let Some(below) = &node.additional {
                self.node(below, &format!("{path}[{name}]"), value, before, correlation.key(name));
            } else if let Some(below) = node.properties.get(name.as_str()) {
                self.node(below, &child(path, name), value, before, correlation.key(name));
            }
            if *self.budget < 0 {
                return;
            }
        }
    }

    fn rules(
        &mut self,
        node: &Node,
        path: &str,
        new: &Json,
        old: Option<&Json>,
        correlation: Correlation<'_>,
    ) {
        if node.rules.is_empty() {
            return;
        }
        let kind = Json::from(type_name(node.schema.value_type));
        if *self.budget <= 0 {
            let why = "validation failed due to running out of cost budget, no further validation rules will be run";
            self.refuse(problems::invalid(path, Some(&kind), why));
            *self.budget = -1;
            return;
        }
        for rule in &node.rules {
            let program = match &rule.program {
                None => continue,
                Some(Ok(program)) => program,
                Some(Err(error)) => {
                    let why = match error.strip_prefix("rule compiler initialization error") {
                        Some(_) => error.clone(),
                        None => format!("rule compile error: {error}"),
                    };
                    self.refuse(problems::invalid(path, Some(&kind), &why));
                    continue;
                }
            };
            let optional = rule.written.optional_old_self == Some(true);
            if rule.uses_old_self && old.is_none() && !optional {
                continue;
            }
            let selves = Selves { node, new, old, optional };
            self.rule(rule, program, &selves, path, &kind, correlation);
            if *self.budget < 0 {
                return;
            }
        }
    }

    fn refuse(&mut self, cause: StatusCause) {
        self.verdict.causes.push(cause);
    }

    /// Takes what an evaluation cost; whether the budget was enough.
    fn pay(&mut self, cost: u64) -> bool {
        let cost = i64::try_from(cost).unwrap_or(i64::MAX);
        if cost > *self.budget {
            *self.budget = -1;
            return false;
        }
        *self.budget -= cost;
        true
    }

    fn rule<'a>(
        &mut self,
        rule: &'a Rule,
        program: &'a Program,
        selves: &Selves<'a>,
        path: &str,
        kind: &Json,
        correlation: Correlation<'_>,
    ) {
        let outcome = evaluate::run(&program.node, selves, CALL_LIMIT);
        if !self.pay(outcome.cost) {
            let why = "validation failed due to running out of cost budget, no further validation rules will be run";
            return self.refuse(problems::invalid(path, Some(kind), why));
        }
        let shown = rule.written.shown();
        match outcome.value {
            Ok(Value::Bool(true)) => return,
            Ok(_) => {}
            Err(error) if error.is_no_such_overload() => {
                let why = format!(
                    "'{error}': call arguments did not match a supported operator, function or macro signature for rule: {shown}"
                );
                return self.refuse(problems::invalid(path, Some(kind), &why));
            }
            Err(error) if error.is_stop() => {
                let why = format!(
                    "'{error}': no further validation rules will be run due to call cost exceeds limit for rule: {shown}"
                );
                *self.budget = -1;
                return self.refuse(problems::invalid(path, Some(kind), &why));
            }
            Err(error) => {
                let why = format!("{error} evaluating rule: {shown}");
                return self.refuse(problems::invalid(path, Some(kind), &why));
            }
        }
        let field = match &rule.field_path {
            Some(below) if below.starts_with('[') => format!("{path}{below}"),
            Some(below) => child(path, below),
            None => path.to_owned(),
        };
        let detail = match self.message(rule, selves) {
            Message::Text(text) => text,
            Message::None if rule.written.message.is_empty() => format!("failed rule: {shown}"),
            Message::None => shown.to_owned(),
            Message::Stop(why) => {
                *self.budget = -1;
                return self.report(rule, correlation, problems::invalid(&field, Some(kind), &why));
            }
        };
        let whole = matches!(node_type(selves), ValueType::Object | ValueType::Array);
        let value = (!whole).then_some(selves.new);
        let cause = match rule.written.reason.as_deref() {
            Some("FieldValueForbidden") => problems::forbidden(&field, &detail),
            Some("FieldValueRequired") => problems::required(&field, &detail),
            Some("FieldValueDuplicate") => problems::duplicate(&field, value),
            _ => problems::invalid(&field, value, &detail),
        };
        self.report(rule, correlation, cause);
    }

    /// Refuses, or only warns where nothing changed.
    fn report(&mut self, rule: &Rule, correlation: Correlation<'_>, cause: StatusCause) {
        if !rule.uses_old_self && correlation.unchanged() {
            let place = if cause.field.is_empty() { "<nil>" } else { &cause.field };
            self.verdict.warnings.push(format!("{place}: {}", cause.message));
        } else {
            self.refuse(cause);
        }
    }

    fn message<'a>(&mut self, rule: &'a Rule, selves: &Selves<'a>) -> Message {
        let Some(program) = &rule.message else { return Message::None };
        let outcome = evaluate::run(&program.node, selves, CALL_LIMIT);
        if !self.pay(outcome.cost) {
            return Message::Stop(
                "messageExpression evaluation failed due to running out of cost budget, no further validation rules will be run"
                    .to_owned(),
            );
        }
        match outcome.value {
            Err(error) if error.is_stop() => Message::Stop(format!(
                "no further validation rules will be run due to call cost exceeds limit for messageExpression: {:?}",
                rule.written.message_expression
            )),
            Ok(Value::String(text)) => {
                let text = text.as_str().trim();
                let fits = !text.is_empty() && text.len() <= MAX_MESSAGE && !text.contains('\n');
                if fits { Message::Text(text.to_owned()) } else { Message::None }
            }
            _ => Message::None,
        }
    }
}

fn node_type(selves: &Selves<'_>) -> ValueType {
    selves.node.schema.value_type
}

/// The schema's `type`.
fn type_name(value_type: ValueType) -> &'static str {
    match value_type {
        ValueType::Object => "object",
        ValueType::Array => "array",
        ValueType::String | ValueType::Quantity => "string",
        ValueType::Integer => "integer",
        ValueType::Number => "number",
        ValueType::Boolean => "boolean",
        ValueType::Any | ValueType::IntOrString => "",
    }
}
