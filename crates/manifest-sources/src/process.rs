//! Children: without a shell, a terminal or input, within bounds of time and output.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::{Child, Command};

use crate::error::Error;

/// How long one child may take: a slow clone over a slow line, and no more.
const TIMEOUT: Duration = Duration::from_secs(180);
/// Bytes of output kept: what the largest profile may take.
const MAX_OUTPUT: u64 = 64 << 20;
/// Bytes of complaints read, and characters of them shown.
const MAX_SAID: u64 = 64 << 10;
const SHOWN: usize = 2000;

/// What also isolated children see: where programs are, and how this machine reaches and trusts others.
const KEPT: [&str; 9] = [
    "PATH",
    "HTTPS_PROXY",
    "https_proxy",
    "HTTP_PROXY",
    "http_proxy",
    "NO_PROXY",
    "no_proxy",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
];

/// What a child sees of where it runs.
#[derive(Clone, Debug)]
pub enum Surroundings {
    /// The environment and the configuration of whoever runs this program.
    Own,
    /// The PATH, proxies and certificates, and nothing else; its home is this directory.
    Isolated {
        /// A directory of its own, removed afterwards by the caller.
        home: PathBuf,
    },
}

/// One run of a program.
pub(crate) struct Call<'a> {
    /// How it is called in messages.
    pub(crate) tool: &'static str,
    pub(crate) program: PathBuf,
    pub(crate) arguments: Vec<OsString>,
    pub(crate) directory: &'a Path,
    pub(crate) surroundings: &'a Surroundings,
    /// More for its environment. Secrets go here, never into arguments, which every process of the machine can read.
    pub(crate) environment: Vec<(&'static str, OsString)>,
}

impl Call<'_> {
    /// Runs it to its end; its output.
    pub(crate) async fn run(self) -> Result<String, Error> {
        let tool = self.tool;
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).current_dir(self.directory);
        if let Surroundings::Isolated { home } = self.surroundings {
            command.env_clear().env("HOME", home).env("LC_ALL", "C");
            command.env("XDG_CONFIG_HOME", home).env("XDG_CACHE_HOME", home).env("XDG_DATA_HOME", home);
            command.env("GIT_CONFIG_GLOBAL", "/dev/null");
            for name in KEPT {
                if let Some(value) = std::env::var_os(name) {
                    command.env(name, value);
                }
            }
        }
        command.envs(self.environment);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // A group of its own, so that helpers end with it.
        command.kill_on_drop(true).process_group(0);
        let mut child = command.spawn().map_err(|source| Error::Run { tool, source })?;
        let group = child.id();
        match tokio::time::timeout(TIMEOUT, finish(&mut child, tool)).await {
            Ok(ended) => ended,
            Err(_) => {
                end(group);
                Err(Error::Timeout { tool, seconds: TIMEOUT.as_secs() })
            }
        }
    }
}

async fn finish(child: &mut Child, tool: &'static str) -> Result<String, Error> {
    let failed = |source| Error::Run { tool, source };
    let (output, complaints) = (child.stdout.take(), child.stderr.take());
    let read = tokio::try_join!(read(output, MAX_OUTPUT), read(complaints, MAX_SAID));
    let (output, complaints) = read.map_err(failed)?;
    let status = child.wait().await.map_err(failed)?;
    if !status.success() {
        let said = String::from_utf8_lossy(&complaints).trim().chars().take(SHOWN).collect();
        return Err(Error::Failed { tool, status: status.to_string(), said });
    }
    if output.len() as u64 > MAX_OUTPUT {
        return Err(Error::Invalid(format!("{tool} wrote more than {MAX_OUTPUT} bytes")));
    }
    String::from_utf8(output).map_err(|_| Error::Invalid(format!("{tool} did not write text")))
}

/// Reads to the end and keeps one byte more than `most`: a child that writes on is not blocked.
async fn read(from: Option<impl AsyncRead + Unpin>, most: u64) -> std::io::Result<Vec<u8>> {
    let Some(mut from) = from else { return Ok(Vec::new()) };
    let mut kept = Vec::new();
    (&mut from).take(most + 1).read_to_end(&mut kept).await?;
    tokio::io::copy(&mut from, &mut tokio::io::sink()).await?;
    Ok(kept)
}

/// Ends a child with everything it started.
fn end(group: Option<u32>) {
    use nix::sys::signal::{Signal, killpg};
    use nix::unistd::Pid;
    if let Some(group) = group.and_then(|group| i32::try_from(group).ok()) {
        // It may have ended by itself meanwhile.
        let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
    }
}

/// Where a program is, by the PATH.
pub(crate) fn find(tool: &str) -> Option<PathBuf> {
    find_in(&std::env::var_os("PATH")?, tool)
}

fn find_in(path: &OsStr, tool: &str) -> Option<PathBuf> {
    std::env::split_paths(path).map(|directory| directory.join(tool)).find(|file| file.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, home: &Path) -> Result<String, Error> {
        let surroundings = Surroundings::Isolated { home: home.to_owned() };
        let call = Call {
            tool: "sh",
            program: "/bin/sh".into(),
            arguments: vec!["-c".into(), script.into()],
            directory: home,
            surroundings: &surroundings,
            environment: vec![("GIVEN", "yes".into())],
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(call.run())
    }

    #[test]
    fn a_child_sees_what_it_is_given_and_says_why_it_failed() {
        let home = tempfile::tempdir().unwrap();
        let seen = shell("echo $GIVEN $CARGO_MANIFEST_DIR $HOME; cat", home.path()).unwrap();
        assert_eq!(seen.trim(), format!("yes {}", home.path().display()), "no environment, no input");
        let failed = shell("echo wrong >&2; exit 3", home.path()).unwrap_err().to_string();
        assert_eq!(failed, "sh ended with exit status: 3: wrong");
        let long = shell("yes complaint | head -c 10000000 >&2; echo done", home.path()).unwrap();
        assert_eq!(long, "done\n", "what it says is bounded and blocks nothing");
        assert!(find_in(OsStr::new("/nowhere:/neither"), "helm").is_none());
    }
}
