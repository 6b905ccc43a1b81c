//! What was pulled becomes the profile's content, and the source says so.

use api_client::ObjectCache;
use fleet_objects::source::{PulledLayer, Source, SourceContent, SourceLayer, SourcePlace, SourceSpec};
use fleet_objects::{
    ANNOTATION_SOURCE, ANNOTATION_SYNC, ConditionChange, GROUP, Profile, VERSION, set_condition,
};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::json;

use super::FIELD_MANAGER;
use super::pull::{Failure, Layer, Main, Pulled};
use crate::cluster_status;
use crate::error::Error;
use crate::service::Shared;

/// Characters of a condition's message.
const MAX_MESSAGE: usize = 2048;

/// Writes the content into the profile, and nothing else of it. Fields that somebody else owns are not taken.
pub(super) async fn profile(
    shared: &Shared,
    source: &Source,
    main: Option<&Main>,
    layers: &[Layer],
) -> Result<(), Failure> {
    let (namespace, name) = (source.namespace().unwrap_or_default(), source.spec.profile.clone());
    let mut spec = json!({});
    let mut annotation = None;
    if let Some(Main { revision, digest }) = main {
        let origin = origin(&source.spec.place, &source.spec.content, revision);
        spec["source"] = json!({"digest": digest, "format": "Yaml", "origin": origin});
        annotation = Some(origin);
    }
    if !layers.is_empty() {
        let layer = |(wanted, (pulled, manifests)): (&SourceLayer, &Layer)| {
            let origin = origin_of_layer(&source.spec, wanted, pulled);
            json!({"name": pulled.name, "origin": origin, "manifests": manifests})
        };
        spec["layers"] = source.spec.layers.iter().zip(layers).map(layer).collect();
    }
    let annotation = annotation.or_else(|| Some(spec["layers"][0]["origin"].as_str()?.to_owned()));
    let document = json!({
        "apiVersion": format!("{GROUP}/{VERSION}"),
        "kind": "Profile",
        "metadata": {"name": name, "namespace": namespace, "annotations": {ANNOTATION_SOURCE: annotation}},
        "spec": spec,
    });
    let api: Api<Profile> = Api::namespaced(shared.client.clone(), &namespace);
    match api.patch(&name, &PatchParams::apply(FIELD_MANAGER), &Patch::Apply(&document)).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 409 => {
            let message = format!("profile {name} is somebody else's: {}", status.message);
            Err(Failure::new("Conflict", message))
        }
        Err(kube::Error::Api(status)) if matches!(status.code, 400 | 422) => {
            Err(Failure::new("Invalid", format!("profile {name}: {}", status.message)))
        }
        Err(error) => Err(Error::api(format!("write profile {name}"))(error).into()),
    }
}

/// Where it came from, as exactly as can be told.
fn origin(place: &SourcePlace, content: &SourceContent, revision: &str) -> String {
    format!("{}@{revision} {}", place.url(), content.path.as_deref().unwrap_or("."))
}

/// As [`origin`], of a layer that was pulled.
pub(super) fn origin_of_layer(spec: &SourceSpec, layer: &SourceLayer, pulled: &PulledLayer) -> String {
    origin(spec.place_of(layer), &layer.content, &pulled.revision)
}

/// Says what came of a look, when that is news.
pub(super) async fn status(
    shared: &Shared,
    cache: &ObjectCache<Source>,
    source: &Source,
    pulled: Result<Pulled, Failure>,
) -> Result<(), Error> {
    let before = source.status.clone().unwrap_or_default();
    let generation = source.metadata.generation.unwrap_or_default();
    let mut after = before.clone();
    after.observed_generation = generation;
    after.synced = source.annotations().get(ANNOTATION_SYNC).cloned();
    let (good, reason, message) = match pulled {
        Ok(Pulled { main, layers, message }) => {
            (after.revision, after.digest) = main.map(|main| (main.revision, main.digest)).unzip();
            after.layers = layers;
            (true, "Pulled", message)
        }
        Err(Failure { reason, message }) => (false, reason, format!("{message}; the profile stays as it is")),
    };
    let change = ConditionChange {
        kind: "Ready",
        status: Some(good),
        reason,
        message: message.chars().take(MAX_MESSAGE).collect(),
        observed_generation: Some(generation),
    };
    set_condition(&mut after.conditions, change, &cluster_status::now());
    if source.status.as_ref() == Some(&after) {
        return Ok(());
    }
    let (namespace, name) = (source.namespace().unwrap_or_default(), source.name_any());
    let mut object = source.clone();
    object.status = Some(after);
    let api: Api<Source> = Api::namespaced(shared.client.clone(), &namespace);
    match api.replace_status(&name, &PostParams::default(), &object).await {
        Ok(written) => {
            cache.observe(&written);
            Ok(())
        }
        // It changed meanwhile, or is gone: the change is looked at next.
        Err(error) if api_client::error::is_conflict(&error) || api_client::error::is_not_found(&error) => {
            Ok(())
        }
        Err(error) => Err(Error::api(format!("write the status of source {namespace}/{name}"))(error)),
    }
}
