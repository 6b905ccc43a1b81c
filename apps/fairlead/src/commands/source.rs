//! `fairlead source …`

use std::time::Duration;

use clap::{Args, Subcommand};
use fleet_objects::source::{Source, SourceContent, SourcePlace, SourceStatus};
use fleet_objects::{ANNOTATION_SYNC, condition};
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use crate::arguments::{self, Format, Global};
use crate::failure::{Code, Failure, api};
use crate::{connection, output};

/// Between two looks at a source.
const POLL: Duration = Duration::from_millis(500);

#[derive(Subcommand, Debug)]
pub(crate) enum SourceCommand {
    /// List sources: what was pulled, and what is wrong
    List(ListArguments),
    /// Show where each part of a source's profile is kept, and what it was made of last
    Show(ShowArguments),
    /// Have the hub look at a source now. Exit code 0: the profile holds what it names; 1: not; 5: out of time
    Sync(SyncArguments),
    /// Have the hub leave a source alone; the profile stays as it is
    Suspend(NameArguments),
    /// Have the hub look at a source again
    Resume(NameArguments),
}

#[derive(Args, Debug)]
pub(crate) struct ListArguments {
    /// How to print
    #[arg(long, short, value_enum, default_value_t)]
    output: Format,
}

#[derive(Args, Debug)]
pub(crate) struct SyncArguments {
    /// Which source
    name: String,
    /// How long to wait for the hub
    #[arg(long, default_value = "5m", value_parser = arguments::duration, value_name = "DURATION")]
    timeout: Duration,
}

#[derive(Args, Debug)]
pub(crate) struct ShowArguments {
    /// Which source
    name: String,
    /// How to print
    #[arg(long, short, value_enum, default_value_t)]
    output: Format,
}

#[derive(Args, Debug)]
pub(crate) struct NameArguments {
    /// Which source
    name: String,
}

pub(crate) async fn run(global: &Global, command: SourceCommand) -> Result<Code, Failure> {
    let sources: Api<Source> = Api::namespaced(connection::hub(global).await?, &global.namespace);
    match command {
        SourceCommand::List(arguments) => {
            let found = sources.list(&ListParams::default()).await.map_err(api("cannot list sources"))?;
            let header = ["NAME", "PROFILE", "READY", "REVISION", "MESSAGE", "AGE"];
            output::objects(arguments.output, "source", &header, &found.items, row)?;
            Ok(Code::Ok)
        }
        SourceCommand::Show(ShowArguments { name, output: format }) => {
            let source = sources.get(&name).await.map_err(api(format!("cannot get source {name}")))?;
            if !matches!(format, Format::Table | Format::Wide) {
                output::object(format, "source", &[], &source, row)?;
                return Ok(Code::Ok);
            }
            output::data(&workflow::report::columns(&parts(&source)))?;
            if let Some(ready) =
                source.status.as_ref().and_then(|status| condition(&status.conditions, "Ready"))
            {
                output::progress(&format!("{}: {}", ready.reason, ready.message));
            }
            Ok(Code::Ok)
        }
        SourceCommand::Sync(arguments) => sync(&sources, &arguments).await,
        SourceCommand::Suspend(arguments) => {
            patch(&sources, &arguments.name, json!({"spec": {"suspend": true}})).await?;
            output::progress(&format!("source {} is left alone", arguments.name));
            Ok(Code::Ok)
        }
        SourceCommand::Resume(arguments) => {
            patch(&sources, &arguments.name, json!({"spec": {"suspend": false}})).await?;
            output::progress(&format!("source {} is looked at again", arguments.name));
            Ok(Code::Ok)
        }
    }
}

async fn patch(sources: &Api<Source>, name: &str, patch: Value) -> Result<Source, Failure> {
    let patched = sources.patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await;
    patched.map_err(api(format!("cannot change source {name}")))
}

async fn sync(sources: &Api<Source>, arguments: &SyncArguments) -> Result<Code, Failure> {
    let name = &arguments.name;
    let word = jiff::Timestamp::now().to_string();
    let asked = patch(sources, name, json!({"metadata": {"annotations": {ANNOTATION_SYNC: word}}})).await?;
    if asked.spec.suspend {
        let message = format!("source {name} is suspended");
        return Err(Failure::usage(message).hint(format!("fairlead source resume {name}")));
    }
    let followed = tokio::time::timeout(arguments.timeout, follow(sources, name, &word)).await;
    let status = followed.map_err(|_| {
        let waited = workflow::duration::display(arguments.timeout);
        Failure::timeout(format!("the hub has not looked at source {name} after {waited}"))
            .hint("fairlead source list")
    })??;
    let ready = condition(&status.conditions, "Ready");
    let good = ready.is_some_and(|ready| ready.status == "True");
    let said = ready.map(|ready| ready.message.clone()).unwrap_or_default();
    output::progress(&format!("source {name}: {said}"));
    Ok(if good { Code::Ok } else { Code::Negative })
}

/// Waits until the hub has followed the word.
async fn follow(sources: &Api<Source>, name: &str, word: &str) -> Result<SourceStatus, Failure> {
    loop {
        let source = sources.get(name).await.map_err(api(format!("cannot get source {name}")))?;
        if let Some(status) = source.status.filter(|status| status.synced.as_deref() == Some(word)) {
            return Ok(status);
        }
        tokio::time::sleep(POLL).await;
    }
}

/// A line for the profile's first part and for each layer, under a header.
fn parts(source: &Source) -> Vec<Vec<String>> {
    let (spec, status) = (&source.spec, source.status.clone().unwrap_or_default());
    let line = |name: &str, place: &SourcePlace, content: &SourceContent, revision: Option<&str>| {
        let path = content.path.as_deref().unwrap_or(".");
        vec![name.to_owned(), place.url(), path.to_owned(), revision.unwrap_or("<none>").to_owned()]
    };
    let mut rows = vec![["PART", "FROM", "PATH", "REVISION"].map(str::to_owned).to_vec()];
    if !spec.place.is_empty() {
        rows.push(line("-", &spec.place, &spec.content, status.revision.as_deref()));
    }
    for layer in &spec.layers {
        let pulled = status.layers.iter().find(|pulled| pulled.name == layer.name);
        let revision = pulled.map(|pulled| pulled.revision.as_str());
        rows.push(line(&layer.name, spec.place_of(layer), &layer.content, revision));
    }
    rows
}

fn row(source: &Source) -> Vec<String> {
    let status = source.status.clone().unwrap_or_default();
    let ready = condition(&status.conditions, "Ready");
    let state = if source.spec.suspend {
        "Suspended".to_owned()
    } else {
        ready.map_or_else(|| "Unknown".to_owned(), |ready| ready.status.clone())
    };
    vec![
        source.name_any(),
        source.spec.profile.clone(),
        state,
        status.revision.unwrap_or_default().chars().take(19).collect(),
        ready.map(|ready| ready.message.clone()).unwrap_or_default(),
        output::age(source.metadata.creation_timestamp.as_ref()),
    ]
}
