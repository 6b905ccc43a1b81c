//! `fairlead profile …`

pub(crate) mod sign;
mod source;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::LazyLock;

use anyhow::Context as _;
use assembly::expressions::Cel;
use clap::{Args, Subcommand};
use fleet_objects::{Profile, ProfileLayer, ProfileSpec};
use fleet_planner::validation::FieldError;
use fleet_planner::validation::profile::{DECLARE, Others};
use kube::api::{ListParams, Patch, PatchParams};
use kube::core::DynamicObject;
use kube::discovery::ApiResource;
use kube::{Api, Client, ResourceExt};

use crate::arguments::{Format, Global};
use crate::documents::{self, Document};
use crate::failure::{Code, Failure, api};
use crate::{connection, output};

/// Under which name the command line applies.
const FIELD_MANAGER: &str = "fairlead-cli";

#[derive(Subcommand, Debug)]
pub(crate) enum ProfileCommand {
    /// Make or replace a profile out of manifests
    Create(CreateArguments),
    /// Apply Profile, Placement and other fleet documents
    Apply(ApplyArguments),
    /// List profiles
    List(ListArguments),
    /// A key for signing releases
    Key(sign::KeyArguments),
    /// Vouch for what a profile holds
    Sign(sign::SignArguments),
}

#[derive(Args, Debug)]
pub(crate) struct CreateArguments {
    /// Name of the profile
    name: String,
    #[command(flatten)]
    source: source::SourceArguments,
    /// A further layer, which begins when those before it are healthy: a directory (with a kustomization or a chart, or of
    /// files) or a file; may be given several times
    #[arg(long = "layer", value_name = "NAME=DIR|FILE", value_parser = layer)]
    layers: Vec<(String, PathBuf)>,
    /// A profile that must be healthy in a cluster before this one begins there; may be given several times
    #[arg(long, value_name = "PROFILE")]
    depends_on: Vec<String>,
    /// Namespace for objects that name none
    #[arg(long, value_name = "NAME")]
    target_namespace: Option<String>,
    /// Print the profile instead of applying it
    #[arg(long)]
    export: bool,
}

#[derive(Args, Debug)]
pub(crate) struct ApplyArguments {
    /// File or directory of fleet documents; - for stdin
    #[arg(long, short = 'f', value_name = "DIR|FILE")]
    from: PathBuf,
    /// Let the hub check everything and change nothing
    #[arg(long)]
    dry_run: bool,
}

#[derive(Args, Debug)]
pub(crate) struct ListArguments {
    /// How to print
    #[arg(long, short, value_enum, default_value_t)]
    output: Format,
}

pub(crate) async fn run(global: &Global, command: ProfileCommand) -> Result<Code, Failure> {
    match command {
        ProfileCommand::Create(arguments) => create(global, arguments).await,
        ProfileCommand::Apply(arguments) => apply(global, &arguments).await,
        ProfileCommand::Key(arguments) => sign::key(&arguments),
        ProfileCommand::Sign(arguments) => sign::sign(global, &arguments).await,
        ProfileCommand::List(arguments) => {
            let profiles: Api<Profile> = Api::namespaced(connection::hub(global).await?, &global.namespace);
            let found = profiles.list(&ListParams::default()).await.map_err(api("cannot list profiles"))?;
            let header = ["NAME", "OBJECTS", "CLUSTERS", "APPLIED", "HEALTHY", "AGE"];
            output::objects(arguments.output, "profile", &header, &found.items, row)?;
            Ok(Code::Ok)
        }
    }
}

async fn create(global: &Global, arguments: CreateArguments) -> Result<Code, Failure> {
    let namespace = arguments.target_namespace.as_deref();
    let source = source::read(&arguments.source, &arguments.name, namespace).await?;
    if source.documents.is_empty() {
        return Err(Failure::usage(format!("{} holds no object", source.origin)));
    }
    let mut layers = Vec::with_capacity(arguments.layers.len());
    for (name, path) in &arguments.layers {
        let source = source::read(&arguments.source.of_layer(path), &arguments.name, namespace).await?;
        layers.push(ProfileLayer {
            name: name.clone(),
            origin: Some(source.origin),
            manifests: source.documents.into_iter().map(|document| document.value).collect(),
            health: Vec::new(),
        });
    }
    let spec = ProfileSpec {
        manifests: source.documents.into_iter().map(|document| document.value).collect(),
        target_namespace: arguments.target_namespace,
        layers,
        depends_on: arguments.depends_on,
        ..ProfileSpec::default()
    };
    let count = spec.manifests.len() + spec.layers.iter().map(|layer| layer.manifests.len()).sum::<usize>();
    let mut profile = Profile::new(&arguments.name, spec);
    profile.metadata.namespace = Some(global.namespace.clone());
    profile.annotations_mut().insert(fleet_objects::ANNOTATION_SOURCE.to_owned(), source.origin.clone());
    let value = serde_json::to_value(&profile).context("cannot write the profile as JSON")?;
    check(&Document { origin: source.origin, value })?;
    if arguments.export {
        for open in
            fleet_planner::validation::profile::problems(&profile.spec, Others::default(), &Cel::default())
        {
            output::progress(&format!("before it is applied: {open}"));
        }
        output::data(&output::yaml(&profile)?)?;
        return Ok(Code::Ok);
    }
    let profiles: Api<Profile> = Api::namespaced(connection::hub(global).await?, &global.namespace);
    let params = PatchParams::apply(FIELD_MANAGER).force().validation_strict();
    let applied = profiles.patch(&arguments.name, &params, &Patch::Apply(&profile)).await;
    applied.map_err(|error| {
        undeclared(api(format!("cannot apply profile {}", arguments.name))(error), &arguments.name)
    })?;
    output::progress(&format!("applied profile {} with {count} objects", arguments.name));
    Ok(Code::Ok)
}

/// Where the hub misses variables: it alone knows those that the profile has already, so it is the one that says so.
fn undeclared(failure: Failure, name: &str) -> Failure {
    let says = |error: &anyhow::Error| error.chain().any(|cause| cause.to_string().contains(DECLARE));
    if !failure.error.as_ref().is_some_and(says) {
        return failure;
    }
    failure.hint(format!(
        "add --export and > {name}.yaml, declare the variables in it, then fairlead profile apply -f {name}.yaml"
    ))
}

fn layer(text: &str) -> Result<(String, PathBuf), String> {
    match text.split_once('=') {
        Some((name, path)) if !name.is_empty() && !path.is_empty() => Ok((name.to_owned(), path.into())),
        _ => Err("expected NAME=DIR".to_owned()),
    }
}

/// Everything is checked by a dry run before anything is changed, so that a mistake in one document changes nothing.
async fn apply(global: &Global, arguments: &ApplyArguments) -> Result<Code, Failure> {
    let documents = documents::unfolded(documents::read(&arguments.from)?)?;
    if documents.is_empty() {
        return Err(Failure::usage(format!("{} holds no document", arguments.from.display())));
    }
    documents.iter().try_for_each(check)?;
    let client = connection::hub(global).await?;
    for document in &documents {
        apply_one(&client, global, document, true).await?;
    }
    if arguments.dry_run {
        output::progress(&format!("{} documents are right", documents.len()));
        return Ok(Code::Ok);
    }
    for document in &documents {
        let applied = apply_one(&client, global, document, false).await?;
        output::progress(&format!("applied {}", applied.title));
    }
    Ok(Code::Ok)
}

/// A document that the hub has applied, or would.
pub(super) struct Applied {
    title: String,
    /// As the hub then has it.
    pub(super) object: DynamicObject,
}

/// Applies one document; `dry_run` changes nothing.
pub(super) async fn apply_one(
    client: &Client,
    global: &Global,
    document: &Document,
    dry_run: bool,
) -> Result<Applied, Failure> {
    let object: DynamicObject = document.parse()?;
    let types = object.types.clone().unwrap_or_default();
    let (group, version) = types.api_version.split_once('/').unwrap_or(("", types.api_version.as_str()));
    if group != fleet_objects::GROUP {
        let message = format!(
            "{} is a {} {}, not a document of group {}",
            document.origin,
            types.api_version,
            types.kind,
            fleet_objects::GROUP
        );
        let hint = format!("fairlead profile create NAME --from {}", document.origin);
        return Err(Failure::usage(message).hint(hint));
    }
    let name = object.name_any();
    if name.is_empty() {
        return Err(Failure::usage(format!("{} has no metadata.name", document.origin)));
    }
    check(document)?;
    let kind = kube::core::GroupVersionKind::gvk(group, version, &types.kind);
    let resource = ApiResource::from_gvk(&kind);
    let objects: Api<DynamicObject> = if has_no_namespace(&types.kind) {
        Api::all_with(client.clone(), &resource)
    } else {
        let namespace = object.namespace().unwrap_or_else(|| global.namespace.clone());
        Api::namespaced_with(client.clone(), &namespace, &resource)
    };
    let mut params = PatchParams::apply(FIELD_MANAGER).force().validation_strict();
    params.dry_run = dry_run;
    let title = format!("{}/{name}", types.kind.to_lowercase());
    let applied = objects.patch(&name, &params, &Patch::Apply(&object)).await;
    let object = applied.map_err(api(format!("cannot apply {title} of {}", document.origin)))?;
    Ok(Applied { title, object })
}

/// What is wrong with a document whatever the hub holds is told here, in the words that the hub would say it in.
fn check(document: &Document) -> Result<(), Failure> {
    let found = hub::validation::of_document(&document.value, Cel::default().languages());
    if found.is_empty() {
        return Ok(());
    }
    let told = |problem: &FieldError| format!("{}: {problem}", document.origin);
    Err(Failure::usage(found.iter().map(told).collect::<Vec<_>>().join("\n")))
}

/// Whether the fleet's objects of a kind live in no namespace. What is no kind of the fleet is the hub's to say.
fn has_no_namespace(kind: &str) -> bool {
    // Definitions hold whole schemas: they are made once, however many documents there are.
    static KINDS: LazyLock<BTreeSet<String>> = LazyLock::new(|| {
        let definitions =
            fleet_objects::custom_resource_definitions().into_iter().map(|own| own["spec"].clone());
        let own = definitions.filter(|own| own["group"] == fleet_objects::GROUP && own["scope"] == "Cluster");
        own.filter_map(|own| own["names"]["kind"].as_str().map(str::to_owned)).collect()
    });
    KINDS.contains(kind)
}

fn row(profile: &Profile) -> Vec<String> {
    let status = profile.status.clone().unwrap_or_default();
    let figures = [status.objects, status.clusters, status.applied, status.healthy].map(|n| n.to_string());
    let mut row = vec![profile.name_any()];
    row.extend(figures);
    row.push(output::age(profile.metadata.creation_timestamp.as_ref()));
    row
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_judged_without_a_hub_and_every_mistake_is_told() {
        let document = |value: serde_json::Value| Document { origin: "x.yaml".to_owned(), value };
        let rollout = serde_json::json!({"kind": "Rollout", "spec": {"strategy": {"waves": [
            {"clusters": "many"}, {"gates": [{"type": "Expression", "expression": "cluster.ready &&"}]}]}}});
        let failure = check(&document(rollout)).expect_err("two mistakes");
        assert_eq!(failure.code, Code::Usage);
        let told = crate::failure::render(&failure);
        for part in [
            "error: x.yaml: spec.strategy.waves[0].clusters: Invalid value: \"many\" is neither a number",
            "x.yaml: spec.strategy.waves[1].gates[0].expression: Invalid value: \"cluster.ready &&\": compilation failed: ERROR: ",
        ] {
            assert!(told.contains(part), "{told}");
        }
        // The hub may have the variables of another writer, and then judges; a list that stands here is the whole list.
        let profile = |more: serde_json::Value| {
            let map = serde_json::json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"},
                "data": {"key": "${var.colour}"}});
            let mut spec = serde_json::json!({"manifests": [map]});
            spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            document(serde_json::json!({"kind": "Profile", "spec": spec}))
        };
        assert!(check(&profile(serde_json::json!({}))).is_ok());
        let told =
            check(&profile(serde_json::json!({"variables": [{"name": "color"}]}))).expect_err("misspelt");
        let told = crate::failure::render(&told);
        assert!(told.contains("unknown variable ${var.colour}; did you mean ${var.color}?"), "{told}");
        assert!(check(&document(serde_json::json!({"kind": "ConfigMap", "spec": 7}))).is_ok());
    }

    #[test]
    fn what_a_kind_lives_in_is_what_its_definition_says() {
        for (kind, expected) in [
            ("Cluster", true),
            ("AlertRule", true),
            ("AlertReceiver", true),
            ("AlertSilence", true),
            ("Profile", false),
            ("Placement", false),
            ("Nonsense", false),
        ] {
            assert_eq!(has_no_namespace(kind), expected, "{kind}");
        }
    }
}
