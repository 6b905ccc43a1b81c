//! What was served of a store, remembered beside it: the guard against a store that comes back older than it was.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use storage::{Incarnation, Revision, Store, Witness};
use tokio_util::sync::CancellationToken;

use crate::error::{AssemblyError, Cause};
use crate::identity::write_private;

/// How often what was served is written down when it has changed: a store that went back by less than what was served in
/// this time is not noticed.
const EVERY: Duration = Duration::from_secs(1);

#[derive(Serialize, Deserialize)]
struct Document {
    incarnation: String,
    revision: u64,
}

/// The file.
#[derive(Clone, Debug)]
pub(crate) struct WitnessFile {
    path: PathBuf,
}

impl WitnessFile {
    /// In a state directory, beside the store.
    pub(crate) fn below(directory: &Path) -> Result<Self, AssemblyError> {
        std::fs::create_dir_all(directory).map_err(|error| {
            AssemblyError::new(format!("failed to create `{}`", directory.display()), error.into())
        })?;
        Ok(Self { path: directory.join("store-witness.json") })
    }

    /// What was served before; `None`: nothing yet.
    pub(crate) fn read(&self) -> Result<Option<Witness>, AssemblyError> {
        let failed = |cause: Cause| {
            let what = format!("failed to read what was served before from `{}`", self.path.display());
            AssemblyError::new(what, cause)
        };
        let text = match std::fs::read(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error.into())),
        };
        let document: Document = serde_json::from_slice(&text).map_err(|error| failed(error.into()))?;
        let incarnation =
            document.incarnation.parse().map_err(|_| failed("its incarnation is no UUID".into()))?;
        Ok(Some(Witness { incarnation: Incarnation(incarnation), revision: Revision(document.revision) }))
    }

    fn write(&self, witness: Witness) -> Result<(), AssemblyError> {
        let document =
            Document { incarnation: witness.incarnation.to_string(), revision: witness.revision.0 };
        let text = serde_json::json!(document).to_string();
        write_private(&self.path, &text).map_err(|error| {
            AssemblyError::new(format!("failed to write `{}`", self.path.display()), error.into())
        })
    }
}

/// Watches over a store until `stop`: writes down what was served, and ends with an error when the store must be opened
/// again, which is this process's end: the next one begins with the witness.
pub(crate) async fn keep(
    store: Arc<dyn Store>,
    file: Option<WitnessFile>,
    stop: CancellationToken,
) -> Result<(), AssemblyError> {
    let mut written = None;
    loop {
        let failed = tokio::select! {
            () = stop.cancelled() => None,
            () = store.failed() => Some(AssemblyError::new("the store has failed", "it must be opened again".into())),
            () = tokio::time::sleep(EVERY) => {
                note(&store, file.as_ref(), &mut written).await;
                continue;
            }
        };
        note(&store, file.as_ref(), &mut written).await;
        return failed.map_or(Ok(()), Err);
    }
}

/// A file that cannot be written weakens the guard and nothing else.
async fn note(store: &Arc<dyn Store>, file: Option<&WitnessFile>, written: &mut Option<Witness>) {
    let (served, Some(file)) = (store.served(), file.cloned()) else { return };
    if *written == Some(served) {
        return;
    }
    match tokio::task::spawn_blocking(move || file.write(served)).await {
        Ok(Ok(())) => *written = Some(served),
        Ok(Err(error)) => tracing::warn!(%error, "what was served of the store was not written down"),
        // The runtime ends.
        Err(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_was_served_is_remembered_at_the_end() {
        let directory = tempfile::tempdir().expect("directory");
        let file = WitnessFile::below(directory.path()).expect("file");
        assert_eq!(file.read().expect("nothing yet"), None);
        let store: Arc<dyn Store> = Arc::new(storage::model::MemoryStore::default());
        let stop = CancellationToken::new();
        stop.cancel();
        keep(Arc::clone(&store), Some(file.clone()), stop).await.expect("stopped");
        assert_eq!(file.read().expect("written"), Some(store.served()));
        std::fs::write(directory.path().join("store-witness.json"), "{").expect("write");
        assert!(file.read().is_err(), "half a file is not nothing");
    }
}
