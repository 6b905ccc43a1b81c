//! What a hub does all the time: on every process, and on the one that leads.

use std::sync::Arc;
use std::time::Duration;

use fleet_objects::{SYSTEM_NAMESPACE, set_condition};
use kube::ResourceExt;
use tokio_util::sync::CancellationToken;

use super::{RECORD_KEY, Shared};
use crate::error::Error;
use crate::materialise::{self, RecordHandler};
use crate::record_key::RecordKey;
use crate::replicas::{Term, directory};
use crate::test_runs::TestRuns;
use crate::{
    alerts, cluster_profiles, cluster_status, compliance, former, placement, projects, registration, sources,
};

/// Makes what the hub itself needs in its API; the API may take a while to answer.
pub(super) async fn prepare(shared: &Shared, shutdown: &CancellationToken) -> Result<(), Error> {
    const TRIES: u32 = 120;
    let mut tries = 0;
    loop {
        let made = async {
            registration::ensure_namespace(&shared.client, SYSTEM_NAMESPACE).await?;
            projects::ensure_roles(&shared.client).await
        };
        match made.await {
            Ok(()) => return Ok(()),
            Err(error) if tries == TRIES => return Err(error),
            Err(_) => tries += 1,
        }
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            () = tokio::time::sleep(Duration::from_millis(500)) => {}
        }
    }
}

/// Writes transitions of presence, and nothing else.
async fn write_presence(shared: Arc<Shared>, shutdown: CancellationToken) {
    tokio::select! {
        () = shutdown.cancelled() => return,
        () = shared.clusters.has_synced() => {}
    }
    loop {
        for cluster in shared.clusters.list() {
            shared.presence.expect(&cluster.name_any());
        }
        for (name, connected) in shared.presence.transitions() {
            let written = cluster_status::update(&shared.client, &name, |status| {
                set_condition(
                    &mut status.conditions,
                    cluster_status::connected(connected),
                    &cluster_status::now(),
                );
            });
            if let Err(error) = written.await {
                tracing::warn!(cluster = %name, error = &error as &dyn std::error::Error, "presence was not written");
                shared.presence.untell(&name);
            }
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = shared.presence.changed() => {}
        }
    }
}

/// What was kept before encryption was wanted, or with an older key: content, and the key of records.
pub(super) async fn seal_files(shared: &Shared) {
    let said = |error: &Error| {
        let why: &dyn std::error::Error = error;
        tracing::warn!(error = why, "older files were not sealed anew");
    };
    match shared.content.seal_anew().await {
        Ok(0) => {}
        Ok(files) => tracing::info!(files, "content was sealed anew"),
        Err(error) => said(&error),
    }
    // Opening it seals it as is wanted now.
    let key = match &shared.replica {
        Some(replica) => RecordKey::open_shared(&replica.store, shared.content.sealer()).await.map(drop),
        None => RecordKey::open(&shared.data_dir.join(RECORD_KEY), shared.content.sealer()).map(drop),
    };
    if let Err(error) = key {
        said(&error);
    }
}

async fn sweep(shared: Arc<Shared>, shutdown: CancellationToken) {
    loop {
        if let Err(error) = shared.sweep_tokens().await {
            tracing::debug!(error = &error as &dyn std::error::Error, "ended join tokens stay for now");
        }
        if shared.clusters.status().synced {
            shared.tunnels.retain(|name| shared.clusters.find("", name).is_some());
            compliance::sweep(&shared).await;
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(Duration::from_secs(300)) => {}
        }
    }
}

async fn empty_namespaces(shared: Arc<Shared>, shutdown: CancellationToken) {
    if let Some(run) = &shared.namespaces {
        run(shared.client.clone(), shutdown).await;
    }
}

/// What every process does, whoever leads.
pub(super) async fn beside(shared: &Arc<Shared>, shutdown: &CancellationToken) {
    let told = async {
        if let Some(replica) = shared.replica.clone() {
            directory::run(replica, shared.presence.clone(), shutdown.clone()).await;
        }
    };
    tokio::join!(shutdown.run_until_cancelled(seal_files(shared)), told);
}

/// Runs the control loops: until `shutdown` where the hub is one process, else again and again while this one leads.
pub(super) async fn lead(
    shared: &Arc<Shared>,
    handlers: &[Arc<dyn RecordHandler>],
    test_runs: &TestRuns,
    shutdown: &CancellationToken,
) -> Result<(), Error> {
    let Some(replica) = &shared.replica else {
        return Box::pin(control(shared.clone(), handlers.to_vec(), test_runs, shutdown.clone())).await;
    };
    while let Some(term) = shutdown.run_until_cancelled(replica.election.term()).await {
        let Term { client, fence, lost, held } = term;
        tracing::info!(identity = %replica.identity, "leading the hub");
        let leading = Shared { client: client.clone(), fence: Some(fence), ..(**shared).clone() };
        leading.presence.tell_anew();
        let stop = shutdown.child_token();
        let ends = async {
            tokio::select! {
                () = lost.cancelled() => tracing::warn!("another process may lead the hub now"),
                () = stop.cancelled() => {}
            }
            stop.cancel();
        };
        let tests = test_runs.with_client(client);
        let (done, ()) =
            tokio::join!(control(Arc::new(leading), handlers.to_vec(), &tests, stop.clone()), ends);
        drop(held);
        done?;
    }
    Ok(())
}

/// The control loops.
async fn control(
    shared: Arc<Shared>,
    mut handlers: Vec<Arc<dyn RecordHandler>>,
    test_runs: &TestRuns,
    stop: CancellationToken,
) -> Result<(), Error> {
    handlers.push(Arc::new(test_runs.handler()));
    let (.., tests) = tokio::join!(
        materialise::run(shared.clone(), handlers, stop.clone()),
        placement::run(shared.clone(), stop.clone()),
        sources::run(shared.clone(), stop.clone()),
        write_presence(shared.clone(), stop.clone()),
        cluster_profiles::run(shared.clone(), stop.clone()),
        Box::pin(alerts::run(shared.clone(), stop.clone())),
        sweep(shared.clone(), stop.clone()),
        empty_namespaces(shared.clone(), stop.clone()),
        former::run(shared.clone(), stop.clone()),
        test_runs.run(stop),
    );
    Ok(tests?)
}
