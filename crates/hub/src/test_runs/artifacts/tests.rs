use super::*;

fn place(sha256: &str) -> Place<'_> {
    Place { run_uid: "run-1", cluster: "dev", sha256 }
}

fn chunk(content: &[u8], from: usize, to: usize) -> Chunk {
    let bytes = Bytes::copy_from_slice(&content[from..to]);
    Chunk { offset: from as u64, size: content.len() as u64, sha256: fleet_planner::digest(&bytes), bytes }
}

fn content() -> Vec<u8> {
    (0..3_000_000_u32).map(|number| (number / 7) as u8).collect()
}

#[tokio::test]
async fn a_file_comes_in_pieces_also_over_a_restart_and_is_whole_by_its_digest() {
    let dir = tempfile::tempdir().expect("a directory");
    let content = content();
    let sha256 = fleet_planner::digest(&content);
    let store = ArtifactStore::open(dir.path().to_owned(), 1 << 30, &RecordKey::default()).expect("opens");
    assert_eq!(store.state(place(&sha256)).await.expect("a state"), ArtifactState::default());
    store.append(place(&sha256), chunk(&content, 0, 1_000_000)).await.expect("taken");
    // Another life: the digest of what is there is found anew.
    let store = ArtifactStore::open(dir.path().to_owned(), 1 << 30, &RecordKey::default()).expect("opens");
    let state = store.state(place(&sha256)).await.expect("a state");
    assert_eq!((state.received, state.whole), (1_000_000, false));
    let told = store.append(place(&sha256), chunk(&content, 0, 500)).await.expect_err("not where it is");
    assert_eq!(told.code, 409);
    store.append(place(&sha256), chunk(&content, 1_000_000, 2_000_000)).await.expect("taken");
    assert!(store.open_whole("run-1", &sha256).await.is_none(), "it is not whole yet");
    let state = store.append(place(&sha256), chunk(&content, 2_000_000, 3_000_000)).await.expect("taken");
    assert!(state.whole);
    let (_, size) = store.open_whole("run-1", &sha256).await.expect("whole");
    assert_eq!(size, 3_000_000);
    // Whoever sends it again need not.
    assert!(store.state(Place { cluster: "prod", ..place(&sha256) }).await.expect("a state").whole);
    assert!(store.open_whole("run-2", &sha256).await.is_none(), "it is this run's");
}

#[tokio::test]
async fn what_was_damaged_on_the_way_comes_anew() {
    let dir = tempfile::tempdir().expect("a directory");
    let content = b"a trace ".repeat(40_000);
    let sha256 = fleet_planner::digest(&content);
    let partial = dir.path().join("run-1").join(format!("{sha256}.dev.partial"));
    let open = |number: u8| {
        let key = RecordKey::of([number; sealing::KEY_BYTES]);
        ArtifactStore::open(dir.path().to_owned(), 1 << 30, &key).expect("opens")
    };
    // A bit in the middle of what came, which another life of the hub reads again; and another key.
    for (damage, key) in [(true, 7), (false, 8)] {
        open(7).append(place(&sha256), chunk(&content, 0, 200_001)).await.expect("taken");
        let mut kept = std::fs::read(&partial).expect("what came");
        kept[1000] ^= u8::from(damage);
        std::fs::write(&partial, kept).expect("written");
        let store = open(key);
        let refused = store.append(place(&sha256), chunk(&content, 200_001, content.len())).await;
        assert_eq!(refused.expect_err("damaged").code, 409);
        assert_eq!(store.state(place(&sha256)).await.expect("a state").received, 0);
        store.append(place(&sha256), chunk(&content, 0, content.len())).await.expect("taken");
        std::fs::remove_file(dir.path().join("run-1").join(&sha256)).expect("whole");
    }
}

#[tokio::test]
async fn what_is_kept_is_unreadable_without_the_key() {
    let dir = tempfile::tempdir().expect("a directory");
    let key = RecordKey::of([7; sealing::KEY_BYTES]);
    let store = ArtifactStore::open(dir.path().to_owned(), 1 << 30, &key).expect("opens");
    let content = b"CANARY of a trace ".repeat(30_000);
    let sha256 = fleet_planner::digest(&content);
    store.append(place(&sha256), chunk(&content, 0, 100_001)).await.expect("taken");
    // Another life, which goes on in the middle of a piece.
    let store = ArtifactStore::open(dir.path().to_owned(), 1 << 30, &key).expect("opens");
    assert_eq!(store.state(place(&sha256)).await.expect("a state").received, 100_001);
    let state = store.append(place(&sha256), chunk(&content, 100_001, content.len())).await.expect("taken");
    assert_eq!((state.whole, state.received), (true, content.len() as u64));
    let kept = std::fs::read(dir.path().join("run-1").join(&sha256)).expect("a file");
    assert!(!kept.windows(6).any(|window| window == b"CANARY"));
    let (mut file, size) = store.open_whole("run-1", &sha256).await.expect("whole");
    assert_eq!(size, content.len() as u64);
    file.seek(70_000).expect("there");
    assert!(file.next(usize::MAX).expect("read") == content[70_000..]);
    let other = ArtifactStore::open(dir.path().to_owned(), 1 << 30, &RecordKey::default()).expect("opens");
    assert!(other.open_whole("run-1", &sha256).await.is_none());
}

#[tokio::test]
async fn what_is_not_what_it_is_called_is_not_kept() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = ArtifactStore::open(dir.path().to_owned(), 1 << 30, &RecordKey::default()).expect("opens");
    let content = content();
    let other = fleet_planner::digest(b"other");
    let half = content.len() / 2;
    store.append(place(&other), chunk(&content, 0, half)).await.expect("taken");
    let told =
        store.append(place(&other), chunk(&content, half, content.len())).await.expect_err("found out");
    assert_eq!(told.code, 422, "{}", told.message);
    assert_eq!(store.state(place(&other)).await.expect("a state"), ArtifactState::default());
    let mut damaged = chunk(&content, 0, half);
    damaged.sha256 = other.clone();
    assert_eq!(store.append(place(&other), damaged).await.expect_err("damaged").code, 400);
    assert!(store.state(place("../../etc/passwd")).await.is_err());
    let outside = Place { run_uid: "../..", cluster: "../x", sha256: &other };
    store.append(outside, chunk(&content, 0, half)).await.expect("taken, but here");
    assert!(!dir.path().join("../x").exists());
}

#[tokio::test]
async fn a_run_keeps_no_more_than_it_may_and_says_so() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = ArtifactStore::open(dir.path().to_owned(), 4_000_000, &RecordKey::default()).expect("opens");
    let (one, two) = (content(), vec![7; 2_000_000]);
    let (first, second) = (fleet_planner::digest(&one), fleet_planner::digest(&two));
    store.append(place(&first), chunk(&one, 0, one.len())).await.expect("taken");
    let told = store.append(place(&second), chunk(&two, 0, 1000)).await.expect_err("too much");
    assert_eq!(told.code, 413);
    let state = store.state(place(&second)).await.expect("a state");
    assert!(state.refused.is_some_and(|why| why.contains("3000000 of 4000000 bytes are taken")));
    // Another run has its own.
    let other = Place { run_uid: "run-2", ..place(&second) };
    assert!(store.append(other, chunk(&two, 0, two.len())).await.expect("taken").whole);
}
