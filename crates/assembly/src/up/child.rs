//! One child process, kept running.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use foundation::backoff::Backoff;
use foundation::random::SystemRandom;
use parking_lot::Mutex;
use tokio::process::Command;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::directory;
use super::error::UpError;
use super::event::{Event, Report};
use super::plan::{self, ChildPlan, Layout};
use super::process::{self, ProcessId};

/// How long a child may take to end after SIGTERM, before SIGKILL.
const GRACE: Duration = Duration::from_secs(10);

/// Pauses before a child that crashed is started again.
const RESTART: Backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(30));

/// Who ran for longer than this crashed for a new reason: the pauses begin anew.
const SETTLED: Duration = Duration::from_secs(60);

/// A child that ended so often before it was ready will not become ready.
const HOPELESS: u32 = 3;

/// Bytes after which a log is moved to `NAME.log.1` at the next start of its process.
const LOG_LIMIT: u64 = 16 << 20;

/// How much of a log an error quotes: a screenful.
const TAIL_LINES: usize = 15;

/// A supervised child.
#[derive(Debug)]
pub(crate) struct Child {
    name: String,
    log: PathBuf,
    /// What is run the next time.
    pub(crate) plan: Arc<Mutex<ChildPlan>>,
    failures: watch::Receiver<u32>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

/// Starts children and keeps them.
pub(crate) struct Nursery {
    pub(crate) layout: Layout,
    pub(crate) executable: PathBuf,
    pub(crate) report: Report,
    pub(crate) children: Vec<Child>,
}

impl std::fmt::Debug for Nursery {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Nursery").field("children", &self.children).finish_non_exhaustive()
    }
}

impl Nursery {
    /// Starts a child; its place among the children.
    pub(crate) fn start(&mut self, plan: ChildPlan) -> usize {
        let (told, failures) = watch::channel(0);
        let stop = CancellationToken::new();
        let (name, log) = (plan.name.clone(), self.layout.log(&plan.name));
        let plan = Arc::new(Mutex::new(plan));
        let keeper = Keeper {
            pid_file: self.layout.pid(&name),
            log: log.clone(),
            executable: self.executable.clone(),
            report: Arc::clone(&self.report),
            plan: Arc::clone(&plan),
            name: name.clone(),
            told,
        };
        let task = tokio::spawn(keeper.keep(stop.clone()));
        self.children.push(Child { name, log, plan, failures, stop, task });
        self.children.len() - 1
    }

    /// Ends all, agents before clusters before the hub; those of a kind together.
    pub(crate) async fn end(&mut self) {
        for rank in 0..=u8::MAX {
            let (now, later) = std::mem::take(&mut self.children)
                .into_iter()
                .partition(|child: &Child| plan::stop_rank(&child.name) <= rank);
            self.children = later;
            for child in &now {
                child.stop.cancel();
            }
            for child in now {
                if let Err(panic) = child.task.await {
                    tracing::error!(%panic, child = child.name, "failed to end a process");
                }
            }
            if self.children.is_empty() {
                return;
            }
        }
    }
}

impl Child {
    /// Ends with an error when the child ends again and again.
    pub(crate) fn hopeless(&self) -> impl Future<Output = UpError> + Send + use<> {
        let (mut failures, name, log) = (self.failures.clone(), self.name.clone(), self.log.clone());
        async move {
            if failures.wait_for(|failures| *failures >= HOPELESS).await.is_err() {
                // The keeper was told to stop; whoever waits is, too.
                std::future::pending::<()>().await;
            }
            let tail = tail(&log);
            UpError::Child { name, log, tail }
        }
    }
}

struct Keeper {
    name: String,
    plan: Arc<Mutex<ChildPlan>>,
    pid_file: PathBuf,
    log: PathBuf,
    executable: PathBuf,
    report: Report,
    told: watch::Sender<u32>,
}

impl Keeper {
    async fn keep(self, stop: CancellationToken) {
        let mut failures = 0_u32;
        loop {
            let started = Instant::now();
            let ended = match self.spawn() {
                Ok(child) => match watch_over(child, &stop).await {
                    Some(ended) => ended,
                    None => break,
                },
                Err(error) => format!("could not be started: {error}"),
            };
            failures = if started.elapsed() > SETTLED { 1 } else { failures.saturating_add(1) };
            self.told.send_replace(failures);
            let pause = RESTART.delay(failures, &SystemRandom);
            (self.report)(Event::Restarting { name: self.name.clone(), ended, pause });
            if stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
                break;
            }
        }
        if let Err(error) = directory::remove(&self.pid_file) {
            tracing::warn!(%error, "failed to remove a pid file");
        }
    }

    fn spawn(&self) -> std::io::Result<tokio::process::Child> {
        if std::fs::metadata(&self.log).is_ok_and(|log| log.len() > LOG_LIMIT) {
            std::fs::rename(&self.log, self.log.with_extension("log.1"))?;
        }
        let log = File::options().create(true).append(true).open(&self.log)?;
        let plan = self.plan.lock().clone();
        let mut command = Command::new(&self.executable);
        command
            .args(&plan.arguments)
            .envs(plan.environment)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            // Ctrl-C in a terminal goes to the whole group; children are ended in order instead.
            .process_group(0)
            .kill_on_drop(true);
        let child = command.spawn()?;
        if let Some(process) = child.id().and_then(ProcessId::of)
            && let Err(error) = process.write(&self.pid_file)
        {
            return Err(std::io::Error::other(error));
        }
        Ok(child)
    }
}

/// How the child ended by itself; `None` when it was ended because of `stop`.
async fn watch_over(mut child: tokio::process::Child, stop: &CancellationToken) -> Option<String> {
    if let Some(ended) = stop.run_until_cancelled(child.wait()).await {
        return Some(match ended {
            Ok(status) => status.to_string(),
            Err(error) => format!("cannot be watched: {error}"),
        });
    }
    if let Some(pid) = child.id() {
        process::terminate(pid);
    }
    if tokio::time::timeout(GRACE, child.wait()).await.is_err() {
        // Fails only when it has just ended.
        let _ = child.kill().await;
    }
    None
}

/// The last lines of a log.
pub(crate) fn tail(log: &Path) -> String {
    use std::io::{Read, Seek, SeekFrom};
    let read = || {
        let mut file = File::open(log)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(16 << 10)))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok::<_, std::io::Error>(String::from_utf8_lossy(&bytes).into_owned())
    };
    let text = read().unwrap_or_else(|error| format!("(cannot be read: {error})"));
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
}
