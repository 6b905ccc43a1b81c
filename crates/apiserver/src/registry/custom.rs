//! Custom resources: columns from the definition, values validated by its schema.

use access::authorization::forbidden;
use api_machinery::custom_resource::{embedded, lists, values};
use api_machinery::field_path::{FieldError, FieldPath, causes};
use api_machinery::json_path::JsonPath;
use api_machinery::schema::Schema;
use async_trait::async_trait;
use jiff::Timestamp;
use kube_objects::Status;
use policy_engines::crd_rules::{RULE_BUDGET, Verdict};
use serde_json::Value;

use super::strategy::{RequestContext, Strategy};
use crate::catalogue::Resource;
use kind_rules::columns::{Column, age, human_duration};
use kind_rules::names::NameRule;

/// One `additionalPrinterColumns` entry.
#[derive(Clone, Debug)]
struct PrinterColumn {
    column: Column,
    path: Option<JsonPath>,
}

/// The strategy of a custom kind in one version.
#[derive(Clone, Debug)]
pub(crate) struct Custom {
    columns: Vec<PrinterColumn>,
    /// Without their leading dots.
    selectable: Vec<String>,
}

impl Custom {
    /// Of a version's part of a definition.
    pub(crate) fn of_version(version: &Value) -> Self {
        let declared = version["additionalPrinterColumns"].as_array().cloned().unwrap_or_default();
        let columns = declared.iter().map(printer_column).collect();
        let fields = version["selectableFields"].as_array().into_iter().flatten();
        let paths = fields.filter_map(|field| field["jsonPath"].as_str());
        Self { columns, selectable: paths.map(|path| path.trim_start_matches('.').to_owned()).collect() }
    }
}

fn printer_column(declared: &Value) -> PrinterColumn {
    let text = |key: &str| declared[key].as_str().unwrap_or_default().to_owned();
    let priority =
        declared["priority"].as_i64().and_then(|priority| i32::try_from(priority).ok()).unwrap_or(0);
    let column = Column {
        name: text("name"),
        kind: text("type"),
        format: text("format"),
        description: text("description"),
        priority,
        documented_at: None,
    };
    // A path that does not parse prints nothing: the definition was accepted, its column is of no use.
    PrinterColumn { column, path: declared["jsonPath"].as_str().and_then(JsonPath::parse) }
}

/// What is wrong with an object of a custom kind, as a step from `old`: first by its schema, then by its rules, which
/// are not evaluated when the schema finds types wrong.
pub(crate) fn problems(resource: &Resource, object: &Value, old: Option<&Value>, status: bool) -> Verdict {
    let mut errors = schema_problems(resource, object, old, status);
    let Some(rules) = resource.defined_version().and_then(|version| version.rules()) else {
        return Verdict { causes: causes(&errors), ..Verdict::default() };
    };
    if values::blocks_rules(&errors) {
        let why = "some validation rules were not checked because the object was invalid; correct the existing errors \
                   to complete validation";
        errors.push(FieldError::invalid(&FieldPath::root(), Value::Null, why));
        return Verdict { causes: causes(&errors), ..Verdict::default() };
    }
    let mut verdict = rules.validate("", object, old, &mut { RULE_BUDGET });
    let mut found = causes(&errors);
    found.append(&mut verdict.causes);
    verdict.causes = found;
    verdict
}

/// Of a status only the status is judged.
fn schema_problems(
    resource: &Resource,
    object: &Value,
    old: Option<&Value>,
    status: bool,
) -> Vec<FieldError> {
    let schema = &resource.schema;
    if status {
        let rules = schema.properties.get("status");
        let (Some(rules), Some(own)) = (rules, object.get("status")) else { return Vec::new() };
        let before = old.and_then(|old| old.get("status"));
        let mut errors = values::validate_update(own, before, rules, &FieldPath::new("status"));
        errors.extend(scale(resource, object, false));
        errors.extend(duplicates(object, old, schema));
        return errors;
    }
    let mut errors = values::validate_update(object, old, schema, &FieldPath::root());
    errors.extend(scale(resource, object, true));
    errors.extend(embedded::validate(object, schema, &FieldPath::root(), false));
    errors.extend(duplicates(object, old, schema));
    errors
}

fn scale(resource: &Resource, object: &Value, spec: bool) -> Vec<FieldError> {
    let paths = resource.defined_version().and_then(|version| version.scale.as_ref());
    paths.map(|paths| paths.violations(object, spec)).unwrap_or_default()
}

/// Items that stand twice, unless the object before had such already.
fn duplicates(object: &Value, old: Option<&Value>, schema: &Schema) -> Vec<FieldError> {
    if old.is_some_and(|old| !lists::duplicates(old, schema).is_empty()) {
        return Vec::new();
    }
    lists::duplicates(object, schema)
}

#[async_trait]
impl Strategy for Custom {
    fn name_rule(&self) -> NameRule {
        NameRule::DnsSubdomain
    }

    fn columns(&self) -> Vec<Column> {
        let mut columns = vec![Column::object_name()];
        if self.columns.is_empty() {
            columns.push(Column::age());
        }
        columns.extend(self.columns.iter().map(|own| own.column.clone()));
        columns
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let mut cells = vec![object["metadata"]["name"].clone()];
        if self.columns.is_empty() {
            cells.push(age(object, now));
        }
        cells.extend(self.columns.iter().map(|own| cell(own, object, now)));
        cells
    }

    async fn prepare_for_create(&self, cx: &RequestContext<'_>, _object: &mut Value) -> Result<(), Status> {
        if cx.resource.definition.as_ref().is_some_and(|definition| definition.terminating) {
            let why = "create not allowed while custom resource definition is terminating";
            return Err(forbidden(&cx.resource.gvr.group, &cx.resource.gvr.resource, cx.name, why));
        }
        Ok(())
    }

    fn custom_selectable_fields(&self) -> &[String] {
        &self.selectable
    }

    fn allows_unconditional_update(&self) -> bool {
        false
    }
}

fn cell(own: &PrinterColumn, object: &Value, now: Timestamp) -> Value {
    let found = own.path.as_ref().map(|path| path.find(object)).unwrap_or_default();
    let Some(first) = found.first() else { return Value::Null };
    match own.column.kind.as_str() {
        "date" => match first.as_str().and_then(|text| text.parse().ok()) {
            Some(then) => Value::String(human_duration(then, now)),
            None => Value::String("<unknown>".to_owned()),
        },
        "string" => {
            let texts: Vec<String> = found
                .iter()
                .map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned))
                .collect();
            Value::String(texts.join(","))
        }
        _ => (*first).clone(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn columns_follow_the_definition() {
        let custom = Custom::of_version(&json!({ "additionalPrinterColumns": [
            { "name": "Ready", "type": "string", "jsonPath": ".status.conditions[?(@.type==\"Ready\")].status" },
            { "name": "Nodes", "type": "integer", "jsonPath": ".status.nodes", "priority": 1 },
            { "name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp" },
        ] }));
        let object = json!({
            "metadata": { "name": "a", "creationTimestamp": "1970-01-01T00:00:00Z" },
            "status": { "nodes": 3, "conditions": [{ "type": "X", "status": "False" }, { "type": "Ready", "status": "True" }] },
        });
        let now = Timestamp::from_second(60).unwrap();
        assert_eq!(custom.cells(&object, now), [json!("a"), json!("True"), json!(3), json!("60s")]);
        assert_eq!(custom.columns()[2].priority, 1);
        assert_eq!(custom.cells(&json!({ "metadata": { "name": "b" } }), now)[1], Value::Null);
    }

    #[test]
    fn a_kind_without_columns_shows_its_age() {
        let custom = Custom::of_version(&json!({}));
        let names: Vec<String> = custom.columns().into_iter().map(|column| column.name).collect();
        assert_eq!(names, ["Name", "Age"]);
    }
}
