//! What this server writes is indexed from the tree that it was written from: a writer leaves the object here before it
//! commits, and the cache takes it when the store tells of the commit, instead of parsing the bytes again.
//!
//! An object is known by the buffer of its bytes: an engine in this process hands watchers the very buffers that writers
//! gave it. What comes over a network, or was written by somebody else, is in a buffer of its own and is parsed. A buffer
//! lives for as long as it is here, so its address is nobody else's.

use std::collections::VecDeque;

use bytes::Bytes;
use parking_lot::Mutex;
use storage::Revision;

use super::CachedObject;

/// Objects that may wait; beyond, the oldest is forgotten, and parsed after all. As many as a commit of the embedded store
/// holds. Those whose write failed, and all of an engine over a network, wait here until others push them out.
const MOST: usize = 256;

/// Larger objects are parsed: at most 16 MiB wait.
const LARGEST_BYTES: usize = 64 << 10;

/// Objects about to be committed.
#[derive(Debug, Default)]
pub(super) struct Handover(Mutex<VecDeque<CachedObject>>);

impl Handover {
    /// Leaves an object whose bytes are about to be committed.
    pub(super) fn leave(&self, object: CachedObject) {
        if object.encoded.stored().len() > LARGEST_BYTES {
            return;
        }
        let mut waiting = self.0.lock();
        if waiting.len() >= MOST {
            waiting.pop_front();
        }
        waiting.push_back(object);
    }

    /// The object of these very bytes, as committed at `revision`, if it was left here.
    pub(super) fn take(&self, bytes: &Bytes, revision: Revision) -> Option<CachedObject> {
        let same = |object: &CachedObject| {
            let own = object.encoded.stored();
            own.as_ptr() == bytes.as_ptr() && own.len() == bytes.len()
        };
        let mut waiting = self.0.lock();
        let index = waiting.iter().position(same)?;
        waiting.remove(index).map(|object| object.committed(revision))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::registry::objects::encode;

    fn left(name: &str) -> (Bytes, CachedObject) {
        let value = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}});
        let catalogue = crate::Catalogue::cluster();
        let resource = Arc::clone(catalogue.find("", "v1", "configmaps").expect("config maps"));
        let bytes = encode(&value);
        let object = CachedObject::of_tree(&resource, &bytes, &value).expect("an object");
        (bytes, object)
    }

    #[test]
    fn an_object_is_taken_once_and_only_by_its_own_buffer() {
        let handover = Handover::default();
        let (bytes, object) = left("a");
        handover.leave(object);
        let equal = Bytes::copy_from_slice(&bytes);
        assert!(handover.take(&equal, Revision(7)).is_none(), "another buffer may be somebody else's");
        let taken = handover.take(&bytes, Revision(7)).expect("it was left");
        assert_eq!((taken.name(), taken.encoded.revision()), ("a", Revision(7)));
        assert!(handover.take(&bytes, Revision(8)).is_none());
    }

    #[test]
    fn what_is_never_taken_is_pushed_out() {
        let handover = Handover::default();
        let (first, object) = left("first");
        handover.leave(object);
        for n in 0..MOST {
            handover.leave(left(&n.to_string()).1);
        }
        assert!(handover.take(&first, Revision(1)).is_none());
        assert_eq!(handover.0.lock().len(), MOST);
    }
}
