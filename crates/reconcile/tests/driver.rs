//! The driver's promises, with paused time.

#![expect(clippy::unwrap_used, reason = "in a test a failed expectation should break off")]

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use reconcile::{Action, Driver, DriverOptions, Queue, Reconciler};
use tokio::{sync::Semaphore, time::Instant};
use tokio_util::sync::CancellationToken;

/// Notes every start; fails as long as told; waits for a permit each time.
struct Probe {
    starts: Mutex<Vec<(u32, Duration)>>,
    begun: Instant,
    running: Mutex<HashMap<u32, usize>>,
    overlapped: AtomicBool,
    together: AtomicUsize,
    most_together: AtomicUsize,
    permits: Semaphore,
    failures_left: AtomicUsize,
    panics: AtomicBool,
    requeue: Option<Duration>,
}

impl Probe {
    fn new() -> Self {
        Self {
            starts: Mutex::default(),
            begun: Instant::now(),
            running: Mutex::default(),
            overlapped: AtomicBool::new(false),
            together: AtomicUsize::new(0),
            most_together: AtomicUsize::new(0),
            permits: Semaphore::new(0),
            failures_left: AtomicUsize::new(0),
            panics: AtomicBool::new(false),
            requeue: None,
        }
    }

    fn starts(&self) -> Vec<(u32, Duration)> {
        self.starts.lock().unwrap().clone()
    }
}

impl Reconciler for Probe {
    type Key = u32;
    type Error = String;

    async fn reconcile(&self, key: u32) -> Result<Action, String> {
        self.starts.lock().unwrap().push((key, self.begun.elapsed()));
        let before = {
            let mut running = self.running.lock().unwrap();
            let count = running.entry(key).or_default();
            *count += 1;
            *count
        };
        if before > 1 {
            self.overlapped.store(true, Ordering::SeqCst);
        }
        let together = self.together.fetch_add(1, Ordering::SeqCst) + 1;
        self.most_together.fetch_max(together, Ordering::SeqCst);
        self.permits.acquire().await.unwrap().forget();
        self.together.fetch_sub(1, Ordering::SeqCst);
        *self.running.lock().unwrap().get_mut(&key).unwrap() -= 1;
        assert!(!self.panics.swap(false, Ordering::SeqCst), "told to break off");
        if self.failures_left.load(Ordering::SeqCst) > 0 {
            self.failures_left.fetch_sub(1, Ordering::SeqCst);
            return Err("told to fail".to_owned());
        }
        Ok(self.requeue.map_or(Action::Done, Action::RequeueAfter))
    }
}

struct Running {
    probe: Arc<Probe>,
    queue: Queue<u32>,
    status: reconcile::StatusHandle<u32>,
    shutdown: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

fn start(probe: Probe, concurrency: usize) -> Running {
    let probe = Arc::new(probe);
    let queue = Queue::new();
    let shutdown = CancellationToken::new();
    let driver =
        Driver::new(Arc::clone(&probe), queue.clone(), DriverOptions::new("probe").concurrency(concurrency));
    let status = driver.status();
    let task = tokio::spawn(driver.run(shutdown.clone()));
    Running { probe, queue, status, shutdown, task }
}

/// Lets everything that can run without time passing run.
async fn settle() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_asked_for_often_runs_once_and_once_more_when_asked_for_during_work() {
    let running = start(Probe::new(), 4);
    for _ in 0..10 {
        running.queue.add(1);
    }
    settle().await;
    assert_eq!(running.probe.starts().len(), 1);
    for _ in 0..10 {
        running.queue.add(1);
    }
    settle().await;
    assert_eq!(running.probe.starts().len(), 1, "never twice at the same time");
    running.probe.permits.add_permits(10);
    settle().await;
    assert_eq!(running.probe.starts().len(), 2);
    assert!(!running.probe.overlapped.load(Ordering::SeqCst));
    assert!(running.queue.is_idle());
}

#[tokio::test(start_paused = true)]
async fn concurrency_is_bounded() {
    let running = start(Probe::new(), 3);
    for key in 0..20 {
        running.queue.add(key);
    }
    settle().await;
    assert_eq!(running.status.get().in_flight, 3);
    assert_eq!(running.queue.depth(), 17);
    running.probe.permits.add_permits(100);
    settle().await;
    assert_eq!(running.probe.starts().len(), 20);
    assert_eq!(running.probe.most_together.load(Ordering::SeqCst), 3);
}

#[tokio::test(start_paused = true)]
async fn failures_come_back_later_and_later_and_success_resets() {
    let probe = Probe::new();
    probe.failures_left.store(6, Ordering::SeqCst);
    probe.permits.add_permits(1000);
    let running = start(probe, 1);
    running.queue.add(9);
    tokio::time::sleep(Duration::from_millis(12)).await;
    assert!(running.status.failures_of(&9) >= 1);
    tokio::time::sleep(Duration::from_secs(5)).await;
    let starts = running.probe.starts();
    assert_eq!(starts.len(), 7);
    let gaps: Vec<_> = starts.windows(2).map(|pair| pair[1].1 - pair[0].1).collect();
    assert!(gaps.windows(2).all(|pair| pair[1] > pair[0]), "{gaps:?}");
    let status = running.status.get();
    assert_eq!((status.successes, status.failures, status.failing_keys), (1, 6, 0));
    assert_eq!(status.last_error.map(|(_, text)| text).as_deref(), Some("told to fail"));
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_a_failure_like_any_other() {
    let probe = Probe::new();
    probe.panics.store(true, Ordering::SeqCst);
    probe.permits.add_permits(1000);
    let running = start(probe, 1);
    running.queue.add(4);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(running.probe.starts().len(), 2);
    assert_eq!(running.status.get().successes, 1);
}

#[tokio::test(start_paused = true)]
async fn the_earliest_delay_counts_and_an_immediate_request_replaces_it() {
    let probe = Probe::new();
    probe.permits.add_permits(1000);
    let running = start(probe, 1);
    running.queue.add_after(1, Duration::from_secs(10));
    running.queue.add_after(1, Duration::from_secs(3));
    running.queue.add_after(1, Duration::from_secs(20));
    running.queue.add_after(2, Duration::from_secs(60));
    settle().await;
    running.queue.add(2);
    tokio::time::sleep(Duration::from_secs(100)).await;
    let starts: Vec<_> = running.probe.starts().into_iter().map(|(key, at)| (key, at.as_secs())).collect();
    assert_eq!(starts, [(2, 0), (1, 3)]);
}

#[tokio::test(start_paused = true)]
async fn requeue_after_brings_the_key_back() {
    let mut probe = Probe::new();
    probe.requeue = Some(Duration::from_secs(1));
    probe.permits.add_permits(1000);
    let running = start(probe, 1);
    running.queue.add(1);
    tokio::time::sleep(Duration::from_millis(3500)).await;
    assert_eq!(running.probe.starts().len(), 4);
}

#[tokio::test(start_paused = true)]
async fn shutdown_lets_running_work_end_but_not_for_ever() {
    let ends_in_time = start(Probe::new(), 1);
    ends_in_time.queue.add(1);
    settle().await;
    ends_in_time.shutdown.cancel();
    settle().await;
    assert!(!ends_in_time.task.is_finished());
    ends_in_time.queue.add(2);
    ends_in_time.probe.permits.add_permits(10);
    ends_in_time.task.await.unwrap();
    assert_eq!(ends_in_time.probe.starts().len(), 1, "nothing new after shutdown");

    let hangs = start(Probe::new(), 1);
    hangs.queue.add(1);
    settle().await;
    hangs.shutdown.cancel();
    let before = Instant::now();
    hangs.task.await.unwrap();
    assert_eq!(before.elapsed().as_secs(), 5);
}
