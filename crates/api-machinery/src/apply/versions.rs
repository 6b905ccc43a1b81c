//! Owners that wrote in another version of a kind than the request's.
//!
//! What an owner owns is told in the version it wrote in, whose fields may have other names: a share of CPU is a field of
//! `autoscaling/v1` and an item of a list in `v2`. What a write changes is therefore compared once in every version that
//! somebody wrote in, each with its own owners (structured-merge-diff's `merge.Converter`).

use serde_json::Value;

use super::field_set::FieldSet;
use super::managers::{Managed, Owner};
use super::{Conflict, owned_by_anyone, typed};
use crate::schema::SchemaRef;

/// A version besides the request's that the same object is served in.
#[derive(Clone, Debug)]
pub struct OtherVersion {
    /// `autoscaling/v1`.
    pub api_version: &'static str,
    /// What an object looks like in it.
    pub schema: SchemaRef,
    /// From the request's version into this one.
    pub to: fn(Value) -> Value,
}

/// The owners that wrote in other versions, apart from the others while a write is recorded.
#[derive(Debug, Default)]
pub(super) struct Elsewhere<'a> {
    parts: Vec<(&'a OtherVersion, Managed)>,
}

/// What a write changes in another version.
pub(super) struct Changed {
    taken: FieldSet,
    removed: FieldSet,
}

impl<'a> Elsewhere<'a> {
    /// Takes them out of `managed`; `own`, who writes, stays there.
    pub(super) fn take(managed: &mut Managed, others: &'a [OtherVersion], own: &Owner) -> Self {
        let parts = others.iter().filter_map(|other| {
            let theirs = managed.take_version(other.api_version, own);
            (!theirs.is_empty()).then_some((other, theirs))
        });
        Self { parts: parts.collect() }
    }

    /// What the step from `before` to `after` changes, for each of the versions.
    pub(super) fn changes(&self, before: Option<&Value>, after: &Value) -> Vec<Changed> {
        let shown = |other: &OtherVersion, object: &Value| {
            let mut object = (other.to)(object.clone());
            super::take_managed_fields(&mut object);
            object
        };
        let changed = |(other, _): &(&OtherVersion, Managed)| {
            let before = before.map(|before| shown(other, before));
            let difference = typed::compare(&other.schema, before.as_ref(), &shown(other, after));
            let typed::Difference { added, mut modified, removed } = difference;
            modified.absorb(added);
            Changed { taken: owned_by_anyone(modified, &FieldSet::default()), removed }
        };
        self.parts.iter().map(changed).collect()
    }

    /// Which of the changes `own` would make to what these owners own.
    pub(super) fn conflicts(&self, own: &Owner, changes: &[Changed]) -> Vec<Conflict> {
        let each = self.parts.iter().zip(changes);
        each.flat_map(|((_, theirs), changed)| theirs.conflicts(own, &changed.taken)).collect()
    }

    /// What each owns, by the paths of its version.
    pub(super) fn each_fields(&self) -> impl Iterator<Item = &FieldSet> {
        self.parts.iter().flat_map(|(_, theirs)| theirs.each_fields())
    }

    /// Puts them back without what was changed.
    pub(super) fn put_back(self, managed: &mut Managed, changes: &[Changed]) {
        for ((_, mut theirs), changed) in self.parts.into_iter().zip(changes) {
            theirs.release(&changed.taken);
            theirs.release(&changed.removed);
            managed.join(theirs);
        }
    }
}
