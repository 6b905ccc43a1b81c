//! Leases. etcd keeps their time; it may end one later than asked, never earlier.

use std::collections::BTreeSet;
use std::time::Duration;

use storage::mvcc::{LeaseGrant, MAX_LEASE, MIN_LEASE};
use storage::{LeaseId, StoreError};
use tonic::{Response, Status};

use crate::connection::{Connection, Fault, Repeat};
use crate::store::Shared;
use crate::wire::etcdserverpb::{
    LeaseGrantRequest, LeaseKeepAliveRequest, LeaseRevokeRequest, LeaseTimeToLiveRequest,
};

fn lease_error(lease: LeaseId) -> impl FnOnce(Fault) -> StoreError {
    move |fault| match fault {
        Fault::LeaseNotFound => StoreError::LeaseNotFound(lease),
        fault => fault.store_error(),
    }
}

impl Shared {
    pub(crate) async fn lease_grant(&self, id: LeaseId, ttl: Duration) -> Result<LeaseId, StoreError> {
        if !(MIN_LEASE..=MAX_LEASE).contains(&ttl) {
            let reason = format!("a lease of {ttl:?}: 1 second to 1 year is allowed");
            return Err(StoreError::InvalidRequest(reason));
        }
        self.check()?;
        grant(&self.connection, LeaseGrant { id, ttl }).await?;
        Ok(id)
    }

    pub(crate) async fn lease_renew(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.check()?;
        let call = |channel| async move {
            let request = tokio_stream::once(LeaseKeepAliveRequest { id: lease.0 });
            let mut answers = Connection::lease(channel).lease_keep_alive(request).await?.into_inner();
            let answer = answers.message().await?;
            Ok(Response::new(answer.ok_or_else(|| Status::unavailable("the stream ended"))?))
        };
        let renewed = self.connection.call(Repeat::Freely, call).await.map_err(lease_error(lease))?;
        // etcd answers for a lease that is gone with no time left.
        if renewed.ttl <= 0 { Err(StoreError::LeaseNotFound(lease)) } else { Ok(()) }
    }

    pub(crate) async fn lease_revoke(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.check()?;
        let request = LeaseRevokeRequest { id: lease.0 };
        let call = |channel| async move { Connection::lease(channel).lease_revoke(request).await };
        // Sent twice, the second would not find it: that must not be told of a lease that was there.
        self.connection.call(Repeat::UnlessSent, call).await.map(drop).map_err(lease_error(lease))
    }

    /// How long a lease was granted for; `None`: it has ended.
    pub(crate) async fn lease(&self, id: LeaseId) -> Result<Option<LeaseGrant>, StoreError> {
        let request = LeaseTimeToLiveRequest { id: id.0 };
        let call = |channel| async move { Connection::lease(channel).lease_time_to_live(request).await };
        let found = self.connection.call(Repeat::Freely, call).await.map_err(lease_error(id))?;
        let seconds = u64::try_from(found.granted_ttl).unwrap_or(0);
        Ok((found.ttl >= 0 && seconds > 0).then_some(LeaseGrant { id, ttl: Duration::from_secs(seconds) }))
    }

    /// Which of a refused transaction's leases is not there.
    pub(crate) async fn missing_lease(&self, leases: BTreeSet<LeaseId>) -> StoreError {
        let last = leases.last().copied();
        for id in leases {
            match self.lease(id).await {
                Ok(Some(_)) => {}
                Ok(None) => return StoreError::LeaseNotFound(id),
                Err(error) => return error,
            }
        }
        // It was not there a moment ago: somebody granted it since.
        last.map_or_else(|| Fault::LeaseNotFound.store_error(), StoreError::LeaseNotFound)
    }
}

/// Grants a lease under an id of ours.
pub(crate) async fn grant(connection: &Connection, grant: LeaseGrant) -> Result<(), StoreError> {
    // etcd counts in seconds; never less than asked for.
    let seconds = grant.ttl.as_secs() + u64::from(grant.ttl.subsec_nanos() > 0);
    let request = LeaseGrantRequest { ttl: i64::try_from(seconds).unwrap_or(i64::MAX), id: grant.id.0 };
    let call = |channel| async move { Connection::lease(channel).lease_grant(request).await };
    let granted = connection.call(Repeat::UnlessSent, call).await.map_err(Fault::store_error)?;
    if granted.error.is_empty() { Ok(()) } else { Err(StoreError::Unavailable(granted.error)) }
}
