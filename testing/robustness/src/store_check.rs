//! Checks a store after a kill against what was acknowledged.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, bail, ensure};
use storage::{
    EventKind, Incarnation, KeyRange, KeyValue, Revision, Snapshot, Store, StoreError, WatchRequest,
};
use storage_embedded::{EmbeddedStore, Options};

use crate::load::{self, Acknowledged, TASKS};

/// What is known of a store over all its lives.
#[derive(Debug, Default)]
pub struct Model {
    /// What each key must be: the acknowledged revision and value; a deletion has no value.
    keys: BTreeMap<String, (u64, Option<Vec<u8>>)>,
    /// Where each task goes on.
    pub next: [u64; TASKS],
    last: Option<Snapshot>,
    incarnation: Option<Incarnation>,
    /// How many writes were acknowledged.
    pub acknowledged: u64,
    /// How many reopened stores could replay everything since the one before.
    pub replayed: u64,
}

impl Model {
    /// Opens the store and checks it; what an operation in flight did becomes part of the model.
    ///
    /// # Errors
    /// What is wrong.
    pub async fn check(&mut self, dir: &Path, seed: u64, lines: &[Acknowledged]) -> anyhow::Result<()> {
        let store = EmbeddedStore::open(dir, Options { retention: None, ..Options::default() })?;
        let snapshot = store.snapshot().await?;
        let newest = self.take(seed, lines)?;
        ensure!(
            snapshot.revision.0 >= newest,
            "revision {newest} was acknowledged, but the store is at {}",
            snapshot.revision
        );
        let incarnation = *self.incarnation.get_or_insert(snapshot.incarnation);
        ensure!(snapshot.incarnation == incarnation, "the store has another incarnation");
        self.compare(seed, &snapshot)?;
        self.check_watch(&store, &snapshot).await?;
        for next in &mut self.next {
            // The operation in flight is settled now, done or not; it is not tried again.
            *next += 1;
        }
        self.last = Some(snapshot);
        Ok(())
    }

    /// Adds what was acknowledged; answers the newest acknowledged revision.
    fn take(&mut self, seed: u64, lines: &[Acknowledged]) -> anyhow::Result<u64> {
        let mut newest = 0;
        for line in lines {
            ensure!(line.number == self.next[line.task], "a task skipped a number: {line:?}");
            self.next[line.task] += 1;
            self.acknowledged += 1;
            newest = newest.max(line.revision);
            let write = load::write(seed, line.task, line.number);
            self.keys.insert(write.key, (line.revision, write.value));
        }
        Ok(newest)
    }

    fn compare(&mut self, seed: u64, snapshot: &Snapshot) -> anyhow::Result<()> {
        let mut found: BTreeMap<String, &KeyValue> = BTreeMap::new();
        for kv in &snapshot.kvs {
            found.insert(String::from_utf8(kv.key.to_vec()).context("a foreign key")?, kv);
        }
        let in_flight: Vec<load::Write> =
            self.next.iter().enumerate().map(|(task, number)| load::write(seed, task, *number)).collect();
        let keys: std::collections::BTreeSet<String> =
            found.keys().chain(self.keys.keys()).cloned().collect();
        for key in keys {
            let kv = found.get(&key).copied();
            let value = kv.map(|kv| kv.value.to_vec());
            let known = self.keys.get(&key);
            if known.map_or(&None, |(_, value)| value) == &value {
                check_revision(&key, known, kv)?;
                continue;
            }
            // Only a write that nobody was told about may explain another value.
            if !in_flight.iter().any(|write| write.key == key && write.value == value) {
                bail!("key {key} holds {}, but {} was acknowledged", show(value.as_deref()), describe(known));
            }
            self.keys.insert(key, (kv.map_or(0, |kv| kv.mod_revision.0), value));
        }
        Ok(())
    }

    /// Replays what happened since the last check onto the snapshot of then: it must give the snapshot of now.
    async fn check_watch(&mut self, store: &EmbeddedStore, now: &Snapshot) -> anyhow::Result<()> {
        let Some(last) = &self.last else { return Ok(()) };
        ensure!(
            now.revision >= last.revision,
            "the revision went back from {} to {}",
            last.revision,
            now.revision
        );
        let request =
            WatchRequest { range: KeyRange::prefix(""), start: Some(last.revision.next()), buffer: 16 };
        let mut stream = match store.watch(request).await {
            Ok(stream) => stream,
            Err(StoreError::Compacted { oldest, .. }) if oldest > last.revision => return Ok(()),
            Err(error) => return Err(error).context("cannot watch after reopening"),
        };
        let mut state: BTreeMap<_, _> = last.kvs.iter().map(|kv| (kv.key.clone(), kv.clone())).collect();
        let mut told = last.revision;
        while told < now.revision {
            let batch = stream.next().await.context("the watch ended")??;
            let mut previous = Revision(0);
            for event in batch.events {
                let revision = event.kv.mod_revision;
                ensure!(revision > told && revision > previous, "event of revision {revision} after {told}");
                previous = revision;
                match event.kind {
                    EventKind::Put => drop(state.insert(event.kv.key.clone(), event.kv)),
                    EventKind::Delete => drop(state.remove(&event.kv.key)),
                }
            }
            told = batch.revision;
        }
        ensure!(
            state.into_values().eq(now.kvs.iter().cloned()),
            "the replayed events do not give what is there"
        );
        self.replayed += 1;
        Ok(())
    }
}

fn check_revision(
    key: &str,
    known: Option<&(u64, Option<Vec<u8>>)>,
    kv: Option<&KeyValue>,
) -> anyhow::Result<()> {
    if let (Some((acknowledged, _)), Some(kv)) = (known, kv)
        && *acknowledged != 0
    {
        ensure!(
            kv.mod_revision.0 == *acknowledged,
            "key {key} was acknowledged at revision {acknowledged} and is at {}",
            kv.mod_revision
        );
    }
    Ok(())
}

fn describe(known: Option<&(u64, Option<Vec<u8>>)>) -> String {
    known.map_or("nothing".to_owned(), |(revision, value)| {
        format!("{} at revision {revision}", show(value.as_deref()))
    })
}

fn show(value: Option<&[u8]>) -> String {
    value.map_or("no value".to_owned(), |value| {
        String::from_utf8_lossy(&value[..value.len().min(24)]).trim_end_matches('.').to_owned()
    })
}
