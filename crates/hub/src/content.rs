//! Content by digest, in files: written beside, checked, synced, then renamed, so that a name always means its bytes.

mod shared;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use fleet_planner::{digest, is_digest};

use crate::error::Error;
use shared::SharedContent;

/// Content that was stored within this time is not removed: what names it may be on its way, from an agent that is
/// connected; from one that is not, the content comes with it.
const FRESH: std::time::Duration = std::time::Duration::from_secs(3600);

/// Seals content on the disk: manifests may hold secrets. Sealed bytes belong to their digest and open at no other.
pub trait ContentSealer: Send + Sync + 'static {
    /// As it is kept; as it is where nobody wants it sealed.
    ///
    /// # Errors
    /// When it cannot be sealed: then it is not kept.
    fn seal(&self, digest: &str, bytes: &[u8]) -> std::io::Result<Vec<u8>>;

    /// As it was given, whatever key it was sealed with; what was never sealed stays as it is.
    ///
    /// # Errors
    /// When its key is not there, or it is damaged.
    fn open(&self, digest: &str, kept: Vec<u8>) -> std::io::Result<Vec<u8>>;

    /// Whether it is kept as it would be now.
    fn is_current(&self, digest: &str, kept: &[u8]) -> bool;
}

/// A directory of files named by their SHA-256. Clones share it.
#[derive(Clone)]
pub struct ContentStore {
    root: Arc<PathBuf>,
    shared: Option<SharedContent>,
    sealer: Option<Arc<dyn ContentSealer>>,
}

impl std::fmt::Debug for ContentStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ContentStore").field("root", &self.root).finish_non_exhaustive()
    }
}

impl ContentStore {
    /// Opens or makes the directory. Without a sealer content is kept as it is.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn open(root: PathBuf, sealer: Option<Arc<dyn ContentSealer>>) -> Result<Self, Error> {
        std::fs::create_dir_all(&root).map_err(Error::file("create", &root))?;
        Ok(Self { root: Arc::new(root), shared: None, sealer })
    }

    /// With a store that several processes share: what is stored is stored there, too, and what is not here is fetched.
    #[must_use]
    pub fn shared(self, store: Arc<dyn storage::Store>) -> Self {
        Self { shared: Some(SharedContent(store)), ..self }
    }

    /// Seals content; none where it is kept as it is.
    pub(crate) fn sealer(&self) -> Option<&Arc<dyn ContentSealer>> {
        self.sealer.as_ref()
    }

    /// What is kept under a digest elsewhere, as it was given.
    async fn fetch(&self, digest: &str) -> Result<Option<Bytes>, Error> {
        let Some(shared) = &self.shared else { return Ok(None) };
        let kept = shared.get(digest).await.map_err(store_failed("fetch content"))?;
        let Some(kept) = kept else { return Ok(None) };
        let plain = match &self.sealer {
            Some(sealer) => sealer.open(digest, kept),
            None => Ok(kept),
        };
        let plain = plain.map_err(Error::file("open content in the store, named", digest))?;
        if fleet_planner::digest(&plain) != digest {
            return Err(Error::Invalid(format!("content {digest} in the store is damaged")));
        }
        Ok(Some(plain.into()))
    }

    async fn share(&self, digest: &str, bytes: &[u8], replace: bool) -> Result<(), Error> {
        let Some(shared) = &self.shared else { return Ok(()) };
        let kept = match &self.sealer {
            Some(sealer) => sealer.seal(digest, bytes).map_err(Error::file("seal content", digest))?,
            None => bytes.to_vec(),
        };
        shared.put(digest, &kept, replace).await.map_err(store_failed("store content"))
    }

    /// Seals anew what the store has: see [`Self::seal_anew`].
    async fn seal_shared_anew(&self) -> Result<usize, Error> {
        let (Some(shared), Some(sealer)) = (&self.shared, &self.sealer) else { return Ok(0) };
        let mut count = 0;
        for digest in shared.digests().await.map_err(store_failed("list content"))? {
            let kept = shared.get(&digest).await.map_err(store_failed("fetch content"))?;
            if kept.is_none_or(|kept| sealer.is_current(&digest, &kept)) {
                continue;
            }
            if let Ok(Some(plain)) = self.fetch(&digest).await {
                self.share(&digest, &plain, true).await?;
                count += 1;
            }
        }
        Ok(count)
    }

    /// Seals anew what was kept before it was to be sealed, or with a key that is not the first any more. Answers how many
    /// files that were. What cannot be read stays as it is.
    ///
    /// # Errors
    /// When the directory cannot be read or a file not be replaced.
    pub async fn seal_anew(&self) -> Result<usize, Error> {
        let store = self.clone();
        let files = blocking(move || store.seal_anew_blocking()).await?;
        Ok(files + self.seal_shared_anew().await?)
    }

    fn seal_anew_blocking(&self) -> Result<usize, Error> {
        let Some(sealer) = &self.sealer else { return Ok(0) };
        let mut count = 0;
        let failed = |path: &Path| Error::file("read", path.to_owned());
        for directory in std::fs::read_dir(self.root.as_path()).map_err(failed(&self.root))? {
            let directory = directory.map_err(failed(&self.root))?.path();
            for file in std::fs::read_dir(&directory).map_err(failed(&directory))? {
                let path = file.map_err(failed(&directory))?.path();
                let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
                let kept = if is_digest(name) { std::fs::read(&path).ok() } else { None };
                let Some(kept) = kept.filter(|kept| !sealer.is_current(name, kept)) else { continue };
                let plain = sealer.open(name, kept).ok().filter(|plain| digest(plain) == name);
                let Some(plain) = plain else { continue };
                self.write(&path, name, &plain)?;
                count += 1;
            }
        }
        Ok(count)
    }

    /// Puts content at its place, whole or not at all.
    fn write(&self, path: &Path, name: &str, bytes: &[u8]) -> Result<(), Error> {
        let directory = path.parent().unwrap_or(&self.root);
        let temporary = directory.join(format!(".{}", uuid::Uuid::new_v4()));
        let written = match &self.sealer {
            Some(sealer) => sealer.seal(name, bytes).and_then(|sealed| write_synced(&temporary, &sealed)),
            None => write_synced(&temporary, bytes),
        };
        written.and_then(|()| std::fs::rename(&temporary, path)).map_err(|source| {
            // Best effort: a left-over temporary file is never read.
            let _ = std::fs::remove_file(&temporary);
            Error::File { operation: "write", path: path.to_owned(), source }
        })
    }

    fn path(&self, digest: &str) -> PathBuf {
        self.root.join(&digest[..2]).join(digest)
    }

    /// Stores bytes; answers their digest once they are durable. Storing them again changes nothing.
    ///
    /// # Errors
    /// When the disk refuses.
    pub async fn put(&self, bytes: Bytes) -> Result<String, Error> {
        let (store, own) = (self.clone(), bytes.clone());
        let name = blocking(move || store.put_blocking(&own)).await?;
        self.share(&name, &bytes, false).await?;
        Ok(name)
    }

    fn put_blocking(&self, bytes: &[u8]) -> Result<String, Error> {
        let name = digest(bytes);
        let path = self.path(&name);
        if path.exists() {
            // It counts as new again: whoever stores it is about to name it.
            let touched = std::fs::File::options().write(true).open(&path);
            let touched = touched.and_then(|file| file.set_modified(std::time::SystemTime::now()));
            return touched.map(|()| name).map_err(Error::file("touch", &path));
        }
        let dir = self.root.join(&name[..2]);
        std::fs::create_dir_all(&dir).map_err(Error::file("create", &dir))?;
        self.write(&path, &name, bytes)?;
        sync_directory(&dir)?;
        sync_directory(&self.root)?;
        Ok(name)
    }

    /// Reads content and checks it. `None`: not there. Damaged content is an error naming the file, never handed out.
    ///
    /// # Errors
    /// When the disk refuses or the bytes are not what their name says.
    pub async fn get(&self, digest: &str) -> Result<Option<Bytes>, Error> {
        if let Some(here) = self.get_here(digest).await? {
            return Ok(Some(here));
        }
        let fetched = self.fetch(digest).await?;
        if let Some(bytes) = &fetched {
            let (store, own) = (self.clone(), bytes.clone());
            blocking(move || store.put_blocking(&own)).await?;
        }
        Ok(fetched)
    }

    async fn get_here(&self, digest: &str) -> Result<Option<Bytes>, Error> {
        if !is_digest(digest) {
            return Err(Error::Invalid(format!("{digest:?} is not a SHA-256 digest")));
        }
        let (path, wanted) = (self.path(digest), digest.to_owned());
        let sealer = self.sealer.clone();
        let read = move |path: &Path| {
            let kept = std::fs::read(path)?;
            match &sealer {
                // That there is nothing is said by the disk alone.
                Some(sealer) => sealer.open(&wanted, kept).map(|bytes| (wanted, bytes)),
                None => Ok((wanted, kept)),
            }
        };
        blocking(move || match read(&path) {
            Ok((wanted, bytes)) if self::digest(&bytes) == wanted => Ok(Some(Bytes::from(bytes))),
            Ok(_) => Err(Error::File {
                operation: "use damaged content",
                path,
                source: std::io::Error::from(std::io::ErrorKind::InvalidData),
            }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(Error::File { operation: "read", path, source }),
        })
        .await
    }
}

#[async_trait::async_trait]
impl crate::test_runs::ContentSource for ContentStore {
    async fn content(&self, sha256: &str) -> Result<Option<Bytes>, std::io::Error> {
        self.get(sha256).await.map_err(std::io::Error::other)
    }

    async fn has(&self, sha256: &str) -> Result<bool, std::io::Error> {
        if is_digest(sha256) && tokio::fs::try_exists(self.path(sha256)).await? {
            return Ok(true);
        }
        Ok(self.content(sha256).await?.is_some())
    }

    async fn forget(&self, sha256: &str) -> Result<(), std::io::Error> {
        if !is_digest(sha256) {
            return Ok(());
        }
        if let Some(shared) = &self.shared {
            let age = shared.age(sha256).await.map_err(std::io::Error::other)?;
            if age.is_some_and(|age| age >= FRESH) {
                shared.forget(sha256).await.map_err(std::io::Error::other)?;
            }
        }
        let path = self.path(sha256);
        let stored = match tokio::fs::metadata(&path).await {
            Ok(facts) => facts.modified()?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        // A clock that went back makes it new.
        if stored.elapsed().unwrap_or_default() < FRESH {
            return Ok(());
        }
        tokio::fs::remove_file(&path).await
    }
}

fn store_failed(operation: &'static str) -> impl FnOnce(storage::StoreError) -> Error {
    move |source| Error::Store { operation, source }
}

fn write_synced(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn sync_directory(path: &Path) -> Result<(), Error> {
    std::fs::File::open(path).and_then(|dir| dir.sync_all()).map_err(Error::file("sync", path))
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|_| Err(Error::Invalid("the hub is shutting down".to_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn names_mean_their_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let store = ContentStore::open(dir.path().join("content"), None).unwrap();
        let name = store.put(Bytes::from_static(b"hello")).await.unwrap();
        assert_eq!(store.put(Bytes::from_static(b"hello")).await.unwrap(), name);
        assert_eq!(store.get(&name).await.unwrap().unwrap(), "hello");
        assert!(store.get(&digest(b"other")).await.unwrap().is_none());
        assert!(store.get("../../etc/passwd").await.is_err());
        std::fs::write(store.path(&name), b"hellO").unwrap();
        assert!(store.get(&name).await.unwrap_err().to_string().contains("damaged"));
    }

    #[tokio::test]
    async fn what_one_process_stores_another_hands_out() {
        let store: Arc<dyn storage::Store> = Arc::new(storage::model::MemoryStore::default());
        let dir = tempfile::tempdir().unwrap();
        let open =
            |name: &str| ContentStore::open(dir.path().join(name), None).unwrap().shared(store.clone());
        let (one, two) = (open("one"), open("two"));
        // More than one piece, and nothing at all.
        let large = Bytes::from((0..1_500_000_u32).map(|n| n as u8).collect::<Vec<_>>());
        for bytes in [large, Bytes::new()] {
            let name = one.put(bytes.clone()).await.unwrap();
            assert_eq!(two.get(&name).await.unwrap().unwrap(), bytes);
            assert!(two.path(&name).exists(), "fetched once");
        }
        assert!(two.get(&digest(b"other")).await.unwrap().is_none());
        assert_eq!(SharedContent(store.clone()).digests().await.unwrap().len(), 2);
    }

    #[tokio::test]
    async fn content_is_forgotten_once_it_is_old() {
        use crate::test_runs::ContentSource as _;
        let dir = tempfile::tempdir().unwrap();
        let store = ContentStore::open(dir.path().join("content"), None).unwrap();
        let name = store.put(Bytes::from_static(b"hello")).await.unwrap();
        store.forget(&name).await.unwrap();
        assert!(store.get(&name).await.unwrap().is_some(), "what names it may be on its way");
        let age = || {
            let file = std::fs::File::options().write(true).open(store.path(&name)).unwrap();
            file.set_modified(std::time::SystemTime::now() - FRESH * 2).unwrap();
        };
        age();
        store.put(Bytes::from_static(b"hello")).await.unwrap();
        store.forget(&name).await.unwrap();
        assert!(store.get(&name).await.unwrap().is_some(), "stored again, it is new again");
        age();
        store.forget(&name).await.unwrap();
        assert!(store.get(&name).await.unwrap().is_none());
        store.forget(&name).await.unwrap();
        store.forget("../../etc/passwd").await.unwrap();
    }
}
