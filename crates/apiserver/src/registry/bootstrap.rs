//! Objects that have to be there when the server is ready.

mod objects;

use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use kube::Client;
use serde_json::Value;

/// What start-up objects depend on.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The service network, `10.96.0.0/16`; `None`: no services are served.
    pub service_cidr: Option<String>,
    /// Where clients inside the cluster reach this server; `None`: nowhere.
    pub advertise_address: Option<std::net::SocketAddr>,
    /// The certificate authority clients trust, PEM; empty without TLS.
    pub certificate_authority: String,
    /// The authority of front proxies, which aggregated API servers trust, PEM; empty without one.
    pub front_proxy_authority: String,
    /// Whether this is a cluster (nodes, pods, services) or a control plane only.
    pub cluster: bool,
}

/// Requests under way at once. The store commits what arrives together as one; more than this gains nothing.
const CONCURRENCY: usize = 64;

/// What is done about an object that exists already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Existing {
    /// It stays as it is.
    Keep,
    /// Missing rules, subjects and labels are added.
    AddMissing,
    /// Its contents follow this server's facts.
    Follow,
}

/// One object to have: where it lives and what is wanted.
#[derive(Debug)]
struct Wanted {
    /// `/api/v1/namespaces/default/services`.
    collection: String,
    object: Value,
    existing: Existing,
}

/// Creates what is missing. Idempotent; runs at every start, through the server's own front door as
/// `system:apiserver`, before readiness.
///
/// # Errors
/// What the server answered; start-up fails with it.
pub async fn ensure(client: &Client, facts: &Facts) -> Result<(), kube::Error> {
    // Namespaces first: nothing is created in one that is not there.
    ensure_all(client, objects::namespaces(facts)).await?;
    ensure_all(client, objects::all(facts)).await
}

async fn ensure_all(client: &Client, wanted: Vec<Wanted>) -> Result<(), kube::Error> {
    stream::iter(wanted)
        .map(|wanted| async move { ensure_one(client, &wanted).await })
        .buffer_unordered(CONCURRENCY)
        .try_collect::<Vec<()>>()
        .await
        .map(drop)
}

async fn ensure_one(client: &Client, wanted: &Wanted) -> Result<(), kube::Error> {
    // Creating first makes the first start, which waits for nothing else, one request an object.
    match send(client, http::Method::POST, &wanted.collection, &wanted.object).await {
        Err(kube::Error::Api(status)) if status.reason == "AlreadyExists" => {}
        Err(error) => return Err(error),
        Ok(_) => return Ok(()),
    }
    if wanted.existing == Existing::Keep {
        return Ok(());
    }
    let name = wanted.object["metadata"]["name"].as_str().unwrap_or_default();
    let path = format!("{}/{name}", wanted.collection);
    let existing = send(client, http::Method::GET, &path, &Value::Null).await?;
    let changed = match wanted.existing {
        Existing::AddMissing => access::bootstrap::reconciled(&existing, &wanted.object),
        _ => objects::followed(&existing, &wanted.object),
    };
    let Some(changed) = changed else { return Ok(()) };
    if changed["metadata"]["uid"].is_null() {
        // A binding to another role: a roleRef cannot change.
        send(client, http::Method::DELETE, &path, &Value::Null).await?;
        return send(client, http::Method::POST, &wanted.collection, &changed).await.map(drop);
    }
    match send(client, http::Method::PUT, &path, &changed).await {
        // Another replica is at the same: its write holds what ours would.
        Err(kube::Error::Api(status)) if status.reason == "Conflict" => Ok(()),
        answer => answer.map(drop),
    }
}

async fn send(client: &Client, method: http::Method, path: &str, body: &Value) -> Result<Value, kube::Error> {
    let content = if body.is_null() {
        Vec::new()
    } else {
        serde_json::to_vec(body).map_err(kube::Error::SerdeError)?
    };
    let request = http::Request::builder()
        .method(method)
        .uri(path)
        .header(http::header::CONTENT_TYPE, "application/json")
        .body(content)
        .map_err(kube::Error::HttpError)?;
    client.request(request).await
}
