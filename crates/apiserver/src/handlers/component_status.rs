//! ComponentStatuses: how the parts of the control plane are, worked out for each request.
//!
//! Upstream asks the health endpoints of a scheduler and a controller manager on this machine, and each etcd. Here they may
//! run in any process, so that their leader's lease says whether one works, unless they are parts of this very process;
//! the store answers for itself.

use bytes::Bytes;
use http::Response;
use jiff::{SignedDuration, Timestamp};
use kube_objects::Status;
use serde_json::{Value, json};

use super::view::Include;
use super::{Call, list};
use crate::extension::Body;
use crate::registry::strategy::Objects;
use crate::selector::Selector;
use crate::watch_cache::CachedObject;

/// Names of the parts and of their leases in `kube-system`.
const LED: [(&str, &str); 2] =
    [("scheduler", "kube-scheduler"), ("controller-manager", "kube-controller-manager")];

/// Serves one.
pub(super) async fn get(call: &Call) -> Result<Response<Body>, Status> {
    let name = &call.path.name;
    let all = all(call).await?;
    let found = all.into_iter().find(|own| own["metadata"]["name"] == **name);
    // Upstream names the singular here, and only here.
    let found = found.ok_or_else(|| Status::not_found("", "componentstatus", name))?;
    Ok(call.answer(200, found))
}

/// Serves all of them.
pub(super) async fn list(call: &Call) -> Result<Response<Body>, Status> {
    let include = Include::of(call.query.get("includeObject"))?;
    let selector = Selector::parse(
        &call.resource,
        call.query.get("labelSelector").unwrap_or_default(),
        call.query.get("fieldSelector").unwrap_or_default(),
    )?;
    let mut wanted = all(call).await?;
    wanted.retain(|own| {
        let bytes = Bytes::from(own.to_string());
        CachedObject::of_tree(&call.resource, &bytes, own).is_some_and(|own| selector.matches(&own))
    });
    list::answer(call, json!({}), wanted.into_iter(), include)
}

async fn all(call: &Call) -> Result<Vec<Value>, Status> {
    let objects = &call.server.objects;
    let mut all = Vec::new();
    for (name, lease) in LED {
        let health = if call.server.leads_alone {
            // A part that ends takes its process with it.
            Ok(())
        } else {
            let found = objects.get("coordination.k8s.io", "leases", "kube-system", lease).await?;
            led(found.as_deref(), lease, call.now)
        };
        all.push(document(name, health));
    }
    let store = objects.store.status().await;
    all.push(document("etcd-0", store.map(drop).map_err(|error| error.to_string())));
    Ok(all)
}

/// Whether somebody leads; if not, why.
fn led(lease: Option<&Value>, name: &str, now: Timestamp) -> Result<(), String> {
    let spec =
        lease.map(|lease| &lease["spec"]).ok_or_else(|| format!("lease kube-system/{name} not found"))?;
    if spec["holderIdentity"].as_str().unwrap_or_default().is_empty() {
        return Err(format!("nobody holds lease kube-system/{name}"));
    }
    let renewed: Option<Timestamp> = spec["renewTime"].as_str().and_then(|time| time.parse().ok());
    let renewed = renewed.ok_or_else(|| format!("lease kube-system/{name} was never renewed"))?;
    let lasts = SignedDuration::from_secs(spec["leaseDurationSeconds"].as_i64().unwrap_or_default());
    if now.duration_since(renewed) > lasts {
        return Err(format!("lease kube-system/{name} was last renewed at {renewed}"));
    }
    Ok(())
}

fn document(name: &str, health: Result<(), String>) -> Value {
    let (status, message) = match health {
        Ok(()) => ("True", "ok".to_owned()),
        Err(why) => ("False", why),
    };
    json!({
        "apiVersion": "v1", "kind": "ComponentStatus", "metadata": {"name": name},
        "conditions": [{"type": "Healthy", "status": status, "message": message}],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_that_is_not_renewed_leads_nobody() {
        let lease = json!({"spec": {"holderIdentity": "a", "leaseDurationSeconds": 15,
            "renewTime": "2026-01-01T00:00:00.000000Z"}});
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        assert_eq!(led(Some(&lease), "x", at("2026-01-01T00:00:15Z")), Ok(()));
        let late = led(Some(&lease), "x", at("2026-01-01T00:00:16Z"));
        assert_eq!(late, Err("lease kube-system/x was last renewed at 2026-01-01T00:00:00Z".to_owned()));
        assert!(led(None, "x", at("2026-01-01T00:00:00Z")).is_err());
        assert!(led(Some(&json!({"spec": {}})), "x", at("2026-01-01T00:00:00Z")).is_err());
    }
}
