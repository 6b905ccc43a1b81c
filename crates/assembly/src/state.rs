//! Where a program keeps its state.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use storage::Store;
use storage::model::{self, MemoryStore};
use storage::mvcc::Retention;
use storage_embedded::EmbeddedStore;
use storage_etcd::EtcdStore;
use storage_sealed::{Configuration, SealedStore};

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
    /// An `EncryptionConfiguration`; `None`: `pki/encryption.yaml` of the state directory, made when there is none. What
    /// lives in memory only is not sealed.
    pub encryption: Option<PathBuf>,
}

impl Default for StoreOptions {
    /// Local, five minutes: what a Kubernetes API server asks of etcd.
    fn default() -> Self {
        Self { engine: Engine::Local, history: Duration::from_secs(300), encryption: None }
    }
}

/// An open store, and the file that remembers what was served of it.
pub(crate) struct Opened {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) witness: Option<WitnessFile>,
    /// The same store, when it seals, and the file of its configuration.
    pub(crate) sealed: Option<(SealedStore, PathBuf)>,
}

/// Where a state directory has its encryption configuration: among the keys, which servers of one store share.
pub(crate) fn encryption_path(directory: &Path) -> PathBuf {
    directory.join("pki/encryption.yaml")
}

/// What is sealed by what, if anything. One is made for a directory that has none, sealing `resources`.
fn encryption(
    directory: Option<&Path>,
    given: Option<&Path>,
    resources: &[&str],
) -> Result<Option<(Configuration, PathBuf)>, AssemblyError> {
    use std::os::unix::fs::DirBuilderExt as _;
    let failed = |cause: Cause| AssemblyError::new("failed to prepare encryption at rest", cause);
    let (configuration, path) = match (given, directory) {
        (Some(path), _) => (Configuration::open(path), path.to_owned()),
        (None, Some(directory)) if !resources.is_empty() => {
            let path = encryption_path(directory);
            let parent = path.parent().unwrap_or(directory);
            let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(parent);
            made.map_err(|error| failed(error.into()))?;
            (Configuration::open_or_make(&path, resources), path)
        }
        (None, _) => return Ok(None),
    };
    let configuration = configuration.map_err(|error| failed(error.into()))?;
    Ok(Some((configuration, path)))
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

    /// Opens the store, which seals `resources` unless it is told otherwise. Blocks on the disk for milliseconds: call it
    /// before the program serves.
    ///
    /// # Errors
    /// When the directory cannot be made, is in use by another process or holds a damaged store; when etcd does not answer.
    pub(crate) async fn open_store(
        &self,
        options: &StoreOptions,
        resources: &[&str],
    ) -> Result<Opened, AssemblyError> {
        let encryption = encryption(self.directory(), options.encryption.as_deref(), resources)?;
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
                Arc::new(MemoryStore::new(options))
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
        let Some((configuration, path)) = encryption else {
            return Ok(Opened { store, witness, sealed: None });
        };
        let sealed = SealedStore::open(store, configuration).await;
        let sealed =
            sealed.map_err(|error| AssemblyError::new("failed to open the sealed store", error.into()))?;
        Ok(Opened { store: Arc::new(sealed.clone()), witness, sealed: Some((sealed, path)) })
    }
}

/// Where a state directory has its store.
pub(crate) fn store_directory(directory: &Path) -> PathBuf {
    directory.join("store")
}
