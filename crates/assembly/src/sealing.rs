//! What stores seal at rest, and sealing it anew after keys have changed.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use storage::Store;
use storage_sealed::{Configuration, Rewritten, SealedStore, Sealer};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::backup::{self, Place};
use crate::error::{AssemblyError, Cause};
use crate::followed::{Followed, LOOK, Seen};
use crate::state::encryption_path;

/// What an embedded cluster seals when nobody says otherwise.
pub(crate) const CLUSTER: [&str; 1] = ["secrets"];
/// What a hub seals when nobody says otherwise: also what profiles say, and their content on its disk, for manifests may be
/// Secrets.
pub(crate) const HUB: [&str; 3] = ["secrets", "profiles.fleet.fairlead.dev", "contents.fleet.fairlead.dev"];

/// Seals a hub's content as if it were in its store.
pub(crate) struct Content(pub(crate) Sealer);

fn content_key(digest: &str) -> String {
    format!("/registry/fleet.fairlead.dev/contents/{digest}")
}

impl hub::ContentSealer for Content {
    fn seal(&self, digest: &str, bytes: &[u8]) -> std::io::Result<Vec<u8>> {
        let sealed = self.0.seal(content_key(digest).as_bytes(), bytes);
        sealed.map(Vec::from).map_err(std::io::Error::other)
    }

    fn open(&self, digest: &str, kept: Vec<u8>) -> std::io::Result<Vec<u8>> {
        self.0.open(content_key(digest).as_bytes(), kept).map_err(std::io::Error::other)
    }

    fn is_current(&self, digest: &str, kept: &[u8]) -> bool {
        self.0.is_current(content_key(digest).as_bytes(), kept)
    }
}

/// Seals what is older as it is wanted, then follows the file of the configuration until `stop`: what it says is taken over,
/// and what is older sealed anew; `resealed` counts that up. One that cannot be used is said in the log, and what was stays.
pub(crate) async fn keep(
    store: SealedStore,
    path: PathBuf,
    resealed: watch::Sender<u64>,
    stop: CancellationToken,
) -> Result<(), AssemblyError> {
    // A value that was sealed by half of a configuration would be plain, or lost with a key that the other half names.
    let mut followed = Followed::new(Seen::now([&path]));
    catch_up(&store, &stop).await;
    while stop.run_until_cancelled(tokio::time::sleep(LOOK)).await.is_some() {
        if !followed.is_due(Seen::now([&path])) {
            continue;
        }
        let taken = match Configuration::open(&path) {
            Ok(configuration) => store.replace(configuration).await.map_err(Cause::from),
            Err(error) => Err(error.into()),
        };
        match taken {
            Ok(()) => {
                followed.took();
                tracing::info!("the encryption configuration was read again");
                catch_up(&store, &stop).await;
                resealed.send_modify(|times| *times += 1);
            }
            Err(error) => {
                if followed.failed(foundation::causes::in_line(&*error)) {
                    tracing::warn!(
                        error = &*error,
                        "a changed encryption configuration cannot be used; the old one stays"
                    );
                }
            }
        }
    }
    Ok(())
}

/// Seals, once, what was written before it was to be sealed or with a key that is not the first any more. What fails is
/// said and left to the next time: everything can be read meanwhile.
async fn catch_up(store: &SealedStore, stop: &CancellationToken) {
    match stop.run_until_cancelled(store.rewrite()).await {
        Some(Ok(Rewritten { rewritten: 0, unreadable: 0, .. })) | None => {}
        Some(Ok(done)) => tracing::info!(
            rewritten = done.rewritten,
            unreadable = done.unreadable,
            "values of the store were sealed anew"
        ),
        Some(Err(error)) => tracing::warn!(%error, "older values of the store were not sealed anew"),
    }
}

/// Seals everything in a store anew that is not as its configuration wants it: one that nobody serves, or one in etcd.
/// `configuration` is the file of an `EncryptionConfiguration`; `None`: the directory's own.
///
/// # Errors
/// When the store cannot be opened or written, or something is sealed with a key that is not configured.
pub async fn rewrite(place: &Place, configuration: Option<&Path>) -> Result<Rewritten, AssemblyError> {
    let failed = |cause: Cause| AssemblyError::new("failed to rewrite the store", cause);
    let path = match (configuration, place) {
        (Some(path), _) => path.to_owned(),
        (None, Place::Directory(directory)) => encryption_path(directory),
        (None, Place::Etcd(_)) => {
            return Err(failed("of a store in etcd the encryption configuration must be named".into()));
        }
    };
    let configuration = Configuration::open(&path).map_err(|error| failed(error.into()))?;
    let store: Arc<dyn Store> = backup::open(place).await.map_err(failed)?;
    let sealed = SealedStore::open(store, configuration).await.map_err(|error| failed(error.into()))?;
    sealed.rewrite().await.map_err(|error| failed(error.into()))
}
