//! The reference of built-in kinds. Only the API server knows its catalogue, and it is no dependency of this crate: its
//! own test writes or compares the document.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, bail};

/// Writes `docs/reference/kinds.md`, or with `check` compares.
pub(crate) fn run(root: &Path, check: bool) -> anyhow::Result<()> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(root).args(["test", "--quiet", "-p", "apiserver", "--lib", "registry::reference"]);
    if !check {
        cargo.env("FAIRLEAD_WRITE_REFERENCE", "1");
    }
    let status = cargo.status().context("running the API server's test of the reference")?;
    if !status.success() {
        bail!("docs/reference/kinds.md is not what the catalogue says; run `cargo xtask kinds`");
    }
    Ok(())
}
