//! The Pod Security Standards: which pods are `baseline` and which `restricted`, in every version of the standards.
//!
//! * [`policy`]: levels, versions, and what a namespace's labels ask for.
//! * [`checks`]: the checks with their version history, and [`evaluate`], which runs those of a level and version.
//!
//! Pure: pods are read as JSON of any shape and never refused for their shape. Reasons and details are upstream's own
//! (`k8s.io/pod-security-admission`), because people and their tools read them.

use serde_json::Value;

mod checks;
mod policy;

pub use checks::{Violation, details, evaluate, reasons};
pub use policy::{LabelProblem, Level, LevelVersion, Policy, Version};

/// Whether objects of a resource are pods or make pods.
#[must_use]
pub fn makes_pods(group: &str, resource: &str) -> bool {
    matches!(
        (group, resource),
        ("", "pods" | "replicationcontrollers" | "podtemplates")
            | ("apps", "replicasets" | "deployments" | "statefulsets" | "daemonsets")
            | ("batch", "jobs" | "cronjobs")
    )
}

/// The pod, or the template of the pods, that an object is or makes; `None` for what makes no pods.
#[must_use]
pub fn pod_of<'a>(group: &str, resource: &str, object: &'a Value) -> Option<&'a Value> {
    makes_pods(group, resource).then(|| match resource {
        "pods" => object,
        "podtemplates" => &object["template"],
        "cronjobs" => &object["spec"]["jobTemplate"]["spec"]["template"],
        _ => &object["spec"]["template"],
    })
}

#[cfg(test)]
mod tests;
