//! Signed files that carry test runs to clusters that never connect, and what came of them back.
//!
//! A bundle is a gzipped tar: `bundle.json` names every file with its digest, `signatures.json` vouches for it, as releases of
//! profiles are vouched for and with the same keys. Nothing of a bundle is read as anything before its signatures and
//! digests are checked.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};

use fleet_planner::digest;
use fleet_planner::release::{Release, Releases, SignedRelease};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Bytes of everything in a bundle: it is held in memory.
pub const MAX_BYTES: u64 = 512 << 20;
/// Files of a bundle.
const MAX_FILES: usize = 20_000;
/// Bytes of its table and of its signatures.
const MAX_TABLE: u64 = 8 << 20;
const TABLE: &str = "bundle.json";
const SIGNATURES: &str = "signatures.json";

/// What a bundle is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Purpose {
    /// Workflows, templates and runs to carry out.
    Runs,
    /// What came of them in one cluster.
    Results,
}

/// What is vouched for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Table {
    /// What it is for.
    pub purpose: Purpose,
    /// What it is called; part of what is signed.
    pub name: String,
    /// When it was made.
    pub made: Timestamp,
    /// Digests by path.
    pub files: BTreeMap<String, String>,
}

/// A bundle that was checked, or is to be written.
#[derive(Clone, Debug)]
pub struct Bundle {
    /// What is in it.
    pub table: Table,
    /// By path.
    pub files: BTreeMap<String, Vec<u8>>,
}

/// Why a file is no bundle to be used.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// It is not whole, or is something else.
    #[error("not a bundle, or damaged: {0}")]
    Damaged(String),
    /// Whoever signed it is not trusted.
    #[error("bundle {name} is not vouched for: {why}")]
    Untrusted {
        /// Which.
        name: String,
        /// Why not.
        why: String,
    },
    /// The key is none.
    #[error("it could not be signed")]
    Key(#[from] fleet_planner::release::KeyError),
}

/// As what a bundle is signed: no profile is called so, since no namespace has a dot in its name.
fn subject(name: &str) -> String {
    format!("bundle.tests/{name}")
}

impl Bundle {
    /// With these files.
    #[must_use]
    pub fn new(purpose: Purpose, name: &str, made: Timestamp, files: BTreeMap<String, Vec<u8>>) -> Self {
        let digests = files.iter().map(|(path, content)| (path.clone(), digest(content))).collect();
        Self { table: Table { purpose, name: name.to_owned(), made, files: digests }, files }
    }

    /// As a file, signed with these private keys (PKCS#8, DER).
    ///
    /// # Errors
    /// When a key is none.
    pub fn encode(&self, keys: &[Vec<u8>]) -> Result<Vec<u8>, BundleError> {
        let table = json(&self.table)?;
        let sign = |key: &Vec<u8>| {
            let version = u64::try_from(self.table.made.as_second()).unwrap_or_default();
            let release = Release {
                profile: subject(&self.table.name),
                digest: digest(&table),
                version,
                expires: None,
            };
            release.sign(key)
        };
        let signatures: Vec<SignedRelease> = keys.iter().map(sign).collect::<Result<_, _>>()?;
        let signatures = json(&signatures)?;
        let gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        let mut archive = tar::Builder::new(gzip);
        let head = [(TABLE, &table), (SIGNATURES, &signatures)];
        let files = self.files.iter().map(|(path, content)| (path.as_str(), content));
        for (path, content) in head.into_iter().chain(files) {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            archive.append_data(&mut header, path, content.as_slice()).map_err(damaged)?;
        }
        let mut gzip = archive.into_inner().map_err(damaged)?;
        gzip.flush().map_err(damaged)?;
        gzip.finish().map_err(damaged)
    }

    /// Reads a file; `trusted` says whose signatures count, and nobody's are needed where it is empty.
    ///
    /// # Errors
    /// When it is damaged or not vouched for.
    pub fn decode(bytes: &[u8], trusted: &Releases, now: Timestamp) -> Result<Self, BundleError> {
        let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(bytes).take(MAX_BYTES));
        let mut entries = archive.entries().map_err(damaged)?;
        let mut next = |limit: u64| -> Result<Option<(String, Vec<u8>)>, BundleError> {
            let Some(entry) = entries.next() else { return Ok(None) };
            let mut entry = entry.map_err(damaged)?;
            let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            if entry.size() > limit {
                return Err(BundleError::Damaged(format!("{path} is too large")));
            }
            let mut content = Vec::new();
            entry.read_to_end(&mut content).map_err(damaged)?;
            Ok(Some((path, content)))
        };
        let missing = |what: &str| BundleError::Damaged(format!("it does not begin with {what}"));
        let table = next(MAX_TABLE)?.filter(|(path, _)| path == TABLE).ok_or_else(|| missing(TABLE))?.1;
        let signatures = next(MAX_TABLE)?.filter(|(path, _)| path == SIGNATURES);
        let signatures = signatures.ok_or_else(|| missing(SIGNATURES))?.1;
        let parsed: Table = serde_json::from_slice(&table).map_err(damaged)?;
        let signatures: Vec<SignedRelease> = serde_json::from_slice(&signatures).map_err(damaged)?;
        let told = trusted.verify(&subject(&parsed.name), &digest(&table), &signatures, None, now);
        told.map_err(|why| BundleError::Untrusted { name: parsed.name.clone(), why })?;
        if parsed.files.len() > MAX_FILES {
            return Err(BundleError::Damaged(format!("{} files; at most {MAX_FILES}", parsed.files.len())));
        }
        let mut files = BTreeMap::new();
        while let Some((path, content)) = next(MAX_BYTES)? {
            if parsed.files.get(&path) != Some(&digest(&content)) {
                return Err(BundleError::Damaged(format!("{path} is not what was vouched for")));
            }
            if !is_plain(&path) {
                return Err(BundleError::Damaged(format!("{path:?} leads out of the bundle")));
            }
            files.insert(path, content);
        }
        if files.len() != parsed.files.len() {
            return Err(BundleError::Damaged("files are missing".to_owned()));
        }
        Ok(Self { table: parsed, files })
    }
}

/// Whether a path stays below the directory that it is put into.
fn is_plain(path: &str) -> bool {
    !path.is_empty() && path.split('/').all(|part| !matches!(part, "" | "." | "..")) && !path.contains('\0')
}

fn json<T: Serialize>(value: &T) -> Result<Vec<u8>, BundleError> {
    serde_json::to_vec_pretty(value).map_err(damaged)
}

fn damaged(error: impl std::fmt::Display) -> BundleError {
    BundleError::Damaged(error.to_string())
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::Ed25519KeyPair;
    use fleet_planner::release::{PinnedKey, public_key};

    use super::*;

    fn key() -> Vec<u8> {
        Ed25519KeyPair::generate().unwrap().to_pkcs8v1().unwrap().as_ref().to_vec()
    }

    fn trusting(key: &[u8]) -> Releases {
        let key = PinnedKey { name: "k".into(), public_key: public_key(key).unwrap(), profiles: Vec::new() };
        Releases { keys: vec![key], threshold: 1 }
    }

    fn bundle() -> Bundle {
        let files = [("runs/a.json", "{}"), ("logs/a.ndjson", "line")];
        let files = files.map(|(path, text)| (path.to_owned(), text.as_bytes().to_vec())).into();
        Bundle::new(Purpose::Runs, "smoke", Timestamp::UNIX_EPOCH, files)
    }

    #[test]
    fn what_comes_out_is_what_was_signed() {
        let own = key();
        let bytes = bundle().encode(&[key(), own.clone()]).unwrap();
        let read = Bundle::decode(&bytes, &trusting(&own), Timestamp::now()).unwrap();
        assert_eq!((read.table, read.files), (bundle().table, bundle().files));
        let refused = Bundle::decode(&bytes, &trusting(&key()), Timestamp::now()).unwrap_err();
        assert!(matches!(refused, BundleError::Untrusted { .. }), "{refused}");
        assert!(Bundle::decode(&bytes, &Releases::default(), Timestamp::now()).is_ok(), "nobody need sign");
    }

    #[test]
    fn what_was_changed_is_refused() {
        let own = key();
        let mut changed = bundle();
        changed.files.insert("runs/a.json".to_owned(), b"{1}".to_vec());
        let bytes = changed.encode(std::slice::from_ref(&own)).unwrap();
        let refused = Bundle::decode(&bytes, &trusting(&own), Timestamp::now()).unwrap_err();
        assert!(refused.to_string().contains("runs/a.json is not what was vouched for"), "{refused}");
        let mut missing = bundle();
        missing.files.remove("logs/a.ndjson");
        let bytes = missing.encode(std::slice::from_ref(&own)).unwrap();
        assert!(Bundle::decode(&bytes, &trusting(&own), Timestamp::now()).is_err());
        let whole = bundle().encode(std::slice::from_ref(&own)).unwrap();
        for length in 0..whole.len() {
            // What comes after the last file is only padding; before it, nothing is taken.
            if let Ok(read) = Bundle::decode(&whole[..length], &trusting(&own), Timestamp::now()) {
                assert_eq!(read.files, bundle().files, "cut after {length} bytes");
            }
        }
        assert!(Bundle::decode(&whole[..whole.len() / 2], &trusting(&own), Timestamp::now()).is_err());
        for path in ["../a", "/a", "a//b", ""] {
            assert!(!is_plain(path), "{path}");
        }
    }
}
