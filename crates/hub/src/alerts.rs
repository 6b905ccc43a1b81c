//! Judges alert rules by what the hub holds and tells receivers, once for each piece of news.
//!
//! * [`deliver`]: one notice to one receiver, as often as it takes.
//! * [`mail`]: a notice as mail.
//!
//! What is so and who is to be told is decided in `fleet_planner::alerts`; what was told is written to the rule's status,
//! so that a hub that starts again tells nothing twice but what it had not written down (such a repetition has the same
//! id). What the rules look at is only followed while there are rules.
//!
//! Must never: hold up anything else of the hub because a receiver does not answer.

mod deliver;
pub(crate) mod mail;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use api_client::{CacheOptions, ObjectCache};
use fleet_objects::alert::{
    Alert, AlertReceiver, AlertRule, AlertRuleStatus, AlertSilence, AlertSilenceSpec, AlertState,
    MAX_RECEIVERS, Told,
};
use fleet_objects::compliance::ComplianceReport;
use fleet_objects::rollout::Rollout;
use fleet_objects::{Assignment, Cluster, SYSTEM_NAMESPACE};
use fleet_planner::alerts::{self, Fleet, Judged, REFRESH};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::json;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::known_secrets::{self, KnownSecrets};
use crate::outbound::Outbound;
use crate::service::Shared;
use deliver::{Delivery, Notice, Outcome};

/// Changes are gathered this long.
const GATHER: Duration = Duration::from_millis(300);
/// After something could not be written.
const AGAIN: Duration = Duration::from_secs(2);
/// Notices under way together.
const MAX_UNDER_WAY: usize = 32;
/// Rules that are judged; a person reads no more.
const MAX_RULES: usize = 500;

/// Rule (by name) and receiver.
type Way = (String, String);

/// What rules look at, followed while there are rules.
struct Sources {
    rollouts: ObjectCache<Rollout>,
    reports: ObjectCache<ComplianceReport>,
    assignments: ObjectCache<Assignment>,
}

impl Sources {
    fn start(client: &Client, changed: &Arc<Notify>) -> Self {
        fn follow<K: Resource + Clone + std::fmt::Debug + DeserializeOwned + Send + Sync + 'static>(
            api: Api<K>,
            options: CacheOptions<K>,
            changed: &Arc<Notify>,
        ) -> ObjectCache<K> {
            let cache = ObjectCache::start(api, options);
            let changed = changed.clone();
            cache.on_change(move |_| changed.notify_one());
            cache
        }
        Self {
            rollouts: follow(Api::all(client.clone()), CacheOptions::new("alerts: rollouts"), changed),
            reports: follow(
                Api::all(client.clone()),
                CacheOptions::new("alerts: compliance reports"),
                changed,
            ),
            assignments: follow(
                Api::all(client.clone()),
                CacheOptions::new("alerts: assignments").strip(shorten),
                changed,
            ),
        }
    }

    async fn synced(&self) {
        tokio::join!(self.rollouts.has_synced(), self.reports.has_synced(), self.assignments.has_synced());
    }

    fn fleet(&self, clusters: &ObjectCache<Cluster>) -> Fleet {
        Fleet {
            clusters: clusters.list(),
            reports: self.reports.list(),
            rollouts: self.rollouts.list(),
            assignments: self.assignments.list(),
        }
    }
}

/// A notice that goes to a receiver.
struct UnderWay {
    /// The receiver, with its Secret, as it was when the notice began.
    tried: String,
    /// Ends the waiting for its next try.
    superseded: CancellationToken,
}

/// There are many of them, and rules look at conditions and counts alone.
fn shorten(assignment: &mut Assignment) {
    assignment.spec.variables = BTreeMap::new();
    if let Some(status) = &mut assignment.status {
        status.objects = Vec::new();
        status.held_deletions = Vec::new();
        status.conditions.shrink_to_fit();
    }
}

struct Alerts {
    shared: Arc<Shared>,
    rules: ObjectCache<AlertRule>,
    receivers: ObjectCache<AlertReceiver>,
    silences: ObjectCache<AlertSilence>,
    /// Which Secrets receivers may take something from.
    secrets: KnownSecrets,
    changed: Arc<Notify>,
    outbound: Outbound,
    /// By name: uid and alerts as they are; the cache may be behind what was written.
    known: HashMap<String, (String, Vec<Alert>)>,
    under_way: HashMap<Way, UnderWay>,
    tasks: JoinSet<(Notice, Outcome)>,
    /// When Alertmanagers were told of what goes on firing.
    refreshed: HashMap<Way, Timestamp>,
}

/// Judges until `shutdown`.
pub(crate) async fn run(shared: Arc<Shared>, shutdown: CancellationToken) {
    let changed = Arc::new(Notify::new());
    let client = shared.client.clone();
    let rules = ObjectCache::start(Api::all(client.clone()), CacheOptions::new("alert rules"));
    let receivers = ObjectCache::start(Api::all(client.clone()), CacheOptions::new("alert receivers"));
    let silences = ObjectCache::start(Api::all(client.clone()), CacheOptions::new("alert silences"));
    let secrets = known_secrets::follow(Api::namespaced(client, SYSTEM_NAMESPACE), "alerts: secrets");
    let tell = |changed: &Arc<Notify>| {
        let changed = changed.clone();
        move || changed.notify_one()
    };
    let (first, second, third, fourth) = (tell(&changed), tell(&changed), tell(&changed), tell(&changed));
    rules.on_change(move |_| first());
    receivers.on_change(move |_| second());
    silences.on_change(move |_| third());
    shared.clusters.on_change(move |_| fourth());
    let (named, fifth) = (receivers.clone(), tell(&changed));
    secrets.on_change(move |change| {
        // Other Secrets are nothing to look at every rule for.
        let is_it = |receiver: &Arc<AlertReceiver>| {
            deliver::secrets_of(receiver).any(|key| key.name == change.key.name)
        };
        if named.list().iter().any(is_it) {
            fifth();
        }
    });
    let mut alerts = Alerts {
        shared,
        rules,
        receivers,
        silences,
        secrets,
        changed,
        outbound: Outbound::default(),
        known: HashMap::new(),
        under_way: HashMap::new(),
        tasks: JoinSet::new(),
        refreshed: HashMap::new(),
    };
    shutdown.run_until_cancelled(alerts.run()).await;
    alerts.tasks.shutdown().await;
}

impl Alerts {
    async fn run(&mut self) {
        tokio::join!(
            self.rules.has_synced(),
            self.receivers.has_synced(),
            self.silences.has_synced(),
            self.secrets.has_synced(),
            self.shared.clusters.has_synced()
        );
        loop {
            while self.rules.is_empty() {
                self.changed.notified().await;
            }
            let sources = Sources::start(&self.shared.client, &self.changed);
            sources.synced().await;
            while !self.rules.is_empty() {
                let due = self.pass(&sources).await;
                self.wait(due).await;
            }
            self.known.clear();
        }
    }

    async fn wait(&mut self, due: Option<Timestamp>) {
        let wait = due.map(|due| {
            let left = due.duration_since(Timestamp::now());
            Duration::try_from(left).unwrap_or_default().max(GATHER)
        });
        tokio::select! {
            () = self.changed.notified() => tokio::time::sleep(GATHER).await,
            Some(ended) = self.tasks.join_next(), if !self.tasks.is_empty() => {
                if let Ok((notice, outcome)) = ended {
                    self.ended(notice, outcome).await;
                }
            }
            () = tokio::time::sleep(wait.unwrap_or(Duration::MAX)), if wait.is_some() => {}
        }
    }

    /// Judges every rule once; answers when to look again.
    async fn pass(&mut self, sources: &Sources) -> Option<Timestamp> {
        let now = Timestamp::now();
        let fleet = sources.fleet(&self.shared.clusters);
        let silences: Vec<(String, AlertSilenceSpec)> =
            self.silences.list().iter().map(|silence| (silence.name_any(), silence.spec.clone())).collect();
        let mut under: BTreeMap<String, u32> = BTreeMap::new();
        let mut due: Option<Timestamp> = None;
        let mut soon = |at: Timestamp| due = Some(due.map_or(at, |known| known.min(at)));
        let rules = self.rules.list();
        self.known.retain(|name, (uid, _)| {
            rules.iter().any(|rule| rule.name_any() == *name && rule.uid().as_deref() == Some(&**uid))
        });
        for rule in rules.iter().take(MAX_RULES) {
            let judged = self.judge(rule, &fleet, &silences, now);
            for alert in &judged.alerts {
                if let Some(silence) = &alert.silenced_by {
                    *under.entry(silence.clone()).or_default() += 1;
                }
            }
            judged.due.into_iter().for_each(&mut soon);
            // Nobody is told what a hub that starts again would not know.
            if self.keep(rule, judged).await {
                let alerts = self.known.get(&rule.name_any()).map(|(_, alerts)| alerts.clone());
                self.tell(rule, &alerts.unwrap_or_default(), now).into_iter().for_each(&mut soon);
            } else {
                let again = jiff::SignedDuration::try_from(AGAIN).unwrap_or_default();
                soon(now.saturating_add(again).unwrap_or(now));
            }
        }
        self.count_silenced(&under).await;
        due
    }

    fn judge(
        &self,
        rule: &AlertRule,
        fleet: &Fleet,
        silences: &[(String, AlertSilenceSpec)],
        now: Timestamp,
    ) -> Judged {
        let spec = &rule.spec;
        let written = || rule.status.as_ref().map(|status| status.alerts.clone()).unwrap_or_default();
        let before = self.known.get(&rule.name_any()).map_or_else(written, |(_, alerts)| alerts.clone());
        if spec.suspend {
            return Judged::default();
        }
        let found = alerts::symptoms(spec, fleet, &*self.shared.expressions, now);
        let mut judged = alerts::advance(&rule.name_any(), spec, &before, found, silences, now);
        let receiver = |name: &String| {
            let version = self.version(&*self.receivers.find("", name)?);
            Some(alerts::Receiver { name: name.clone(), version })
        };
        let receivers: Vec<alerts::Receiver> =
            spec.receivers.iter().take(MAX_RECEIVERS).filter_map(receiver).collect();
        judged.alerts.retain(|alert| !alerts::is_done(spec, alert, &receivers, now));
        judged
    }

    fn version(&self, receiver: &AlertReceiver) -> String {
        deliver::version(receiver, &self.secrets)
    }

    /// Begins to tell receivers what they are owed; answers when Alertmanagers are to be told again.
    fn tell(&mut self, rule: &AlertRule, alerts: &[Alert], now: Timestamp) -> Option<Timestamp> {
        let mut again: Option<Timestamp> = None;
        for name in rule.spec.receivers.iter().take(MAX_RECEIVERS) {
            let Some(receiver) = self.receivers.find("", name) else { continue };
            let way = (rule.name_any(), name.clone());
            let known = alerts::Receiver { name: name.clone(), version: self.version(&receiver) };
            if let Some(other) = self.under_way.get(&way).filter(|other| other.tried != known.version) {
                other.superseded.cancel();
            }
            for state in [AlertState::Firing, AlertState::Resolved] {
                let owed = |alert: &&Alert| alerts::owed(&rule.spec, alert, &known, now) == Some(state);
                let owed: Vec<Alert> =
                    alerts.iter().filter(owed).take(alerts::message::MAX_TOGETHER).cloned().collect();
                if !owed.is_empty() && self.begin(&way, &receiver, state, owed, false) {
                    self.refreshed.insert(way.clone(), now);
                }
            }
            if receiver.spec.alertmanager.is_some() {
                let next = self.refresh(&way, &receiver, alerts, now);
                again = again.into_iter().chain(next).min();
            }
        }
        again
    }

    /// An Alertmanager forgets what it is not told again.
    fn refresh(
        &mut self,
        way: &Way,
        receiver: &AlertReceiver,
        alerts: &[Alert],
        now: Timestamp,
    ) -> Option<Timestamp> {
        let goes_on = |alert: &&Alert| {
            let told = alert.told.get(&way.1);
            alert.state == AlertState::Firing
                && alert.silenced_by.is_none()
                && told.is_some_and(|told| told.state == AlertState::Firing && told.delivered)
        };
        let firing: Vec<Alert> = alerts.iter().filter(goes_on).cloned().collect();
        if firing.is_empty() {
            // While the first notice is on its way it is not told yet, and no reminder is due because of that.
            if !self.under_way.contains_key(way) {
                self.refreshed.remove(way);
            }
            return None;
        }
        let last = self.refreshed.get(way).copied().unwrap_or(Timestamp::MIN);
        let next = last.saturating_add(REFRESH).unwrap_or(Timestamp::MIN);
        if next > now {
            return Some(next);
        }
        if self.begin(way, receiver, AlertState::Firing, firing, true) {
            self.refreshed.insert(way.clone(), now);
        }
        now.saturating_add(REFRESH).ok()
    }

    /// Answers whether it could begin: one notice at a time goes one way.
    fn begin(
        &mut self,
        way: &Way,
        receiver: &AlertReceiver,
        state: AlertState,
        alerts: Vec<Alert>,
        refresh: bool,
    ) -> bool {
        if self.under_way.len() >= MAX_UNDER_WAY || self.under_way.contains_key(way) {
            return false;
        }
        let (tried, superseded) = (self.version(receiver), CancellationToken::new());
        let begun = UnderWay { tried: tried.clone(), superseded: superseded.clone() };
        self.under_way.insert(way.clone(), begun);
        let delivery = Delivery {
            client: self.shared.client.clone(),
            outbound: self.outbound.clone(),
            receiver: receiver.clone(),
            hub: self.shared.public_url.clone().unwrap_or_default(),
        };
        let (rule, receiver) = way.clone();
        let notice = Notice { rule, receiver, state, alerts, refresh, tried };
        self.tasks.spawn(async move {
            let outcome = delivery.send(&notice, &superseded).await;
            (notice, outcome)
        });
        true
    }

    /// A notice arrived, was given up, or is to be begun anew.
    async fn ended(&mut self, notice: Notice, outcome: Outcome) {
        self.under_way.remove(&(notice.rule.clone(), notice.receiver.clone()));
        self.changed.notify_one();
        if notice.refresh || outcome == Outcome::Superseded {
            return;
        }
        if let Outcome::GivenUp(problem) = &outcome {
            tracing::warn!(rule = %notice.rule, receiver = %notice.receiver, %problem, "a receiver of alerts was given up");
        }
        let now = Time(Timestamp::from_second(Timestamp::now().as_second()).unwrap_or_default());
        let delivered = matches!(outcome, Outcome::Arrived(_));
        let tried = (!delivered).then(|| notice.tried.clone());
        let told = Told { state: notice.state, delivered, tried, time: now };
        if let Some((_, alerts)) = self.known.get_mut(&notice.rule) {
            for alert in alerts {
                if notice.alerts.iter().any(|sent| sent.fingerprint == alert.fingerprint) {
                    alert.told.insert(notice.receiver.clone(), told.clone());
                }
            }
        }
        deliver::note(&self.shared.client, &notice.receiver, &outcome).await;
    }

    /// Keeps what was judged, here and in the rule's status. Answers whether it is written.
    async fn keep(&mut self, rule: &AlertRule, judged: Judged) -> bool {
        let count = |state| {
            let count = judged.alerts.iter().filter(|alert| alert.state == state).count();
            u32::try_from(count).unwrap_or(u32::MAX)
        };
        let missing = |name: &&String| self.receivers.find("", name).is_none();
        let missing: Vec<&str> = rule.spec.receivers.iter().filter(missing).map(String::as_str).collect();
        let status = AlertRuleStatus {
            observed_generation: rule.metadata.generation.unwrap_or_default(),
            firing: count(AlertState::Firing),
            pending: count(AlertState::Pending),
            omitted: judged.omitted,
            problem: (!missing.is_empty()).then(|| format!("there is no receiver {}", missing.join(", "))),
            alerts: judged.alerts,
        };
        let name = rule.name_any();
        let uid = rule.uid().unwrap_or_default();
        self.known.insert(name.clone(), (uid, status.alerts.clone()));
        if rule.status.as_ref() == Some(&status) {
            return true;
        }
        let api: Api<AlertRule> = Api::all(self.shared.client.clone());
        let mut written = rule.clone();
        written.status = Some(status);
        match api.replace_status(&name, &PostParams::default(), &written).await {
            Ok(written) => {
                self.rules.observe(&written);
                true
            }
            Err(error) if api_client::error::is_not_found(&error) => true,
            Err(error) => {
                tracing::debug!(rule = %name, %error, "the status of an alert rule waits");
                false
            }
        }
    }

    async fn count_silenced(&self, under: &BTreeMap<String, u32>) {
        let api: Api<AlertSilence> = Api::all(self.shared.client.clone());
        for silence in self.silences.list() {
            let name = silence.name_any();
            let count = under.get(&name).copied().unwrap_or_default();
            if silence.status.clone().unwrap_or_default().alerts == count {
                continue;
            }
            let patch = Patch::Merge(json!({"status": {"alerts": count}}));
            match api.patch_status(&name, &PatchParams::default(), &patch).await {
                Ok(written) => self.silences.observe(&written),
                Err(error) => tracing::debug!(silence = %name, %error, "the status of a silence waits"),
            }
        }
    }
}
