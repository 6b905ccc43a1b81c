//! The unmodified `kubectl` on PATH.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// `kubectl` with a kubeconfig.
#[derive(Clone, Debug)]
pub struct Kubectl {
    kubeconfig: PathBuf,
    cache: PathBuf,
}

impl Kubectl {
    /// A client of the server that `kubeconfig` names. Its discovery cache lies beside the kubeconfig.
    #[must_use]
    pub fn new(kubeconfig: &Path) -> Self {
        Self { kubeconfig: kubeconfig.to_owned(), cache: kubeconfig.with_extension("cache") }
    }

    /// `kubectl ARGUMENTS`, to be started by the caller.
    #[must_use]
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("kubectl");
        command.arg("--kubeconfig").arg(&self.kubeconfig).arg("--cache-dir").arg(&self.cache).args(arguments);
        command
    }

    /// The kubeconfig it uses.
    #[must_use]
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// Runs `kubectl ARGUMENTS`, `input` on its stdin.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn output(&self, arguments: &[&str], input: &str) -> Result<Output> {
        let mut child = self
            .command(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("failed to start kubectl")?;
        let written = child.stdin.take().context("kubectl has no stdin")?.write_all(input.as_bytes());
        // One that has ended already reads no more; its status tells why.
        if let Err(error) = written
            && error.kind() != std::io::ErrorKind::BrokenPipe
        {
            return Err(error.into());
        }
        Ok(child.wait_with_output()?)
    }

    /// What `kubectl ARGUMENTS` prints.
    ///
    /// # Errors
    /// When it does not end with 0: with what it said.
    pub fn run(&self, arguments: &[&str]) -> Result<String> {
        self.run_with(arguments, "")
    }

    /// [`Self::run`] with `input` on stdin, for `-f -`.
    ///
    /// # Errors
    /// When it does not end with 0: with what it said.
    pub fn run_with(&self, arguments: &[&str], input: &str) -> Result<String> {
        let output = self.output(arguments, input)?;
        if !output.status.success() {
            let stderr = String::from_utf8_lossy(&output.stderr);
            bail!("kubectl {} ended with {}: {stderr}", arguments.join(" "), output.status);
        }
        Ok(String::from_utf8(output.stdout)?)
    }

    /// What `kubectl ARGUMENTS -o json` prints.
    ///
    /// # Errors
    /// When it does not end with 0, or prints no JSON.
    pub fn json(&self, arguments: &[&str]) -> Result<Value> {
        let mut all = arguments.to_vec();
        all.extend(["-o", "json"]);
        Ok(serde_json::from_str(&self.run(&all)?)?)
    }

    /// The object, or `None` when the server says NotFound.
    ///
    /// # Errors
    /// On any other failure.
    pub fn find(&self, arguments: &[&str]) -> Result<Option<Value>> {
        let mut all = vec!["get", "--ignore-not-found", "-o", "json"];
        all.extend(arguments);
        let text = self.run(&all)?;
        if text.trim().is_empty() { Ok(None) } else { Ok(Some(serde_json::from_str(&text)?)) }
    }

    /// Applies a manifest.
    ///
    /// # Errors
    /// When kubectl refuses.
    pub fn apply(&self, manifest: &str) -> Result<String> {
        self.run_with(&["apply", "-f", "-"], manifest)
    }
}
