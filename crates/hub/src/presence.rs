//! Which agents are there, in memory. An agent is connected while it has a stream open and was heard of lately; only a
//! change of that is ever written to the store.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use agent_protocol::PingReport;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use crate::replicas::directory::Seat;

/// The registry of streams. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Presence {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    timeout: Duration,
    agents: Mutex<HashMap<String, Agent>>,
    /// Agents whose stream another process of this hub holds.
    elsewhere: Mutex<HashMap<String, Seat>>,
    changed: Notify,
    /// Counts up when a stream here opens or closes.
    here: watch::Sender<u64>,
    /// How many streams were opened here.
    openings: AtomicU64,
}

#[derive(Debug)]
struct Agent {
    streams: u32,
    /// Which of all openings here its newest stream was.
    opened: u64,
    heard: Instant,
    /// What was told last; `None`: nothing yet.
    told: Option<bool>,
    /// What it said by its pings since its newest stream was opened.
    report: Option<PingReport>,
    /// Whether that was taken up.
    taken: bool,
}

impl Agent {
    /// One that has not come yet.
    fn new() -> Self {
        Self { streams: 0, opened: 0, heard: Instant::now(), told: None, report: None, taken: false }
    }
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
        self.shared.moved();
    }
}

impl Presence {
    /// `timeout` is how long an agent may be silent on an open stream.
    #[must_use]
    pub(crate) fn new(timeout: Duration) -> Self {
        Self {
            shared: Arc::new(Shared {
                timeout,
                agents: Mutex::default(),
                elsewhere: Mutex::default(),
                changed: Notify::new(),
                here: watch::Sender::new(0),
                openings: AtomicU64::new(0),
            }),
        }
    }

    /// An agent opened a stream.
    #[must_use]
    pub(crate) fn open(&self, cluster: &str) -> StreamGuard {
        {
            // Where it was before is said for a while yet.
            let mut elsewhere = self.shared.elsewhere.lock();
            elsewhere.remove(cluster);
            let mut agents = self.shared.agents.lock();
            let agent = agents.entry(cluster.to_owned()).or_insert_with(Agent::new);
            agent.streams += 1;
            agent.opened = self.shared.openings.fetch_add(1, Ordering::Relaxed);
            agent.heard = Instant::now();
            // Who comes says everything; and it may be an older one than before, which does not.
            agent.report = None;
        }
        self.shared.moved();
        StreamGuard { shared: self.shared.clone(), cluster: cluster.to_owned() }
    }

    /// An agent said something.
    pub(crate) fn heard(&self, cluster: &str) {
        if let Some(agent) = self.shared.agents.lock().get_mut(cluster) {
            agent.heard = Instant::now();
        }
    }

    /// What an agent says of itself, with what it has said already on this stream; `None`: it is nothing new.
    pub(crate) fn reported(&self, cluster: &str, mut report: PingReport) -> Option<PingReport> {
        let mut agents = self.shared.agents.lock();
        let agent = agents.get_mut(cluster)?;
        let known = agent.report.take();
        if report.authorities.is_none() {
            report.authorities = known.as_ref().and_then(|known| known.authorities.clone());
        }
        let is_new = !agent.taken || known.as_ref() != Some(&report);
        agent.report = Some(report.clone());
        agent.taken = true;
        is_new.then_some(report)
    }

    /// What an agent said is to be taken up again (a write failed).
    pub(crate) fn unreport(&self, cluster: &str) {
        if let Some(agent) = self.shared.agents.lock().get_mut(cluster) {
            agent.taken = false;
        }
    }

    /// Whether an agent is there now, at this process or another.
    #[must_use]
    pub(crate) fn is_connected(&self, cluster: &str) -> bool {
        self.is_here(cluster) || self.seat(cluster).is_some()
    }

    /// Whether an agent is at this process now.
    #[must_use]
    pub(crate) fn is_here(&self, cluster: &str) -> bool {
        self.shared.agents.lock().get(cluster).is_some_and(|agent| self.shared.connected(agent))
    }

    /// Whether what an agent asks is asked of this process: it opened a stream here, and none elsewhere since.
    #[must_use]
    pub(crate) fn serves(&self, cluster: &str) -> bool {
        let moved = self.shared.elsewhere.lock().contains_key(cluster);
        !moved && self.shared.agents.lock().get(cluster).is_some_and(|agent| agent.streams > 0)
    }

    /// The agents at this process, each with a number that is another one when it has come anew.
    #[must_use]
    pub(crate) fn here(&self) -> BTreeMap<String, u64> {
        let agents = self.shared.agents.lock();
        let here = agents.iter().filter(|(_, agent)| self.shared.connected(agent));
        here.map(|(name, agent)| (name.clone(), agent.opened)).collect()
    }

    /// Changes when a stream here opens or closes.
    pub(crate) fn here_changes(&self) -> watch::Receiver<u64> {
        self.shared.here.subscribe()
    }

    /// Where an agent is, when it is at another process.
    #[must_use]
    pub(crate) fn seat(&self, cluster: &str) -> Option<Seat> {
        self.shared.elsewhere.lock().get(cluster).cloned()
    }

    /// Everything that is at other processes.
    pub(crate) fn set_elsewhere(&self, all: HashMap<String, Seat>) {
        *self.shared.elsewhere.lock() = all;
        self.shared.changed.notify_one();
    }

    /// An agent came to another process, moved, or left it.
    pub(crate) fn set_seat(&self, cluster: &str, seat: Option<Seat>) {
        let mut elsewhere = self.shared.elsewhere.lock();
        match seat {
            Some(seat) => elsewhere.insert(cluster.to_owned(), seat),
            None => elsewhere.remove(cluster),
        };
        drop(elsewhere);
        self.shared.changed.notify_one();
    }

    /// What was told belongs to whoever leads: one that begins to tells everything again.
    pub(crate) fn tell_anew(&self) {
        for agent in self.shared.agents.lock().values_mut() {
            agent.told = None;
            // Who has just begun to lead has not heard of anybody yet.
            if agent.streams == 0 {
                agent.heard = Instant::now();
            }
        }
    }

    /// Makes a cluster known, so that [`Presence::transitions`] says also that nobody came.
    pub(crate) fn expect(&self, cluster: &str) {
        self.shared.agents.lock().entry(cluster.to_owned()).or_insert_with(Agent::new);
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
        let elsewhere = self.shared.elsewhere.lock();
        let mut agents = self.shared.agents.lock();
        let mut changed = Vec::new();
        for (name, agent) in agents.iter_mut() {
            let now = self.shared.connected(agent) || elsewhere.contains_key(name);
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
    /// A stream here opened or closed.
    fn moved(&self) {
        self.changed.notify_one();
        self.here.send_modify(|count| *count = count.wrapping_add(1));
    }

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
    fn an_agent_that_moves_to_another_process_was_never_away() {
        let presence = Presence::new(Duration::from_secs(60));
        let guard = presence.open("dev");
        assert_eq!(presence.transitions(), [("dev".to_owned(), true)]);
        let seat = Seat { replica: "two".into(), url: "https://two".into() };
        presence.set_seat("dev", Some(seat.clone()));
        drop(guard);
        assert!(presence.transitions().is_empty());
        assert!(presence.is_connected("dev") && !presence.is_here("dev") && presence.here().is_empty());
        assert_eq!(presence.seat("dev"), Some(seat));
        presence.set_elsewhere(HashMap::new());
        assert_eq!(presence.transitions(), [("dev".to_owned(), false)]);
        presence.tell_anew();
        assert!(presence.transitions().is_empty(), "who begins to lead waits for those who may come");
    }

    #[test]
    fn an_agent_is_served_where_it_opened_a_stream_last() {
        let presence = Presence::new(Duration::from_secs(60));
        let seat = || Some(Seat { replica: "two".into(), url: "https://two".into() });
        assert!(!presence.serves("dev"));
        presence.set_seat("dev", seat());
        let first = presence.open("dev");
        assert!(presence.serves("dev"), "it has just come from there");
        let number = presence.here()["dev"];
        presence.set_seat("dev", seat());
        assert!(!presence.serves("dev"), "it went there, though its stream here is open");
        let again = presence.open("dev");
        assert!(presence.serves("dev") && presence.here()["dev"] != number);
        drop((first, again));
        assert!(!presence.serves("dev"));
    }

    #[test]
    fn what_an_agent_said_counts_until_it_comes_anew_and_is_taken_up_until_it_is_written() {
        let presence = Presence::new(Duration::from_secs(60));
        let said = |authorities: Option<&str>, dropped| PingReport {
            authorities: authorities.map(|pin| vec![pin.to_owned()]),
            dropped,
            ..PingReport::default()
        };
        let _guard = presence.open("dev");
        assert_eq!(presence.reported("dev", said(Some("a"), 0)), Some(said(Some("a"), 0)));
        assert_eq!(presence.reported("dev", said(None, 0)), None);
        assert_eq!(presence.reported("dev", said(None, 1)), Some(said(Some("a"), 1)));
        presence.unreport("dev");
        assert_eq!(presence.reported("dev", said(None, 1)), Some(said(Some("a"), 1)), "it was not written");
        assert_eq!(presence.reported("dev", said(None, 1)), None);
        assert_eq!(presence.reported("dev", said(Some("b"), 1)), Some(said(Some("b"), 1)));
        let _again = presence.open("dev");
        assert_eq!(presence.reported("dev", said(None, 1)), Some(said(None, 1)), "an earlier release");
        assert_eq!(presence.reported("gone", said(None, 0)), None);
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
