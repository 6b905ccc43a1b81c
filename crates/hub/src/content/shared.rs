//! Content in a store that several processes of a hub share, in pieces that any store takes. The files of each process are
//! copies of it: what is not there is fetched once.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use storage::{KeyRange, Operation, RangeRequest, Store, StoreError, Transaction};

use crate::replicas::ROOT;

/// Bytes of a piece; etcd takes requests of 1.5 MiB.
const PIECE: usize = 512 << 10;
/// Pieces of one content at most: the endpoint takes 64 MiB.
const MAX_PIECES: u32 = 256;

/// What is known of content: written last, removed first, so that what it names is there.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct About {
    pieces: u32,
    /// When it was stored last, in seconds of Unix time.
    stored: u64,
}

/// The content of all processes.
#[derive(Clone)]
pub(super) struct SharedContent(pub(super) Arc<dyn Store>);

fn place(digest: &str) -> String {
    format!("{ROOT}content/{digest}/")
}

fn about(digest: &str) -> String {
    format!("{}about", place(digest))
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

impl SharedContent {
    async fn about(&self, digest: &str) -> Result<Option<About>, StoreError> {
        let read = self.0.range(RangeRequest::all(KeyRange::single(about(digest)))).await?;
        let Some(kv) = read.kvs.into_iter().next() else { return Ok(None) };
        let found = serde_json::from_slice(&kv.value);
        found.map(Some).map_err(|error| StoreError::InvalidRequest(format!("content {digest}: {error}")))
    }

    async fn write(&self, operation: Operation) -> Result<(), StoreError> {
        let success = vec![operation];
        self.0.transact(Transaction { success, ..Transaction::default() }).await.map(drop)
    }

    async fn say(&self, digest: &str, pieces: u32) -> Result<(), StoreError> {
        let told = serde_json::to_vec(&About { pieces, stored: now() });
        let told = told.map_err(|error| StoreError::InvalidRequest(error.to_string()))?;
        self.write(Operation::put(about(digest), told)).await
    }

    /// Stores what is kept under a digest; stored again it counts as new. `replace`: although it is there.
    pub(super) async fn put(&self, digest: &str, kept: &[u8], replace: bool) -> Result<(), StoreError> {
        let known = if replace { None } else { self.about(digest).await? };
        if let Some(known) = known {
            return self.say(digest, known.pieces).await;
        }
        let mut pieces = 0_u32;
        for piece in kept.chunks(PIECE) {
            let key = format!("{}{pieces:04}", place(digest));
            self.write(Operation::put(key, piece.to_vec())).await?;
            pieces += 1;
        }
        self.say(digest, pieces).await
    }

    /// What is kept under a digest.
    pub(super) async fn get(&self, digest: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let Some(About { pieces, .. }) = self.about(digest).await? else { return Ok(None) };
        let mut kept = Vec::new();
        for index in 0..pieces.min(MAX_PIECES) {
            let key = format!("{}{index:04}", place(digest));
            let read = self.0.range(RangeRequest::all(KeyRange::single(key))).await?;
            let Some(kv) = read.kvs.into_iter().next() else { return Ok(None) };
            kept.extend_from_slice(&kv.value);
        }
        Ok(Some(kept))
    }

    /// How long ago it was stored last; `None`: it is not there.
    pub(super) async fn age(&self, digest: &str) -> Result<Option<Duration>, StoreError> {
        let found = self.about(digest).await?;
        Ok(found.map(|about| Duration::from_secs(now().saturating_sub(about.stored))))
    }

    /// Removes it.
    pub(super) async fn forget(&self, digest: &str) -> Result<(), StoreError> {
        self.write(Operation::delete(about(digest))).await?;
        let range = KeyRange::prefix(place(digest));
        self.write(Operation::Delete(storage::DeleteRequest { range })).await
    }

    /// Every digest that is there.
    pub(super) async fn digests(&self) -> Result<Vec<String>, StoreError> {
        let root = format!("{ROOT}content/");
        // Pieces are large: names are asked for one by one.
        let (mut all, mut start) = (Vec::new(), bytes::Bytes::from(root.clone()));
        let end = KeyRange::prefix(root.clone()).end;
        loop {
            let range = KeyRange { start, end: end.clone() };
            let request = RangeRequest { limit: Some(1), ..RangeRequest::all(range) };
            let Some(kv) = self.0.range(request).await?.kvs.into_iter().next() else { return Ok(all) };
            let text = String::from_utf8_lossy(&kv.key[root.len()..]).into_owned();
            let digest = text.split('/').next().unwrap_or_default().to_owned();
            // The next digest: behind everything of this one.
            start = KeyRange::prefix(place(&digest)).end.unwrap_or(kv.key);
            all.push(digest);
        }
    }
}
