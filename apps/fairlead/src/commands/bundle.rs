//! `fairlead bundle …`

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use assembly::ephemeral::TestRunner;
use assembly::test_bundle::{Bundle, BundleError, MAX_BYTES, Purpose};
use clap::{Args, Subcommand};
use fleet_objects::test_run::{IMPORTED_ANNOTATION, TestRun, TestRunSpec, TestTargets};
use fleet_objects::test_workflow::TestWorkflow;
use fleet_planner::release::{PinnedKey, Releases};
use futures::AsyncReadExt as _;
use jiff::Timestamp;
use kube::api::{Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config, ResourceExt};
use serde::Serialize;
use serde_json::json;

use super::profile::sign;
use super::test::artifacts;
use super::test::watch::follow;
use super::{test, throw_away};
use crate::arguments::{self, Format, Global};
use crate::documents::{self, Document};
use crate::failure::{Code, Failure, api, program};
use crate::output::Columns;
use crate::{connection, output};

/// Bytes of one run's log in a bundle.
const MAX_LOG: u64 = 64 << 20;
/// Kinds that a bundle carries.
const KINDS: [&str; 3] = ["TestWorkflow", "TestWorkflowTemplate", "TestRun"];

#[derive(Subcommand, Debug)]
pub(crate) enum BundleCommand {
    /// Write workflows and runs to a signed file
    Create(CreateArguments),
    /// Carry out the runs of a bundle in a cluster, or take its results into the hub
    Load(Box<LoadArguments>),
    /// Check a bundle and show what is in it
    Verify(VerifyArguments),
}

/// Write workflows, templates and runs to one signed file. Without a TestRun in it, each workflow is run once.
#[derive(Args, Debug)]
pub(crate) struct CreateArguments {
    /// What the bundle is called; part of what is signed
    name: String,
    /// Files or directories of TestWorkflows, TestWorkflowTemplates and TestRuns, also Testkube's
    #[arg(long, short, required = true)]
    file: Vec<PathBuf>,
    /// Private keys to sign with (`fairlead profile key`)
    #[arg(long, value_name = "FILE")]
    key: Vec<PathBuf>,
    /// Where to write it
    #[arg(long, short, value_name = "FILE")]
    output: PathBuf,
}

#[derive(Args, Debug)]
pub(crate) struct TrustArguments {
    /// The bundle
    bundle: PathBuf,
    /// Public keys whose signature counts; `none` takes an unsigned bundle
    #[arg(long, required = true, value_name = "ed25519:…|none")]
    trust: Vec<String>,
    /// How many of them must have signed
    #[arg(long, default_value_t = 1, value_name = "COUNT")]
    threshold: usize,
}

/// Carry out the runs of a bundle in the cluster of --cluster-kubeconfig, where nothing else of Fairlead is needed, and write
/// what came of them to a bundle; or take such results into the hub. Exit code as of `fairlead test run`.
#[derive(Args, Debug)]
pub(crate) struct LoadArguments {
    #[command(flatten)]
    trust: TrustArguments,
    /// The cluster to run in
    #[arg(long, value_name = "FILE", requires_all = ["cluster", "output"])]
    cluster_kubeconfig: Option<PathBuf>,
    /// What the cluster is called in results
    #[arg(long, value_name = "NAME")]
    cluster: Option<String>,
    /// Where to write the results
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Private keys to sign the results with
    #[arg(long, value_name = "FILE")]
    key: Vec<PathBuf>,
    /// How long each run may take
    #[arg(long, default_value = "24h", value_parser = arguments::duration, value_name = "DURATION")]
    timeout: Duration,
    /// Where logs and files of results are put
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub(crate) struct VerifyArguments {
    #[command(flatten)]
    trust: TrustArguments,
    /// How to print
    #[arg(long, short, value_enum, default_value_t)]
    output: Format,
}

/// A file of a bundle, for programs.
#[derive(Serialize)]
struct Listed<'a> {
    file: &'a str,
    size: usize,
    sha256: &'a str,
}

const COLUMNS: Columns<'_> = Columns { always: &["FILE", "SIZE", "SHA256"], wide: &["WHOLE-SHA256"] };

pub(crate) async fn run(global: &Global, command: BundleCommand) -> Result<Code, Failure> {
    match command {
        BundleCommand::Create(arguments) => create(&arguments),
        BundleCommand::Verify(arguments) => verify(&arguments),
        BundleCommand::Load(arguments) => {
            let bundle = open(&arguments.trust)?;
            match bundle.table.purpose {
                Purpose::Runs => carry_out(global, &arguments, &bundle).await,
                Purpose::Results => take_in(global, &arguments, &bundle).await,
            }
        }
    }
}

fn create(arguments: &CreateArguments) -> Result<Code, Failure> {
    let mut files = BTreeMap::new();
    for path in &arguments.file {
        for mut document in documents::read(path)? {
            test::import::in_place(&mut document);
            if !KINDS.contains(&document.kind()) {
                let message = format!("{}: a bundle carries no {}", document.origin, document.kind());
                return Err(Failure::usage(message));
            }
            if document.kind() == "TestWorkflow" {
                let workflow: TestWorkflow = document.parse()?;
                workflow::validate::workflow(&workflow.spec, "spec")
                    .map_err(|invalid| Failure::usage(format!("{}: {invalid}", document.origin)))?;
            }
            let content = serde_json::to_vec(&document.value).map_err(anyhow::Error::new)?;
            files.insert(format!("documents/{:04}.json", files.len()), content);
        }
    }
    write(
        Bundle::new(Purpose::Runs, &arguments.name, Timestamp::now(), files),
        &arguments.key,
        &arguments.output,
    )?;
    Ok(Code::Ok)
}

fn write(bundle: Bundle, keys: &[PathBuf], path: &Path) -> Result<(), Failure> {
    let keys = keys.iter().map(|path| sign::read(path)).collect::<Result<Vec<_>, _>>()?;
    let bytes = bundle.encode(&keys).context("the bundle cannot be written")?;
    std::fs::write(path, &bytes).with_context(|| format!("cannot write {}", path.display()))?;
    let (count, signed) = (bundle.files.len(), keys.len());
    output::progress(&format!("wrote {}: {count} files, {signed} signatures", path.display()));
    Ok(())
}

fn open(arguments: &TrustArguments) -> Result<Bundle, Failure> {
    let path = &arguments.bundle;
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut trusted = Releases::default();
    if arguments.trust != ["none"] {
        let pinned =
            |key: &String| PinnedKey { name: key.clone(), public_key: key.clone(), profiles: Vec::new() };
        trusted = Releases {
            keys: arguments.trust.iter().map(pinned).collect(),
            threshold: arguments.threshold.max(1),
        };
    }
    Bundle::decode(&bytes, &trusted, Timestamp::now()).map_err(|error| {
        let negative = matches!(error, BundleError::Untrusted { .. } | BundleError::Damaged(_));
        let failure = anyhow::Error::new(error).context(format!("{} is not used", path.display()));
        Failure::new(if negative { Code::Negative } else { Code::Usage }, failure)
    })
}

fn verify(arguments: &VerifyArguments) -> Result<Code, Failure> {
    let bundle = open(&arguments.trust)?;
    let table = &bundle.table;
    let listed = table.files.iter().map(|(path, digest)| {
        let size = bundle.files.get(path).map_or(0, Vec::len);
        Listed { file: path, size, sha256: digest }
    });
    let listed: Vec<Listed<'_>> = listed.collect();
    let row = |one: &Listed<'_>| {
        let short = one.sha256.chars().take(12).collect();
        vec![one.file.to_owned(), one.size.to_string(), short, one.sha256.to_owned()]
    };
    output::progress(&format!("{:?} of bundle {}, made {}", table.purpose, table.name, table.made));
    output::values(arguments.output, "no file", &COLUMNS, &listed, row, |one| one.file.to_owned())?;
    Ok(Code::Ok)
}

/// The runs of a bundle; of each workflow one where it holds none.
fn runs_of(documents: &[Document]) -> Result<Vec<TestRun>, Failure> {
    let given: Vec<TestRun> = documents
        .iter()
        .filter(|own| own.kind() == "TestRun")
        .map(Document::parse)
        .collect::<Result<_, _>>()?;
    if !given.is_empty() {
        return Ok(given);
    }
    let workflows = documents.iter().filter(|own| own.kind() == "TestWorkflow");
    let one = |document: &Document| {
        let workflow: TestWorkflow = document.parse()?;
        let spec = TestRunSpec { workflow: Some(workflow.spec.clone()), ..TestRunSpec::default() };
        Ok(TestRun::new(&workflow.name_any(), spec))
    };
    workflows.map(one).collect()
}

async fn carry_out(global: &Global, arguments: &LoadArguments, bundle: &Bundle) -> Result<Code, Failure> {
    let (Some(kubeconfig), Some(name), Some(output)) =
        (&arguments.cluster_kubeconfig, &arguments.cluster, &arguments.output)
    else {
        return Err(Failure::usage(
            "this bundle holds runs: --cluster-kubeconfig, --cluster and --output say where they go",
        ));
    };
    let documents: Vec<Document> = bundle
        .files
        .iter()
        .map(|(path, content)| {
            let value = serde_json::from_slice(content).with_context(|| format!("{path} cannot be read"))?;
            Ok(Document { origin: path.clone(), value })
        })
        .collect::<Result<_, Failure>>()?;
    let directory = throw_away::directory()?;
    let cluster = cluster(kubeconfig).await?;
    let runner = Box::pin(TestRunner::start(cluster, name, directory.path())).await.map_err(program)?;
    let client = runner.hub();
    let others: Vec<Document> = documents.iter().filter(|own| own.kind() != "TestRun").cloned().collect();
    throw_away::apply(&client, &others).await?;
    let global = Global { namespace: "default".to_owned(), ..global.clone() };
    let runs: Api<TestRun> = Api::namespaced(client.clone(), &global.namespace);
    let (mut files, mut worst) = (BTreeMap::new(), Code::Ok);
    for mut run in runs_of(&documents)? {
        run.spec.targets = TestTargets { all: true, ..TestTargets::default() };
        run.metadata.namespace = Some(global.namespace.clone());
        let made =
            runs.create(&PostParams::default(), &run).await.map_err(api("cannot make the test run"))?;
        let name = made.name_any();
        let code = follow(&client, &global, &name, arguments.timeout).await?;
        if worst == Code::Ok {
            worst = code;
        }
        results(&client, &global, &name, &mut files).await?;
    }
    runner.stop().await.map_err(program)?;
    let name = format!("{}/{name}", bundle.table.name);
    write(Bundle::new(Purpose::Results, &name, Timestamp::now(), files), &arguments.key, output)?;
    Ok(worst)
}

async fn cluster(kubeconfig: &Path) -> Result<Client, Failure> {
    let wrong = || format!("cannot use {}", kubeconfig.display());
    let read = Kubeconfig::read_from(kubeconfig).with_context(wrong)?;
    let config =
        Config::from_custom_kubeconfig(read, &KubeConfigOptions::default()).await.with_context(wrong)?;
    Ok(Client::try_from(config).with_context(wrong)?)
}

/// What came of a run: the run itself, its log, the files it kept.
async fn results(
    client: &Client,
    global: &Global,
    name: &str,
    files: &mut BTreeMap<String, Vec<u8>>,
) -> Result<(), Failure> {
    let run = test::get(client, global, name).await?;
    let path = format!("/fleet/v1/testruns/{}/{name}/log?follow=false", global.namespace);
    let request = http::Request::get(path).body(Vec::new()).map_err(anyhow::Error::new)?;
    let log = client.request_stream(request).await.map_err(api(format!("cannot read the log of {name}")))?;
    let mut text = Vec::new();
    std::pin::pin!(log).take(MAX_LOG).read_to_end(&mut text).await.context("the log broke off")?;
    files.insert(format!("logs/{name}.ndjson"), text);
    for kept in artifacts::kept(&run) {
        let held: usize = files.values().map(Vec::len).sum();
        if kept.artifact.size.saturating_add(held as u64) > MAX_BYTES {
            let path = &kept.artifact.path;
            output::progress(&format!(
                "{path} of {name} is left out: a bundle holds {MAX_BYTES} bytes at most"
            ));
            continue;
        }
        let content = artifacts::fetch(client, global, name, &kept).await?;
        let place =
            format!("files/{name}/{}/{}/{}/{}", kept.cluster, kept.step, kept.attempt, kept.artifact.path);
        files.insert(place, content);
    }
    files.insert(format!("runs/{name}.json"), serde_json::to_vec(&run).map_err(anyhow::Error::new)?);
    Ok(())
}

async fn take_in(global: &Global, arguments: &LoadArguments, bundle: &Bundle) -> Result<Code, Failure> {
    let client = connection::hub(global).await?;
    let runs: Api<TestRun> = Api::namespaced(client, &global.namespace);
    for (path, content) in &bundle.files {
        if path.starts_with("runs/") {
            let run: TestRun =
                serde_json::from_slice(content).with_context(|| format!("{path} cannot be read"))?;
            let name = record(&runs, &bundle.table.name, bundle.table.made, run).await?;
            output::data(&format!("testrun/{name}\n"))?;
        } else if let Some(dir) = &arguments.dir {
            // Paths of a bundle that was read lead nowhere else.
            let target = dir.join(path);
            let parent = target.parent().unwrap_or(dir);
            std::fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
            std::fs::write(&target, content).with_context(|| format!("cannot write {}", target.display()))?;
        }
    }
    Ok(Code::Ok)
}

/// Makes the run at the hub, or finds it: the same results are taken in once.
async fn record(runs: &Api<TestRun>, bundle: &str, made: Timestamp, run: TestRun) -> Result<String, Failure> {
    let about = format!("{bundle} of {made}: {}", run.name_any());
    let base: String = run.name_any().chars().take(40).collect();
    let name = format!(
        "{}-{}",
        base.trim_end_matches(['-', '.']),
        &workflow::collect::digest(about.as_bytes())[..8]
    );
    let mut own = TestRun::new(&name, run.spec.clone());
    own.labels_mut().extend(run.labels().clone());
    own.annotations_mut().insert(IMPORTED_ANNOTATION.to_owned(), bundle.to_owned());
    match runs.create(&PostParams::default(), &own).await {
        Ok(_) => {}
        Err(kube::Error::Api(status)) if status.code == 409 => {
            output::progress(&format!("{name} is there already"));
        }
        Err(error) => return Err(api("cannot make the test run")(error)),
    }
    let patch = Patch::Merge(json!({ "status": run.status }));
    let written = runs.patch_status(&name, &PatchParams::default(), &patch).await;
    written.map_err(api(format!("cannot write what came of {name}")))?;
    Ok(name)
}
