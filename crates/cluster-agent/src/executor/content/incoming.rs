//! Files of any size on their way into the spool: as far as they have come they are on the disk, also over a restart.

use std::io::{ErrorKind, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use fleet_objects::test_run::Artifact;
use sealing::{Input, Output};
use sha2::{Digest as _, Sha256};
use tracing::warn;
use workflow::mask::Mask;
use workflow::plan::Pack;

use super::{PLACE, Spool, masked, used};

/// Below the spool: a directory for each pod whose files are being taken.
const INCOMING: &str = "incoming";
/// Below the spool: a directory for each execution that has packs.
const PACKS: &str = "packs";
/// What nobody has touched for so long belongs to a pod that is gone: its collector ends before.
const OLD: Duration = Duration::from_secs(48 * 3600);
/// Bytes that are written at once.
const BUFFER: usize = 1 << 20;

/// The execution that a file is of.
#[derive(Clone, Debug)]
pub(in super::super) struct Owner {
    /// Its name.
    pub(in super::super) execution: String,
    /// Its uid.
    pub(in super::super) uid: String,
}

impl Owner {
    /// Name of the directory with its files; `None` for a name that no execution has.
    pub(super) fn directory(&self) -> Option<String> {
        let plain = is_plain(&self.execution) && is_plain(&self.uid);
        plain.then(|| format!("{}_{}", self.execution, self.uid))
    }

    /// Whose a directory is.
    pub(super) fn of_directory(name: &str) -> Option<Self> {
        let (execution, uid) = name.split_once('_')?;
        Some(Self { execution: execution.to_owned(), uid: uid.to_owned() })
    }
}

/// A file that is being taken.
pub(in super::super) struct Incoming {
    path: PathBuf,
    /// Not there after the disk failed.
    output: Option<Output>,
    /// What is not written yet.
    buffer: Vec<u8>,
    hash: Sha256,
    length: u64,
    _room: Room,
}

/// Room that is kept free for what comes.
struct Room {
    spool: Spool,
    bytes: u64,
}

impl Drop for Room {
    fn drop(&mut self) {
        let mut reserved = self.spool.reserved.lock();
        *reserved = reserved.saturating_sub(self.bytes);
    }
}

impl Spool {
    /// What became of a file that arrived before the agent was started anew: its digest and size as they were handed on.
    pub(in super::super) async fn taken(&self, pod: &str, artifact: &Artifact) -> Option<(String, u64)> {
        let marker = self.incoming(pod)?.join(format!("{}.taken", artifact.sha256));
        let text = tokio::fs::read_to_string(&marker).await.ok()?;
        let (sha256, size) = text.trim().split_once(' ')?;
        // The agent may have ended after it said so and before it did: what was to be handed on lies here still.
        let left = if sha256 == artifact.sha256 { "partial" } else { "masked" };
        if tokio::fs::try_exists(marker.with_extension(left)).await.unwrap_or(true) {
            return None;
        }
        Some((sha256.to_owned(), size.parse().ok()?))
    }

    /// Begins to take a file, or goes on where it was when the agent ended.
    ///
    /// # Errors
    /// Why it cannot be taken, for people: there is no room, or the disk fails.
    pub(in super::super) async fn begin(&self, pod: &str, artifact: &Artifact) -> Result<Incoming, String> {
        let (spool, artifact) = (self.clone(), artifact.clone());
        let dir = self.incoming(pod).ok_or_else(|| format!("{pod:?} is no name of a directory"))?;
        let begun = tokio::task::spawn_blocking(move || spool.begin_blocking(&dir, &artifact)).await;
        begun.map_err(|error| error.to_string())?
    }

    fn begin_blocking(&self, dir: &Path, artifact: &Artifact) -> Result<Incoming, String> {
        let failed = |error: std::io::Error| disk(&error);
        std::fs::create_dir_all(dir).map_err(failed)?;
        let path = dir.join(format!("{}.partial", artifact.sha256));
        let mut output = match self.files.append(&path, PLACE) {
            Err(error) if error.kind() == ErrorKind::InvalidData => {
                std::fs::remove_file(&path).map_err(failed)?;
                self.files.append(&path, PLACE).map_err(failed)?
            }
            opened => opened.map_err(failed)?,
        };
        let known = self.files.read(&path, PLACE).and_then(|mut input| digest(&mut input));
        let (hash, length) = match known {
            Ok((hash, length)) if length <= artifact.size => (hash, length),
            // What is there cannot be of this file, or was damaged: it comes anew.
            Err(error) if error.kind() != ErrorKind::InvalidData => return Err(disk(&error)),
            _ => {
                output.clear().map_err(failed)?;
                (Sha256::new(), 0)
            }
        };
        let room = self.reserve(artifact.size - length).map_err(|left| {
            format!(
                "{} bytes are more than the agent has room for: {left} of {} bytes are left for files that wait for the hub",
                artifact.size, self.max_bytes
            )
        })?;
        let output = Some(output);
        Ok(Incoming { path, output, buffer: Vec::with_capacity(BUFFER), hash, length, _room: room })
    }

    /// Keeps room for so many bytes.
    ///
    /// # Errors
    /// How many bytes are left.
    fn reserve(&self, bytes: u64) -> Result<Room, u64> {
        let mut reserved = self.reserved.lock();
        let left = self.max_bytes.saturating_sub(used(&self.dir)).saturating_sub(*reserved);
        if bytes > left {
            return Err(left);
        }
        *reserved += bytes;
        Ok(Room { spool: self.clone(), bytes })
    }

    /// Makes a file that is whole durable and hands it on to the hub, without values of secrets where it is a text. Answers
    /// the digest and size it has then.
    ///
    /// # Errors
    /// When the disk fails.
    pub(in super::super) async fn arrived(
        &self,
        incoming: Incoming,
        owner: &Owner,
        artifact: &Artifact,
        mask: Arc<Mask>,
    ) -> Result<(String, u64), String> {
        let path = incoming.durable().await?;
        let dir =
            self.ready(owner).ok_or_else(|| format!("{:?} is no name of a directory", owner.execution))?;
        let (artifact, files) = (artifact.clone(), self.files.clone());
        let work = move || -> std::io::Result<(String, u64)> {
            let marker = path.with_extension("taken");
            let without = path.with_extension("masked");
            let (sha256, size, whole) = match masked::copy(&mask, &files, &path, &without)? {
                Some((sha256, size)) => (sha256, size, without),
                None => (artifact.sha256, artifact.size, path.clone()),
            };
            // Said first: what is ready may be handed on, and gone, at any moment.
            std::fs::write(marker, format!("{sha256} {size}\n"))?;
            std::fs::create_dir_all(&dir)?;
            std::fs::rename(&whole, dir.join(&sha256))?;
            std::fs::File::open(&dir)?.sync_all()?;
            if whole != path {
                std::fs::remove_file(path)?;
            }
            Ok((sha256, size))
        };
        let moved = tokio::task::spawn_blocking(work).await.map_err(|error| error.to_string())?;
        let moved = moved.map_err(|error| disk(&error))?;
        self.wake_large.notify_one();
        Ok(moved)
    }

    /// Keeps a pack that is whole for the other pods of its execution.
    ///
    /// # Errors
    /// When the disk fails.
    pub(in super::super) async fn keep_pack(
        &self,
        incoming: Incoming,
        owner: &Owner,
        name: &str,
    ) -> Result<(), String> {
        let path = incoming.durable().await?;
        let target = self.pack(owner, name).ok_or_else(|| format!("{name:?} is no name of a file"))?;
        let moved = async {
            if let Some(dir) = target.parent() {
                tokio::fs::create_dir_all(dir).await?;
            }
            tokio::fs::rename(path, target).await
        };
        moved.await.map_err(|error| disk(&error))
    }

    /// How its files are kept.
    pub(in super::super) fn files(&self) -> sealing::Files {
        self.files.clone()
    }

    /// Where a pack of an execution is, if it has come.
    pub(in super::super) fn pack(&self, owner: &Owner, name: &str) -> Option<PathBuf> {
        is_plain(name).then(|| self.packs(owner).map(|dir| dir.join(name)))?
    }

    /// Lets go of some packs of an execution.
    pub(in super::super) async fn drop_packs(&self, owner: &Owner, packs: &[Pack]) {
        for place in packs.iter().filter_map(|pack| self.pack(owner, &pack.name)) {
            match tokio::fs::remove_file(&place).await {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    warn!(%error, path = %place.display(), "files for another pod stay as they were");
                }
                _ => {}
            }
        }
    }

    /// Lets go of all packs of an execution.
    pub(in super::super) async fn forget_packs(&self, owner: &Owner) {
        if let Some(dir) = self.packs(owner) {
            let _ = tokio::fs::remove_dir_all(dir).await;
        }
    }

    fn packs(&self, owner: &Owner) -> Option<PathBuf> {
        is_plain(&owner.uid).then(|| self.dir.join(PACKS).join(&owner.uid))
    }

    /// Lets go of what is known of a pod's files: they have been told, or never will be.
    pub(in super::super) async fn forget(&self, pod: &str) {
        let Some(dir) = self.incoming(pod) else { return };
        match tokio::fs::remove_dir_all(&dir).await {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                warn!(%error, dir = %dir.display(), "what is left of a pod's files stays for now");
            }
            _ => {}
        }
    }

    /// Removes what pods left behind that an agent did not live to forget.
    pub(super) fn forget_old(&self) {
        let dirs = [INCOMING, PACKS].map(|name| std::fs::read_dir(self.dir.join(name)));
        for entry in dirs.into_iter().flatten().flatten().flatten() {
            let age = entry.metadata().and_then(|facts| facts.modified());
            let old = age.is_ok_and(|at| at.elapsed().is_ok_and(|age| age > OLD));
            if old && let Err(error) = std::fs::remove_dir_all(entry.path()) {
                warn!(%error, dir = %entry.path().display(), "what is left of a pod's files stays for now");
            }
        }
    }

    fn incoming(&self, pod: &str) -> Option<PathBuf> {
        is_plain(pod).then(|| self.dir.join(INCOMING).join(pod))
    }
}

impl Incoming {
    /// Bytes that have come.
    pub(in super::super) fn length(&self) -> u64 {
        self.length
    }

    /// Their digest.
    pub(in super::super) fn digest(&self) -> String {
        hex::encode(self.hash.clone().finalize())
    }

    /// Adds the next bytes.
    ///
    /// # Errors
    /// When the disk fails.
    pub(in super::super) async fn write(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.hash.update(bytes);
        self.length += bytes.len() as u64;
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= BUFFER { self.work(|_| Ok(())).await } else { Ok(()) }
    }

    /// Throws away what has come.
    ///
    /// # Errors
    /// When the disk fails.
    pub(in super::super) async fn restart(&mut self) -> Result<(), String> {
        self.work(Output::clear).await?;
        (self.hash, self.length) = (Sha256::new(), 0);
        Ok(())
    }

    /// Lets what has come be found after a restart.
    ///
    /// # Errors
    /// When the disk fails.
    pub(in super::super) async fn pause(&mut self) -> Result<(), String> {
        self.work(|output| output.flush()).await
    }

    /// Makes it durable; where it lies.
    async fn durable(mut self) -> Result<PathBuf, String> {
        self.work(Output::sync).await?;
        Ok(self.path)
    }

    /// Writes what is not written yet, then does this.
    async fn work(
        &mut self,
        then: impl FnOnce(&mut Output) -> std::io::Result<()> + Send + 'static,
    ) -> Result<(), String> {
        let buffer = std::mem::replace(&mut self.buffer, Vec::with_capacity(BUFFER));
        let mut output = self.output.take().ok_or("the agent's disk failed before")?;
        let work = move || output.write_all(&buffer).and_then(|()| then(&mut output)).map(|()| output);
        let done = tokio::task::spawn_blocking(work).await.map_err(|error| error.to_string())?;
        self.output = Some(done.map_err(|error| disk(&error))?);
        Ok(())
    }
}

/// Whether a name stays where it is put, whoever gave it.
pub(super) fn is_plain(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.');
    !name.is_empty() && name.len() <= 253 && !name.starts_with('.') && name.bytes().all(plain)
}

/// Digest and length of a file, read piece by piece.
fn digest(file: &mut Input) -> std::io::Result<(Sha256, u64)> {
    let (mut hash, mut length) = (Sha256::new(), 0);
    let mut buffer = vec![0; BUFFER];
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            return Ok((hash, length));
        }
        hash.update(&buffer[..read]);
        length += read as u64;
    }
}

fn disk(error: &std::io::Error) -> String {
    format!("the agent's disk: {error}")
}
