use storage::{Operation, Store as _, Transaction};
use storage_embedded::EmbeddedStore;

use super::*;

/// A hub's directory, without a hub.
async fn directory(root: &Path) -> PathBuf {
    let hub = root.join("hub");
    for (path, text) in [
        ("pki/ca.key", "private"),
        ("pki/ca.crt", "public"),
        ("data/content/ab/abcd", "content"),
        ("data/content/ab/.half", "being written"),
        ("data/inbox/1/0001.log", "records"),
        ("store-witness.json", "{}"),
        ("admin.kubeconfig", "made at every start"),
    ] {
        let path = hub.join(path);
        std::fs::create_dir_all(path.parent().expect("below the hub")).expect("created");
        std::fs::write(path, text).expect("written");
    }
    std::fs::create_dir_all(hub.join("store")).expect("created");
    let store = EmbeddedStore::open(hub.join("store"), storage_embedded::Options::default()).expect("open");
    let put = Operation::put("/registry/a/b".to_owned(), r#"{"metadata":{"name":"b"}}"#.to_owned());
    store.transact(Transaction { success: vec![put], ..Transaction::default() }).await.expect("put");
    hub
}

async fn backed_up(root: &Path, key: Option<Key>) -> (PathBuf, Contents) {
    let hub = directory(root).await;
    let (snapshot, file) = (root.join("snap"), root.join("backup"));
    backup::snapshot(&Place::Directory(hub.clone()), &snapshot).await.expect("snapshot");
    let contents = write(&hub, &snapshot, &file, key).await.expect("backup");
    (file, contents)
}

const KEY: [u8; 32] = [7; 32];

#[tokio::test]
async fn a_hub_comes_back_with_its_keys_and_content_and_a_new_life() {
    let root = tempfile::tempdir().expect("directory");
    let (file, contents) = backed_up(root.path(), Some(Key::new(&KEY))).await;
    let paths: Vec<&str> = contents.files.iter().map(|file| file.path.as_str()).collect();
    assert_eq!(
        paths,
        ["store.snap", "pki/ca.crt", "pki/ca.key", "data/content/ab/abcd", "data/inbox/1/0001.log"]
    );
    let bytes = std::fs::read(&file).expect("read");
    assert!(!bytes.windows(7).any(|window| window == b"private"), "nothing of it is readable");

    let to = root.path().join("restored");
    assert!(
        restore(&file, &to, None).await.is_err()
            && restore(&file, &to, Some(Key::new(&[8; 32]))).await.is_err()
    );
    assert!(!to.exists() && !root.path().join("restored.restoring").exists(), "whole or not at all");
    assert_eq!(restore(&file, &to, Some(Key::new(&KEY))).await.expect("restored"), contents);
    assert_eq!(std::fs::read(to.join("pki/ca.key")).expect("read"), b"private");
    let life = |dir: &Path| {
        let place = Place::Directory(dir.to_owned());
        async move { backup::verify(&place).await.expect("sound") }
    };
    let (before, after) = (life(&root.path().join("hub")).await, life(&to).await);
    assert_eq!((before.keys, after.damaged), (after.keys, 0));
    assert_ne!(before.incarnation, after.incarnation);
    assert!(restore(&file, &to, Some(Key::new(&KEY))).await.is_err(), "there is a hub already");
}

#[tokio::test]
async fn a_backup_that_was_changed_anywhere_is_refused() {
    for key in [None, Some(KEY)] {
        let root = tempfile::tempdir().expect("directory");
        let (file, contents) = backed_up(root.path(), key.map(|key| Key::new(&key))).await;
        let whole = std::fs::read(&file).expect("read");
        let (changed, to) = (root.path().join("changed"), root.path().join("to"));
        // Every part of the file, but not the ten bytes of gzip's head, of which four are a date that nobody reads.
        let first = if key.is_some() { 0 } else { 10 };
        for at in (first..whole.len()).step_by(whole.len() / 97 + 1) {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            std::fs::write(&changed, bytes).expect("written");
            match restore(&changed, &to, key.map(|key| Key::new(&key))).await {
                Err(_) => {}
                // Some bits of a compressed stream mean nothing; nothing that was kept differs.
                Ok(found) => {
                    assert!(key.is_none() && found == contents, "byte {at}");
                    std::fs::remove_dir_all(&to).expect("removed");
                }
            }
            std::fs::write(&changed, &whole[..at]).expect("written");
            assert!(restore(&changed, &to, key.map(|key| Key::new(&key))).await.is_err(), "cut at {at}");
            assert!(!to.exists());
        }
    }
}

#[test]
fn paths_stay_where_they_belong() {
    for (path, ours) in [
        ("store.snap", true),
        ("pki/ca.key", true),
        ("data/content/ab/cd", true),
        ("pki/../../etc/passwd", false),
        ("/etc/passwd", false),
        ("../x", false),
        ("store/store.redb", false),
        ("", false),
    ] {
        assert_eq!(is_ours(path), ours, "{path}");
    }
}
