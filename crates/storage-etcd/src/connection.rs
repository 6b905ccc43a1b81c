//! Calls to etcd: failover, bounds, and what its errors mean.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use foundation::causes;
use storage::StoreError;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Code, Response, Status};

use crate::options::{InvalidEndpoint, Options};
use crate::wire::etcdserverpb::kv_client::KvClient;
use crate::wire::etcdserverpb::lease_client::LeaseClient;
use crate::wire::etcdserverpb::maintenance_client::MaintenanceClient;
use crate::wire::etcdserverpb::watch_client::WatchClient;

/// The largest message taken from etcd: a page of values, or one transaction's deletions. etcd's own limit on a request is
/// 1.5 MiB unless configured.
const MAX_MESSAGE_BYTES: usize = 64 << 20;
/// A connection that cannot be made in this time goes to the next endpoint.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// etcd refuses pings that come more often than every five seconds.
const PING_EVERY: Duration = Duration::from_secs(10);
const PING_TIMEOUT: Duration = Duration::from_secs(5);
/// Between attempts of a call that may be repeated.
const RETRY_PAUSE: Duration = Duration::from_millis(50);

/// What etcd answered instead of doing what it was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    Compacted,
    Future,
    LeaseNotFound,
    TooLarge,
    NoSpace,
    Invalid(String),
    /// The outcome of a write is unknown.
    Unavailable(String),
}

impl Fault {
    /// As the contract has it, for calls that name no revision and no lease.
    pub(crate) fn store_error(self) -> StoreError {
        match self {
            Self::NoSpace => {
                StoreError::NoSpace { path: "etcd (raise its quota, compact and defragment it)".into() }
            }
            Self::Invalid(reason) => StoreError::InvalidRequest(reason),
            Self::TooLarge => StoreError::InvalidRequest("the answer is larger than 64 MiB".to_owned()),
            Self::Unavailable(reason) => StoreError::Unavailable(reason),
            other => StoreError::Unavailable(format!("etcd answered unexpectedly: {other:?}")),
        }
    }
}

/// Whether a call may be sent again when nobody knows whether the first was carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Repeat {
    Freely,
    /// Only when it certainly did not reach etcd.
    UnlessSent,
}

/// Connections to all members, one used at a time.
#[derive(Debug)]
pub(crate) struct Connection {
    members: Vec<(String, Channel)>,
    current: AtomicUsize,
    call_timeout: Duration,
    permits: Semaphore,
}

impl Connection {
    /// Connects when first used.
    pub(crate) fn new(options: &Options) -> Result<Self, InvalidEndpoint> {
        let members = options
            .endpoints
            .iter()
            .map(|endpoint| {
                channel(endpoint, options)
                    .map(|channel| (endpoint.clone(), channel))
                    .map_err(|reason| InvalidEndpoint { endpoint: endpoint.clone(), reason })
            })
            .collect::<Result<Vec<_>, _>>()?;
        if members.is_empty() {
            let reason = "at least one endpoint is needed".to_owned();
            return Err(InvalidEndpoint { endpoint: String::new(), reason });
        }
        Ok(Self {
            members,
            current: AtomicUsize::new(0),
            call_timeout: options.call_timeout,
            permits: Semaphore::new(options.calls_in_flight.clamp(1, Semaphore::MAX_PERMITS)),
        })
    }

    fn member(&self) -> (usize, &(String, Channel)) {
        let index = self.current.load(Ordering::Relaxed) % self.members.len();
        (index, &self.members[index])
    }

    /// The member at `index` has failed: use the next, unless another call has moved on already.
    fn move_on(&self, index: usize) {
        let next = (index + 1) % self.members.len();
        // Losing the race means that somebody else moved on.
        let _ = self.current.compare_exchange(index, next, Ordering::Relaxed, Ordering::Relaxed);
    }

    pub(crate) fn kv(channel: Channel) -> KvClient<Channel> {
        // What etcd accepts is etcd's to say; the engine's own bounds are the contract's.
        KvClient::new(channel)
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(usize::MAX)
    }

    pub(crate) fn lease(channel: Channel) -> LeaseClient<Channel> {
        LeaseClient::new(channel)
    }

    pub(crate) fn maintenance(channel: Channel) -> MaintenanceClient<Channel> {
        MaintenanceClient::new(channel)
    }

    /// A client for a stream of watch messages, and a token to give to [`Self::broken`] when the stream fails.
    pub(crate) fn watch(&self) -> (WatchClient<Channel>, usize) {
        let (index, (_, channel)) = self.member();
        (WatchClient::new(channel.clone()).max_decoding_message_size(MAX_MESSAGE_BYTES), index)
    }

    pub(crate) fn broken(&self, token: usize) {
        self.move_on(token);
    }

    /// Makes a call, at another member if one cannot be reached.
    pub(crate) async fn call<T, F>(&self, repeat: Repeat, call: impl Fn(Channel) -> F) -> Result<T, Fault>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        // The semaphore is never closed.
        let _permit = self.permits.acquire().await.map_err(|_| Fault::Unavailable("shut down".to_owned()))?;
        let deadline = Instant::now() + self.call_timeout;
        loop {
            let (index, (endpoint, channel)) = self.member();
            let failure = match tokio::time::timeout_at(deadline, call(channel.clone())).await {
                Ok(Ok(response)) => return Ok(response.into_inner()),
                Ok(Err(status)) => match fault(&status) {
                    Some(fault) => return Err(fault),
                    None => status,
                },
                Err(_) => {
                    self.move_on(index);
                    let seconds = self.call_timeout.as_secs_f32();
                    let reason = format!("etcd at {endpoint} did not answer within {seconds} s");
                    return Err(Fault::Unavailable(reason));
                }
            };
            self.move_on(index);
            let may_repeat = repeat == Repeat::Freely || never_sent(&failure);
            if !may_repeat || Instant::now() + RETRY_PAUSE >= deadline {
                return Err(Fault::Unavailable(format!("etcd at {endpoint}: {}", causes::in_line(&failure))));
            }
            tokio::time::sleep(RETRY_PAUSE).await;
        }
    }
}

fn channel(endpoint: &str, options: &Options) -> Result<Channel, String> {
    let mut builder = Endpoint::from_shared(endpoint.to_owned())
        .map_err(|error| error.to_string())?
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .http2_adaptive_window(true)
        .http2_keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_TIMEOUT)
        .keep_alive_while_idle(true);
    if builder.uri().scheme_str() == Some("https") {
        let mut tls = ClientTlsConfig::new();
        if let Some(authority) = &options.tls.certificate_authority {
            tls = tls.ca_certificate(Certificate::from_pem(authority));
        }
        if let (Some(certificate), Some(key)) = (&options.tls.certificate, &options.tls.key) {
            tls = tls.identity(Identity::from_pem(certificate, key));
        }
        if let Some(name) = &options.tls.server_name {
            tls = tls.domain_name(name);
        }
        builder = builder.tls_config(tls).map_err(|error| causes::in_line(&error))?;
    }
    Ok(builder.connect_lazy())
}

/// What an answer of etcd means; `None` for a failure of the way there, or of the cluster.
fn fault(status: &Status) -> Option<Fault> {
    let message = status.message();
    Some(match status.code() {
        _ if message.contains("required revision has been compacted") => Fault::Compacted,
        _ if message.contains("required revision is a future revision") => Fault::Future,
        _ if message.contains("requested lease not found") => Fault::LeaseNotFound,
        _ if message.contains("message length too large") => Fault::TooLarge,
        _ if message.contains("database space exceeded") => Fault::NoSpace,
        Code::InvalidArgument if message.contains("too many operations") => {
            Fault::Invalid(format!("{message} (etcd's --max-txn-ops is too low)"))
        }
        Code::InvalidArgument if message.contains("request is too large") => {
            Fault::Invalid(format!("{message} (etcd's --max-request-bytes is too low)"))
        }
        Code::InvalidArgument | Code::FailedPrecondition => Fault::Invalid(message.to_owned()),
        Code::PermissionDenied | Code::Unauthenticated => {
            Fault::Unavailable(format!("etcd refuses this client: {message}"))
        }
        Code::Unimplemented => Fault::Unavailable(format!("etcd does not know the call: {message}")),
        _ => return None,
    })
}

/// Whether the failure happened before a connection was there.
fn never_sent(status: &Status) -> bool {
    let mut source = std::error::Error::source(status);
    while let Some(error) = source {
        if error.is::<tonic::ConnectError>() {
            return true;
        }
        source = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_etcd_are_told_from_failures_of_the_way() {
        let of = |code, message: &str| fault(&Status::new(code, message));
        let compacted = "etcdserver: mvcc: required revision has been compacted";
        assert_eq!(of(Code::OutOfRange, compacted), Some(Fault::Compacted));
        assert_eq!(
            of(Code::OutOfRange, "Error, decoded message length too large: found 70000000 bytes"),
            Some(Fault::TooLarge)
        );
        assert_eq!(
            of(Code::ResourceExhausted, "etcdserver: mvcc: database space exceeded"),
            Some(Fault::NoSpace)
        );
        assert!(matches!(
            of(Code::InvalidArgument, "etcdserver: too many operations in txn request"),
            Some(Fault::Invalid(text)) if text.contains("--max-txn-ops")
        ));
        assert_eq!(of(Code::Unavailable, "etcdserver: leader changed"), None);
        assert_eq!(of(Code::Unavailable, "tcp connect error"), None);
    }
}
