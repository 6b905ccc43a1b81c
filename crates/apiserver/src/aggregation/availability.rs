//! Which aggregated API servers answer (upstream `controllers/status/remote`), and what they serve.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::{BoxFuture, join_all, select_all};
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use jiff::Timestamp;
use kind_rules::json::{list, text};
use serde_json::{Value, json};

use super::remote::Known;
use super::{GROUP, RESOURCE, Remote, local, merge, swagger};
use crate::handlers::create::seconds;
use crate::registry::objects::ObjectAccess;
use crate::registry::strategy::Objects as _;
use crate::server::Server;

/// How often everything is looked at when nothing changes.
const AGAIN: Duration = Duration::from_secs(30);
/// How often while a server does not answer.
const RETRY: Duration = Duration::from_secs(2);
/// How long one check may take.
const CHECK_LIMIT: Duration = Duration::from_secs(6);
/// Attempts of a check, at once: one of several endpoints may be at fault.
const ATTEMPTS: usize = 5;
/// Changes within this time are looked at together.
const SETTLE: Duration = Duration::from_millis(50);

/// What an answer is asked for as: the aggregated form where the server knows it.
const DISCOVERY: &str =
    "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json";

/// A condition to be.
#[derive(Debug, PartialEq, Eq)]
struct Verdict {
    status: &'static str,
    reason: &'static str,
    message: String,
}

fn verdict(status: &'static str, reason: &'static str, message: impl Into<String>) -> Verdict {
    Verdict { status, reason, message: message.into() }
}

/// Follows APIServices and what they depend on until the server stops. Boxed, so that who spawns it need not prove its
/// future.
pub(crate) fn follow(server: Arc<Server>) -> BoxFuture<'static, ()> {
    Box::pin(async move {
        let stop = server.shutdown.clone().cancelled_owned();
        tokio::select! {
            () = stop => {}
            () = run(server) => {}
        }
    })
}

fn run(server: Arc<Server>) -> BoxFuture<'static, ()> {
    Box::pin(async move {
        let objects = Arc::clone(&server.objects);
        loop {
            // Subscribed before looking, so that no change falls between.
            let changed = changed(&objects);
            if let Err(error) = local::register(Arc::clone(&objects), server.kinds.catalogue()).await {
                tracing::warn!(%error, "failed to register this server's own APIServices");
            }
            server.aggregation.refresh(&objects);
            let mut settling = Vec::new();
            for remote in server.aggregation.all().iter() {
                settling.push(settle(Arc::clone(&objects), Arc::clone(remote)));
            }
            let failing = join_all(settling).await.contains(&false);
            server.aggregation.refresh(&objects);
            let pause = if failing { RETRY } else { AGAIN };
            let _ = tokio::time::timeout(pause, changed).await;
            tokio::time::sleep(SETTLE).await;
        }
    })
}

/// Waits for a change of anything that matters here.
fn changed(objects: &ObjectAccess) -> BoxFuture<'static, ()> {
    let kinds = [
        (GROUP, RESOURCE),
        ("apiextensions.k8s.io", "customresourcedefinitions"),
        ("", "services"),
        ("discovery.k8s.io", "endpointslices"),
    ];
    let mut waits = Vec::new();
    for (group, resource) in kinds {
        let Some(cache) = objects.cache.storage(group, resource) else { continue };
        let (revision, _) = cache.snapshot("", None);
        let Some(mut subscription) = cache.subscribe(revision, Arc::new(|_| true)) else { continue };
        waits.push(async move { drop(subscription.next().await) }.boxed());
    }
    if waits.is_empty() {
        return Box::pin(std::future::pending());
    }
    Box::pin(async move { drop(select_all(waits).await) })
}

/// Checks one and writes its condition; `false` when it should be looked at again soon.
fn settle(objects: Arc<ObjectAccess>, remote: Arc<Remote>) -> BoxFuture<'static, bool> {
    Box::pin(async move {
        let verdict = check(&objects, &remote).await;
        remote.set_available(verdict.status == "True");
        let now = seconds(Timestamp::now());
        let write = |object: &mut Value| Ok(set_condition(object, &verdict, &now));
        if let Err(error) = objects.modify(GROUP, RESOURCE, "", &remote.name, &write).await {
            tracing::warn!(%error, name = remote.name, "failed to write the condition of an APIService");
            return false;
        }
        verdict.status == "True"
    })
}

async fn check(objects: &ObjectAccess, remote: &Arc<Remote>) -> Verdict {
    let (service, namespace) = (&remote.service, &remote.namespace);
    match objects.get("", "services", namespace, service).await {
        Ok(Some(found)) => {
            if let Some(problem) = check_service(objects, remote, &found).await {
                return problem;
            }
        }
        Ok(None) => {
            let message = format!("service/{service} in {namespace:?} is not present");
            return verdict("False", "ServiceNotFound", message);
        }
        Err(error) => {
            let message = format!("service/{service} in {namespace:?} cannot be checked due to: {error}");
            return verdict("Unknown", "ServiceAccessError", message);
        }
    }
    match discover(objects, remote).await {
        Ok(()) => verdict("True", "Passed", "all checks passed"),
        Err(why) => verdict("False", "FailedDiscoveryCheck", why),
    }
}

async fn check_service(objects: &ObjectAccess, remote: &Remote, service: &Value) -> Option<Verdict> {
    let kind = text(&service["spec"], "type");
    if !kind.is_empty() && kind != "ClusterIP" {
        return None;
    }
    let (name, namespace, port) = (&remote.service, &remote.namespace, remote.port);
    let found =
        list(&service["spec"], "ports").iter().find(|own| own["port"].as_u64() == Some(u64::from(port)));
    let Some(found) = found else {
        let message = format!("service/{name} in {namespace:?} is not listening on port {port}");
        return Some(verdict("False", "ServicePortError", message));
    };
    let slices = match objects.list("discovery.k8s.io", "endpointslices", namespace).await {
        Ok(slices) => slices,
        Err(error) => {
            let message = format!("service/{name} in {namespace:?} cannot be checked due to: {error}");
            return Some(verdict("Unknown", "EndpointsAccessError", message));
        }
    };
    let label = "kubernetes.io/service-name";
    let own: Vec<&Arc<Value>> =
        slices.iter().filter(|slice| text(&slice["metadata"]["labels"], label) == name).collect();
    if own.is_empty() {
        let message = format!("cannot find endpointslices for service/{name} in {namespace:?}");
        return Some(verdict("False", "EndpointsNotFound", message));
    }
    let port_name = text(found, "name");
    let active = own.iter().any(|slice| {
        list(slice, "endpoints").iter().any(|each| each["conditions"]["ready"].as_bool().unwrap_or(true))
            && list(slice, "ports")
                .iter()
                .any(|port| text(port, "name") == port_name && !port["port"].is_null())
    });
    (!active).then(|| {
        let message = format!(
            "endpointslices for service/{name} in {namespace:?} have no addresses with port name {port_name:?}"
        );
        verdict("False", "MissingEndpoints", message)
    })
}

/// Asks for what it has to serve; notes what it says.
async fn discover(objects: &ObjectAccess, remote: &Arc<Remote>) -> Result<(), String> {
    let root = remote.root();
    let mut attempts = FuturesUnordered::new();
    for _ in 0..ATTEMPTS {
        attempts.push(remote.get(objects, &root, "application/json").boxed());
    }
    let first = async {
        let mut last = String::new();
        while let Some(answered) = attempts.next().await {
            match answered {
                Ok((code, bytes)) if (200..300).contains(&code) => return Ok(bytes),
                Ok((code, _)) => last = format!("bad status from https://{}{root}: {code}", remote.host()),
                Err(why) => last = why,
            }
        }
        Err(format!("failing or missing response from https://{}{root}: {last}", remote.host()))
    };
    let plain = match tokio::time::timeout(CHECK_LIMIT, first).await {
        Ok(answered) => answered?,
        Err(_) => return Err(format!("timed out waiting for https://{}{root}", remote.host())),
    };
    let version = described(objects, remote, &plain).await;
    let index = remote.get(objects, "/openapi/v3", "application/json").await;
    let openapi = index.ok().and_then(|(_, bytes)| {
        let index: Value = serde_json::from_slice(&bytes).ok()?;
        let entry = &index["paths"][root.trim_start_matches('/')]["serverRelativeURL"];
        entry.as_str().map(str::to_owned)
    });
    let swagger = remote.get(objects, "/openapi/v2", "application/json").await;
    let swagger = swagger.ok().and_then(|(_, bytes)| {
        let document: Value = serde_json::from_slice(&bytes).ok()?;
        swagger::part(&document, &root)
    });
    remote.known.store(Arc::new(Known { version, openapi, swagger }));
    Ok(())
}

/// Its version in the aggregated form: as it says itself, or made from the plain document.
async fn described(objects: &ObjectAccess, remote: &Remote, plain: &Bytes) -> Value {
    let all = remote.get(objects, "/apis", DISCOVERY).await;
    let all: Option<Value> = all.ok().and_then(|(_, bytes)| serde_json::from_slice(&bytes).ok());
    let own = all.as_ref().filter(|all| all["kind"] == "APIGroupDiscoveryList").and_then(|all| {
        let group = list(all, "items").iter().find(|item| text(&item["metadata"], "name") == remote.group)?;
        list(group, "versions").iter().find(|version| text(version, "version") == remote.version).cloned()
    });
    own.unwrap_or_else(|| {
        let plain: Value = serde_json::from_slice(plain).unwrap_or_default();
        merge::version_of(&remote.group, &remote.version, &plain)
    })
}

/// Writes the condition `Available`; `false` when it is there already.
fn set_condition(object: &mut Value, verdict: &Verdict, now: &str) -> bool {
    let wanted = json!({"type": "Available", "status": verdict.status, "lastTransitionTime": now,
        "reason": verdict.reason, "message": verdict.message});
    if !object["status"].is_object() {
        object["status"] = json!({});
    }
    let conditions = &mut object["status"]["conditions"];
    if !conditions.is_array() {
        *conditions = json!([]);
    }
    let Some(conditions) = conditions.as_array_mut() else { return false };
    let Some(own) = conditions.iter_mut().find(|own| own["type"] == "Available") else {
        conditions.push(wanted);
        return true;
    };
    let same = |key: &str| own[key] == wanted[key];
    if same("status") && same("reason") && same("message") {
        return false;
    }
    let since = if same("status") { own["lastTransitionTime"].clone() } else { json!(now) };
    *own = wanted;
    own["lastTransitionTime"] = since;
    true
}

/// The condition of what this server serves itself.
pub(super) fn always_available(object: &mut Value, now: &str) -> bool {
    set_condition(object, &verdict("True", "Local", "Local APIServices are always available"), now)
}
