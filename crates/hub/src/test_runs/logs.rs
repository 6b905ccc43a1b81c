//! Logs of test steps: one file per run and cluster, one line per piece, read while it grows. A line is JSON, or where the hub
//! seals what it keeps the base64 of a sealed text.

use std::collections::HashMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::Error;
use crate::record_key::RecordKey;

/// Bytes of one run's log in one cluster: 64 steps with what an agent keeps of each.
const MAX_FILE: u64 = 128 * 1024 * 1024;
/// Executions whose places are remembered; the rest is looked up again.
const MAX_KNOWN: usize = 10_000;

/// A piece of a log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Piece {
    /// Where it ran.
    pub cluster: String,
    /// The step.
    pub step: String,
    /// 1 for the first.
    pub attempt: u32,
    /// Where in the attempt's log it begins.
    pub offset: u64,
    /// How much of the container's log it stands for.
    pub length: u64,
    /// What it says.
    pub text: String,
}

/// What is known of one execution's log.
struct Known {
    run_uid: String,
    cluster: String,
    /// Per step and attempt: the end of what is kept.
    ends: HashMap<(String, u32), u64>,
    bytes: u64,
}

/// All logs of a hub.
pub struct LogStore {
    dir: PathBuf,
    key: RecordKey,
    known: Mutex<HashMap<String, Known>>,
    changed: watch::Sender<u64>,
}

impl LogStore {
    /// Opens or makes the directory. `key` seals what is added.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn open(dir: PathBuf, key: RecordKey) -> Result<Self, Error> {
        std::fs::create_dir_all(&dir).map_err(|source| Error::Logs { path: dir.clone(), source })?;
        Ok(Self { dir, key, known: Mutex::new(HashMap::new()), changed: watch::channel(0).0 })
    }

    /// Whether this execution of this cluster was introduced.
    pub(super) fn knows(&self, execution_uid: &str, cluster: &str) -> bool {
        self.known.lock().get(execution_uid).is_some_and(|known| known.cluster == cluster)
    }

    /// Says which run an execution belongs to, after that was read from the hub itself.
    pub(super) fn introduce(&self, execution_uid: &str, cluster: &str, run_uid: &str) {
        let read = read_from(&self.key, &self.file(run_uid, cluster), 0);
        let pieces = read.map(|(pieces, _)| pieces).unwrap_or_default();
        let mut ends = HashMap::new();
        let mut bytes = 0;
        for piece in pieces {
            bytes += piece.text.len() as u64;
            ends.insert((piece.step, piece.attempt), piece.offset + piece.length);
        }
        let mut all = self.known.lock();
        if all.len() >= MAX_KNOWN {
            all.clear();
        }
        let (run_uid, cluster) = (run_uid.to_owned(), cluster.to_owned());
        all.insert(execution_uid.to_owned(), Known { run_uid, cluster, ends, bytes });
    }

    /// Keeps a piece unless it is there already; false, and it is not kept, when the execution must be introduced (again).
    pub(super) async fn append(&self, execution_uid: &str, piece: Piece) -> Result<bool, Error> {
        let path = {
            let mut all = self.known.lock();
            let Some(known) = all.get_mut(execution_uid) else { return Ok(false) };
            let end = known.ends.entry((piece.step.clone(), piece.attempt)).or_default();
            let piece_end = piece.offset.saturating_add(piece.length);
            known.bytes = known.bytes.saturating_add(piece.text.len() as u64);
            if piece_end <= *end || known.bytes > MAX_FILE {
                return Ok(true);
            }
            *end = piece_end;
            self.file(&known.run_uid, &known.cluster)
        };
        let key = self.key.clone();
        let written = tokio::task::spawn_blocking(move || write(&key, &path, &piece)).await;
        if let Ok(Err((path, source))) = written {
            // What is known of this log no longer agrees with the file: read it again before the next piece.
            self.known.lock().remove(execution_uid);
            return Err(Error::Logs { path, source });
        }
        self.changed.send_modify(|count| *count = count.wrapping_add(1));
        Ok(true)
    }

    /// What comes after `position` in the log of a run in a cluster, and the position after it.
    ///
    /// # Errors
    /// When the file cannot be read; a file that is not there is empty.
    pub async fn read(
        &self,
        run_uid: &str,
        cluster: &str,
        position: u64,
    ) -> Result<(Vec<Piece>, u64), Error> {
        let (path, key) = (self.file(run_uid, cluster), self.key.clone());
        let read = tokio::task::spawn_blocking(move || {
            read_from(&key, &path, position).map_err(|source| Error::Logs { path, source })
        });
        read.await.unwrap_or_else(|_| Ok((Vec::new(), position)))
    }

    /// Changes whenever a piece is added anywhere.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    fn file(&self, run_uid: &str, cluster: &str) -> PathBuf {
        self.dir.join(safe(run_uid)).join(format!("{}.jsonl", safe(cluster)))
    }
}

/// Uids and cluster names hold nothing else; whatever does must not leave the directory.
pub(super) fn safe(name: &str) -> String {
    name.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').collect()
}

/// For what a line is sealed: its own file.
fn place(path: &Path) -> Vec<u8> {
    let parts: Vec<_> = path.iter().rev().take(2).collect();
    parts.into_iter().rev().collect::<PathBuf>().into_os_string().into_encoded_bytes()
}

fn line(key: &RecordKey, path: &Path, piece: &Piece) -> std::io::Result<Vec<u8>> {
    let text = serde_json::to_vec(piece)?;
    let sealed = key.seal(&place(path), text).map_err(std::io::Error::other)?;
    let mut line = if sealed.first() == Some(&b'{') { sealed } else { STANDARD.encode(sealed).into_bytes() };
    line.push(b'\n');
    Ok(line)
}

/// A line that cannot be read is left out: the others are still worth reading.
fn piece(key: &RecordKey, path: &Path, line: &[u8]) -> Option<Piece> {
    if line.first() == Some(&b'{') {
        return serde_json::from_slice(line).ok();
    }
    let sealed = STANDARD.decode(line).ok()?;
    serde_json::from_slice(&key.unseal(&place(path), &sealed).ok()?).ok()
}

fn write(key: &RecordKey, path: &Path, piece: &Piece) -> Result<(), (PathBuf, std::io::Error)> {
    let attempt = || -> std::io::Result<()> {
        if let Some(dir) = path.parent() {
            std::fs::create_dir_all(dir)?;
        }
        let line = line(key, path, piece)?;
        std::fs::OpenOptions::new().create(true).append(true).open(path)?.write_all(&line)
    };
    attempt().map_err(|error| (path.to_owned(), error))
}

/// At most 4 MiB of whole lines; a torn last line waits for its rest.
fn read_from(key: &RecordKey, path: &Path, position: u64) -> std::io::Result<(Vec<Piece>, u64)> {
    use std::io::{Read as _, Seek as _, SeekFrom};
    let mut file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok((Vec::new(), position)),
        Err(error) => return Err(error),
    };
    file.seek(SeekFrom::Start(position))?;
    let mut bytes = Vec::new();
    file.take(4 * 1024 * 1024).read_to_end(&mut bytes)?;
    let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |index| index + 1);
    let lines = bytes[..whole].split(|byte| *byte == b'\n');
    let pieces = lines.filter_map(|line| piece(key, path, line)).collect();
    Ok((pieces, position + whole as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(offset: u64, text: &str) -> Piece {
        let (cluster, step) = ("dev".to_owned(), "unit".to_owned());
        Piece { cluster, step, attempt: 1, offset, length: text.len() as u64, text: text.to_owned() }
    }

    #[tokio::test]
    async fn pieces_are_kept_once_also_over_a_restart() {
        let dir = tempfile::tempdir().expect("a directory");
        let store = LogStore::open(dir.path().to_owned(), RecordKey::default()).expect("opens");
        store.introduce("e", "dev", "run");
        for piece in [piece(0, "one\n"), piece(0, "one\n"), piece(4, "two\n")] {
            store.append("e", piece).await.expect("kept");
        }
        let again = LogStore::open(dir.path().to_owned(), RecordKey::default()).expect("opens");
        assert!(!again.knows("e", "dev"));
        again.introduce("e", "dev", "run");
        assert!(!again.append("nobody", piece(4, "two\n")).await.expect("told"), "its place is not known");
        assert!(again.append("e", piece(4, "two\n")).await.expect("kept"));
        again.append("e", piece(8, "three\n")).await.expect("kept");
        let (pieces, end) = again.read("run", "dev", 0).await.expect("read");
        let text: String = pieces.iter().map(|piece| piece.text.as_str()).collect();
        assert_eq!(text, "one\ntwo\nthree\n");
        assert_eq!(again.read("run", "dev", end).await.expect("read").0, []);
    }

    #[test]
    fn names_cannot_leave_the_directory() {
        assert_eq!(safe("../../etc/passwd"), "etcpasswd");
    }
}
