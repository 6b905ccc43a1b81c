//! Checks of what steps run in: containers, pods, services, clusters of their own.

use std::collections::BTreeMap;

use fleet_objects::test_workflow::{ContainerDefaults, EphemeralCluster, Service};
use serde_json::Value;

use super::fields::{
    check_duration, check_expression, check_template, check_texts, check_variables, is_dns_label,
};
use super::{Checker, MAX_STEP_NAME, unknown};
use crate::plan::{EPHEMERAL_VERSION, MAX_EPHEMERAL_NODES};

pub(super) fn check_cluster(checker: &mut Checker, cluster: &EphemeralCluster, at: &str) {
    unknown(checker, &cluster.unknown, at);
    let version = cluster.version.as_deref().map(|version| version.trim_start_matches('v'));
    if version.is_some_and(|version| version != EPHEMERAL_VERSION) {
        checker
            .fail(format!("{at}.version"), format!("ephemeral clusters are of version {EPHEMERAL_VERSION}"));
    }
    if cluster.nodes.is_some_and(|nodes| nodes > MAX_EPHEMERAL_NODES) {
        checker.fail(format!("{at}.nodes"), format!("at most {MAX_EPHEMERAL_NODES}"));
    }
    for (index, object) in cluster.seed.iter().enumerate() {
        let named = object["metadata"]["name"].is_string();
        if !object["apiVersion"].is_string() || !object["kind"].is_string() || !named {
            checker.fail(format!("{at}.seed[{index}]"), "an object has apiVersion, kind and metadata.name");
        }
    }
}

pub(super) fn check_container(checker: &mut Checker, container: &ContainerDefaults, at: &str) {
    unknown(checker, &container.unknown, at);
    check_texts(checker, &container.command, &format!("{at}.command"));
    check_texts(checker, &container.args, &format!("{at}.args"));
    check_template(checker, Some(&container.image), &format!("{at}.image"));
    check_variables(checker, &container.env, &format!("{at}.env"));
}

/// Fields of a pod that would give a test rights which test pods never have.
const REFUSED: [&str; 5] =
    ["serviceAccountName", "serviceAccount", "automountServiceAccountToken", "containers", "initContainers"];

pub(super) fn check_pod(checker: &mut Checker, pod: Option<&Value>, at: &str) {
    for name in REFUSED {
        if pod.is_some_and(|pod| pod.get(name).is_some()) {
            checker.fail(
                format!("{at}.{name}"),
                "pods of tests have no rights and no containers but their steps",
            );
        }
    }
}

pub(super) fn check_services(checker: &mut Checker, services: &BTreeMap<String, Service>, at: &str) {
    for (name, service) in services {
        let at = format!("{at}.services.{name}");
        if !is_dns_label(&name.to_lowercase()) || name.len() > MAX_STEP_NAME {
            checker
                .fail(&at, format!("a name of at most {MAX_STEP_NAME} letters, digits and '-' is required"));
        }
        unknown(checker, &service.unknown, &at);
        check_texts(checker, &service.command, &format!("{at}.command"));
        check_texts(checker, &service.args, &format!("{at}.args"));
        check_template(checker, service.shell.as_deref(), &format!("{at}.shell"));
        check_variables(checker, &service.env, &format!("{at}.env"));
        check_duration(checker, service.timeout.as_deref(), &format!("{at}.timeout"));
        check_pod(checker, service.pod.as_ref(), &format!("{at}.pod"));
        check_expression(checker, service.logs.as_deref(), &format!("{at}.logs"));
        if let Some(policy) = &service.restart_policy
            && !matches!(policy.as_str(), "OnFailure" | "Never")
        {
            checker.fail(format!("{at}.restartPolicy"), "OnFailure or Never");
        }
    }
}
