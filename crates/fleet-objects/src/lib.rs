//! The fleet's own API kinds, group `fleet.fairlead.dev`, version `v1alpha1`.
//!
//! People write [`Profile`] (what a cluster should hold), [`Placement`] (which clusters get it) and
//! [`rollout::Rollout`] (how a change goes through them). The hub writes [`Cluster`] when an agent joins and one [`Assignment`] per cluster and profile, in the cluster's own namespace
//! (its *partition*, [`partition_namespace`]). An agent reads nothing but its own partition.
//!
//! This crate holds types, names and the documents that define the kinds. It never decides, reads or writes anything.

pub mod alert;
mod assignment;
mod cluster;
pub mod compliance;
mod conditions;
mod definitions;
pub mod multicluster;
mod names;
mod placement;
mod profile;
pub mod project;
pub mod rollout;
pub mod source;
pub mod test_record;
pub mod test_run;
pub mod test_trigger;
pub mod test_webhook;
pub mod test_workflow;

pub use assignment::{
    Assignment, AssignmentSpec, AssignmentState, AssignmentStatus, ContentReference, GenerationMark,
    HELD_BY_OWNER, Health, OUTSIDE_WINDOW, ObjectReference, ObjectStatus, ProfileReference, REFUSED, Refusal,
    RefusalReason,
};
pub use cluster::{
    AssignmentSummary, Cluster, ClusterSpec, ClusterStatus, ClusterTaint, HeldAssignment, NodeCount,
    Registration, TaintEffect,
};
pub use conditions::{ConditionChange, condition, condition_is_true, set_condition};
pub use definitions::{custom_resource_definitions, is_written_by_programs};
pub use multicluster::LABEL_CLUSTER_SET;
pub use names::{
    ADOPT_AND_KEEP, ADOPT_AND_PRUNE, AGENT_GROUP, ANNOTATION_ADOPT, ANNOTATION_CONFIRM_DELETIONS,
    ANNOTATION_CONFIRM_WITHDRAWAL, ANNOTATION_DRIFT, ANNOTATION_HOLD, ANNOTATION_HOLD_ONE,
    ANNOTATION_IGNORE_FIELDS, ANNOTATION_SIGNATURES, ANNOTATION_SOURCE, ANNOTATION_SYNC, AgentIdentity,
    FINALIZER_WITHDRAWAL, GROUP, KNOWN_ANNOTATIONS, LABEL_ASSIGNMENT, NameError, SYSTEM_NAMESPACE, VERSION,
    assignment_label_value, assignment_name, check_cluster_name, cluster_proxy_path, field_manager,
    partition_cluster, partition_namespace,
};
pub use placement::{
    ClusterDecision, ClusterSelector, DecisionStep, FieldOperator, FieldRequirement, HeldWithdrawal,
    LabelOperator, LabelRequirement, Placement, PlacementSpec, PlacementStatus, Prioritizer,
    SpreadConstraint, Toleration, ValueRule, WhenUnsatisfiable,
};
pub use profile::{
    ConflictPolicy, ContentFormat, HealthRule, Profile, ProfileLayer, ProfileSource, ProfileSpec,
    ProfileStatus, VariableDefinition, VariableType,
};
