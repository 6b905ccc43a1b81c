//! Quotas under concurrency, over the API alone: no controller runs, the test writes the quota's status.

use futures::future::join_all;
use k8s_openapi::api::core::v1::{ResourceQuota, Secret};
use kube::Api;
use kube::api::{DeleteParams, PostParams};
use serde_json::json;

use super::start;

const CREATES: usize = 32;
const LIMIT: usize = 10;

#[tokio::test(flavor = "multi_thread")]
async fn of_many_creates_at_once_exactly_as_many_succeed_as_fit() {
    let (_handle, client, _stop) = start().await;
    let quotas: Api<ResourceQuota> = Api::default_namespaced(client.clone());
    let secrets: Api<Secret> = Api::default_namespaced(client);
    let hard = json!({"count/secrets": LIMIT.to_string()});
    let quota = serde_json::from_value(json!({"metadata": {"name": "q"}, "spec": {"hard": hard}})).unwrap();
    let mut quota: ResourceQuota = quotas.create(&PostParams::default(), &quota).await.unwrap();
    quota.status = serde_json::from_value(json!({"hard": hard, "used": {"count/secrets": "0"}})).unwrap();
    quotas.replace_subresource("status", "q", &PostParams::default(), &quota).await.unwrap();
    let create = |index: usize| {
        let secrets = secrets.clone();
        let secret = serde_json::from_value(json!({"metadata": {"name": format!("s{index}")}})).unwrap();
        tokio::spawn(async move { secrets.create(&PostParams::default(), &secret).await })
    };
    let outcomes = join_all((0..CREATES).map(create)).await;
    let refused: Vec<String> = outcomes
        .into_iter()
        .filter_map(|outcome| outcome.unwrap().err())
        .map(|error| error.to_string())
        .collect();
    assert_eq!(refused.len(), CREATES - LIMIT, "{refused:?}");
    let told =
        "exceeded quota: q, requested: count/secrets=1, used: count/secrets=10, limited: count/secrets=10";
    assert!(refused.iter().all(|error| error.contains(told)), "{refused:?}");
    assert_eq!(secrets.list(&Default::default()).await.unwrap().items.len(), LIMIT);
    let used = quotas.get("q").await.unwrap().status.unwrap().used.unwrap();
    assert_eq!(used["count/secrets"].0, LIMIT.to_string());
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    secrets.delete("s0", &DeleteParams::default()).await.ok();
    let secret = serde_json::from_value(json!({"metadata": {"name": "dry"}})).unwrap();
    assert!(secrets.create(&dry, &secret).await.is_err(), "only a recalculation gives back what is gone");
}
