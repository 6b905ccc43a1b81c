//! The hub gets another authority or another address, and no cluster is lost on the way.

use std::time::Duration;

use access::Secret;
use access::tls::{ClientIdentity, client_config};
use agent_protocol::{access as access_protocol, endpoint};
use assembly::authority;
use fleet_objects::Cluster;
use http_body_util::Empty;
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use kube::Api;
use tokio::io::AsyncReadExt as _;

use crate::bench::{Bench, eventually};

/// How many authorities an agent trusts.
fn trusted(bench: &Bench, cluster: &str) -> usize {
    let text = std::fs::read_to_string(bench.agent_dir(cluster).join("credentials/hub-ca.crt"));
    text.unwrap_or_default().matches("BEGIN CERTIFICATE").count()
}

/// A tunnel that is opened with what lies in an agent's directory, as somebody could who got at a copy of it.
async fn tunnel(bench: &Bench, cluster: &str) -> TokioIo<hyper::upgrade::Upgraded> {
    let read = |name: &str| {
        std::fs::read_to_string(bench.agent_dir(cluster).join("credentials").join(name)).unwrap()
    };
    let identity =
        ClientIdentity { certificate_pem: read("agent.crt"), key_pem: Secret::new(read("agent.key")) };
    let config = client_config(&read("hub-ca.crt"), Some(&identity)).unwrap();
    let stream = tokio::net::TcpStream::connect(bench.address()).await.unwrap();
    let name = rustls_pki_types::ServerName::from(bench.address().ip());
    let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(config));
    let stream = TokioIo::new(connector.connect(name, stream).await.unwrap());
    let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await.unwrap();
    tokio::spawn(connection.with_upgrades());
    let request = http::Request::get(endpoint::TUNNEL)
        .header("host", "hub")
        .header("connection", "Upgrade")
        .header("upgrade", access_protocol::PROTOCOL)
        .body(Empty::<Bytes>::new())
        .unwrap();
    let answer = sender.send_request(request).await.unwrap();
    assert_eq!(answer.status(), 101);
    TokioIo::new(hyper::upgrade::on(answer).await.unwrap())
}

/// Whether the other side ends it within a time.
async fn ends(tunnel: &mut TokioIo<hyper::upgrade::Upgraded>, within: Duration) -> bool {
    let read = async {
        let mut bytes = [0; 4096];
        while tunnel.read(&mut bytes).await.is_ok_and(|read| read > 0) {}
    };
    tokio::time::timeout(within, read).await.is_ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_forgotten_authority_vouched_for_ends_with_it_also_where_it_is_open() {
    let bench = Bench::start(&["dev"]).await;
    let client = bench.agent_hub_client("dev");
    let request = http::Request::get(endpoint::STREAM).body(Vec::new()).unwrap();
    let mut stream = Box::pin(futures::AsyncBufReadExt::lines(client.request_stream(request).await.unwrap()));
    let mut tunnel = tunnel(&bench, "dev").await;
    authority::prepare(bench.hub_dir()).unwrap();
    eventually("the agent trusts both", || async { trusted(&bench, "dev") == 2 }).await;
    authority::switch(bench.hub_dir()).unwrap();
    assert!(!ends(&mut tunnel, Duration::from_secs(3)).await, "both are good");
    authority::finish(bench.hub_dir()).unwrap();
    let ended = async { while let Some(Ok(_)) = futures::StreamExt::next(&mut stream).await {} };
    tokio::time::timeout(Duration::from_secs(10), ended).await.expect("the stream ends");
    assert!(ends(&mut tunnel, Duration::from_secs(10)).await);
    // The agent itself comes again by its registered key.
    eventually("the agent trusts the new one alone", || async { trusted(&bench, "dev") == 1 }).await;
    bench.connected("dev").await;
    // With a certificate of the new one also where it is reached: tunnels are connections of their own.
    let hub = bench.hub_client();
    eventually("the cluster is reached through the hub", || async {
        let version = http::Request::get(format!("{}/version", fleet_objects::cluster_proxy_path("dev")));
        hub.request_text(version.body(Vec::new()).unwrap())
            .await
            .is_ok_and(|said| said.contains("gitVersion"))
    })
    .await;
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_authority_is_rotated_under_its_agents_and_who_was_away_is_bound_anew() {
    let mut bench = Bench::start(&["dev", "away"]).await;
    let first = bench.hub().pin();
    let key = |bench: &Bench| std::fs::read(bench.agent_dir("away").join("credentials/agent.key")).unwrap();
    let before = key(&bench);
    let (token, store) = bench.stop_agent("away").await;
    // The hub runs on all the time, and so does the agent's connection.
    let next = authority::prepare(bench.hub_dir()).unwrap().next.unwrap();
    eventually("the agent trusts both", || async { trusted(&bench, "dev") == 2 }).await;
    assert_eq!(bench.hub().pin(), first);
    authority::switch(bench.hub_dir()).unwrap();
    eventually("the next one signs", || async { bench.hub().pin() == next }).await;
    // With the certificate that the previous one signed, over a new connection.
    bench.restart_agent("dev").await;
    bench.connected("dev").await;
    // New clusters join under the new pin.
    bench.add_cluster("new").await;
    let fresh = bench.fresh_token().await;
    bench.start_agent("new", fresh, crate::bench::memory()).await;
    bench.connected("new").await;
    authority::finish(bench.hub_dir()).unwrap();
    for name in ["dev", "new"] {
        eventually("the agent trusts the new one alone", || async { trusted(&bench, name) == 1 }).await;
    }
    // Its certificate is good no more; its key is.
    bench.restart_agent("dev").await;
    bench.connected("dev").await;
    // So it is for a hub that was stopped at any step.
    bench.stop_hub().await;
    bench.start_hub().await;
    assert_eq!(bench.hub().pin(), next);
    bench.connected("dev").await;
    // Who was away for all of it trusts nobody that is there, until a person says whom to trust.
    bench.start_agent("away", token, store).await;
    eventually("it does not trust the hub", || async {
        bench.agent_error("away").is_some_and(|error| error.contains("ertificate"))
    })
    .await;
    let url = format!("https://{}", bench.address());
    assert!(assembly::agent::rebind(&bench.agent_dir("away"), &url, &first).await.is_err(), "another key");
    assert_eq!(assembly::agent::rebind(&bench.agent_dir("away"), &url, &next).await.unwrap(), "away");
    bench.connected("away").await;
    assert_eq!(key(&bench), before, "as itself");
    bench.stop().await;
}

/// A port that nobody listens on at the moment.
fn free() -> std::net::SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_that_moves_says_so_beforehand_and_its_agents_follow() {
    let mut bench = Bench::start(&["dev"]).await;
    let (old, new) = (bench.address(), free());
    bench.joined_at = Some(format!("https://{old}"));
    bench.stop_hub().await;
    bench.announce = Some(format!("https://{new}"));
    bench.start_hub().await;
    bench.connected("dev").await;
    eventually("the agent has kept it", || async {
        let kept = std::fs::read_to_string(bench.agent_dir("dev").join("hub-places.json"));
        kept.is_ok_and(|kept| kept.contains(&new.to_string()))
    })
    .await;
    bench.stop_hub().await;
    bench.move_hub(new);
    bench.start_hub().await;
    bench.connected("dev").await;
    // Also after a start with the address it was given in the beginning.
    bench.restart_agent("dev").await;
    bench.connected("dev").await;
    // Moved without a word: a person says where.
    bench.stop_hub().await;
    bench.announce = None;
    bench.move_hub(free());
    bench.start_hub().await;
    let (url, pin) = (format!("https://{}", bench.address()), bench.hub().pin());
    assembly::agent::rebind(&bench.agent_dir("dev"), &url, &pin).await.unwrap();
    bench.connected("dev").await;
    let clusters: Api<Cluster> = Api::all(bench.hub_client());
    assert_eq!(
        clusters.list(&kube::api::ListParams::default()).await.unwrap().items.len(),
        1,
        "the same cluster"
    );
    bench.stop().await;
}
