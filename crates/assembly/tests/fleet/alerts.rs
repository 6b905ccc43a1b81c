//! What is wrong in the fleet is told to real receivers, once, signed, and that it is over too.

use std::sync::Arc;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fleet_objects::alert::{AlertReceiver, AlertRule, AlertSilence, AlertState};
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::bench::{Bench, eventually};

/// A request that came.
#[derive(Clone, Debug)]
struct Taken {
    path: String,
    headers: Vec<(String, String)>,
    body: String,
}

impl Taken {
    fn header(&self, name: &str) -> String {
        let found = self.headers.iter().find(|(own, _)| own.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.clone()).unwrap_or_default()
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

/// An HTTP server that refuses the first requests and takes the others.
struct Receiver {
    url: String,
    taken: Arc<Mutex<Vec<Taken>>>,
    refused: Arc<Mutex<u32>>,
}

impl Receiver {
    async fn start(refusals: u32) -> Self {
        Self::refusing("503 Service Unavailable", refusals).await
    }

    async fn refusing(refusal: &'static str, refusals: u32) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let taken = Arc::new(Mutex::new(Vec::new()));
        let refused = Arc::new(Mutex::new(refusals));
        let (into, left) = (taken.clone(), refused.clone());
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (into, left) = (into.clone(), left.clone());
                tokio::spawn(async move {
                    let Some(request) = read(&mut stream).await else { return };
                    let refuse = {
                        let mut left = left.lock();
                        let refuse = *left > 0;
                        *left = left.saturating_sub(1);
                        refuse
                    };
                    let answer = if refuse { refusal } else { "200 OK" };
                    if !refuse {
                        into.lock().push(request);
                    }
                    let answer =
                        format!("HTTP/1.1 {answer}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
                    let _ = stream.write_all(answer.as_bytes()).await;
                });
            }
        });
        Self { url, taken, refused }
    }

    fn taken(&self) -> Vec<Taken> {
        self.taken.lock().clone()
    }
}

async fn read(stream: &mut tokio::net::TcpStream) -> Option<Taken> {
    let mut bytes = Vec::new();
    let head = loop {
        let mut part = [0; 4096];
        let count = stream.read(&mut part).await.ok().filter(|count| *count > 0)?;
        bytes.extend_from_slice(&part[..count]);
        if let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break at;
        }
    };
    let text = String::from_utf8(bytes[..head].to_vec()).ok()?;
    let mut lines = text.lines();
    let path = lines.next()?.split(' ').nth(1)?.to_owned();
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned()))
        .collect();
    let length = headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    let length: usize = length.and_then(|(_, value)| value.parse().ok()).unwrap_or(0);
    let mut body = bytes.split_off(head + 4);
    while body.len() < length {
        let mut part = [0; 4096];
        let count = stream.read(&mut part).await.ok().filter(|count| *count > 0)?;
        body.extend_from_slice(&part[..count]);
    }
    Some(Taken { path, headers, body: String::from_utf8(body).ok()? })
}

fn rule(name: &str, spec: Value) -> AlertRule {
    serde_json::from_value(json!({"apiVersion": "fleet.fairlead.dev/v1alpha1", "kind": "AlertRule",
        "metadata": {"name": name}, "spec": spec}))
    .unwrap()
}

fn receiver(name: &str, spec: Value) -> AlertReceiver {
    serde_json::from_value(json!({"apiVersion": "fleet.fairlead.dev/v1alpha1", "kind": "AlertReceiver",
        "metadata": {"name": name}, "spec": spec}))
    .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_offline_cluster_is_told_once_signed_and_told_again_when_it_is_back() {
    let mut bench = Bench::start(&["dev"]).await;
    let (hook, manager) = (Receiver::start(1).await, Receiver::start(0).await);
    {
        let client = bench.hub_client();
        let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "hooks"}, "stringData": {"key": "s3cret"}});
        let secrets: Api<Secret> = Api::namespaced(client.clone(), fleet_objects::SYSTEM_NAMESPACE);
        secrets.patch("hooks", &PatchParams::apply("test"), &Patch::Apply(secret)).await.unwrap();
        let receivers: Api<AlertReceiver> = Api::all(client.clone());
        let to_hook = json!({"webhook": {"url": format!("{}/fleet", hook.url), "secret": {"name": "hooks", "key": "key"},
            "headers": {"x-team": "platform"}}});
        receivers.create(&PostParams::default(), &receiver("hook", to_hook)).await.unwrap();
        let to_manager = json!({"alertmanager": {"url": manager.url}});
        receivers.create(&PostParams::default(), &receiver("manager", to_manager)).await.unwrap();
        let rules: Api<AlertRule> = Api::all(client);
        let spec = json!({"on": "ClusterOffline", "severity": "critical", "receivers": ["hook", "manager"]});
        rules.create(&PostParams::default(), &rule("offline", spec)).await.unwrap();
    }
    let (token, store) = bench.stop_agent("dev").await;
    eventually("both are told", || async { hook.taken().len() == 1 && manager.taken().len() == 1 }).await;
    assert_eq!(*hook.refused.lock(), 0, "after it had been refused once");
    let told = hook.taken().remove(0);
    let body = told.json();
    assert_eq!((told.path.as_str(), told.header("x-team").as_str()), ("/fleet", "platform"));
    assert_eq!((&body["version"], &body["status"]), (&json!("4"), &json!("firing")));
    assert_eq!(body["alerts"][0]["labels"]["cluster"], "dev");
    let signed = format!("{}.{}.{}", told.header("webhook-id"), told.header("webhook-timestamp"), told.body);
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, b"s3cret"), signed.as_bytes());
    assert_eq!(told.header("webhook-signature"), format!("v1,{}", STANDARD.encode(tag)));
    let posted = manager.taken().remove(0);
    assert_eq!(posted.path, "/api/v2/alerts");
    assert_eq!(posted.json()[0]["labels"]["alertname"], "offline");
    // A hub that starts again has told it already.
    bench.stop_hub().await;
    bench.start_hub().await;
    bench.start_agent("dev", token, store).await;
    bench.connected("dev").await;
    let resolved = || async { hook.taken().last().is_some_and(|last| last.json()["status"] == "resolved") };
    eventually("that it is over is told", resolved).await;
    // What the first hub had not written down yet is told once more, under the same id.
    let firing = hook.taken().into_iter().filter(|taken| taken.json()["status"] == "firing");
    let ids: std::collections::BTreeSet<String> = firing.map(|taken| taken.header("webhook-id")).collect();
    assert_eq!(ids.len(), 1, "one piece of news, over a restart of the hub");
    let rules: Api<AlertRule> = Api::all(bench.hub_client());
    let forgotten = || async {
        let status = rules.get("offline").await.unwrap().status.unwrap_or_default();
        status.alerts.is_empty() && status.firing == 0
    };
    eventually("nothing is left of it", forgotten).await;
    drop(rules);
    let receivers: Api<AlertReceiver> = Api::all(bench.hub_client());
    let counted =
        || async { receivers.get("hook").await.unwrap().status.is_some_and(|status| status.delivered >= 2) };
    eventually("deliveries are counted", counted).await;
    drop(receivers);
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn silenced_and_waiting_alerts_are_shown_and_told_to_nobody() {
    let mut bench = Bench::start(&["dev"]).await;
    let hook = Receiver::start(0).await;
    let client = bench.hub_client();
    let receivers: Api<AlertReceiver> = Api::all(client.clone());
    let to_hook = json!({"webhook": {"url": hook.url}});
    receivers.create(&PostParams::default(), &receiver("hook", to_hook)).await.unwrap();
    let silences: Api<AlertSilence> = Api::all(client.clone());
    let silence: AlertSilence = serde_json::from_value(json!({
        "apiVersion": "fleet.fairlead.dev/v1alpha1", "kind": "AlertSilence", "metadata": {"name": "quiet"},
        "spec": {"matchLabels": {"alertname": "loud"}, "endsAt": "2100-01-01T00:00:00Z"}}))
    .unwrap();
    silences.create(&PostParams::default(), &silence).await.unwrap();
    let rules: Api<AlertRule> = Api::all(client.clone());
    let with = |hold: u32| json!({"on": "ClusterOffline", "forSeconds": hold, "receivers": ["hook"]});
    rules.create(&PostParams::default(), &rule("loud", with(0))).await.unwrap();
    rules.create(&PostParams::default(), &rule("patient", with(3600))).await.unwrap();
    bench.stop_agent("dev").await;
    let states = || async {
        let all = rules.list(&ListParams::default()).await.unwrap().items;
        let alerts = all.into_iter().flat_map(|rule| rule.status.unwrap_or_default().alerts);
        alerts.map(|alert| (alert.state, alert.silenced_by)).collect::<Vec<_>>()
    };
    let wanted = [(AlertState::Firing, Some("quiet".to_owned())), (AlertState::Pending, None)];
    eventually("one is silenced, one waits", || async { states().await == wanted }).await;
    assert!(hook.taken().is_empty());
    silences.delete("quiet", &DeleteParams::default()).await.unwrap();
    eventually("told after the silence", || async { hook.taken().len() == 1 }).await;
    assert_eq!(hook.taken()[0].json()["alerts"].as_array().unwrap().len(), 1);
    drop((receivers, silences, rules, client));
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_was_put_right_hears_at_once_of_what_it_missed() {
    let mut bench = Bench::start(&["dev"]).await;
    // One gives up at once, one is tried for two minutes.
    let (final_, busy) =
        (Receiver::refusing("404 Not Found", u32::MAX).await, Receiver::start(u32::MAX).await);
    let right = Receiver::start(0).await;
    let client = bench.hub_client();
    let receivers: Api<AlertReceiver> = Api::all(client.clone());
    for (name, url) in [("final", &final_.url), ("busy", &busy.url)] {
        let spec = json!({"webhook": {"url": url}});
        receivers.create(&PostParams::default(), &receiver(name, spec)).await.unwrap();
    }
    let rules: Api<AlertRule> = Api::all(client.clone());
    let spec = json!({"on": "ClusterOffline", "receivers": ["final", "busy"]});
    rules.create(&PostParams::default(), &rule("offline", spec)).await.unwrap();
    bench.stop_agent("dev").await;
    let tried = || async {
        let given_up =
            receivers.get("final").await.unwrap().status.is_some_and(|status| status.given_up == 1);
        // Past the short waits between tries.
        given_up && u32::MAX - *busy.refused.lock() >= 4
    };
    eventually("one is given up and one is tried", tried).await;
    for (name, path) in [("final", "/a"), ("busy", "/b")] {
        let patch = json!({"spec": {"webhook": {"url": format!("{}{path}", right.url)}}});
        receivers.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    }
    let paths =
        || right.taken().into_iter().map(|taken| taken.path).collect::<std::collections::BTreeSet<_>>();
    eventually("both are told", || async { paths().len() == 2 }).await;
    assert_eq!(right.taken().len(), 2, "once each");
    drop((receivers, rules, client));
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_whose_secret_was_put_right_hears_at_once_of_what_it_missed() {
    let mut bench = Bench::start(&["dev"]).await;
    let hook = Receiver::start(0).await;
    let client = bench.hub_client();
    let secrets: Api<Secret> = Api::namespaced(client.clone(), fleet_objects::SYSTEM_NAMESPACE);
    let secret = |name: &str, key: &str| {
        let document = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": {"key": key}});
        let (secrets, name) = (secrets.clone(), name.to_owned());
        async move { secrets.patch(&name, &PatchParams::apply("test"), &Patch::Apply(document)).await.unwrap() }
    };
    // What no notice can be signed with is given up at once.
    secret("hooks", "whsec_no base64").await;
    let receivers: Api<AlertReceiver> = Api::all(client.clone());
    let spec = json!({"webhook": {"url": hook.url, "secret": {"name": "hooks", "key": "key"}}});
    receivers.create(&PostParams::default(), &receiver("hook", spec)).await.unwrap();
    let rules: Api<AlertRule> = Api::all(client.clone());
    let spec = json!({"on": "ClusterOffline", "receivers": ["hook"]});
    rules.create(&PostParams::default(), &rule("offline", spec)).await.unwrap();
    bench.stop_agent("dev").await;
    let given_up = || async {
        let status = receivers.get("hook").await.unwrap().status;
        status.map(|status| status.given_up).unwrap_or_default()
    };
    eventually("it is given up", || async { given_up().await == 1 }).await;
    // Another key that is wrong is tried as well; Secrets of others are not.
    secret("others", "s3cret").await;
    secret("hooks", "whsec_nor this").await;
    eventually("it is given up again", || async { given_up().await == 2 }).await;
    secret("hooks", "s3cret").await;
    eventually("it is told", || async { hook.taken().len() == 1 }).await;
    assert_eq!(given_up().await, 2, "each of its Secret's versions was tried once");
    drop((secrets, receivers, rules, client));
    bench.stop().await;
}

/// A mail server in the clear that takes what comes; the mails.
async fn mail_server() -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let mails = Arc::new(Mutex::new(Vec::new()));
    let into = mails.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let into = into.clone();
            tokio::spawn(async move { take_mail(stream, &into).await });
        }
    });
    (address, mails)
}

async fn take_mail(mut stream: tokio::net::TcpStream, mails: &Mutex<Vec<String>>) -> Option<()> {
    let (reading, mut writing) = stream.split();
    let mut lines = tokio::io::BufReader::new(reading).lines();
    writing.write_all(b"220 test\r\n").await.ok()?;
    while let Some(line) = lines.next_line().await.ok()? {
        let answer: &[u8] = match line.as_str() {
            "DATA" => {
                writing.write_all(b"354 go on\r\n").await.ok()?;
                let mut mail = String::new();
                while let Some(line) = lines.next_line().await.ok()?.filter(|line| line != ".") {
                    mail.push_str(&line);
                    mail.push('\n');
                }
                mails.lock().push(mail);
                b"250 taken\r\n"
            }
            _ => b"250 fine\r\n",
        };
        writing.write_all(answer).await.ok()?;
    }
    Some(())
}

#[tokio::test(flavor = "multi_thread")]
async fn people_are_told_by_mail_in_one_thread() {
    let mut bench = Bench::start(&["dev"]).await;
    let (server, mails) = mail_server().await;
    {
        let client = bench.hub_client();
        let receivers: Api<AlertReceiver> = Api::all(client.clone());
        let to = json!({"server": server, "tls": "None", "from": "Fleet <fleet@example.com>", "to": ["ops@example.com"]});
        receivers.create(&PostParams::default(), &receiver("people", json!({"email": to}))).await.unwrap();
        let rules: Api<AlertRule> = Api::all(client);
        let spec = json!({"on": "ClusterOffline", "receivers": ["people"]});
        rules.create(&PostParams::default(), &rule("offline", spec)).await.unwrap();
    }
    let (token, store) = bench.stop_agent("dev").await;
    eventually("a mail came", || async { mails.lock().len() == 1 }).await;
    bench.start_agent("dev", token, store).await;
    eventually("that it is over is told", || async { mails.lock().len() == 2 }).await;
    let [firing, resolved] = <[String; 2]>::try_from(mails.lock().clone()).unwrap();
    assert!(firing.contains("Subject: [FIRING] offline (warning): cluster dev"), "{firing}");
    assert!(resolved.contains("Subject: [RESOLVED] offline (warning): cluster dev"), "{resolved}");
    let header = |mail: &str, name: &str| {
        let found = mail.lines().find_map(|line| line.strip_prefix(&format!("{name}: ")).map(str::to_owned));
        found.unwrap()
    };
    assert_eq!(header(&firing, "References"), header(&resolved, "References"));
    assert_ne!(header(&firing, "Message-ID"), header(&resolved, "Message-ID"));
    bench.stop().await;
}
