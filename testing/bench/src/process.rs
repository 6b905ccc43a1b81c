//! Cold start and idle memory of a spawned server.
//!
//! The command is whatever follows `--`; `{dir}` in it is replaced by an empty directory, and the server is expected to
//! write `admin.kubeconfig` there once its address is known.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use crate::figures::Figure;
use crate::{connect, objects, usage};

/// No server may take longer to start.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a server is left alone before its memory is looked at.
const IDLE: Duration = Duration::from_secs(10);

/// A process that dies with the benchmark.
#[derive(Debug)]
pub struct Server(Child);

impl Server {
    /// Its process.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts the command `rounds` times, each in an empty directory; the last one's memory is looked at when it is idle.
///
/// # Errors
/// When it does not become ready.
pub async fn cold_start(command: &[String], rounds: usize) -> anyhow::Result<Vec<Figure>> {
    let (mut ready, mut first) = (Vec::new(), Vec::new());
    let mut memory = None;
    for round in 0..rounds {
        let dir = tempfile::tempdir()?;
        let began = Instant::now();
        let (server, client) = start(command, dir.path()).await?;
        ready.push(began.elapsed());
        objects::namespace(&client).await?;
        first.push(began.elapsed());
        if round + 1 == rounds {
            tokio::time::sleep(IDLE).await;
            memory = Some(usage::mebibytes(usage::resident(&[server.id()])?));
        }
    }
    let figures = [
        Figure::times("process start to /readyz", ready),
        Figure::times("process start to first namespace", first),
        memory.map(|memory| Figure::one("resident memory, idle for 10 s", memory, "MiB")),
    ];
    Ok(figures.into_iter().flatten().collect())
}

/// Starts a server in an empty directory; returns when it is ready.
///
/// # Errors
/// When it does not become ready.
pub async fn start(command: &[String], dir: &Path) -> anyhow::Result<(Server, kube::Client)> {
    let began = Instant::now();
    let mut server = spawn(command, dir)?;
    let client = wait_ready(&mut server, &dir.join("admin.kubeconfig"), began).await?;
    Ok((server, client))
}

fn spawn(command: &[String], dir: &Path) -> anyhow::Result<Server> {
    let dir = dir.to_string_lossy();
    let mut words = command.iter().map(|word| word.replace("{dir}", &dir));
    let program = words.next().context("no command to start")?;
    let child = Command::new(&program).args(words).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    Ok(Server(child.with_context(|| format!("cannot start {program}"))?))
}

async fn wait_ready(server: &mut Server, kubeconfig: &Path, began: Instant) -> anyhow::Result<kube::Client> {
    loop {
        ensure!(began.elapsed() < PATIENCE, "the server is not ready after {PATIENCE:?}");
        if let Some(status) = server.0.try_wait()? {
            anyhow::bail!("the server ended by itself: {status}");
        }
        // The file may be there half-written: a reading that fails is tried again.
        if kubeconfig.exists()
            && let Ok(client) = connect(Some(kubeconfig)).await
        {
            let request = http_get("/readyz")?;
            if client.request_text(request).await.is_ok() {
                return Ok(client);
            }
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

fn http_get(path: &str) -> anyhow::Result<http::Request<Vec<u8>>> {
    Ok(http::Request::get(path).body(Vec::new())?)
}
