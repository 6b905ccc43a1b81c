//! The suite on a real etcd, and what only this engine promises.

use std::sync::{Arc, Mutex};

use fixtures::etcd::{self, Etcd};
use storage::Store;
use storage::mvcc::RestoreOptions;
use storage::suite::{Fixture, Traits};
use storage_etcd::{EtcdStore, Options};
use tempfile::TempDir;

#[path = "engine/lives.rs"]
mod lives;

/// An etcd with its directory.
struct Server {
    etcd: Etcd,
    directory: TempDir,
}

impl Server {
    fn start() -> Option<Self> {
        let program = etcd::program()?;
        let directory = tempfile::tempdir().expect("dir");
        let etcd = Etcd::start(&program, directory.path(), etcd::Options::default()).expect("etcd");
        Some(Self { etcd, directory })
    }

    fn options(&self) -> Options {
        Options { history: None, ..Options::new(vec![self.etcd.endpoint()]) }
    }
}

/// Runs a future to its end from within a test of several threads.
fn now<T>(future: impl Future<Output = T>) -> T {
    tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(future))
}

async fn fixture() -> Option<Fixture> {
    let server = Server::start()?;
    let store = EtcdStore::open(server.options()).await.expect("open");
    let again = server.options();
    // Revisions and leases are etcd's, so that every other store has another etcd.
    let others = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&others);
    Some(Fixture {
        store: Arc::new(store),
        clock: None,
        traits: Traits { shares_values: false, keeps_versions: false, leases_restart: false },
        restore: Box::new(move |snapshot| {
            let other = Server::start().expect("it has been started before");
            let restored = now(EtcdStore::restore(snapshot, RestoreOptions::default(), other.options()));
            others.lock().expect("lock").push(other);
            restored.map(|store| Arc::new(store) as Arc<dyn Store>)
        }),
        reopen: Some(Box::new(move || Arc::new(now(EtcdStore::open(again.clone())).expect("reopen")))),
        keep: Box::new((server, kept)),
    })
}

storage::engine_suite!(match super::fixture().await {
    Some(fixture) => fixture,
    None => return,
});
