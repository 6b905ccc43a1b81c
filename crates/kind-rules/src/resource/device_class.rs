//! `DeviceClass`.

use super::{CONFIG_MAX, configuration, items, selectors};
use crate::checks::{count_generation, first_generation};
use crate::names;
use crate::path::Path;
use crate::problems::Problems;
use crate::rules::KindRules;
use serde_json::Value;

/// `resource.k8s.io/v1.DeviceClass`.
pub const DEVICE_CLASS: KindRules = KindRules {
    prepare_create: first_generation,
    prepare_update: |object, old| count_generation(object, old, "spec"),
    validate: |problems, object| validate(problems, object, None),
    validates_updates: false,
    validate_update: |problems, object, old| validate(problems, object, Some(old)),
    ..KindRules::NEW
};

fn validate(problems: &mut Problems, object: &Value, old: Option<&Value>) {
    let (spec, at) = (&object["spec"], Path::new("spec"));
    let stored = old.is_some_and(|old| old["spec"].get("config") == spec.get("config"));
    selectors(problems, &at, spec);
    for (index, config) in items(problems, &at, spec, "config", CONFIG_MAX).iter().enumerate() {
        let all = at.field("config");
        configuration(problems, &all.index(index), config, stored);
    }
    if let Some(name) = spec["extendedResourceName"].as_str().filter(|name| !is_extended(name)) {
        problems.invalid(at.field("extendedResourceName"), name, "must be a valid extended resource name");
    }
}

/// Of a domain that is not Kubernetes' own, and fit to be quoted in a quota.
fn is_extended(name: &str) -> bool {
    name.contains('/')
        && !name.contains("kubernetes.io/")
        && !name.starts_with("requests.")
        && names::is_qualified(&format!("requests.{name}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::findings;

    #[test]
    fn bad_classes_are_refused_where_upstream_refuses_them() {
        for (spec, wanted) in [
            (json!({"selectors": [{}]}), "spec.selectors[0].cel: Required value"),
            (json!({"config": [{}]}), "spec.config[0].opaque: Required value"),
            (
                json!({"config": [{"opaque": {"driver": "d", "parameters": 1}}]}),
                "spec.config[0].opaque.parameters: Invalid value: \"<value omitted>\": must be a valid JSON object",
            ),
            (
                json!({"extendedResourceName": "cpu"}),
                "spec.extendedResourceName: Invalid value: \"cpu\": must be a valid extended resource name",
            ),
        ] {
            assert_eq!(findings(&DEVICE_CLASS, &json!({"spec": spec})), [wanted]);
        }
    }
}
