//! The suite on the embedded engine.

use std::sync::Arc;

use foundation::clock::ManualClock;
use storage::Store;
use storage::mvcc::RestoreOptions;
use storage::suite::{Fixture, Traits};
use storage_embedded::{EmbeddedStore, Options, snapshot_file};

fn fixture() -> Fixture {
    let dir = tempfile::tempdir().expect("dir");
    let clock = ManualClock::default();
    let options = Options { clock: Arc::new(clock.clone()), retention: None, ..Options::default() };
    let path = dir.path().join("store");
    let store = EmbeddedStore::open(&path, options.clone()).expect("open");
    let (again, file, restored) =
        (options.clone(), dir.path().join("snapshot"), tempfile::tempdir().expect("dir"));
    Fixture {
        store: Arc::new(store),
        clock: Some(clock),
        traits: Traits::default(),
        restore: Box::new(move |snapshot| {
            snapshot_file::write(&file, snapshot)?;
            let dir = restored.path().join(snapshot.revision.to_string());
            EmbeddedStore::restore_from_file(&file, dir, RestoreOptions::default(), options.clone())
                .map(|store| Arc::new(store) as Arc<dyn Store>)
        }),
        reopen: Some(Box::new(move || Arc::new(EmbeddedStore::open(&path, again.clone()).expect("reopen")))),
        keep: Box::new(dir),
    }
}

storage::engine_suite!(super::fixture());
