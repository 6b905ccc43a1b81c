//! `flowcontrol.apiserver.k8s.io`.

mod flow_schema;
mod priority_level;

use std::sync::OnceLock;

use serde_json::Value;

pub use flow_schema::FLOW_SCHEMA;
pub use priority_level::PRIORITY_LEVEL_CONFIGURATION;

static BOOTSTRAP: &str = include_str!("../tables/flowcontrol_bootstrap.json");

/// The flow schemas and priority levels a server is born with, priority levels first: the mandatory ones
/// ([`is_mandatory`]) and those that upstream suggests. Their annotation `apf.kubernetes.io/autoupdate-spec` says
/// whether later starts bring their specs back.
#[must_use]
pub fn bootstrap_objects() -> &'static [Value] {
    static PARSED: OnceLock<Vec<Value>> = OnceLock::new();
    // A test proves that the committed table parses; a broken one would suggest nothing rather than panic.
    PARSED.get_or_init(|| serde_json::from_str(BOOTSTRAP).unwrap_or_default())
}

/// Whether a flow schema or priority level of this name has a fixed spec.
#[must_use]
pub fn is_mandatory(name: &str) -> bool {
    matches!(name, "exempt" | "catch-all")
}

/// The fixed spec of a mandatory object.
fn mandatory_spec(kind: &str, name: &str) -> Option<&'static Value> {
    let found = bootstrap_objects()
        .iter()
        .find(|object| object["kind"] == kind && object["metadata"]["name"] == name && is_mandatory(name))?;
    found.get("spec")
}

/// Conditions of both kinds' status: types are unique and there.
fn conditions(problems: &mut crate::problems::Problems, object: &Value) {
    let at = crate::path::Path::new("status.conditions");
    let conditions = crate::json::list(&object["status"], "conditions");
    for (index, condition) in conditions.iter().enumerate() {
        let here = at.index(index);
        let kind = crate::json::text(condition, "type");
        if conditions[..index].iter().any(|earlier| crate::json::text(earlier, "type") == kind) {
            problems.duplicate(here.field("type"), kind);
        }
        if kind.is_empty() {
            problems.required(here.field("type"), "");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::findings;

    #[test]
    fn what_a_server_is_born_with_is_sound() {
        let all: Vec<Value> = serde_json::from_str(BOOTSTRAP).unwrap();
        assert_eq!(all.len(), 19);
        for object in &all {
            let rules =
                if object["kind"] == "FlowSchema" { &FLOW_SCHEMA } else { &PRIORITY_LEVEL_CONFIGURATION };
            let mut completed = object.clone();
            (rules.defaults)(&mut completed);
            assert_eq!(&completed, object);
            assert_eq!(findings(rules, object), Vec::<String>::new(), "{}", object["metadata"]["name"]);
        }
    }
}
