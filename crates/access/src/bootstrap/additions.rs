//! What the controllers of the embedded cluster need beyond upstream's roles for theirs, and why. The only place where
//! they get more; each has its own role besides upstream's, which stays as it is.

use serde_json::{Value, json};

/// Why every controller that writes a status has `patch` on it.
///
/// Upstream's replace the whole status (`update`); ours send what changed as a merge patch, so that fields of newer
/// clients and conditions of other writers stay as they are.
const STATUS_PATCHES: &str = "sends what changed of a status as a merge patch";

/// A controller, why it needs more, and what: verbs, group, resources.
type Addition =
    (&'static str, &'static str, &'static [(&'static [&'static str], &'static str, &'static [&'static str])]);

const ADDITIONS: [Addition; 9] = [
    // The revision annotation of a Deployment is patched too, for the same reason.
    (
        "deployment-controller",
        STATUS_PATCHES,
        &[(&["patch"], "apps", &["deployments", "deployments/status"])],
    ),
    ("replicaset-controller", STATUS_PATCHES, &[(&["patch"], "apps", &["replicasets/status"])]),
    ("replication-controller", STATUS_PATCHES, &[(&["patch"], "", &["replicationcontrollers/status"])]),
    ("statefulset-controller", STATUS_PATCHES, &[(&["patch"], "apps", &["statefulsets/status"])]),
    ("daemon-set-controller", STATUS_PATCHES, &[(&["patch"], "apps", &["daemonsets/status"])]),
    ("job-controller", STATUS_PATCHES, &[(&["patch"], "batch", &["jobs/status"])]),
    ("cronjob-controller", STATUS_PATCHES, &[(&["patch"], "batch", &["cronjobs/status"])]),
    ("namespace-controller", STATUS_PATCHES, &[(&["patch"], "", &["namespaces/status"])]),
    (
        "resourcequota-controller",
        "counts against the newest version of a quota, which a cache may not hold yet",
        &[(&["get"], "", &["resourcequotas"])],
    ),
];

/// The role and the binding of each addition, as whole documents.
#[must_use]
pub fn additions() -> Vec<Value> {
    const API: &str = "rbac.authorization.k8s.io/v1";
    let each = ADDITIONS.iter().flat_map(|(controller, why, rules)| {
        let name = format!("system:fairlead:controller:{controller}");
        let rules: Vec<Value> = rules
            .iter()
            .map(|(verbs, group, resources)| json!({"verbs": verbs, "apiGroups": [group], "resources": resources}))
            .collect();
        let metadata = json!({"name": name, "annotations": {"kubernetes.io/description": why},
            "labels": {"kubernetes.io/bootstrapping": "rbac-defaults"}});
        [
            json!({"apiVersion": API, "kind": "ClusterRole", "metadata": metadata, "rules": rules}),
            json!({"apiVersion": API, "kind": "ClusterRoleBinding", "metadata": metadata,
                "roleRef": {"apiGroup": super::GROUP, "kind": "ClusterRole", "name": name},
                "subjects": [{"kind": "ServiceAccount", "name": controller, "namespace": "kube-system"}]}),
        ]
    });
    each.collect()
}

#[cfg(test)]
mod tests {
    use kube_objects::UserInfo;

    use super::*;
    use crate::authorization::{Attributes, Authorizer};

    #[test]
    fn an_addition_is_for_its_controller_alone() {
        let authorizer = Authorizer::new();
        authorizer.apply_all(super::super::objects().iter().chain(&additions())).unwrap();
        let may = |controller: &str, verb: &str, resource: &str| {
            let user = UserInfo::service_account("kube-system", controller);
            let asked = Attributes::resource(verb, "apps", resource, "n", "x").with_subresource("status");
            authorizer.authorize(&user, &asked).allowed
        };
        assert!(may("deployment-controller", "patch", "deployments"));
        assert!(may("deployment-controller", "update", "deployments"), "upstream's role holds beside it");
        assert!(!may("deployment-controller", "patch", "replicasets"));
        assert!(!may("job-controller", "patch", "deployments"));
    }

    /// Nothing is added that upstream's role grants already.
    #[test]
    fn every_addition_is_needed() {
        let authorizer = Authorizer::new();
        authorizer.apply_all(&super::super::objects()).unwrap();
        for (controller, _, rules) in &ADDITIONS {
            let user = UserInfo::service_account("kube-system", controller);
            for (verbs, group, resources) in *rules {
                for (verb, resource) in
                    verbs.iter().flat_map(|verb| resources.iter().map(move |own| (verb, own)))
                {
                    let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
                    let asked =
                        Attributes::resource(verb, group, resource, "n", "x").with_subresource(subresource);
                    assert!(!authorizer.authorize(&user, &asked).allowed, "{controller} {verb} {resource}");
                }
            }
        }
    }
}
