//! A child process that cannot outlive its test.

use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// The binary under test: `FAIRLEAD_BIN`, else the one built beside the tests.
///
/// # Errors
/// When there is none.
pub fn fairlead_binary() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("FAIRLEAD_BIN") {
        return Ok(path.into());
    }
    let test = std::env::current_exe().context("failed to find the test's own executable")?;
    let found = test.ancestors().skip(1).map(|dir| dir.join("fairlead")).find(|path| path.is_file());
    found.context("no `fairlead` binary beside the tests; build it first: cargo build -p fairlead")
}

/// A running child; killed with SIGKILL when dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `fairlead` with `arguments`; its stdout and stderr are appended to `log`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn fairlead<A: AsRef<OsStr>>(arguments: &[A], log: &Path) -> Result<Self> {
        Self::fairlead_in(arguments, log, &[])
    }

    /// The same with more in its environment.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn fairlead_in<A: AsRef<OsStr>>(
        arguments: &[A],
        log: &Path,
        environment: &[(String, String)],
    ) -> Result<Self> {
        let out = File::options().create(true).append(true).open(log)?;
        let child = Command::new(fairlead_binary()?)
            .args(arguments)
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(out)
            .spawn()
            .context("failed to start fairlead")?;
        Ok(Self { child, log: log.to_owned() })
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Fails with the process's last output if it has ended.
    ///
    /// # Errors
    /// When it has ended.
    pub fn expect_running(&mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!("the process ended with {status}; its output:\n{}", self.output());
        }
        Ok(())
    }

    /// `kill -9`, and waits until it is gone.
    ///
    /// # Errors
    /// When it cannot be killed.
    pub fn kill(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// SIGTERM, and waits for a clean end.
    ///
    /// # Errors
    /// When it ends otherwise than with 0.
    pub fn terminate(mut self) -> Result<()> {
        let pid = i32::try_from(self.child.id()).context("process id out of range")?;
        kill(Pid::from_raw(pid), Signal::SIGTERM)?;
        let status = self.child.wait()?;
        if !status.success() {
            bail!("the process ended with {status} on SIGTERM; its output:\n{}", self.output());
        }
        Ok(())
    }

    /// What it has printed so far.
    #[must_use]
    pub fn output(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Already gone is as good: nobody is left to be told.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs `fairlead` to its end.
///
/// # Errors
/// When it cannot be started; its exit code is in the output.
pub fn run_fairlead<A: AsRef<OsStr>>(arguments: &[A]) -> Result<Output> {
    Command::new(fairlead_binary()?)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .context("failed to start fairlead")
}
