//! Several keys: one signs, all verify. A key is rotated out in two steps: another signs from now on ([`KeyDirectory::rotate`]),
//! and, when no token that it signed is needed any more, it is retired ([`KeyDirectory::retire`]).
//!
//! On disk a directory holds `service-account.key`, which signs, and `service-account-keys/ID.pub`, those that only verify:
//! the private half of a key is gone the moment that it signs no more.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwap;
use jsonwebtoken::jwk::JwkSet;

use super::TokenError;
use super::key::{SigningKey, VerificationKey};
use crate::files::{Visibility, write_atomically};

/// Keys that verify beside the one that signs. Rotated daily and retired after a week this is seven; the set is read with
/// every unknown key id, so it stays small.
const MAXIMUM_KEYS: usize = 32;

/// Whether any key verifies a token is asked of each in turn; the keys of a moment.
#[derive(Debug)]
pub(super) struct Keys {
    pub(super) signing: SigningKey,
    verifying: Vec<VerificationKey>,
}

impl Keys {
    /// The key a token names; for one that names none, every key.
    pub(super) fn candidates<'a>(&'a self, id: Option<&'a str>) -> impl Iterator<Item = &'a VerificationKey> {
        let all = std::iter::once(&self.signing.public).chain(&self.verifying);
        all.filter(move |key| id.is_none_or(|id| key.id() == id))
    }

    pub(super) fn set(&self) -> JwkSet {
        JwkSet { keys: self.candidates(None).map(|key| key.jwk.clone()).collect() }
    }
}

/// The keys of one issuer, replaced without a restart. Clones share them.
#[derive(Clone, Debug)]
pub struct KeyRing(Arc<ArcSwap<Keys>>);

impl From<SigningKey> for KeyRing {
    /// One key for everything.
    fn from(signing: SigningKey) -> Self {
        Self::of(Keys { signing, verifying: Vec::new() })
    }
}

impl KeyRing {
    fn of(keys: Keys) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(keys)))
    }

    /// `signing` signs; `verifying` verify besides.
    #[must_use]
    pub fn new(signing: SigningKey, verifying: Vec<VerificationKey>) -> Self {
        Self::of(Keys { signing, verifying })
    }

    pub(super) fn now(&self) -> Arc<Keys> {
        self.0.load_full()
    }

    /// The ids of all keys, that which signs first.
    #[must_use]
    pub fn ids(&self) -> Vec<String> {
        self.now().candidates(None).map(|key| key.id().to_owned()).collect()
    }

    /// Takes over the keys of `other`: from the next token on.
    pub fn replace(&self, other: &Self) {
        self.0.store(other.now());
    }
}

/// A key that only verifies, as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptKey {
    /// What tokens name it by.
    pub id: String,
    /// Whether it signs as well.
    pub signs: bool,
    /// Since when it signs, or only verifies.
    pub since: SystemTime,
}

/// Keys on disk.
#[derive(Clone, Debug)]
pub struct KeyDirectory(PathBuf);

impl KeyDirectory {
    /// Below `directory`, which must be there.
    #[must_use]
    pub fn new(directory: &Path) -> Self {
        Self(directory.to_owned())
    }

    fn signing_path(&self) -> PathBuf {
        self.0.join("service-account.key")
    }

    fn verifying_path(&self) -> PathBuf {
        self.0.join("service-account-keys")
    }

    /// All keys; the one that signs is made on first use.
    ///
    /// # Errors
    /// [`TokenError::KeyFile`], [`TokenError::Key`].
    pub fn open(&self) -> Result<KeyRing, TokenError> {
        let signing = SigningKey::open(&self.signing_path())?;
        let mut verifying = Vec::new();
        for path in self.verifying_files()? {
            let text = std::fs::read_to_string(&path).map_err(|source| failed(&path, source))?;
            let key = VerificationKey::from_pem(&text)?;
            // A crash between the two steps of a rotation leaves the signing key's public half here too.
            if key.id() != signing.public.id() {
                verifying.push(key);
            }
        }
        Ok(KeyRing::new(signing, verifying))
    }

    /// What there is, the signing key first.
    ///
    /// # Errors
    /// [`TokenError::KeyFile`], [`TokenError::Key`].
    pub fn list(&self) -> Result<Vec<KeptKey>, TokenError> {
        let since = |path: &Path| {
            let metadata = std::fs::metadata(path).and_then(|metadata| metadata.modified());
            metadata.map_err(|source| failed(path, source))
        };
        let path = self.signing_path();
        let signing = SigningKey::open(&path)?;
        let mut kept =
            vec![KeptKey { id: signing.public.id().to_owned(), signs: true, since: since(&path)? }];
        for path in self.verifying_files()? {
            let id = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default().to_owned();
            if id != signing.public.id() {
                kept.push(KeptKey { id, signs: false, since: since(&path)? });
            }
        }
        Ok(kept)
    }

    /// A new key signs from now on; the one before goes on verifying. Answers the new key's id. Servers that read the
    /// directory follow within seconds.
    ///
    /// # Errors
    /// [`TokenError::KeyFile`]; [`TokenError::Key`], also when there are too many keys to retire.
    pub fn rotate(&self) -> Result<String, TokenError> {
        if self.verifying_files()?.len() >= MAXIMUM_KEYS {
            let detail = format!("there are {MAXIMUM_KEYS} keys that verify already; retire some first");
            return Err(TokenError::Key { detail });
        }
        let old = SigningKey::open(&self.signing_path())?;
        let directory = self.verifying_path();
        std::fs::create_dir_all(&directory).map_err(|source| failed(&directory, source))?;
        // First what verifies: a crash here leaves a key too many, never one too few.
        let path = directory.join(format!("{}.pub", old.public.id()));
        write_atomically(&path, old.public.to_pem().as_bytes(), Visibility::Public)
            .map_err(|source| failed(&path, source))?;
        Ok(SigningKey::create(&self.signing_path())?.public.id().to_owned())
    }

    /// Tokens that the key `id` signed count no more. `false`: there is no such key. The key that signs is not retired.
    ///
    /// # Errors
    /// [`TokenError::KeyFile`].
    pub fn retire(&self, id: &str) -> Result<bool, TokenError> {
        let wanted = format!("{id}.pub");
        let files = self.verifying_files()?;
        let named = |path: &&PathBuf| path.file_name().is_some_and(|name| *name == *wanted);
        let Some(path) = files.iter().find(named) else { return Ok(false) };
        std::fs::remove_file(path).map_err(|source| failed(path, source))?;
        Ok(true)
    }

    fn verifying_files(&self) -> Result<Vec<PathBuf>, TokenError> {
        let directory = self.verifying_path();
        let entries = match std::fs::read_dir(&directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => return Err(failed(&directory, source)),
        };
        let mut files = Vec::new();
        for entry in entries {
            let path = entry.map_err(|source| failed(&directory, source))?.path();
            let hidden =
                path.file_name().and_then(|name| name.to_str()).is_none_or(|name| name.starts_with('.'));
            if !hidden && path.extension().is_some_and(|extension| extension == "pub") {
                files.push(path);
            }
        }
        files.sort();
        Ok(files)
    }
}

fn failed(path: &Path, source: std::io::Error) -> TokenError {
    TokenError::KeyFile { path: path.to_owned(), source }
}
