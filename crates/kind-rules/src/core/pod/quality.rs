//! The quality-of-service class.

use std::collections::BTreeMap;

use api_machinery::quantity::Quantity;
use serde_json::Value;

use crate::json::{entries, given, list};
use crate::pod_spec::amount;

/// `Guaranteed`: every container (or the pod as a whole) limits cpu and memory and requests as much; `BestEffort`: none
/// says anything; `Burstable`: the rest.
#[must_use]
pub fn quality_of_service(spec: &Value) -> &'static str {
    let (mut requests, mut limits) = (BTreeMap::new(), BTreeMap::new());
    let mut guaranteed = true;
    if let Some(resources) = given(spec, "resources") {
        collect(&mut requests, resources, "requests");
        let some = entries(resources, "limits").next().is_some();
        guaranteed = collect(&mut limits, resources, "limits") || !some;
    } else {
        for container in list(spec, "containers").iter().chain(list(spec, "initContainers")) {
            collect(&mut requests, &container["resources"], "requests");
            guaranteed &= collect(&mut limits, &container["resources"], "limits");
        }
    }
    if requests.is_empty() && limits.is_empty() {
        "BestEffort"
    } else if guaranteed && requests == limits {
        "Guaranteed"
    } else {
        "Burstable"
    }
}

/// Adds up cpu and memory; answers whether both are there.
fn collect(sums: &mut BTreeMap<&'static str, Quantity>, resources: &Value, kind: &str) -> bool {
    let mut both = true;
    for name in ["cpu", "memory"] {
        let given = resources[kind].get(name).and_then(amount).filter(|amount| *amount > Quantity::ZERO);
        both &= given.is_some();
        if let Some(more) = given {
            let sum = sums.get(name).map_or(more, |own| own.plus(&more));
            sums.insert(name, sum);
        }
    }
    both
}
