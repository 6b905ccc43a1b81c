//! Which agents are there, in memory. An agent is connected while it has a stream open and was heard of lately; only a
//! change of that is ever written to the store.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use agent_protocol::PingReport;
use parking_lot::Mutex;
use tokio::sync::Notify;

/// The registry of streams. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Presence {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    timeout: Duration,
    agents: Mutex<HashMap<String, Agent>>,
    changed: Notify,
}

#[derive(Debug)]
struct Agent {
    streams: u32,
    heard: Instant,
    /// What was told last; `None`: nothing yet.
    told: Option<bool>,
    /// What its last ping said.
    report: Option<PingReport>,
}

/// An open stream; dropping it closes the stream in the registry.
#[derive(Debug)]
pub(crate) struct StreamGuard {
    shared: Arc<Shared>,
    cluster: String,
}

impl Drop for StreamGuard {
    fn drop(&mut self) {
        if let Some(agent) = self.shared.agents.lock().get_mut(&self.cluster) {
            agent.streams = agent.streams.saturating_sub(1);
        }
        self.shared.changed.notify_one();
    }
}

impl Presence {
    /// `timeout` is how long an agent may be silent on an open stream.
    #[must_use]
    pub(crate) fn new(timeout: Duration) -> Self {
        Self { shared: Arc::new(Shared { timeout, agents: Mutex::default(), changed: Notify::new() }) }
    }

    /// An agent opened a stream.
    #[must_use]
    pub(crate) fn open(&self, cluster: &str) -> StreamGuard {
        {
            let mut agents = self.shared.agents.lock();
            let agent = agents.entry(cluster.to_owned()).or_insert(Agent {
                streams: 0,
                heard: Instant::now(),
                told: None,
                report: None,
            });
            agent.streams += 1;
            agent.heard = Instant::now();
        }
        self.shared.changed.notify_one();
        StreamGuard { shared: self.shared.clone(), cluster: cluster.to_owned() }
    }

    /// An agent said something.
    pub(crate) fn heard(&self, cluster: &str) {
        if let Some(agent) = self.shared.agents.lock().get_mut(cluster) {
            agent.heard = Instant::now();
        }
    }

    /// What an agent said of itself; true when it said something else before.
    pub(crate) fn reported(&self, cluster: &str, report: &PingReport) -> bool {
        let mut agents = self.shared.agents.lock();
        let Some(agent) = agents.get_mut(cluster) else { return false };
        let changed = agent.report.as_ref() != Some(report);
        agent.report = Some(report.clone());
        changed
    }

    /// Forgets what an agent said, so that it is taken up again (a write failed).
    pub(crate) fn unreport(&self, cluster: &str) {
        if let Some(agent) = self.shared.agents.lock().get_mut(cluster) {
            agent.report = None;
        }
    }

    /// Whether an agent is there now.
    #[must_use]
    pub(crate) fn is_connected(&self, cluster: &str) -> bool {
        self.shared.agents.lock().get(cluster).is_some_and(|agent| self.shared.connected(agent))
    }

    /// Makes a cluster known, so that [`Presence::transitions`] says also that nobody came.
    pub(crate) fn expect(&self, cluster: &str) {
        let agent = Agent { streams: 0, heard: Instant::now(), told: None, report: None };
        self.shared.agents.lock().entry(cluster.to_owned()).or_insert(agent);
    }

    /// Forgets what was told, so that it is told again (a write failed).
    pub(crate) fn untell(&self, cluster: &str) {
        if let Some(agent) = self.shared.agents.lock().get_mut(cluster) {
            agent.told = None;
        }
    }

    /// The clusters whose state changed since the last call, with the new state.
    #[must_use]
    pub(crate) fn transitions(&self) -> Vec<(String, bool)> {
        let mut agents = self.shared.agents.lock();
        let mut changed = Vec::new();
        for (name, agent) in agents.iter_mut() {
            let now = self.shared.connected(agent);
            // An agent never heard of gets its time to come back before it is called gone: the hub itself may just have
            // started.
            let premature = agent.told.is_none() && !now && agent.heard.elapsed() < self.shared.timeout;
            if agent.told != Some(now) && !premature {
                agent.told = Some(now);
                changed.push((name.clone(), now));
            }
        }
        changed
    }

    /// Returns when something may have changed, at the latest after a quarter of the timeout.
    pub(crate) async fn changed(&self) {
        let _ = tokio::time::timeout(self.shared.timeout / 4, self.shared.changed.notified()).await;
    }
}

impl Shared {
    fn connected(&self, agent: &Agent) -> bool {
        agent.streams > 0 && agent.heard.elapsed() < self.timeout
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_transitions_are_told() {
        let presence = Presence::new(Duration::from_secs(60));
        presence.expect("late");
        let guard = presence.open("dev");
        let second = presence.open("dev");
        assert_eq!(presence.transitions(), [("dev".to_owned(), true)]);
        assert!(presence.transitions().is_empty());
        drop(guard);
        assert!(presence.transitions().is_empty(), "one stream is left");
        drop(second);
        assert_eq!(presence.transitions(), [("dev".to_owned(), false)]);
    }

    #[test]
    fn silence_ends_presence() {
        let presence = Presence::new(Duration::ZERO);
        let _guard = presence.open("dev");
        presence.expect("late");
        let mut told = presence.transitions();
        told.sort();
        assert_eq!(told, [("dev".to_owned(), false), ("late".to_owned(), false)]);
    }
}
