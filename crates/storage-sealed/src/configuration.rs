//! `EncryptionConfiguration` of `apiserver.config.k8s.io/v1`: which resources are sealed, and with which keys.
//!
//! As upstream: for each resource the first entry that names it counts; its first provider writes, all of them read.
//! Providers are `aesgcm` (keys of 32 bytes) and `identity`; the others of upstream are refused by name.

use std::fmt;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sealing::{KEY_BYTES, Key};
use serde::Deserialize;

use crate::envelope::NamedKey;

/// The most keys of a configuration: a rotation needs two.
const MAX_KEYS: usize = 64;
/// The most bytes of a key's name: it stands in every value.
const MAX_NAME: usize = 63;
/// What objects lie below in a store.
const ROOT: &str = "/registry/";

/// Why a configuration cannot be used. No message holds a key.
#[derive(Debug, thiserror::Error)]
pub enum ConfigurationError {
    /// Not to be read, or not to be made.
    #[error("cannot {action} the encryption configuration `{}`", path.display())]
    File {
        /// `read`, `make`.
        action: &'static str,
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is no such document.
    #[error("the encryption configuration is not valid: {0}")]
    Invalid(String),
    /// The machine's randomness refused.
    #[error("no key could be made")]
    NoKey,
}

/// What is sealed with what.
#[derive(Debug)]
pub struct Configuration {
    entries: Vec<Entry>,
    /// Every key that is named anywhere.
    pub(crate) keys: Vec<NamedKey>,
}

#[derive(Debug)]
struct Entry {
    patterns: Vec<Pattern>,
    /// The key that writes; `None`: plain.
    writes: Option<usize>,
}

/// What writes a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// No entry speaks of it.
    Unnamed,
    /// It is kept plain.
    Plain,
    /// It is sealed with this key of the configuration.
    Sealed(usize),
}

/// `secrets`, `deployments.apps`, `*.apps`, `*.` (all of the core group) or `*.*`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Pattern {
    resource: Option<String>,
    group: Option<String>,
}

impl Pattern {
    fn parse(text: &str) -> Result<Self, String> {
        let (resource, group) = text.split_once('.').unwrap_or((text, ""));
        let plain = |part: &str| {
            part.bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte))
        };
        match (resource, group) {
            ("*", "*") => Ok(Self { resource: None, group: None }),
            ("*", group) if plain(group) && text.contains('.') => {
                Ok(Self { resource: None, group: Some(group.to_owned()) })
            }
            (resource, group) if !resource.is_empty() && plain(resource) && plain(group) => {
                Ok(Self { resource: Some(resource.to_owned()), group: Some(group.to_owned()) })
            }
            _ => Err(format!("{text:?} names no resource: use RESOURCE, RESOURCE.GROUP, *.GROUP or *.*")),
        }
    }

    fn matches(&self, resource: &str, group: &str) -> bool {
        self.resource.as_deref().is_none_or(|own| own == resource)
            && self.group.as_deref().is_none_or(|own| own == group)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Document {
    api_version: String,
    kind: String,
    resources: Vec<ResourcesDocument>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ResourcesDocument {
    resources: Vec<String>,
    providers: Vec<serde_json::Map<String, serde_json::Value>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KeysDocument {
    keys: Vec<KeyDocument>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyDocument {
    name: String,
    secret: Hidden,
}

/// A key as text; it prints as nothing.
#[derive(Deserialize)]
struct Hidden(String);

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

impl Configuration {
    /// Reads a document, YAML or JSON.
    ///
    /// # Errors
    /// [`ConfigurationError::Invalid`].
    pub fn parse(text: &str) -> Result<Self, ConfigurationError> {
        let invalid = |why: String| ConfigurationError::Invalid(why);
        // A parser's message may quote what it stumbled over, which may be a key.
        let document: Document = serde_saphyr::from_str(text).map_err(|_| {
            invalid("it is no EncryptionConfiguration of apiserver.config.k8s.io/v1".to_owned())
        })?;
        if document.kind != "EncryptionConfiguration"
            || !matches!(document.api_version.as_str(), "apiserver.config.k8s.io/v1" | "v1")
        {
            return Err(invalid(format!("{}/{} is not known", document.api_version, document.kind)));
        }
        let mut configuration = Self { entries: Vec::new(), keys: Vec::new() };
        for (index, one) in document.resources.into_iter().enumerate() {
            let at = |what: String| invalid(format!("resources[{index}]: {what}"));
            let patterns: Result<Vec<_>, _> = one.resources.iter().map(|text| Pattern::parse(text)).collect();
            let mut entry = Entry { patterns: patterns.map_err(at)?, writes: None };
            if one.providers.is_empty() {
                return Err(at("providers: Required value".to_owned()));
            }
            for (number, provider) in one.providers.into_iter().enumerate() {
                let first = configuration
                    .provider(provider)
                    .map_err(|why| at(format!("providers[{number}]: {why}")))?;
                if number == 0 {
                    entry.writes = first;
                }
            }
            configuration.entries.push(entry);
        }
        Ok(configuration)
    }

    /// Takes a provider's keys; answers the first of them, `None` for `identity`.
    fn provider(
        &mut self,
        provider: serde_json::Map<String, serde_json::Value>,
    ) -> Result<Option<usize>, String> {
        let mut all = provider.into_iter();
        let (Some((name, body)), None) = (all.next(), all.next()) else {
            return Err("exactly one provider must stand here".to_owned());
        };
        match name.as_str() {
            "identity" => return Ok(None),
            "aesgcm" => {}
            "aescbc" | "secretbox" | "kms" => {
                return Err(format!(
                    "{name} is not supported: use aesgcm, whose keys seal data keys, or identity"
                ));
            }
            _ => return Err(format!("{name:?} is no provider")),
        }
        let keys: KeysDocument = serde_json::from_value(body)
            .map_err(|_| "aesgcm: keys of name and secret are needed".to_owned())?;
        let mut first = None;
        for key in keys.keys {
            let index = self.key(&key)?;
            first.get_or_insert(index);
        }
        first.map(Some).ok_or_else(|| "aesgcm.keys: Required value".to_owned())
    }

    fn key(&mut self, key: &KeyDocument) -> Result<usize, String> {
        let KeyDocument { name, secret } = key;
        if name.is_empty() || name.len() > MAX_NAME || !name.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(format!("the name of a key must be of 1 to {MAX_NAME} printable characters"));
        }
        let bytes = STANDARD
            .decode(secret.0.trim())
            .map_err(|_| format!("the secret of key {name} is not base64"))?;
        let bytes: [u8; KEY_BYTES] =
            bytes.try_into().map_err(|_| format!("the secret of key {name} must be of {KEY_BYTES} bytes"))?;
        if let Some(known) = self.keys.iter().position(|known| known.name == *name) {
            // The same key may stand in several entries.
            return if self.keys[known].is(&bytes) {
                Ok(known)
            } else {
                Err(format!("key {name} stands there twice with different secrets"))
            };
        }
        if self.keys.len() == MAX_KEYS {
            return Err(format!("more than {MAX_KEYS} keys"));
        }
        self.keys.push(NamedKey { name: name.clone(), key: Key::new(&bytes), bytes });
        Ok(self.keys.len() - 1)
    }

    /// Reads a document from a file.
    ///
    /// # Errors
    /// [`ConfigurationError`].
    pub fn open(path: &Path) -> Result<Self, ConfigurationError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigurationError::File {
            action: "read",
            path: path.to_owned(),
            source,
        })?;
        Self::parse(&text)
    }

    /// Reads the document in a file; where there is none one is made, readable by its owner alone, that seals `resources`
    /// with a new key.
    ///
    /// # Errors
    /// [`ConfigurationError`].
    pub fn open_or_make(path: &Path, resources: &[&str]) -> Result<Self, ConfigurationError> {
        match Self::open(path) {
            Err(ConfigurationError::File { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
            }
            opened => return opened,
        }
        let secret = STANDARD.encode(sealing::new_key().map_err(|_| ConfigurationError::NoKey)?);
        let listed: String = resources.iter().map(|name| format!("  - {name}\n")).collect();
        let text = format!(
            "# Made when there was none. A new key goes first, the old ones stay below it until everything is rewritten.\n\
             apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n- resources:\n{listed}  \
             providers:\n  - aesgcm:\n      keys:\n      - name: key1\n        secret: {secret}\n  - identity: {{}}\n"
        );
        sealing::make_private(path, text.as_bytes()).map_err(|source| ConfigurationError::File {
            action: "make",
            path: path.to_owned(),
            source,
        })?;
        // Of whoever was faster, if somebody was.
        Self::open(path)
    }

    /// How a key of the store is written.
    pub(crate) fn wanted(&self, key: &[u8]) -> Wanted {
        let Some((group, resource)) = resource_of(key) else { return Wanted::Unnamed };
        let named = |entry: &&Entry| entry.patterns.iter().any(|pattern| pattern.matches(resource, group));
        match self.entries.iter().find(named) {
            None => Wanted::Unnamed,
            Some(entry) => entry.writes.map_or(Wanted::Plain, Wanted::Sealed),
        }
    }

    /// The keys that write.
    pub(crate) fn writing(&self) -> impl Iterator<Item = usize> {
        self.entries.iter().filter_map(|entry| entry.writes)
    }

    /// The prefix of every key that the configuration may want sealed: one resource's, where all entries name it, else all
    /// objects.
    pub(crate) fn prefixes(&self) -> Vec<String> {
        let mut found = Vec::new();
        for pattern in self.entries.iter().flat_map(|entry| &entry.patterns) {
            let (Some(resource), Some(group)) = (&pattern.resource, &pattern.group) else {
                return vec![ROOT.to_owned()];
            };
            let group = if group.is_empty() { "core" } else { group };
            let prefix = format!("{ROOT}{group}/{resource}/");
            if !found.contains(&prefix) {
                found.push(prefix);
            }
        }
        found
    }
}

/// Group ("" for core) and resource of `/registry/GROUP/RESOURCE/…`.
fn resource_of(key: &[u8]) -> Option<(&str, &str)> {
    let below = std::str::from_utf8(key).ok()?.strip_prefix(ROOT)?;
    let (group, rest) = below.split_once('/')?;
    let (resource, _) = rest.split_once('/')?;
    Some((if group == "core" { "" } else { group }, resource))
}

#[cfg(test)]
mod tests;
