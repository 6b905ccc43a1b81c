//! `fairlead test artifacts`

mod download;

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use fleet_objects::test_run::{Artifact, TestRun};
use futures::AsyncReadExt;
use kube::Client;

use crate::arguments::{Format, Global};
use crate::commands::get::fetch::escape;
use crate::failure::{Code, Failure, api};
use crate::output::Columns;
use crate::{connection, output};

#[derive(Args, Debug)]
pub(crate) struct ArtifactsArguments {
    /// Which run
    name: String,
    /// Save the files as DIR/<cluster>/<step>/<attempt>/<path> instead of listing them
    #[arg(long, short, value_name = "DIR")]
    download: Option<PathBuf>,
    /// Only of this cluster
    #[arg(long, value_name = "NAME")]
    cluster: Option<String>,
    /// How to print
    #[arg(long, short, value_enum, default_value_t)]
    output: Format,
}

/// A kept file with where it is from.
pub(crate) struct Kept<'a> {
    pub(crate) cluster: &'a str,
    pub(crate) step: &'a str,
    pub(crate) attempt: u32,
    pub(crate) artifact: &'a Artifact,
}

pub(crate) async fn run(global: &Global, arguments: &ArtifactsArguments) -> Result<Code, Failure> {
    let client = connection::hub(global).await?;
    let run = super::get(&client, global, &arguments.name).await?;
    let wanted = |kept: &Kept<'_>| arguments.cluster.as_ref().is_none_or(|cluster| cluster == kept.cluster);
    let all: Vec<_> = kept(&run).into_iter().filter(wanted).collect();
    let Some(dir) = &arguments.download else {
        list(&client, global, arguments, &all).await?;
        return Ok(Code::Ok);
    };
    let mut missing = 0;
    for kept in &all {
        let target = target(dir, kept)?;
        if let Err(failure) = download::file(&client, global, &arguments.name, kept, &target).await {
            missing += 1;
            output::progress(crate::failure::render(&failure).trim_end());
        }
    }
    output::progress(&format!("{} of {} files are in {}", all.len() - missing, all.len(), dir.display()));
    Ok(if missing == 0 { Code::Ok } else { Code::Partial })
}

/// How a file is, as the hub tells it.
#[derive(serde::Deserialize)]
struct State {
    cluster: String,
    step: String,
    attempt: u32,
    path: String,
    received: u64,
    state: String,
    reason: Option<String>,
}

/// A kept file, for programs.
#[derive(serde::Serialize)]
struct Shown<'a> {
    cluster: &'a str,
    step: &'a str,
    attempt: u32,
    path: &'a str,
    size: u64,
    sha256: &'a str,
    state: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
}

const COLUMNS: Columns<'_> = Columns {
    always: &["CLUSTER", "STEP", "ATTEMPT", "SIZE", "STATE", "SHA256", "PATH"],
    wide: &["WHOLE-SHA256"],
};

impl<'a> Shown<'a> {
    fn of(kept: &Kept<'a>, states: &'a [State]) -> Self {
        let state = states.iter().find(|state| {
            (state.cluster.as_str(), state.step.as_str(), state.attempt)
                == (kept.cluster, kept.step, kept.attempt)
                && state.path == kept.artifact.path
        });
        Self {
            cluster: kept.cluster,
            step: kept.step,
            attempt: kept.attempt,
            path: &kept.artifact.path,
            size: kept.artifact.size,
            sha256: &kept.artifact.sha256,
            state: state.map_or_else(String::new, |state| told(state, kept.artifact.size)),
            reason: state.and_then(|state| state.reason.as_deref()),
        }
    }

    fn row(&self) -> Vec<String> {
        vec![
            self.cluster.to_owned(),
            self.step.to_owned(),
            self.attempt.to_string(),
            self.size.to_string(),
            self.state.clone(),
            self.sha256.chars().take(12).collect(),
            self.path.to_owned(),
            self.sha256.to_owned(),
        ]
    }

    fn place(&self) -> String {
        let Self { cluster, step, attempt, path, .. } = self;
        format!("{cluster}/{step}/{attempt}/{path}")
    }
}

async fn list(
    client: &Client,
    global: &Global,
    arguments: &ArtifactsArguments,
    all: &[Kept<'_>],
) -> Result<(), Failure> {
    let run = &arguments.name;
    let path = format!("/fleet/v1/testruns/{}/{run}/artifacts", global.namespace);
    let request = http::Request::get(path).body(Vec::new()).map_err(anyhow::Error::new)?;
    let states: Vec<State> =
        client.request(request).await.map_err(api(format!("cannot list the files of {run}")))?;
    let shown: Vec<Shown<'_>> = all.iter().map(|kept| Shown::of(kept, &states)).collect();
    output::values(arguments.output, "no file is kept", &COLUMNS, &shown, Shown::row, Shown::place)?;
    for state in &states {
        if let Some(why) = &state.reason {
            let State { cluster, step, attempt, path, .. } = state;
            output::progress(&format!("{cluster}/{step}/{attempt}/{path}: {why}"));
        }
    }
    Ok(())
}

/// `stored`, `refused`, or how far it has come: `pending 42%`.
fn told(state: &State, size: u64) -> String {
    let word = state.state.to_lowercase();
    if word == "pending" {
        let percent = u128::from(state.received) * 100 / u128::from(size.max(1));
        return format!("{word} {percent}%");
    }
    word
}

pub(crate) fn kept(run: &TestRun) -> Vec<Kept<'_>> {
    let mut all = Vec::new();
    for cluster in run.status.iter().flat_map(|status| &status.clusters) {
        for step in &cluster.steps {
            for attempt in &step.attempts {
                all.extend(attempt.artifacts.iter().map(|artifact| Kept {
                    cluster: &cluster.cluster,
                    step: &step.name,
                    attempt: attempt.attempt,
                    artifact,
                }));
            }
        }
    }
    all
}

fn title(kept: &Kept<'_>) -> String {
    format!("{} of {}/{}", kept.artifact.path, kept.cluster, kept.step)
}

/// Where the hub has a file.
fn place(global: &Global, run: &str, kept: &Kept<'_>) -> String {
    format!(
        "/fleet/v1/testruns/{}/{run}/artifacts/{}/{}/{}/{}",
        global.namespace,
        kept.cluster,
        kept.step,
        kept.attempt,
        encode(&kept.artifact.path)
    )
}

/// Reads a file from the hub into memory and checks it.
pub(crate) async fn fetch(
    client: &Client,
    global: &Global,
    run: &str,
    kept: &Kept<'_>,
) -> Result<Vec<u8>, Failure> {
    let title = title(kept);
    let request =
        http::Request::get(place(global, run, kept)).body(Vec::new()).map_err(anyhow::Error::new)?;
    let content = client.request_stream(request).await.map_err(api(format!("cannot get {title}")))?;
    let mut bytes = Vec::new();
    let limit = kept.artifact.size.saturating_add(1);
    std::pin::pin!(content).take(limit).read_to_end(&mut bytes).await.context("the download broke off")?;
    if workflow::collect::digest(&bytes) != kept.artifact.sha256 {
        return Err(Failure::negative(format!("{title} arrived damaged: its digest is another")));
    }
    Ok(bytes)
}

fn encode(path: &str) -> String {
    path.split('/').map(escape).collect::<Vec<_>>().join("/")
}

/// The hub's word is not trusted with where files go: every part must be a plain name.
fn target(dir: &Path, kept: &Kept<'_>) -> Result<PathBuf, Failure> {
    let attempt = kept.attempt.to_string();
    let parts = [kept.cluster, kept.step, &attempt].into_iter().chain(kept.artifact.path.split('/'));
    let mut target = dir.to_owned();
    for part in parts {
        if part.is_empty() || part == "." || part == ".." || part.contains(['/', '\\', '\0']) {
            return Err(Failure::negative(format!("{:?} is not a path to save to", kept.artifact.path)));
        }
        target.push(part);
    }
    Ok(target)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_leaves_the_directory_is_not_saved() {
        let artifact = |path: &str| Artifact { path: path.into(), ..Artifact::default() };
        let (bad, good) = (artifact("../../x"), artifact("out/a b.log"));
        let kept = |artifact| Kept { cluster: "dev", step: "unit", attempt: 1, artifact };
        assert!(target(Path::new("/d"), &kept(&bad)).is_err());
        let saved = target(Path::new("/d"), &kept(&good)).expect("a path");
        assert_eq!(saved, Path::new("/d/dev/unit/1/out/a b.log"));
        assert_eq!(encode("out/a b.log"), "out/a%20b.log");
    }
}
