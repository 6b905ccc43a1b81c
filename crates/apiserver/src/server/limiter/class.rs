//! Which class a request is of: upstream's default FlowSchemas (`pkg/apis/flowcontrol/bootstrap/default.go`), in their
//! order of precedence. Pure.

use kube_objects::UserInfo;

use crate::request_info::RequestInfo;

/// Whose seats a class takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PoolName {
    /// Leases and leader election.
    Reserved,
    /// Nodes, controllers, the scheduler.
    System,
    /// Everybody else.
    Workload,
}

/// A class of requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Class {
    /// The FlowSchema of that name.
    pub(crate) schema: &'static str,
    /// The PriorityLevelConfiguration it belongs to.
    pub(crate) level: &'static str,
    /// `None`: exempt.
    pub(super) pool: Option<PoolName>,
}

const fn class(schema: &'static str, level: &'static str, pool: Option<PoolName>) -> Class {
    Class { schema, level, pool }
}

const EXEMPT: Class = class("exempt", "exempt", None);
const PROBES: Class = class("probes", "exempt", None);
const LEADER_ELECTION: Class = class("system-leader-election", "leader-election", Some(PoolName::Reserved));
const WORKLOAD_ELECTION: Class =
    class("workload-leader-election", "leader-election", Some(PoolName::Reserved));
const NODE_HIGH: Class = class("system-node-high", "node-high", Some(PoolName::Reserved));
const NODES: Class = class("system-nodes", "system", Some(PoolName::System));
const CONTROLLERS: Class = class("kube-controller-manager", "workload-high", Some(PoolName::System));
const SCHEDULER: Class = class("kube-scheduler", "workload-high", Some(PoolName::System));
const SYSTEM_ACCOUNTS: Class = class("kube-system-service-accounts", "workload-high", Some(PoolName::System));
const ACCOUNTS: Class = class("service-accounts", "workload-low", Some(PoolName::Workload));
const EVERYBODY: Class = class("global-default", "global-default", Some(PoolName::Workload));
const REST: Class = class("catch-all", "catch-all", Some(PoolName::Workload));

const SYSTEM_ACCOUNT_GROUP: &str = "system:serviceaccounts:kube-system";

/// The class of what `user` asks.
pub(super) fn classify(user: &UserInfo, info: &RequestInfo) -> Class {
    if user.in_group(access::authorization::MASTERS) {
        return EXEMPT;
    }
    if info.verb == "get" && matches!(info.path.as_str(), "/healthz" | "/readyz" | "/livez") {
        return PROBES;
    }
    let (group, resource) =
        info.resource.as_ref().map_or(("", ""), |path| (path.group.as_str(), path.resource.as_str()));
    let lease = group == "coordination.k8s.io" && resource == "leases";
    let election = lease && matches!(&*info.verb, "get" | "create" | "update");
    let controllers = user.username == "system:kube-controller-manager";
    let scheduler = user.username == "system:kube-scheduler";
    let in_group = |name: &str| user.in_group(name);
    match () {
        () if election && (controllers || scheduler) => LEADER_ELECTION,
        () if election && in_group(SYSTEM_ACCOUNT_GROUP) => WORKLOAD_ELECTION,
        () if in_group("system:nodes") && (lease || group.is_empty() && resource == "nodes") => NODE_HIGH,
        () if in_group("system:nodes") => NODES,
        () if controllers => CONTROLLERS,
        () if scheduler => SCHEDULER,
        () if in_group(SYSTEM_ACCOUNT_GROUP) => SYSTEM_ACCOUNTS,
        () if in_group("system:serviceaccounts") => ACCOUNTS,
        () if in_group("system:authenticated") || in_group("system:unauthenticated") => EVERYBODY,
        () => REST,
    }
}
