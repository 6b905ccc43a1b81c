//! Where the report of a run goes besides the terminal: files in any format, and the summary of a GitHub Actions job.

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::ValueEnum as _;
use kube::Client;

use super::report::{self, ReportFormat};
use crate::arguments::Global;
use crate::failure::Failure;

/// One `--report FORMAT=FILE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    format: ReportFormat,
    file: PathBuf,
}

impl std::str::FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (format, file) = text.split_once('=').ok_or("it is not FORMAT=FILE, like junit=results.xml")?;
        let format = ReportFormat::from_str(format, false)?;
        if file.is_empty() {
            return Err("the file has no name".to_owned());
        }
        Ok(Self { format, file: file.into() })
    }
}

/// Writes every report that was asked for, and the job summary where GitHub Actions wants one.
pub(super) async fn write(
    client: &Client,
    global: &Global,
    name: &str,
    targets: &[Target],
) -> Result<(), Failure> {
    let summary = std::env::var_os("GITHUB_STEP_SUMMARY").filter(|path| !path.is_empty()).map(PathBuf::from);
    if targets.is_empty() && summary.is_none() {
        return Ok(());
    }
    let run = super::get(client, global, name).await?;
    for target in targets {
        let text = report::render(client, global, &run, target.format).await?;
        if let Some(parent) = target.file.parent() {
            std::fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
        }
        std::fs::write(&target.file, text)
            .with_context(|| format!("cannot write {}", target.file.display()))?;
    }
    if let Some(path) = summary {
        let text = report::render(client, global, &run, ReportFormat::Github).await?;
        let append =
            || std::fs::OpenOptions::new().create(true).append(true).open(&path)?.write_all(text.as_bytes());
        append().with_context(|| format!("cannot write the job summary {}", path.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_a_format_and_a_file() {
        let junit = Target { format: ReportFormat::Junit, file: "out/r.xml".into() };
        assert_eq!("junit=out/r.xml".parse(), Ok(junit));
        for wrong in ["junit", "junit=", "word=r.doc"] {
            assert!(wrong.parse::<Target>().is_err(), "{wrong}");
        }
    }
}
