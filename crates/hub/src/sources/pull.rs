//! Pulls one source: what its places name now, each fetched once into a directory of its own, built, checked and stored.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use fleet_objects::source::{PulledLayer, Source, SourceContent, SourcePlace, SourceRendering, SourceSpec};
use fleet_objects::{ANNOTATION_SYNC, Profile};
use fleet_planner::yaml;
use foundation::causes;
use kube::{Api, ResourceExt};
use manifest_sources::{HelmOptions, Rendering, Surroundings};
use serde_json::Value;

use super::upstream::Upstream;
use super::{check, publish};
use crate::error::Error;
use crate::service::Shared;

/// Below the hub's directory: what is being pulled. Nothing there outlives a start.
const PLACE: &str = "sources";
/// Objects of a layer, together with what the first part's text is bounded by elsewhere.
const MAX_LAYER_OBJECTS: usize = 5000;

/// What a source gave.
#[derive(Debug)]
pub(super) struct Pulled {
    /// The first part, where the source has one.
    pub(super) main: Option<Main>,
    /// The layers, in their order.
    pub(super) layers: Vec<PulledLayer>,
    /// For people.
    pub(super) message: String,
}

/// What the first part became.
#[derive(Debug)]
pub(super) struct Main {
    /// The commit, or the digest of the manifest or chart.
    pub(super) revision: String,
    /// The SHA-256 of what it became.
    pub(super) digest: String,
}

/// A layer with what it holds.
pub(super) type Layer = (PulledLayer, Vec<Value>);

/// Why it gave nothing.
#[derive(Debug)]
pub(super) struct Failure {
    /// One word for programs.
    pub(super) reason: &'static str,
    /// For people.
    pub(super) message: String,
}

impl Failure {
    pub(super) fn new(reason: &'static str, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }
}

impl From<manifest_sources::Error> for Failure {
    fn from(error: manifest_sources::Error) -> Self {
        Self::new(reason(&error), error.chain())
    }
}

fn reason(error: &manifest_sources::Error) -> &'static str {
    use manifest_sources::Error as E;
    match error {
        E::MissingTool { .. } => "ToolMissing",
        E::NotSigned { .. } => "NotSigned",
        E::Invalid(_) => "Invalid",
        E::Submodule { source, .. } => reason(source),
        _ => "PullFailed",
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::new("HubFailed", causes::in_line(&error))
    }
}

/// A directory that is removed when it is no longer needed.
struct Scratch(PathBuf);

impl Scratch {
    async fn make(data_dir: &Path) -> Result<Self, Error> {
        let scratch = Self(data_dir.join(PLACE).join(uuid::Uuid::new_v4().to_string()));
        for part in ["content", "home", "files"] {
            let part = scratch.0.join(part);
            tokio::fs::create_dir_all(&part).await.map_err(Error::file("create", &part))?;
        }
        Ok(scratch)
    }

    fn content(&self) -> PathBuf {
        self.0.join("content")
    }

    fn files(&self) -> PathBuf {
        self.0.join("files")
    }

    fn surroundings(&self) -> Surroundings {
        Surroundings::Isolated { home: self.0.join("home") }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let path = std::mem::take(&mut self.0);
        // Best effort, and aside: what stays is removed at the next start.
        tokio::task::spawn_blocking(move || drop(std::fs::remove_dir_all(path)));
    }
}

/// Removes what an earlier life of this hub left.
pub(super) async fn clean(data_dir: &Path) {
    // Nothing there is the usual case.
    let _ = tokio::fs::remove_dir_all(data_dir.join(PLACE)).await;
}

/// A place that parts of a source are kept at, with what it names now.
struct Origin<'a> {
    place: &'a SourcePlace,
    upstream: Upstream,
    scratch: Scratch,
    revision: String,
    /// Where its content is, once it is fetched.
    root: PathBuf,
}

impl<'a> Origin<'a> {
    async fn resolve(
        shared: &Shared,
        namespace: &str,
        place: &'a SourcePlace,
        parts: &[&SourceContent],
    ) -> Result<Self, Failure> {
        let mut upstream = Upstream::of(shared, namespace, place, parts).await?;
        let scratch = Scratch::make(&shared.data_dir).await?;
        let revision = upstream.resolve(&scratch.surroundings(), &scratch.files()).await?;
        Ok(Self { place, upstream, scratch, revision, root: PathBuf::new() })
    }

    async fn fetch(&mut self) -> Result<(), Failure> {
        let (content, files) = (self.scratch.content(), self.scratch.files());
        (self.revision, self.root) =
            self.upstream.fetch(content, &self.scratch.surroundings(), &files).await?;
        Ok(manifest_sources::check(&self.root).await?)
    }
}

/// Of which layer a failure is.
fn of_layer(name: &str) -> impl FnOnce(Failure) -> Failure {
    move |failure| Failure::new(failure.reason, format!("layer {name}: {}", failure.message))
}

/// Looks at a source; pulls it when it is news.
pub(super) async fn pull(shared: &Shared, source: &Source) -> Result<Pulled, Failure> {
    let spec = &source.spec;
    check::hindrance(spec)?;
    let mut origins = origins(shared, source).await?;
    if let Some(known) = known(shared, source, &origins).await? {
        return Ok(known);
    }
    for origin in &mut origins {
        origin.fetch().await.map_err(|failure| named(spec, origin.place, failure))?;
    }
    let mut total = 0;
    let mut main = None;
    if let Some(origin) = at(&origins, &spec.place) {
        let text = build(spec, origin, &spec.content).await?;
        let count = objects(&text, "content")?.len();
        if count == 0 {
            return Err(Failure::new("Invalid", "it holds no object"));
        }
        total += count;
        let digest = shared.content.put(Bytes::from(text)).await?;
        main = Some(Main { revision: origin.revision.clone(), digest });
    }
    let mut layers: Vec<Layer> = Vec::with_capacity(spec.layers.len());
    for layer in &spec.layers {
        let Some(origin) = at(&origins, spec.place_of(layer)) else { continue };
        let text = build(spec, origin, &layer.content).await.map_err(of_layer(&layer.name))?;
        let objects = objects(&text, &format!("layer {}", layer.name))?;
        if objects.len() > MAX_LAYER_OBJECTS {
            let message = format!("layer {} has more than {MAX_LAYER_OBJECTS} objects", layer.name);
            return Err(Failure::new("Invalid", message));
        }
        total += objects.len();
        let pulled = PulledLayer {
            name: layer.name.clone(),
            url: origin.place.url(),
            revision: origin.revision.clone(),
            objects: u32::try_from(objects.len()).unwrap_or(u32::MAX),
        };
        layers.push((pulled, objects));
    }
    publish::profile(shared, source, main.as_ref(), &layers).await?;
    let layers: Vec<PulledLayer> = layers.into_iter().map(|(layer, _)| layer).collect();
    Ok(Pulled { message: message(total, &origins), main, layers })
}

/// Every place once, with what it names now.
async fn origins<'a>(shared: &Shared, source: &'a Source) -> Result<Vec<Origin<'a>>, Failure> {
    let (spec, namespace) = (&source.spec, source.namespace().unwrap_or_default());
    let main = (!spec.place.is_empty()).then_some((&spec.place, &spec.content));
    let layers = spec.layers.iter().map(|layer| (spec.place_of(layer), &layer.content));
    let parts: Vec<(&SourcePlace, &SourceContent)> = main.into_iter().chain(layers).collect();
    let mut origins: Vec<Origin<'a>> = Vec::new();
    for (place, _) in &parts {
        if at(&origins, place).is_some() {
            continue;
        }
        let own: Vec<&SourceContent> =
            parts.iter().filter(|(other, _)| other == place).map(|(_, content)| *content).collect();
        let origin = Origin::resolve(shared, &namespace, place, &own).await;
        origins.push(origin.map_err(|failure| named(spec, place, failure))?);
    }
    Ok(origins)
}

fn at<'a, 'b>(origins: &'b [Origin<'a>], place: &SourcePlace) -> Option<&'b Origin<'a>> {
    origins.iter().find(|origin| origin.place == place)
}

/// Which part a place's failure is of, where that is not all of them.
fn named(spec: &SourceSpec, place: &SourcePlace, failure: Failure) -> Failure {
    match spec.layers.iter().find(|layer| layer.place == *place) {
        Some(layer) if spec.place != *place => of_layer(&layer.name)(failure),
        _ => failure,
    }
}

fn message(objects: usize, origins: &[Origin<'_>]) -> String {
    match origins {
        [only] => format!("{objects} objects of {}", only.revision),
        many => format!("{objects} objects from {} places", many.len()),
    }
}

/// What the profile holds already, where that is what the source names and nobody asked to pull it anew.
async fn known(shared: &Shared, source: &Source, origins: &[Origin<'_>]) -> Result<Option<Pulled>, Failure> {
    let (spec, Some(status)) = (&source.spec, &source.status) else { return Ok(None) };
    let word = source.annotations().get(ANNOTATION_SYNC);
    let of = |place| at(origins, place).map(|origin| origin.revision.as_str());
    let layers = spec.layers.iter().map(|layer| (layer.name.as_str(), of(spec.place_of(layer))));
    let same = status.revision.as_deref() == of(&spec.place)
        && layers.eq(status.layers.iter().map(|known| (known.name.as_str(), Some(known.revision.as_str()))))
        && Some(status.observed_generation) == source.metadata.generation
        && word.is_none_or(|word| status.synced.as_ref() == Some(word));
    let ready = fleet_objects::condition(&status.conditions, "Ready").filter(|ready| ready.status == "True");
    let Some(ready) = ready.filter(|_| same) else { return Ok(None) };
    let api: Api<Profile> = Api::namespaced(shared.client.clone(), &source.namespace().unwrap_or_default());
    let found = api.get_opt(&spec.profile).await;
    let found = found.map_err(Error::api(format!("read profile {}", spec.profile)))?;
    let Some(profile) = found else { return Ok(None) };
    let main = status.revision.clone().zip(status.digest.clone());
    let main = main.map(|(revision, digest)| Main { revision, digest });
    let holds = main
        .as_ref()
        .is_none_or(|main| profile.spec.source.as_ref().is_some_and(|own| own.digest == main.digest));
    let wanted = spec.layers.iter().zip(&status.layers);
    let wanted =
        wanted.map(|(layer, known)| (&layer.name, Some(publish::origin_of_layer(spec, layer, known))));
    let own = profile.spec.layers.iter().map(|layer| (&layer.name, layer.origin.clone()));
    if !holds || (!spec.layers.is_empty() && !wanted.eq(own)) {
        return Ok(None);
    }
    Ok(Some(Pulled { main, layers: status.layers.clone(), message: ready.message.clone() }))
}

fn objects(text: &str, origin: &str) -> Result<Vec<Value>, Failure> {
    yaml::documents(text, origin).map_err(|error| Failure::new("Invalid", error.to_string()))
}

/// A part as a text of manifests.
async fn build(spec: &SourceSpec, origin: &Origin<'_>, content: &SourceContent) -> Result<String, Failure> {
    let at = |path: &str| manifest_sources::inside(&origin.root, Path::new(path));
    let path = at(content.path.as_deref().unwrap_or("."))?;
    let rendering = match content.render {
        SourceRendering::Auto => Rendering::Auto,
        SourceRendering::Plain => Rendering::Plain,
        SourceRendering::Kustomize => Rendering::Kustomize,
        SourceRendering::Helm => Rendering::Helm,
    };
    let helm = content.helm.clone().unwrap_or_default();
    let mut values = helm.values_files.iter().map(|file| at(file)).collect::<Result<Vec<_>, _>>()?;
    if let Some(given) = &helm.values {
        let file = origin.scratch.files().join("values.json");
        let written = tokio::fs::write(&file, given.to_string()).await;
        written.map_err(Error::file("write", &file))?;
        values.push(file);
    }
    let options = HelmOptions {
        release: helm.release.unwrap_or_else(|| spec.profile.clone()),
        namespace: helm.namespace,
        values,
    };
    Ok(manifest_sources::render(&path, rendering, &options, &origin.scratch.surroundings()).await?)
}
