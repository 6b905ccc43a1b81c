//! Bytes that only the holder of a key reads, and that nobody changes unnoticed: what an agent keeps on its disk, what a
//! backup holds. AES-256-GCM with random nonces; a key lives in a file that its owner alone can read.
//!
//! A sealed text belongs to a place, which its reader must name: what was sealed for one place opens in no other, so that
//! nobody who can write the disk moves things about. Never: a key of a text, or a text of a key, in an error or a print.

mod bulk;
mod file;

pub use bulk::{BULK_OVERHEAD, BulkKey, is_bulk_sealed};
pub use file::{Files, Input, Output};

use std::fmt;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::rand;

/// What a sealed text begins with: never the beginning of JSON, YAML or gzip, so that older plain values are told apart.
const MAGIC: [u8; 4] = [0xfa, b's', b'e', 1];
/// Bytes of a key.
pub const KEY_BYTES: usize = 32;
/// What sealing adds to a text: magic, nonce and tag.
pub const OVERHEAD: usize = MAGIC.len() + NONCE_LEN + 16;

/// A key. Random nonces are good for 2^32 texts: one a second for a hundred years.
pub struct Key(RandomizedNonceKey);

/// What can go wrong.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The key's file.
    #[error("cannot {action} the key `{}`", path.display())]
    File {
        /// `read`, `make`.
        action: &'static str,
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It holds no key.
    #[error("`{}` does not hold {KEY_BYTES} bytes of key", path.display())]
    NoKey {
        /// Which.
        path: PathBuf,
    },
    /// Of another key, for another place, or changed.
    #[error("sealed with another key, for another place, or damaged")]
    Broken,
    /// The machine's cryptography refused.
    #[error("it could not be sealed")]
    Refused,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(…)")
    }
}

impl Key {
    /// Of these bytes.
    #[must_use]
    pub fn new(bytes: &[u8; KEY_BYTES]) -> Self {
        Self(RandomizedNonceKey::new(&AES_256_GCM, bytes).expect("32 bytes are a key of AES-256"))
    }

    /// The key in a file; it is made when there is none.
    ///
    /// # Errors
    /// [`SealError::File`], [`SealError::NoKey`].
    pub fn open_or_make(path: &Path) -> Result<Self, SealError> {
        match Self::open(path) {
            Err(SealError::File { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {}
            opened => return opened,
        }
        let made = make_private(path, &new_key()?);
        made.map_err(|source| SealError::File { action: "make", path: path.to_owned(), source })?;
        Self::open(path)
    }

    /// The key in a file.
    ///
    /// # Errors
    /// [`SealError::File`], [`SealError::NoKey`].
    pub fn open(path: &Path) -> Result<Self, SealError> {
        let read = std::fs::read(path);
        let bytes =
            read.map_err(|source| SealError::File { action: "read", path: path.to_owned(), source })?;
        let bytes: [u8; KEY_BYTES] =
            bytes.try_into().map_err(|_| SealError::NoKey { path: path.to_owned() })?;
        Ok(Self::new(&bytes))
    }

    /// Seals a text for a place.
    ///
    /// # Errors
    /// [`SealError::Refused`].
    pub fn seal(&self, place: &[u8], text: &[u8]) -> Result<Vec<u8>, SealError> {
        let mut body = text.to_vec();
        let nonce = self.0.seal_in_place_append_tag(Aad::from(place), &mut body);
        let nonce = nonce.map_err(|_| SealError::Refused)?;
        let mut sealed = Vec::with_capacity(OVERHEAD + text.len());
        sealed.extend_from_slice(&MAGIC);
        sealed.extend_from_slice(nonce.as_ref());
        sealed.append(&mut body);
        Ok(sealed)
    }

    /// Opens what was sealed for a place.
    ///
    /// # Errors
    /// [`SealError::Broken`].
    pub fn unseal(&self, place: &[u8], sealed: &[u8]) -> Result<Vec<u8>, SealError> {
        let rest = sealed.strip_prefix(&MAGIC).ok_or(SealError::Broken)?;
        let (nonce, body) = rest.split_at_checked(NONCE_LEN).ok_or(SealError::Broken)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| SealError::Broken)?;
        let mut body = body.to_vec();
        let text = self.0.open_in_place(nonce, Aad::from(place), &mut body);
        let length = text.map_err(|_| SealError::Broken)?.len();
        body.truncate(length);
        Ok(body)
    }
}

/// The bytes of a new key.
///
/// # Errors
/// [`SealError::Refused`].
pub fn new_key() -> Result<[u8; KEY_BYTES], SealError> {
    let mut bytes = [0; KEY_BYTES];
    rand::fill(&mut bytes).map_err(|_| SealError::Refused)?;
    Ok(bytes)
}

/// Makes a file that its owner alone can read, whole and durable. One that is there already stays as it is: when several
/// processes make it at once, the first one's counts for all.
///
/// # Errors
/// As the file system's.
pub fn make_private(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let beside = path.with_extension("new");
    // Left by a crash.
    let _ = std::fs::remove_file(&beside);
    let mut out = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
    out.write_all(bytes)?;
    out.sync_all()?;
    let linked = std::fs::hard_link(&beside, path);
    std::fs::remove_file(&beside)?;
    match linked {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => Err(error),
        _ => std::fs::File::open(directory_of(path))?.sync_all(),
    }
}

/// Where a file lies; a bare name lies in the working directory.
fn directory_of(path: &Path) -> &Path {
    let named = path.parent().filter(|directory| !directory.as_os_str().is_empty());
    named.unwrap_or_else(|| Path::new("."))
}

/// Whether a text was sealed by this crate, with whatever key.
#[must_use]
pub fn is_sealed(bytes: &[u8]) -> bool {
    bytes.starts_with(&MAGIC)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_bare_name_lies_in_the_working_directory() {
        for (path, expected) in
            [("backup.key", "."), ("./backup.key", "."), ("/key", "/"), ("a/b/key", "a/b")]
        {
            assert_eq!(directory_of(Path::new(path)), Path::new(expected), "{path}");
        }
        assert!(std::fs::File::open(directory_of(Path::new("backup.key"))).is_ok());
    }

    proptest! {
        #[test]
        fn what_is_sealed_opens_in_its_place_with_its_key_unchanged_and_never_otherwise(
            text in prop::collection::vec(any::<u8>(), 0..300), place in "[a-z/]{0,20}", at in any::<prop::sample::Index>(),
        ) {
            let (key, other) = (Key::new(&[1; KEY_BYTES]), Key::new(&[2; KEY_BYTES]));
            let sealed = key.seal(place.as_bytes(), &text).expect("sealed");
            prop_assert_eq!(sealed.len(), text.len() + OVERHEAD);
            prop_assert!(is_sealed(&sealed));
            prop_assert_eq!(key.unseal(place.as_bytes(), &sealed).expect("opened"), text);
            prop_assert!(other.unseal(place.as_bytes(), &sealed).is_err());
            let elsewhere = place.clone() + "x";
            prop_assert!(key.unseal(elsewhere.as_bytes(), &sealed).is_err());
            let mut changed = sealed.clone();
            changed[at.index(sealed.len())] ^= 1;
            prop_assert!(key.unseal(place.as_bytes(), &changed).is_err());
            prop_assert!(key.unseal(place.as_bytes(), &sealed[..at.index(sealed.len())]).is_err());
        }
    }

    #[test]
    fn a_key_is_made_once_for_its_owner_alone() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().expect("directory");
        let path = dir.path().join("state.key");
        assert!(Key::open(&path).is_err());
        let sealed = Key::open_or_make(&path).expect("made").seal(b"x", b"text").expect("sealed");
        assert_eq!(Key::open_or_make(&path).expect("found").unseal(b"x", &sealed).expect("opened"), b"text");
        assert_eq!(std::fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
        assert!(!format!("{:?}", Key::open(&path)).contains('['));
        std::fs::write(&path, b"short").expect("written");
        assert!(matches!(Key::open_or_make(&path), Err(SealError::NoKey { .. })));
    }
}
