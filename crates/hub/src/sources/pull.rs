//! Pulls one source: what it names now, fetched into a directory of its own, built, checked and stored.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use fleet_objects::source::{
    GitSource, OciSource, SecretReference, SignedObject, Source, SourceContent, SourceRendering, SourceSpec,
};
use fleet_objects::{ANNOTATION_SYNC, Profile};
use fleet_planner::yaml;
use foundation::causes;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, ResourceExt};
use manifest_sources::git::{Credentials, Reference, Repository, Signed, Verify};
use manifest_sources::oci::{Artifact, Login, Version};
use manifest_sources::{HelmOptions, Rendering, Surroundings};
use serde_json::Value;

use super::publish;
use crate::error::Error;
use crate::service::Shared;

/// Below the hub's directory: what is being pulled. Nothing there outlives a start.
const PLACE: &str = "sources";
/// Objects of a layer, together with what the first part's text is bounded by elsewhere.
const MAX_LAYER_OBJECTS: usize = 5000;

/// What a source gave.
#[derive(Debug)]
pub(super) struct Pulled {
    /// The commit, or the digest of the manifest.
    pub(super) revision: String,
    /// The SHA-256 of what it became.
    pub(super) digest: String,
    /// For people.
    pub(super) message: String,
}

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
        use manifest_sources::Error as E;
        let reason = match &error {
            E::MissingTool { .. } => "ToolMissing",
            E::NotSigned { .. } => "NotSigned",
            E::Invalid(_) => "Invalid",
            _ => "PullFailed",
        };
        Self::new(reason, error.chain())
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

/// What a source names.
enum Upstream {
    Git(Repository),
    Oci(Artifact),
}

/// Looks at a source; pulls it when it is news.
pub(super) async fn pull(shared: &Shared, source: &Source) -> Result<Pulled, Failure> {
    let namespace = source.namespace().unwrap_or_default();
    let upstream = upstream(shared, &source.spec, &namespace).await?;
    let scratch = Scratch::make(&shared.data_dir).await?;
    let revision = match &upstream {
        Upstream::Git(repository) => repository.resolve(&scratch.surroundings(), &scratch.files()).await?,
        Upstream::Oci(artifact) => artifact.resolve().await?,
    };
    if let Some(known) = known(shared, source, &revision).await? {
        return Ok(known);
    }
    let (revision, root) = match &upstream {
        Upstream::Git(repository) => {
            let content = scratch.content();
            let commit = repository.check_out(&content, &scratch.surroundings(), &scratch.files()).await?;
            (commit, content)
        }
        Upstream::Oci(artifact) => artifact.pull(&scratch.content()).await?,
    };
    manifest_sources::check(&root).await?;
    let builder = Builder { source, root: &root, scratch: &scratch };
    let main = builder.text(&source.spec.content).await?;
    let count = objects(&main, "content")?.len();
    if count == 0 {
        return Err(Failure::new("Invalid", "it holds no object"));
    }
    let mut layers = Vec::with_capacity(source.spec.layers.len());
    let mut total = count;
    for layer in &source.spec.layers {
        let text = builder.text(&layer.content).await.map_err(|failure| {
            Failure::new(failure.reason, format!("layer {}: {}", layer.name, failure.message))
        })?;
        let objects = objects(&text, &format!("layer {}", layer.name))?;
        if objects.len() > MAX_LAYER_OBJECTS {
            let message = format!("layer {} has more than {MAX_LAYER_OBJECTS} objects", layer.name);
            return Err(Failure::new("Invalid", message));
        }
        total += objects.len();
        layers.push((layer.name.clone(), objects));
    }
    let digest = shared.content.put(Bytes::from(main)).await?;
    publish::profile(shared, source, &revision, &digest, layers).await?;
    Ok(Pulled { message: message(&revision, total), revision, digest })
}

fn message(revision: &str, objects: usize) -> String {
    format!("{objects} objects of {revision}")
}

/// What the profile holds already, where that is what the source names and nobody asked to pull it anew.
async fn known(shared: &Shared, source: &Source, revision: &str) -> Result<Option<Pulled>, Failure> {
    let Some(status) = &source.status else { return Ok(None) };
    let word = source.annotations().get(ANNOTATION_SYNC);
    let same = status.revision.as_deref() == Some(revision)
        && Some(status.observed_generation) == source.metadata.generation
        && word.is_none_or(|word| status.synced.as_ref() == Some(word));
    let Some(digest) = status.digest.clone().filter(|_| same) else { return Ok(None) };
    let api: Api<Profile> = Api::namespaced(shared.client.clone(), &source.namespace().unwrap_or_default());
    let found = api.get_opt(&source.spec.profile).await;
    let found = found.map_err(Error::api(format!("read profile {}", source.spec.profile)))?;
    let holds = found.and_then(|profile| profile.spec.source).is_some_and(|own| own.digest == digest);
    let ready = fleet_objects::condition(&status.conditions, "Ready").filter(|ready| ready.status == "True");
    let message = ready.map(|ready| ready.message.clone());
    Ok(message.filter(|_| holds).map(|message| Pulled { revision: revision.to_owned(), digest, message }))
}

fn objects(text: &str, origin: &str) -> Result<Vec<Value>, Failure> {
    yaml::documents(text, origin).map_err(|error| Failure::new("Invalid", error.to_string()))
}

async fn upstream(shared: &Shared, spec: &SourceSpec, namespace: &str) -> Result<Upstream, Failure> {
    match (&spec.git, &spec.oci) {
        (Some(git), None) => {
            let secret = secret(shared, namespace, git.secret_ref.as_ref()).await?;
            repository(git, &secret, paths(spec)).map(Upstream::Git)
        }
        (None, Some(oci)) => {
            let secret = secret(shared, namespace, oci.secret_ref.as_ref()).await?;
            artifact(oci, &secret).map(Upstream::Oci)
        }
        _ => Err(Failure::new("Invalid", "exactly one of git and oci must be given")),
    }
}

/// What a Secret says, by key.
struct Words(Option<Secret>);

impl Words {
    fn get(&self, key: &str) -> Result<Option<String>, Failure> {
        let found = self.0.as_ref().and_then(|secret| secret.data.as_ref()?.get(key));
        let text = found.map(|bytes| String::from_utf8(bytes.0.clone()));
        text.transpose().map_err(|_| Failure::new("Invalid", format!("{key} of the Secret is no text")))
    }

    fn pair(&self, first: &str, second: &str) -> Result<Option<(String, String)>, Failure> {
        match (self.get(first)?, self.get(second)?) {
            (Some(a), Some(b)) => Ok(Some((a, b))),
            (None, None) => Ok(None),
            _ => {
                Err(Failure::new("Invalid", format!("the Secret must have {first} and {second}, or neither")))
            }
        }
    }
}

async fn secret(
    shared: &Shared,
    namespace: &str,
    reference: Option<&SecretReference>,
) -> Result<Words, Failure> {
    let Some(SecretReference { name }) = reference else { return Ok(Words(None)) };
    let api: Api<Secret> = Api::namespaced(shared.client.clone(), namespace);
    let found = api.get_opt(name).await.map_err(Error::api(format!("read secret {namespace}/{name}")))?;
    match found {
        Some(secret) => Ok(Words(Some(secret))),
        None => Err(Failure::new("Invalid", format!("there is no secret {name} in namespace {namespace}"))),
    }
}

/// What of a repository is used; all of it where one part is all of it.
fn paths(spec: &SourceSpec) -> Vec<PathBuf> {
    let parts = [&spec.content].into_iter().chain(spec.layers.iter().map(|layer| &layer.content));
    let paths = parts.flat_map(|content| {
        let files = content.helm.iter().flat_map(|helm| helm.values_files.iter());
        [content.path.as_deref().unwrap_or(".")].into_iter().chain(files.map(String::as_str))
    });
    paths.map(PathBuf::from).collect()
}

fn repository(git: &GitSource, secret: &Words, paths: Vec<PathBuf>) -> Result<Repository, Failure> {
    let reference = match (&git.branch, &git.tag, &git.commit) {
        (None, None, None) => Reference::Head,
        (Some(branch), None, None) => Reference::Branch(branch.clone()),
        (None, Some(tag), None) => Reference::Tag(tag.clone()),
        (None, None, Some(commit)) => Reference::Commit(commit.clone()),
        _ => return Err(Failure::new("Invalid", "of branch, tag and commit only one may be given")),
    };
    let verify = git.verify.as_ref();
    Ok(Repository {
        url: git.url.clone(),
        reference,
        credentials: Credentials {
            basic: secret.pair("username", "password")?,
            ssh: secret.pair("identity", "known_hosts")?,
        },
        verify: verify.map_or(Verify::Nobody, |verify| Verify::AllowedSigners {
            signers: verify.allowed_signers.clone(),
            signed: match verify.signed.unwrap_or_default() {
                SignedObject::Commit => Signed::Commit,
                SignedObject::Tag => Signed::Tag,
                SignedObject::TagAndCommit => Signed::TagAndCommit,
            },
        }),
        paths,
    })
}

fn artifact(oci: &OciSource, secret: &Words) -> Result<Artifact, Failure> {
    let version = match (&oci.tag, &oci.digest) {
        (None, None) => Version::default(),
        (Some(tag), None) => Version::Tag(tag.clone()),
        (None, Some(digest)) => Version::Digest(digest.clone()),
        _ => return Err(Failure::new("Invalid", "of tag and digest only one may be given")),
    };
    let credentials = secret.pair("username", "password")?;
    Ok(Artifact {
        url: oci.url.clone(),
        version,
        credentials: credentials.map(|(user, password)| Login { user, password }),
        signers: oci.verify.as_ref().map(|verify| verify.public_keys.clone()),
        plain_http: oci.plain_http,
    })
}

/// Builds parts of what was fetched.
struct Builder<'a> {
    source: &'a Source,
    root: &'a Path,
    scratch: &'a Scratch,
}

impl Builder<'_> {
    async fn text(&self, content: &SourceContent) -> Result<String, Failure> {
        let at = |path: &str| manifest_sources::inside(self.root, Path::new(path));
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
            let file = self.scratch.files().join("values.json");
            let written = tokio::fs::write(&file, given.to_string()).await;
            written.map_err(Error::file("write", &file))?;
            values.push(file);
        }
        let options = HelmOptions {
            release: helm.release.unwrap_or_else(|| self.source.spec.profile.clone()),
            namespace: helm.namespace,
            values,
        };
        Ok(manifest_sources::render(&path, rendering, &options, &self.scratch.surroundings()).await?)
    }
}
