//! Admission webhooks: the subject calls this suite.

use crate::case;
use crate::case::Case;

mod answers;
mod configurations;
mod mutating;
mod stage;
mod validating;

pub(super) const CASES: &[Case] = &[
    case!(
        "webhooks/deny pods and config maps",
        ApiServer,
        ["AdmissionWebhook [Privileged:ClusterAdmin] should be able to deny pod and configmap creation"],
        validating::pods_and_config_maps
    ),
    case!(
        "webhooks/deny what connects",
        ApiServer,
        ["AdmissionWebhook [Privileged:ClusterAdmin] should be able to deny attaching pod"],
        validating::connections
    ),
    case!(
        "webhooks/deny changes of custom resources",
        ApiServer,
        [
            "AdmissionWebhook [Privileged:ClusterAdmin] should be able to deny custom resource creation, update and deletion"
        ],
        validating::custom_resources
    ),
    case!(
        "webhooks/deny definitions of custom resources",
        ApiServer,
        ["AdmissionWebhook [Privileged:ClusterAdmin] should deny crd creation"],
        validating::definitions
    ),
    case!(
        "webhooks/that cannot be called refuse, or are passed over",
        ApiServer,
        [
            "AdmissionWebhook [Privileged:ClusterAdmin] should unconditionally reject operations on fail closed webhook"
        ],
        validating::unreachable
    ),
    case!(
        "webhooks/have the time they are given",
        ApiServer,
        ["AdmissionWebhook [Privileged:ClusterAdmin] should honor timeout"],
        validating::timeouts
    ),
    case!("webhooks/are told of what is asked", ApiServer, [], validating::reviews),
    case!(
        "webhooks/mutate one after the other",
        ApiServer,
        ["AdmissionWebhook [Privileged:ClusterAdmin] should mutate configmap"],
        mutating::in_order
    ),
    case!(
        "webhooks/what they add is defaulted",
        ApiServer,
        ["AdmissionWebhook [Privileged:ClusterAdmin] should mutate pod and apply defaults after mutation"],
        mutating::defaulted
    ),
    case!(
        "webhooks/mutate custom resources",
        ApiServer,
        ["AdmissionWebhook [Privileged:ClusterAdmin] should mutate custom resource"],
        mutating::custom_resources
    ),
    case!(
        "webhooks/what they add to custom resources is pruned",
        ApiServer,
        ["AdmissionWebhook [Privileged:ClusterAdmin] should mutate custom resource with pruning"],
        mutating::pruned
    ),
    case!(
        "webhooks/a changed stored version is no hindrance",
        ApiServer,
        [
            "AdmissionWebhook [Privileged:ClusterAdmin] should mutate custom resource with different stored version"
        ],
        mutating::stored_version
    ),
    case!(
        "webhooks/match conditions choose",
        ApiServer,
        ["AdmissionWebhook [Privileged:ClusterAdmin] should mutate everything except 'skip-me' configmaps"],
        mutating::conditions
    ),
    case!("webhooks/are asked again when another changed the object", ApiServer, [], mutating::again),
    case!(
        "webhooks/are discovered",
        ApiServer,
        [
            "AdmissionWebhook [Privileged:ClusterAdmin] should include webhook resources in discovery documents"
        ],
        configurations::discovered
    ),
    case!(
        "webhooks/do not rule over webhook configurations",
        ApiServer,
        [
            "AdmissionWebhook [Privileged:ClusterAdmin] should not be able to mutate or prevent deletion of webhook configuration objects"
        ],
        configurations::exempt
    ),
    case!(
        "webhooks/a changed validating configuration takes effect",
        ApiServer,
        ["AdmissionWebhook [Privileged:ClusterAdmin] patching/updating a validating webhook should work"],
        configurations::validating_changed
    ),
    case!(
        "webhooks/a changed mutating configuration takes effect",
        ApiServer,
        ["AdmissionWebhook [Privileged:ClusterAdmin] patching/updating a mutating webhook should work"],
        configurations::mutating_changed
    ),
    case!(
        "webhooks/a collection of validating configurations",
        ApiServer,
        ["AdmissionWebhook [Privileged:ClusterAdmin] listing validating webhooks should work"],
        configurations::validating_listed
    ),
    case!(
        "webhooks/a collection of mutating configurations",
        ApiServer,
        ["AdmissionWebhook [Privileged:ClusterAdmin] listing mutating webhooks should work"],
        configurations::mutating_listed
    ),
    case!(
        "webhooks/match conditions are kept",
        ApiServer,
        [
            "AdmissionWebhook [Privileged:ClusterAdmin] should be able to create and update validating webhook configurations with match conditions",
            "AdmissionWebhook [Privileged:ClusterAdmin] should be able to create and update mutating webhook configurations with match conditions",
        ],
        configurations::conditions_kept
    ),
    case!(
        "webhooks/match conditions that are no CEL are refused",
        ApiServer,
        [
            "AdmissionWebhook [Privileged:ClusterAdmin] should reject validating webhook configurations with invalid match conditions",
            "AdmissionWebhook [Privileged:ClusterAdmin] should reject mutating webhook configurations with invalid match conditions",
        ],
        configurations::conditions_refused
    ),
];
