use http::{Method, Uri};

use super::*;

fn info(method: Method, path: &str) -> RequestInfo {
    RequestInfo::of(&method, &path.parse::<Uri>().unwrap())
}

fn user(name: &str, groups: &[&str]) -> UserInfo {
    UserInfo::new(name, groups)
}

const PODS: &str = "/api/v1/namespaces/n/pods";
const LEASE: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/n1";

#[test]
fn classes_are_upstreams() {
    for (who, groups, method, path, want) in [
        ("root", &["system:masters"][..], Method::GET, PODS, "exempt"),
        ("system:anonymous", &["system:unauthenticated"], Method::GET, "/readyz", "probes"),
        ("system:kube-scheduler", &[], Method::PUT, LEASE, "system-leader-election"),
        ("system:kube-scheduler", &[], Method::POST, PODS, "kube-scheduler"),
        ("system:node:n1", &["system:nodes"], Method::PUT, LEASE, "system-node-high"),
        ("system:node:n1", &["system:nodes"], Method::PATCH, "/api/v1/nodes/n1/status", "system-node-high"),
        ("system:node:n1", &["system:nodes"], Method::GET, PODS, "system-nodes"),
        ("sa", &["system:serviceaccounts:kube-system"], Method::PUT, LEASE, "workload-leader-election"),
        ("sa", &["system:serviceaccounts:kube-system"], Method::GET, PODS, "kube-system-service-accounts"),
        ("sa", &["system:serviceaccounts", "system:authenticated"], Method::GET, PODS, "service-accounts"),
        ("ada", &["system:authenticated"], Method::GET, PODS, "global-default"),
        ("ada", &[], Method::GET, PODS, "catch-all"),
    ] {
        assert_eq!(classify(&user(who, groups), &info(method, path)).schema, want, "{who} {path}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_greedy_user_starves_neither_another_nor_leases() {
    let limiter = Arc::new(Limiter::new(Limits { reads: 64, writes: 64, ..Limits::default() }));
    let greedy = user("greedy", &["system:authenticated"]);
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..500 {
        let (limiter, greedy) = (Arc::clone(&limiter), greedy.clone());
        tasks.spawn(async move {
            let (_, seat) = limiter.admit(&greedy, &info(Method::POST, PODS)).await;
            let served = seat.is_ok();
            // Holds its seat "for ever".
            tokio::time::sleep(Duration::from_secs(3600)).await;
            served
        });
    }
    while limiter.refused() == 0 {
        tokio::task::yield_now().await;
    }
    let other = user("other", &["system:authenticated"]);
    let (_, seat) = limiter.admit(&other, &info(Method::POST, PODS)).await;
    assert!(seat.unwrap().is_some(), "another user is served at once");
    let node = user("system:node:n1", &["system:nodes"]);
    for _ in 0..4 {
        let (_, seat) = limiter.admit(&node, &info(Method::PUT, LEASE)).await;
        assert!(seat.unwrap().is_some(), "leases have seats of their own");
    }
    let masters = user("root", &["system:masters"]);
    assert!(limiter.admit(&masters, &info(Method::POST, PODS)).await.1.unwrap().is_none());
    let mut served = 0;
    while let Some(ended) = tasks.join_next().await {
        served += usize::from(ended.unwrap());
    }
    // Three quarters of the forty seats of everybody; the rest waited fifteen seconds and were refused.
    assert_eq!(served, 30);
    assert_eq!(limiter.refused(), 470);
    assert_eq!((limiter.running(), limiter.waiting()), ([0, 0], [0, 0]));
}

#[tokio::test]
async fn a_seat_passes_on_when_its_request_ends() {
    let limiter = Limiter::new(Limits { reads: 8, writes: 8, ..Limits::default() });
    let ada = user("ada", &["system:authenticated"]);
    let mut seats = Vec::new();
    for _ in 0..4 {
        seats.push(limiter.admit(&ada, &info(Method::GET, PODS)).await.1.unwrap().unwrap());
    }
    let request = info(Method::GET, PODS);
    let fifth = limiter.admit(&ada, &request);
    tokio::pin!(fifth);
    assert!(futures::poll!(fifth.as_mut()).is_pending());
    assert_eq!(limiter.waiting(), [1, 0]);
    seats.pop();
    assert!(fifth.await.1.is_ok());
}
