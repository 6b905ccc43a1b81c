//! Server-side apply and the tracking of who owns which field.
//!
//! Every write names a manager. An *update* (create, PUT, any patch) takes ownership of what it changed; an *apply* states all
//! the manager cares about: what it no longer states and nobody else owns is removed, and what it would change under
//! another owner is a conflict unless forced. The semantics are those of structured-merge-diff v6 and apimachinery's
//! `managedfields` (KEP-555).
//!
//! * [`field_set`]: sets of field paths and their `FieldsV1` form.
//! * [`typed`]: objects walked along their schema: which fields, what changed, merging, removing.
//! * [`check`](mod@check): whether a configuration fits its schema.
//! * [`managers`]: the entries of `metadata.managedFields`.
//! * [`versions`]: owners that wrote in another version.
//!
//! Callers pass the time in. Fields of the object's identity (`metadata.name`, `uid` …) are owned by nobody.

pub mod check;
pub mod field_set;
pub mod managers;
pub mod typed;
pub mod versions;

use std::borrow::Cow;
use std::sync::LazyLock;

use kube_objects::{Reason, Status, StatusCause, StatusDetails};
use serde_json::{Value, json};

use crate::schema::SchemaRef;
use field_set::FieldSet;
use managers::{Managed, Operation, Owner};
use versions::{Elsewhere, OtherVersion};

/// Who writes, and when.
#[derive(Clone, Copy, Debug)]
pub struct Manager<'a> {
    /// `kubectl-client-side-apply`.
    pub name: &'a str,
    /// Written through a subresource: `status`; "" for the object itself.
    pub subresource: &'a str,
    /// In which version: `apps/v1`.
    pub api_version: &'a str,
    /// RFC 3339, seconds.
    pub time: &'a str,
}

/// One field that somebody else owns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// The owner, as messages name it: `"kubectl" using apps/v1`.
    pub owner: String,
    /// `.spec.replicas`.
    pub field: String,
}

/// Why an apply was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// Others own fields that would change; force takes them over.
    #[error("{}", conflict_message(.0))]
    Conflicts(Vec<Conflict>),
    /// The configuration cannot be merged.
    #[error("failed to apply: {0}")]
    Invalid(String),
}

impl ApplyError {
    /// As the API answers it: 409 with a cause per field, or 400.
    #[must_use]
    pub fn to_status(&self) -> Status {
        let Self::Conflicts(conflicts) = self else {
            return Status::new(Reason::BadRequest, self.to_string());
        };
        let cause = |conflict: &Conflict| StatusCause {
            reason: "FieldManagerConflict".to_owned(),
            message: format!("conflict with {}", conflict.owner),
            field: conflict.field.clone(),
        };
        let causes = conflicts.iter().map(cause).collect();
        Status::new(Reason::Conflict, self.to_string())
            .with_details(StatusDetails { causes, ..StatusDetails::default() })
    }
}

fn conflict_message(conflicts: &[Conflict]) -> String {
    if let [only] = conflicts {
        return format!("Apply failed with 1 conflict: conflict with {}: {}", only.owner, only.field);
    }
    let mut owners: Vec<&str> = conflicts.iter().map(|conflict| conflict.owner.as_str()).collect();
    owners.dedup();
    let lines: Vec<String> = owners
        .iter()
        .map(|owner| {
            let fields = conflicts.iter().filter(|conflict| conflict.owner == *owner);
            let fields: Vec<String> = fields.map(|conflict| format!("- {}", conflict.field)).collect();
            format!("conflicts with {owner}:\n{}", fields.join("\n"))
        })
        .collect();
    format!("Apply failed with {} conflicts: {}", conflicts.len(), lines.join("\n"))
}

/// Sets `new`'s managedFields after a write other than an apply: the manager owns what differs from `live` (`None` on a
/// create). A client that sent no managedFields keeps those of `live`; one that sent a single empty entry resets them.
/// `reset` are fields that this endpoint ignores; `others` the versions besides the request's that the kind is served in. Entries
/// that cannot be read count as not sent.
pub fn track_update(
    schema: &SchemaRef,
    live: Option<&Value>,
    new: &mut Value,
    manager: &Manager<'_>,
    reset: &FieldSet,
    others: &[OtherVersion],
) {
    let mut sent = take_managed_fields(new);
    if managers::is_reset(&sent) {
        return;
    }
    let mut managed = match Managed::decode(&sent).filter(|managed| !managed.is_empty()) {
        Some(managed) => managed,
        None => {
            sent = live.map(|live| live["metadata"]["managedFields"].clone()).unwrap_or_default();
            Managed::decode(&sent).unwrap_or_default()
        }
    };
    managed.keep_group(manager.api_version);
    let owner = Owner::of(manager, Operation::Update);
    let elsewhere = Elsewhere::take(&mut managed, others, &owner);
    let changes = elsewhere.changes(live, new);
    // That the live object has managedFields, which `new` has not now, is a difference in what nobody owns.
    let difference = typed::compare(schema, live, new);
    let typed::Difference { added, mut modified, removed } = difference;
    modified.absorb(added);
    let touched = owned_by_anyone(modified, reset);
    managed.release(&removed);
    if !touched.is_empty() {
        managed.release(&touched);
        managed.grant(owner, touched, manager.time);
    }
    elsewhere.put_back(&mut managed, &changes);
    managed.cap_updates();
    put_managed_fields(new, managed.encode(sent));
}

/// Whether anybody ever applied the object.
#[must_use]
pub fn was_applied(object: &Value) -> bool {
    let entries = object["metadata"]["managedFields"].as_array().into_iter().flatten();
    entries.into_iter().any(|entry| entry["operation"] == "Apply")
}

/// Takes out who owns its fields. A later apply then begins with `before-first-apply`.
pub fn forget_owners(object: &mut Value) {
    take_managed_fields(object);
}

/// The object after `manager` has applied `config` onto `live` (`None`: there is no object yet), managedFields included.
/// Equal to `live` when the apply changes nothing. `reset` and `others` are as for [`track_update`].
///
/// # Errors
/// [`ApplyError::Conflicts`] unless `force`; [`ApplyError::Invalid`] for list items without their keys or with the same
/// key twice, or a configuration that brings managedFields.
pub fn apply(
    schema: &SchemaRef,
    live: Option<&Value>,
    config: &Value,
    manager: &Manager<'_>,
    force: bool,
    reset: &FieldSet,
    others: &[OtherVersion],
) -> Result<Value, ApplyError> {
    if config["metadata"]["managedFields"].as_array().is_some_and(|entries| !entries.is_empty()) {
        return Err(ApplyError::Invalid("metadata.managedFields must be nil".to_owned()));
    }
    check::check(schema, config).map_err(ApplyError::Invalid)?;
    let mut config = Cow::Borrowed(config);
    if !reset.is_empty() {
        typed::remove(schema, config.to_mut(), reset);
    }
    let nothing = json!({});
    let before = live.unwrap_or(&nothing);
    let mut managed = managed_before(schema, live, manager);
    let owner = Owner::of(manager, Operation::Apply);
    let last = managed.fields_of(&owner).cloned().unwrap_or_default();
    let elsewhere = Elsewhere::take(&mut managed, others, &owner);
    let stated = owned_by_anyone(typed::fields(schema, &config), reset);
    // Until the end it has the managedFields of the live object: no difference.
    let mut merged = typed::merge(schema, before, &config);
    managed.set(owner.clone(), stated.clone());
    let mut abandoned = last.clone();
    managed.each_fields().chain(elsewhere.each_fields()).for_each(|owned| abandoned.subtract_owned(owned));
    // By its path, in whichever version it was stated: what has another name in this one stays, as upstream leaves it.
    typed::remove(schema, &mut merged, &abandoned);

    let difference = typed::compare(schema, Some(before), &merged);
    let changed = difference.modified.union(&difference.added);
    let changes = elsewhere.changes(live, &merged);
    let mut conflicts = managed.conflicts(&owner, &changed);
    conflicts.extend(elsewhere.conflicts(&owner, &changes));
    if !conflicts.is_empty() && !force {
        return Err(ApplyError::Conflicts(conflicts));
    }
    managed.release_others(&owner, &changed);
    managed.release_others(&owner, &difference.removed);
    if stated != last || !changed.is_empty() || !difference.removed.is_empty() {
        managed.touch(&owner, manager.time);
    }
    elsewhere.put_back(&mut managed, &changes);
    // Those of the live object, which the owners were read from.
    let read = take_managed_fields(&mut merged);
    put_managed_fields(&mut merged, managed.encode(read));
    Ok(merged)
}

/// The owners before an apply. An object that was never tracked is owned by `before-first-apply`, so that a first apply
/// does not silently take over what others wrote.
fn managed_before(schema: &SchemaRef, live: Option<&Value>, manager: &Manager<'_>) -> Managed {
    let mut managed =
        live.and_then(|live| Managed::decode(&live["metadata"]["managedFields"])).unwrap_or_default();
    let Some(live) = live.filter(|_| managed.is_empty()) else {
        managed.keep_group(manager.api_version);
        return managed;
    };
    let mut managed = Managed::default();
    let first = Manager { name: "before-first-apply", subresource: "", ..*manager };
    let fields = owned_by_anyone(typed::fields(schema, live), &FieldSet::default());
    managed.grant(Owner::of(&first, Operation::Update), fields, manager.time);
    managed
}

/// What nobody owns: the object's identity and what the server alone sets.
const UNOWNED: [&[&str]; 12] = [
    &["apiVersion"],
    &["kind"],
    &["metadata"],
    &["metadata", "name"],
    &["metadata", "namespace"],
    &["metadata", "creationTimestamp"],
    &["metadata", "selfLink"],
    &["metadata", "uid"],
    &["metadata", "clusterName"],
    &["metadata", "generation"],
    &["metadata", "managedFields"],
    &["metadata", "resourceVersion"],
];

fn owned_by_anyone(mut fields: FieldSet, reset: &FieldSet) -> FieldSet {
    static SET: LazyLock<FieldSet> = LazyLock::new(|| {
        let mut unowned = FieldSet::default();
        for path in UNOWNED {
            unowned.insert(&path.iter().map(|name| field_set::field(name)).collect::<Vec<_>>());
        }
        unowned
    });
    fields.subtract(&SET);
    fields.subtract_trees(reset);
    fields
}

/// Null when there are none.
fn take_managed_fields(object: &mut Value) -> Value {
    let metadata = object.get_mut("metadata").and_then(Value::as_object_mut);
    metadata.and_then(|metadata| metadata.remove("managedFields")).unwrap_or_default()
}

fn put_managed_fields(object: &mut Value, encoded: Value) {
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut)
        && encoded.as_array().is_some_and(|entries| !entries.is_empty())
    {
        metadata.insert("managedFields".to_owned(), encoded);
    }
}

#[cfg(test)]
mod tests;
