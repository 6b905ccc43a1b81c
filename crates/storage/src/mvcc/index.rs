//! The versions of one key.

use bytes::Bytes;

use super::RecordId;
use crate::contract::{KeyValue, LeaseId, Revision};

/// One version; a deletion when `version` is 0.
#[derive(Clone, Debug)]
pub(super) struct Version {
    pub(super) mod_revision: Revision,
    /// Position among the events of its revision.
    pub(super) position: u32,
    pub(super) create_revision: Revision,
    pub(super) version: u64,
    pub(super) value: Bytes,
    pub(super) lease: Option<LeaseId>,
}

impl Version {
    pub(super) fn is_deletion(&self) -> bool {
        self.version == 0
    }

    pub(super) fn to_key_value(&self, key: &Bytes) -> KeyValue {
        KeyValue {
            key: key.clone(),
            value: self.value.clone(),
            create_revision: self.create_revision,
            mod_revision: self.mod_revision,
            version: self.version,
            lease: self.lease,
        }
    }
}

/// All kept versions of a key, oldest first; never empty while in the index.
#[derive(Clone, Debug)]
pub(super) struct KeyHistory {
    versions: Vec<Version>,
}

impl KeyHistory {
    /// A history of just this version.
    pub(super) fn of(kv: &KeyValue, position: u32) -> Self {
        Self { versions: vec![version_of(kv, position)] }
    }

    /// Adds the newest version.
    pub(super) fn push(&mut self, kv: &KeyValue, position: u32) {
        self.versions.push(version_of(kv, position));
    }

    /// The version that was live at `revision`.
    pub(super) fn at(&self, revision: Revision) -> Option<&Version> {
        // Nearly every read wants the newest, so it is looked at first.
        let newest = self.versions.last()?;
        let version = if newest.mod_revision <= revision {
            newest
        } else {
            let after = self.versions.partition_point(|version| version.mod_revision <= revision);
            self.versions.get(after.checked_sub(1)?)?
        };
        (!version.is_deletion()).then_some(version)
    }

    /// The live version at the head.
    pub(super) fn newest(&self) -> Option<&Version> {
        self.versions.last().filter(|version| !version.is_deletion())
    }

    /// Takes back what `revision` did; true: no version is left.
    pub(super) fn undo(&mut self, revision: Revision) -> bool {
        self.versions.pop_if(|version| version.mod_revision == revision);
        self.versions.is_empty()
    }

    /// Drops what cannot be asked for once history at and before `revision` is forgotten; true: nothing is left.
    pub(super) fn compact(&mut self, revision: Revision, garbage: &mut Vec<RecordId>) -> bool {
        let upto = self.versions.partition_point(|version| version.mod_revision <= revision);
        // The last of them is the version live at `revision`: kept, unless it is a deletion.
        let keep = upto.checked_sub(1).filter(|last| !self.versions[*last].is_deletion()).unwrap_or(upto);
        garbage.extend(self.versions.drain(..keep).map(|version| (version.mod_revision, version.position)));
        // Most keys are left with one version, and stay so for long.
        self.versions.shrink_to_fit();
        self.versions.is_empty()
    }
}

impl KeyHistory {
    /// Drops everything: a newer version took its place.
    pub(super) fn compact_all(&mut self, garbage: &mut Vec<RecordId>) {
        garbage.extend(self.versions.drain(..).map(|version| (version.mod_revision, version.position)));
    }
}

fn version_of(kv: &KeyValue, position: u32) -> Version {
    Version {
        mod_revision: kv.mod_revision,
        position,
        create_revision: kv.create_revision,
        version: kv.version,
        value: kv.value.clone(),
        lease: kv.lease,
    }
}
