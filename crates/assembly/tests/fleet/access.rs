//! People reach clusters through the hub: as whom, how far, and how that ends.

use std::time::Duration;

use fleet_objects::{Cluster, cluster_proxy_path};
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::client::Body;
use kube::{Api, Client};
use serde_json::{Value, json};

use crate::bench::{Bench, eventually};

/// One request to a cluster through the hub, on behalf of `user`; of the administrator where that is "".
async fn ask(client: &Client, method: &str, cluster: &str, path: &str, user: &str) -> Response<Body> {
    let mut request = Request::builder()
        .method(method)
        .uri(format!("{}{path}", cluster_proxy_path(cluster)))
        .header("content-type", "application/json");
    if !user.is_empty() {
        request = request.header("impersonate-user", user);
    }
    let body = if method == "POST" {
        Body::from(
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "made"}})
                .to_string()
                .into_bytes(),
        )
    } else {
        Body::empty()
    };
    client.send(request.body(body).unwrap()).await.unwrap()
}

async fn told(response: Response<Body>) -> (u16, Value) {
    let code = response.status().as_u16();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    (code, serde_json::from_slice(&bytes).unwrap_or_default())
}

async fn grant(client: &Client, name: &str, rules: Value, user: &str) {
    let role = json!({"metadata": {"name": name}, "rules": rules});
    let roles: Api<ClusterRole> = Api::all(client.clone());
    roles.create(&PostParams::default(), &serde_json::from_value(role).unwrap()).await.unwrap();
    bind(client, name, name, user).await;
}

async fn bind(client: &Client, name: &str, role: &str, user: &str) {
    let binding = json!({"metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}]});
    let bindings: Api<ClusterRoleBinding> = Api::all(client.clone());
    bindings.create(&PostParams::default(), &serde_json::from_value(binding).unwrap()).await.unwrap();
}

fn proxy_rule(verbs: &[&str], names: &[&str]) -> Value {
    json!([{"apiGroups": [fleet_objects::GROUP], "resources": ["clusters/proxy"], "verbs": verbs, "resourceNames": names}])
}

/// The hub's administrators look as soon as the agent has bound them.
async fn bound(hub: &Client, cluster: &str) {
    eventually("the hub's administrators may look", || async {
        ask(hub, "GET", cluster, "/api/v1/pods", "").await.status() == StatusCode::OK
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hub_and_cluster_both_decide_and_the_cluster_knows_who_asks() {
    let bench = Bench::start(&["dev", "prod"]).await;
    let hub = bench.hub_client();
    bound(&hub, "dev").await;
    let (code, list) = told(ask(&hub, "GET", "dev", "/api/v1/namespaces?limit=1", "").await).await;
    assert_eq!((code, &list["kind"]), (200, &json!("NamespaceList")));
    // The administrators of the hub may look here, and no more: their group is not the cluster's.
    let (code, refused) =
        told(ask(&hub, "POST", "dev", "/api/v1/namespaces/default/configmaps", "").await).await;
    assert_eq!(code, 403);
    assert_eq!(
        refused["message"],
        "configmaps is forbidden: User \"cluster:hub:kubernetes-admin\" cannot create resource \"configmaps\" in API \
         group \"\" in the namespace \"default\""
    );
    // Somebody without a role on the hub is turned away there.
    let pods = "/api/v1/namespaces/default/pods";
    let (code, refused) = told(ask(&hub, "GET", "dev", pods, "ada").await).await;
    assert_eq!(code, 403);
    assert_eq!(
        refused["message"],
        "clusters.fleet.fairlead.dev \"dev\" is forbidden: User \"ada\" cannot get resource \"clusters/proxy\" in API \
         group \"fleet.fairlead.dev\" at the cluster scope"
    );
    // With a role there, the cluster decides.
    grant(&hub, "reach-dev", proxy_rule(&["get"], &["dev"]), "ada").await;
    let (code, refused) = told(ask(&hub, "GET", "dev", pods, "ada").await).await;
    assert_eq!(code, 403);
    assert!(
        refused["message"].as_str().unwrap().contains("User \"cluster:hub:ada\" cannot list"),
        "{refused}"
    );
    bind(&bench.cluster_client("dev"), "ada", "cluster-admin", "cluster:hub:ada").await;
    assert_eq!(ask(&hub, "GET", "dev", pods, "ada").await.status(), 200);
    // A local user of the same name is somebody else.
    bind(&bench.cluster_client("prod"), "ada", "cluster-admin", "ada").await;
    // Only looking was granted on the hub, and only of this cluster.
    assert_eq!(ask(&hub, "POST", "dev", "/api/v1/namespaces/default/configmaps", "ada").await.status(), 403);
    assert_eq!(ask(&hub, "GET", "prod", pods, "ada").await.status(), 403);
    grant(&hub, "reach-prod", proxy_rule(&["*"], &["prod"]), "ada").await;
    assert_eq!(ask(&hub, "GET", "prod", pods, "ada").await.status(), 403, "prod knows no cluster:hub:ada");
    assert_eq!(ask(&hub, "GET", "nowhere", "/version", "").await.status(), 404);
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_smuggled_makes_a_request_another_persons() {
    let bench = Bench::start(&["dev"]).await;
    let hub = bench.hub_client();
    bound(&hub, "dev").await;
    grant(&hub, "reach-dev", proxy_rule(&["*"], &["dev"]), "ada").await;
    let path = format!("{}/apis/authentication.k8s.io/v1/selfsubjectreviews", cluster_proxy_path("dev"));
    let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}).to_string();
    let smuggled = [
        ("authorization", "Bearer stolen"),
        ("x-remote-user", "root"),
        ("x-remote-group", "system:masters"),
        ("x-fairlead-person", "eyJ1c2VyIjoicm9vdCJ9"),
        ("x-fairlead-method", "DELETE"),
        ("cookie", "session=1"),
        ("x-forwarded-for", "127.0.0.1"),
        ("connection", "impersonate-user, x-fairlead-person"),
    ];
    let mut request = Request::post(&path).header("content-type", "application/json");
    request = request.header("impersonate-user", "ada").header("impersonate-group", "dev");
    for (name, value) in smuggled {
        request = request.header(name, value);
    }
    let answer = hub.send(request.body(Body::from(review.clone().into_bytes())).unwrap()).await.unwrap();
    let (code, who) = told(answer).await;
    assert_eq!(code, 201, "{who}");
    let user = &who["status"]["userInfo"];
    assert_eq!(user["username"], "cluster:hub:ada");
    assert_eq!(user["groups"], json!(["cluster:hub:dev", "system:authenticated"]));
    // An agent is no person, whatever its roles say.
    grant(
        &hub,
        "agents",
        proxy_rule(&["*"], &["dev"]),
        &format!("fairlead:cluster:dev:{}", bench.uid("dev").await),
    )
    .await;
    let agent = bench.agent_hub_client("dev");
    assert_eq!(ask(&agent, "GET", "dev", "/version", "").await.status(), 403);
    // And nobody but an agent offers a tunnel.
    let request = Request::get("/fleet/v1/agent/tunnel").header("connection", "upgrade");
    let request = request.header("upgrade", agent_protocol::access::PROTOCOL).body(Body::empty()).unwrap();
    assert_eq!(hub.send(request).await.unwrap().status(), 403);
    for path in ["/../../dev2/proxy/version", "/%2e%2e/version"] {
        assert_eq!(ask(&hub, "GET", "dev", path, "").await.status(), 400, "{path}");
    }
    bench.stop().await;
}

/// Reads until the answer ends, well or badly.
async fn ends(answer: Response<Body>) -> bool {
    let mut body = answer.into_body();
    let read = async {
        while let Some(frame) = body.frame().await {
            if frame.is_err() {
                return false;
            }
        }
        true
    };
    tokio::time::timeout(Duration::from_secs(10), read).await.expect("cut within ten seconds")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_flows_and_ends_with_the_right_with_the_membership_and_with_the_agent() {
    let mut bench = Bench::start(&["dev"]).await;
    let hub = bench.hub_client();
    bound(&hub, "dev").await;
    let watch = "/api/v1/namespaces/default/configmaps?watch=1";
    // It flows.
    let mut flowing = ask(&hub, "GET", "dev", watch, "").await.into_body();
    let map = serde_json::from_value(json!({"metadata": {"name": "seen"}})).unwrap();
    bench.config_maps("dev").create(&PostParams::default(), &map).await.unwrap();
    let mut text = String::new();
    while !text.contains("\"seen\"") {
        let frame = tokio::time::timeout(Duration::from_secs(10), flowing.frame()).await.unwrap();
        text.push_str(&String::from_utf8_lossy(&frame.unwrap().unwrap().into_data().unwrap()));
    }
    // The right ends: the watch is cut, not ended.
    grant(&hub, "reach-dev", proxy_rule(&["get"], &["dev"]), "ada").await;
    bind(&bench.cluster_client("dev"), "ada", "view", "cluster:hub:ada").await;
    let open = ask(&hub, "GET", "dev", watch, "ada").await;
    assert_eq!(open.status(), 200);
    let bindings: Api<ClusterRoleBinding> = Api::all(hub.clone());
    bindings.delete("reach-dev", &DeleteParams::default()).await.unwrap();
    assert!(!ends(open).await, "half an answer does not look whole");
    assert_eq!(ask(&hub, "GET", "dev", watch, "ada").await.status(), 403);
    // The membership ends.
    let clusters: Api<Cluster> = Api::all(hub.clone());
    let revoked = |revoked: bool| Patch::Merge(json!({"spec": {"revoked": revoked}}));
    clusters.patch("dev", &PatchParams::default(), &revoked(true)).await.unwrap();
    let cut = async { while let Some(Ok(_)) = flowing.frame().await {} };
    tokio::time::timeout(Duration::from_secs(10), cut).await.expect("cut with the membership");
    eventually("nobody reaches it", || async {
        ask(&hub, "GET", "dev", "/version", "").await.status() == StatusCode::FORBIDDEN
    })
    .await;
    clusters.patch("dev", &PatchParams::default(), &revoked(false)).await.unwrap();
    bench.connected("dev").await;
    // The agent goes in the middle of an answer, and comes again.
    bound(&hub, "dev").await;
    let open = ask(&hub, "GET", "dev", watch, "").await;
    bench.restart_agent("dev").await;
    assert!(!ends(open).await, "cut with the agent");
    bench.connected("dev").await;
    bound(&hub, "dev").await;
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_takes_a_hundred_requests_and_then_says_so() {
    let bench = Bench::start(&["dev", "prod"]).await;
    let hub = bench.hub_client();
    bound(&hub, "dev").await;
    bound(&hub, "prod").await;
    let mut open = Vec::new();
    for _ in 0..agent_protocol::access::MAX_REQUESTS {
        let answer = ask(&hub, "GET", "dev", "/api/v1/configmaps?watch=1", "").await;
        assert_eq!(answer.status(), 200);
        open.push(answer);
    }
    let (code, refused) = told(ask(&hub, "GET", "dev", "/version", "").await).await;
    assert_eq!((code, &refused["reason"]), (429, &json!("TooManyRequests")));
    assert_eq!(ask(&hub, "GET", "prod", "/version", "").await.status(), 200, "the other cluster has its own");
    drop(open);
    eventually("there is room again", || async {
        ask(&hub, "GET", "dev", "/version", "").await.status() == StatusCode::OK
    })
    .await;
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_acts_as_somebody_else_does_so_at_the_hubs_own_endpoints_too() {
    let bench = Bench::start(&["dev"]).await;
    let client = bench.hub_client();
    let rules =
        json!([{"apiGroups": [fleet_objects::GROUP], "resources": ["clusters"], "verbs": ["get", "list"]}]);
    grant(&client, "lister", rules, "ada").await;
    let clusters = async |user: &str| {
        let request = Request::get("/fleet/v1/clusters").header("impersonate-user", user);
        let (code, found) = told(client.send(request.body(Body::empty()).unwrap()).await.unwrap()).await;
        (code, found["items"].as_array().map(Vec::len))
    };
    eventually("ada sees it", || async { clusters("ada").await == (200, Some(1)) }).await;
    assert_eq!(clusters("nobody").await, (200, Some(0)));
    assert_eq!(clusters("system:anonymous").await.0, 401);
    bench.stop().await;
}
