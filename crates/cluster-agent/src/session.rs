//! The agent's conversation with its hub. It may fail at any time and for any time: nothing in the cluster waits for it.

mod admit;
mod identity;

use std::sync::Arc;
use std::time::Duration;

use agent_protocol::{HeldReport, RecordBody, StreamMessage};
use foundation::backoff::Backoff;
use foundation::random::SystemRandom;
use futures::AsyncBufReadExt;
use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::connector::{HubConnector, Trust};
use crate::credentials::{Credentials, Identity};
use crate::enforcer::Input;
use crate::error::Error;
use crate::hub_client::HubClient;
use crate::link::HubLink;
use crate::outbox::Outbox;
use crate::service::{AgentStatus, Join};
use crate::vault::Vault;

/// How often the hub is tried while it is away.
const RETRY: Backoff = Backoff::new(Duration::from_millis(250), Duration::from_secs(15));

/// Everything a conversation needs.
pub(crate) struct Session {
    pub(crate) connector: Arc<dyn HubConnector>,
    pub(crate) credentials: Credentials,
    pub(crate) trust: Option<Trust>,
    pub(crate) join: Option<Join>,
    pub(crate) cluster_uid: String,
    pub(crate) version: String,
    pub(crate) link: HubLink,
    pub(crate) vault: Vault,
    pub(crate) outbox: Outbox,
    pub(crate) enforcer: mpsc::Sender<Input>,
    /// Woken when what the agent holds changed outside the session.
    pub(crate) held_changed: Arc<Notify>,
    pub(crate) status: watch::Sender<AgentStatus>,
    /// The last report of what is held, so that only changes are sent.
    pub(crate) last_held: Mutex<Option<HeldReport>>,
}

impl Session {
    /// Talks to the hub until `shutdown`, again and again.
    pub(crate) async fn run(self, shutdown: CancellationToken) {
        let mut failures = 0;
        loop {
            let ended = tokio::select! {
                () = shutdown.cancelled() => return,
                ended = self.once() => ended,
            };
            let was_connected = self.status.borrow().connected;
            let text = ended.err().map(|error| error.chain());
            if was_connected {
                failures = 0;
            }
            if let Some(text) = &text {
                tracing::info!(error = %text, "no conversation with the hub; what is held stays enforced");
            }
            self.status.send_modify(|status| {
                status.connected = false;
                status.last_error = text;
            });
            let delay = RETRY.delay(failures, &SystemRandom);
            failures = failures.saturating_add(1);
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(delay) => {}
            }
        }
    }

    /// One conversation; `Ok` when it ended for a new certificate.
    async fn once(&self) -> Result<(), Error> {
        let identity = self.ensure_identity().await?;
        let client = self.connector.authenticated(&self.credentials).await?;
        self.link.set(client.clone());
        let hub = HubClient::new(client);
        let mut lines = Box::pin(hub.stream().await?).lines();
        let hello = next_line(&mut lines, Duration::from_secs(30)).await?;
        let StreamMessage::Hello { hub_epoch, ping_millis, .. } = hello else {
            return Err(Error::Invalid("hub: the stream does not begin with a greeting".to_owned()));
        };
        let ping = Duration::from_millis(ping_millis.clamp(100, 60_000));
        tracing::info!(cluster = %identity.name, hub_epoch, "connected to the hub");
        self.status.send_modify(|status| {
            status.connected = true;
            status.name = Some(identity.name.clone());
            status.hub_epoch = Some(hub_epoch.clone());
            status.last_error = None;
        });
        tokio::select! {
            ended = listen(lines, ping) => ended,
            ended = self.ping(&hub, ping) => ended,
            ended = self.send_outbox(&hub) => ended,
            ended = self.follow_assignments(&hub, &identity.name, &hub_epoch) => ended,
            ended = self.renew_in_time(&hub, identity.clone()) => ended,
        }
    }

    async fn ping(&self, hub: &HubClient, every: Duration) -> Result<(), Error> {
        loop {
            tokio::time::sleep(every).await;
            hub.ping().await?;
        }
    }

    /// Sends what waits, in order, and forgets what the hub has made durable.
    async fn send_outbox(&self, hub: &HubClient) -> Result<(), Error> {
        let mut appended = self.outbox.appended();
        loop {
            appended.mark_unchanged();
            while let Some(batch) = self.outbox.batch().await? {
                let ack = hub.outbox(&batch).await?;
                self.outbox.acknowledge(ack.through).await?;
                let last = batch.records.last().map_or(0, |record| record.sequence);
                if ack.through < last {
                    return Err(Error::Invalid("hub: it acknowledged less than it was sent".to_owned()));
                }
            }
            if appended.changed().await.is_err() {
                return Err(Error::Invalid("the outbox is closed".to_owned()));
            }
        }
    }

    async fn renew_in_time(&self, hub: &HubClient, identity: Identity) -> Result<(), Error> {
        loop {
            let left = identity.renew_at().as_second() - Timestamp::now().as_second();
            match u64::try_from(left) {
                // Looked at often, for the clock may jump.
                Ok(left) if left > 0 => tokio::time::sleep(Duration::from_secs(left.min(60))).await,
                _ => return self.renew(hub, &identity).await,
            }
        }
    }

    /// Tells what is held, when it changed or the hub is another one.
    pub(crate) async fn report_held(&self, hub_epoch: &str, absent: Vec<String>) -> Result<(), Error> {
        let report = HeldReport { held: self.vault.held().await?, absent, hub_epoch: hub_epoch.to_owned() };
        if self.last_held.lock().as_ref() == Some(&report) {
            return Ok(());
        }
        self.outbox.append(RecordBody::Held(report.clone())).await?;
        *self.last_held.lock() = Some(report);
        Ok(())
    }
}

type Lines<R> = futures::io::Lines<R>;

async fn next_line<R: futures::AsyncBufRead + Unpin>(
    lines: &mut Lines<R>,
    patience: Duration,
) -> Result<StreamMessage, Error> {
    use futures::StreamExt;
    let lost = |why: String| Error::Invalid(format!("hub: the stream was lost: {why}"));
    let line = tokio::time::timeout(patience, lines.next()).await;
    let line = line.map_err(|_| lost(format!("nothing heard for {} s", patience.as_secs())))?;
    let line =
        line.ok_or_else(|| lost("the hub closed it".to_owned()))?.map_err(|error| lost(error.to_string()))?;
    serde_json::from_str(&line).map_err(|error| Error::Invalid(format!("hub: a line of the stream: {error}")))
}

async fn listen<R: futures::AsyncBufRead + Unpin>(mut lines: Lines<R>, ping: Duration) -> Result<(), Error> {
    loop {
        next_line(&mut lines, ping * 3 + Duration::from_secs(1)).await?;
    }
}
