//! The agent's conversation with its hub. It may fail at any time and for any time: nothing in the cluster waits for it.

mod admit;
pub(crate) mod identity;
mod trusted;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use agent_protocol::{HeldReport, PingReport, RecordBody, StreamMessage};
use foundation::backoff::Backoff;
use foundation::random::SystemRandom;
use futures::{AsyncBufRead, AsyncBufReadExt};
use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::access::Tunnels;
use crate::ceiling::Ceilings;
use crate::connector::{HubConnector, Trust};
use crate::credentials::{Credentials, Identity};
use crate::enforcer::Input;
use crate::error::Error;
use crate::hub_client::HubClient;
use crate::link::HubLink;
use crate::outbox::{Outbox, is_full};
use crate::service::{AgentStatus, Join};
use crate::vault::Vault;
use trusted::Trusted;

/// How often the hub is tried while it is away.
const RETRY: Backoff = Backoff::new(Duration::from_millis(250), Duration::from_secs(15));

/// The hub's word for a cluster that asks too much: it is to wait, not to come again with another connection.
const TOO_MANY: u16 = 429;
/// How long to wait then.
const SLOWER: Duration = Duration::from_secs(1);

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
    pub(crate) ceilings: Ceilings,
    pub(crate) outbox: Outbox,
    pub(crate) enforcer: mpsc::Sender<Input>,
    /// Woken when what the agent holds changed outside the session.
    pub(crate) held_changed: Arc<Notify>,
    /// Dialled when the hub asks; none where people of the hub have no access.
    pub(crate) tunnels: Option<Tunnels>,
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
            } else {
                self.connector.unreached();
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

    /// One conversation, over as many certificates as it takes. A new certificate's connection is there before the old
    /// one is let go, so that the hub never sees the agent leave.
    async fn once(&self) -> Result<(), Error> {
        let mut identity = self.ensure_identity().await?;
        let opened = self.open(&identity).await;
        let mut open = match opened {
            // The certificate is good no more, though its time has not come: another authority signs by now. The key is
            // still the registered one.
            Err(Error::Refused { code: 401, .. }) => {
                identity = self.reattest(&identity).await?;
                self.open(&identity).await?
            }
            opened => opened?,
        };
        loop {
            identity = Box::pin(self.converse(&mut open, &identity)).await?;
            open = self.open(&identity).await?;
        }
    }

    /// Connects with the present certificate and is greeted.
    async fn open(&self, identity: &Identity) -> Result<Open<impl AsyncBufRead + Unpin + use<>>, Error> {
        let client = self.connector.authenticated(&self.credentials).await?;
        self.link.set(client.clone());
        let hub = HubClient::new(client);
        let mut lines = Box::pin(hub.stream().await?).lines();
        let hello = next_line(&mut lines, Duration::from_secs(30)).await?;
        let StreamMessage::Hello { hub_epoch, ping_millis, .. } = hello else {
            return Err(Error::Invalid("hub: the stream does not begin with a greeting".to_owned()));
        };
        let ping = Duration::from_millis(ping_millis.clamp(100, 60_000));
        self.learn(&hub).await;
        tracing::info!(cluster = %identity.name, hub_epoch, "connected to the hub");
        self.status.send_modify(|status| {
            status.connected = true;
            status.name = Some(identity.name.clone());
            status.hub_epoch = Some(hub_epoch.clone());
            status.last_error = None;
        });
        Ok(Open { hub, lines, ping, hub_epoch })
    }

    /// Takes over which authorities to trust and where the hub is, so that a rotation or a move reaches every agent that
    /// was there during it. Without an answer everything stays as it was.
    async fn learn(&self, hub: &HubClient) {
        let learned = match hub.ca().await {
            Ok(told) => self
                .credentials
                .learn_ca(&told.ca_pem)
                .and_then(|new| self.connector.announced(told.hub_url.as_deref()).map(|()| new)),
            Err(error) => Err(error),
        };
        match learned {
            Ok(true) => tracing::info!("the hub showed other authorities; they are trusted from now on"),
            Ok(false) => {}
            Err(error) => {
                tracing::warn!(error = %error.chain(), "what the hub says about itself was not kept")
            }
        }
    }

    /// Talks until the connection is lost, or until there is a new certificate.
    async fn converse<R: AsyncBufRead + Unpin>(
        &self,
        open: &mut Open<R>,
        identity: &Identity,
    ) -> Result<Identity, Error> {
        let Open { hub, lines, ping, hub_epoch } = open;
        let (hub, ping) = (&*hub, *ping);
        tokio::select! {
            lost = self.listen(hub, lines, ping) => Err(lost),
            lost = self.ping(hub, ping) => Err(lost),
            lost = self.send_outbox(hub) => Err(lost),
            lost = self.follow_assignments(hub, &identity.name, hub_epoch) => Err(lost),
            renewed = self.renew_in_time(hub, identity) => renewed,
        }
    }

    /// Hears what the hub says until it is lost.
    async fn listen<R: AsyncBufRead + Unpin>(
        &self,
        hub: &HubClient,
        lines: &mut Lines<R>,
        ping: Duration,
    ) -> Error {
        loop {
            match next_line(lines, ping * 3 + Duration::from_secs(1)).await {
                Ok(StreamMessage::OpenTunnel) => {
                    if let Some(tunnels) = &self.tunnels {
                        tunnels.open(self.connector.upgradable(&self.credentials).await);
                    }
                }
                Ok(StreamMessage::Authority) => self.learn(hub).await,
                Ok(_) => {}
                Err(lost) => return lost,
            }
        }
    }

    /// Says that the agent is there, how its outbox is, at once when that changes, and whom it trusts, where the hub has not
    /// heard that in this session.
    async fn ping(&self, hub: &HubClient, every: Duration) -> Error {
        let mut problem = self.outbox.problem();
        let mut trusted = Trusted::default();
        loop {
            let outbox_problem = problem.borrow_and_update().clone();
            let authorities = trusted.untold(&self.credentials).await;
            let report = PingReport { outbox_problem, dropped: self.outbox.dropped(), authorities };
            match hub.ping(&report).await {
                Ok(()) => trusted.told(),
                Err(Error::Refused { code: TOO_MANY, .. }) => {}
                Err(lost) => return lost,
            }
            // What the outbox says last is said by its owner, who lives as long as this.
            let _ = tokio::time::timeout(every, problem.changed()).await;
        }
    }

    /// Sends what waits, in order, and forgets what the hub has made durable.
    async fn send_outbox(&self, hub: &HubClient) -> Error {
        match self.send_records(hub).await {
            Ok(never) => match never {},
            Err(error) => error,
        }
    }

    async fn send_records(&self, hub: &HubClient) -> Result<Infallible, Error> {
        let mut appended = self.outbox.appended();
        loop {
            appended.mark_unchanged();
            while let Some(batch) = self.outbox.batch().await? {
                let ack = match hub.outbox(&batch).await {
                    Err(Error::Refused { code: TOO_MANY, .. }) => {
                        tokio::time::sleep(SLOWER).await;
                        continue;
                    }
                    answer => answer?,
                };
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

    /// Answers the renewed identity. A renewal that fails is tried again for as long as the certificate holds.
    async fn renew_in_time(&self, hub: &HubClient, identity: &Identity) -> Result<Identity, Error> {
        let mut failures = 0;
        loop {
            let left = identity.renew_at().duration_since(Timestamp::now());
            if let Ok(left) = Duration::try_from(left)
                && !left.is_zero()
            {
                // Looked at often, for the clock may jump.
                tokio::time::sleep(left.min(Duration::from_secs(60))).await;
                continue;
            }
            match self.renew(hub, identity).await {
                Ok(renewed) => return Ok(renewed),
                Err(error) if identity.not_after <= Timestamp::now() => return Err(error),
                Err(error) => {
                    tracing::warn!(error = %error.chain(), "the certificate was not renewed; trying again");
                    tokio::time::sleep(RETRY.delay(failures, &SystemRandom)).await;
                    failures = failures.saturating_add(1);
                }
            }
        }
    }

    /// Tells what is held, when it changed or the hub is another one. False: there is no room to say it now.
    pub(crate) async fn report_held(&self, hub_epoch: &str, absent: Vec<String>) -> Result<bool, Error> {
        let report = HeldReport { held: self.vault.held().await?, absent, hub_epoch: hub_epoch.to_owned() };
        if self.last_held.lock().as_ref() == Some(&report) {
            return Ok(true);
        }
        match self.outbox.append(RecordBody::Held(report.clone())).await {
            Ok(_) => {}
            Err(error) if is_full(&error) => return Ok(false),
            Err(error) => return Err(error.into()),
        }
        *self.last_held.lock() = Some(report);
        Ok(true)
    }
}

/// A connection with one certificate.
struct Open<R> {
    hub: HubClient,
    lines: Lines<R>,
    ping: Duration,
    hub_epoch: String,
}

type Lines<R> = futures::io::Lines<R>;

async fn next_line<R: AsyncBufRead + Unpin>(
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
