//! Sealing anew: what was written plain before encryption was wanted, or with a key that is going to be retired. Every value
//! is replaced under the version that was read, so that writers are not held up and nothing is lost.

use storage::{Compare, KeyRange, Operation, RangeRequest, StoreError, Transaction};

use crate::configuration::Wanted;
use crate::envelope::is_sealed;
use crate::store::SealedStore;

/// Keys read at once.
const PAGE: usize = 500;
/// Tries of one key that others write at the same time; what others write is sealed as wanted anyway.
const TRIES: usize = 3;

/// What a rewrite found and did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Rewritten {
    /// Values that the configuration speaks of.
    pub seen: usize,
    /// Values that were written anew.
    pub rewritten: usize,
    /// Values that no configured key opens; they stay as they are.
    pub unreadable: usize,
}

impl SealedStore {
    /// Writes everything anew that is not as the configuration wants it. May be stopped and begun again at any time.
    ///
    /// # Errors
    /// As the store's.
    pub async fn rewrite(&self) -> Result<Rewritten, StoreError> {
        let mut done = Rewritten::default();
        for prefix in self.rules().configuration.prefixes() {
            let whole = KeyRange::prefix(prefix);
            let mut start = whole.start.clone();
            loop {
                let range = KeyRange { start: start.clone(), end: whole.end.clone() };
                let request = RangeRequest { limit: Some(PAGE), ..RangeRequest::all(range) };
                let page = self.inner.range(request).await?;
                let Some(last) = page.kvs.last() else { break };
                let mut next = last.key.to_vec();
                next.push(0);
                start = next.into();
                for kv in &page.kvs {
                    self.rewrite_one(&kv.key, &mut done).await?;
                }
            }
        }
        Ok(done)
    }

    async fn rewrite_one(&self, key: &[u8], done: &mut Rewritten) -> Result<(), StoreError> {
        let rules = self.rules();
        if rules.configuration.wanted(key) == Wanted::Unnamed {
            return Ok(());
        }
        done.seen += 1;
        for _ in 0..TRIES {
            let key = bytes::Bytes::copy_from_slice(key);
            let read = self.inner.range(RangeRequest::all(KeyRange::single(key.clone()))).await?;
            let Some(kv) = read.kvs.into_iter().next() else { return Ok(()) };
            if rules.is_current(&kv.key, &kv.value) {
                return Ok(());
            }
            let plain = if is_sealed(&kv.value) {
                match rules.ring.open(&kv.key, &kv.value) {
                    Ok(plain) => plain.into(),
                    Err(_) => {
                        done.unreadable += 1;
                        return Ok(());
                    }
                }
            } else {
                kv.value.clone()
            };
            let value = rules.seal(&kv.key, plain)?;
            let transaction = Transaction {
                compare: vec![Compare::unchanged_since(key.clone(), kv.mod_revision)],
                success: vec![Operation::Put(storage::PutRequest { key, value, lease: kv.lease })],
                failure: Vec::new(),
            };
            if self.inner.transact(transaction).await?.succeeded {
                done.rewritten += 1;
                return Ok(());
            }
        }
        Ok(())
    }
}
