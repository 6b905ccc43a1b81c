//! Archives are whole, the same every time, and damage is named.

use std::collections::BTreeMap;

use container_images::archive::{self, Config, Entry};
use container_images::load::{self, LoadError};

fn image() -> Vec<u8> {
    let config = Config {
        reference: "example.org/a:b".to_owned(),
        entrypoint: vec!["/a".to_owned()],
        command: Vec::new(),
        architecture: "amd64".to_owned(),
    };
    let entries = BTreeMap::from([
        ("dir".to_owned(), Entry::Directory { mode: 0o755 }),
        ("dir/file".to_owned(), Entry::File { content: b"content of the file".to_vec(), mode: 0o644 }),
        ("link".to_owned(), Entry::Link { target: "dir/file".to_owned() }),
    ]);
    archive::write(&config, &entries, Vec::new()).expect("written")
}

#[test]
fn an_archive_is_the_same_every_time_and_verifies() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("image.tar");
    assert_eq!(image(), image());
    std::fs::write(&path, image()).expect("written");
    let verified = load::verify(&path).expect("whole");
    assert_eq!(verified.names, ["example.org/a:b"]);
    assert_eq!(verified.blobs, 3);
}

#[test]
fn damage_is_named() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("image.tar");
    let why = |content: &[u8]| {
        std::fs::write(&path, content).expect("written");
        load::verify(&path).expect_err("damaged").to_string()
    };
    let mut flipped = image();
    let at = flipped.windows(11).position(|window| window == b"content of ").expect("there");
    flipped[at] ^= 1;
    assert!(why(&flipped).contains("is damaged"), "{}", why(&flipped));
    assert!(why(b"hello, this is no tar archive at all").contains("not a usable image archive"));
    let half = image();
    assert!(why(&half[..half.len() / 2]).contains("is not a usable image archive"));
    assert!(matches!(load::verify(&dir.path().join("none")), Err(LoadError::Read { .. })));
}
