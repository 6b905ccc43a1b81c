//! Secrets at rest on the hub, and secrets that the hub keeps for clusters: who finds them, and who does not.

use std::path::Path;

use fleet_objects::{Assignment, Cluster, Placement, Profile, REFUSED, condition, condition_is_true};
use k8s_openapi::api::core::v1::{Event, Secret};
use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use super::bench::{Bench, eventually};
use super::{config_map, value};

pub(crate) const WORD: &str = "correct-horse-battery-staple";

pub(crate) fn secret(name: &str, word: &str, immutable: bool) -> Secret {
    let object = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "immutable": immutable,
        "stringData": {"password": word}});
    serde_json::from_value(object).unwrap()
}

/// Every file below a directory that holds a text, as it is or as base64 of an object's data.
pub(crate) fn found_in(directory: &Path, word: &str) -> Vec<String> {
    use base64::Engine as _;
    let encoded = base64::engine::general_purpose::STANDARD.encode(word);
    let mut found = Vec::new();
    let mut waiting = vec![directory.to_owned()];
    while let Some(next) = waiting.pop() {
        for entry in std::fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                waiting.push(path);
                continue;
            }
            let Ok(bytes) = std::fs::read(&path) else { continue };
            let has = |text: &str| bytes.windows(text.len()).any(|window| window == text.as_bytes());
            if has(word) || has(encoded.trim_end_matches('=')) {
                found.push(path.display().to_string());
            }
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_a_secret_is_readable_in_the_hubs_directory_or_its_snapshots() {
    let mut bench = Bench::start(&["dev"]).await;
    let secrets: Api<Secret> = Api::namespaced(bench.hub_client(), "default");
    secrets.create(&PostParams::default(), &secret("db", WORD, false)).await.unwrap();
    let patch = json!({"stringData": {"other": format!("{WORD}-2")}});
    secrets.patch("db", &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    // Manifests may be Secrets: what profiles say, and the content that is made of it.
    let manifest =
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "app"}, "stringData": {"x": WORD}});
    bench.profile("app", json!({"manifests": [manifest]})).await;
    bench.place("app", json!({}), json!({})).await;
    bench.applied("dev", "default.app").await;
    assert_eq!(found_in(bench.hub_dir(), WORD), Vec::<String>::new());
    // The checker finds what is there.
    let planted = bench.hub_dir().join("data/planted");
    std::fs::write(&planted, WORD).unwrap();
    assert_eq!(found_in(bench.hub_dir(), WORD).len(), 1);
    std::fs::remove_file(&planted).unwrap();

    // What holds a client holds the store.
    drop(secrets);
    bench.stop_hub().await;
    let place = assembly::backup::Place::Directory(bench.hub_dir().to_owned());
    let files = tempfile::tempdir().unwrap();
    let file = files.path().join("hub.snap");
    // The last tasks of the hub let go of its store a moment later.
    eventually("the store is free", || async { assembly::backup::snapshot(&place, &file).await.is_ok() })
        .await;
    let taken = assembly::backup::verify_file(&file).await.unwrap();
    assert!(taken.damaged == 0 && taken.sealed["key1"] >= 2, "{taken}");
    assert_eq!(found_in(files.path(), WORD), Vec::<String>::new());
    bench.start_hub().await;
    let read: Api<Secret> = Api::namespaced(bench.hub_client(), "default");
    let data = read.get("db").await.unwrap().data.unwrap();
    assert_eq!((data["password"].0.as_slice(), data["other"].0.len()), (WORD.as_bytes(), WORD.len() + 2));

    drop(read);

    // A new key in front: everything is sealed anew while the hub runs, and the old one can go.
    let configuration = bench.hub_dir().join("pki/encryption.yaml");
    let text = std::fs::read_to_string(&configuration).unwrap();
    let key = "      - name: key2\n        secret: QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNkZWY=\n";
    std::fs::write(&configuration, text.replace("      keys:\n", &format!("      keys:\n{key}"))).unwrap();
    let snapshots = tempfile::tempdir().unwrap();
    eventually("everything is sealed with the new key", || async {
        bench.hub_sealed_with(&snapshots.path().join("x.snap")).await.keys().all(|name| name == "key2")
    })
    .await;
    eventually("its files, too", || async { !files_are_sealed_with(bench.hub_dir(), "key1") }).await;
    let old =
        text.lines().skip_while(|line| !line.contains("name: key1")).take(2).collect::<Vec<_>>().join("\n");
    let both = std::fs::read_to_string(&configuration).unwrap();
    std::fs::write(&configuration, both.replace(&old, "")).unwrap();
    // Nothing is left that would need it.
    bench.stop_hub().await;
    bench.start_hub().await;
    let read: Api<Secret> = Api::namespaced(bench.hub_client(), "default");
    assert_eq!(read.get("db").await.unwrap().data.unwrap()["password"].0, WORD.as_bytes());
    bench.connected("dev").await;
    // What content says is still there: the profile reaches a cluster that comes later.
    bench.add_cluster("late").await;
    let token = bench.fresh_token().await;
    bench.start_agent("late", token, super::bench::memory()).await;
    bench.applied("late", "default.app").await;
    bench.stop().await;
}

/// Content, or the key of records.
fn files_are_sealed_with(hub: &Path, key: &str) -> bool {
    let records = std::fs::read(hub.join("data/records.key")).unwrap();
    let has = |part: &[u8]| part == key.as_bytes();
    records.windows(key.len()).any(has) || !found_in(&hub.join("data/content"), key).is_empty()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_of_the_hub_reaches_the_clusters_that_were_chosen_and_nobody_else() {
    let mut bench = Bench::start(&["dev", "prod"]).await;
    let hub = bench.hub_client();
    let secrets: Api<Secret> = Api::namespaced(hub.clone(), "default");
    let referring = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "app"}, "stringData": {"url": "postgres://${var.password}@db"}});
    let spec = json!({"variables": [{"name": "password", "secret": true, "required": true}], "manifests": [referring, config_map("a", "1")]});
    bench.profile("app", spec).await;
    // One that may change under its name is not given.
    secrets.create(&PostParams::default(), &secret("db", WORD, false)).await.unwrap();
    let given = |name: &str| json!({"password": {"hubSecretKeyRef": {"name": name, "key": "password"}}});
    bench.place("app", json!({"matchLabels": {"name": "dev"}}), given("db")).await;
    let assignments: Api<Assignment> = Api::namespaced(hub.clone(), "cluster-dev");
    eventually("it says why it is not given", || async {
        let status = assignments.get_opt("default.app").await.unwrap().and_then(|found| found.status);
        status
            .and_then(|status| status.refusal)
            .is_some_and(|refusal| refusal.message.contains("not immutable"))
    })
    .await;
    secrets.create(&PostParams::default(), &secret("db-1", WORD, true)).await.unwrap();
    bench.place("app", json!({"matchLabels": {"name": "dev"}}), given("db-1")).await;
    bench.applied("dev", "default.app").await;
    let made: Api<Secret> = Api::namespaced(bench.cluster_client("dev"), "default");
    assert_eq!(
        made.get("app").await.unwrap().data.unwrap()["url"].0,
        format!("postgres://{WORD}@db").as_bytes()
    );

    // Another cluster, and another key of the same namespace, are refused; so is a person without rights.
    let code = |client: kube::Client, path: &'static str| async move {
        let request = http::Request::get(path).body(kube::client::Body::empty()).unwrap();
        client.send(request).await.unwrap().status().as_u16()
    };
    let (dev, prod) = (bench.agent_hub_client("dev"), bench.agent_hub_client("prod"));
    assert_eq!(code(dev.clone(), "/fleet/v1/values/default/db-1/password").await, 200);
    for (who, path) in [
        (&prod, "/fleet/v1/values/default/db-1/password"),
        (&dev, "/fleet/v1/values/default/db/password"),
        (&dev, "/fleet/v1/values/default/db-1/other"),
        (&dev, "/fleet/v1/values/other/db-1/password"),
        (&dev, "/api/v1/namespaces/default/secrets/db-1"),
    ] {
        assert_eq!(code(who.clone(), path).await, 403, "{path}");
    }
    assert_eq!(code(hub.clone(), "/fleet/v1/values/default/db-1/password").await, 403, "people read Secrets");

    // Made anew under its name it is another, which goes the way of a change; while it is gone nothing changes.
    let again = format!("{WORD}-again");
    secrets.delete("db-1", &DeleteParams::default()).await.unwrap();
    bench.place("app", json!({"matchLabels": {"name": "dev"}}), given("db-1")).await;
    secrets.create(&PostParams::default(), &secret("db-1", &again, true)).await.unwrap();
    let url = format!("postgres://{again}@db");
    eventually("the new value is there", || async {
        made.get("app").await.unwrap().data.unwrap()["url"].0 == url.as_bytes()
    })
    .await;

    // Without the hub, from the agent's disk; its repairs know the value.
    drop((hub, secrets, assignments, dev, prod));
    bench.stop_hub().await;
    bench.restart_agent("dev").await;
    made.delete("app", &DeleteParams::default()).await.unwrap();
    eventually("repaired with its value", || async {
        made.get_opt("app").await.unwrap().and_then(|found| found.data).is_some()
    })
    .await;
    bench.start_hub().await;
    bench.connected("dev").await;
    assert_eq!(value(&bench.config_maps("dev"), "a").await.as_deref(), Some("1"));

    let hub = bench.hub_client();
    let all = ListParams::default();
    let told: Vec<Value> = vec![
        serde_json::to_value(Api::<Event>::all(hub.clone()).list(&all).await.unwrap()).unwrap(),
        serde_json::to_value(Api::<Assignment>::all(hub.clone()).list(&all).await.unwrap()).unwrap(),
        serde_json::to_value(Api::<Cluster>::all(hub.clone()).list(&all).await.unwrap()).unwrap(),
        serde_json::to_value(Api::<Profile>::all(hub.clone()).list(&all).await.unwrap()).unwrap(),
        serde_json::to_value(Api::<Placement>::all(hub.clone()).list(&all).await.unwrap()).unwrap(),
        serde_json::to_value(bench.hub().handle().inbox().page(&bench.uid("dev").await, 0).await.unwrap())
            .unwrap(),
    ];
    assert!(!serde_json::to_string(&told).unwrap().contains(WORD), "it was told");
    for directory in [bench.hub_dir().to_owned(), bench.agent_dir("dev"), bench.agent_dir("prod")] {
        assert_eq!(found_in(&directory, WORD), Vec::<String>::new());
    }
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_generation_that_waits_for_a_secret_of_the_hub_is_seen_waiting_and_the_one_before_stays() {
    let bench = Bench::start(&["dev"]).await;
    let secrets: Api<Secret> = Api::namespaced(bench.hub_client(), "default");
    secrets.create(&PostParams::default(), &secret("db-1", WORD, true)).await.unwrap();
    let spec = json!({"variables": [{"name": "password", "secret": true, "required": true}],
        "manifests": [{"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "app"}, "stringData": {"x": "${var.password}"}}]});
    bench.profile("app", spec).await;
    let given = |name: &str| json!({"password": {"hubSecretKeyRef": {"name": name, "key": "password"}}});
    bench.place("app", json!({}), given("db-1")).await;
    bench.applied("dev", "default.app").await;
    let assignments: Api<Assignment> = Api::namespaced(bench.hub_client(), "cluster-dev");
    let ready = async || {
        let found = assignments.get("default.app").await.unwrap();
        let status = found.status.unwrap_or_default();
        let said =
            condition(&status.conditions, "Ready").map(|ready| (ready.status.clone(), ready.message.clone()));
        let (value, message) = said.unwrap_or_default();
        let current = status.observed_generation == found.spec.generation;
        (value, message, current, condition_is_true(&status.conditions, "Applied"))
    };
    eventually("it is ready", || async { ready().await.0 == "True" }).await;
    bench.place("app", json!({}), given("db-2")).await;
    eventually("it is said that the new one waits, and for what", || async {
        let (value, message, current, applied) = ready().await;
        value == "False"
            && message.contains("default/db-2/password")
            && message.contains("stays enforced")
            && !current
            && applied
    })
    .await;
    secrets.create(&PostParams::default(), &secret("db-2", WORD, true)).await.unwrap();
    eventually("it is ready again", || async {
        let (value, _, current, _) = ready().await;
        value == "True" && current
    })
    .await;

    // One that holds nothing yet.
    bench.profile("other", json!({"variables": [{"name": "password", "secret": true, "required": true}], "manifests": [config_map("o", "1")]})).await;
    bench.place("other", json!({}), given("db-3")).await;
    eventually("it is said, too", || async {
        let found = assignments.get_opt("default.other").await.unwrap();
        let status = found.and_then(|found| found.status).unwrap_or_default();
        condition(&status.conditions, "Ready")
            .is_some_and(|ready| ready.status == "False" && ready.reason == REFUSED)
    })
    .await;
    drop((secrets, assignments));
    bench.stop().await;
}
