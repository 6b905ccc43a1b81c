//! Ten thousand watches, a storm of writes, readers that do not read: nothing is lost silently, memory has a bound, and
//! leases are renewed meanwhile. In one process and over no sockets, so that two cores are enough.

use std::time::{Duration, Instant};

use super::*;

/// Watches of a kind that nobody writes.
const IDLE: usize = 9_500;
/// Watches of the kind that is written, of an object that is not there: each event wakes them.
const WOKEN: usize = 350;
/// Watches that read everything.
const READING: usize = 110;
/// Watches that read their first event and then nothing until the storm is over.
const SLOW: usize = 40;
const WRITES: usize = 3_000;
const WRITERS: usize = 8;
/// Of one object: the storm is about twice what history holds, so that who slept through it must have lost its place.
const OBJECT_BYTES: usize = 24 << 10;
/// Watches at rest (task, body, cursor: measured some 8 kB in a debug build), history (32 MiB of objects, and as much again
/// in frames), the store's own history of the same objects, and what allocators keep.
const MEMORY_BYTES: usize = 10_000 * (16 << 10) + 4 * (32 << 20) + 2 * WRITES * OBJECT_BYTES;
/// Upstream's lease duration: a holder that cannot renew for so long has lost.
const LEASE: Duration = Duration::from_secs(15);
const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/default/leases";

/// What a watcher has been told.
#[derive(Debug, Default)]
struct Told {
    /// Revisions of events, in order.
    revisions: Vec<u64>,
    /// It was told that its place is gone.
    expired: bool,
}

fn resident_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 1024
}

/// Takes whole lines out of what has come. Searches text instead of decoding it: the readers of this test must not be what
/// is slow.
fn take(pending: &mut Vec<u8>, told: &mut Told) {
    let text = std::str::from_utf8(pending).unwrap();
    let Some(whole) = text.rfind('\n') else { return };
    for line in text[..whole].split('\n') {
        if line.starts_with("{\"type\":\"ERROR\"") {
            assert!(line.contains("\"code\":410"), "{line}");
            told.expired = true;
            continue;
        }
        let (_, behind) = line.rsplit_once("\"resourceVersion\":\"").unwrap();
        told.revisions.push(behind.split_once('"').unwrap().0.parse().unwrap());
    }
    pending.drain(..=whole);
}

/// Reads a watch until it has told `last` or its end; after the first event it waits for `go`.
async fn follow(mut body: Body, last: tokio::sync::watch::Receiver<u64>, go: CancellationToken) -> Told {
    let (mut told, mut pending, mut last) = (Told::default(), Vec::new(), last);
    loop {
        let done = *last.borrow();
        if told.expired || done > 0 && told.revisions.last().is_some_and(|newest| *newest >= done) {
            return told;
        }
        tokio::select! {
            frame = body.frame() => {
                let Some(frame) = frame else { return told };
                pending.extend_from_slice(&frame.unwrap().into_data().unwrap());
                take(&mut pending, &mut told);
                if !told.revisions.is_empty() {
                    go.cancelled().await;
                }
            }
            changed = last.changed() => changed.unwrap(),
        }
    }
}

async fn watch(subject: &Subject, path: &str) -> Body {
    let response = subject.send(Method::GET, path, &[], "").await;
    assert_eq!(response.status(), 200);
    response.into_body()
}

/// Renews a lease until `stop`; answers how often, and how long the longest renewal took.
async fn renew(subject: &Subject, stop: &CancellationToken) -> (usize, Duration) {
    let spec = json!({"holderIdentity": "a", "leaseDurationSeconds": 15});
    let lease = json!({"metadata": {"name": "leader"}, "spec": spec});
    assert_eq!(subject.json(Method::POST, LEASES, &lease).await.0, 201);
    let (mut renewals, mut longest) = (0, Duration::ZERO);
    while !stop.is_cancelled() {
        let begun = Instant::now();
        let path = format!("{LEASES}/leader");
        let (_, mut lease) = subject.json(Method::GET, &path, &Value::Null).await;
        lease["spec"]["leaseTransitions"] = json!(renewals);
        let (code, told) = subject.json(Method::PUT, &path, &lease).await;
        assert_eq!(code, 200, "{told}");
        longest = longest.max(begun.elapsed());
        renewals += 1;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    (renewals, longest)
}

/// The storm; answers the revisions written, in order.
async fn storm(subject: &Arc<Subject>) -> Vec<u64> {
    let filler = "x".repeat(OBJECT_BYTES);
    let tasks: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let (subject, filler) = (Arc::clone(subject), filler.clone());
            tokio::spawn(async move {
                let mut revisions: Vec<u64> = Vec::new();
                for n in 0..WRITES / WRITERS {
                    let name = format!("storm-{writer}");
                    let map =
                        json!({"metadata": {"name": name}, "data": {"filler": filler, "n": n.to_string()}});
                    let path = if n == 0 { MAPS.to_owned() } else { format!("{MAPS}/{name}") };
                    let method = if n == 0 { Method::POST } else { Method::PUT };
                    let (code, written) = subject.json(method, &path, &map).await;
                    assert!(code == 200 || code == 201, "{written}");
                    revisions.push(written["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap());
                }
                revisions
            })
        })
        .collect();
    let mut revisions = Vec::new();
    for task in tasks {
        revisions.extend(task.await.unwrap());
    }
    revisions.sort_unstable();
    revisions
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_watches_and_a_storm_lose_nothing_silently() {
    let subject = Arc::new(Subject::start().await);
    let (_, listed) = subject.json(Method::GET, MAPS, &Value::Null).await;
    let from = listed["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    let before = resident_bytes();
    let (go, end) = (CancellationToken::new(), CancellationToken::new());
    let mut resting = tokio::task::JoinSet::new();
    let woken = format!("{MAPS}?watch=1&resourceVersion={from}&fieldSelector=metadata.name%3Dnone");
    let idle =
        "/api/v1/namespaces/quiet/secrets?watch=1&resourceVersion=0&allowWatchBookmarks=true".to_owned();
    for path in std::iter::repeat_n(&idle, IDLE).chain(std::iter::repeat_n(&woken, WOKEN)) {
        let (mut body, end) = (watch(&subject, path).await, end.clone());
        resting.spawn(async move { end.run_until_cancelled(body.frame()).await.is_none() });
    }
    let (last, told_last) = tokio::sync::watch::channel(0);
    let all = format!("{MAPS}?watch=1&resourceVersion={from}");
    let now = CancellationToken::new();
    now.cancel();
    let spawn = |bodies: Vec<Body>, go: &CancellationToken| -> Vec<_> {
        bodies.into_iter().map(|body| tokio::spawn(follow(body, told_last.clone(), go.clone()))).collect()
    };
    let reading = spawn(watches(READING, &subject, &all).await, &now);
    let slow = spawn(watches(SLOW, &subject, &all).await, &go);

    let renewing = tokio::spawn({
        let (subject, end) = (Arc::clone(&subject), end.clone());
        async move { renew(&subject, &end).await }
    });
    let written = storm(&subject).await;
    let grown = resident_bytes().saturating_sub(before);
    assert_eq!(written.len(), WRITES);
    last.send_replace(*written.last().unwrap());
    let patience = Duration::from_secs(60);
    for (number, watcher) in reading.into_iter().enumerate() {
        let told = tokio::time::timeout(patience, watcher).await.expect("it is told everything").unwrap();
        // One that was too slow on this machine has been told so, after a gapless beginning.
        let expected = if told.expired { &written[..told.revisions.len()] } else { &written[..] };
        assert_eq!(told.revisions, expected, "watcher {number}");
    }
    go.cancel();
    let mut expired = 0;
    for (number, watcher) in slow.into_iter().enumerate() {
        let told = tokio::time::timeout(patience, watcher).await.expect("it comes to its end").unwrap();
        assert_eq!(told.revisions, &written[..told.revisions.len()], "slow watcher {number}: no gap");
        assert!(
            told.expired || told.revisions.len() == WRITES,
            "slow watcher {number} was ended without a word"
        );
        expired += usize::from(told.expired);
    }
    assert!(expired > 0, "the storm was meant to outrun those who sleep");
    end.cancel();
    let (renewals, longest) = renewing.await.unwrap();
    assert!(renewals > 0 && longest < LEASE, "{renewals} renewals, the longest took {longest:?}");
    while let Some(quiet) = resting.join_next().await {
        assert!(quiet.unwrap(), "a watch of what nobody wrote was told something");
    }
    assert!(grown < MEMORY_BYTES, "memory grew by {} MiB", grown >> 20);
    eprintln!(
        "{renewals} renewals, longest {longest:?}; {expired} of {SLOW} slow expired; grew {} MiB",
        grown >> 20
    );
}

async fn watches(count: usize, subject: &Subject, path: &str) -> Vec<Body> {
    let mut bodies = Vec::with_capacity(count);
    for _ in 0..count {
        bodies.push(watch(subject, path).await);
    }
    bodies
}
