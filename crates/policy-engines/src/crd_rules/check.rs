//! What is wrong with the rules of a schema, said when a CustomResourceDefinition is written (the part of upstream's
//! `ValidateCustomResourceDefinitionOpenAPISchema` that concerns rules).

use api_machinery::schema::{Additional, ListType, Schema, SchemaRef, ValueType};
use kube_objects::StatusCause;
use serde_json::Value as Json;

use super::{Compiled, Written, compile, field_path, has_rules, rules_of};
use crate::cel::declared;
use crate::problems::{self, child};

/// The most that one rule may cost, reckoned beforehand (upstream `StaticEstimatedCostLimit`).
const RULE_LIMIT: u64 = 10_000_000;
/// The most that all rules of a schema may cost (upstream `StaticEstimatedCRDCostLimit`).
const SCHEMA_LIMIT: u64 = 100_000_000;
const REASONS: [&str; 4] =
    ["FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired"];

/// Everything that is wrong with the rules in a schema. `schema`: the JSON of `openAPIV3Schema`, well-formed otherwise.
/// `path`: where it stands. `resource_root`: it is of a whole resource.
#[must_use]
pub fn check_rules(schema: &Json, path: &str, resource_root: bool) -> Vec<StatusCause> {
    // A schema that cannot be read is reported by whoever validates schemas.
    let Ok(schema) = Schema::from_openapi_v3(schema) else { return Vec::new() };
    let schema = SchemaRef::inline(schema);
    if !has_rules_anywhere(&schema, 0) {
        return Vec::new();
    }
    let mut check = Check::default();
    let place = Place { root: resource_root, compiles: true, cardinality: Some(1), ..Place::default() };
    check.schema(&schema, path, &place);
    check.finish(path)
}

#[derive(Default)]
struct Check {
    /// Of rules' form, and of what they say.
    form: Vec<StatusCause>,
    meaning: Vec<StatusCause>,
    total: u64,
    most_expensive: Vec<(u64, String)>,
}

/// Where in a schema the walk is.
#[derive(Clone, Default)]
struct Place {
    root: bool,
    /// Rules here are compiled: not below `not`, `anyOf`, `oneOf`, `allOf`.
    compiles: bool,
    /// How often data can stand here, if that is bounded.
    cardinality: Option<u64>,
    /// The nearest place above whose old data cannot be told apart.
    uncorrelatable: Option<String>,
}

impl Place {
    fn below(&self, schema: &Schema) -> Self {
        let factor = max_elements(schema);
        let cardinality = self.cardinality.zip(factor).map(|(count, factor)| count.saturating_mul(factor));
        Self { root: false, cardinality, ..self.clone() }
    }

    fn unevaluated(&self) -> Self {
        Self { root: false, compiles: false, ..self.clone() }
    }
}

fn max_elements(schema: &Schema) -> Option<u64> {
    let constraints = schema.constraints.as_ref();
    match schema.value_type {
        ValueType::Object if !matches!(schema.additional, Additional::None) => constraints?.max_properties,
        ValueType::Array => constraints?.max_items,
        _ => Some(1),
    }
}

/// Also where rules are not evaluated.
fn has_rules_anywhere(schema: &SchemaRef, depth: usize) -> bool {
    const MAX_DEPTH: usize = 64;
    let below = |schema: &SchemaRef| has_rules_anywhere(schema, depth + 1);
    if depth > MAX_DEPTH || schema.type_name().is_some() {
        return false;
    }
    has_rules(schema)
        || schema.items.as_ref().is_some_and(below)
        || schema.properties.values().any(below)
        || matches!(&schema.additional, Additional::Schema(values) if below(values))
        || schema.constraints.as_ref().is_some_and(|constraints| {
            let lists = [&constraints.all_of, &constraints.any_of, &constraints.one_of];
            lists.into_iter().flatten().chain(&constraints.not).any(below)
        })
}

impl Check {
    fn schema(&mut self, schema: &SchemaRef, path: &str, place: &Place) {
        if schema.type_name().is_some() || !has_rules_anywhere(schema, 0) {
            return;
        }
        let forms_before = self.form.len();
        let below = place.below(schema);
        if let Additional::Schema(values) = &schema.additional {
            self.schema(values, &child(path, "additionalProperties"), &below);
        }
        for (name, property) in &schema.properties {
            self.schema(property, &format!("{}[{name}]", child(path, "properties")), &below);
        }
        if let Some(constraints) = &schema.constraints {
            let unevaluated = place.unevaluated();
            if let Some(not) = &constraints.not {
                self.schema(not, &child(path, "not"), &unevaluated);
            }
            let lists = [
                ("allOf", &constraints.all_of),
                ("oneOf", &constraints.one_of),
                ("anyOf", &constraints.any_of),
            ];
            for (name, list) in lists {
                for (index, schema) in list.iter().enumerate() {
                    self.schema(schema, &format!("{}[{index}]", child(path, name)), &unevaluated);
                }
            }
        }
        if let Some(items) = &schema.items {
            let mut below = below;
            if schema.list_type != ListType::Map && below.uncorrelatable.is_none() {
                below.uncorrelatable = Some(path.to_owned());
            }
            self.schema(items, &child(path, "items"), &below);
        }
        let rules = rules_of(schema);
        let path = child(path, "x-kubernetes-validations");
        for (index, rule) in rules.iter().enumerate() {
            self.form(rule, schema, &format!("{path}[{index}]"));
        }
        if self.form.len() == forms_before && place.compiles && !rules.is_empty() {
            self.meaning(&rules, schema, &path, place);
        }
    }

    /// What is wrong with how a rule is written down.
    fn form(&mut self, rule: &Written, schema: &Schema, path: &str) {
        let (text, message) = (rule.rule.trim(), rule.message.trim());
        let at = |name: &str| child(path, name);
        if text.is_empty() {
            self.form.push(problems::required(&at("rule"), "rule is not specified"));
        } else if !rule.message.is_empty() && message.is_empty() {
            self.form.push(problems::invalid_text(
                &at("message"),
                &rule.message,
                "must be non-empty if specified",
            ));
        } else if has_newlines(message) {
            self.form.push(problems::invalid_text(
                &at("message"),
                &rule.message,
                "must not contain line breaks",
            ));
        } else if has_newlines(text) && message.is_empty() {
            let why = "message must be specified if rule contains line breaks";
            self.form.push(problems::required(&at("message"), why));
        }
        if !rule.message_expression.is_empty() && rule.message_expression.trim().is_empty() {
            let why = "messageExpression must be non-empty if specified";
            self.form.push(problems::required(&at("messageExpression"), why));
        }
        if let Some(reason) = rule.reason.as_deref().filter(|reason| !REASONS.contains(reason)) {
            self.form.push(problems::not_supported(&at("reason"), reason, &REASONS));
        }
        if rule.field_path.is_empty() {
            return;
        }
        let field = at("fieldPath");
        let say = |why: &str| problems::invalid_text(&field, &rule.field_path, why);
        if rule.field_path.trim().is_empty() {
            self.form.push(say("must be non-empty if specified"));
        }
        if has_newlines(&rule.field_path) {
            self.form.push(say("must not contain line breaks"));
        }
        if field_path::normalize(&rule.field_path, schema).is_err() {
            self.form.push(say("must be a valid path"));
        }
    }

    /// What is wrong with what the rules say, and what they cost.
    fn meaning(&mut self, rules: &[Written], schema: &SchemaRef, path: &str, place: &Place) {
        let Some(shape) = declared::self_shape(schema, place.root || schema.embedded_resource) else {
            let why = "internal error: failed to construct type information for x-kubernetes-validations rules: unable to convert structural schema to CEL declarations";
            return self.meaning.push(problems::internal(path, why));
        };
        let cardinality = place.cardinality.unwrap_or_else(|| shape.max_cardinality());
        for (index, rule) in rules.iter().enumerate() {
            let compiled = compile(rule, &shape);
            self.rule(rule, compiled, &format!("{path}[{index}]"), cardinality, place);
        }
    }

    fn rule(&mut self, rule: &Written, compiled: Compiled, path: &str, cardinality: u64, place: &Place) {
        let at_rule = child(path, "rule");
        let cost = compiled.cost.max.saturating_mul(cardinality);
        self.observe(&at_rule, cost, "estimated rule cost");
        let uses_old_self = match &compiled.program {
            Some(Err(error)) => {
                self.meaning.push(problems::invalid_json(&at_rule, &as_go(rule), error));
                false
            }
            Some(Ok(program)) => program.checked.uses("oldSelf"),
            None => false,
        };
        let at_message = child(path, "messageExpression");
        match &compiled.message {
            Some(Err(error)) => self.meaning.push(problems::invalid_json(&at_message, &as_go(rule), error)),
            Some(Ok((_, cost))) => self.observe(&at_message, cost.max, "estimated messageExpression cost"),
            None => {}
        }
        if uses_old_self {
            if let Some(place) = &place.uncorrelatable {
                let why = format!(
                    "oldSelf cannot be used on the uncorrelatable portion of the schema within {place}"
                );
                self.meaning.push(problems::invalid_text(&at_rule, &rule.rule, &why));
            }
        } else if let Some(optional) = rule.optional_old_self {
            let why = "may not be set if oldSelf is not used in rule";
            let at = child(path, "optionalOldSelf");
            self.meaning.push(problems::invalid(&at, Some(&Json::from(optional)), why));
        }
    }

    fn observe(&mut self, path: &str, cost: u64, what: &str) {
        if cost > RULE_LIMIT {
            self.meaning.push(problems::forbidden(path, &too_expensive(what, cost, RULE_LIMIT)));
        }
        self.total = self.total.saturating_add(cost);
        if cost >= SCHEMA_LIMIT / 100 {
            self.most_expensive.push((cost, path.to_owned()));
            self.most_expensive.sort_by_key(|(cost, _)| std::cmp::Reverse(*cost));
            self.most_expensive.truncate(4);
        }
    }

    fn finish(mut self, path: &str) -> Vec<StatusCause> {
        let mut causes = self.form;
        causes.append(&mut self.meaning);
        if self.total > SCHEMA_LIMIT {
            let why =
                "contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema";
            causes.extend(self.most_expensive.iter().map(|(_, path)| problems::forbidden(path, why)));
            let what = "x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema";
            causes.push(problems::forbidden(path, &too_expensive(what, self.total, SCHEMA_LIMIT)));
        }
        causes
    }
}

fn has_newlines(text: &str) -> bool {
    text.contains(['\n', '\r'])
}

/// A rule as the message of a broken one shows it: upstream's internal type has no JSON names.
fn as_go(rule: &Written) -> String {
    let text = |text: &str| Json::from(text).to_string();
    let reason = rule.reason.as_deref().map_or_else(|| "null".to_owned(), text);
    let optional = rule.optional_old_self.map_or_else(|| "null".to_owned(), |optional| optional.to_string());
    format!(
        "{{\"Rule\":{},\"Message\":{},\"MessageExpression\":{},\"Reason\":{reason},\"FieldPath\":{},\"OptionalOldSelf\":{optional}}}",
        text(&rule.rule),
        text(&rule.message),
        text(&rule.message_expression),
        text(&rule.field_path),
    )
}

fn too_expensive(what: &str, cost: u64, limit: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "a factor for people")]
    let factor = cost as f64 / limit as f64;
    let factor = if factor > 100.0 {
        "more than 100x".to_owned()
    } else if factor < 1.5 {
        format!("{factor:.6}x")
    } else {
        format!("{factor:.1}x")
    };
    format!(
        "{what} exceeds budget by factor of {factor} (try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, maps, and strings are declared)"
    )
}
