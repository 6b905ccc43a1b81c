//! One of several: control loops that only one process of a cluster may run, by a Lease as upstream's components take it.
//!
//! As with client-go's leader election, two may act for a moment when clocks run apart or one is paused; what they write is
//! conditional on what they read. A leader that loses its lease ends its process: it must not go on with what it knows.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::PostParams;
use kube::{Api, Client};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::error::{AssemblyError, Cause};

/// Upstream's defaults: how long a lease holds, how long its holder tries to renew it, and how often.
const HELD: Duration = Duration::from_secs(15);
const RENEW_WITHIN: Duration = Duration::from_secs(10);
const RETRY: Duration = Duration::from_secs(2);
/// Where the leases of a cluster's own components are.
pub(crate) const NAMESPACE: &str = "kube-system";

/// One who would lead.
pub(crate) struct Candidate {
    pub(crate) client: Client,
    /// The Lease's name.
    pub(crate) lease: &'static str,
    pub(crate) identity: String,
    /// The Lease's namespace.
    pub(crate) namespace: &'static str,
}

/// A name for a process that no other has.
pub(crate) fn identity(name: &str) -> String {
    format!("{name}_{}", uuid::Uuid::new_v4())
}

/// Runs `part` until `stop`: at once, or, for a candidate, when and as long as it leads.
pub(crate) async fn lead<F, E>(
    candidate: Option<Candidate>,
    stop: CancellationToken,
    part: impl FnOnce(CancellationToken) -> F,
) -> Result<(), AssemblyError>
where
    F: Future<Output = Result<(), E>>,
    E: Into<Cause>,
{
    let run = async |stop| part(stop).await.map_err(|error| AssemblyError::new("it ended", error.into()));
    let Some(candidate) = candidate else { return run(stop).await };
    let mut election = Election::new(candidate);
    if stop.run_until_cancelled(election.win()).await.is_none() {
        return Ok(());
    }
    tracing::info!(lease = election.candidate.lease, "leading");
    let leading = stop.child_token();
    tokio::select! {
        done = run(leading.clone()) => {
            election.release().await;
            done
        }
        () = election.hold() => {
            let lease = election.candidate.lease;
            Err(AssemblyError::new(format!("lost the lease {lease}"), "another process leads now".into()))
        }
    }
}

/// What has been seen of the lease: its age counts from when this process saw it change, for clocks differ.
pub(crate) struct Election {
    candidate: Candidate,
    seen: Option<(LeaseSpec, Instant)>,
}

impl Election {
    pub(crate) fn new(candidate: Candidate) -> Self {
        Self { candidate, seen: None }
    }

    pub(crate) async fn win(&mut self) {
        while !self.attempt(true).await {
            tokio::time::sleep(RETRY).await;
        }
    }

    /// Returns when the lease is lost.
    pub(crate) async fn hold(&mut self) {
        let mut renewed = Instant::now();
        while renewed.elapsed() < RENEW_WITHIN {
            tokio::time::sleep(RETRY).await;
            let left = RENEW_WITHIN.saturating_sub(renewed.elapsed());
            if tokio::time::timeout(left, self.attempt(true)).await.unwrap_or(false) {
                renewed = Instant::now();
            }
        }
    }

    /// Lets another lead at once.
    pub(crate) async fn release(&mut self) {
        self.attempt(false).await;
    }

    /// One try to take or renew (or to give up) the lease. What fails is tried again by the caller.
    async fn attempt(&mut self, keep: bool) -> bool {
        match self.try_once(keep).await {
            Ok(done) => done,
            Err(kube::Error::Api(status)) if status.code == 409 => false,
            Err(error) => {
                tracing::debug!(%error, lease = self.candidate.lease, "the lease was neither taken nor renewed");
                false
            }
        }
    }

    /// Who was seen to hold it, when it was not this one.
    pub(crate) fn holder(&self) -> Option<&str> {
        self.seen.as_ref()?.0.holder_identity.as_deref()
    }

    pub(crate) fn client(&self) -> &Client {
        &self.candidate.client
    }

    /// One try to take or renew (or to give up) the lease; false while another holds it.
    ///
    /// # Errors
    /// As the server answers; a conflict when somebody wrote it at the same moment.
    pub(crate) async fn try_once(&mut self, keep: bool) -> Result<bool, kube::Error> {
        let leases: Api<Lease> = Api::namespaced(self.candidate.client.clone(), self.candidate.namespace);
        let Some(mut lease) = leases.get_opt(self.candidate.lease).await? else {
            let metadata =
                ObjectMeta { name: Some(self.candidate.lease.to_owned()), ..ObjectMeta::default() };
            let lease = Lease { metadata, spec: Some(self.spec(&LeaseSpec::default(), keep)) };
            leases.create(&PostParams::default(), &lease).await?;
            return Ok(true);
        };
        let found = lease.spec.clone().unwrap_or_default();
        let mine = found.holder_identity.as_ref() == Some(&self.candidate.identity);
        if !mine && self.holds(&found) {
            return Ok(false);
        }
        lease.spec = Some(self.spec(&found, keep));
        leases.replace(self.candidate.lease, &PostParams::default(), &lease).await?;
        Ok(true)
    }

    /// Whether another holds the lease, judged by this process's clock.
    fn holds(&mut self, found: &LeaseSpec) -> bool {
        if found.holder_identity.as_deref().unwrap_or_default().is_empty() {
            return false;
        }
        let since = match &self.seen {
            Some((seen, since)) if seen == found => *since,
            _ => {
                let now = Instant::now();
                self.seen = Some((found.clone(), now));
                now
            }
        };
        let seconds = found.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
        since.elapsed() < seconds.map_or(HELD, Duration::from_secs)
    }

    fn spec(&self, found: &LeaseSpec, keep: bool) -> LeaseSpec {
        let now =
            MicroTime(Timestamp::now().round(jiff::Unit::Microsecond).unwrap_or_else(|_| Timestamp::now()));
        let mine = found.holder_identity.as_ref() == Some(&self.candidate.identity);
        let transitions = found.lease_transitions.unwrap_or(0);
        LeaseSpec {
            holder_identity: Some(if keep { self.candidate.identity.clone() } else { String::new() }),
            // A released lease is over in a second, as upstream releases it.
            lease_duration_seconds: Some(if keep { i32::try_from(HELD.as_secs()).unwrap_or(15) } else { 1 }),
            acquire_time: if mine { found.acquire_time.clone() } else { Some(now.clone()) },
            renew_time: Some(now),
            lease_transitions: Some(if mine || found.holder_identity.is_none() {
                transitions
            } else {
                transitions + 1
            }),
            ..LeaseSpec::default()
        }
    }
}
