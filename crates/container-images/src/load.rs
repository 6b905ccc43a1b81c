//! Image archives from outside: checked, then handed to containerd.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use sha2::{Digest as _, Sha256};

/// Bytes of a JSON document in an archive.
const MAX_DOCUMENT: u64 = 4 << 20;
/// Files of an archive.
const MAX_FILES: usize = 10_000;

/// Why an archive was not loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The archive could not be read.
    #[error("cannot read the image archive {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// It is no image archive, or a damaged one.
    #[error("{path} is not a usable image archive: {what}")]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// `ctr` could not be run.
    #[error("cannot run {program}; it comes with containerd")]
    Program {
        /// Its name.
        program: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// containerd refused.
    #[error("containerd did not import the image: {0}")]
    Refused(String),
}

/// What an archive holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// The images' names, where the archive gives any.
    pub names: Vec<String>,
    /// Blobs whose digest was checked.
    pub blobs: usize,
}

/// Reads a whole archive (an OCI layout or what `docker save` writes, not compressed) and checks every blob against the
/// digest it is named by, and that the index's manifests are there.
///
/// # Errors
/// What is wrong with it.
pub fn verify(path: &Path) -> Result<Verified, LoadError> {
    let read = |source| LoadError::Read { path: path.to_path_buf(), source };
    let invalid = |what: String| LoadError::Invalid { path: path.to_path_buf(), what };
    let file = File::open(path).map_err(read)?;
    let mut documents = BTreeMap::new();
    let mut blobs = BTreeMap::new();
    let mut archive = tar::Archive::new(io::BufReader::new(file));
    let entries = archive.entries().map_err(read)?;
    for (count, entry) in entries.enumerate() {
        let entry =
            entry.map_err(|error| invalid(format!("it is no tar archive or it is cut short: {error}")))?;
        if count >= MAX_FILES {
            return Err(invalid(format!("it holds more than {MAX_FILES} files")));
        }
        let name = String::from_utf8_lossy(&entry.path_bytes()).trim_start_matches("./").to_owned();
        if !entry.header().entry_type().is_file() {
            continue;
        }
        let size = entry.size();
        if matches!(name.as_str(), "index.json" | "manifest.json" | "oci-layout") {
            if size > MAX_DOCUMENT {
                return Err(invalid(format!("{name} is larger than {MAX_DOCUMENT} bytes")));
            }
            let document: Value =
                serde_json::from_reader(entry).map_err(|error| invalid(format!("{name}: {error}")))?;
            documents.insert(name, document);
        } else if let Some(digest) = name.strip_prefix("blobs/sha256/") {
            let found =
                hash(entry).map_err(|error| invalid(format!("it is cut short in {name}: {error}")))?;
            if found != digest {
                return Err(invalid(format!("{name} is damaged: its content has the digest {found}")));
            }
            blobs.insert(digest.to_owned(), size);
        }
    }
    let names = names(&documents).ok_or_else(|| {
        invalid("it has neither an index.json (OCI layout) nor a manifest.json (docker save)".to_owned())
    })?;
    for (digest, size) in listed(&documents) {
        match blobs.get(&digest) {
            Some(found) if size.is_none_or(|size| size == *found) => {}
            Some(found) => {
                return Err(invalid(format!("sha256:{digest} has {found} bytes, not those listed")));
            }
            None => return Err(invalid(format!("index.json lists sha256:{digest}, which is missing"))),
        }
    }
    Ok(Verified { names, blobs: blobs.len() })
}

fn hash(mut content: impl Read) -> io::Result<String> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 64 << 10];
    loop {
        match content.read(&mut buffer)? {
            0 => return Ok(hex::encode(hasher.finalize())),
            n => hasher.update(&buffer[..n]),
        }
    }
}

fn manifests(documents: &BTreeMap<String, Value>) -> impl Iterator<Item = &Value> {
    documents.get("index.json").and_then(|index| index["manifests"].as_array()).into_iter().flatten()
}

fn listed(documents: &BTreeMap<String, Value>) -> Vec<(String, Option<u64>)> {
    manifests(documents)
        .filter_map(|manifest| {
            let digest = manifest["digest"].as_str()?.strip_prefix("sha256:")?;
            Some((digest.to_owned(), manifest["size"].as_u64()))
        })
        .collect()
}

fn names(documents: &BTreeMap<String, Value>) -> Option<Vec<String>> {
    if !documents.contains_key("index.json") && !documents.contains_key("manifest.json") {
        return None;
    }
    let annotated =
        manifests(documents).filter_map(|m| m["annotations"]["io.containerd.image.name"].as_str());
    let saved = documents.get("manifest.json").and_then(Value::as_array).into_iter().flatten();
    let tagged =
        saved.flat_map(|image| image["RepoTags"].as_array().into_iter().flatten()).filter_map(Value::as_str);
    let mut names: Vec<String> = annotated.chain(tagged).map(str::to_owned).collect();
    names.sort();
    names.dedup();
    Some(names)
}

/// Checks an archive and imports it into the containerd at `socket`, in the namespace Kubernetes uses. Blocks.
///
/// # Errors
/// Also when containerd refuses.
pub fn load(archive: &Path, socket: &Path) -> Result<Verified, LoadError> {
    let verified = verify(archive)?;
    let program = PathBuf::from("ctr");
    let output = Command::new(&program)
        .arg("--address")
        .arg(socket)
        .args(["--namespace", "k8s.io", "images", "import"])
        .arg(archive)
        .output()
        .map_err(|source| LoadError::Program { program, source })?;
    if output.status.success() {
        return Ok(verified);
    }
    Err(LoadError::Refused(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
}
