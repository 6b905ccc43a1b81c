//! Creating, listing and watching pods of about 2 kB.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::{Namespace, Pod, ServiceAccount};
use kube::Client;
use kube::api::{Api, DeleteParams, ListParams, PostParams, WatchEvent, WatchParams};
use serde_json::json;
use tokio::sync::mpsc;

use crate::figures::Figure;

/// Creates in flight at the same time.
const IN_FLIGHT: usize = 32;
/// Pods created for one latency measurement, one after another.
const DELIVERIES: usize = 50;
/// No event may take longer.
const PATIENCE: Duration = Duration::from_secs(30);

/// A namespace that nobody else uses, with the service account that pods need: a server alone has no controller to make it.
///
/// # Errors
/// When it cannot be created.
pub async fn namespace(client: &Client) -> anyhow::Result<String> {
    let name = format!("bench-{}", uuid::Uuid::new_v4().simple());
    let object: Namespace =
        serde_json::from_value(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}))?;
    Api::all(client.clone())
        .create(&PostParams::default(), &object)
        .await
        .context("cannot create a namespace")?;
    let account: ServiceAccount = serde_json::from_value(
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}}),
    )?;
    match Api::namespaced(client.clone(), &name).create(&PostParams::default(), &account).await {
        Err(kube::Error::Api(status)) if status.reason == "AlreadyExists" => {}
        created => drop(created.context("cannot create a service account")?),
    }
    Ok(name)
}

/// Deletes a benchmark's namespace and, first, its pods: none of them runs anywhere.
///
/// # Errors
/// When the server refuses.
pub async fn clean(client: &Client, namespace: &str) -> anyhow::Result<()> {
    let now = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() };
    Api::<Pod>::namespaced(client.clone(), namespace).delete_collection(&now, &ListParams::default()).await?;
    Api::<Namespace>::all(client.clone()).delete(namespace, &DeleteParams::default()).await?;
    Ok(())
}

/// A pod that no scheduler takes, of about 2 kB.
///
/// # Errors
/// Never: the literal is a pod.
pub fn pod(name: &str) -> anyhow::Result<Pod> {
    let environment: Vec<_> = (0..12)
        .map(|n| json!({"name": format!("SETTING_{n:02}"), "value": "a value of a usual length, neither long nor short"}))
        .collect();
    let annotations: BTreeMap<_, _> =
        (0..6).map(|n| (format!("bench.fairlead.dev/note-{n}"), "z".repeat(90))).collect();
    Ok(serde_json::from_value(json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": "bench", "tier": "test"}, "annotations": annotations},
        "spec": {
            "schedulerName": "nobody", "automountServiceAccountToken": false,
            "containers": [{"name": "main", "image": "example.invalid/bench:1", "env": environment,
                "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}}}]
        }
    }))?)
}

/// Creates `count` pods, 32 at a time.
///
/// # Errors
/// When one cannot be created.
pub async fn creates(client: &Client, namespace: &str, count: usize) -> anyhow::Result<Vec<Figure>> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let began = Instant::now();
    let times: Vec<Duration> = stream::iter(0..count)
        .map(|n| {
            let pods = pods.clone();
            async move {
                let pod = pod(&format!("pod-{n:06}"))?;
                let began = Instant::now();
                pods.create(&PostParams::default(), &pod).await?;
                anyhow::Ok(began.elapsed())
            }
        })
        .buffer_unordered(IN_FLIGHT)
        .try_collect()
        .await?;
    #[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
    let rate = count as f64 / began.elapsed().as_secs_f64();
    let mut figures = vec![Figure::one("pods of 2 kB created, 32 in flight", rate, "/s")];
    figures.extend(Figure::times("one of these creates", times));
    Ok(figures)
}

/// Lists all pods of the namespace, `rounds` times, as JSON that is read but not taken apart, and whole.
///
/// # Errors
/// When the answer does not hold `count` pods.
pub async fn lists(
    client: &Client,
    namespace: &str,
    count: usize,
    rounds: usize,
) -> anyhow::Result<Vec<Figure>> {
    let (mut raw, mut parsed) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let request = kube::core::Request::new(format!("/api/v1/namespaces/{namespace}/pods"));
        let began = Instant::now();
        let text = client.request_text(request.list(&ListParams::default())?).await?;
        raw.push(began.elapsed());
        ensure!(text.len() > count * 1000, "the list is too short to hold {count} pods");
        let began = Instant::now();
        let list = Api::<Pod>::namespaced(client.clone(), namespace).list(&ListParams::default()).await?;
        parsed.push(began.elapsed());
        ensure!(list.items.len() == count, "{} pods were listed of {count}", list.items.len());
    }
    let figures = [
        Figure::times(format!("list of {count} pods, bytes received"), raw),
        Figure::times(format!("list of {count} pods, decoded by the client"), parsed),
    ];
    Ok(figures.into_iter().flatten().collect())
}

/// How long after the create's call began each of `watchers` watches has the event. Clients and server share this
/// machine's clock only when they share the machine; the times are taken here, all by one clock.
///
/// # Errors
/// When a watch fails or an event does not come.
pub async fn delivery(client: &Client, namespace: &str, watchers: usize) -> anyhow::Result<Option<Figure>> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let from = pods.list_metadata(&ListParams::default().limit(1)).await?;
    let from = from.metadata.resource_version.context("a list without a resource version")?;
    let (sender, mut arrivals) = mpsc::channel(watchers * 4);
    let mut tasks = Vec::new();
    for _ in 0..watchers {
        // The first request of a stream is sent when it is polled: the watches start from one revision, so none can miss.
        let stream = pods.watch(&WatchParams::default(), &from).await?.boxed();
        tasks.push(tokio::spawn(follow(stream, sender.clone())));
    }
    let mut times = Vec::new();
    for n in 0..DELIVERIES {
        let name = format!("watched-{watchers}-{n}");
        let object = pod(&name)?;
        let began = Instant::now();
        pods.create(&PostParams::default(), &object).await?;
        let mut missing = watchers;
        while missing > 0 {
            let arrival =
                tokio::time::timeout(PATIENCE, arrivals.recv()).await.context("an event did not come")?;
            let (arrived, at): (String, Instant) = arrival.context("the watches ended")?;
            if arrived == name {
                missing -= 1;
                times.push(at.duration_since(began));
            }
        }
    }
    tasks.iter().for_each(tokio::task::JoinHandle::abort);
    Ok(Figure::times(format!("create to event at {watchers} watcher(s)"), times))
}

async fn follow(
    mut stream: futures::stream::BoxStream<'static, kube::Result<WatchEvent<Pod>>>,
    arrivals: mpsc::Sender<(String, Instant)>,
) {
    while let Some(Ok(event)) = stream.next().await {
        let now = Instant::now();
        if let WatchEvent::Added(pod) = event
            && arrivals.send((pod.metadata.name.unwrap_or_default(), now)).await.is_err()
        {
            return;
        }
    }
}
