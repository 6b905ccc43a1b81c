//! The key of what is too much to be sealed anew when keys change: the inbox, and logs of tests. It is drawn once and lies
//! beside them, sealed as content is; when the configured key changes, it alone is sealed anew.

use std::borrow::Cow;
use std::path::Path;
use std::sync::Arc;

use sealing::{BulkKey, Files, KEY_BYTES};
use storage::{Compare, KeyRange, Operation, RangeRequest, Store, StoreError, Transaction};

use crate::content::ContentSealer;
use crate::error::Error;
use crate::replicas::ROOT;

/// What the key is sealed for.
const NAME: &str = "record-key";

/// Seals records; without a key they stay as they are. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct RecordKey(Option<Arc<BulkKey>>);

impl RecordKey {
    fn new(bytes: &[u8], from: &str) -> Result<Self, Error> {
        let bytes = <&[u8; KEY_BYTES]>::try_from(bytes);
        let bytes = bytes.map_err(|_| Error::Invalid(format!("{from} holds no key of {KEY_BYTES} bytes")))?;
        Ok(Self(Some(Arc::new(BulkKey::new(bytes)))))
    }

    /// The key in a file of a hub that is one process. Where content is not sealed there is none.
    ///
    /// # Errors
    /// When the file cannot be read or made, or is sealed with a key that is not configured.
    pub(crate) fn open(path: &Path, sealer: Option<&Arc<dyn ContentSealer>>) -> Result<Self, Error> {
        let kept = match std::fs::read(path) {
            Ok(kept) => Some(kept),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => return Err(Error::file("read the key", path)(error)),
        };
        let failed = |operation| Error::file(operation, path);
        match (kept, sealer) {
            (None, None) => Ok(Self::default()),
            (None, Some(sealer)) => {
                let Some((bytes, sealed)) = drawn(&**sealer)? else { return Ok(Self::default()) };
                sealing::make_private(path, &sealed).map_err(failed("make the key"))?;
                Self::new(&bytes, "the file")
            }
            (Some(kept), sealer) => {
                let bytes = match sealer {
                    Some(sealer) => sealer.open(NAME, kept.clone()).map_err(failed("open the key"))?,
                    None => kept.clone(),
                };
                let key = Self::new(&bytes, &path.display().to_string())?;
                if let Some(sealer) = sealer.filter(|sealer| !sealer.is_current(NAME, &kept)) {
                    let anew = sealer.seal(NAME, &bytes).map_err(failed("seal the key"))?;
                    replace(path, &anew).map_err(failed("replace the key"))?;
                }
                Ok(key)
            }
        }
    }

    /// The key of a hub of several processes, in their store.
    ///
    /// # Errors
    /// As the store's, or when it is sealed with a key that is not configured.
    pub(crate) async fn open_shared(
        store: &Arc<dyn Store>,
        sealer: Option<&Arc<dyn ContentSealer>>,
    ) -> Result<Self, Error> {
        let place = format!("{ROOT}{NAME}");
        let failed = |operation| move |source: StoreError| Error::Store { operation, source };
        loop {
            let read = store.range(RangeRequest::all(KeyRange::single(place.clone()))).await;
            let found = read.map_err(failed("read the key of records"))?.kvs.into_iter().next();
            let (compare, sealed, key) = match (found, sealer) {
                (None, None) => return Ok(Self::default()),
                (None, Some(sealer)) => {
                    let Some((bytes, sealed)) = drawn(&**sealer)? else { return Ok(Self::default()) };
                    (Compare::absent(place.clone()), sealed, Self::new(&bytes, &place)?)
                }
                (Some(kv), None) => return Self::new(&kv.value, &place),
                (Some(kv), Some(sealer)) => {
                    let opened = sealer.open(NAME, kv.value.to_vec());
                    let bytes = opened.map_err(Error::file("open the key of records", &place))?;
                    let key = Self::new(&bytes, &place)?;
                    if sealer.is_current(NAME, &kv.value) {
                        return Ok(key);
                    }
                    let anew =
                        sealer.seal(NAME, &bytes).map_err(Error::file("seal the key of records", &place))?;
                    (Compare::unchanged_since(place.clone(), kv.mod_revision), anew, key)
                }
            };
            let success = vec![Operation::put(place.clone(), sealed)];
            let write = Transaction { compare: vec![compare], success, failure: Vec::new() };
            // Another process may have been faster: then its key counts.
            if store.transact(write).await.map_err(failed("write the key of records"))?.succeeded {
                return Ok(key);
            }
        }
    }

    /// How large files are kept.
    pub(crate) fn files(&self) -> Files {
        self.0.clone().map(Files::sealed).unwrap_or_default()
    }

    /// A key of these bytes.
    #[cfg(test)]
    pub(crate) fn of(bytes: [u8; KEY_BYTES]) -> Self {
        Self(Some(Arc::new(BulkKey::new(&bytes))))
    }

    /// As it is kept.
    pub(crate) fn seal(&self, place: &[u8], text: Vec<u8>) -> Result<Vec<u8>, Error> {
        let Some(key) = &self.0 else { return Ok(text) };
        key.seal(place, &text).map_err(|error| Error::Invalid(format!("a record cannot be sealed: {error}")))
    }

    /// As it was given; what was never sealed stays as it is.
    pub(crate) fn unseal<'a>(&self, place: &[u8], kept: &'a [u8]) -> Result<Cow<'a, [u8]>, Error> {
        if !sealing::is_bulk_sealed(kept) {
            return Ok(Cow::Borrowed(kept));
        }
        let opened = match &self.0 {
            Some(key) => key.unseal(place, kept).map_err(|error| error.to_string()),
            None => Err("it is sealed, and its key is not there".to_owned()),
        };
        opened.map(Cow::Owned).map_err(|why| Error::Invalid(format!("a record cannot be opened: {why}")))
    }
}

/// A key's bytes, and what is kept of them.
type Drawn = ([u8; KEY_BYTES], Vec<u8>);

/// A new key with its sealed form; none where it would stay readable, since then it would protect nothing.
fn drawn(sealer: &dyn ContentSealer) -> Result<Option<Drawn>, Error> {
    let bytes = sealing::new_key().map_err(|error| Error::Invalid(error.to_string()))?;
    let sealed = sealer.seal(NAME, &bytes).map_err(Error::file("seal the key of records", NAME))?;
    Ok((sealed != bytes).then_some((bytes, sealed)))
}

/// Whole or not at all.
fn replace(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let beside = path.with_extension("anew");
    let _ = std::fs::remove_file(&beside);
    sealing::make_private(&beside, bytes)?;
    std::fs::rename(&beside, path)?;
    path.parent().map_or(Ok(()), |directory| std::fs::File::open(directory)?.sync_all())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU8, Ordering};

    use storage::model::MemoryStore;

    use super::*;

    /// Turns bytes by a number that can be changed, as a configuration's first key.
    #[derive(Default)]
    struct Turning(AtomicU8);

    impl ContentSealer for Turning {
        fn seal(&self, _: &str, bytes: &[u8]) -> std::io::Result<Vec<u8>> {
            let by = self.0.load(Ordering::Relaxed);
            Ok([by].into_iter().chain(bytes.iter().map(|byte| byte ^ by)).collect())
        }

        fn open(&self, _: &str, kept: Vec<u8>) -> std::io::Result<Vec<u8>> {
            Ok(kept[1..].iter().map(|byte| byte ^ kept[0]).collect())
        }

        fn is_current(&self, _: &str, kept: &[u8]) -> bool {
            kept[0] == self.0.load(Ordering::Relaxed)
        }
    }

    fn check(old: &RecordKey, new: &RecordKey) {
        let sealed = old.seal(b"inbox", b"CANARY".to_vec()).unwrap();
        assert!(!sealed.windows(6).any(|window| window == b"CANARY"));
        assert_eq!(&*new.unseal(b"inbox", &sealed).unwrap(), b"CANARY");
        assert!(RecordKey::default().unseal(b"inbox", &sealed).is_err());
        assert_eq!(&*new.unseal(b"inbox", b"{}").unwrap(), b"{}", "what is older was not sealed");
    }

    #[tokio::test]
    async fn one_key_for_all_processes_that_outlives_the_configured_one() {
        let turning = Arc::new(Turning::default());
        turning.0.store(1, Ordering::Relaxed);
        let sealer: Arc<dyn ContentSealer> = turning.clone();
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("records.key");
        let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
        let first = RecordKey::open(&path, Some(&sealer)).unwrap();
        let shared = RecordKey::open_shared(&store, Some(&sealer)).await.unwrap();
        turning.0.store(2, Ordering::Relaxed);
        check(&first, &RecordKey::open(&path, Some(&sealer)).unwrap());
        check(&shared, &RecordKey::open_shared(&store, Some(&sealer)).await.unwrap());
        assert_eq!(std::fs::read(&path).unwrap()[0], 2, "sealed anew");
        assert!(RecordKey::open(&directory.path().join("none"), None).unwrap().0.is_none());
    }
}
