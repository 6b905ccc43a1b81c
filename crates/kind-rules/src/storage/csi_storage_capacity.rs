//! `CSIStorageCapacity`.

use api_machinery::names;
use api_machinery::quantity::Quantity;
use serde_json::Value;

use crate::checks::{deprecated_node_label, each, selector, selector_is_sound};
use crate::columns::Column;
use crate::json::{entries, list, text};
use crate::path::Path;
use crate::problems::{IMMUTABLE, NOT_NEGATIVE, Problems};
use crate::rules::KindRules;

/// `storage.k8s.io/v1.CSIStorageCapacity`.
pub const CSI_STORAGE_CAPACITY: KindRules = KindRules {
    validate: |problems, object| validate(problems, object, false),
    validates_updates: false,
    validate_update: |problems, object, old| {
        validate(problems, object, !selector_is_sound(&old["nodeTopology"]));
        if object.get("nodeTopology") != old.get("nodeTopology") {
            problems.invalid("nodeTopology", &object["nodeTopology"], IMMUTABLE);
        }
        let class = text(object, "storageClassName");
        if class != text(old, "storageClassName") {
            problems.invalid("storageClassName", class, IMMUTABLE);
        }
    },
    unconditional_update: false,
    warnings: |object, _| {
        let topology = &object["nodeTopology"];
        let expressions = list(topology, "matchExpressions").iter().enumerate().filter_map(|(index, own)| {
            let key = text(own, "key");
            let why = deprecated_node_label(key)?;
            Some(format!("nodeTopology.matchExpressions[{index}].key: {key} is {why}"))
        });
        let labels = entries(topology, "matchLabels").filter_map(|(key, _)| {
            Some(format!("nodeTopology.matchLabels.{key}: {}", deprecated_node_label(key)?))
        });
        expressions.chain(labels).collect()
    },
    // Upstream has no columns of its own for it.
    columns: || vec![Column::object_name(), Column::new("Created At").of("date")],
    cells: |object, _| vec![object["metadata"]["creationTimestamp"].clone()],
    ..KindRules::NEW
};

fn validate(problems: &mut Problems, object: &Value, lenient: bool) {
    selector(problems, &Path::new("nodeTopology"), &object["nodeTopology"], lenient);
    let class = text(object, "storageClassName");
    each(problems, "storageClassName", class, names::dns1123_subdomain(class));
    let capacity = text(object, "capacity");
    if capacity.parse::<Quantity>().is_ok_and(|capacity| capacity.is_negative()) {
        problems.invalid("capacity", capacity, NOT_NEGATIVE);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::{findings, update_findings};

    #[test]
    fn where_capacity_is_stays() {
        let of = |class: &str, capacity: &str| json!({"storageClassName": class, "capacity": capacity});
        assert_eq!(
            findings(&CSI_STORAGE_CAPACITY, &of("a", "-1Gi")),
            ["capacity: Invalid value: \"-1Gi\": must be greater than or equal to 0"]
        );
        assert_eq!(
            update_findings(&CSI_STORAGE_CAPACITY, &of("b", "1Gi"), &of("a", "1Gi")),
            ["storageClassName: Invalid value: \"b\": field is immutable"]
        );
    }
}
