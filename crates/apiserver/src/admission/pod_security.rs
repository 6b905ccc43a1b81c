//! PodSecurity: pods are held to what their namespace's labels ask for; workloads are warned about.

use std::time::{Duration, Instant};

use async_trait::async_trait;
use kind_rules::json::{list, present, text};
use kube_objects::{Status, StatusCause};
use policy_engines::pod_security::{self, Level, LevelVersion, Policy};
use serde_json::Value;

use super::{Attributes, Operation, Plugin};

mod namespace;

const PREFIX: &str = "pod-security.kubernetes.io/";
/// Pods looked at when a namespace becomes stricter (upstream's number).
const MAX_PODS: usize = 3000;
/// How long that may take (upstream's number).
const MAX_TIME: Duration = Duration::from_secs(1);

/// What holds where labels say nothing, and for whom nothing holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodSecurityConfiguration {
    /// For namespaces without labels.
    pub defaults: Policy,
    /// Users that may create any pod.
    pub exempt_users: Vec<String>,
    /// Runtime classes whose pods are not looked at.
    pub exempt_runtime_classes: Vec<String>,
    /// Namespaces whose pods are not looked at.
    pub exempt_namespaces: Vec<String>,
}

/// The plug-in.
pub(super) struct PodSecurity {
    configuration: PodSecurityConfiguration,
}

#[async_trait]
impl Plugin for PodSecurity {
    fn name(&self) -> &'static str {
        "PodSecurity"
    }

    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        if !matches!(attributes.operation, Operation::Create | Operation::Update) {
            return false;
        }
        let own = &attributes.cx.resource.gvr;
        match (own.group.as_str(), own.resource.as_str(), attributes.cx.subresource) {
            // A new container, or another image: what else has a path of its own changes no spec.
            ("", "pods", Some(sub)) => matches!(sub, "ephemeralcontainers" | "resize"),
            ("", "namespaces", None) => true,
            (group, resource, None) => pod_security::makes_pods(group, resource),
            _ => false,
        }
    }

    async fn validate(&self, attributes: &Attributes<'_>, object: &Value) -> Result<(), Status> {
        let cx = &attributes.cx;
        if attributes.is_resource("", "namespaces") {
            return self.namespace(attributes, object).await;
        }
        if self.configuration.exempt_namespaces.iter().any(|own| own == cx.namespace) {
            attributes.annotate(format!("{PREFIX}exempt"), "namespace");
            return Ok(());
        }
        if self.configuration.exempt_users.contains(&cx.user.username) {
            attributes.annotate(format!("{PREFIX}exempt"), "user");
            return Ok(());
        }
        let is_pod = attributes.is_resource("", "pods");
        let Some(namespace) = cx.objects.get("", "namespaces", "", cx.namespace).await? else {
            let why = format!("failed to lookup namespace {:?}", cx.namespace);
            return if is_pod { Err(Status::internal(why)) } else { Ok(()) };
        };
        let labels = &namespace["metadata"]["labels"];
        let (policy, problems) = Policy::of_labels(labels, &self.configuration.defaults);
        let silent = |standard: LevelVersion| standard.level == Level::Privileged;
        if problems.is_empty()
            && (!is_pod || silent(policy.enforce))
            && silent(policy.warn)
            && silent(policy.audit)
        {
            if is_pod {
                attributes.annotate(format!("{PREFIX}enforce-policy"), "privileged:latest");
            }
            return Ok(());
        }
        if is_pod && attributes.old.is_some_and(|old| !is_significant(object, old)) {
            return Ok(());
        }
        let own = &cx.resource.gvr;
        let pod = pod_security::pod_of(&own.group, &own.resource, object);
        let Some(pod) = pod.filter(|pod| pod.is_object()) else { return Ok(()) };
        if !problems.is_empty() {
            let each: Vec<String> = problems.iter().map(namespace::shown).collect();
            let all = if each.len() == 1 { each.concat() } else { format!("[{}]", each.join(", ")) };
            attributes.annotate(format!("{PREFIX}error"), format!("Failed to parse policy: {all}"));
        }
        self.judge(attributes, &policy, pod, is_pod, object)
    }
}

impl PodSecurity {
    pub(super) fn new(configuration: PodSecurityConfiguration) -> Self {
        Self { configuration }
    }

    fn exempts_class(&self, pod: &Value) -> bool {
        let class = text(&pod["spec"], "runtimeClassName");
        !class.is_empty() && self.configuration.exempt_runtime_classes.iter().any(|own| own == class)
    }

    fn judge(
        &self,
        attributes: &Attributes<'_>,
        policy: &Policy,
        pod: &Value,
        enforce: bool,
        object: &Value,
    ) -> Result<(), Status> {
        if self.exempts_class(pod) {
            attributes.annotate(format!("{PREFIX}exempt"), "runtimeClass");
            return Ok(());
        }
        let evaluate = |standard| pod_security::evaluate(standard, &pod["metadata"], &pod["spec"]);
        let audited = evaluate(policy.audit);
        if !audited.is_empty() {
            let told = format!(
                "would violate PodSecurity \"{}\": {}",
                policy.audit,
                pod_security::details(&audited)
            );
            attributes.annotate(format!("{PREFIX}audit-violations"), told);
        }
        if enforce {
            attributes.annotate(format!("{PREFIX}enforce-policy"), policy.enforce.to_string());
            let violations = evaluate(policy.enforce);
            if !violations.is_empty() {
                let why = format!(
                    "violates PodSecurity \"{}\": {}",
                    policy.enforce,
                    pod_security::details(&violations)
                );
                return Err(attributes.forbidden(object, &why));
            }
        }
        let warned = evaluate(policy.warn);
        if !warned.is_empty() {
            let told = pod_security::details(&warned);
            attributes.warn(format!("would violate PodSecurity \"{}\": {told}", policy.warn));
        }
        Ok(())
    }
}

/// Whether an update brings another container or image.
fn is_significant(pod: &Value, old: &Value) -> bool {
    let (new, old) = (&pod["spec"], &old["spec"]);
    let ordered = ["containers", "initContainers"].iter().any(|key| {
        let (new, old) = (list(new, key), list(old, key));
        new.len() != old.len()
            || new.iter().zip(old).any(|(new, old)| text(new, "image") != text(old, "image"))
    });
    let before = list(old, "ephemeralContainers");
    ordered
        || list(new, "ephemeralContainers").iter().any(|container| {
            let same = before.iter().find(|own| text(own, "name") == text(container, "name"));
            same.is_none_or(|own| text(own, "image") != text(container, "image"))
        })
}

#[cfg(test)]
mod tests;
