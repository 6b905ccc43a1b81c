//! `CSINode`.

use api_machinery::names;
use serde_json::Value;

use super::driver_name;
use crate::checks::{columns, each};
use crate::columns::age;
use crate::json::{list, remove, text};
use crate::path::Path;
use crate::problems::{IMMUTABLE, NOT_NEGATIVE, Verbatim, go_form};
use crate::rules::KindRules;

/// Greatest length of a node's name at a driver, in bytes.
const NODE_ID_MAX: usize = 256;

/// `storage.k8s.io/v1.CSINode`.
pub const CSI_NODE: KindRules = KindRules {
    validate: |problems, object| {
        let at = Path::new("spec.drivers");
        let drivers = list(&object["spec"], "drivers");
        for (index, driver) in drivers.iter().enumerate() {
            let here = at.index(index);
            let (name, id) = (text(driver, "name"), text(driver, "nodeID"));
            driver_name(problems, here.field("name"), name);
            if id.is_empty() {
                problems.required(here.field("nodeID"), "");
            } else if id.len() > NODE_ID_MAX {
                problems.invalid(
                    here.field("nodeID"),
                    id,
                    &format!("must be {NODE_ID_MAX} characters or less"),
                );
            }
            if let Some(count) = driver["allocatable"]["count"].as_i64().filter(|count| *count < 0) {
                problems.invalid(here.field("allocatable").field("count"), count, NOT_NEGATIVE);
            }
            if drivers[..index].iter().any(|earlier| text(earlier, "name") == name) {
                problems.duplicate(here.field("name"), name);
            }
            let keys = list(driver, "topologyKeys");
            for (number, key) in keys.iter().enumerate() {
                let key_text = key.as_str().unwrap_or_default();
                if key_text.is_empty() {
                    problems.required(here, "");
                }
                if keys[..number].contains(key) {
                    problems.duplicate(here, key);
                }
                each(problems, here, key_text, names::qualified_name(key_text));
            }
        }
    },
    validate_update: |problems, object, old| {
        // How many volumes fit may change, nothing else of a driver.
        let fixed = |driver: &Value| {
            let mut driver = driver.clone();
            remove(&mut driver, "allocatable");
            driver
        };
        for before in list(&old["spec"], "drivers") {
            let same = |driver: &&Value| text(driver, "name") == text(before, "name");
            for driver in list(&object["spec"], "drivers").iter().filter(same) {
                if fixed(driver) != fixed(before) {
                    let shown = go_form(
                        &fixed(driver),
                        &[
                            ("name", "Name", "\"\""),
                            ("nodeID", "NodeID", "\"\""),
                            ("topologyKeys", "TopologyKeys", "null"),
                            ("allocatable", "Allocatable", "null"),
                        ],
                    );
                    problems.invalid("spec.drivers", Verbatim(&shown), IMMUTABLE);
                }
            }
        }
    },
    unconditional_update: false,
    columns: || columns(&["Drivers:integer", "Age"]),
    cells: |object, now| vec![list(&object["spec"], "drivers").len().into(), age(object, now)],
    ..KindRules::NEW
};

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::{findings, update_findings};

    #[test]
    fn drivers_have_names_and_stay() {
        let of = |driver: Value| json!({"spec": {"drivers": [driver]}});
        for (driver, wanted) in [
            (json!({"nodeID": "n"}), "spec.drivers[0].name: Required value"),
            (json!({"name": "d"}), "spec.drivers[0].nodeID: Required value"),
            (
                json!({"name": "d", "nodeID": "n", "allocatable": {"count": -1}}),
                "spec.drivers[0].allocatable.count: Invalid value: -1: must be greater than or equal to 0",
            ),
            (
                json!({"name": "d", "nodeID": "n", "topologyKeys": ["a", "a"]}),
                "spec.drivers[0]: Duplicate value: \"a\"",
            ),
        ] {
            assert_eq!(findings(&CSI_NODE, &of(driver)), [wanted]);
        }
        let old = of(json!({"name": "d", "nodeID": "n", "allocatable": {"count": 1}}));
        let more = of(json!({"name": "d", "nodeID": "n", "allocatable": {"count": 2}}));
        let other = of(json!({"name": "d", "nodeID": "m"}));
        assert!(update_findings(&CSI_NODE, &more, &old).is_empty());
        assert_eq!(update_findings(&CSI_NODE, &other, &old).len(), 1);
    }
}
