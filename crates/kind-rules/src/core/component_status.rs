//! ComponentStatus: nothing of it is stored, so that it has columns and no rules.

use serde_json::{Value, json};

use crate::columns::Column;
use crate::rules::KindRules;

/// Its columns (upstream `printComponentStatus`).
pub const RULES: KindRules = KindRules {
    columns: || {
        vec![
            Column::object_name(),
            Column::new("Status").saying("Status of the component conditions"),
            Column::new("Message").saying("Message of the component conditions"),
            Column::new("Error").saying("Error of the component conditions"),
        ]
    },
    cells: |object, _| cells(object),
    ..KindRules::NEW
};

fn cells(object: &Value) -> Vec<Value> {
    let mut conditions = object["conditions"].as_array().into_iter().flatten();
    let Some(healthy) = conditions.find(|condition| condition["type"] == "Healthy") else {
        return vec![json!("Unknown"), json!(""), json!("")];
    };
    let word = if healthy["status"] == "True" { "Healthy" } else { "Unhealthy" };
    let text = |field: &str| json!(healthy[field].as_str().unwrap_or_default());
    vec![json!(word), text("message"), text("error")]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_condition_healthy_is_shown() {
        let object = json!({"conditions": [{"type": "Other", "status": "True"},
            {"type": "Healthy", "status": "False", "message": "away"}]});
        assert_eq!(cells(&object), [json!("Unhealthy"), json!("away"), json!("")]);
        assert_eq!(cells(&json!({})), [json!("Unknown"), json!(""), json!("")]);
    }
}
