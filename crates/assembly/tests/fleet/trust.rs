//! Who is let in, what it reaches, and how that ends: rows of the threat model about agents.

use std::time::Duration;

use fleet_objects::{Cluster, GROUP};
use futures::AsyncBufReadExt as _;
use futures::StreamExt as _;
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::json;

use crate::bench::{Bench, eventually};

const VERBS: [&str; 8] = ["get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"];

/// Every resource the hub serves, with its group and whether it is namespaced.
async fn served(bench: &Bench) -> Vec<(String, String, bool)> {
    let client = bench.hub_client();
    let mut all = Vec::new();
    let mut take = |group: &str, list: k8s_openapi::apimachinery::pkg::apis::meta::v1::APIResourceList| {
        all.extend(list.resources.into_iter().map(|one| (group.to_owned(), one.name, one.namespaced)));
    };
    take("", client.list_core_api_resources("v1").await.unwrap());
    for group in client.list_api_groups().await.unwrap().groups {
        for version in group.versions {
            take(&group.name, client.list_api_group_resources(&version.group_version).await.unwrap());
        }
    }
    all.sort();
    all.dedup();
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn of_every_verb_resource_and_cluster_an_agent_may_read_its_own_partition_alone() {
    let bench = Bench::start(&["dev", "prod"]).await;
    // A role given to all agents by mistake opens nothing.
    let bindings: Api<k8s_openapi::api::rbac::v1::ClusterRoleBinding> = Api::all(bench.hub_client());
    let mistake = serde_json::from_value(json!({
        "metadata": {"name": "mistake"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "fairlead:clusters"}],
    }));
    bindings.create(&PostParams::default(), &mistake.unwrap()).await.unwrap();
    let reviews: Api<SubjectAccessReview> = Api::all(bench.hub_client());
    let user = format!("fairlead:cluster:dev:{}", bench.uid("dev").await);
    let resources = served(&bench).await;
    assert!(resources.len() > 40, "{resources:?}");
    let mut allowed = Vec::new();
    for (group, resource, namespaced) in &resources {
        let scopes: &[&str] = if *namespaced {
            &["cluster-dev", "cluster-prod", "fairlead-system", "default", ""]
        } else {
            &[""]
        };
        for namespace in scopes {
            for verb in VERBS {
                let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
                let review = SubjectAccessReview {
                    spec: SubjectAccessReviewSpec {
                        user: Some(user.clone()),
                        groups: Some(vec![
                            fleet_objects::AGENT_GROUP.to_owned(),
                            "system:authenticated".to_owned(),
                        ]),
                        resource_attributes: Some(ResourceAttributes {
                            group: Some(group.clone()),
                            resource: Some(resource.to_owned()),
                            subresource: Some(subresource.to_owned()),
                            namespace: Some((*namespace).to_owned()),
                            verb: Some(verb.to_owned()),
                            ..ResourceAttributes::default()
                        }),
                        ..SubjectAccessReviewSpec::default()
                    },
                    ..SubjectAccessReview::default()
                };
                let answer = reviews.create(&PostParams::default(), &review).await.unwrap();
                if answer.status.unwrap().allowed {
                    allowed.push(format!("{verb} {group}/{resource}/{subresource} in {namespace:?}"));
                }
            }
        }
    }
    let mut expected = Vec::new();
    for resource in ["assignments", "testexecutions", "testtriggerassignments"] {
        for verb in ["get", "list", "watch"] {
            expected.push(format!("{verb} {GROUP}/{resource}/ in \"cluster-dev\""));
        }
    }
    assert_eq!(allowed, expected);
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn revocation_ends_what_is_open_within_ten_seconds() {
    let bench = Bench::start(&["dev", "prod"]).await;
    let open = |path: &'static str| {
        let client = bench.agent_hub_client("dev");
        async move {
            let request = http::Request::get(path).body(Vec::new()).unwrap();
            Box::pin(client.request_stream(request).await.unwrap()).lines()
        }
    };
    let mut watch =
        open("/apis/fleet.fairlead.dev/v1alpha1/namespaces/cluster-dev/assignments?watch=1").await;
    let mut stream = open("/fleet/v1/agent/stream").await;
    assert!(stream.next().await.unwrap().unwrap().contains("hello"));
    let clusters: Api<Cluster> = Api::all(bench.hub_client());
    let revoke = Patch::Merge(json!({"spec": {"revoked": true}}));
    clusters.patch("dev", &PatchParams::default(), &revoke).await.unwrap();
    let ended = async {
        while let Some(Ok(_)) = watch.next().await {}
        while let Some(Ok(_)) = stream.next().await {}
    };
    tokio::time::timeout(Duration::from_secs(10), ended).await.expect("both end in time");
    let refused = bench.agent_hub_client("dev");
    for path in [
        "/apis/fleet.fairlead.dev/v1alpha1/namespaces/cluster-dev/assignments",
        "/apis/fleet.fairlead.dev/v1alpha1/namespaces/cluster-dev/assignments?watch=1",
        "/fleet/v1/agent/stream",
    ] {
        let request = http::Request::get(path).body(kube::client::Body::empty()).unwrap();
        assert_eq!(refused.send(request).await.unwrap().status(), 403, "{path}");
    }
    eventually("it is shown as gone", || async { !bench.hub().handle().is_connected("dev") }).await;
    assert!(bench.hub().handle().is_connected("prod"), "the other one stays");
    // Taken back: the agent comes again by itself.
    let pardon = Patch::Merge(json!({"spec": {"revoked": false}}));
    clusters.patch("dev", &PatchParams::default(), &pardon).await.unwrap();
    bench.connected("dev").await;
    bench.stop().await;
}
