//! `fairlead store …`

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Context as _;
use assembly::backup::{self, Place, Report};
use clap::{Args, Subcommand};
use http_body_util::BodyExt as _;

use crate::arguments::{Format, Global};
use crate::failure::{Code, Failure, api, program};
use crate::store_choice::StoreChoice;
use crate::{connection, output};

#[derive(Subcommand, Debug)]
pub(crate) enum StoreCommand {
    /// Write everything a store holds to a file
    Snapshot(SnapshotArguments),
    /// Make a store of a snapshot
    Restore(RestoreArguments),
    /// Check a store or a snapshot to its last bit
    Verify(VerifyArguments),
    /// Encrypt anew what is not as the encryption configuration wants it
    Rewrite(RewriteArguments),
}

/// Write everything a store holds to a file: online from the server that `--kubeconfig` leads to or that serves `--dir`,
/// or from the directory or etcd itself.
#[derive(Args, Debug)]
pub(crate) struct SnapshotArguments {
    /// Where to write it; there whole or not at all
    file: PathBuf,
    #[command(flatten)]
    store: StoreChoice,
    /// How to print what was written
    #[arg(long, short, value_enum, default_value_t)]
    output: Format,
}

/// Make a store of a snapshot, in a state directory or in etcd where there is none yet. It begins a new life: revisions go
/// on a thousand million later, so that no client takes it for the old one.
#[derive(Args, Debug)]
pub(crate) struct RestoreArguments {
    /// The snapshot
    file: PathBuf,
    #[command(flatten)]
    store: StoreChoice,
    /// How to print what was restored
    #[arg(long, short, value_enum, default_value_t)]
    output: Format,
}

/// Check a snapshot, or a store that no server has open, to its last bit: checksums, order, and that every object can be
/// read.
#[derive(Args, Debug)]
pub(crate) struct VerifyArguments {
    /// A snapshot; without it, the store
    file: Option<PathBuf>,
    #[command(flatten)]
    store: StoreChoice,
    /// How to print what was found
    #[arg(long, short, value_enum, default_value_t)]
    output: Format,
}

/// Encrypt anew what is kept plain or under an older key, in a store that no server has open or in etcd. A server does the
/// same when it starts: this is for stores that several share.
#[derive(Args, Debug)]
pub(crate) struct RewriteArguments {
    /// The EncryptionConfiguration; without it that of the directory
    #[arg(long, value_name = "FILE")]
    encryption_provider_config: Option<PathBuf>,
    #[command(flatten)]
    store: StoreChoice,
}

async fn rewrite(global: &Global, arguments: &RewriteArguments) -> Result<Code, Failure> {
    let place = place(global, &arguments.store)?;
    let done = assembly::sealing::rewrite(&place, arguments.encryption_provider_config.as_deref()).await;
    let done = done.map_err(program)?;
    output::data(&format!(
        "{} values looked at, {} rewritten, {} that no key opens\n",
        done.seen, done.rewritten, done.unreadable
    ))?;
    Ok(if done.unreadable == 0 { Code::Ok } else { Code::Negative })
}

pub(crate) async fn run(global: &Global, command: StoreCommand) -> Result<Code, Failure> {
    let begun = Instant::now();
    let (report, format, done) = match command {
        StoreCommand::Rewrite(arguments) => return rewrite(global, &arguments).await,
        StoreCommand::Snapshot(arguments) => {
            let report = snapshot(global, &arguments).await?;
            (report, arguments.output, format!("wrote {}", arguments.file.display()))
        }
        StoreCommand::Restore(arguments) => {
            let place = place(global, &arguments.store)?;
            output::progress(&format!("restoring {}", arguments.file.display()));
            let report = backup::restore(&arguments.file, &place).await.map_err(program)?;
            (report, arguments.output, format!("restored {}", arguments.file.display()))
        }
        StoreCommand::Verify(arguments) => {
            let report = match &arguments.file {
                Some(file) => backup::verify_file(file).await,
                None => backup::verify(&place(global, &arguments.store)?).await,
            };
            (report.map_err(program)?, arguments.output, "verified".to_owned())
        }
    };
    output::progress(&format!("{done} in {:.1} s", begun.elapsed().as_secs_f32()));
    print(format, &report)?;
    Ok(if report.damaged == 0 { Code::Ok } else { Code::Negative })
}

fn print(format: Format, report: &Report) -> Result<(), Failure> {
    match format {
        Format::Table | Format::Wide | Format::Name => output::data(&format!("{report}\n")),
        Format::Json => {
            let text = serde_json::to_string_pretty(report).map_err(anyhow::Error::new)?;
            output::data(&(text + "\n"))
        }
        Format::Yaml => output::data(&output::yaml(report)?),
    }
}

/// Where a store lies that no server is asked for.
fn place(global: &Global, choice: &StoreChoice) -> Result<Place, Failure> {
    if let Some(etcd) = choice.etcd()? {
        return Ok(Place::Etcd(etcd));
    }
    let Some(dir) = &global.dir else {
        return Err(Failure::usage("no store is named").hint("--dir DIR, or --store etcd=https://HOST:2379"));
    };
    Ok(Place::Directory(dir.clone()))
}

async fn snapshot(global: &Global, arguments: &SnapshotArguments) -> Result<Report, Failure> {
    take(global, &arguments.file, &arguments.store).await
}

/// Writes a snapshot of the store that the arguments lead to: online where a server has it open.
pub(super) async fn take(global: &Global, file: &Path, store: &StoreChoice) -> Result<Report, Failure> {
    if store.etcd()?.is_none() {
        if let Some(kubeconfig) = &global.kubeconfig {
            return online(global, kubeconfig, file).await;
        }
        let served = global.dir.as_deref().map(assembly::control_plane::kubeconfig_path);
        let offline = backup::snapshot(&place(global, store)?, file).await;
        return match (offline, served) {
            (Err(error), Some(kubeconfig)) if backup::is_in_use(&error) && kubeconfig.exists() => {
                output::progress("a server has the store open: asking it");
                online(global, &kubeconfig, file).await
            }
            (offline, _) => offline.map_err(program),
        };
    }
    backup::snapshot(&place(global, store)?, file).await.map_err(program)
}

/// Asks a running server.
async fn online(global: &Global, kubeconfig: &Path, file: &Path) -> Result<Report, Failure> {
    let unreachable = |error: anyhow::Error| Failure::new(Code::Unreachable, error);
    let client = connection::server(global, kubeconfig).await?;
    let request = http::Request::get(backup::PATH)
        .body(kube::client::Body::empty())
        .context("cannot make the request")?;
    let response = client.send(request).await.map_err(api("cannot take a snapshot"))?;
    if !response.status().is_success() {
        let code = response.status();
        let body = response.into_body().collect().await.map(http_body_util::Collected::to_bytes);
        let status: serde_json::Value = serde_json::from_slice(&body.unwrap_or_default()).unwrap_or_default();
        let told = status["message"].as_str().unwrap_or_default();
        let error = anyhow::anyhow!("{code} {told}").context("cannot take a snapshot");
        return Err(if matches!(code.as_u16(), 401 | 403) { unreachable(error) } else { error.into() });
    }
    let mut name = file.as_os_str().to_owned();
    name.push(".part");
    let part = PathBuf::from(name);
    let received = receive(response.into_body(), &part).await;
    let kept = match received {
        Ok(()) => backup::keep(part.clone(), file).await.map_err(program),
        Err(error) => Err(error),
    };
    if kept.is_err() {
        // What is there of it is of no use; if it cannot be removed the first error still says why.
        let _ = std::fs::remove_file(&part);
    }
    kept
}

async fn receive(mut body: kube::client::Body, part: &Path) -> Result<(), Failure> {
    let failed = || format!("cannot write {}", part.display());
    let mut file = std::fs::File::create(part).with_context(failed)?;
    let mut received = 0_usize;
    let mut told = Instant::now();
    while let Some(frame) = body.frame().await {
        let frame = frame.context("the server broke off")?;
        if let Some(data) = frame.data_ref() {
            file.write_all(data).with_context(failed)?;
            received += data.len();
        }
        if told.elapsed().as_secs() >= 1 {
            told = Instant::now();
            output::progress(&format!("{} MiB received", received >> 20));
        }
    }
    Ok(())
}
