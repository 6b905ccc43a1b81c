//! A key for texts without number: records and lines of logs. Random nonces are good for 2^32 texts of one key, so each
//! text is sealed with a key that is drawn from the master by a salt, and the salt changes long before that.

use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aws_lc_rs::{hmac, rand};

use crate::{KEY_BYTES, Key, OVERHEAD, SealError};

/// What a text begins with: never the beginning of JSON or gzip, nor of what [`Key`] seals.
const MAGIC: [u8; 4] = [0xfa, b's', b'b', 1];
const SALT_BYTES: usize = 16;
/// Texts of one salt: far below what random nonces bear.
const TEXTS_PER_SALT: u32 = 1 << 24;
/// What sealing adds to a text.
pub const BULK_OVERHEAD: usize = MAGIC.len() + SALT_BYTES + OVERHEAD;

type Salt = [u8; SALT_BYTES];

/// A key for many texts. A process draws a salt of its own when it begins.
pub struct BulkKey {
    master: hmac::Key,
    writing: Mutex<Option<Writing>>,
    /// The salt read last: texts of one salt lie together.
    reading: Mutex<Option<(Salt, Arc<Key>)>>,
}

struct Writing {
    salt: Salt,
    key: Arc<Key>,
    left: u32,
}

impl fmt::Debug for BulkKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BulkKey(…)")
    }
}

/// Nothing that is kept under a lock is ever half written.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl BulkKey {
    /// Of these bytes.
    #[must_use]
    pub fn new(bytes: &[u8; KEY_BYTES]) -> Self {
        let master = hmac::Key::new(hmac::HMAC_SHA256, bytes);
        Self { master, writing: Mutex::new(None), reading: Mutex::new(None) }
    }

    /// The key of a purpose, drawn from the one in a file: that itself seals other things.
    ///
    /// # Errors
    /// [`SealError::File`], [`SealError::NoKey`].
    pub fn drawn(path: &Path, purpose: &str) -> Result<Self, SealError> {
        let read = std::fs::read(path);
        let bytes =
            read.map_err(|source| SealError::File { action: "read", path: path.to_owned(), source })?;
        if bytes.len() != KEY_BYTES {
            return Err(SealError::NoKey { path: path.to_owned() });
        }
        let whole = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &bytes), purpose.as_bytes());
        let mut drawn = [0; KEY_BYTES];
        drawn.copy_from_slice(whole.as_ref());
        Ok(Self::new(&drawn))
    }

    fn derive(&self, salt: &Salt) -> Arc<Key> {
        let mut bytes = [0; KEY_BYTES];
        bytes.copy_from_slice(hmac::sign(&self.master, salt).as_ref());
        Arc::new(Key::new(&bytes))
    }

    fn draw(&self) -> Result<(Salt, Arc<Key>), SealError> {
        let mut writing = lock(&self.writing);
        if let Some(Writing { salt, key, left }) = writing.as_mut().filter(|writing| writing.left > 0) {
            *left -= 1;
            return Ok((*salt, Arc::clone(key)));
        }
        let mut salt = [0; SALT_BYTES];
        rand::fill(&mut salt).map_err(|_| SealError::Refused)?;
        let key = self.derive(&salt);
        *writing = Some(Writing { salt, key: Arc::clone(&key), left: TEXTS_PER_SALT - 1 });
        Ok((salt, key))
    }

    /// Seals a text for a place.
    ///
    /// # Errors
    /// [`SealError::Refused`].
    pub fn seal(&self, place: &[u8], text: &[u8]) -> Result<Vec<u8>, SealError> {
        let (salt, key) = self.draw()?;
        let mut sealed = Vec::with_capacity(BULK_OVERHEAD + text.len());
        sealed.extend_from_slice(&MAGIC);
        sealed.extend_from_slice(&salt);
        sealed.append(&mut key.seal(place, text)?);
        Ok(sealed)
    }

    /// Opens what was sealed for a place.
    ///
    /// # Errors
    /// [`SealError::Broken`].
    pub fn unseal(&self, place: &[u8], sealed: &[u8]) -> Result<Vec<u8>, SealError> {
        let rest = sealed.strip_prefix(&MAGIC).ok_or(SealError::Broken)?;
        let (salt, rest) = rest.split_first_chunk::<SALT_BYTES>().ok_or(SealError::Broken)?;
        let known =
            lock(&self.reading).as_ref().filter(|(known, _)| known == salt).map(|(_, key)| Arc::clone(key));
        let key = known.unwrap_or_else(|| {
            let key = self.derive(salt);
            *lock(&self.reading) = Some((*salt, Arc::clone(&key)));
            key
        });
        key.unseal(place, rest)
    }
}

/// Whether a text was sealed by a [`BulkKey`], whichever.
#[must_use]
pub fn is_bulk_sealed(bytes: &[u8]) -> bool {
    bytes.starts_with(&MAGIC)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn many_texts_open_in_their_place_over_restarts_and_salts(
            texts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 1..8), at in any::<prop::sample::Index>(),
        ) {
            let writer = BulkKey::new(&[7; KEY_BYTES]);
            let sealed: Vec<Vec<u8>> = texts.iter().map(|text| {
                // Every text of a salt of its own, as after so many restarts.
                *lock(&writer.writing) = None;
                writer.seal(b"inbox", text).expect("sealed")
            }).collect();
            let (reader, other) = (BulkKey::new(&[7; KEY_BYTES]), BulkKey::new(&[8; KEY_BYTES]));
            for (text, sealed) in texts.iter().zip(&sealed) {
                prop_assert_eq!(sealed.len(), text.len() + BULK_OVERHEAD);
                prop_assert!(is_bulk_sealed(sealed));
                prop_assert_eq!(&reader.unseal(b"inbox", sealed).expect("opened"), text);
                prop_assert!(reader.unseal(b"outbox", sealed).is_err());
                prop_assert!(other.unseal(b"inbox", sealed).is_err());
                let mut changed = sealed.clone();
                changed[at.index(sealed.len())] ^= 1;
                prop_assert!(reader.unseal(b"inbox", &changed).is_err());
            }
        }
    }

    #[test]
    fn a_salt_is_used_for_its_number_of_texts() {
        let key = BulkKey::new(&[1; KEY_BYTES]);
        let salt = |sealed: &[u8]| sealed[MAGIC.len()..][..SALT_BYTES].to_vec();
        let first = salt(&key.seal(b"x", b"1").expect("sealed"));
        assert_eq!(salt(&key.seal(b"x", b"2").expect("sealed")), first);
        lock(&key.writing).as_mut().expect("begun").left = 0;
        assert_ne!(salt(&key.seal(b"x", b"3").expect("sealed")), first);
        assert!(!format!("{key:?}").contains('['));
    }
}
