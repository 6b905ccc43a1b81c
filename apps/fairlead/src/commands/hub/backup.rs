//! `fairlead hub backup`, `fairlead hub restore`

use std::path::PathBuf;

use anyhow::Context as _;
use assembly::hub_backup::{self, Contents};
use clap::Args;
use sealing::Key;

use super::super::store;
use crate::arguments::Global;
use crate::failure::{Code, Failure, program};
use crate::output;
use crate::store_choice::StoreChoice;

/// Write a whole hub to one file: its objects, authority, keys, content and inbox. The hub may run. The file holds
/// everything that makes the hub: give a key, or keep it as you keep the hub's own disk.
#[derive(Args, Debug)]
pub(crate) struct BackupArguments {
    /// Where to write it; there whole or not at all
    file: PathBuf,
    /// Encrypt it with the key in this file; one is made when there is none. Without the key nothing is restored: keep it
    /// elsewhere
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    #[command(flatten)]
    store: StoreChoice,
}

/// Make a hub of a backup. It begins a new life: agents keep what they hold and report it, and what they hold beyond the
/// backup waits for a person (`HubBehind` at the Cluster).
#[derive(Args, Debug)]
pub(crate) struct RestoreArguments {
    /// The backup
    file: PathBuf,
    /// The key it was encrypted with
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
}

pub(crate) async fn backup(global: &Global, arguments: BackupArguments) -> Result<Code, Failure> {
    let directory = global.dir.clone().ok_or_else(|| Failure::usage("--dir is missing"))?;
    // Before anything is made for it: a key, a directory. A server may have its store in etcd.
    if global.kubeconfig.is_none() && arguments.store.etcd()?.is_none() {
        assembly::backup::exists(&directory).map_err(program)?;
    } else if !directory.is_dir() {
        return Err(Failure::usage(format!("there is no directory {}", directory.display()))
            .hint("--dir DIR, as `fairlead hub serve` has it"));
    }
    let key = arguments.key.as_deref().map(Key::open_or_make).transpose();
    let key = key.context("cannot use the key")?;
    // Beside the backup: it is as secret and as large.
    let parent = arguments.file.parent().filter(|parent| !parent.as_os_str().is_empty());
    let beside =
        tempfile::Builder::new().prefix(".fairlead-backup-").tempdir_in(parent.unwrap_or(".".as_ref()));
    let beside = beside.context("cannot make a directory beside the backup")?;
    let snapshot = beside.path().join("store.snap");
    store::take(global, &snapshot, &arguments.store).await?;
    let written = hub_backup::write(&directory, &snapshot, &arguments.file, key).await.map_err(program)?;
    told("wrote", &arguments.file, &written);
    Ok(Code::Ok)
}

pub(crate) async fn restore(global: &Global, arguments: RestoreArguments) -> Result<Code, Failure> {
    let directory = global.dir.clone().ok_or_else(|| Failure::usage("--dir is missing"))?;
    let key = arguments.key.as_deref().map(Key::open).transpose().context("cannot use the key")?;
    let restored = hub_backup::restore(&arguments.file, &directory, key).await.map_err(program)?;
    told("restored", &arguments.file, &restored);
    output::progress(&format!("fairlead hub serve --dir {}", directory.display()));
    Ok(Code::Ok)
}

fn told(what: &str, file: &std::path::Path, contents: &Contents) {
    let bytes: u64 = contents.files.iter().map(|file| file.size).sum();
    let count = contents.files.len();
    output::progress(&format!(
        "{what} {}: {count} files, {} KiB, of {}",
        file.display(),
        bytes >> 10,
        contents.taken
    ));
}
