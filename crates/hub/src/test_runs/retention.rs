//! How long test runs are kept: by age, by number per workflow, and by the size of their logs and of their large files. What belonged to a run goes
//! with it: its executions in the clusters' partitions, its log, the files it kept.
//!
//! Never: removes a run that has not ended, one that is marked to be kept, or content that anything else names.

mod decide;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use fleet_objects::rollout::Rollout;
use fleet_objects::test_run::{TestExecution, TestRun};
use fleet_objects::{Assignment, Profile};
use jiff::Timestamp;
use kube::api::{DeleteParams, ListParams, Preconditions};
use kube::{Api, Client, Resource, ResourceExt};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::controller::api_error;
use super::{ContentSource, Error};
use decide::Kept;
pub use decide::Retention;

/// Annotation on a run that is to be kept whatever retention says; any value.
const KEEP: &str = "fleet.fairlead.dev/keep";

/// Between two looks.
const EVERY: Duration = Duration::from_secs(600);
/// After the start, so that a hub that is started again and again still looks.
const FIRST: Duration = Duration::from_secs(20);

/// What is looked after.
pub(super) struct Sweep<'a> {
    pub(super) client: Client,
    pub(super) log_dir: PathBuf,
    pub(super) artifact_dir: PathBuf,
    pub(super) retention: Retention,
    pub(super) content: &'a dyn ContentSource,
}

impl Sweep<'_> {
    /// Looks again and again until `shutdown`.
    pub(super) async fn run(self, shutdown: CancellationToken) {
        let mut wait = FIRST;
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(wait) => {}
            }
            wait = EVERY;
            match self.pass(Timestamp::now()).await {
                Ok(0) => {}
                Ok(removed) => info!(removed, "test runs were removed, as retention says"),
                Err(error) => warn!(%error, "old test runs stay for now"),
            }
        }
    }

    /// Removes what is due; how many runs that were.
    async fn pass(&self, now: Timestamp) -> Result<usize, Error> {
        // Executions first: one whose run is not in the later list has none any more.
        let executions = self.list::<TestExecution>("list test executions").await?;
        let runs = self.list::<TestRun>("list test runs").await?;
        let (sizes, files) = tokio::join!(sizes(&self.log_dir), sizes(&self.artifact_dir));
        let kept: Vec<Kept> = runs.iter().map(|run| seen(run, &sizes, &files)).collect();
        let due: BTreeSet<String> = decide::due(&kept, &self.retention, now).into_iter().collect();
        let (gone, left): (Vec<&TestRun>, Vec<&TestRun>) =
            runs.iter().partition(|run| run.uid().is_some_and(|uid| due.contains(&uid)));
        for run in &gone {
            self.delete(*run).await?;
        }
        let uids: BTreeSet<String> = left.iter().filter_map(|run| run.uid()).collect();
        for execution in executions.iter().filter(|execution| !uids.contains(&execution.spec.run.uid)) {
            self.delete(execution).await?;
        }
        let logs = sizes.keys().map(|uid| (uid, &self.log_dir));
        let files = files.keys().map(|uid| (uid, &self.artifact_dir));
        for (uid, dir) in logs.chain(files).filter(|(uid, _)| !uids.contains(*uid)) {
            let dir = dir.join(uid);
            if let Err(error) = tokio::fs::remove_dir_all(&dir).await {
                warn!(%error, dir = %dir.display(), "what is left of a test run that is gone stays for now");
            }
        }
        if !gone.is_empty() {
            self.forget_files(&gone, &left).await?;
        }
        Ok(gone.len())
    }

    /// Lets go of files that only removed runs named.
    async fn forget_files(&self, gone: &[&TestRun], left: &[&TestRun]) -> Result<(), Error> {
        let mut names: BTreeSet<&str> = gone.iter().flat_map(|run| files(run)).collect();
        for run in left {
            for file in files(run) {
                names.remove(file);
            }
        }
        if names.is_empty() {
            return Ok(());
        }
        // A profile may hold the very bytes that a test kept.
        let mut others = self.text::<Assignment>("list assignments").await?;
        others.push_str(&self.text::<Profile>("list profiles").await?);
        others.push_str(&self.text::<Rollout>("list rollouts").await?);
        for name in names.into_iter().filter(|name| !others.contains(*name)) {
            if let Err(error) = self.content.forget(name).await {
                warn!(%error, sha256 = name, "a file of a removed test run stays for now");
            }
        }
        Ok(())
    }

    async fn text<K>(&self, operation: &'static str) -> Result<String, Error>
    where
        K: Resource<DynamicType = ()>
            + Clone
            + std::fmt::Debug
            + serde::de::DeserializeOwned
            + serde::Serialize,
    {
        let all = self.list::<K>(operation).await?;
        Ok(serde_json::to_string(&all).unwrap_or_default())
    }

    async fn list<K>(&self, operation: &'static str) -> Result<Vec<K>, Error>
    where
        K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + serde::de::DeserializeOwned,
    {
        let api: Api<K> = Api::all(self.client.clone());
        Ok(api.list(&ListParams::default()).await.map_err(api_error(operation))?.items)
    }

    /// Removes exactly this object.
    async fn delete<K>(&self, object: &K) -> Result<(), Error>
    where
        K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
            + Clone
            + std::fmt::Debug
            + serde::de::DeserializeOwned,
    {
        let api: Api<K> = Api::namespaced(self.client.clone(), &object.namespace().unwrap_or_default());
        let only = Preconditions { uid: object.uid(), resource_version: None };
        let params = DeleteParams { preconditions: Some(only), ..DeleteParams::default() };
        match api.delete(&object.name_any(), &params).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
            Err(error) => Err(api_error("remove what belonged to a test run")(error)),
        }
    }
}

/// A run as retention sees it.
fn seen(run: &TestRun, log_sizes: &BTreeMap<String, u64>, file_sizes: &BTreeMap<String, u64>) -> Kept {
    let uid = run.uid().unwrap_or_default();
    let conditions = run.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    let ended = conditions.iter().any(|condition| {
        condition.type_ == fleet_objects::test_run::SUCCEEDED && condition.status != "Unknown"
    });
    let of = workflow::report::history::workflow_of(run);
    Kept {
        group: (run.namespace().unwrap_or_default(), of),
        // One without a time of its own is new.
        made: run.metadata.creation_timestamp.as_ref().map_or(Timestamp::MAX, |time| time.0),
        removable: ended && !run.annotations().contains_key(KEEP),
        log_bytes: log_sizes.get(&uid).copied().unwrap_or(0),
        file_bytes: file_sizes.get(&uid).copied().unwrap_or(0),
        uid,
    }
}

/// Digests of everything a run kept.
fn files(run: &TestRun) -> impl Iterator<Item = &str> {
    let steps = run.status.iter().flat_map(|status| &status.clusters).flat_map(|cluster| &cluster.steps);
    let attempts = steps.flat_map(|step| &step.attempts);
    attempts.flat_map(|attempt| &attempt.artifacts).map(|artifact| artifact.sha256.as_str())
}

/// Bytes of what is kept of each run in a directory, by its uid.
async fn sizes(dir: &Path) -> BTreeMap<String, u64> {
    let dir = dir.to_owned();
    let sizes = tokio::task::spawn_blocking(move || {
        let size = |entry: std::fs::DirEntry| {
            let inner = std::fs::read_dir(entry.path()).into_iter().flatten().flatten();
            let bytes = inner.filter_map(|file| Some(file.metadata().ok()?.len())).sum();
            (entry.file_name().to_string_lossy().into_owned(), bytes)
        };
        std::fs::read_dir(dir).into_iter().flatten().flatten().map(size).collect()
    });
    sizes.await.unwrap_or_default()
}
