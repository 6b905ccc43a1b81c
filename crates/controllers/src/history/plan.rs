//! Which revisions to record, renumber and forget. Pure.

use std::sync::Arc;

use k8s_openapi::{
    api::{apps::v1::ControllerRevision, core::v1::PodTemplateSpec},
    apimachinery::pkg::{apis::meta::v1::ObjectMeta, runtime::RawExtension},
};
use serde_json::{Value, json};

use crate::objects::{Labels, controller_reference, template_hash};

/// Revisions kept beside those in use when the set does not say (upstream's default).
pub(crate) const LIMIT: i32 = 10;

/// Whose history it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Owner<'a> {
    pub(crate) kind: &'static str,
    pub(crate) metadata: &'a ObjectMeta,
    pub(crate) template: &'a PodTemplateSpec,
    /// The label of a revision that holds its hash.
    pub(crate) hash_label: &'static str,
    /// `status.collisionCount`.
    pub(crate) collisions: i32,
    /// `spec.revisionHistoryLimit`.
    pub(crate) limit: Option<i32>,
}

/// The revision of the present template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) name: String,
    pub(crate) hash: String,
}

/// What to do for one owner.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) kept: Kept,
    /// Records a template that is new.
    pub(super) create: Option<Box<ControllerRevision>>,
    /// A template that was recorded before is the newest again: revision to give its number.
    pub(super) renumber: Option<(String, i64)>,
    pub(super) delete: Vec<Arc<ControllerRevision>>,
}

/// What a revision records of a template: a patch that puts it back (upstream's form).
fn data_of(template: &PodTemplateSpec) -> Value {
    let mut template = json!(template);
    template["$patch"] = "replace".into();
    json!({"spec": {"template": template}})
}

/// The template that a revision recorded; `None` when it holds none.
pub(crate) fn template_of(revision: &ControllerRevision) -> Option<PodTemplateSpec> {
    let mut template = revision.data.as_ref()?.0.get("spec")?.get("template")?.clone();
    template.as_object_mut()?.remove("$patch");
    serde_json::from_value(template).ok()
}

/// `revisions` are those it controls; `in_use` tells by name and hash which ones pods or the status still name.
pub(super) fn plan(
    owner: &Owner<'_>,
    revisions: &[Arc<ControllerRevision>],
    in_use: impl Fn(&str, &str) -> bool,
) -> Plan {
    let data = data_of(owner.template);
    let newest = revisions.iter().map(|own| own.revision).max().unwrap_or(0);
    let same = |own: &&Arc<ControllerRevision>| own.data.as_ref().is_some_and(|known| known.0 == data);
    let known = revisions.iter().filter(same).max_by_key(|own| (own.revision, own.metadata.name.clone()));
    let (kept, create, renumber) = match known {
        Some(known) => {
            let name = known.metadata.name.clone().unwrap_or_default();
            let hash = hash_of(owner, known);
            let renumber = (known.revision < newest).then(|| (name.clone(), newest.saturating_add(1)));
            (Kept { name, hash }, None, renumber)
        }
        None => {
            let fresh = revision(owner, data, newest.saturating_add(1));
            let name = fresh.metadata.name.clone().unwrap_or_default();
            (Kept { name, hash: hash_of(owner, &fresh) }, Some(Box::new(fresh)), None)
        }
    };
    let mut old: Vec<Arc<ControllerRevision>> = revisions
        .iter()
        .filter(|own| {
            let name = own.metadata.name.as_deref().unwrap_or_default();
            name != kept.name && !in_use(name, &hash_of(owner, own))
        })
        .cloned()
        .collect();
    old.sort_by_key(|own| own.revision);
    let limit = usize::try_from(owner.limit.unwrap_or(LIMIT)).unwrap_or(0);
    old.truncate(old.len().saturating_sub(limit));
    Plan { kept, create, renumber, delete: old }
}

fn hash_of(owner: &Owner<'_>, revision: &ControllerRevision) -> String {
    let labelled = revision.metadata.labels.as_ref().and_then(|labels| labels.get(owner.hash_label));
    let name = revision.metadata.name.as_deref().unwrap_or_default();
    let prefix = format!("{}-", owner.metadata.name.as_deref().unwrap_or_default());
    labelled.cloned().unwrap_or_else(|| name.strip_prefix(&prefix).unwrap_or(name).to_owned())
}

fn revision(owner: &Owner<'_>, data: Value, number: i64) -> ControllerRevision {
    let hash = template_hash(owner.template, owner.collisions);
    let mut labels: Labels =
        owner.template.metadata.as_ref().and_then(|meta| meta.labels.clone()).unwrap_or_default();
    labels.insert(owner.hash_label.to_owned(), hash.clone());
    ControllerRevision {
        metadata: ObjectMeta {
            name: Some(format!("{}-{hash}", owner.metadata.name.as_deref().unwrap_or_default())),
            namespace: owner.metadata.namespace.clone(),
            labels: Some(labels),
            annotations: owner.metadata.annotations.clone(),
            owner_references: Some(vec![controller_reference("apps/v1", owner.kind, owner.metadata)]),
            ..ObjectMeta::default()
        },
        data: Some(RawExtension(data)),
        revision: number,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn template(image: &str) -> PodTemplateSpec {
        serde_json::from_value(json!({"metadata": {"labels": {"app": "d"}},
            "spec": {"containers": [{"name": "c", "image": image}]}}))
        .expect("a template")
    }

    fn of<'a>(metadata: &'a ObjectMeta, template: &'a PodTemplateSpec) -> Owner<'a> {
        Owner { kind: "DaemonSet", metadata, template, hash_label: "hash", collisions: 0, limit: Some(1) }
    }

    fn meta() -> ObjectMeta {
        ObjectMeta { name: Some("d".to_owned()), uid: Some("u".to_owned()), ..ObjectMeta::default() }
    }

    #[test]
    fn a_new_template_is_recorded_and_can_be_read_back() {
        let (meta, template) = (meta(), template("a"));
        let plan = plan(&of(&meta, &template), &[], |_, _| false);
        let made = plan.create.expect("new");
        assert_eq!((made.revision, &made.metadata.name), (1, &Some(plan.kept.name)));
        assert_eq!(made.metadata.labels.as_ref().map(|own| &own["hash"]), Some(&plan.kept.hash));
        assert_eq!(template_of(&made), Some(template));
    }

    #[test]
    fn going_back_renumbers_the_old_revision() {
        let (meta, first, second) = (meta(), template("a"), template("b"));
        let one = Arc::new(*plan(&of(&meta, &first), &[], |_, _| false).create.expect("new"));
        let two = plan(&of(&meta, &second), &[Arc::clone(&one)], |_, _| false).create.expect("new");
        assert_eq!(two.revision, 2);
        let back = plan(&of(&meta, &first), &[Arc::clone(&one), Arc::new(*two)], |_, _| false);
        assert!(back.create.is_none());
        assert_eq!(back.renumber, one.metadata.name.clone().map(|name| (name, 3)));
    }

    #[test]
    fn a_revision_with_the_same_data_serves_under_its_own_name() {
        let (meta, template) = (meta(), template("a"));
        let mut other = *plan(&of(&meta, &template), &[], |_, _| false).create.expect("new");
        other.metadata.name = Some("d-mine".to_owned());
        other.metadata.labels.get_or_insert_default().insert("hash".to_owned(), "mine".to_owned());
        let plan = plan(&of(&meta, &template), &[Arc::new(other)], |_, _| false);
        assert!(plan.create.is_none());
        assert_eq!(plan.kept, Kept { name: "d-mine".to_owned(), hash: "mine".to_owned() });
    }

    #[test]
    fn old_revisions_go_but_not_those_in_use() {
        let meta = meta();
        let mut all: Vec<Arc<ControllerRevision>> = Vec::new();
        for image in ["a", "b", "c", "d"] {
            let template = template(image);
            all.push(Arc::new(*plan(&of(&meta, &template), &all, |_, _| false).create.expect("new")));
        }
        let newest = template("d");
        let in_use = all[0].metadata.name.clone().expect("named");
        let plan = plan(&of(&meta, &newest), &all, |name, _| name == in_use);
        assert_eq!(plan.delete.len(), 1, "of the two that nobody uses the limit keeps one");
        assert!(Arc::ptr_eq(&plan.delete[0], &all[1]), "the oldest goes");
    }
}
