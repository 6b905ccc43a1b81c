//! What claims of devices cost (upstream `pkg/quota/v1/evaluator/core/resource_claims.go`).

use std::collections::BTreeMap;

use serde_json::Value;

use crate::json::{given, list, text};
use crate::resource_list::ResourceList;

/// How many claims.
pub(super) const CLAIMS: &str = "count/resourceclaims.resource.k8s.io";
/// After a device class's name: how many of its devices.
pub(super) const PER_CLASS: &str = ".deviceclass.resource.k8s.io/devices";
/// Devices that one claim is allocated at most: what a request for all of a class may come to.
const MOST_DEVICES: i64 = 32;

/// A claim and the devices it may be given. Of alternatives each class counts its largest.
pub(super) fn usage(claim: &Value) -> ResourceList {
    let mut usage = ResourceList::count(CLAIMS, 1);
    for request in list(&claim["spec"]["devices"], "requests") {
        let mut largest: BTreeMap<&str, i64> = BTreeMap::new();
        let exactly = given(request, "exactly");
        let alternatives = list(request, "firstAvailable");
        let asked = if alternatives.is_empty() {
            exactly.map(std::slice::from_ref).unwrap_or_default()
        } else {
            alternatives
        };
        for one in asked {
            let most = largest.entry(text(one, "deviceClassName")).or_default();
            *most = (*most).max(devices(one));
        }
        for (class, count) in largest {
            usage.add(&ResourceList::count(format!("{class}{PER_CLASS}"), count));
        }
    }
    usage
}

/// How many devices a request comes to; a mode that is not known counts nothing.
fn devices(request: &Value) -> i64 {
    match text(request, "allocationMode") {
        "" | "ExactCount" => request["count"].as_i64().unwrap_or(1),
        "All" => MOST_DEVICES,
        _ => 0,
    }
}
