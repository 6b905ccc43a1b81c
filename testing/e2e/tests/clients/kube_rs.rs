//! kube-rs, on which this repository's own components stand, over the network like anybody's.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use e2e::fleet::StandaloneCluster;
use futures::{AsyncBufReadExt as _, StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{
    ApiResource, AttachParams, DeleteParams, DynamicObject, ListParams, LogParams, Patch, PatchParams,
    PostParams, WatchEvent, WatchParams,
};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::GroupVersionKind;
use kube::runtime::wait::{await_condition, conditions};
use kube::{Api, Client, Config};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

const SOON: Duration = Duration::from_secs(60);

async fn client(cluster: &StandaloneCluster) -> Result<Client> {
    let kubeconfig = Kubeconfig::read_from(cluster.kubectl().kubeconfig())?;
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    Ok(Client::try_from(config)?)
}

#[tokio::test(flavor = "multi_thread")]
async fn kube_rs_works() -> Result<()> {
    let cluster = StandaloneCluster::start("one")?;
    let client = client(&cluster).await?;
    let steps = async {
        objects(&client).await.context("objects")?;
        custom(&client).await.context("custom resources")?;
        pods(&client).await.context("pods")
    };
    tokio::time::timeout(2 * SOON, steps).await.context("the client hangs")?
}

async fn objects(client: &Client) -> Result<()> {
    let maps: Api<ConfigMap> = Api::default_namespaced(client.clone());
    let before = maps.list(&ListParams::default()).await?.metadata.resource_version.context("a version")?;
    let wanted = |value: &str| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m", "labels": {"w": "1"}}, "data": {"a": value}});
    maps.patch("m", &PatchParams::apply("one"), &Patch::Apply(wanted("1"))).await?;
    let refused = maps.patch("m", &PatchParams::apply("two"), &Patch::Apply(wanted("2"))).await;
    ensure!(matches!(&refused, Err(kube::Error::Api(status)) if status.code == 409), "{refused:?}");
    let forced = maps.patch("m", &PatchParams::apply("two").force(), &Patch::Apply(wanted("2"))).await?;
    ensure!(forced.data.is_some_and(|data| data["a"] == "2"));
    let merged = maps.patch("m", &PatchParams::default(), &Patch::Merge(json!({"data": {"b": "c"}}))).await?;
    ensure!(merged.data.is_some_and(|data| data.len() == 2));
    maps.delete("m", &DeleteParams::default()).await?;
    let events = maps.watch(&WatchParams::default().labels("w=1"), &before).await?;
    let seen: Vec<&str> = events
        .map_ok(|event| match event {
            WatchEvent::Added(_) => "added",
            WatchEvent::Modified(_) => "modified",
            WatchEvent::Deleted(_) => "deleted",
            _ => "other",
        })
        .take(4)
        .try_collect()
        .await?;
    ensure!(seen == ["added", "modified", "modified", "deleted"], "{seen:?}");
    Ok(())
}

async fn custom(client: &Client) -> Result<()> {
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    let definition = serde_json::from_value(json!({
        "metadata": {"name": "things.rust.example.com"},
        "spec": {"group": "rust.example.com", "scope": "Namespaced",
            "names": {"plural": "things", "singular": "thing", "kind": "Thing"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {
                "type": "object", "properties": {"spec": {"type": "object", "properties": {
                    "size": {"type": "integer", "default": 1, "maximum": 5}}}}}}}]},
    }))?;
    definitions.create(&PostParams::default(), &definition).await?;
    let established = conditions::is_crd_established();
    tokio::time::timeout(SOON, await_condition(definitions, "things.rust.example.com", established))
        .await??;
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("rust.example.com", "v1", "Thing"));
    let things: Api<DynamicObject> = Api::default_namespaced_with(client.clone(), &resource);
    let thing = |size| json!({"apiVersion": "rust.example.com/v1", "kind": "Thing", "metadata": {"name": "a"}, "spec": size});
    let made = things.patch("a", &PatchParams::apply("one"), &Patch::Apply(thing(json!({})))).await?;
    ensure!(made.data["spec"]["size"] == 1, "{:?}", made.data);
    let refused =
        things.patch("a", &PatchParams::apply("one"), &Patch::Apply(thing(json!({"size": 9})))).await;
    ensure!(matches!(&refused, Err(kube::Error::Api(status)) if status.code == 422), "{refused:?}");
    things.delete("a", &DeleteParams::default()).await?;
    Ok(())
}

async fn pods(client: &Client) -> Result<()> {
    let pods: Api<Pod> = Api::default_namespaced(client.clone());
    let pod = |name: &str, args: &[&str]| -> Result<Pod> {
        Ok(serde_json::from_value(json!({"metadata": {"name": name}, "spec": {"restartPolicy": "Never",
            "containers": [{"name": "main", "image": "fairlead.dev/tool:latest", "args": args}]}}))?)
    };
    pods.create(&PostParams::default(), &pod("serves", &["serve", "--port", "8080", "--text", "hello"])?)
        .await?;
    tokio::time::timeout(SOON, await_condition(pods.clone(), "serves", conditions::is_pod_running()))
        .await??;

    let streams = AttachParams::default().stdin(true).stdout(true).stderr(true);
    let mut cat = pods.exec("serves", ["cat"], &streams).await?;
    let mut input = cat.stdin().context("an input")?;
    input.write_all(b"to and fro\n").await?;
    let mut back = [0; 11];
    cat.stdout().context("an output")?.read_exact(&mut back).await?;
    ensure!(&back == b"to and fro\n");
    cat.abort();
    let mut ended = pods.exec("serves", ["/fairlead", "tool", "exit", "3"], &streams).await?;
    let status = ended.take_status().context("a status")?.await.context("an ending")?;
    ensure!(status.reason.as_deref() == Some("NonZeroExitCode"), "{status:?}");

    let mut forward = pods.portforward("serves", &[8080]).await?;
    let mut port = forward.take_stream(8080).context("a stream")?;
    port.write_all(b"GET / HTTP/1.1\r\nHost: serves\r\nConnection: close\r\n\r\n").await?;
    let mut answer = String::new();
    port.read_to_string(&mut answer).await?;
    ensure!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("hello\n"), "{answer}");

    pods.create(&PostParams::default(), &pod("talks", &["do", "print one", "sleep 1", "print two"])?).await?;
    tokio::time::timeout(SOON, await_condition(pods.clone(), "talks", conditions::is_pod_running()))
        .await??;
    let follow = LogParams { follow: true, ..LogParams::default() };
    let lines: Vec<String> = pods.log_stream("talks", &follow).await?.lines().try_collect().await?;
    ensure!(lines == ["one", "two"], "{lines:?}");
    Ok(())
}
