//! What a log promises, with real files.

use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use durable_log::{Log, LogError, Options, Record};

const SMALL: Options = Options { max_bytes: 8192, segment_bytes: 1024, fsync: false };

async fn open(dir: &Path) -> Log {
    Log::open(dir, SMALL).await.expect("open")
}

async fn all(log: &Log) -> Vec<Record> {
    log.read_from(0, usize::MAX, usize::MAX).await.expect("read")
}

fn segments(dir: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir(dir)
        .expect("list")
        .map(|entry| entry.expect("entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "segment"))
        .collect();
    found.sort();
    found
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("create");
    for entry in fs::read_dir(from).expect("list") {
        let path = entry.expect("entry").path();
        fs::copy(&path, to.join(path.file_name().expect("named"))).expect("copy");
    }
}

#[tokio::test]
async fn appended_records_come_back_in_order_also_after_reopening() {
    let dir = tempfile::tempdir().expect("dir");
    let log = Log::open(dir.path(), Options::default()).await.expect("open");
    let appends = (0..100u32).map(|n| {
        let log = log.clone();
        tokio::spawn(async move { (log.append(&n.to_le_bytes()).await.expect("append"), n) })
    });
    let mut sent = Vec::new();
    for append in appends.collect::<Vec<_>>() {
        sent.push(append.await.expect("join"));
    }
    sent.sort_unstable();
    drop(log);
    let log = Log::open(dir.path(), Options::default()).await.expect("open again");
    let read: Vec<(u64, u32)> = all(&log)
        .await
        .into_iter()
        .map(|r| (r.sequence, u32::from_le_bytes(r.payload.as_ref().try_into().expect("four bytes"))))
        .collect();
    assert_eq!(read, sent);
    assert_eq!((log.first(), log.next_sequence()), (1, 101));
}

#[tokio::test]
async fn reads_are_bounded_but_never_empty_while_there_is_something() {
    let dir = tempfile::tempdir().expect("dir");
    let log = open(dir.path()).await;
    log.append_batch(vec![Bytes::from(vec![1; 100]); 20]).await.expect("append");
    assert_eq!(log.read_from(3, 5, usize::MAX).await.expect("read").len(), 5);
    assert_eq!(log.read_from(3, 100, 250).await.expect("read").len(), 2);
    let one = log.read_from(20, 100, 0).await.expect("read");
    assert_eq!(one.iter().map(|r| r.sequence).collect::<Vec<_>>(), [20]);
    assert!(log.read_from(21, 100, 100).await.expect("read").is_empty());
}

#[tokio::test]
async fn a_full_log_refuses_until_records_are_acknowledged() {
    let dir = tempfile::tempdir().expect("dir");
    let log = open(dir.path()).await;
    let mut appended = 0;
    let full = loop {
        match log.append(&[7; 200]).await {
            Ok(_) => appended += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(full, LogError::Full { records, .. } if records == appended), "{full}");
    assert!(log.usage().used_bytes <= SMALL.max_bytes);
    log.acknowledge(appended).await.expect("acknowledge");
    assert!(all(&log).await.is_empty());
    assert_eq!(log.append(&[7; 200]).await.expect("room again"), appended + 1);
    drop(log);
    let log = open(dir.path()).await;
    assert_eq!((log.first(), log.next_sequence()), (appended + 1, appended + 2));
    assert!(matches!(log.acknowledge(appended + 2).await, Err(LogError::NotAppended { .. })));
}

#[tokio::test]
async fn a_log_is_open_once() {
    let dir = tempfile::tempdir().expect("dir");
    let _log = open(dir.path()).await;
    assert!(matches!(Log::open(dir.path(), SMALL).await, Err(LogError::InUse { .. })));
}

#[tokio::test]
async fn a_tail_torn_at_any_byte_loses_only_that_record() {
    let dir = tempfile::tempdir().expect("dir");
    let log = open(dir.path()).await;
    log.append(b"first").await.expect("append");
    let intact = fs::metadata(&segments(dir.path())[0]).expect("size").len();
    log.append(b"the second record").await.expect("append");
    drop(log);
    let whole = fs::metadata(&segments(dir.path())[0]).expect("size").len();
    for length in intact..whole {
        let torn = tempfile::tempdir().expect("dir");
        copy(dir.path(), torn.path());
        let file = fs::OpenOptions::new().write(true).open(&segments(torn.path())[0]).expect("open");
        file.set_len(length).expect("cut");
        // What a file system may leave behind: the length, but not the content.
        if length % 2 == 1 {
            file.set_len(whole + 50).expect("grow");
        }
        let log = open(torn.path()).await;
        assert_eq!(all(&log).await.len(), 1, "cut at {length}");
        assert_eq!(log.append(b"again").await.expect("append"), 2);
        drop(log);
        assert_eq!(all(&open(torn.path()).await).await[1].payload, "again");
    }
}

#[tokio::test]
async fn a_flipped_bit_before_the_last_group_is_damage_and_never_silent() {
    let dir = tempfile::tempdir().expect("dir");
    let log = open(dir.path()).await;
    for n in 0..3u8 {
        log.append(&[n; 10]).await.expect("append");
    }
    let before_last = fs::metadata(&segments(dir.path())[0]).expect("size").len();
    log.append(b"last").await.expect("append");
    drop(log);
    for at in 0..before_last as usize {
        let bad = tempfile::tempdir().expect("dir");
        copy(dir.path(), bad.path());
        let path = &segments(bad.path())[0];
        let mut bytes = fs::read(path).expect("read");
        bytes[at] ^= 1 << (at % 8);
        fs::write(path, bytes).expect("write");
        match Log::open(bad.path(), SMALL).await {
            Err(LogError::Damaged { path: named, .. }) => assert_eq!(&named, path),
            other => panic!("byte {at}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn missing_files_are_damage() {
    let dir = tempfile::tempdir().expect("dir");
    let log = open(dir.path()).await;
    for _ in 0..20 {
        log.append(&[1; 200]).await.expect("append");
    }
    log.acknowledge(1).await.expect("acknowledge");
    drop(log);
    let names: Vec<PathBuf> = segments(dir.path());
    assert!(names.len() > 3);
    for missing in [&names[0], &names[1], &dir.path().join("acknowledged")] {
        let bad = tempfile::tempdir().expect("dir");
        copy(dir.path(), bad.path());
        fs::remove_file(bad.path().join(missing.file_name().expect("named"))).expect("remove");
        let opened = Log::open(bad.path(), SMALL).await;
        assert!(matches!(opened, Err(LogError::Damaged { .. })), "without {missing:?}: {opened:?}");
    }
    let bad = tempfile::tempdir().expect("dir");
    copy(dir.path(), bad.path());
    segments(bad.path()).iter().for_each(|path| fs::remove_file(path).expect("remove"));
    assert!(matches!(Log::open(bad.path(), SMALL).await, Err(LogError::Damaged { .. })));
}

mod random {
    use super::*;
    use proptest::prelude::*;

    #[derive(Clone, Debug)]
    enum Step {
        Append(Vec<usize>),
        Acknowledge(u64),
        Read(u64, usize, usize),
        Reopen,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            6 => prop::collection::vec(0usize..300, 1..5).prop_map(Step::Append),
            2 => (0u64..20).prop_map(Step::Acknowledge),
            2 => (0u64..60, 1usize..20, 0usize..2000).prop_map(|(a, b, c)| Step::Read(a, b, c)),
            1 => Just(Step::Reopen),
        ]
    }

    async fn run(steps: Vec<Step>) {
        let dir = tempfile::tempdir().expect("dir");
        let mut log = open(dir.path()).await;
        let (mut model, mut acknowledged): (Vec<usize>, u64) = (Vec::new(), 0);
        for step in steps {
            match step {
                Step::Append(sizes) => {
                    let payloads = sizes.iter().map(|size| Bytes::from(vec![9; *size])).collect();
                    match log.append_batch(payloads).await {
                        Ok(range) => {
                            assert_eq!(*range.start(), model.len() as u64 + 1);
                            model.extend(sizes);
                            assert_eq!(*range.end(), model.len() as u64);
                        }
                        Err(error) => assert!(matches!(error, LogError::Full { .. }), "{error}"),
                    }
                }
                Step::Acknowledge(more) => {
                    let through = (acknowledged + more).min(model.len() as u64);
                    log.acknowledge(through).await.expect("acknowledge");
                    acknowledged = through;
                }
                Step::Read(from, records, bytes) => {
                    let read = log.read_from(from, records, bytes).await.expect("read");
                    let start = from.max(acknowledged + 1);
                    let mut left = bytes;
                    let wanted: Vec<(u64, usize)> = (start..=model.len() as u64)
                        .map(|sequence| (sequence, model[sequence as usize - 1]))
                        .take(records)
                        .enumerate()
                        .take_while(|(at, (_, size))| {
                            let fits = *size <= left || *at == 0;
                            left = left.saturating_sub(*size);
                            fits
                        })
                        .map(|(_, record)| record)
                        .collect();
                    let got: Vec<_> = read.iter().map(|r| (r.sequence, r.payload.len())).collect();
                    assert_eq!(got, wanted);
                }
                Step::Reopen => {
                    drop(log);
                    log = open(dir.path()).await;
                }
            }
            assert_eq!((log.first(), log.next_sequence()), (acknowledged + 1, model.len() as u64 + 1));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn histories_agree_with_a_vector(steps in prop::collection::vec(step(), 1..60)) {
            tokio::runtime::Builder::new_current_thread().build().expect("runtime").block_on(run(steps));
        }
    }
}
