//! Processes by number, with proof of who they are: a number alone is used again after its process has ended.

use std::path::Path;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::error::UpError;

/// How long a process may take to end after SIGTERM, before SIGKILL.
const GRACE: Duration = Duration::from_secs(10);

/// Between two looks at a process that is not our child.
const LOOK: Duration = Duration::from_millis(20);

/// A process, told from every other that had or will have its number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ProcessId {
    pub(crate) pid: u32,
    /// The machine's boot and the time the process was started since, as the kernel writes them.
    birth: String,
}

impl ProcessId {
    /// Of a running process; `None` when there is none of that number.
    pub(crate) fn of(pid: u32) -> Option<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
        // The second field is the program's name in brackets, which may hold blanks and brackets of its own.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let (state, started) = (fields.first()?, fields.get(19)?);
        // A zombie runs no more; whoever started it has yet to look.
        (*state != "Z").then(|| Self { pid, birth: format!("{}/{started}", boot.trim()) })
    }

    /// Whether it still runs.
    pub(crate) fn is_running(&self) -> bool {
        Self::of(self.pid).as_ref() == Some(self)
    }

    /// Writes the pid file.
    pub(crate) fn write(&self, path: &Path) -> Result<(), UpError> {
        crate::identity::write_private(path, &format!("{} {}\n", self.pid, self.birth))
            .map_err(UpError::file("write", path))
    }

    /// Reads a pid file; `None` when there is none, or none that can be understood.
    pub(crate) fn read(path: &Path) -> Option<Self> {
        let text = std::fs::read_to_string(path).ok()?;
        let (pid, birth) = text.trim().split_once(' ')?;
        Some(Self { pid: pid.parse().ok()?, birth: birth.to_owned() })
    }

    fn signal(&self, signal: Signal) {
        if let (true, Ok(pid)) = (self.is_running(), i32::try_from(self.pid)) {
            // It may have ended in this moment, which is what is wanted.
            let _ = kill(Pid::from_raw(pid), signal);
        }
    }

    /// Asks it to end, and makes it end after a grace period. True: it ended by itself.
    pub(crate) async fn end(&self) -> bool {
        self.signal(Signal::SIGTERM);
        if self.gone_within(GRACE).await {
            return true;
        }
        self.signal(Signal::SIGKILL);
        self.gone_within(GRACE).await;
        false
    }

    /// As [`Self::end`], for one that ends others first and may be given longer.
    pub(crate) async fn end_patiently(&self) -> bool {
        self.signal(Signal::SIGTERM);
        self.gone_within(GRACE * 4).await || self.end().await
    }

    async fn gone_within(&self, limit: Duration) -> bool {
        let gone = async {
            while self.is_running() {
                tokio::time::sleep(LOOK).await;
            }
        };
        tokio::time::timeout(limit, gone).await.is_ok()
    }
}

/// Asks a child to end by its number.
pub(crate) fn terminate(pid: u32) {
    if let Ok(pid) = i32::try_from(pid) {
        // As above.
        let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_process_of_the_same_number_is_told_apart() {
        let own = ProcessId::of(std::process::id()).expect("this process runs");
        assert!(own.is_running());
        let other = ProcessId { pid: own.pid, birth: "another boot/1".to_owned() };
        assert!(!other.is_running());
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("x.pid");
        own.write(&path).expect("written");
        assert_eq!(ProcessId::read(&path), Some(own));
    }
}
