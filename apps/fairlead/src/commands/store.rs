//! `fairlead store …`: works on the directory of a store that no process has open.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use storage::Store;
use storage::mvcc::RestoreOptions;
use storage_embedded::{EmbeddedStore, Options};

use crate::failure::{Code, Failure};
use crate::output;

#[derive(Subcommand, Debug)]
pub(crate) enum StoreCommand {
    /// Write a stopped store's newest state to a file
    Snapshot(SnapshotArguments),
    /// Make a new store out of a snapshot; revisions go on above it
    Restore(RestoreArguments),
    /// Read a stopped store wholly and say whether it is sound
    Verify(VerifyArguments),
}

#[derive(Args, Debug)]
pub(crate) struct SnapshotArguments {
    /// Directory of the store
    store: PathBuf,
    /// File to write
    file: PathBuf,
}

#[derive(Args, Debug)]
pub(crate) struct RestoreArguments {
    /// Snapshot to read
    file: PathBuf,
    /// Directory of the new store; must hold none
    store: PathBuf,
}

#[derive(Args, Debug)]
pub(crate) struct VerifyArguments {
    /// Directory of the store
    store: PathBuf,
}

/// Store errors name the file and what to do.
fn failed(what: String) -> impl FnOnce(storage::StoreError) -> Failure {
    move |error| Failure::new(Code::Negative, anyhow::Error::new(error).context(what))
}

pub(crate) async fn run(command: StoreCommand) -> Result<Code, Failure> {
    tokio::task::spawn_blocking(move || match command {
        StoreCommand::Snapshot(arguments) => snapshot(&arguments),
        StoreCommand::Restore(arguments) => restore(&arguments),
        StoreCommand::Verify(arguments) => verify(&arguments),
    })
    .await
    .context("the command broke off")?
}

fn snapshot(arguments: &SnapshotArguments) -> Result<Code, Failure> {
    let title = arguments.store.display().to_string();
    // Opening makes a store where there is none; a snapshot of that would look like a backup and hold nothing.
    storage_embedded::verify(&arguments.store)
        .map_err(failed(format!("cannot snapshot the store {title}")))?;
    let store = EmbeddedStore::open(&arguments.store, Options::default())
        .map_err(failed(format!("cannot open the store {title}")))?;
    let snapshot = tokio::runtime::Handle::current()
        .block_on(store.snapshot())
        .map_err(failed(format!("cannot snapshot the store {title}")))?;
    storage_embedded::snapshot_file::write(&arguments.file, &snapshot)
        .map_err(failed(format!("cannot write {}", arguments.file.display())))?;
    output::progress(&format!(
        "{} keys at revision {} are in {}",
        snapshot.kvs.len(),
        snapshot.revision,
        arguments.file.display()
    ));
    Ok(Code::Ok)
}

fn restore(arguments: &RestoreArguments) -> Result<Code, Failure> {
    let title = arguments.store.display().to_string();
    let store = EmbeddedStore::restore_from_file(
        &arguments.file,
        &arguments.store,
        RestoreOptions::default(),
        Options::default(),
    )
    .map_err(failed(format!("cannot restore {} to {title}", arguments.file.display())))?;
    let incarnation = store.incarnation();
    drop(store);
    output::progress(&format!("restored to {title}, incarnation {incarnation}"));
    Ok(Code::Ok)
}

fn verify(arguments: &VerifyArguments) -> Result<Code, Failure> {
    let title = arguments.store.display().to_string();
    let status = storage_embedded::verify(&arguments.store)
        .map_err(failed(format!("the store {title} is not sound")))?;
    output::data(&format!(
        "{title}: sound, revision {}, compacted to {}\n",
        status.revision, status.compacted
    ))?;
    Ok(Code::Ok)
}

#[cfg(test)]
mod tests {
    use storage::{Operation, Transaction};

    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn a_store_goes_through_a_file() {
        let dir = tempfile::tempdir().expect("a directory");
        let (first, second, file) = (dir.path().join("a"), dir.path().join("b"), dir.path().join("snapshot"));
        let store = EmbeddedStore::open(&first, Options::default()).expect("opens");
        let put = Transaction { success: vec![Operation::put("/k", "v")], ..Transaction::default() };
        store.transact(put).await.expect("written");
        drop(store);
        run(StoreCommand::Snapshot(SnapshotArguments { store: first, file: file.clone() }))
            .await
            .expect("snapshot");
        run(StoreCommand::Restore(RestoreArguments { file, store: second.clone() })).await.expect("restored");
        run(StoreCommand::Verify(VerifyArguments { store: second })).await.expect("sound");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn an_empty_directory_is_no_store() {
        let dir = tempfile::tempdir().expect("a directory");
        let arguments = SnapshotArguments { store: dir.path().join("none"), file: dir.path().join("file") };
        assert!(run(StoreCommand::Snapshot(arguments)).await.is_err());
        assert!(!dir.path().join("file").exists());
    }
}
