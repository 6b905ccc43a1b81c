use std::collections::VecDeque;

use async_trait::async_trait;
use fleet_objects::test_run::Artifact;
use workflow::collect::digest;
use workflow::mask::Mask;

use super::*;
use crate::executor::LargeFile;

fn artifact(content: &[u8]) -> Artifact {
    Artifact { path: "x".into(), sha256: digest(content), size: content.len() as u64, ..Artifact::default() }
}

fn owner() -> Owner {
    Owner { execution: "smoke-1".into(), uid: "uid-1".into() }
}

fn files() -> Files {
    Files::sealed(Arc::new(sealing::BulkKey::new(&[1; sealing::KEY_BYTES])))
}

/// Is told of losses, once it may be.
#[derive(Default)]
struct Told {
    later: Mutex<usize>,
    told: Mutex<Vec<(String, String, String)>>,
}

#[async_trait]
impl Losses for Told {
    async fn tell(&self, owner: &Owner, sha256: &str, reason: &str) -> bool {
        let mut later = self.later.lock();
        if *later > 0 {
            *later -= 1;
            return false;
        }
        self.told.lock().push((owner.execution.clone(), sha256.to_owned(), reason.to_owned()));
        true
    }
}

/// Answers as it is told to, then takes everything.
#[derive(Default)]
struct Hub {
    answers: Mutex<VecDeque<SinkError>>,
    taken: Mutex<Vec<(String, String, Vec<u8>)>>,
}

#[async_trait]
impl ContentUpload for Hub {
    async fn put(&self, _: &str, content: Vec<u8>) -> Result<(), SinkError> {
        self.taken.lock().push((String::new(), String::new(), content));
        Ok(())
    }

    async fn send(&self, file: &LargeFile) -> Result<(), SinkError> {
        if let Some(error) = self.answers.lock().pop_front() {
            return Err(error);
        }
        let content = file.piece(0, usize::MAX).unwrap();
        assert_eq!(content.len() as u64, file.size);
        self.taken.lock().push((file.execution.clone(), file.uid.clone(), content));
        Ok(())
    }
}

#[tokio::test]
async fn what_came_is_found_again_and_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let content: Vec<u8> = (0..200_000_u32).map(|number| (number % 251) as u8).collect();
    let wanted = artifact(&content);
    let spool = Spool::open(dir.path().to_owned(), 1 << 20, files()).unwrap();
    let mut incoming = spool.begin("pod-1", &wanted).await.unwrap();
    incoming.write(&content[..70_000]).await.unwrap();
    incoming.pause().await.unwrap();
    drop(incoming);
    let spool = Spool::open(dir.path().to_owned(), 1 << 20, files()).unwrap();
    let mut incoming = spool.begin("pod-1", &wanted).await.unwrap();
    assert_eq!(incoming.length(), 70_000);
    incoming.write(&content[70_000..]).await.unwrap();
    assert_eq!(incoming.digest(), wanted.sha256);
    let told = spool.arrived(incoming, &owner(), &wanted, Arc::default()).await.unwrap();
    assert_eq!(told, (wanted.sha256.clone(), wanted.size));
    // An agent that is started anew reads the collector's log again, and does not take it twice.
    assert_eq!(spool.taken("pod-1", &wanted).await, Some(told));
    // A hub that is away, then one that has not been told of the run, then all is well.
    let hub = Hub::default();
    hub.answers.lock().extend([SinkError::Unavailable("away".into()), SinkError::Unknown]);
    assert!(spool.pass_large(&hub, &Told::default()).await && spool.pass_large(&hub, &Told::default()).await);
    assert!(!spool.pass_large(&hub, &Told::default()).await);
    assert_eq!(*hub.taken.lock(), [("smoke-1".to_owned(), "uid-1".to_owned(), content)]);
    spool.forget("pod-1").await;
    assert_eq!(used(dir.path()), 0, "nothing is left behind");
}

#[tokio::test]
async fn what_was_damaged_comes_anew() {
    let dir = tempfile::tempdir().unwrap();
    let content = vec![7; 300_000];
    let wanted = artifact(&content);
    let spool = Spool::open(dir.path().to_owned(), 1 << 20, files()).unwrap();
    for place in [1000, 190_000] {
        let mut incoming = spool.begin("pod-1", &wanted).await.unwrap();
        incoming.write(&content[..200_000]).await.unwrap();
        incoming.pause().await.unwrap();
        drop(incoming);
        let partial = dir.path().join("incoming/pod-1").join(format!("{}.partial", wanted.sha256));
        let mut kept = std::fs::read(&partial).unwrap();
        kept[place] ^= 1;
        std::fs::write(&partial, kept).unwrap();
        assert_eq!(spool.begin("pod-1", &wanted).await.unwrap().length(), 0);
    }
}

#[tokio::test]
async fn what_was_not_handed_on_when_the_agent_ended_is_handed_on_later() {
    let secret = Arc::new(Mask::new(["hunter22".as_bytes().to_vec()].iter()).unwrap());
    for (content, mask) in [(&b"as it is"[..], Arc::default()), (b"it is hunter22, really", secret)] {
        let dir = tempfile::tempdir().unwrap();
        let wanted = artifact(content);
        let spool = Spool::open(dir.path().to_owned(), 1 << 20, files()).unwrap();
        let mut incoming = spool.begin("pod-1", &wanted).await.unwrap();
        incoming.write(content).await.unwrap();
        // Where it would go there is something else: as if the agent had ended right before it moves it.
        let ready = dir.path().join("large");
        std::fs::write(&ready, "").unwrap();
        spool.arrived(incoming, &owner(), &wanted, Arc::clone(&mask)).await.unwrap_err();
        std::fs::remove_file(ready).unwrap();
        let spool = Spool::open(dir.path().to_owned(), 1 << 20, files()).unwrap();
        assert_eq!(spool.taken("pod-1", &wanted).await, None);
        let incoming = spool.begin("pod-1", &wanted).await.unwrap();
        assert_eq!((incoming.length(), incoming.digest()), (wanted.size, wanted.sha256.clone()));
        let told = spool.arrived(incoming, &owner(), &wanted, mask).await.unwrap();
        assert_eq!(spool.taken("pod-1", &wanted).await, Some(told));
        let hub = Hub::default();
        assert!(!spool.pass_large(&hub, &Told::default()).await);
        assert_eq!(hub.taken.lock().len(), 1);
    }
}

#[tokio::test]
async fn there_is_room_for_so_much_and_no_more() {
    let dir = tempfile::tempdir().unwrap();
    let spool = Spool::open(dir.path().to_owned(), 1000, Files::default()).unwrap();
    let (one, two) = (artifact(&[1; 600]), artifact(&[2; 600]));
    let first = spool.begin("pod-1", &one).await.unwrap();
    let why = spool.begin("pod-1", &two).await.err().unwrap();
    assert!(
        why.contains("600 bytes are more than the agent has room for: 400 of 1000 bytes are left"),
        "{why}"
    );
    assert!(
        matches!(spool.put(&owner(), "a", vec![0; 500]).await, Err(SinkError::Full)),
        "room is kept for what comes"
    );
    drop(first);
    spool.begin("pod-1", &two).await.unwrap();
    for name in ["../x", "", ".hidden", "a/b"] {
        assert!(spool.begin(name, &one).await.is_err(), "{name}");
    }
}

#[tokio::test]
async fn a_refused_file_is_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let spool = Spool::open(dir.path().to_owned(), 1 << 20, files()).unwrap();
    let wanted = artifact(b"abc");
    let mut incoming = spool.begin("pod-1", &wanted).await.unwrap();
    incoming.write(b"abc").await.unwrap();
    spool.arrived(incoming, &owner(), &wanted, Arc::default()).await.unwrap();
    let (hub, told) = (Hub::default(), Told::default());
    hub.answers.lock().push_back(SinkError::Refused("too much".into()));
    assert!(!spool.pass_large(&hub, &told).await);
    assert_eq!(*told.told.lock(), [("smoke-1".to_owned(), wanted.sha256, "too much".to_owned())]);
    assert!(hub.taken.lock().is_empty());
    assert_eq!(used(&dir.path().join("large")), 0);
}

#[tokio::test]
async fn a_text_is_handed_on_without_secrets_wherever_they_stand() {
    let dir = tempfile::tempdir().unwrap();
    let spool = Spool::open(dir.path().to_owned(), 64 << 20, files()).unwrap();
    let secret = "correct horse battery staple";
    let mask = Arc::new(Mask::new([secret]).unwrap());
    // Over the borders of what is looked at once, in the middle of characters of several bytes.
    let text = format!("ä{}", format!("{}{secret}ß\n", "€".repeat(31)).repeat(40_000));
    let masked = text.replace(secret, "*****");
    for (content, wanted) in [
        (text.clone().into_bytes(), masked.into_bytes()),
        ([text.as_bytes(), &[0xff]].concat(), [text.as_bytes(), &[0xff]].concat()),
        (vec![b'a'; 3_000_000], vec![b'a'; 3_000_000]),
    ] {
        let artifact = artifact(&content);
        let mut incoming = spool.begin("pod-1", &artifact).await.unwrap();
        incoming.write(&content).await.unwrap();
        let told = spool.arrived(incoming, &owner(), &artifact, Arc::clone(&mask)).await.unwrap();
        assert_eq!(told, (digest(&wanted), wanted.len() as u64));
        let hub = Hub::default();
        assert!(!spool.pass_large(&hub, &Told::default()).await);
        assert!(hub.taken.lock()[0].2 == wanted, "another file of {} bytes", wanted.len());
    }
}

fn below(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .flat_map(|entry| if entry.path().is_dir() { below(&entry.path()) } else { vec![entry.path()] })
        .collect()
}

#[tokio::test]
async fn what_waits_is_unreadable_and_what_the_disk_damages_is_told_once() {
    let dir = tempfile::tempdir().unwrap();
    let spool = Spool::open(dir.path().to_owned(), 64 << 20, files()).unwrap();
    let small = b"CANARY of a report".to_vec();
    let large = b"CANARY of a trace ".repeat(20_000);
    spool.put(&owner(), &digest(&small), small.clone()).await.unwrap();
    let wanted = artifact(&large);
    let mut incoming = spool.begin("pod-1", &wanted).await.unwrap();
    incoming.write(&large).await.unwrap();
    spool.arrived(incoming, &owner(), &wanted, Arc::default()).await.unwrap();
    let all = below(dir.path());
    let of = |sha256: &str| all.iter().find(|path| path.ends_with(sha256)).cloned().unwrap();
    for path in &all {
        assert!(!std::fs::read(path).unwrap().windows(6).any(|window| window == b"CANARY"), "{path:?}");
    }
    let stop = CancellationToken::new();
    let (hub, told) = (Hub::default(), Told { later: Mutex::new(2), ..Told::default() });
    for sha256 in [&digest(&small), &wanted.sha256] {
        let path = of(sha256);
        let mut bytes = std::fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&path, bytes).unwrap();
    }
    // The hub finds out of a large one as the uploader does.
    hub.answers.lock().push_back(SinkError::Refused(DAMAGED.into()));
    assert!(spool.pass_small(&hub, &told, &stop).await, "its result was not told yet");
    assert!(spool.pass_large(&hub, &told).await);
    // After a restart, too.
    let spool = Spool::open(dir.path().to_owned(), 64 << 20, files()).unwrap();
    assert!(!spool.pass_small(&hub, &told, &stop).await);
    assert!(!spool.pass_large(&hub, &told).await);
    let lost = |sha256: String| ("smoke-1".to_owned(), sha256, DAMAGED.to_owned());
    assert_eq!(*told.told.lock(), [lost(digest(&small)), lost(wanted.sha256)]);
    assert!(hub.taken.lock().is_empty());
    spool.forget("pod-1").await;
    assert_eq!(below(dir.path()), Vec::<PathBuf>::new(), "nothing is left behind");
    // What is whole is handed on, also what an earlier release left.
    std::fs::write(dir.path().join(digest(b"old")), b"old").unwrap();
    spool.put(&owner(), &digest(&small), small.clone()).await.unwrap();
    assert!(!spool.pass_small(&hub, &told, &stop).await);
    let taken: Vec<_> = hub.taken.lock().iter().map(|(.., content)| content.clone()).collect();
    assert_eq!(taken, [b"old".to_vec(), small]);
}
