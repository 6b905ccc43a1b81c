//! The server in process: objects, watches and errors as a client sees them.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;

use apiserver::{Catalogue, Handle, Options, Service};
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::api::{
    Api, DeleteParams, ListParams, ObjectMeta, Patch, PatchParams, PostParams, WatchEvent, WatchParams,
};
use kube_objects::UserInfo;
use storage::model::MemoryStore;
use tokio_util::sync::{CancellationToken, DropGuard};

#[path = "objects/corpus.rs"]
mod corpus;
#[path = "objects/custom_conversion.rs"]
mod custom_conversion;
#[path = "objects/custom_memory.rs"]
mod custom_memory;
#[path = "objects/custom_resources.rs"]
mod custom_resources;
#[path = "objects/custom_versions.rs"]
mod custom_versions;
#[path = "objects/https.rs"]
mod https;
#[path = "objects/policy_samples.rs"]
mod policy_samples;
#[path = "objects/quota.rs"]
mod quota;
#[path = "objects/webhooks.rs"]
mod webhooks;

async fn start() -> (Handle, kube::Client, DropGuard) {
    start_with(false).await
}

/// A server; `decides`: with authentication, authorization and a service network.
async fn start_with(decides: bool) -> (Handle, kube::Client, DropGuard) {
    let mut options = Options::new(Arc::new(MemoryStore::default()), Catalogue::cluster());
    if decides {
        options.authorizer = Some(Arc::new(access::Authorizer::new()));
        options.authenticator = Some(access::Authenticator::new(false));
        options.facts.service_cidr = Some("10.96.0.0/12".to_owned());
    }
    let service = Service::new(options).await.unwrap();
    let handle = service.handle();
    let stop = CancellationToken::new();
    tokio::spawn(Box::pin(service.run(stop.clone())));
    assert!(handle.ready().await);
    let client = handle.client(UserInfo::new("tester", &["system:masters"]));
    (handle, client, stop.drop_guard())
}

fn config_map(name: &str, value: &str) -> ConfigMap {
    ConfigMap {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            labels: Some([("value".to_owned(), value.to_owned())].into()),
            ..ObjectMeta::default()
        },
        data: Some([("key".to_owned(), value.to_owned())].into()),
        ..ConfigMap::default()
    }
}

#[tokio::test]
async fn objects_are_created_read_changed_and_deleted() {
    let (_handle, client, _stop) = start().await;
    let namespaces: Api<Namespace> = Api::all(client.clone());
    assert!(namespaces.get_opt("default").await.unwrap().is_some());
    let maps: Api<ConfigMap> = Api::default_namespaced(client.clone());
    let created = maps.create(&PostParams::default(), &config_map("a", "1")).await.unwrap();
    assert!(created.metadata.uid.is_some() && created.metadata.resource_version.is_some());
    let again = maps.create(&PostParams::default(), &config_map("a", "1")).await.unwrap_err();
    assert!(matches!(&again, kube::Error::Api(status) if status.reason == "AlreadyExists"), "{again}");
    let mut changed = created.clone();
    changed.data = Some([("key".to_owned(), "2".to_owned())].into());
    let replaced = maps.replace("a", &PostParams::default(), &changed).await.unwrap();
    assert_ne!(replaced.metadata.resource_version, created.metadata.resource_version);
    let stale = maps.replace("a", &PostParams::default(), &changed).await.unwrap_err();
    assert!(matches!(&stale, kube::Error::Api(status) if status.code == 409), "{stale}");
    let same = maps.replace("a", &PostParams::default(), &replaced).await.unwrap();
    assert_eq!(same.metadata.resource_version, replaced.metadata.resource_version, "nothing was written");
    let patch = serde_json::json!({"data": {"other": "x"}});
    let patched = maps.patch("a", &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
    assert_eq!(patched.data.unwrap().len(), 2);
    maps.delete("a", &DeleteParams::default()).await.unwrap();
    assert!(maps.get_opt("a").await.unwrap().is_none());
    let nowhere: Api<ConfigMap> = Api::namespaced(client, "nowhere");
    let missing = nowhere.create(&PostParams::default(), &config_map("a", "1")).await.unwrap_err();
    assert!(matches!(&missing, kube::Error::Api(status) if status.code == 404), "{missing}");
}

#[tokio::test]
async fn lists_page_consistently_and_select() {
    let (_handle, client, _stop) = start().await;
    let maps: Api<ConfigMap> = Api::default_namespaced(client);
    for index in 0..5 {
        let value = if index % 2 == 0 { "even" } else { "odd" };
        maps.create(&PostParams::default(), &config_map(&format!("m{index}"), value)).await.unwrap();
    }
    let odd = maps.list(&ListParams::default().labels("value=odd")).await.unwrap();
    assert_eq!(odd.items.len(), 2);
    let named = maps.list(&ListParams::default().fields("metadata.name=m3")).await.unwrap();
    assert_eq!(named.items.len(), 1);
    let first = maps.list(&ListParams::default().limit(2)).await.unwrap();
    assert_eq!(first.items.len(), 2);
    maps.delete("m4", &DeleteParams::default()).await.unwrap();
    let next = first.metadata.continue_.clone().unwrap();
    let rest = maps.list(&ListParams::default().continue_token(&next)).await.unwrap();
    let names: Vec<_> = rest.items.iter().filter_map(|map| map.metadata.name.clone()).collect();
    assert!(names.contains(&"m4".to_owned()), "the second page shows the state of the first: {names:?}");
}

#[tokio::test]
async fn watches_see_selector_transitions_in_order() {
    let (_handle, client, _stop) = start().await;
    let maps: Api<ConfigMap> = Api::default_namespaced(client);
    let begin = maps.list(&ListParams::default()).await.unwrap().metadata.resource_version.unwrap();
    let params = WatchParams::default().labels("value=1");
    let mut watch = maps.watch(&params, &begin).await.unwrap().boxed();
    maps.create(&PostParams::default(), &config_map("a", "1")).await.unwrap();
    let patch = serde_json::json!({"metadata": {"labels": {"value": "2"}}});
    maps.patch("a", &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
    assert!(matches!(watch.try_next().await.unwrap().unwrap(), WatchEvent::Added(_)));
    assert!(matches!(watch.try_next().await.unwrap().unwrap(), WatchEvent::Deleted(_)));
}

#[tokio::test]
async fn watch_lists_end_with_the_marked_bookmark() {
    let (_handle, client, _stop) = start().await;
    let maps: Api<ConfigMap> = Api::default_namespaced(client);
    maps.create(&PostParams::default(), &config_map("a", "1")).await.unwrap();
    let params = WatchParams::default().initial_events();
    let mut watch = maps.watch(&params, "0").await.unwrap().boxed();
    let mut seen = Vec::new();
    loop {
        match watch.try_next().await.unwrap().unwrap() {
            WatchEvent::Added(map) => seen.push(map.metadata.name.unwrap()),
            WatchEvent::Bookmark(mark) => {
                assert_eq!(mark.metadata.annotations["k8s.io/initial-events-end"], "true");
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(seen.contains(&"a".to_owned()));
}

#[tokio::test]
async fn server_side_apply_names_the_owner_of_a_conflict() {
    let (_handle, client, _stop) = start().await;
    let maps: Api<ConfigMap> = Api::default_namespaced(client);
    let config = |value: &str| serde_json::json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"key": value}});
    let first = PatchParams::apply("one");
    let created = maps.patch("a", &first, &Patch::Apply(&config("1"))).await.unwrap();
    assert_eq!(created.metadata.managed_fields.unwrap().len(), 1);
    let second = PatchParams::apply("two");
    let conflict = maps.patch("a", &second, &Patch::Apply(&config("2"))).await.unwrap_err();
    assert!(conflict.to_string().contains("one"), "{conflict}");
    let forced = maps.patch("a", &second.force(), &Patch::Apply(&config("2"))).await.unwrap();
    assert_eq!(forced.data.unwrap()["key"], "2");
}

#[tokio::test]
async fn finalizers_hold_a_deletion() {
    let (_handle, client, _stop) = start().await;
    let maps: Api<ConfigMap> = Api::default_namespaced(client);
    let mut map = config_map("a", "1");
    map.metadata.finalizers = Some(vec!["example.com/hold".to_owned()]);
    maps.create(&PostParams::default(), &map).await.unwrap();
    maps.delete("a", &DeleteParams::default()).await.unwrap();
    assert!(maps.get("a").await.unwrap().metadata.deletion_timestamp.is_some());
    let patch = serde_json::json!({"metadata": {"finalizers": null}});
    maps.patch("a", &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
    assert!(maps.get_opt("a").await.unwrap().is_none());
}
