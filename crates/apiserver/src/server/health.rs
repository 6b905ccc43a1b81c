//! `/livez`, `/readyz` and `/healthz`: named checks, one by one or together (upstream `pkg/server/healthz`).

use std::time::Duration;

use bytes::Bytes;
use http::Response;
use kube_objects::Status;

use super::Server;
use crate::extension::Body;
use crate::http::response;
use crate::registry::objects::not_served;
use crate::request_info::RequestInfo;

/// How long the store may take to answer.
const STORE_LIMIT: Duration = Duration::from_secs(2);

/// One check: its name, and what is wrong.
struct Check {
    name: &'static str,
    problem: Option<String>,
}

/// Answers a path of the three roots.
pub(super) async fn serve(server: &Server, info: &RequestInfo) -> Result<Response<Body>, Status> {
    let mut parts = info.path.trim_matches('/').split('/');
    let root = parts.next().unwrap_or_default();
    let one = parts.collect::<Vec<_>>().join("/");
    let checks = checks(server, root).await;
    if !one.is_empty() {
        let check = checks.iter().find(|check| check.name == one).ok_or_else(not_served)?;
        return Ok(match &check.problem {
            None => text(200, "ok".to_owned()),
            Some(problem) => text(500, format!("internal server error: {problem}\n")),
        });
    }
    let excluded: Vec<&str> = info.query.all("exclude").collect();
    let verbose = info.query.get("verbose").is_some();
    Ok(report(root, &checks, &excluded, verbose))
}

async fn checks(server: &Server, root: &str) -> Vec<Check> {
    let ok = |name| Check { name, problem: None };
    let unless =
        |name, holds: bool, problem: &str| Check { name, problem: (!holds).then(|| problem.to_owned()) };
    let store = tokio::time::timeout(STORE_LIMIT, server.objects.store.status()).await;
    let etcd = match store {
        Ok(Ok(_)) => None,
        Ok(Err(error)) => Some(error.to_string()),
        Err(_) => Some("the store did not answer in time".to_owned()),
    };
    let started = server.ready.load(std::sync::atomic::Ordering::Acquire);
    let mut checks = vec![ok("ping"), ok("log"), Check { name: "etcd", problem: etcd }];
    if root == "readyz" {
        checks.push(unless("informer-sync", started, "not finished"));
    }
    if root != "livez" {
        for name in [
            "poststarthook/start-system-namespaces-controller",
            "poststarthook/rbac/bootstrap-roles",
            "poststarthook/scheduling/bootstrap-system-priority-classes",
            "poststarthook/priority-and-fairness-config-producer",
        ] {
            checks.push(unless(name, started, "not finished"));
        }
    }
    if root == "readyz" {
        checks.push(unless("shutdown", !server.shutdown.is_cancelled(), "process is shutting down"));
    }
    checks
}

/// All checks of a root together, as upstream prints them: reasons are not told here, anybody may read this.
fn report(root: &str, checks: &[Check], excluded: &[&str], verbose: bool) -> Response<Body> {
    let mut lines = String::new();
    let mut failed = false;
    for Check { name, problem } in checks {
        if excluded.contains(name) {
            lines.push_str(&format!("[+]{name} excluded: ok\n"));
        } else if problem.is_some() {
            lines.push_str(&format!("[-]{name} failed: reason withheld\n"));
            failed = true;
        } else {
            lines.push_str(&format!("[+]{name} ok\n"));
        }
    }
    let unknown: Vec<String> = excluded
        .iter()
        .filter(|name| checks.iter().all(|check| check.name != **name))
        .map(|name| format!("{name:?}"))
        .collect();
    if !unknown.is_empty() {
        let names = unknown.join(", ");
        lines.push_str(&format!("warn: some health checks cannot be excluded: no matches for {names}\n"));
    }
    if failed {
        return text(500, format!("{lines}{root} check failed\n"));
    }
    if verbose { text(200, format!("{lines}{root} check passed\n")) } else { text(200, "ok".to_owned()) }
}

fn text(code: u16, text: String) -> Response<Body> {
    let mut answer = response::plain(code, "text/plain; charset=utf-8", Bytes::from(text));
    let nosniff = http::HeaderValue::from_static("nosniff");
    answer.headers_mut().insert(http::header::X_CONTENT_TYPE_OPTIONS, nosniff);
    answer
}
