//! Policies among the objects of profiles that the cluster may not know. Where it runs Gatekeeper, templates and constraints are
//! objects like others, and Gatekeeper enforces them. Where it does not, it does not know their kinds, as it does not know
//! ValidatingAdmissionPolicies before Kubernetes 1.30: they are kept here and the audit judges by them. Of Gatekeeper's the audit
//! is told in both cases.

use std::collections::HashMap;
use std::sync::Arc;

use api_client::dynamic::Kind;
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
};
use kube::Api;
use kube::api::{ApiResource, GroupVersionKind, PostParams};
use serde_json::Value;

use super::Enforcer;
use super::active::Active;
use super::cluster::{Cluster, Outcome, Target};
use crate::error::Error;

const TEMPLATES: &str = "templates.gatekeeper.sh";
const CONSTRAINTS: &str = "constraints.gatekeeper.sh";
/// All groups of which documents are kept.
const KEPT: [&str; 4] = [TEMPLATES, CONSTRAINTS, "config.gatekeeper.sh", "syncset.gatekeeper.sh"];
/// The group of ValidatingAdmissionPolicies and their bindings, and the beginning of their kinds.
const ADMISSION: (&str, &str) = ("admissionregistration.k8s.io", "ValidatingAdmissionPolicy");
/// The only kind that is in namespaces.
const NAMESPACED: &str = "Config";

/// A document that the audit judges by.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct HeldPolicy {
    /// The value of the assignment's label.
    pub(crate) assignment: String,
    /// As it is applied where it can be.
    pub(crate) document: Value,
}

/// What is held; `None` until it is known what of it is in force.
pub(crate) type HeldPolicies = Option<Arc<Vec<HeldPolicy>>>;

/// Kinds that are not served yet: (group, kind) to (plural, namespaced).
pub(super) type Brought = HashMap<(String, String), (String, bool)>;

/// What is to be done about a kind that the cluster does not serve.
pub(super) enum Unserved {
    /// It will be, as soon as Gatekeeper has seen its template.
    Brought(ApiResource),
    /// It is kept.
    Kept(ApiResource, bool),
    /// It is unknown.
    Unknown,
}

/// Whether a target is one of Gatekeeper's policies.
fn is_gatekeepers(target: &Target) -> bool {
    KEPT.contains(&target.resource.group.as_str())
}

/// What to do about a kind that is not served. `brought`: what definitions and templates beside it bring; `gatekeeper`: whether the
/// cluster runs it.
fn decide(gvk: &GroupVersionKind, brought: &Brought, gatekeeper: bool) -> Unserved {
    let resource = || ApiResource::from_gvk_with_plural(gvk, &plural(gvk));
    if gvk.group == ADMISSION.0 && gvk.kind.starts_with(ADMISSION.1) {
        return Unserved::Kept(resource(), false);
    }
    if !KEPT.contains(&gvk.group.as_str()) {
        return Unserved::Unknown;
    }
    if !gatekeeper && !brought.contains_key(&(TEMPLATES.to_owned(), "ConstraintTemplate".to_owned())) {
        return Unserved::Kept(resource(), gvk.kind == NAMESPACED);
    }
    let made = gvk.group == CONSTRAINTS && brought.contains_key(&(gvk.group.clone(), gvk.kind.clone()));
    if made { Unserved::Brought(resource()) } else { Unserved::Unknown }
}

impl Cluster {
    /// What to do about a kind that is not served. `brought`: what definitions and templates beside it bring.
    pub(super) async fn unserved(
        &self,
        gvk: &GroupVersionKind,
        brought: &Brought,
    ) -> Result<Unserved, Error> {
        if !self.keeps_policies() {
            return Ok(Unserved::Unknown);
        }
        let all = self.kinds().await?;
        let is_template =
            |kind: &Kind| kind.resource.group == TEMPLATES && kind.resource.kind == "ConstraintTemplate";
        Ok(decide(gvk, brought, all.iter().any(is_template)))
    }

    /// Keeps a policy if the profile might create it, were its kind there: what policies find is told to the hub, and who may
    /// not bring policies shall not read the cluster by them.
    pub(super) async fn keep(&self, target: &Target) -> Outcome {
        let review = SelfSubjectAccessReview {
            spec: SelfSubjectAccessReviewSpec {
                resource_attributes: Some(ResourceAttributes {
                    group: Some(target.resource.group.clone()),
                    version: Some(target.resource.version.clone()),
                    resource: Some(target.resource.plural.clone()),
                    namespace: target.reference.namespace.clone(),
                    name: Some(target.reference.name.clone()),
                    verb: Some("create".to_owned()),
                    ..ResourceAttributes::default()
                }),
                ..SelfSubjectAccessReviewSpec::default()
            },
            ..SelfSubjectAccessReview::default()
        };
        let reviews: Api<SelfSubjectAccessReview> = Api::all(self.client().clone());
        match reviews.create(&PostParams::default(), &review).await {
            Ok(review) if review.status.as_ref().is_some_and(|status| status.allowed) => {
                Outcome::Applied(Box::new(target.manifest.object()))
            }
            Ok(_) => {
                let (plural, group) = (&target.resource.plural, &target.resource.group);
                Outcome::Forbidden(format!("the profile may not create {plural} in API group {group:?}"))
            }
            Err(error) => Outcome::Later(error.to_string()),
        }
    }
}

/// As definitions of these groups call a kind.
fn plural(gvk: &GroupVersionKind) -> String {
    let lower = gvk.kind.to_lowercase();
    match lower.strip_suffix('y') {
        _ if gvk.group == CONSTRAINTS => lower,
        Some(begin) => format!("{begin}ies"),
        None => lower + "s",
    }
}

/// The kind of constraints that an object makes, if it is a template.
pub(super) fn made_by_template(object: &Value) -> Option<(String, String)> {
    let group = object["apiVersion"].as_str()?.split_once('/')?.0;
    let kind = object["spec"]["crd"]["spec"]["names"]["kind"].as_str()?;
    (group == TEMPLATES && object["kind"] == "ConstraintTemplate")
        .then(|| (CONSTRAINTS.to_owned(), kind.to_owned()))
}

/// Whether it has to be looked again at whether the cluster runs Gatekeeper: what is kept might be applied, what cannot be
/// applied might have to be kept.
pub(super) fn are_unsettled(active: &Active) -> bool {
    let failed =
        |target: &Target| active.states.get(&target.reference).is_some_and(|state| state.error.is_some());
    active.targets.values().any(|target| target.kept || (is_gatekeepers(target) && failed(target)))
}

impl Enforcer {
    /// Tells the audit which policies are in force. Nothing is told before all that is on disk was looked at: the audit would
    /// take what is missing for gone.
    pub(super) fn tell_policies(&self) {
        let Some(sender) = &self.policies else { return };
        let is_settled =
            |active: &Active| active.loaded || active.problem.is_some() || active.progress.enforced.is_none();
        if sender.borrow().is_none() && !self.active.values().all(is_settled) {
            return;
        }
        let in_force = |active: &Active, target: &Target| {
            (target.kept || is_gatekeepers(target))
                && active.states.get(&target.reference).is_some_and(|state| state.fingerprint.is_some())
        };
        let mut held = Vec::new();
        for active in self.active.values() {
            let targets = active.targets.values().filter(|target| in_force(active, target));
            held.extend(targets.map(|target| HeldPolicy {
                assignment: active.label.clone(),
                document: target.manifest.object(),
            }));
        }
        sender.send_if_modified(|known| {
            let changed = known.as_ref().is_none_or(|known| **known != held);
            if changed {
                *known = Some(Arc::new(held));
            }
            changed
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_cluster_does_not_know_is_kept_unless_somebody_brings_it() {
        let kind = |group: &str, kind: &str| GroupVersionKind::gvk(group, "v1", kind);
        let word = |gvk: &GroupVersionKind, brought: &Brought, gatekeeper: bool| match decide(
            gvk, brought, gatekeeper,
        ) {
            Unserved::Kept(resource, namespaced) => format!("kept {} {namespaced}", resource.plural),
            Unserved::Brought(resource) => format!("brought {}", resource.plural),
            Unserved::Unknown => "unknown".to_owned(),
        };
        let bringing = |all: &[(&str, &str)]| -> Brought {
            let one = |(group, kind): &(&str, &str)| ((*group).to_owned(), (*kind).to_owned());
            all.iter().map(|place| (one(place), (String::new(), false))).collect()
        };
        let (nothing, template) = (Brought::new(), bringing(&[(CONSTRAINTS, "Owners")]));
        let gatekeeper = bringing(&[(TEMPLATES, "ConstraintTemplate"), (CONSTRAINTS, "Owners")]);
        let owners = kind(CONSTRAINTS, "Owners");
        assert_eq!(word(&owners, &nothing, false), "kept owners false");
        assert_eq!(word(&owners, &template, false), "kept owners false", "nobody makes its kind");
        assert_eq!(word(&owners, &template, true), "brought owners");
        assert_eq!(word(&owners, &gatekeeper, false), "brought owners");
        assert_eq!(word(&owners, &nothing, true), "unknown", "a template is missing");
        assert_eq!(
            word(&kind(TEMPLATES, "ConstraintTemplate"), &nothing, false),
            "kept constrainttemplates false"
        );
        assert_eq!(word(&kind("config.gatekeeper.sh", "Config"), &nothing, false), "kept configs true");
        let policy = kind("admissionregistration.k8s.io", "ValidatingAdmissionPolicy");
        assert_eq!(word(&policy, &nothing, true), "kept validatingadmissionpolicies false");
        let binding = kind("admissionregistration.k8s.io", "ValidatingAdmissionPolicyBinding");
        assert_eq!(word(&binding, &nothing, true), "kept validatingadmissionpolicybindings false");
        for other in
            [kind("admissionregistration.k8s.io", "MutatingAdmissionPolicy"), kind("example.com", "Thing")]
        {
            assert_eq!(word(&other, &nothing, false), "unknown");
        }
    }
}
