//! Names and keys that hub, agent and command line must spell alike.

use std::fmt;

/// The API group of every fleet kind.
pub const GROUP: &str = "fleet.fairlead.dev";
/// The version served.
pub const VERSION: &str = "v1alpha1";
/// Where the hub keeps what is its own: join tokens.
pub const SYSTEM_NAMESPACE: &str = "fairlead-system";
/// The group (certificate organization) of every agent.
pub const AGENT_GROUP: &str = "fairlead:clusters";
/// Label on every object an agent applied; its value is [`assignment_label_value`].
pub const LABEL_ASSIGNMENT: &str = "fleet.fairlead.dev/assignment";
/// On an Assignment: the generation whose held deletions a person confirms.
pub const ANNOTATION_CONFIRM_DELETIONS: &str = "fleet.fairlead.dev/confirm-deletions";
/// In a cluster, on its namespace `kube-system`: its owner lets no change of any profile in; the value says why.
pub const ANNOTATION_HOLD: &str = "fleet.fairlead.dev/hold";
/// The same for one profile, whose assignment's name (`default.app`) follows.
pub const ANNOTATION_HOLD_ONE: &str = "hold.fleet.fairlead.dev/";
/// On a Placement: the `id` of `status.heldWithdrawal` that a person confirms. The hub removes it when done.
pub const ANNOTATION_CONFIRM_WITHDRAWAL: &str = "fleet.fairlead.dev/confirm-withdrawal";
/// On Placements, until no cluster holds anything by them any more, and on Rollouts while a placement names them: what is
/// deleted goes only then, as a volume claim goes only when no pod uses it.
pub const FINALIZER_WITHDRAWAL: &str = "fleet.fairlead.dev/withdrawal";
/// On a Cluster: a person accepts that this hub's view replaces what the agent holds. `keep-orphans` leaves alone what
/// the hub knows nothing of, `prune-orphans` sends tombstones for it. The hub removes the annotation when done. Any other
/// value does nothing.
pub const ANNOTATION_ADOPT: &str = "fleet.fairlead.dev/adopt";
/// The value of [`ANNOTATION_ADOPT`] that leaves alone what the hub knows nothing of.
pub const ADOPT_AND_KEEP: &str = "keep-orphans";
/// The value of [`ANNOTATION_ADOPT`] that also prunes.
pub const ADOPT_AND_PRUNE: &str = "prune-orphans";

/// On a Profile, and copied by the hub to its Assignments: signed releases, a JSON list. Agents whose cluster's owner
/// pinned keys take only content that these vouch for.
pub const ANNOTATION_SIGNATURES: &str = "fleet.fairlead.dev/signatures";

/// On a Source: another value than the one followed last makes the hub look at it now.
pub const ANNOTATION_SYNC: &str = "fleet.fairlead.dev/sync";

/// On a Profile: where its manifests came from, for people. With Git it names the commit.
pub const ANNOTATION_SOURCE: &str = "fleet.fairlead.dev/source";

/// On an object in a manifest: `enforce` (what holds without it), `detect` or `create-only`.
pub const ANNOTATION_DRIFT: &str = "fleet.fairlead.dev/drift";
/// On an object in a manifest: fields that may change, as JSON pointers with commas between them.
pub const ANNOTATION_IGNORE_FIELDS: &str = "fleet.fairlead.dev/ignore-fields";

/// Every annotation of ours that an object may carry: the two that manifests are written with, and those of objects that
/// are copied out of a hub or a cluster, or kept in a hub by a profile. Any other below `fleet.fairlead.dev/` is a slip.
pub const KNOWN_ANNOTATIONS: [&str; 19] = [
    ANNOTATION_DRIFT,
    ANNOTATION_IGNORE_FIELDS,
    ANNOTATION_CONFIRM_DELETIONS,
    ANNOTATION_HOLD,
    ANNOTATION_CONFIRM_WITHDRAWAL,
    ANNOTATION_ADOPT,
    ANNOTATION_SIGNATURES,
    ANNOTATION_SYNC,
    ANNOTATION_SOURCE,
    crate::project::ANNOTATION_CLUSTER_SETS,
    crate::test_run::IMPORTED_ANNOTATION,
    crate::test_trigger::AGENT_UID_ANNOTATION,
    "fleet.fairlead.dev/cause",
    "fleet.fairlead.dev/cluster",
    "fleet.fairlead.dev/fired-by",
    "fleet.fairlead.dev/keep",
    "fleet.fairlead.dev/rerun-of",
    "fleet.fairlead.dev/test-control",
    "fleet.fairlead.dev/test-run",
];

const PARTITION_PREFIX: &str = "cluster-";
const MAX_CLUSTER_NAME: usize = 55;
const MAX_LABEL_VALUE: usize = 63;
const MAX_FIELD_MANAGER: usize = 128;

/// Why a name cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameError {
    /// The name as given.
    pub name: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cluster name {:?}: {}", self.name, self.reason)
    }
}

impl std::error::Error for NameError {}

/// A cluster's name must be a DNS label of at most 55 characters, so that its partition is a valid namespace.
pub fn check_cluster_name(name: &str) -> Result<(), NameError> {
    let fail = |reason| Err(NameError { name: name.to_owned(), reason });
    if name.is_empty() || name.len() > MAX_CLUSTER_NAME {
        return fail("must have 1 to 55 characters");
    }
    if !name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-') {
        return fail("may hold only a-z, 0-9 and '-'");
    }
    if name.starts_with('-') || name.ends_with('-') {
        return fail("must begin and end with a letter or digit");
    }
    Ok(())
}

/// The namespace on the hub that belongs to one cluster.
#[must_use]
pub fn partition_namespace(cluster: &str) -> String {
    format!("{PARTITION_PREFIX}{cluster}")
}

/// The cluster a partition belongs to; `None` when the namespace is not a partition.
#[must_use]
pub fn partition_cluster(namespace: &str) -> Option<&str> {
    namespace.strip_prefix(PARTITION_PREFIX).filter(|name| check_cluster_name(name).is_ok())
}

/// The name of the Assignment of a profile in any partition. A namespace holds no dot, so two profiles never share one.
#[must_use]
pub fn assignment_name(profile_namespace: &str, profile_name: &str) -> String {
    format!("{profile_namespace}.{profile_name}")
}

/// FNV-1a: only to keep shortened names apart, never for security.
fn short_hash(text: &str) -> String {
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{hash:016x}")
}

fn shortened(text: &str, max: usize) -> String {
    if text.len() <= max {
        return text.to_owned();
    }
    let cut = text.floor_char_boundary(max - 17);
    format!("{}-{}", text[..cut].trim_end_matches(['.', '-', '_']), short_hash(text))
}

/// The value of [`LABEL_ASSIGNMENT`]: the assignment's name, shortened with a hash where a label could not hold it.
#[must_use]
pub fn assignment_label_value(assignment: &str) -> String {
    shortened(assignment, MAX_LABEL_VALUE)
}

/// The server-side-apply field manager under which an assignment's objects are applied.
#[must_use]
pub fn field_manager(assignment: &str) -> String {
    format!("fairlead/{}", shortened(assignment, MAX_FIELD_MANAGER - "fairlead/".len()))
}

/// Who an agent is: the common name of its certificate, `fairlead:cluster:<name>:<uid>`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AgentIdentity {
    /// The Cluster's name on the hub.
    pub name: String,
    /// The uid of the cluster's kube-system namespace.
    pub uid: String,
}

impl AgentIdentity {
    /// Reads a user name. `None` unless it is exactly of the form above with a valid cluster name and a uid of
    /// hexadecimal digits and dashes: nothing is trimmed, no prefix or suffix is tolerated.
    #[must_use]
    pub fn parse(username: &str) -> Option<Self> {
        let rest = username.strip_prefix("fairlead:cluster:")?;
        let (name, uid) = rest.split_once(':')?;
        check_cluster_name(name).ok()?;
        is_uid(uid).then(|| Self { name: name.to_owned(), uid: uid.to_owned() })
    }

    /// The user name.
    #[must_use]
    pub fn username(&self) -> String {
        format!("fairlead:cluster:{}:{}", self.name, self.uid)
    }

    /// Whether `uid` can be a cluster's uid: 1 to 64 hexadecimal digits and dashes.
    #[must_use]
    pub fn is_valid_uid(uid: &str) -> bool {
        is_uid(uid)
    }
}

fn is_uid(uid: &str) -> bool {
    (1..=64).contains(&uid.len()) && uid.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-')
}

/// Where a cluster's own API begins on the hub: what stands behind it is asked of the cluster.
#[must_use]
pub fn cluster_proxy_path(cluster: &str) -> String {
    format!("/apis/{GROUP}/{VERSION}/clusters/{cluster}/proxy")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities_are_compared_whole() {
        let id = AgentIdentity { name: "prod".into(), uid: "1a-2b".into() };
        assert_eq!(AgentIdentity::parse(&id.username()), Some(id));
        for bad in [
            "fairlead:cluster:prod",
            "fairlead:cluster:prod:",
            "fairlead:cluster::1a",
            " fairlead:cluster:prod:1a",
            "fairlead:cluster:prod:1a ",
            "fairlead:cluster:prod:1a:2b",
            "fairlead:cluster:Prod:1a",
            "Fairlead:cluster:prod:1a",
            "fairlead:cluster:pr\u{f6}d:1a",
            "fairlead:cluster:prod:xyz",
        ] {
            assert_eq!(AgentIdentity::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn long_names_stay_apart_and_within_bounds() {
        let a = assignment_name("default", &"x".repeat(200));
        let b = assignment_name("default", &format!("{}y", "x".repeat(200)));
        assert_ne!(assignment_label_value(&a), assignment_label_value(&b));
        assert!(assignment_label_value(&a).len() <= 63 && field_manager(&a).len() <= 128);
        assert_eq!(field_manager("default.web"), "fairlead/default.web");
    }

    #[test]
    fn partitions_lead_back_to_their_cluster() {
        assert_eq!(partition_cluster(&partition_namespace("dev")), Some("dev"));
        assert_eq!(partition_cluster("kube-system"), None);
        assert!(check_cluster_name(&"a".repeat(56)).is_err());
    }
}
