//! A disk that is really full: a small tmpfs. Skipped, with a message, where mounting is not allowed.

use std::fs;
use std::path::Path;
use std::process::Command;

use durable_log::{Log, LogError};
use storage::{KeyRange, Operation, RangeRequest, Store, StoreError, Transaction};
use storage_embedded::{EmbeddedStore, Options};

struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount(megabytes: u32) -> Option<Self> {
        let dir = tempfile::tempdir().expect("dir");
        let size = format!("size={megabytes}m");
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(dir.path()).output();
        match mounted {
            Ok(output) if output.status.success() => Some(Self(dir)),
            why => {
                eprintln!("skipped: a tmpfs cannot be mounted here: {why:?}");
                None
            }
        }
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// Takes all that is left.
    fn fill(&self) {
        let file = fs::File::create(self.path().join("ballast")).expect("create");
        let mut file = std::io::BufWriter::with_capacity(4096, file);
        while std::io::Write::write_all(&mut file, &[0; 4096]).is_ok() {}
        let (_file, _unwritten) = file.into_parts();
    }

    fn empty(&self) {
        fs::remove_file(self.path().join("ballast")).expect("remove");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}

#[tokio::test]
async fn a_log_on_a_full_disk_says_so_keeps_what_it_has_and_can_still_be_acknowledged() {
    let Some(disk) = SmallDisk::mount(2) else { return };
    let options = durable_log::Options { max_bytes: 1 << 30, segment_bytes: 128 << 10, fsync: true };
    let log = Log::open(disk.path().join("log"), options).await.expect("open");
    let mut appended = 0;
    let error = loop {
        match log.append(&[7; 3000]).await {
            Ok(sequence) => appended = sequence,
            Err(error) => break error,
        }
        assert!(appended < 10_000, "the disk does not fill up");
    };
    assert!(matches!(error, LogError::NoSpace { .. }), "{error}");
    disk.fill();
    assert!(matches!(log.append(&[7; 8000]).await, Err(LogError::NoSpace { .. })));
    let read = log.read_from(0, usize::MAX, usize::MAX).await.expect("read");
    assert_eq!(read.len() as u64, appended);
    log.acknowledge(appended / 2).await.expect("acknowledging needs no space");
    assert_eq!(log.append(&[7; 3000]).await.expect("it made some"), appended + 1);
    drop(log);
    let log = Log::open(disk.path().join("log"), options).await.expect("open again");
    assert_eq!((log.first(), log.next_sequence()), (appended / 2 + 1, appended + 2));
}

#[tokio::test]
async fn a_store_on_a_full_disk_says_so_keeps_reading_and_goes_on_when_there_is_room() {
    let Some(disk) = SmallDisk::mount(6) else { return };
    let store = EmbeddedStore::open(disk.path().join("store"), Options::default()).expect("open");
    let put = async |key: String| {
        let success = vec![Operation::put(key, vec![7; 20_000])];
        store.transact(Transaction { success, ..Transaction::default() }).await.map(|done| done.revision)
    };
    put("first".to_owned()).await.expect("put");
    disk.fill();
    let mut written = 1;
    let error = loop {
        match put(format!("{written}")).await {
            Ok(_) => written += 1,
            Err(error) => break error,
        }
        assert!(written < 1000, "the disk does not fill up");
    };
    assert!(matches!(&error, StoreError::NoSpace { .. }), "{error}");
    let all = RangeRequest::all(KeyRange::prefix(""));
    assert_eq!(store.range(all.clone()).await.expect("reads go on").count, written);
    disk.empty();
    put("later".to_owned()).await.expect("there is room again");
    assert_eq!(store.range(all).await.expect("range").count, written + 1);
}
