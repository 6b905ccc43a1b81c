//! The agent's store as tests and triggers use it: what they note may hold what people gave a test, so it is sealed.

use std::borrow::Cow;
use std::sync::Arc;

use sealing::{Key, SealError};
use storage::{KeyValue, Operation, RangeRequest, RangeResponse, Store, StoreError, Transaction};

/// Notes in a store. Clones share it.
#[derive(Clone)]
pub struct Notes {
    store: Arc<dyn Store>,
    key: Option<Arc<Key>>,
}

/// Unsealed: for what lives in memory alone.
impl From<Arc<dyn Store>> for Notes {
    fn from(store: Arc<dyn Store>) -> Self {
        Self { store, key: None }
    }
}

impl Notes {
    /// Sealed with a key, each note for its own place.
    #[must_use]
    pub fn sealed(store: Arc<dyn Store>, key: Arc<Key>) -> Self {
        Self { store, key: Some(key) }
    }

    /// Writes a note.
    pub(crate) fn put(&self, place: String, text: Vec<u8>) -> Result<Operation, StoreError> {
        let Some(key) = &self.key else { return Ok(Operation::put(place, text)) };
        let sealed = key.seal(place.as_bytes(), &text).map_err(failed(place.as_bytes()))?;
        Ok(Operation::put(place, sealed))
    }

    /// What a note says. Those of earlier releases were not sealed.
    pub(crate) fn open<'a>(&self, kv: &'a KeyValue) -> Result<Cow<'a, [u8]>, StoreError> {
        match &self.key {
            Some(key) if sealing::is_sealed(&kv.value) => {
                key.unseal(&kv.key, &kv.value).map(Cow::Owned).map_err(failed(&kv.key))
            }
            _ => Ok(Cow::Borrowed(&kv.value)),
        }
    }

    pub(crate) async fn range(&self, request: RangeRequest) -> Result<RangeResponse, StoreError> {
        self.store.range(request).await
    }

    /// All of it or nothing; durable when it answers.
    pub(crate) async fn write(&self, success: Vec<Operation>) -> Result<(), StoreError> {
        self.store.transact(Transaction { success, ..Transaction::default() }).await.map(drop)
    }
}

fn failed(place: &[u8]) -> impl Fn(SealError) -> StoreError {
    move |error| StoreError::InvalidRequest(format!("the note {}: {error}", place.escape_ascii()))
}

#[cfg(test)]
mod tests {
    use storage::KeyRange;
    use storage::model::MemoryStore;

    use super::*;

    #[tokio::test]
    async fn a_note_is_unreadable_in_the_store_and_at_any_other_place() {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
        let notes = Notes::sealed(store.clone(), Arc::new(Key::new(&[1; sealing::KEY_BYTES])));
        let older = Operation::put("/test-executions/old", "{}");
        let sealed = notes.put("/test-executions/1".to_owned(), b"CANARY".to_vec()).unwrap();
        notes.write(vec![sealed, older]).await.unwrap();
        let kept = notes.range(RangeRequest::all(KeyRange::prefix("/test-executions/"))).await.unwrap().kvs;
        assert!(!kept[0].value.windows(6).any(|window| window == b"CANARY"));
        assert_eq!(&*notes.open(&kept[0]).unwrap(), b"CANARY");
        assert_eq!(&*notes.open(&kept[1]).unwrap(), b"{}", "what an earlier release wrote");
        let moved = KeyValue { key: "/test-executions/2".into(), ..kept[0].clone() };
        assert!(notes.open(&moved).is_err());
    }
}
