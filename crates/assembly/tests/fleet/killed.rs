//! Instances told by files of a checkout, carried out by an agent that is killed at every place where that can matter. A
//! ledger counts what was recorded and which pods there ever were.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ::hub::ContentStore;
use ::hub::test_runs::{self, Handler, TestRuns};
use async_trait::async_trait;
use cluster_agent::executor::{ContentUpload, Executor, LargeFile, Options, RecordSink, SinkError};
use fleet_objects::partition_namespace;
use fleet_objects::test_record::{TestNews, TestRecord};
use fleet_objects::test_run::{Outcome, StepResult, TestExecution};
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::api::PostParams;
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, ResourceExt as _};
use parking_lot::Mutex;
use serde_json::{Value, json};
use storage::{
    Incarnation, KeyRange, LeaseId, Operation, RangeRequest, RangeResponse, Revision, Snapshot, Store,
    StoreError, StoreStatus, Transaction, TransactionResponse, WatchRequest, WatchStream, Witness,
};
use tokio_util::sync::CancellationToken;

use crate::bench::{Bench, eventually, memory};
use crate::flows::TOOL;

/// When the process of an agent ends.
#[derive(Clone, Copy, Debug)]
enum Death {
    /// After this many changes of its notes, before it learns that the last is durable: nothing that follows is done.
    Noted(usize),
    /// When it would change them once more after this many: what it did in between is done and not noted.
    Unnoted(usize),
}

/// The store of an agent that is killed: from then on nobody gets an answer.
struct Mortal {
    inner: Arc<dyn Store>,
    writes: AtomicUsize,
    death: Death,
    died: CancellationToken,
}

impl Mortal {
    async fn lives<T>(&self, work: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
        if self.died.is_cancelled() {
            std::future::pending::<()>().await;
        }
        work.await
    }

    /// Whether a note says something else than before.
    async fn is_news(&self, transaction: &Transaction) -> bool {
        for operation in &transaction.success {
            let Operation::Put(put) = operation else { continue };
            if !put.key.starts_with(b"/test-executions/") {
                continue;
            }
            let known = self.inner.range(RangeRequest::all(KeyRange::single(put.key.clone()))).await.unwrap();
            if known.kvs.first().is_none_or(|known| known.value != put.value) {
                return true;
            }
        }
        false
    }
}

#[async_trait]
impl Store for Mortal {
    async fn range(&self, request: RangeRequest) -> Result<RangeResponse, StoreError> {
        self.lives(self.inner.range(request)).await
    }

    async fn transact(&self, transaction: Transaction) -> Result<TransactionResponse, StoreError> {
        if !self.is_news(&transaction).await {
            return self.lives(self.inner.transact(transaction)).await;
        }
        let number = 1 + self.writes.fetch_add(1, Ordering::SeqCst);
        let (landed, dies) = match self.death {
            Death::Noted(last) => (number <= last, number >= last),
            Death::Unnoted(last) => (number <= last, number > last),
        };
        if self.died.is_cancelled() {
            std::future::pending::<()>().await;
        }
        let done = if landed { Some(self.inner.transact(transaction).await) } else { None };
        if dies {
            self.died.cancel();
            std::future::pending::<()>().await;
        }
        done.expect("what lives on was written")
    }

    async fn watch(&self, request: WatchRequest) -> Result<WatchStream, StoreError> {
        self.lives(self.inner.watch(request)).await
    }

    async fn compact(&self, revision: Revision) -> Result<(), StoreError> {
        self.lives(self.inner.compact(revision)).await
    }

    async fn status(&self) -> Result<StoreStatus, StoreError> {
        self.lives(self.inner.status()).await
    }

    fn incarnation(&self) -> Incarnation {
        self.inner.incarnation()
    }

    fn served(&self) -> Witness {
        self.inner.served()
    }

    async fn lease_grant(&self, ttl: Duration) -> Result<LeaseId, StoreError> {
        self.lives(self.inner.lease_grant(ttl)).await
    }

    async fn lease_renew(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.lives(self.inner.lease_renew(lease)).await
    }

    async fn lease_revoke(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.lives(self.inner.lease_revoke(lease)).await
    }

    async fn snapshot(&self) -> Result<Snapshot, StoreError> {
        self.lives(self.inner.snapshot()).await
    }
}

/// The hub, and everything that was ever told it.
#[derive(Clone)]
struct Ledger {
    handler: Handler,
    told: Arc<Mutex<Vec<TestRecord>>>,
}

/// A dead agent tells nothing.
struct Sink(Ledger, CancellationToken);

#[async_trait]
impl RecordSink for Sink {
    async fn append(&self, record: TestRecord) -> Result<(), SinkError> {
        if self.1.is_cancelled() {
            std::future::pending::<()>().await;
        }
        self.0.told.lock().push(record.clone());
        let handled = self.0.handler.handle("dev", record).await;
        handled.map_err(|error| SinkError::Unavailable(error.to_string()))
    }
}

struct Nowhere;

#[async_trait]
impl ContentUpload for Nowhere {
    async fn put(&self, _: &str, _: Vec<u8>) -> Result<(), SinkError> {
        Ok(())
    }

    async fn send(&self, _: &LargeFile) -> Result<(), SinkError> {
        Ok(())
    }
}

/// Eight instances: two browsers by two parts of five files; and as many as there are `.cfg` files, told by another pod, each
/// of which is spread by what it finds itself.
fn workflow() -> Value {
    let files = ["tests/a.js", "tests/b.js", "tests/c.js", "tests/deep/d.js", "tests/e.js", "x.cfg", "y.cfg"];
    let files: Vec<_> = files.iter().map(|path| json!({"path": path, "content": path})).collect();
    json!({
        "container": {"image": TOOL},
        "content": {"files": files},
        "steps": [
            {"name": "spread", "parallel": {
                "matrix": {"browser": "split(\"chrome firefox\", \" \")"},
                "shards": {"spec": "glob(\"tests/**/*.js\")"}, "maxCount": 2,
                "transfer": [{"from": "tests"}],
                "steps": [{"name": "run", "title": "{{ matrix.browser }}:{{ join(shard.spec, \"+\") }}",
                    "command": ["/fairlead", "tool", "cat", "/workspace/{{ shard.spec.0 }}"]}],
            }},
            {"name": "each", "parallel": {
                "count": "len(glob(\"*.cfg\"))",
                "content": {"files": [{"path": "in/p", "content": "p"}, {"path": "in/q", "content": "q"}]},
                "steps": [{"name": "inner", "parallel": {
                    "matrix": {"file": "glob(\"in/*\")"},
                    "steps": [{"name": "go", "title": "{{ matrix.file }}", "command": ["/fairlead", "tool", "exit", "0"]}],
                }}],
            }},
        ],
    })
}

/// Names of pods, each with the uids it had.
type Pods = Arc<Mutex<BTreeMap<String, Vec<String>>>>;

struct Bed {
    bench: Bench,
    notes: Arc<dyn Store>,
    ledger: Ledger,
    pods: Pods,
    executions: Api<TestExecution>,
}

impl Bed {
    async fn start(dir: &Path) -> Self {
        let mut bench = Bench::start(&[]).await;
        bench.add_cluster("dev").await;
        let client = bench.hub_client();
        let namespace = Namespace {
            metadata: kube::api::ObjectMeta { name: Some(partition_namespace("dev")), ..Default::default() },
            ..Namespace::default()
        };
        Api::<Namespace>::all(client.clone()).create(&PostParams::default(), &namespace).await.unwrap();
        let options = test_runs::Options {
            log_dir: dir.join("logs"),
            log_key: ::hub::RecordKey::default(),
            artifact_dir: dir.join("artifacts"),
            max_run_bytes: u64::MAX,
            retention: None,
            notify: Default::default(),
        };
        let content = Arc::new(ContentStore::open(dir.join("content"), None).unwrap());
        let handler = TestRuns::new(options, client.clone(), content).unwrap().handler();
        let pods = Pods::default();
        let seen = Arc::clone(&pods);
        let all: Api<Pod> = Api::namespaced(bench.cluster_client("dev"), "fairlead-tests");
        tokio::spawn(async move {
            let watched = watcher(all, watcher::Config::default()).default_backoff().applied_objects();
            let mut watched = std::pin::pin!(watched);
            while let Some(pod) = watched.next().await {
                let Ok(pod) = pod else { continue };
                let mut seen = seen.lock();
                let uids = seen.entry(pod.name_any()).or_default();
                let uid = pod.uid().unwrap_or_default();
                if !uids.contains(&uid) {
                    uids.push(uid);
                }
            }
        });
        let executions = Api::namespaced(client, &partition_namespace("dev"));
        Self { bench, notes: memory(), ledger: Ledger { handler, told: Arc::default() }, pods, executions }
    }

    async fn begin(&self, name: &str) {
        let execution = json!({
            "apiVersion": "fleet.fairlead.dev/v1alpha1", "kind": "TestExecution", "metadata": {"name": name},
            "spec": {"run": {"namespace": "default", "name": name, "uid": name}, "cluster": "dev", "workflow": workflow()},
        });
        let execution = serde_json::from_value(execution).unwrap();
        self.executions.create(&PostParams::default(), &execution).await.unwrap();
    }

    async fn ended(&self, name: &str) -> Option<(Outcome, Vec<StepResult>)> {
        let result = self.executions.get(name).await.unwrap().status?.result?;
        Some((result.outcome?, result.steps))
    }

    /// One life of the agent, until it is killed or has carried out the execution and cleaned up; true: it died.
    async fn live(&self, name: &str, dir: &Path, death: Death) -> bool {
        let died = CancellationToken::new();
        let store: Arc<dyn Store> = Arc::new(Mortal {
            inner: Arc::clone(&self.notes),
            writes: AtomicUsize::new(0),
            death,
            died: died.clone(),
        });
        let executor = Executor::new(
            Options::new("dev", dir.join("collected")),
            self.bench.cluster_client("dev"),
            self.bench.hub_client(),
            store.into(),
            Arc::new(Sink(self.ledger.clone(), died.clone())),
            Arc::new(Nowhere),
        );
        let stop = CancellationToken::new();
        let life = tokio::spawn(executor.unwrap().run(stop.clone()));
        let all: Api<Pod> = Api::namespaced(self.bench.cluster_client("dev"), "fairlead-tests");
        let over = async {
            eventually("the execution ends and leaves no pod", || async {
                self.ended(name).await.is_some()
                    && all.list(&Default::default()).await.unwrap().items.is_empty()
            })
            .await;
        };
        let killed = tokio::select! {
            () = died.cancelled() => true,
            () = over => false,
        };
        // Nothing of it goes on.
        died.cancel();
        life.abort();
        let _ = life.await;
        stop.cancel();
        killed
    }

    /// Every attempt was recorded once and nothing ran twice; what the titles of instances say is what they were told.
    fn check(&self, steps: &[StepResult], lives: usize) {
        let mut names: Vec<_> = steps.iter().map(|step| step.name.as_str()).collect();
        names.sort_unstable();
        let all = names.len();
        names.dedup();
        assert_eq!(names.len(), all, "a step is recorded twice");
        for step in steps {
            assert_eq!(step.outcome, Some(Outcome::Passed), "after {lives} lives: {step:#?}");
            assert_eq!(step.attempts.len(), 1, "{step:#?}");
        }
        let mut told: Vec<_> = steps
            .iter()
            .filter(|step| step.parent == "spread" || step.parent.ends_with("-inner"))
            .map(|step| step.title.clone())
            .collect();
        told.sort();
        let parts = ["tests/a.js+tests/b.js", "tests/c.js+tests/deep/d.js+tests/e.js"];
        let mut wanted: Vec<_> =
            ["chrome", "firefox"].iter().flat_map(|own| parts.map(|part| format!("{own}:{part}"))).collect();
        wanted.extend(["in/p", "in/p", "in/q", "in/q"].map(str::to_owned));
        assert_eq!(told, wanted, "{steps:#?}");
        // What was told more than once was told as it was told first.
        let mut first: BTreeMap<String, StepResult> = BTreeMap::new();
        for record in self.ledger.told.lock().drain(..) {
            let TestNews::Step { result } = record.news else { continue };
            let known = first.entry(result.name.clone()).or_insert_with(|| result.clone());
            assert_eq!(known.outcome, result.outcome, "another outcome of {}", result.name);
        }
        let pods = std::mem::take(&mut *self.pods.lock());
        for (name, uids) in &pods {
            assert_eq!(uids.len(), 1, "{name} ran more than once");
        }
        // Two that find lists, four of the first spread, two that find lists again, and four of theirs.
        assert_eq!(pods.len(), 2 + 4 + 2 + 4, "after {lives} lives: {pods:#?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_killed_at_any_moment_plans_every_part_of_a_spread_once() {
    let dir = tempfile::tempdir().unwrap();
    let bed = Bed::start(dir.path()).await;
    // Killed at every single change of its notes, when it has landed; and when it has not: after one and after two that have.
    let deaths = [Death::Noted(usize::MAX), Death::Noted(1), Death::Unnoted(1), Death::Unnoted(2)];
    let mut counts = Vec::new();
    for (number, death) in deaths.into_iter().enumerate() {
        let name = format!("spread-{number}");
        bed.begin(&name).await;
        let mut lives = 1;
        while bed.live(&name, dir.path(), death).await {
            lives += 1;
            assert!(lives < 1000, "it does not come to its end");
        }
        let (outcome, steps) = bed.ended(&name).await.unwrap();
        assert_eq!(outcome, Outcome::Passed, "{steps:#?}");
        bed.check(&steps, lives);
        counts.push(lives);
    }
    // It was killed between any two things that it notes.
    assert!(counts[0] == 1 && counts[1] > 60 && counts[2] > 60 && counts[3] > 30, "{counts:?}");
    bed.bench.stop().await;
}
