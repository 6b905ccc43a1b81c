//! The guard against stores whose revisions went back: a disk image or a backup put in place of what was there.
//!
//! A store cannot notice that by itself, for what it would notice it by went back too. So whoever serves a store keeps a
//! [`Witness`] somewhere else, and an engine that is opened with one that the store contradicts begins a new life first.

use crate::contract::{Incarnation, Revision};
use crate::mvcc::RESTORE_BUMP;

/// What has been served of a store: kept outside of it by the process that serves it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Witness {
    /// The life that was served last.
    pub incarnation: Incarnation,
    /// A revision that has been served; there may have been later ones.
    pub revision: Revision,
}

impl Witness {
    /// Whether a store that is at `found` now has gone back. Which life it says it is does not matter: clients compare
    /// revisions alone.
    #[must_use]
    pub fn contradicted_by(&self, found: Revision) -> bool {
        found < self.revision
    }

    /// Where the next life of a store at `found` begins: past everything served before, also past what was served after
    /// the witness was written.
    #[must_use]
    pub fn next_life(witness: Option<Self>, found: Revision) -> Revision {
        let served = witness.map_or(Revision(0), |witness| witness.revision);
        Revision(found.max(served).0.saturating_add(RESTORE_BUMP))
    }
}
