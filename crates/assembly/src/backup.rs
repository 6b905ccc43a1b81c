//! Snapshots of a store: taken where it runs or where it lies, checked, and made into a store again.
//!
//! A snapshot file is the same for every engine, so that it also moves a store from one to another.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use apiserver::{Body, BoxError, Extension};
use bytes::Bytes;
use futures::StreamExt as _;
use http_body_util::BodyExt as _;
use serde::Serialize;
use storage::mvcc::RestoreOptions;
use storage::{KeyValue, Snapshot, Store};
use storage_embedded::{EmbeddedStore, snapshot_file};
use storage_etcd::EtcdStore;
use storage_sealed::envelope;
use tokio::sync::mpsc;

use crate::error::{AssemblyError, Cause};
use crate::state::{EtcdOptions, StoreOptions, store_directory};

/// Where a server hands out snapshots of its store to who may GET this path (administrators).
pub const PATH: &str = "/fairlead/v1/store/snapshot";

/// What lies below this prefix is objects of an API server, which are JSON.
const OBJECTS: &[u8] = b"/registry/";
/// How many damaged objects a report names.
const NAMED: usize = 20;
/// Pieces of a snapshot on their way to a client: with [`PIECE`], the memory of one download.
const PIECES: usize = 8;
/// A piece of a snapshot on its way.
const PIECE: usize = 64 << 10;

/// A store that no server has open, or that takes several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// The state directory of a cluster or hub.
    Directory(PathBuf),
    /// Below a prefix of etcd.
    Etcd(EtcdOptions),
}

impl Place {
    fn describe(&self) -> String {
        match self {
            Self::Directory(path) => format!("`{}`", path.display()),
            Self::Etcd(etcd) => etcd.describe(),
        }
    }
}

/// What a snapshot or a store holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The store's life.
    pub incarnation: String,
    /// Its revision.
    pub revision: u64,
    /// How many keys it holds.
    pub keys: usize,
    /// What keys and values take.
    pub bytes: usize,
    /// How many leases it holds.
    pub leases: usize,
    /// How many values are sealed, by the name of their key. What they hold is not looked at.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub sealed: BTreeMap<String, usize>,
    /// How many objects cannot be read.
    pub damaged: usize,
    /// Some of their keys.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub damaged_keys: Vec<String>,
}

impl Report {
    /// Of a snapshot. Reads every object: seconds per million.
    #[must_use]
    pub fn of(snapshot: &Snapshot) -> Self {
        let damaged: Vec<&KeyValue> = snapshot.kvs.iter().filter(|kv| !readable(kv)).collect();
        let mut sealed = BTreeMap::new();
        for name in snapshot.kvs.iter().filter_map(|kv| envelope::key_name(&kv.value)) {
            *sealed.entry(name.to_owned()).or_insert(0) += 1;
        }
        let named = damaged.iter().take(NAMED).map(|kv| kv.key.escape_ascii().to_string());
        Self {
            incarnation: snapshot.incarnation.to_string(),
            revision: snapshot.revision.0,
            keys: snapshot.kvs.len(),
            bytes: snapshot.kvs.iter().map(|kv| kv.key.len() + kv.value.len()).sum(),
            leases: snapshot.leases.len(),
            sealed,
            damaged: damaged.len(),
            damaged_keys: named.collect(),
        }
    }
}

/// Whether an object is JSON with a name, or sealed; other keys are not for this module to judge.
fn readable(kv: &KeyValue) -> bool {
    #[derive(serde::Deserialize)]
    struct Object {
        metadata: Metadata,
    }
    #[derive(serde::Deserialize)]
    struct Metadata {
        name: String,
    }
    let named = |object: Object| !object.metadata.name.is_empty();
    !kv.key.starts_with(OBJECTS)
        || envelope::key_name(&kv.value).is_some()
        || serde_json::from_slice(&kv.value).is_ok_and(named)
}

/// Writes a snapshot of a store that nobody serves (or that is in etcd) to a file, which is there whole or not at all.
///
/// # Errors
/// When the store cannot be read (a server that has it open says so), or the file not written.
pub async fn snapshot(place: &Place, file: &Path) -> Result<Report, AssemblyError> {
    let failed = |cause: Cause| {
        AssemblyError::new(format!("failed to take a snapshot of the store in {}", place.describe()), cause)
    };
    let taken = read(place).await.map_err(failed)?;
    let file = file.to_owned();
    blocking(move || snapshot_file::write(&file, &taken).map(|()| Report::of(&taken)).map_err(Cause::from))
        .await
        .map_err(failed)
}

/// Makes a store of a snapshot file: a new incarnation, and revisions that no server of the old one has handed out.
///
/// # Errors
/// When the file is damaged, or there is a store in the place already.
pub async fn restore(file: &Path, place: &Place) -> Result<Report, AssemblyError> {
    let failed = |cause: Cause| {
        let what = format!("failed to restore `{}` into {}", file.display(), place.describe());
        AssemblyError::new(what, cause)
    };
    let from = file.to_owned();
    let restored: Snapshot = match place {
        Place::Directory(directory) => {
            let path = store_directory(directory);
            blocking(move || {
                std::fs::create_dir_all(&path)?;
                let options = storage_embedded::Options::default();
                let store = EmbeddedStore::restore_from_file(from, path, RestoreOptions::default(), options)?;
                Ok(store)
            })
            .await
            .map_err(failed)?
            .snapshot()
            .await
            .map_err(|error| failed(error.into()))?
        }
        Place::Etcd(etcd) => {
            let snapshot = blocking(move || Ok(snapshot_file::read(&from)?)).await.map_err(failed)?;
            let options = etcd.resolve(StoreOptions::default().history)?;
            let store = EtcdStore::restore(&snapshot, RestoreOptions::default(), options).await;
            let store = store.map_err(|error| failed(error.into()))?;
            store.snapshot().await.map_err(|error| failed(error.into()))?
        }
    };
    blocking(move || Ok(Report::of(&restored))).await.map_err(failed)
}

/// There is no store where one was looked for; nothing is damaged.
#[derive(Debug, thiserror::Error)]
pub enum NoStore {
    /// Nor a directory.
    #[error("there is no directory `{}`", .0.display())]
    Directory(PathBuf),
    /// The directory is there, and is that of no server with a store of its own.
    #[error("there is no store in the directory `{}`", .0.display())]
    Store(PathBuf),
}

impl NoStore {
    /// Of a failure of this module: that there is no store.
    #[must_use]
    pub fn of(error: &AssemblyError) -> Option<&Self> {
        std::error::Error::source(error).and_then(|cause| cause.downcast_ref())
    }
}

/// Looks whether there is a store of a server in a directory.
///
/// # Errors
/// When there is none, or it cannot be told.
pub fn exists(directory: &Path) -> Result<(), AssemblyError> {
    look_for(directory).map_err(|cause| {
        AssemblyError::new(format!("failed to find the store in `{}`", directory.display()), cause)
    })
}

fn look_for(directory: &Path) -> Result<(), Cause> {
    let none = |nothing: NoStore| Err(Cause::from(nothing));
    for (path, nothing) in [
        (directory.to_owned(), NoStore::Directory(directory.to_owned())),
        (store_directory(directory), NoStore::Store(directory.to_owned())),
    ] {
        match std::fs::metadata(&path) {
            Ok(found) if found.is_dir() => {}
            Ok(_) => return none(nothing),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return none(nothing),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Whether a failure is that a server has the store open.
#[must_use]
pub fn is_in_use(error: &AssemblyError) -> bool {
    let cause =
        std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<storage::StoreError>());
    matches!(cause, Some(storage::StoreError::Unavailable(reason)) if reason.contains("in use by another process"))
}

/// Reads and checks a snapshot file to its last bit, and every object in it.
///
/// # Errors
/// When the file is damaged.
pub async fn verify_file(file: &Path) -> Result<Report, AssemblyError> {
    let path = file.to_owned();
    let checked = blocking(move || {
        let snapshot = snapshot_file::read(&path)?;
        snapshot.check()?;
        Ok(Report::of(&snapshot))
    });
    let failed = |cause| AssemblyError::new(format!("failed to verify `{}`", file.display()), cause);
    checked.await.map_err(failed)
}

/// Reads and checks a whole store that nobody serves (or that is in etcd), and every object in it.
///
/// # Errors
/// When it is damaged or cannot be read.
pub async fn verify(place: &Place) -> Result<Report, AssemblyError> {
    let failed = |cause: Cause| {
        AssemblyError::new(format!("failed to verify the store in {}", place.describe()), cause)
    };
    let snapshot = read(place).await.map_err(failed)?;
    blocking(move || Ok(Report::of(&snapshot))).await.map_err(failed)
}

async fn read(place: &Place) -> Result<Snapshot, Cause> {
    Ok(open(place).await?.snapshot().await?)
}

/// Opens a store that is there, without beginning anything in it.
pub(crate) async fn open(place: &Place) -> Result<Arc<dyn Store>, Cause> {
    match place {
        Place::Directory(directory) => {
            let (directory, path) = (directory.clone(), store_directory(directory));
            let store = blocking(move || {
                look_for(&directory)?;
                // Opening would create one where there is none.
                storage_embedded::verify(&path)?;
                Ok(EmbeddedStore::open(
                    &path,
                    storage_embedded::Options { retention: None, ..storage_embedded::Options::default() },
                )?)
            });
            Ok(Arc::new(store.await?))
        }
        Place::Etcd(etcd) => {
            let options = storage_etcd::Options {
                history: None,
                create: false,
                ..etcd.resolve(StoreOptions::default().history)?
            };
            Ok(Arc::new(EtcdStore::open(options).await?))
        }
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Cause> + Send + 'static,
) -> Result<T, Cause> {
    tokio::task::spawn_blocking(work).await?
}

/// Hands out snapshots of a running server's store, piece by piece.
pub(crate) fn extension(store: Arc<dyn Store>) -> Extension {
    let service = tower::service_fn(move |request: http::Request<Body>| {
        let store = Arc::clone(&store);
        let method = request.method().clone();
        async move { Ok(answer(store, &method).await) }
    });
    Extension {
        prefix: PATH.to_owned(),
        anonymous: false,
        service: tower::util::BoxCloneSyncService::new(service),
    }
}

async fn answer(store: Arc<dyn Store>, method: &http::Method) -> http::Response<Body> {
    if method != http::Method::GET {
        return refusal(kube_objects::Reason::MethodNotAllowed, "a snapshot can only be read");
    }
    let snapshot = match store.snapshot().await {
        Ok(snapshot) => snapshot,
        Err(error) => return refusal(kube_objects::Reason::ServiceUnavailable, &error.to_string()),
    };
    let (sender, receiver) = mpsc::channel::<Result<Bytes, BoxError>>(PIECES);
    tokio::task::spawn_blocking(move || {
        let mut out = io::BufWriter::with_capacity(PIECE, Pieces(sender.clone()));
        let written = snapshot_file::write_to(&mut out, &snapshot).and_then(|()| out.flush());
        if let Err(error) = written {
            // The client has gone away, or learns by this that what it has is not whole.
            let _ = sender.blocking_send(Err(error.into()));
        }
    });
    let pieces = tokio_stream::wrappers::ReceiverStream::new(receiver);
    let body = http_body_util::StreamBody::new(pieces.map(|piece| piece.map(http_body::Frame::data)));
    let mut response = http::Response::new(body.boxed_unsync());
    let kind = http::HeaderValue::from_static("application/octet-stream");
    response.headers_mut().insert(http::header::CONTENT_TYPE, kind);
    response
}

fn refusal(reason: kube_objects::Reason, message: &str) -> http::Response<Body> {
    let status = kube_objects::Status::new(reason, message);
    let body = http_body_util::Full::from(status.to_json().to_string());
    let mut response = http::Response::new(body.map_err(|never| match never {}).boxed_unsync());
    *response.status_mut() =
        http::StatusCode::from_u16(status.code).unwrap_or(http::StatusCode::INTERNAL_SERVER_ERROR);
    response
}

/// A writer into a channel; waits while the client is slow.
struct Pieces(mpsc::Sender<Result<Bytes, BoxError>>);

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0
            .blocking_send(Ok(Bytes::copy_from_slice(bytes)))
            .map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Checks a snapshot that was received into memory and puts it into a file, whole or not at all.
///
/// # Errors
/// When what was received is no whole snapshot, or the file cannot be written.
pub async fn keep(received: PathBuf, file: &Path) -> Result<Report, AssemblyError> {
    let report = verify_file(&received).await?;
    std::fs::File::open(&received)
        .and_then(|file| file.sync_all())
        .and_then(|()| std::fs::rename(&received, file))
        .map_err(|error| AssemblyError::new(format!("failed to write `{}`", file.display()), error.into()))?;
    Ok(report)
}

/// Names of a report's facts, for people.
impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} keys ({} bytes), {} leases at revision {} of incarnation {}",
            self.keys, self.bytes, self.leases, self.revision, self.incarnation
        )?;
        for (key, count) in &self.sealed {
            write!(f, "; {count} values sealed with {key}")?;
        }
        if self.damaged > 0 {
            write!(f, "; {} objects cannot be read: {}", self.damaged, self.damaged_keys.join(", "))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use storage::{Operation, Transaction};

    use super::*;

    #[tokio::test]
    async fn a_snapshot_taken_where_the_store_lies_becomes_a_store_again() {
        let root = tempfile::tempdir().expect("directory");
        let place = |name: &str| Place::Directory(root.path().join(name));
        let (from, to, file) = (place("from"), place("to"), root.path().join("snapshot"));
        let missing = snapshot(&from, &file).await.expect_err("there is no store");
        assert!(missing.to_string().contains("failed to take a snapshot"), "{missing}");
        assert!(!file.exists() && !root.path().join("from/store/store.redb").exists(), "nothing was made");

        std::fs::create_dir_all(root.path().join("from/store")).expect("create");
        let store = EmbeddedStore::open(root.path().join("from/store"), storage_embedded::Options::default())
            .expect("open");
        let put = |key: &str, value: &str| Operation::put(key.to_owned(), value.to_owned());
        let success = vec![
            put("/registry/core/pods/a/b", r#"{"metadata":{"name":"b"}}"#),
            put("/registry/core/pods/a/c", "{}"),
            put("other", "anything"),
        ];
        store.transact(Transaction { success, ..Transaction::default() }).await.expect("put");
        let busy = snapshot(&from, &file).await.expect_err("a server has it");
        assert!(std::error::Error::source(&busy).expect("cause").to_string().contains("another process"));
        drop(store);

        let taken = snapshot(&from, &file).await.expect("taken");
        assert_eq!(
            (taken.keys, taken.damaged, &taken.damaged_keys[..]),
            (3, 1, &["/registry/core/pods/a/c".to_owned()][..])
        );
        assert_eq!(verify_file(&file).await.expect("whole"), taken);
        assert_eq!(verify(&from).await.expect("sound"), taken);
        let restored = restore(&file, &to).await.expect("restored");
        assert_eq!(restored.revision, taken.revision + storage::mvcc::RESTORE_BUMP);
        assert_ne!(restored.incarnation, taken.incarnation);
        assert!(restore(&file, &to).await.is_err(), "there is a store already");

        let mut bytes = std::fs::read(&file).expect("read");
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&file, bytes).expect("write");
        assert!(verify_file(&file).await.is_err(), "one bit is enough");
    }
}
