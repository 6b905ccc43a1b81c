//! Where a program keeps its state.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use storage::Store;
use storage::model::{self, MemoryStore};
use storage::mvcc::Retention;
use storage_embedded::EmbeddedStore;
use storage_etcd::EtcdStore;

use crate::error::{AssemblyError, Cause};
use crate::witness::WitnessFile;

/// A directory of state, or none for what lives as long as the process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Everything in memory; nothing is written, nothing is synced.
    Ephemeral,
    /// Everything below this directory.
    Directory(PathBuf),
}

/// An etcd that several servers share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EtcdOptions {
    /// URLs of its members.
    pub endpoints: Vec<String>,
    /// Everything lies below this key.
    pub prefix: String,
    /// PEM file that its certificate is checked against.
    pub certificate_authority: Option<PathBuf>,
    /// PEM file of the certificate shown to it.
    pub certificate: Option<PathBuf>,
    /// PEM file of that certificate's key.
    pub key: Option<PathBuf>,
}

impl EtcdOptions {
    /// Without TLS material, below the usual key.
    #[must_use]
    pub fn new(endpoints: Vec<String>) -> Self {
        let prefix = storage_etcd::options::DEFAULT_PREFIX.to_owned();
        Self { endpoints, prefix, certificate_authority: None, certificate: None, key: None }
    }

    /// As the engine takes it. Blocks on the disk for the certificates.
    pub(crate) fn resolve(&self, history: Duration) -> Result<storage_etcd::Options, AssemblyError> {
        let read = |path: &Option<PathBuf>| {
            let read = path.as_ref().map(|path| {
                std::fs::read(path).map_err(|error| {
                    AssemblyError::new(format!("failed to read `{}`", path.display()), error.into())
                })
            });
            read.transpose()
        };
        let tls = storage_etcd::Tls {
            certificate_authority: read(&self.certificate_authority)?,
            certificate: read(&self.certificate)?,
            key: read(&self.key)?,
            server_name: None,
        };
        Ok(storage_etcd::Options {
            tls,
            prefix: self.prefix.clone(),
            history: Some(history),
            ..storage_etcd::Options::new(self.endpoints.clone())
        })
    }

    pub(crate) fn describe(&self) -> String {
        format!("etcd {} below {}", self.endpoints.join(","), self.prefix)
    }
}

/// What holds the objects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Engine {
    /// The state directory, or memory where there is none.
    #[default]
    Local,
    /// etcd; the state directory then holds keys and certificates only.
    Etcd(EtcdOptions),
}

/// What holds the objects, and how much of their past.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreOptions {
    /// The engine.
    pub engine: Engine,
    /// How long history is kept before it is compacted.
    pub history: Duration,
}

impl Default for StoreOptions {
    /// Local, five minutes: what a Kubernetes API server asks of etcd.
    fn default() -> Self {
        Self { engine: Engine::Local, history: Duration::from_secs(300) }
    }
}

/// An open store, and the file that remembers what was served of it.
pub(crate) struct Opened {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) witness: Option<WitnessFile>,
}

impl State {
    /// The directory, if there is one.
    #[must_use]
    pub fn directory(&self) -> Option<&Path> {
        match self {
            Self::Ephemeral => None,
            Self::Directory(path) => Some(path),
        }
    }

    /// Opens the store. Blocks on the disk for milliseconds: call it before the program serves.
    ///
    /// # Errors
    /// When the directory cannot be made, is in use by another process or holds a damaged store; when etcd does not answer.
    pub(crate) async fn open_store(&self, options: &StoreOptions) -> Result<Opened, AssemblyError> {
        let witness = self.directory().map(WitnessFile::below).transpose()?;
        let served = match &witness {
            Some(file) => file.read()?,
            None => None,
        };
        let retention = Retention { age: options.history, ..Retention::default() };
        let store: Arc<dyn Store> = match (&options.engine, self.directory()) {
            (Engine::Etcd(etcd), _) => {
                let resolved = storage_etcd::Options { witness: served, ..etcd.resolve(options.history)? };
                let opened = EtcdStore::open(resolved).await;
                let failed = |error: storage::StoreError| {
                    AssemblyError::new(
                        format!("failed to open the store in {}", etcd.describe()),
                        error.into(),
                    )
                };
                Arc::new(opened.map_err(failed)?)
            }
            (Engine::Local, None) => {
                let options = model::Options { retention: Some(retention), ..model::Options::default() };
                return Ok(Opened { store: Arc::new(MemoryStore::new(options)), witness: None });
            }
            (Engine::Local, Some(directory)) => {
                let path = store_directory(directory);
                let failed = |cause: Cause| {
                    AssemblyError::new(format!("failed to open the store in `{}`", path.display()), cause)
                };
                std::fs::create_dir_all(&path).map_err(|error| failed(error.into()))?;
                let options = storage_embedded::Options {
                    retention: Some(retention),
                    witness: served,
                    ..storage_embedded::Options::default()
                };
                Arc::new(EmbeddedStore::open(&path, options).map_err(|error| failed(error.into()))?)
            }
        };
        Ok(Opened { store, witness })
    }
}

/// Where a state directory has its store.
pub(crate) fn store_directory(directory: &Path) -> PathBuf {
    directory.join("store")
}
