//! A change, encoded once per form and shared by every watcher that wants that form.

use std::sync::{Arc, OnceLock};

use bytes::{BufMut, Bytes, BytesMut};
use parking_lot::Mutex;
use storage::Revision;

use super::CachedObject;

/// What a watcher is told: for its selector an object may come or go while it is only modified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// It is there now.
    Added,
    /// It has another version.
    Modified,
    /// It is gone.
    Deleted,
}

impl Change {
    /// As it stands in a watch event's `type`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Added => "ADDED",
            Self::Modified => "MODIFIED",
            Self::Deleted => "DELETED",
        }
    }
}

/// Names a form other than the plain JSON object: a served version that differs from the stored one, Table,
/// PartialObjectMetadata. Equal names must mean equal bytes.
pub(crate) type Form = u64;

/// Upper bound of what a frame is longer than its object.
pub(crate) const JSON_FRAME_BYTES: usize = 40;

/// Appends a change in plain JSON: a line with `type` and `object`.
pub(crate) fn write_json_frame(change: Change, object: &CachedObject, out: &mut BytesMut) {
    out.reserve(object.encoded.len() + JSON_FRAME_BYTES);
    write_frame(change, out, |out| object.encoded.write_to(out));
}

/// Appends a change of what `write` appends.
pub(crate) fn write_frame(change: Change, out: &mut BytesMut, write: impl FnOnce(&mut BytesMut)) {
    out.put_slice(b"{\"type\":\"");
    out.put_slice(change.name().as_bytes());
    out.put_slice(b"\",\"object\":");
    write(out);
    out.put_slice(b"}\n");
}

/// A change's frame in one form, or the place where somebody is putting it.
type Framed = (Change, Option<Form>, Arc<OnceLock<Bytes>>);

/// One revision's change of one object.
#[derive(Debug)]
pub(crate) struct CachedEvent {
    /// When.
    pub(crate) revision: Revision,
    /// The new version; for a deletion the last one at the deletion's revision.
    pub(crate) object: Arc<CachedObject>,
    /// The version before; `None` for a creation.
    pub(crate) previous: Option<Arc<CachedObject>>,
    /// Whether it was a deletion.
    pub(crate) deleted: bool,
    departed: OnceLock<Arc<CachedObject>>,
    frames: Mutex<Vec<Framed>>,
}

impl CachedEvent {
    pub(super) fn new(
        revision: Revision,
        object: Arc<CachedObject>,
        previous: Option<Arc<CachedObject>>,
        deleted: bool,
    ) -> Self {
        Self {
            revision,
            object,
            previous,
            deleted,
            departed: OnceLock::new(),
            frames: Mutex::new(Vec::new()),
        }
    }

    /// What a watcher that sees only objects for which `matches` is told, if anything. An object that leaves a selection
    /// is told as deleted in its last matching version, at this event's revision.
    pub(super) fn seen_by(
        &self,
        matches: impl Fn(&CachedObject) -> bool,
    ) -> Option<(Change, Arc<CachedObject>)> {
        let before = self.previous.as_deref().is_some_and(&matches);
        let now = !self.deleted && matches(&self.object);
        match (before, now) {
            (false, false) => None,
            (false, true) => Some((Change::Added, Arc::clone(&self.object))),
            (true, true) => Some((Change::Modified, Arc::clone(&self.object))),
            (true, false) if self.deleted => Some((Change::Deleted, Arc::clone(&self.object))),
            (true, false) => {
                let departed = self.departed.get_or_init(|| {
                    let last = self.previous.as_ref().unwrap_or(&self.object);
                    Arc::new(last.at(self.revision))
                });
                Some((Change::Deleted, Arc::clone(departed)))
            }
        }
    }

    /// The frame of a change in plain JSON: a line with `type` and `object`.
    pub(crate) fn json_frame(&self, change: Change, object: &CachedObject) -> Bytes {
        self.frame(change, None, || {
            let mut out = BytesMut::with_capacity(object.encoded.len() + JSON_FRAME_BYTES);
            write_json_frame(change, object, &mut out);
            out.freeze()
        })
    }

    /// The frame of a change in another form, encoded by the first watcher that asks.
    pub(crate) fn frame_in(&self, change: Change, form: Form, encode: impl FnOnce() -> Bytes) -> Bytes {
        self.frame(change, Some(form), encode)
    }

    fn frame(&self, change: Change, form: Option<Form>, encode: impl FnOnce() -> Bytes) -> Bytes {
        // Only the place is made under the lock: who wants another form does not wait while this one is encoded.
        let place = {
            let mut frames = self.frames.lock();
            let known = frames.iter().find(|(of, as_form, _)| *of == change && *as_form == form);
            match known {
                Some((_, _, place)) => Arc::clone(place),
                None => {
                    let place = Arc::new(OnceLock::new());
                    frames.push((change, form, Arc::clone(&place)));
                    place
                }
            }
        };
        place.get_or_init(encode).clone()
    }

    /// Drops the encoded frames: most watchers have had them, a late one encodes again.
    pub(super) fn forget_frames(&self) {
        self.frames.lock().clear();
    }

    /// What the event keeps alive, for the bound on history: the version that it superseded. The one that it made lives, or
    /// is the previous one of a later event; that of a deletion shares its buffer with the previous one.
    pub(super) fn cost_bytes(&self) -> usize {
        // Names, labels and bookkeeping are a few hundred.
        self.previous.as_ref().map_or(0, |previous| previous.encoded.len()) + 512
    }
}
