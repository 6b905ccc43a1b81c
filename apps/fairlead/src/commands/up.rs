//! `fairlead up`

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use assembly::up::{self, Clusters, Options, RuntimeChoice, Summary, UpError};
use clap::{Args, ValueEnum};
use tokio_util::sync::CancellationToken;

use crate::arguments::{self, Global};
use crate::failure::{Code, Failure};
use crate::telemetry::{self, LogArguments};
use crate::{connection, documents, output, signals};

/// What a new fleet is given.
const SAMPLES: [(&str, &str); 3] = [
    ("profile.yaml", include_str!("../../samples/profile.yaml")),
    ("placement.yaml", include_str!("../../samples/placement.yaml")),
    ("test-workflow.yaml", include_str!("../../samples/test-workflow.yaml")),
];

/// Bring up a hub, clusters and their agents on this machine, and keep them up until Ctrl-C. All state is below DIR; the
/// next `fairlead up` goes on with it.
#[derive(Args, Debug)]
pub(crate) struct UpArguments {
    /// Where everything is kept [default: fairlead in the user's data directory]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Which clusters [default: those DIR has, else dev,staging,prod]
    #[arg(long, value_delimiter = ',', value_name = "NAME,…")]
    clusters: Option<Vec<String>>,
    /// What runs pods
    #[arg(long, value_enum, default_value_t)]
    runtime: RuntimeArgument,
    /// Return when everything is ready, and leave it running
    #[arg(long, short)]
    detach: bool,
    /// Give a new fleet no sample application and no sample test
    #[arg(long)]
    no_samples: bool,
    /// How long until everything has to be ready
    #[arg(long, default_value = "3m", value_parser = arguments::duration, value_name = "DURATION")]
    timeout: Duration,
    /// This is the supervisor that --detach leaves
    #[arg(long, hide = true)]
    background: bool,
    #[command(flatten)]
    log: LogArguments,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum RuntimeArgument {
    /// Containers where they can be run, else simulated
    #[default]
    Auto,
    /// Nothing; pods go through their states by themselves
    Simulated,
    /// A private containerd; needs root
    Containerd,
}

impl From<RuntimeArgument> for RuntimeChoice {
    fn from(argument: RuntimeArgument) -> Self {
        match argument {
            RuntimeArgument::Auto => Self::Auto,
            RuntimeArgument::Simulated => Self::Simulated,
            RuntimeArgument::Containerd => Self::Containerd,
        }
    }
}

pub(crate) async fn run(global: &Global, arguments: UpArguments) -> Result<Code, Failure> {
    let directory = arguments.dir.clone().map_or_else(|| connection::state_dir(global), Ok)?;
    let executable = std::env::current_exe().context("cannot find this executable")?;
    // What does not answer yet is asked again, and named when it stays so.
    telemetry::start_with(arguments.log.log_format, "warn,kube_client::client::builder=off")?;
    let stop = signals::shutdown()?;
    if arguments.detach {
        return detach(global, &arguments, &directory, &executable, &stop).await;
    }
    let options = Options {
        directory,
        clusters: arguments.clusters.map_or(Clusters::Default, Clusters::Named),
        runtime: arguments.runtime.into(),
        timeout: arguments.timeout,
        executable,
        samples: if arguments.no_samples { Vec::new() } else { samples()? },
    };
    let report = Arc::new(|event: up::Event| output::progress(&event.to_string()));
    let up = Box::pin(up::start(options, report, &stop)).await.map_err(failure)?;
    if !arguments.background {
        show(global, up.summary()).await?;
        output::progress("Ctrl-C ends it; its state stays");
    }
    up.run(stop).await.map_err(failure)?;
    Ok(Code::Ok)
}

async fn detach(
    global: &Global,
    arguments: &UpArguments,
    directory: &Path,
    executable: &Path,
    stop: &CancellationToken,
) -> Result<Code, Failure> {
    let supervisor = supervisor_arguments(arguments, directory);
    // The supervisor gives up first and says why.
    let timeout = arguments.timeout + Duration::from_secs(15);
    let mut lines = output::progress;
    let summary = Box::pin(up::detach(executable, &supervisor, directory, timeout, &mut lines, stop))
        .await
        .map_err(failure)?;
    show(global, &summary).await?;
    output::progress(&format!("left running; end it with: fairlead down --dir {}", directory.display()));
    Ok(Code::Ok)
}

/// The command line of the supervisor: this one, but staying in front.
fn supervisor_arguments(arguments: &UpArguments, directory: &Path) -> Vec<OsString> {
    let mut words: Vec<OsString> = vec!["up".into(), "--background".into(), "--dir".into(), directory.into()];
    if let Some(clusters) = &arguments.clusters {
        words.extend(["--clusters".into(), clusters.join(",").into()]);
    }
    if let Some(runtime) = arguments.runtime.to_possible_value() {
        words.extend(["--runtime".into(), runtime.get_name().into()]);
    }
    if arguments.no_samples {
        words.push("--no-samples".into());
    }
    words.extend(["--timeout".into(), format!("{}s", arguments.timeout.as_secs().max(1)).into()]);
    words.extend(["--log-format".into(), arguments.log.log_format.as_str().into()]);
    words
}

fn samples() -> Result<Vec<serde_json::Value>, Failure> {
    let mut samples = Vec::new();
    for (name, text) in SAMPLES {
        samples.extend(documents::parse(name, text)?.into_iter().map(|document| document.value));
    }
    Ok(samples)
}

/// The fleet, and what to do with it.
async fn show(global: &Global, summary: &Summary) -> Result<(), Failure> {
    output::progress(&format!("\nup after {:.1}s\n", summary.took.as_secs_f64()));
    let own = Global { kubeconfig: Some(summary.hub_kubeconfig.clone()), ..global.clone() };
    super::cluster::show(connection::hub(&own).await?).await?;
    output::progress(&format!("\nhub      https://{}", summary.hub));
    output::progress(&format!("         export KUBECONFIG={}", summary.hub_kubeconfig.display()));
    for (name, kubeconfig) in &summary.clusters {
        output::progress(&format!("{name:<8} {}", kubeconfig.display()));
    }
    let dir = summary.hub_kubeconfig.parent().unwrap_or(Path::new("."));
    output::progress(&format!(
        "\ntry:     fairlead --dir {dir} cluster list\n         \
         fairlead --dir {dir} test run smoke --all-clusters --watch\n         \
         kubectl --kubeconfig {first} get pods -A\n",
        dir = dir.display(),
        first = summary.clusters.first().map(|(_, path)| path.display().to_string()).unwrap_or_default(),
    ));
    Ok(())
}

/// What a failed `up` or `down` means.
pub(super) fn failure(error: UpError) -> Failure {
    let (code, hint) = match &error {
        UpError::AlreadyUp { .. } => (Code::Negative, Some("fairlead status, or fairlead down")),
        UpError::Invalid(_) => (Code::Usage, None),
        UpError::Containers(_) => (Code::Negative, Some("fairlead up --runtime simulated")),
        UpError::Timeout { .. } => (Code::Timeout, None),
        UpError::Interrupted => return Failure::interrupted(),
        _ => (Code::Negative, None),
    };
    let failure = Failure::new(code, error.into());
    match hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

#[cfg(test)]
mod tests {
    use fleet_objects::test_workflow::TestWorkflow;
    use fleet_objects::{Placement, Profile};

    use super::*;

    #[test]
    fn the_samples_are_valid_and_fit_together() {
        let samples = samples().expect("YAML");
        let profile: Profile = serde_json::from_value(samples[0].clone()).expect("a Profile");
        let placement: Placement = serde_json::from_value(samples[1].clone()).expect("a Placement");
        let workflow: TestWorkflow = serde_json::from_value(samples[2].clone()).expect("a TestWorkflow");
        assert_eq!(
            serde_json::to_value(&placement).expect("JSON")["spec"]["profile"],
            profile.metadata.name.as_deref().expect("a name")
        );
        workflow::validate::workflow(&workflow.spec, "spec").expect("valid");
    }
}
