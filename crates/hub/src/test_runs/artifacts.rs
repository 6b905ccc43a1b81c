//! Files of test runs that are too large for memory: on the disk, by run and digest, written piece by piece as agents send
//! them and read piece by piece.
//!
//! `<dir>/<run uid>/<sha256>` is a file that is whole; `<sha256>.<cluster>.partial` what one cluster has sent of it so far;
//! `<sha256>.refused` says why the run may not keep it. Each cluster sends into a file of its own, so that none can spoil
//! what another sends. Nothing is named by a digest that it was not found to have.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::{ErrorKind, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use agent_protocol::ArtifactState;
use bytes::Bytes;
use fleet_planner::is_digest;
use kube_objects::{Reason, Status};
use parking_lot::Mutex;
use sealing::{Files, Input};
use sha2::{Digest as _, Sha256};
use tracing::{info, warn};

use super::Error;
use crate::record_key::RecordKey;

/// Bytes of one run's files unless said otherwise: what an agent keeps waiting, from some clusters.
pub const MAX_RUN_BYTES: u64 = 16 << 30;
/// Files that are written to at once by different requests; those of one file come one after the other.
const STRIPES: usize = 16;
/// Files whose digest so far is remembered; that of others is found by reading them again.
const MAX_HASHES: usize = 1000;
/// For what the files are sealed.
const PLACE: &[u8] = b"test-file";
/// Bytes that are read at once.
const BUFFER: usize = 1 << 20;

/// A chunk of a file.
pub(crate) struct Chunk {
    /// Where in the file it begins.
    pub(crate) offset: u64,
    /// Bytes of the whole file.
    pub(crate) size: u64,
    /// The digest it was sent with.
    pub(crate) sha256: String,
    /// What it says.
    pub(crate) bytes: Bytes,
}

/// Which file of whom.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'a> {
    /// The run.
    pub(crate) run_uid: &'a str,
    /// Who sends it.
    pub(crate) cluster: &'a str,
    /// Its digest.
    pub(crate) sha256: &'a str,
}

/// All files of a hub's runs.
pub struct ArtifactStore {
    dir: PathBuf,
    max_run_bytes: u64,
    files: Files,
    stripes: [tokio::sync::Mutex<()>; STRIPES],
    /// By path of a file that is being sent: how long it is, and the digest of that.
    hashes: Mutex<HashMap<PathBuf, (u64, Sha256)>>,
}

impl ArtifactStore {
    /// Opens or makes the directory; a run may keep so many bytes. `key` seals what is added.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn open(dir: PathBuf, max_run_bytes: u64, key: &RecordKey) -> Result<Arc<Self>, Error> {
        std::fs::create_dir_all(&dir).map_err(|source| Error::Logs { path: dir.clone(), source })?;
        let stripes = std::array::from_fn(|_| tokio::sync::Mutex::new(()));
        Ok(Arc::new(Self { dir, max_run_bytes, files: key.files(), stripes, hashes: Mutex::default() }))
    }

    /// The directory.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// How much of a file there is from this cluster.
    pub(crate) async fn state(&self, place: Place<'_>) -> Result<ArtifactState, Status> {
        let (paths, files) = (self.paths(place)?, self.files.clone());
        blocking(move || Ok(paths.state(&files))).await
    }

    /// How much of a file there is from any cluster: bytes, and why it is not taken.
    pub(super) async fn known(self: &Arc<Self>, run_uid: &str, sha256: &str, cluster: &str) -> ArtifactState {
        let place = Place { run_uid, cluster, sha256 };
        self.state(place).await.unwrap_or_default()
    }

    /// Adds a chunk; answers once it is written. A file that is whole by it is checked and durable then.
    ///
    /// # Errors
    /// As `agent_protocol::endpoint::ARTIFACTS` says.
    pub(crate) async fn append(
        self: &Arc<Self>,
        place: Place<'_>,
        chunk: Chunk,
    ) -> Result<ArtifactState, Status> {
        let paths = self.paths(place)?;
        let sha256 = place.sha256.to_owned();
        let store = Arc::clone(self);
        let _turn = self.stripe(&paths.partial).lock().await;
        blocking(move || store.append_blocking(&paths, &sha256, &chunk)).await
    }

    /// Lets go of what has come of a file that will not come whole.
    pub(super) async fn give_up(&self, place: Place<'_>) {
        let Ok(paths) = self.paths(place) else { return };
        let _turn = self.stripe(&paths.partial).lock().await;
        match tokio::fs::remove_file(&paths.partial).await {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                warn!(%error, path = %paths.partial.display(), "what came of a lost file stays for now");
            }
            _ => {}
        }
    }

    /// Opens a file that is whole, and says how long it is.
    pub(super) async fn open_whole(&self, run_uid: &str, sha256: &str) -> Option<(Input, u64)> {
        let paths = self.paths(Place { run_uid, cluster: "", sha256 }).ok()?;
        let files = self.files.clone();
        let opened = tokio::task::spawn_blocking(move || {
            let input = files.read(&paths.whole, PLACE)?;
            input.length().map(|size| (input, size))
        });
        opened.await.ok()?.ok()
    }

    /// Takes a file of this machine as it is: where nothing is sealed.
    ///
    /// # Errors
    /// When the disk fails.
    pub async fn adopt(&self, run_uid: &str, sha256: &str, from: PathBuf) -> Result<(), std::io::Error> {
        let paths = self.paths(Place { run_uid, cluster: "", sha256 });
        let paths = paths.map_err(|status| std::io::Error::other(status.message))?;
        let adopted = move || {
            std::fs::create_dir_all(&paths.dir)?;
            // The two may be on different disks.
            std::fs::hard_link(&from, &paths.whole).or_else(|error| match error.kind() {
                ErrorKind::AlreadyExists => Ok(()),
                _ => std::fs::copy(&from, &paths.whole).map(drop),
            })
        };
        tokio::task::spawn_blocking(adopted).await.map_err(std::io::Error::other)?
    }

    fn append_blocking(&self, paths: &Paths, sha256: &str, chunk: &Chunk) -> Result<ArtifactState, Status> {
        let state = paths.state(&self.files);
        if state.whole {
            return Ok(state);
        }
        if let Some(why) = state.refused {
            return Err(Status::new(Reason::RequestEntityTooLarge, why));
        }
        if fleet_planner::digest(&chunk.bytes) != chunk.sha256 {
            return Err(Status::new(
                Reason::BadRequest,
                "the chunk does not have the digest it was sent with",
            ));
        }
        if chunk.offset != state.received {
            let message = format!("there are {} bytes of it, not {}", state.received, chunk.offset);
            return Err(Status::new(Reason::Conflict, message));
        }
        let end = chunk.offset + chunk.bytes.len() as u64;
        if end > chunk.size {
            return Err(Status::new(Reason::BadRequest, "the chunk goes beyond the end of the file"));
        }
        self.within_quota(paths, chunk)?;
        let failed = |error: std::io::Error| disk(&paths.partial, &error);
        std::fs::create_dir_all(&paths.dir).map_err(failed)?;
        let unread = |error: std::io::Error| unread(&paths.partial, &error);
        let mut file = self.files.append(&paths.partial, PLACE).map_err(unread)?;
        // A crash may have torn what came last.
        let there = file.length().map_err(failed)?;
        if there != chunk.offset {
            let message = format!("there are {there} bytes of it, not {}", chunk.offset);
            return Err(Status::new(Reason::Conflict, message));
        }
        let mut hash = self.hash_of(&paths.partial, chunk.offset).map_err(unread)?;
        file.write_all(&chunk.bytes).and_then(|()| file.flush()).map_err(failed)?;
        hash.update(&chunk.bytes);
        if end < chunk.size {
            self.remember(&paths.partial, end, hash);
            return Ok(ArtifactState { received: end, ..ArtifactState::default() });
        }
        let found = hex::encode(hash.finalize());
        if found != sha256 {
            std::fs::remove_file(&paths.partial).map_err(failed)?;
            let message = format!("the file's SHA-256 is {found}, not {sha256}: nothing of it is kept");
            let mut status = Status::new(Reason::Invalid, message);
            status.code = 422;
            return Err(status);
        }
        file.sync().map_err(failed)?;
        std::fs::rename(&paths.partial, &paths.whole).map_err(failed)?;
        std::fs::File::open(&paths.dir).and_then(|dir| dir.sync_all()).map_err(failed)?;
        info!(sha256, size = end, "a large file of a test run is whole");
        Ok(ArtifactState { received: end, whole: true, refused: None })
    }

    /// What the run has and what is to come must be within what it may keep; what is refused once stays so.
    fn within_quota(&self, paths: &Paths, chunk: &Chunk) -> Result<(), Status> {
        let kept = bytes_below(&paths.dir);
        let rest = chunk.size - chunk.offset;
        if kept.saturating_add(rest) <= self.max_run_bytes {
            return Ok(());
        }
        let why = format!(
            "{} bytes are more than the run may keep: {kept} of {} bytes are taken",
            chunk.size, self.max_run_bytes
        );
        let failed = |error: std::io::Error| disk(&paths.refused, &error);
        std::fs::create_dir_all(&paths.dir).map_err(failed)?;
        std::fs::write(&paths.refused, &why).map_err(failed)?;
        let _ = std::fs::remove_file(&paths.partial);
        Err(Status::new(Reason::RequestEntityTooLarge, why))
    }

    /// The digest of what there is.
    fn hash_of(&self, path: &Path, length: u64) -> std::io::Result<Sha256> {
        if let Some((known, hash)) = self.hashes.lock().remove(path)
            && known == length
        {
            return Ok(hash);
        }
        // Another process of this hub began it.
        let mut hash = Sha256::new();
        let mut buffer = vec![0; BUFFER];
        let mut file = self.files.read(path, PLACE)?;
        loop {
            match file.read(&mut buffer)? {
                0 => return Ok(hash),
                read => hash.update(&buffer[..read]),
            }
        }
    }

    fn remember(&self, path: &Path, length: u64, hash: Sha256) {
        let mut hashes = self.hashes.lock();
        if hashes.len() >= MAX_HASHES {
            hashes.clear();
        }
        hashes.insert(path.to_owned(), (length, hash));
    }

    fn stripe(&self, path: &Path) -> &tokio::sync::Mutex<()> {
        let mut hasher = DefaultHasher::new();
        path.hash(&mut hasher);
        &self.stripes[(hasher.finish() % STRIPES as u64) as usize]
    }

    fn paths(&self, place: Place<'_>) -> Result<Paths, Status> {
        let Place { run_uid, cluster, sha256 } = place;
        if !is_digest(sha256) {
            return Err(Status::new(Reason::BadRequest, format!("{sha256:?} is not a SHA-256 digest")));
        }
        let dir = self.dir.join(super::logs::safe(run_uid));
        let named = |end: &str| dir.join(format!("{sha256}.{end}"));
        Ok(Paths {
            whole: dir.join(sha256),
            partial: named(&format!("{}.partial", super::logs::safe(cluster))),
            refused: named("refused"),
            dir,
        })
    }
}

struct Paths {
    dir: PathBuf,
    whole: PathBuf,
    partial: PathBuf,
    refused: PathBuf,
}

impl Paths {
    fn state(&self, files: &Files) -> ArtifactState {
        let length = |path: &Path| files.length(path).ok();
        if let Some(received) = length(&self.whole) {
            return ArtifactState { received, whole: true, refused: None };
        }
        let refused = std::fs::read_to_string(&self.refused).ok();
        ArtifactState { received: length(&self.partial).unwrap_or(0), whole: false, refused }
    }
}

/// Bytes of the files in a directory.
fn bytes_below(dir: &Path) -> u64 {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter_map(|entry| Some(entry.metadata().ok()?.len())).sum()
}

/// What had come of a file cannot be read: damaged, or sealed with a key that is gone. Its agent has it and begins anew.
fn unread(path: &Path, error: &std::io::Error) -> Status {
    if error.kind() != ErrorKind::InvalidData || std::fs::remove_file(path).is_err() {
        return disk(path, error);
    }
    warn!(%error, path = %path.display(), "what had come of a test run's file was damaged; it is asked for anew");
    Status::new(Reason::Conflict, "what had come of it was damaged: there are 0 bytes of it")
}

fn disk(path: &Path, error: &std::io::Error) -> Status {
    warn!(%error, path = %path.display(), "a file of a test run cannot be kept");
    Status::new(Reason::ServiceUnavailable, "the hub's disk does not take the file now")
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Status> + Send + 'static,
) -> Result<T, Status> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|_| Err(Status::new(Reason::ServiceUnavailable, "the hub is shutting down")))
}

#[cfg(test)]
mod tests;
