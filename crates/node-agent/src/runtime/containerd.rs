//! A containerd of our own: its configuration, its process, and the pod network it sets up.
//!
//! Everything lies in one directory, so that it meets no other containerd of the machine. The process is started in a
//! process group of its own and outlives us unless it is stopped: a restarted agent finds it by its socket. Several
//! nodes may share it.

mod config;

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

/// How long containerd may take until its socket answers.
const START: Duration = Duration::from_secs(20);
/// How long it may take to stop; containers' shims stay.
const STOP: Duration = Duration::from_secs(10);
/// Where distributions put network plugins.
const CNI_DIRS: &[&str] = &["/usr/lib/cni", "/opt/cni/bin", "/usr/libexec/cni"];

/// What a private containerd is told.
#[derive(Clone, Debug)]
pub struct ContainerdOptions {
    /// Its directory. A socket's path has at most 107 bytes: keep it short.
    pub dir: PathBuf,
    /// The image of sandboxes, which must have been imported: the tool image.
    pub sandbox_image: String,
    /// The pods' network, `10.201.0.0/16`; `None` takes the first block that no route of the machine meets.
    pub pod_network: Option<String>,
}

impl ContainerdOptions {
    /// Usual values.
    #[must_use]
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into(), sandbox_image: tool_image::TOOL_IMAGE.to_owned(), pod_network: None }
    }
}

/// Why there is no containerd.
#[derive(Debug, thiserror::Error)]
pub enum ContainerdError {
    /// Containers need root.
    #[error("real containers need root; use simulated nodes otherwise")]
    NotRoot,
    /// A program is missing.
    #[error("{0} is not installed (on Debian: apt-get install containerd runc)")]
    Missing(&'static str),
    /// A file of its directory.
    #[error("cannot {operation} {path}")]
    File {
        /// What was tried.
        operation: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// It did not come up.
    #[error("containerd did not start; its log is {log}, which ends: {tail}")]
    Start {
        /// Its log.
        log: PathBuf,
        /// The log's last lines.
        tail: String,
    },
    /// The socket's path is too long for the kernel.
    #[error("the socket path {0} is longer than 107 bytes; choose a shorter state directory")]
    SocketPath(PathBuf),
}

/// A running private containerd.
#[derive(Debug)]
pub struct Containerd {
    dir: PathBuf,
    pid: u32,
    network_problem: Option<String>,
}

/// What this machine lacks for real containers; `None` when it has everything.
#[must_use]
pub fn unavailable() -> Option<ContainerdError> {
    if !nix::unistd::geteuid().is_root() {
        return Some(ContainerdError::NotRoot);
    }
    let missing = ["containerd", "runc", "ctr", "containerd-shim-runc-v2"]
        .into_iter()
        .find(|program| !on_path(program));
    missing.map(ContainerdError::Missing)
}

fn on_path(program: &str) -> bool {
    // `sudo` and services may have a PATH without the sbin directories, where some distributions put runc.
    let path = std::env::var("PATH").unwrap_or_default();
    let usual = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];
    path.split(':').chain(usual).any(|dir| Path::new(dir).join(program).is_file())
}

impl Containerd {
    /// Starts containerd in its directory, or finds the one that already runs there.
    ///
    /// # Errors
    /// When something it needs is missing or it does not come up.
    pub async fn start(options: &ContainerdOptions) -> Result<Self, ContainerdError> {
        if let Some(missing) = unavailable() {
            return Err(missing);
        }
        let dir = &options.dir;
        let socket = dir.join("containerd.sock");
        if socket.as_os_str().len() > 100 {
            return Err(ContainerdError::SocketPath(socket));
        }
        let file = |operation, path: &Path| {
            let path = path.to_path_buf();
            move |source| ContainerdError::File { operation, path, source }
        };
        tokio::fs::create_dir_all(dir).await.map_err(file("create", dir))?;
        let plugins = CNI_DIRS
            .iter()
            .map(Path::new)
            .find(|dir| dir.join("bridge").is_file() && dir.join("host-local").is_file());
        let network_problem = match plugins {
            Some(_) => None,
            None => {
                Some("no network plugins are installed (on Debian: containernetworking-plugins)".to_owned())
            }
        };
        let pid_file = dir.join("containerd.pid");
        if let Some(pid) = running(&pid_file, dir)
            && tokio::net::UnixStream::connect(&socket).await.is_ok()
        {
            return Ok(Self { dir: dir.clone(), pid, network_problem });
        }
        config::write(options, plugins).map_err(|(path, source)| ContainerdError::File {
            operation: "write",
            path,
            source,
        })?;
        let log_path = dir.join("containerd.log");
        let log = std::fs::File::create(&log_path).map_err(file("create", &log_path))?;
        let errors = log.try_clone().map_err(file("open", &log_path))?;
        let mut command = Command::new("containerd");
        command
            .arg("--config")
            .arg(dir.join("config.toml"))
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            // Ctrl-C in our terminal is for us; containers outlive us.
            .process_group(0)
            .kill_on_drop(false)
            .env("PATH", path_with_system_dirs());
        let mut child = command.spawn().map_err(file("run", Path::new("containerd")))?;
        let pid = child.id().unwrap_or_default();
        tokio::fs::write(&pid_file, pid.to_string()).await.map_err(file("write", &pid_file))?;
        let end = tokio::time::Instant::now() + START;
        loop {
            if answers(&socket).await {
                break;
            }
            let ended = child.try_wait().ok().flatten().is_some();
            if ended || tokio::time::Instant::now() >= end {
                let _ = child.start_kill();
                let text = tokio::fs::read_to_string(&log_path).await.unwrap_or_default();
                let last: Vec<&str> = text.lines().rev().take(5).collect();
                let tail = last.into_iter().rev().collect::<Vec<_>>().join("\n");
                return Err(ContainerdError::Start { log: log_path, tail });
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        // Waits for its end, so that no zombie stays while we live.
        tokio::spawn(async move { child.wait().await });
        Ok(Self { dir: dir.clone(), pid, network_problem })
    }

    /// Its socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.dir.join("containerd.sock")
    }

    /// Why pods have no network of their own; give it to [`super::cri::CriOptions`].
    #[must_use]
    pub fn network_problem(&self) -> Option<String> {
        self.network_problem.clone()
    }

    /// Stops the process and takes its bridge away. Only once no pod is left: those that were would lose their network.
    pub async fn remove(self) {
        let bridge = config::bridge(&self.dir);
        self.stop().await;
        // Without `ip`, or without a bridge because no pod ever had a network, there is nothing to do.
        let mut delete = Command::new("ip");
        delete.args(["link", "delete", &bridge]).stdout(Stdio::null()).stderr(Stdio::null());
        let _ = delete.env("PATH", path_with_system_dirs()).status().await;
    }

    /// Stops the process. Containers go on without it until they are removed: remove pods first when they are to end.
    pub async fn stop(self) {
        let Ok(raw) = i32::try_from(self.pid) else { return };
        let pid = nix::unistd::Pid::from_raw(raw);
        let pid_file = self.dir.join("containerd.pid");
        if running(&pid_file, &self.dir) != Some(self.pid) {
            return;
        }
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
        let end = tokio::time::Instant::now() + STOP;
        while running(&pid_file, &self.dir).is_some() && tokio::time::Instant::now() < end {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        if running(&pid_file, &self.dir).is_some() {
            let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
        }
        let _ = tokio::fs::remove_file(&pid_file).await;
    }
}

/// Whether its CRI answers: the socket is there a little earlier.
async fn answers(socket: &Path) -> bool {
    if tokio::net::UnixStream::connect(socket).await.is_err() {
        return false;
    }
    let options = super::cri::CriOptions::new(socket, "none", "/nonexistent");
    tokio::time::timeout(Duration::from_secs(2), super::cri::Cri::connect(options))
        .await
        .is_ok_and(|it| it.is_ok())
}

/// The process of a pid file, if it lives and is the containerd of this directory: pids are used again.
fn running(pid_file: &Path, dir: &Path) -> Option<u32> {
    let pid: u32 = std::fs::read_to_string(pid_file).ok()?.trim().parse().ok()?;
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let config = dir.join("config.toml");
    let ours = line.split(|byte| *byte == 0).any(|word| word == config.as_os_str().as_encoded_bytes());
    ours.then_some(pid)
}

fn path_with_system_dirs() -> String {
    let path = std::env::var("PATH").unwrap_or_default();
    format!("{path}:/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin")
}
