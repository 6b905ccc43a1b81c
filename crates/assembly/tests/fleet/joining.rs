//! How clusters are let in: tokens for several clusters, approval by hand and by name.

use agent_protocol::{Approval, TokenGrant};
use fleet_objects::{Cluster, LABEL_CLUSTER_SET};
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use crate::bench::{Bench, eventually, memory};

#[tokio::test(flavor = "multi_thread")]
async fn a_token_lets_in_as_many_clusters_as_it_says_and_each_again_as_itself() {
    let mut bench = Bench::start(&[]).await;
    for name in ["one", "two", "three"] {
        bench.add_cluster(name).await;
    }
    let labels = [("region".to_owned(), "eu".to_owned())].into();
    let grant = TokenGrant { uses: 2, labels, ..TokenGrant::default() };
    let token = bench.hub().handle().create_join_token(&grant).await.unwrap().reveal();
    for name in ["one", "two"] {
        bench.start_agent(name, token.clone(), memory()).await;
        bench.connected(name).await;
    }
    let said = bench.try_join("three", &token, None).await;
    assert!(said.contains("already used"), "{said}");
    // The first comes back with the token it joined with: the same cluster, the same key, no use more.
    bench.restart_agent("one").await;
    bench.connected("one").await;
    let clusters: Api<Cluster> = Api::all(bench.hub_client());
    let labels = clusters.get("two").await.unwrap().metadata.labels.unwrap();
    assert_eq!(labels["region"], "eu");
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_held_cluster_gets_nothing_until_somebody_approves_it() {
    let mut bench = Bench::start(&[]).await;
    for name in ["edge-1", "other"] {
        bench.add_cluster(name).await;
    }
    let approval = Approval::ByName(vec!["edge-*".to_owned()]);
    let grant = TokenGrant { uses: 2, approval, ..TokenGrant::default() };
    let token = bench.hub().handle().create_join_token(&grant).await.unwrap().reveal();
    bench.start_agent("edge-1", token.clone(), memory()).await;
    bench.connected("edge-1").await;
    bench.start_agent("other", token, memory()).await;
    eventually("it is told that it waits", || async {
        bench.agent_error("other").is_some_and(|error| error.contains("waits for approval"))
    })
    .await;
    let clusters: Api<Cluster> = Api::all(bench.hub_client());
    assert!(clusters.get("other").await.unwrap().spec.pending);
    assert!(!bench.hub().handle().is_connected("other"));
    let approve = json!({"spec": {"pending": false}});
    clusters.patch("other", &PatchParams::default(), &Patch::Merge(approve)).await.unwrap();
    bench.connected("other").await;
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_enters_the_cluster_set_that_its_token_names_and_no_other() {
    let mut bench = Bench::start(&[]).await;
    bench.add_cluster("one").await;
    let set = |set: &str| [(LABEL_CLUSTER_SET.to_owned(), set.to_owned())].into();
    let token = async |labels| {
        let grant = TokenGrant { labels, ..TokenGrant::default() };
        bench.hub().handle().create_join_token(&grant).await.unwrap().reveal()
    };
    let (plain, edge) = (token(Default::default()).await, token(set("edge")).await);
    for token in [&plain, &edge] {
        let said = bench.try_join_with("one", token, (LABEL_CLUSTER_SET, "shop")).await;
        assert!(said.contains("does not let clusters into the cluster set \"shop\""), "{said}");
    }
    let clusters: Api<Cluster> = Api::all(bench.hub_client());
    assert!(clusters.get_opt("one").await.unwrap().is_none());
    // Neither token was used up by that.
    bench.start_agent("one", edge, memory()).await;
    bench.connected("one").await;
    let labels = clusters.get("one").await.unwrap().metadata.labels.unwrap();
    assert_eq!(labels[LABEL_CLUSTER_SET], "edge");
    bench.stop().await;
}
