//! Judges what the cluster holds by the policies that profiles brought, all the time: also what was there before the
//! policy, and where the cluster's own API server only warns.
//!
//! * [`round`]: one round: watches the kinds that policies are about and judges each object when it is seen.
//! * [`decide`]: what is judged and by what; what was found, in figures and sentences. Pure.
//! * [`known`]: what stands around the objects: namespaces, parameters, kinds.
//! * [`watch`]: follows one kind.
//! * [`reports`]: keeps PolicyReport objects where the cluster has their definition.
//!
//! Judged are ValidatingAdmissionPolicies with the agent's label, by all their bindings, Gatekeeper's constraints that profiles
//! brought (whether the cluster knows them or not), and the Pod Security Standards of namespaces with that label. Objects are read
//! page by page and not kept, only what was found; those that constraints look at besides are kept for the round. A change of a
//! policy, a binding, a parameter or of a namespace begins a new round; so does half an hour. Nothing is told of a round before it
//! has seen everything.
//!
//! Must never: change or refuse anything of what it judges; show policies (which come from the hub) the values of
//! Secrets.

mod decide;
mod known;
mod reports;
mod round;
mod watch;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use agent_protocol::RecordBody;
use api_client::dynamic::Discovery;
use api_client::{CacheOptions, ObjectCache};
use fleet_objects::LABEL_ASSIGNMENT;
use fleet_objects::compliance::{ComplianceState, ViolationResult};
use k8s_openapi::api::admissionregistration::v1::{
    ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding,
};
use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, Client};
use serde_json::Value;
use tokio::sync::Notify;
use tokio::sync::watch::Receiver;
use tokio_util::sync::CancellationToken;

use crate::enforcer::HeldPolicies;
use crate::outbox::Outbox;
use decide::Source;
use reports::Reports;

/// Where objects of a kind are.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServedKind {
    /// `apps`; "" is the core group.
    pub group: String,
    /// `v1`.
    pub version: String,
    /// `deployments`.
    pub plural: String,
    /// `Deployment`.
    pub kind: String,
    /// Whether they are in namespaces.
    pub namespaced: bool,
}

impl ServedKind {
    /// `apps/v1`.
    #[must_use]
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.clone() } else { format!("{}/{}", self.group, self.version) }
    }
}

/// An object that is wrong in one way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The policy.
    pub policy: String,
    /// Which part of it.
    pub rule: String,
    /// How.
    pub result: ViolationResult,
    /// What its bindings do on admission.
    pub actions: Vec<String>,
    /// Why.
    pub message: String,
}

/// What the policies said of an object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Judged {
    /// The policies that looked at it.
    pub policies: Vec<String>,
    /// What is wrong.
    pub findings: Vec<Finding>,
}

/// What stands around an object; all in memory.
pub trait Surroundings: Sync {
    /// A namespace; `None`: not known (yet).
    fn namespace(&self, name: &str) -> Option<Value>;
    /// All kinds that the cluster serves.
    fn served(&self) -> &[ServedKind];
    /// Parameters of a kind in a namespace; "" for a kind without namespaces.
    fn params(&self, api_version: &str, plural: &str, namespace: &str) -> Vec<Value>;
}

/// What to judge by.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PolicyDocuments {
    /// ValidatingAdmissionPolicies.
    pub policies: Vec<Value>,
    /// Their bindings, and others'.
    pub bindings: Vec<Value>,
    /// Gatekeeper's templates and constraints, and what says which objects these look at.
    pub gatekeeper: Vec<Value>,
    /// Judge pods by the labels of namespaces that carry this label.
    pub pod_security: Option<&'static str>,
}

/// Compiles policies.
pub trait PolicyEngine: Send + Sync + 'static {
    /// A policy that does not compile says so of each object that it is for.
    fn compile(&self, documents: &PolicyDocuments) -> Arc<dyn Policies>;
}

/// Compiled policies. Bounded in time by the policies' own budgets.
pub trait Policies: Send + Sync {
    /// Whether any object of the kind may be judged.
    fn may_judge(&self, kind: &ServedKind) -> bool;
    /// API version and kind of all parameters.
    fn param_kinds(&self) -> Vec<(String, String)>;
    /// API version and kind of the objects that policies look at besides the one that is judged.
    fn inventory_kinds(&self) -> Vec<(String, String)>;
    /// Those objects, before any is judged.
    ///
    /// # Errors
    /// When they cannot be taken.
    fn set_inventory(&self, objects: &[&Value]) -> Result<(), String>;
    /// Judges an object; `None`: cannot be judged now, for want of its namespace.
    fn judge(&self, kind: &ServedKind, object: &Value, around: &dyn Surroundings) -> Option<Judged>;
}

/// Changes are gathered this long before a round begins and before something is told.
const GATHER: Duration = Duration::from_secs(1);
/// What is told to the hub is told no more often than this; the newest state is told.
const TELL_EVERY: Duration = Duration::from_secs(5);
/// After an outbox had no room.
const FULL: Duration = Duration::from_secs(5);
/// A cluster that does not serve policies (or lets the agent read none) is not waited for longer than this.
const PATIENCE: Duration = Duration::from_secs(10);

/// The audit of one cluster.
pub(crate) struct Audit {
    cluster: Client,
    outbox: Outbox,
    engine: Arc<dyn PolicyEngine>,
    policies: ObjectCache<ValidatingAdmissionPolicy>,
    bindings: ObjectCache<ValidatingAdmissionPolicyBinding>,
    namespaces: ObjectCache<Namespace>,
    held: Receiver<HeldPolicies>,
    discovery: Discovery,
    changed: Arc<Notify>,
    reports: Reports,
    told: Option<ComplianceState>,
}

impl Audit {
    /// Begins to follow policies and namespaces. `held`: Gatekeeper's policies that are in force. Must be called within a tokio
    /// runtime.
    pub(crate) fn new(
        cluster: Client,
        outbox: Outbox,
        engine: Arc<dyn PolicyEngine>,
        held: Receiver<HeldPolicies>,
    ) -> Self {
        let changed = Arc::new(Notify::new());
        let policies = CacheOptions::new("audit-policies").labels(LABEL_ASSIGNMENT).max_objects(1000);
        let policies = ObjectCache::start(Api::all(cluster.clone()), policies);
        let bindings = CacheOptions::new("audit-bindings").max_objects(5000);
        let bindings = ObjectCache::start(Api::all(cluster.clone()), bindings);
        let namespaces = ObjectCache::start(Api::all(cluster.clone()), CacheOptions::new("audit-namespaces"));
        let tell = |changed: &Arc<Notify>| {
            let changed = changed.clone();
            move || changed.notify_one()
        };
        let (first, second, third) = (tell(&changed), tell(&changed), tell(&changed));
        policies.on_change(move |_| first());
        bindings.on_change(move |_| second());
        namespaces.on_change(move |_| third());
        Self {
            discovery: Discovery::new(cluster.clone()),
            reports: Reports::new(cluster.clone()),
            cluster,
            outbox,
            engine,
            policies,
            bindings,
            namespaces,
            held,
            changed,
            told: None,
        }
    }

    /// Judges until `shutdown`.
    pub(crate) async fn run(self, shutdown: CancellationToken) {
        let (mut held, changed) = (self.held.clone(), self.changed.clone());
        let follow_held = async {
            while held.changed().await.is_ok() {
                changed.notify_one();
            }
        };
        tokio::join!(self.judge(shutdown.clone()), shutdown.run_until_cancelled(follow_held));
    }

    async fn judge(mut self, shutdown: CancellationToken) {
        if shutdown.run_until_cancelled(self.synced()).await.is_none() {
            return;
        }
        while !shutdown.is_cancelled() {
            let source = self.source();
            let round = async {
                if source.is_empty() { self.idle(&source).await } else { self.round(&source).await }
            };
            shutdown.run_until_cancelled(round).await;
        }
    }

    /// Waits for the cluster, and then for what of policies it serves.
    async fn synced(&self) {
        self.namespaces.has_synced().await;
        let mut held = self.held.clone();
        let others = async {
            self.policies.has_synced().await;
            self.bindings.has_synced().await;
            let _ = held.wait_for(Option::is_some).await;
        };
        let _ = tokio::time::timeout(PATIENCE, others).await;
    }

    /// What is to be judged by now.
    fn source(&self) -> Source {
        let document = |object: &dyn erased::Document| object.document();
        let policies = self.policies.list().iter().map(|object| document(&**object)).collect();
        let bindings = self.bindings.list().iter().map(|object| document(&**object)).collect();
        let namespaces = self.namespaces.list().iter().map(|object| document(&**object)).collect();
        let held = self.held.borrow().clone();
        Source::of(policies, bindings, namespaces, held.as_deref().map_or(&[], Vec::as_slice))
    }

    /// Nothing is to be judged: says so once where something was, and waits for a change.
    async fn idle(&mut self, source: &Source) {
        self.reports.write(&BTreeMap::new()).await;
        loop {
            // What is not served or may not be read is no sign that there is nothing.
            let known = self.policies.status().synced
                && self.bindings.status().synced
                && self.held.borrow().is_some();
            let told = !known || self.tell(ComplianceState::default()).await;
            tokio::select! {
                () = self.changed.notified() => {
                    tokio::time::sleep(GATHER).await;
                    if self.source() != *source {
                        return;
                    }
                }
                () = tokio::time::sleep(FULL), if !told => {}
            }
        }
    }

    /// Tells a state unless it was told already; answers whether it is told.
    async fn tell(&mut self, mut state: ComplianceState) -> bool {
        state.bound();
        if self.told.as_ref() == Some(&state) {
            return true;
        }
        let told = self.outbox.append(RecordBody::Compliance(Box::new(state.clone()))).await;
        if let Err(error) = &told {
            tracing::debug!(%error, "what policies found waits");
            return false;
        }
        self.told = Some(state);
        true
    }
}

/// Objects of different types as documents.
mod erased {
    use serde::Serialize;
    use serde_json::Value;

    pub(super) trait Document {
        fn document(&self) -> Value;
    }

    impl<T: Serialize> Document for T {
        fn document(&self) -> Value {
            serde_json::to_value(self).unwrap_or_default()
        }
    }
}
