//! Files of test runs that no log carries: taken from pods, kept by agents, sent to the hub, read from it.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use fleet_objects::test_run::{Artifact, ClusterResult, StepResult, TestRun};
use futures::AsyncReadExt as _;
use kube::Api;
use kube::api::PostParams;
use serde_json::{Value, json};

use crate::bench::{Bench, eventually};
use crate::flows::{Flow, TOOL};

const MIB: u64 = 1 << 20;
const SIZE: u64 = 64 * MIB;

/// A step that leaves a file of this size, and a small one.
fn leaves(size: u64, seed: usize) -> Value {
    let commands =
        format!("do 'fill /workspace/big.bin {size} --seed {seed}' 'write /workspace/small.txt hello'");
    let mut command = vec!["/fairlead".to_owned(), "tool".to_owned()];
    command.extend(tool_words(&commands));
    json!({"name": "big", "image": TOOL, "command": command, "artifacts": ["*.bin", "*.txt"]})
}

fn tool_words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (index, part) in line.split('\'').enumerate() {
        match index % 2 {
            0 => words.extend(part.split_whitespace().map(str::to_owned)),
            _ => words.push(part.to_owned()),
        }
    }
    words
}

/// Begins a run; its uid.
async fn begin(bench: &Bench, name: &str, steps: Value) -> String {
    let runs: Api<TestRun> = Api::namespaced(bench.hub_client(), "default");
    let run = json!({
        "apiVersion": "fleet.fairlead.dev/v1alpha1", "kind": "TestRun", "metadata": {"name": name},
        "spec": {"targets": {"all": true}, "workflow": {"steps": steps}},
    });
    let made = runs.create(&PostParams::default(), &serde_json::from_value(run).unwrap()).await.unwrap();
    made.metadata.uid.unwrap()
}

/// The run's part in its one cluster, once it has ended.
async fn ended(bench: &Bench, name: &str) -> ClusterResult {
    let runs: Api<TestRun> = Api::namespaced(bench.hub_client(), "default");
    let found = || async {
        let status = runs.get(name).await.ok()?.status?;
        status.clusters.into_iter().find(|cluster| cluster.outcome.is_some())
    };
    eventually(&format!("{name} ends"), || async { found().await.is_some() }).await;
    found().await.unwrap()
}

fn named<'a>(steps: &'a [StepResult], path: &str) -> &'a Artifact {
    let attempts = steps.iter().flat_map(|step| &step.attempts);
    let found = attempts.flat_map(|attempt| &attempt.artifacts).find(|artifact| artifact.path == path);
    found.unwrap_or_else(|| panic!("{path}: {steps:?}"))
}

/// What the hub says of a run's files, by path.
async fn states(client: &kube::Client, run: &str) -> Vec<Value> {
    let request = http::Request::get(format!("/fleet/v1/testruns/default/{run}/artifacts")).body(vec![]);
    client.request(request.unwrap()).await.unwrap()
}

async fn state(bench: &Bench, run: &str, path: &str) -> String {
    let all = states(&bench.hub_client(), run).await;
    let found = all.iter().find(|file| file["path"] == path);
    found.map(|file| file["state"].as_str().unwrap().to_owned()).unwrap_or_default()
}

/// Reads a file of the step `big`, from a byte on, and answers the status and what came.
async fn read(client: &kube::Client, run: &str, cluster: &str, path: &str, from: u64) -> Vec<u8> {
    let place = format!("/fleet/v1/testruns/default/{run}/artifacts/{cluster}/big/1/{path}");
    let request = http::Request::get(place).header("range", format!("bytes={from}-")).body(vec![]).unwrap();
    let mut bytes = Vec::new();
    let stream = client.request_stream(request).await.unwrap();
    std::pin::pin!(stream).read_to_end(&mut bytes).await.unwrap();
    bytes
}

/// The first file below a directory whose name ends like this, with its length.
fn below(dir: &Path, end: &str) -> Option<(PathBuf, u64)> {
    for entry in std::fs::read_dir(dir).ok()?.flatten() {
        let Ok(facts) = entry.metadata() else { continue };
        if facts.is_dir() {
            if let Some(found) = below(&entry.path(), end) {
                return Some(found);
            }
        } else if entry.file_name().to_string_lossy().ends_with(end) {
            return Some((entry.path(), facts.len()));
        }
    }
    None
}

/// Waits, closely, until a part of a file is there; false when it was whole before it was seen.
async fn in_the_middle(dir: &Path, whole: impl Fn() -> bool) -> bool {
    for _ in 0..30_000 {
        if below(dir, ".partial").is_some_and(|(_, length)| length > 0) {
            return true;
        }
        if whole() {
            return false;
        }
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    panic!("nothing came to {}", dir.display());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_file_arrives_whole_though_agent_and_hub_end_in_the_middle() {
    let mut bench = Bench::start(&["dev"]).await;
    let (spool, hub) =
        (bench.agent_dir("dev").join("collected"), bench.hub_dir().join("data/test-artifacts"));
    // The machine may be too fast to be caught in the middle: then with another file.
    for number in 0.. {
        assert!(number < 10, "never seen in the middle");
        let run = format!("big-{number}");
        let uid = begin(&bench, &run, json!([leaves(SIZE, number)])).await;
        let hub = hub.join(uid);
        // While it is taken from the pod.
        let taken =
            in_the_middle(&spool.join("incoming"), || below(&spool.join("large"), "").is_some()).await;
        let (_, length) = below(&spool.join("incoming"), ".partial").unwrap_or_default();
        bench.restart_agent("dev").await;
        let after = below(&spool.join("incoming"), ".partial").map_or(SIZE, |(_, length)| length);
        assert!(after >= length, "what had come is lost: {after} of {length}");
        // While it is sent to the hub.
        let sent =
            in_the_middle(&hub, || below(&hub, "").is_some_and(|(path, _)| path.extension().is_none())).await;
        let (_, length) = below(&hub, ".partial").unwrap_or((PathBuf::new(), SIZE));
        bench.restart_agent("dev").await;
        bench.stop_hub().await;
        let partial = below(&hub, ".partial");
        let mut same = None;
        if let Some((path, at_stop)) = &partial {
            assert!(*at_stop >= length);
            // What is there is not sent again: it stays the same file of the disk until it is whole.
            same = Some(std::fs::metadata(path).unwrap().ino());
        }
        bench.start_hub().await;
        bench.connected("dev").await;
        let result = ended(&bench, &run).await;
        let big = named(&result.steps, "big.bin").clone();
        assert_eq!(big.size, SIZE);
        eventually("it is whole", || async { state(&bench, &run, "big.bin").await == "Stored" }).await;
        assert_eq!(state(&bench, &run, "small.txt").await, "Stored");
        let whole = read(&bench.hub_client(), &run, "dev", "big.bin", 0).await;
        assert_eq!(fleet_planner::digest(&whole), big.sha256);
        if let Some(inode) = same {
            let (path, _) = below(&hub, &big.sha256).unwrap();
            assert_eq!(std::fs::metadata(path).unwrap().ino(), inode, "the hub began anew");
        }
        let rest = read(&bench.hub_client(), &run, "dev", "big.bin", SIZE - 1000).await;
        assert_eq!(rest, whole[whole.len() - 1000..]);
        eventually("the agent has let go of it", || async {
            below(&spool.join("large"), "").is_none() && below(&spool.join("incoming"), "").is_none()
        })
        .await;
        if taken && sent && partial.is_some() {
            break;
        }
    }
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn results_do_not_wait_for_files_and_what_the_disk_damaged_is_told_as_lost() {
    let mut bench = Bench::start(&["dev"]).await;
    let collected = bench.agent_dir("dev").join("collected");
    let (spool, small) = (collected.join("large"), collected.join("small"));
    begin(&bench, "away", json!([leaves(9 * MIB, 1)])).await;
    // As soon as the run is under way the hub is gone.
    eventually("it is under way", || async {
        // Held only for a moment: a client of the hub keeps its store open.
        let runs: Api<TestRun> = Api::namespaced(bench.hub_client(), "default");
        let status = runs.get("away").await.unwrap().status.unwrap_or_default();
        status.clusters.iter().any(|cluster| cluster.started_at.is_some())
    })
    .await;
    bench.stop_hub().await;
    eventually("the file waits on the agent's disk", || async { below(&spool, "").is_some() }).await;
    eventually("the result waits, too", || async { bench.tests_waiting("dev").await == 1 }).await;
    // The disk fails: other bytes stand in the middle, also of what is small.
    let (token, store) = bench.stop_agent("dev").await;
    for dir in [&spool, &small] {
        let (file, _) = below(dir, "").unwrap();
        let mut content = std::fs::read(&file).unwrap();
        let middle = content.len() / 2;
        content[middle] ^= 1;
        assert!(!content.windows(5).any(|window| window == b"hello"), "it lies there unsealed");
        std::fs::write(&file, content).unwrap();
    }
    bench.start_hub().await;
    bench.start_agent("dev", token, store).await;
    let result = ended(&bench, "away").await;
    assert_eq!(named(&result.steps, "big.bin").size, 9 * MIB);
    eventually("the agent gives them up", || async { below(&spool, "").or(below(&small, "")).is_none() })
        .await;
    for path in ["big.bin", "small.txt"] {
        eventually("that is told", || async { state(&bench, "away", path).await == "Lost" }).await;
        let result = ended(&bench, "away").await;
        let lost = named(&result.steps, path).lost.clone();
        assert_eq!(lost, "the agent's disk damaged it while it waited for the hub");
        let warnings = &result.steps[0].attempts[0].warnings;
        assert!(warnings.contains(&format!("{path} is lost: {lost}")), "{warnings:?}");
    }
    let kept = bench.hub_dir().join("data/test-artifacts");
    eventually("nothing of it is kept", || async { below(&kept, "").is_none() }).await;
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_there_is_no_room_for_is_counted_in_the_report() {
    let bench = Bench::start_with(&["dev"], |options| options.max_test_files = 20 * MIB).await;
    let mut step = leaves(9 * MIB, 1);
    step["command"] = json!([
        "/fairlead",
        "tool",
        "do",
        format!("fill /workspace/a.bin {} --seed 1", 9 * MIB),
        format!("fill /workspace/b.bin {} --seed 2", 30 * MIB)
    ]);
    begin(&bench, "room", json!([step])).await;
    let result = ended(&bench, "room").await;
    assert_eq!(named(&result.steps, "a.bin").size, 9 * MIB);
    let attempt = &result.steps[0].attempts[0];
    assert_eq!(attempt.artifacts.len(), 1);
    let said = attempt.warnings.join("\n");
    assert!(
        said.contains("b.bin was not kept: 31457280 bytes are more than the agent has room for"),
        "{said}"
    );
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_test_bed_of_one_process_keeps_large_files() {
    let flow = Flow::start().await;
    let (outcome, steps) = flow.run("large", json!({"steps": [leaves(8 * MIB, 3)]})).await;
    assert_eq!(outcome, fleet_objects::test_run::Outcome::Passed, "{steps:?}");
    let big = named(&steps, "big.bin");
    assert_eq!(big.size, 8 * MIB);
    let client = flow.bed.hub();
    let stored = || async {
        let all = states(&client, "large").await;
        all.len() == 2 && all.iter().all(|file| file["state"] == "Stored")
    };
    eventually("both are there", stored).await;
    let content = read(&client, "large", "ci", "big.bin", 0).await;
    assert_eq!(fleet_planner::digest(&content), big.sha256);
    assert_eq!(read(&client, "large", "ci", "small.txt", 0).await, b"hello");
}
