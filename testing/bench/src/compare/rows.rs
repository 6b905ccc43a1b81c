//! The phases of a comparison, each against one server.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use http::Method;
use serde_json::{Value, json};

use super::table::{Better, Cell};
use super::{Amounts, Cost, Subject, storm};
use crate::wire::{Ask, Connection};
use crate::{objects, usage};

/// Requests in flight at the same time.
const IN_FLIGHT: usize = 32;
/// What a page of a paged list holds: as kubectl asks.
const PAGE: usize = 500;
/// How long a server is left alone before its memory is looked at: its controllers have seen everything then.
const SETTLE: Duration = Duration::from_secs(5);
/// How long a definition may take to be served.
const PATIENCE: Duration = Duration::from_secs(30);
/// The head of a list, with its continue token.
const HEAD_BYTES: usize = 1024;

const JSON: &str = "application/json";
const MERGE: &str = "application/merge-patch+json";
const APPLY: &str = "application/apply-patch+yaml";

/// What is measured together.
#[derive(Clone, Copy, Debug)]
pub(super) enum Phase {
    Create,
    Get,
    List,
    Paged,
    Patch,
    Apply,
    Watch,
    Definitions,
}

impl Phase {
    pub(super) const ALL: [Self; 8] = [
        Self::Create,
        Self::Get,
        Self::List,
        Self::Paged,
        Self::Patch,
        Self::Apply,
        Self::Watch,
        Self::Definitions,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Get => "get",
            Self::List => "list",
            Self::Paged => "paged",
            Self::Patch => "patch",
            Self::Apply => "apply",
            Self::Watch => "watch",
            Self::Definitions => "definitions",
        }
    }

    pub(super) async fn measure(self, subject: &Subject, amounts: &Amounts) -> anyhow::Result<Vec<Cell>> {
        match self {
            Self::Create => create(subject, amounts).await,
            Self::Get => get(subject, amounts).await,
            Self::List => list(subject, amounts).await,
            Self::Paged => paged(subject, amounts).await,
            Self::Patch => patch(subject, amounts).await,
            Self::Apply => apply(subject, amounts).await,
            Self::Watch => storm::measure(subject, amounts.watchers, amounts.events).await,
            Self::Definitions => definitions(subject, amounts).await,
        }
    }
}

fn pods(subject: &Subject) -> String {
    format!("/api/v1/namespaces/{}/pods", subject.namespace)
}

fn pod_name(n: usize) -> String {
    format!("pod-{n:06}")
}

#[expect(clippy::cast_precision_loss, reason = "counts and bytes far below 2^52")]
pub(super) fn number(count: usize) -> f64 {
    count as f64
}

fn mebibytes(bytes: u64) -> f64 {
    number(usize::try_from(bytes).unwrap_or(usize::MAX)) / 1_048_576.0
}

/// Rate, tail and cost of many equal requests.
fn rates(what: &str, times: &mut [Duration], cost: Cost, aim: f64) -> Vec<Cell> {
    times.sort_unstable();
    let count = number(times.len());
    let at = |share: usize| times.get((times.len() * share / 100).min(times.len().saturating_sub(1)));
    let milliseconds = |time: Option<&Duration>| time.map_or(0.0, |time| time.as_secs_f64() * 1e3);
    vec![
        Cell::new(
            format!("{what}, {IN_FLIGHT} in flight"),
            "/s",
            Better::More,
            count / cost.taken.as_secs_f64(),
        )
        .aim(aim),
        Cell::new(format!("{what}: median"), "ms", Better::Less, milliseconds(at(50))),
        Cell::new(format!("{what}: p99"), "ms", Better::Less, milliseconds(at(99))),
        Cell::new(
            format!("{what}: server's CPU each"),
            "us",
            Better::Less,
            cost.cpu.as_secs_f64() * 1e6 / count,
        )
        .aim(8.0),
    ]
}

async fn create(subject: &Subject, amounts: &Amounts) -> anyhow::Result<Vec<Cell>> {
    let path = pods(subject);
    let template = serde_json::to_string(&objects::pod("THE-NAME")?)?;
    let (before, after) = template.split_once("THE-NAME").context("a pod without its name")?;
    let (before, after) = (before.to_owned(), after.to_owned());
    let make = move |n: usize| {
        let body = [&before, &pod_name(n), &after].map(String::as_str).concat();
        Ask::with(Method::POST, path.clone(), JSON, body)
    };
    let driven = subject.target.drive(IN_FLIGHT, amounts.pods, make);
    let (mut times, cost) = subject.cost(driven).await?;
    let mut cells = rates("creates of 2 kB pods", &mut times, cost, 5.0);
    let encoded = subject.target.connect().await?.count(Ask::get(pods(subject))).await?;
    // What creating and listing them took for a moment is not the pods' memory, neither of Go's collector nor of an allocator.
    tokio::time::sleep(Duration::from_secs(amounts.rest)).await;
    let resident = usage::resident(&subject.pids)?;
    let beyond = resident.saturating_sub(subject.idle);
    cells.push(Cell::new("memory when idle", "MiB", Better::Less, mebibytes(subject.idle)).aim(10.0));
    cells.push(
        Cell::new(format!("memory with {} pods", amounts.pods), "MiB", Better::Less, mebibytes(resident))
            .aim(8.0),
    );
    let share = mebibytes(beyond) * 1_048_576.0 / number(encoded);
    cells.push(Cell::new("of it beyond idle, in encoded sizes (at most 1.5)", "x", Better::Less, share));
    Ok(cells)
}

async fn get(subject: &Subject, amounts: &Amounts) -> anyhow::Result<Vec<Cell>> {
    let (path, pods) = (pods(subject), amounts.pods);
    let make = move |n: usize| Ask::get(format!("{path}/{}", pod_name(n * 7 % pods)));
    let (mut times, cost) = subject.cost(subject.target.drive(IN_FLIGHT, amounts.requests, make)).await?;
    Ok(rates("gets of a pod", &mut times, cost, 10.0))
}

/// Milliseconds a list, and the server's.
fn lists(what: &str, rounds: usize, cost: Cost) -> Vec<Cell> {
    let each = |time: Duration| time.as_secs_f64() * 1e3 / number(rounds);
    vec![
        Cell::new(what, "ms", Better::Less, each(cost.taken)).aim(10.0),
        Cell::new(format!("{what}: server's CPU"), "ms", Better::Less, each(cost.cpu)).aim(8.0),
    ]
}

async fn list(subject: &Subject, amounts: &Amounts) -> anyhow::Result<Vec<Cell>> {
    let mut cells = Vec::new();
    for gzip in [false, true] {
        let mut connection = subject.target.connect().await?;
        let work = async {
            for _ in 0..amounts.lists {
                let ask = Ask::get(pods(subject));
                let bytes = connection.count(if gzip { ask.gzip() } else { ask }).await?;
                ensure!(gzip || bytes > amounts.pods * 1000, "{bytes} bytes are no {} pods", amounts.pods);
            }
            Ok(())
        };
        let ((), cost) = subject.cost(work).await?;
        let how = if gzip { "compressed" } else { "plain" };
        cells.extend(lists(&format!("full list of {} pods, {how}", amounts.pods), amounts.lists, cost));
    }
    Ok(cells)
}

async fn paged(subject: &Subject, amounts: &Amounts) -> anyhow::Result<Vec<Cell>> {
    let mut connection = subject.target.connect().await?;
    let work = async {
        for _ in 0..amounts.lists {
            let pages = walk(&mut connection, &pods(subject)).await?;
            let expected = amounts.pods.div_ceil(PAGE);
            ensure!(pages == expected, "{pages} pages where {expected} were due");
        }
        Ok(())
    };
    let ((), cost) = subject.cost(work).await?;
    Ok(lists(&format!("list of {} pods in pages of {PAGE}", amounts.pods), amounts.lists, cost))
}

/// Reads a list page by page; answers how many there were.
async fn walk(connection: &mut Connection, path: &str) -> anyhow::Result<usize> {
    let (mut pages, mut token) = (0, String::new());
    loop {
        let ask = Ask::get(format!("{path}?limit={PAGE}{token}"));
        let (head, _) = connection.head(ask, HEAD_BYTES).await?;
        pages += 1;
        // Base64 without padding, in the metadata, which stands before the items.
        let head = String::from_utf8_lossy(&head).into_owned();
        let Some((_, rest)) = head.split_once("\"continue\":\"") else { return Ok(pages) };
        token = format!("&continue={}", rest.split('"').next().unwrap_or_default().replace('=', "%3D"));
    }
}

async fn patch(subject: &Subject, amounts: &Amounts) -> anyhow::Result<Vec<Cell>> {
    let (path, pods) = (pods(subject), amounts.pods);
    let make = move |n: usize| {
        let body = format!("{{\"metadata\":{{\"labels\":{{\"patched\":\"p{n}\"}}}}}}");
        Ask::with(Method::PATCH, format!("{path}/{}", pod_name(n % pods)), MERGE, body)
    };
    let (mut times, cost) = subject.cost(subject.target.drive(IN_FLIGHT, amounts.requests, make)).await?;
    Ok(rates("merge patches of a pod", &mut times, cost, 5.0))
}

async fn apply(subject: &Subject, amounts: &Amounts) -> anyhow::Result<Vec<Cell>> {
    let (path, pods) = (pods(subject), amounts.pods);
    let make = move |n: usize| {
        let name = pod_name(n % pods);
        let body = format!(
            "{{\"apiVersion\":\"v1\",\"kind\":\"Pod\",\"metadata\":{{\"name\":\"{name}\",\"labels\":{{\"applied\":\"a{n}\"}},\
             \"annotations\":{{\"bench.fairlead.dev/applied\":\"{n}\"}}}}}}"
        );
        Ask::with(Method::PATCH, format!("{path}/{name}?fieldManager=bench-apply"), APPLY, body)
    };
    let (mut times, cost) = subject.cost(subject.target.drive(IN_FLIGHT, amounts.requests, make)).await?;
    Ok(rates("server-side applies to a pod", &mut times, cost, 5.0))
}

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";

fn definition(group: &str, n: usize) -> Value {
    let text = json!({"type": "string", "description": "A field of a usual length of description, as generators write them."});
    let fields: serde_json::Map<String, Value> =
        (0..30).map(|n| (format!("field{n:02}"), text.clone())).collect();
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("things{n}.{group}")},
        "spec": {
            "group": group, "scope": "Namespaced",
            "names": {"kind": format!("Thing{n}"), "plural": format!("things{n}"), "singular": format!("thing{n}"), "listKind": format!("Thing{n}List")},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {
                "type": "object", "properties": {"spec": {"type": "object", "properties": fields}}
            }}}]
        }
    })
}

async fn definitions(subject: &Subject, amounts: &Amounts) -> anyhow::Result<Vec<Cell>> {
    let mut connection = subject.target.connect().await?;
    let group = format!("{}.fairlead.dev", subject.namespace);
    let before = usage::resident(&subject.pids)?;
    for n in 0..amounts.definitions {
        let body = definition(&group, n).to_string();
        connection.count(Ask::with(Method::POST, DEFINITIONS, JSON, body)).await?;
    }
    let last = format!("/apis/{group}/v1/things{}", amounts.definitions.saturating_sub(1));
    let began = Instant::now();
    while connection.count(Ask::get(last.clone())).await.is_err() {
        ensure!(began.elapsed() < PATIENCE, "{last} is not served after {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    tokio::time::sleep(SETTLE).await;
    let after = usage::resident(&subject.pids)?;
    for n in 0..amounts.definitions {
        let name = format!("{DEFINITIONS}/things{n}.{group}");
        connection.count(Ask::with(Method::DELETE, name, JSON, "")).await?;
    }
    let each = mebibytes(after.saturating_sub(before)) * 1024.0 / number(amounts.definitions);
    Ok(vec![Cell::new("memory of a further definition (at most 100)", "KiB", Better::Less, each)])
}
