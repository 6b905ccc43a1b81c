//! How a value is sealed. Every process draws a data key of its own; values are sealed with it, and it is sealed with the
//! configured key and stands in front of every value: the configured key sees few texts, and no data key is kept anywhere.
//!
//! | bytes | |
//! |---|---|
//! | 5 | magic: never the beginning of JSON |
//! | 1 | length of the key's name |
//! | n | the key's name |
//! | 64 | the data key, sealed for that name |
//! | rest | the value, sealed for its key in the store |

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::RwLock;
use sealing::{KEY_BYTES, Key, OVERHEAD, SealError};

/// What a sealed value begins with.
const MAGIC: [u8; 5] = [0xfa, b'k', b'8', b's', 1];
/// A sealed data key.
const WRAPPED: usize = KEY_BYTES + OVERHEAD;
/// Values of one data key; random nonces are good for 2^32.
const VALUES_PER_KEY: u64 = 1 << 24;

/// A configured key.
pub(crate) struct NamedKey {
    pub(crate) name: String,
    pub(crate) key: Key,
    pub(crate) bytes: [u8; KEY_BYTES],
}

impl NamedKey {
    /// Whether it is of these bytes.
    pub(crate) fn is(&self, bytes: &[u8; KEY_BYTES]) -> bool {
        self.bytes == *bytes
    }
}

impl fmt::Debug for NamedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NamedKey").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Why a value does not open.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unopened {
    /// Its key is not configured here.
    #[error("it is sealed with the key {0:?}, which the encryption configuration does not have")]
    UnknownKey(String),
    /// Of another key of that name, moved, or changed.
    #[error("it does not open with the key {0:?}: that is another key of this name, or the value is damaged")]
    Broken(String),
    /// Not even its head is whole.
    #[error("its head is damaged")]
    Malformed,
}

/// The configured keys at work.
pub struct KeyRing {
    keys: Vec<Writer>,
}

struct Writer {
    named: NamedKey,
    current: RwLock<Option<DataKey>>,
}

struct DataKey {
    key: Key,
    /// Magic, name and the sealed key: the head of every value.
    head: Vec<u8>,
    used: AtomicU64,
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.keys.iter().map(|key| &key.named.name)).finish()
    }
}

/// Whether a value is sealed, with whatever key.
#[must_use]
pub fn is_sealed(value: &[u8]) -> bool {
    value.starts_with(&MAGIC)
}

/// The name of the key that a sealed value is of; `None` when it is plain or its head damaged.
#[must_use]
pub fn key_name(value: &[u8]) -> Option<&str> {
    split(value).map(|(name, _, _)| name)
}

/// Name, sealed data key and sealed value.
fn split(value: &[u8]) -> Option<(&str, &[u8], &[u8])> {
    let rest = value.strip_prefix(&MAGIC)?;
    let (length, rest) = rest.split_first()?;
    let (name, rest) = rest.split_at_checked(usize::from(*length))?;
    let (wrapped, sealed) = rest.split_at_checked(WRAPPED)?;
    Some((std::str::from_utf8(name).ok()?, wrapped, sealed))
}

/// For what a data key is sealed.
fn place(name: &str) -> Vec<u8> {
    format!("data key of {name}").into_bytes()
}

impl KeyRing {
    pub(crate) fn new(keys: Vec<NamedKey>) -> Self {
        let writer = |named| Writer { named, current: RwLock::new(None) };
        Self { keys: keys.into_iter().map(writer).collect() }
    }

    pub(crate) fn name(&self, index: usize) -> &str {
        &self.keys[index].named.name
    }

    /// Whether a key of another ring is among these, under the same name.
    pub(crate) fn has_key_of(&self, other: &Self, index: usize) -> bool {
        let wanted = &other.keys[index].named;
        self.keys.iter().any(|own| own.named.name == wanted.name && own.named.is(&wanted.bytes))
    }

    /// Seals a value for its key in the store, with a configured key.
    ///
    /// # Errors
    /// [`SealError::Refused`].
    pub(crate) fn seal(&self, index: usize, store_key: &[u8], value: &[u8]) -> Result<Vec<u8>, SealError> {
        let writer = &self.keys[index];
        loop {
            if let Some(data) = writer.current.read().as_ref()
                && data.used.fetch_add(1, Ordering::Relaxed) < VALUES_PER_KEY
            {
                let mut sealed = data.head.clone();
                sealed.append(&mut data.key.seal(store_key, value)?);
                return Ok(sealed);
            }
            let fresh = writer.draw()?;
            let mut current = writer.current.write();
            // Somebody else may have been faster.
            if current.as_ref().is_none_or(|data| data.used.load(Ordering::Relaxed) >= VALUES_PER_KEY) {
                *current = Some(fresh);
            }
        }
    }

    /// Opens a sealed value of a key of the store.
    ///
    /// # Errors
    /// [`Unopened`].
    pub fn open(&self, store_key: &[u8], value: &[u8]) -> Result<Vec<u8>, Unopened> {
        let (name, wrapped, sealed) = split(value).ok_or(Unopened::Malformed)?;
        let writer = self.keys.iter().find(|writer| writer.named.name == name);
        let writer = writer.ok_or_else(|| Unopened::UnknownKey(name.to_owned()))?;
        let broken = |_: SealError| Unopened::Broken(name.to_owned());
        let bytes = writer.named.key.unseal(&place(name), wrapped).map_err(broken)?;
        let bytes: [u8; KEY_BYTES] = bytes.try_into().map_err(|_| Unopened::Malformed)?;
        Key::new(&bytes).unseal(store_key, sealed).map_err(broken)
    }
}

impl Writer {
    fn draw(&self) -> Result<DataKey, SealError> {
        let bytes = sealing::new_key()?;
        let name = &self.named.name;
        let mut head = MAGIC.to_vec();
        // A configuration has no longer names.
        head.push(u8::try_from(name.len()).map_err(|_| SealError::Refused)?);
        head.extend_from_slice(name.as_bytes());
        head.append(&mut self.named.key.seal(&place(name), &bytes)?);
        Ok(DataKey { key: Key::new(&bytes), head, used: AtomicU64::new(0) })
    }
}
