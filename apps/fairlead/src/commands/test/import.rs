//! `fairlead test import`

use std::path::PathBuf;

use clap::Args;
use fleet_objects::test_workflow::{TestWorkflow, TestWorkflowTemplate};
use kube::api::{Patch, PatchParams};
use kube::{Api, Client, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use workflow::import::{self, Imported};

use crate::arguments::Global;
use crate::documents::Document;
use crate::failure::{Code, Failure, api};
use crate::{connection, documents, output};

/// Who owns what is imported, for server-side apply.
const FIELD_MANAGER: &str = "fairlead-import";

/// Exit code 0: everything was moved; 1: something was left out, each named on stderr.
#[derive(Args, Debug)]
pub(crate) struct ImportArguments {
    /// File or directory with TestWorkflow and TestWorkflowTemplate documents of Testkube; - for stdin
    #[arg(long, short, required = true)]
    file: Vec<PathBuf>,
    /// Print the documents instead of applying them to the hub
    #[arg(long)]
    export: bool,
}

pub(crate) async fn run(global: &Global, arguments: ImportArguments) -> Result<Code, Failure> {
    let mut moved = Vec::new();
    let mut complete = true;
    for file in &arguments.file {
        for document in documents::read(file)? {
            let Imported { document: ours, lost } = import::document(&document.value);
            let name = document.value["metadata"]["name"].as_str().unwrap_or("without a name");
            for (field, why) in &lost {
                complete = false;
                output::progress(&format!("{}: {} {name}: {field}: {why}", document.origin, document.kind()));
            }
            if let Some(value) = ours {
                moved.push(Document { origin: document.origin.clone(), value });
            }
        }
    }
    if arguments.export {
        for document in &moved {
            output::data(&format!("---\n{}", output::yaml(&document.value)?))?;
        }
    } else {
        let client = connection::hub(global).await?;
        for document in &moved {
            match document.kind() {
                "TestWorkflowTemplate" => apply::<TestWorkflowTemplate>(&client, global, document).await?,
                _ => apply::<TestWorkflow>(&client, global, document).await?,
            }
        }
    }
    Ok(if complete { Code::Ok } else { Code::Negative })
}

/// Makes a document of Testkube's ours and says what it loses; others stay as they are.
pub(crate) fn in_place(document: &mut Document) {
    if !import::is_testkube(&document.value) {
        return;
    }
    let Imported { document: ours, lost } = import::document(&document.value);
    for (field, why) in &lost {
        output::progress(&format!("{}: {field}: {why}", document.origin));
    }
    if let Some(value) = ours {
        document.value = value;
    }
}

async fn apply<K>(client: &Client, global: &Global, document: &Document) -> Result<(), Failure>
where
    K: Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>
        + Clone
        + Serialize
        + DeserializeOwned
        + std::fmt::Debug,
{
    // What does not fit the kind is told before anything is sent.
    let _: K = document.parse()?;
    let mut value = document.value.clone();
    let own = value["metadata"]["namespace"].as_str().map(str::to_owned);
    let namespace = own.unwrap_or_else(|| global.namespace.clone());
    value["metadata"]["namespace"] = Value::from(namespace.as_str());
    let name = value["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    let target: Api<K> = Api::namespaced(client.clone(), &namespace);
    let params = PatchParams::apply(FIELD_MANAGER).force();
    let what = format!("{} {name}", document.kind());
    target.patch(&name, &params, &Patch::Apply(&value)).await.map_err(api(format!("cannot apply {what}")))?;
    output::data(&format!("{}/{name}\n", document.kind().to_lowercase()))
}
