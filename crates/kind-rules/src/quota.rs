//! What objects cost under a ResourceQuota (upstream `pkg/quota/v1`): which resources a kind uses, which quotas cover an
//! object, and what a quota has left.
//!
//! Admission charges by it and the controller recalculates by it, so that both come to the same numbers.

use jiff::Timestamp;
use serde_json::Value;

use crate::json::{list, text};
use crate::resource_list::ResourceList;

mod devices;
mod pods;
mod scopes;

/// How a kind is counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Evaluator {
    /// Pods: how many, and what their containers ask for.
    Pods,
    /// Services: how many, and how many load balancers and node ports.
    Services,
    /// PersistentVolumeClaims: how many and how much storage, by class too.
    Claims,
    /// ResourceClaims: how many, and how many devices of each class at worst.
    DeviceClaims,
    /// Everything else: how many.
    Objects {
        /// `count/deployments.apps`.
        name: String,
        /// The name a quota had for it before there was `count/`.
        alias: Option<&'static str>,
    },
}

/// Neither stored nor counted.
const IGNORED: [(&str, &str); 10] = [
    ("", "bindings"),
    ("", "componentstatuses"),
    ("", "events"),
    ("events.k8s.io", "events"),
    ("authentication.k8s.io", "tokenreviews"),
    ("authentication.k8s.io", "selfsubjectreviews"),
    ("authorization.k8s.io", "subjectaccessreviews"),
    ("authorization.k8s.io", "selfsubjectaccessreviews"),
    ("authorization.k8s.io", "localsubjectaccessreviews"),
    ("authorization.k8s.io", "selfsubjectrulesreviews"),
];

const STORAGE_CLASS: &str = ".storageclass.storage.k8s.io/";

fn counted(group: &str, resource: &str) -> String {
    if group.is_empty() { format!("count/{resource}") } else { format!("count/{resource}.{group}") }
}

impl Evaluator {
    /// How a resource is counted; `None`: not at all.
    #[must_use]
    pub fn of(group: &str, resource: &str) -> Option<Self> {
        if IGNORED.contains(&(group, resource)) {
            return None;
        }
        Some(match (group, resource) {
            ("", "pods") => Self::Pods,
            ("", "services") => Self::Services,
            ("", "persistentvolumeclaims") => Self::Claims,
            ("resource.k8s.io", "resourceclaims") => Self::DeviceClaims,
            _ => {
                let legacy = ["configmaps", "resourcequotas", "replicationcontrollers", "secrets"];
                let alias = legacy.into_iter().find(|name| group.is_empty() && *name == resource);
                Self::Objects { name: counted(group, resource), alias }
            }
        })
    }

    /// Whether a quota's resource is one of this kind.
    #[must_use]
    pub fn covers(&self, name: &str) -> bool {
        match self {
            Self::Pods => pods::covers(name),
            Self::Services => matches!(
                name,
                "count/services" | "services" | "services.nodeports" | "services.loadbalancers"
            ),
            Self::Claims => {
                let own = matches!(
                    name,
                    "count/persistentvolumeclaims" | "persistentvolumeclaims" | "requests.storage"
                );
                own || ["persistentvolumeclaims", "requests.storage"]
                    .iter()
                    .any(|own| name.ends_with(&format!("{STORAGE_CLASS}{own}")))
            }
            Self::DeviceClaims => name == devices::CLAIMS || name.ends_with(devices::PER_CLASS),
            Self::Objects { name: own, alias } => own == name || *alias == Some(name),
        }
    }

    /// What an object costs.
    #[must_use]
    pub fn usage(&self, object: &Value, now: Timestamp) -> ResourceList {
        match self {
            Self::Pods => pods::usage(object, now),
            Self::Services => services(object),
            Self::Claims => claim(object),
            Self::DeviceClaims => devices::usage(object),
            Self::Objects { name, alias } => {
                let mut usage = ResourceList::count(name.as_str(), 1);
                if let Some(alias) = alias {
                    usage.add(&ResourceList::count(*alias, 1));
                }
                usage
            }
        }
    }

    /// What a quota demands that an object says, and it does not: `must specify limits.cpu for: c`.
    #[must_use]
    pub fn unsaid(&self, demanded: &[&str], object: &Value) -> Option<String> {
        if *self == Self::Pods { pods::unsaid(demanded, object) } else { None }
    }

    /// Whether an object is in all scopes of a quota.
    #[must_use]
    pub fn in_scope(&self, quota: &Value, object: &Value) -> bool {
        let spec = &quota["spec"];
        let plain = list(spec, "scopes").iter().filter_map(Value::as_str);
        let selected = list(&spec["scopeSelector"], "matchExpressions");
        plain
            .map(|name| scopes::Scope { name, operator: "Exists", values: &[] })
            .chain(selected.iter().map(scopes::Scope::of))
            .all(|scope| scope.holds(self, object))
    }
}

fn services(service: &Value) -> ResourceList {
    let spec = &service["spec"];
    let ports = list(spec, "ports");
    let (mut balancers, mut node_ports) = (0, 0);
    match text(spec, "type") {
        "NodePort" => node_ports = ports.len(),
        "LoadBalancer" => {
            balancers = 1;
            node_ports = if spec["allocateLoadBalancerNodePorts"] == false {
                ports.iter().filter(|port| port["nodePort"].as_i64().unwrap_or(0) != 0).count()
            } else {
                ports.len()
            };
        }
        _ => {}
    }
    let mut usage = ResourceList::count("count/services", 1);
    for (name, count) in [
        ("services", 1),
        ("services.loadbalancers", balancers),
        ("services.nodeports", i64::try_from(node_ports).unwrap_or(i64::MAX)),
    ] {
        usage.add(&ResourceList::count(name, count));
    }
    usage
}

fn claim(claim: &Value) -> ResourceList {
    let (spec, status) = (&claim["spec"], &claim["status"]);
    let old_name = text(&claim["metadata"]["annotations"], "volume.beta.kubernetes.io/storage-class");
    let class = if old_name.is_empty() { text(spec, "storageClassName") } else { old_name };
    let mut storage = ResourceList::of(&spec["resources"]["requests"]).only(|name| name == "storage");
    if !storage.0.is_empty() {
        storage.raise(&ResourceList::of(&status["allocatedResources"]).only(|name| name == "storage"));
    }
    let mut usage = ResourceList::count("count/persistentvolumeclaims", 1);
    let prefixes = [Some(String::new()), (!class.is_empty()).then(|| format!("{class}{STORAGE_CLASS}"))];
    for prefix in prefixes.into_iter().flatten() {
        usage.add(&ResourceList::count(format!("{prefix}persistentvolumeclaims"), 1));
        for amount in storage.0.values() {
            usage.0.insert(format!("{prefix}requests.storage"), *amount);
        }
    }
    usage
}

/// What admitting `object` adds to a quota, as far as the quota covers it: `None` when it adds nothing there. `old` is
/// the object as it was, on an update; `shrinks_only` lets a quota be exceeded (a status update states facts).
///
/// # Errors
/// Why the quota refuses, in upstream's words.
pub fn charge(
    quota: &Value,
    evaluator: &Evaluator,
    object: &Value,
    old: Option<&Value>,
    now: Timestamp,
    may_exceed: bool,
) -> Result<Option<ResourceList>, String> {
    let name = text(&quota["metadata"], "name");
    let hard = ResourceList::of(&quota["status"]["hard"]);
    let covered: Vec<&str> =
        hard.0.keys().map(String::as_str).filter(|name| evaluator.covers(name)).collect();
    if covered.is_empty() || !evaluator.in_scope(quota, object) {
        return Ok(None);
    }
    if let Some(unsaid) = evaluator.unsaid(&covered, object) {
        return Err(format!("failed quota: {name}: {unsaid}"));
    }
    let used = ResourceList::of(&quota["status"]["used"]);
    if covered.iter().any(|name| !used.0.contains_key(*name)) {
        return Err(format!("status unknown for quota: {name}, resources: {}", covered.join(",")));
    }
    let usage = evaluator.usage(object, now);
    let negative: Vec<&str> =
        usage.0.iter().filter(|(_, amount)| amount.is_negative()).map(|(name, _)| name.as_str()).collect();
    if !negative.is_empty() {
        return Err(format!("quota usage is negative for resource(s): {}", negative.join(",")));
    }
    let before = match old {
        Some(old) if evaluator.in_scope(quota, old) => evaluator.usage(old, now),
        _ => ResourceList::default(),
    };
    let added = usage.beyond(&before).only(|name| hard.0.contains_key(name));
    if added.0.is_empty() {
        return Ok(None);
    }
    let mut after = used.clone();
    after.add(&added);
    let exceeded = |name: &str| {
        added.0.contains_key(name)
            && after.0.get(name).zip(hard.0.get(name)).is_some_and(|(new, hard)| new > hard)
    };
    if !may_exceed && hard.0.keys().any(|name| exceeded(name)) {
        return Err(format!(
            "exceeded quota: {name}, requested: {}, used: {}, limited: {}",
            added.only(exceeded).shown(),
            used.only(exceeded).shown(),
            hard.only(exceeded).shown()
        ));
    }
    Ok(Some(added))
}

/// What a namespace's objects use of a quota: the amounts for `status.used`, one for each name of `hard`.
pub fn recalculate<'a>(
    quota: &Value,
    objects: impl Iterator<Item = (&'a Evaluator, &'a Value)>,
    now: Timestamp,
) -> ResourceList {
    let hard = ResourceList::of(&quota["spec"]["hard"]);
    let mut used = ResourceList::default();
    for name in hard.0.keys() {
        used.add(&ResourceList::count(name.as_str(), 0));
    }
    for (evaluator, object) in objects {
        if evaluator.in_scope(quota, object) {
            let usage = evaluator.usage(object, now);
            used.add(&usage.only(|name| hard.0.contains_key(name) && evaluator.covers(name)));
        }
    }
    used
}

#[cfg(test)]
mod tests;
