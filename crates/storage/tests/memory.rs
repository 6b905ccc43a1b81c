//! The suite on the in-memory store.

use std::sync::Arc;

use foundation::clock::ManualClock;
use storage::Store;
use storage::model::{MemoryStore, Options};
use storage::mvcc::RestoreOptions;
use storage::suite::{Fixture, Traits};

fn fixture() -> Fixture {
    let clock = ManualClock::default();
    let options = Options { clock: Arc::new(clock.clone()), retention: None };
    Fixture {
        store: Arc::new(MemoryStore::new(options.clone())),
        clock: Some(clock),
        traits: Traits::default(),
        restore: Box::new(move |snapshot| {
            MemoryStore::restore(snapshot, RestoreOptions::default(), options.clone())
                .map(|store| Arc::new(store) as Arc<dyn Store>)
        }),
        reopen: None,
        keep: Box::new(()),
    }
}

storage::engine_suite!(super::fixture());
