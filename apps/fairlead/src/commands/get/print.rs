//! One list of many clusters' answers.

use serde_json::{Value, json};

use super::fetch::Found;
use crate::arguments::Format;
use crate::failure::Failure;
use crate::output;

/// Says of an object which cluster it is in.
const ANNOTATION: &str = "fleet.fairlead.dev/cluster";

pub(super) fn print(
    format: Format,
    kind: &str,
    found: &[(String, Found)],
    everywhere: bool,
) -> Result<(), Failure> {
    match format {
        Format::Table | Format::Wide => {
            let rows = rows(found, everywhere, format == Format::Wide);
            if rows.len() < 2 {
                output::progress(&format!("no {kind} found"));
                return Ok(());
            }
            output::data(&workflow::report::columns(&rows))
        }
        Format::Name => {
            let lines = found.iter().flat_map(|(cluster, found)| {
                found.items.iter().map(move |item| {
                    let kind = item["kind"].as_str().unwrap_or_default().to_ascii_lowercase();
                    let name = item["metadata"]["name"].as_str().unwrap_or_default();
                    format!("{cluster} {kind}/{name}\n")
                })
            });
            output::data(&lines.collect::<String>())
        }
        Format::Json => {
            let text = serde_json::to_string_pretty(&list(found)).map_err(anyhow::Error::new)?;
            output::data(&(text + "\n"))
        }
        Format::Yaml => output::data(&output::yaml(&list(found))?),
    }
}

fn list(found: &[(String, Found)]) -> Value {
    let items = found.iter().flat_map(|(cluster, found)| {
        found.items.iter().map(move |item| {
            let mut item = item.clone();
            if let Some(metadata) = item["metadata"].as_object_mut() {
                let annotations = metadata.entry("annotations").or_insert_with(|| json!({}));
                annotations[ANNOTATION] = json!(cluster);
            }
            item
        })
    });
    json!({"apiVersion": "v1", "kind": "List", "metadata": {}, "items": items.collect::<Vec<Value>>()})
}

/// The rows, by the columns of the first cluster that has any: clusters of other versions may have others, which are
/// matched by name.
fn rows(found: &[(String, Found)], everywhere: bool, wide: bool) -> Vec<Vec<String>> {
    let shown = |column: &&Value| wide || column["priority"].as_i64().unwrap_or(0) == 0;
    let name = |column: &Value| column["name"].as_str().unwrap_or_default().to_owned();
    let first = found.iter().find(|(_, found)| !found.columns.is_empty());
    let columns: Vec<String> =
        first.map(|(_, found)| found.columns.iter().filter(shown).map(name).collect()).unwrap_or_default();
    let namespaces = everywhere && found.iter().any(|(_, found)| found.namespaced);
    let mut header = vec!["CLUSTER".to_owned()];
    if namespaces {
        header.push("NAMESPACE".to_owned());
    }
    header.extend(columns.iter().map(|column| column.to_uppercase()));
    let mut rows = vec![header];
    for (cluster, found) in found {
        let own: Vec<String> = found.columns.iter().map(name).collect();
        let places: Vec<Option<usize>> =
            columns.iter().map(|column| own.iter().position(|own| own == column)).collect();
        for item in &found.items {
            let mut row = vec![cluster.clone()];
            if namespaces {
                let namespace = item["object"]["metadata"]["namespace"].as_str().unwrap_or_default();
                row.push(namespace.to_owned());
            }
            row.extend(
                places.iter().map(|place| place.map_or_else(String::new, |at| cell(&item["cells"][at]))),
            );
            rows.push(row);
        }
    }
    rows
}

fn cell(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(columns: &[(&str, i64)], cells: &[Value]) -> Found {
        let columns = columns.iter().map(|(name, priority)| json!({"name": name, "priority": priority}));
        let items = vec![json!({"cells": cells, "object": {"metadata": {"namespace": "team"}}})];
        Found { columns: columns.collect(), items, namespaced: true }
    }

    #[test]
    fn clusters_of_different_columns_share_a_table() {
        let found = [
            (
                "dev".to_owned(),
                answer(
                    &[("Name", 0), ("Restarts", 0), ("IP", 1)],
                    &[json!("a"), json!(3), json!("10.0.0.1")],
                ),
            ),
            ("prod".to_owned(), answer(&[("Name", 0), ("IP", 1)], &[json!("b"), json!("10.0.0.2")])),
        ];
        assert_eq!(
            rows(&found, false, false),
            [vec!["CLUSTER", "NAME", "RESTARTS"], vec!["dev", "a", "3"], vec!["prod", "b", ""]]
        );
        assert_eq!(rows(&found, true, true)[2], ["prod", "team", "b", "", "10.0.0.2"]);
    }
}
