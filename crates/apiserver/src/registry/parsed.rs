//! Objects that nearly every write looks at, such as its namespace and its service account: parsed once for each version of
//! theirs, not once for each write.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::Value;

use crate::watch_cache::CachedObject;

/// Objects in one generation: with the one before it twice as many are held at most.
const MOST: usize = 128;
/// Larger ones are parsed each time. A tree takes some five times its bytes: all that are held some 5 MiB at the very most.
const LARGEST_BYTES: usize = 4 << 10;

/// Trees of objects that were asked for lately.
#[derive(Debug, Default)]
pub(crate) struct ParsedObjects(Mutex<Generations>);

/// What is asked for moves to the younger generation; when that is full, the older one goes.
#[derive(Debug, Default)]
struct Generations {
    young: HashMap<usize, Parsed>,
    old: HashMap<usize, Parsed>,
}

#[derive(Clone, Debug)]
struct Parsed {
    /// Held, so that no other object comes to stand at its address, by which it is known.
    _object: Arc<CachedObject>,
    tree: Arc<Value>,
}

impl Generations {
    fn find(&mut self, address: usize) -> Option<Arc<Value>> {
        if let Some(found) = self.young.get(&address) {
            return Some(Arc::clone(&found.tree));
        }
        let found = self.old.remove(&address)?;
        let tree = Arc::clone(&found.tree);
        self.keep(address, found);
        Some(tree)
    }

    fn keep(&mut self, address: usize, parsed: Parsed) {
        if self.young.len() >= MOST {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(address, parsed);
    }
}

impl ParsedObjects {
    /// The tree of an object, resourceVersion included.
    pub(crate) fn of(&self, object: &Arc<CachedObject>) -> Arc<Value> {
        if object.encoded.stored().len() > LARGEST_BYTES {
            return Arc::new(object.encoded.to_value());
        }
        let address = Arc::as_ptr(object).addr();
        if let Some(found) = self.0.lock().find(address) {
            return found;
        }
        let tree = Arc::new(object.encoded.to_value());
        let parsed = Parsed { _object: Arc::clone(object), tree: Arc::clone(&tree) };
        self.0.lock().keep(address, parsed);
        tree
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use serde_json::json;
    use storage::{KeyValue, Revision};

    use super::*;

    fn object(name: &str, revision: u64) -> Arc<CachedObject> {
        let catalogue = crate::Catalogue::cluster();
        let resource = catalogue.find("", "v1", "configmaps").expect("config maps");
        let value = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}}).to_string();
        let kv = KeyValue {
            key: Bytes::from_static(b"k"),
            value: value.into(),
            create_revision: Revision(1),
            mod_revision: Revision(revision),
            version: 1,
            lease: None,
        };
        Arc::new(CachedObject::of(resource, &kv).expect("an object"))
    }

    #[test]
    fn an_object_is_parsed_once_for_each_version() {
        let parsed = ParsedObjects::default();
        let (first, second) = (object("a", 7), object("a", 8));
        let tree = parsed.of(&first);
        assert_eq!(tree["metadata"]["resourceVersion"], "7");
        assert!(Arc::ptr_eq(&tree, &parsed.of(&first)));
        assert_eq!(parsed.of(&second)["metadata"]["resourceVersion"], "8");
    }

    #[test]
    fn what_is_asked_for_stays_and_the_rest_is_bounded() {
        let parsed = ParsedObjects::default();
        let kept = object("kept", 1);
        let tree = parsed.of(&kept);
        for index in 0..3 * MOST {
            parsed.of(&object(&index.to_string(), 1));
            assert!(Arc::ptr_eq(&tree, &parsed.of(&kept)), "after {index} others");
        }
        let held = parsed.0.lock();
        assert!(held.young.len() + held.old.len() <= 2 * MOST);
    }
}
