//! Artifacts in OCI registries, by the distribution specification's HTTP API: a manifest by tag or digest, and the archive
//! that its first layer is. Everything is checked against its digest.

mod referrers;
mod signature;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use serde::Deserialize;

use crate::archive;
use crate::charts;
use crate::client::{Client, Got, Login};
use crate::error::{Error, aside};
use crate::process::Surroundings;
use crate::provenance::{self, Expected, Keyring, MAX_PROVENANCE};
use crate::shown::shown;
pub use signature::check_keys;

/// Bytes of a manifest (the specification's own bound), and of an artifact's archive.
const MAX_MANIFEST: usize = 4 << 20;
const MAX_LAYER: usize = 64 << 20;
/// The layer of a chart that `helm push` makes of what lies beside the archive.
const PROVENANCE: &str = "application/vnd.cncf.helm.chart.provenance.v1.prov";
/// What manifests are taken: of an image or an artifact, never an index of several.
const MANIFESTS: &str =
    "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json";

/// An artifact.
#[derive(Clone, Debug, Default)]
pub struct Artifact {
    /// `oci://registry[:port]/repository`.
    pub url: String,
    /// Which.
    pub version: Version,
    /// User name and password or token.
    pub credentials: Option<Login>,
    /// Public keys in PEM, one of which must have signed it; `None`: nobody need have.
    pub signers: Option<String>,
    /// OpenPGP keys, armored, one of which must have signed its provenance, as a chart has one; `None`: nobody need have.
    pub chart_signers: Option<String>,
    /// Without TLS: for registries of one's own machine.
    pub plain_http: bool,
}

/// Which version of an artifact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Version {
    /// What a tag names now.
    Tag(String),
    /// This one: `sha256:` and 64 hexadecimal digits.
    Digest(String),
}

impl Default for Version {
    fn default() -> Self {
        Self::Tag("latest".to_owned())
    }
}

/// Where an artifact is.
#[derive(Clone, Copy)]
struct Place<'a> {
    registry: &'a str,
    repository: &'a str,
    version: &'a str,
}

/// A manifest as it came, with its digest.
struct Fetched {
    digest: String,
    body: Bytes,
    manifest: Manifest,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Manifest {
    #[serde(default)]
    layers: Vec<Descriptor>,
    /// What it says something about.
    #[serde(default)]
    subject: Option<Subject>,
}

#[derive(Deserialize)]
struct Subject {
    digest: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    media_type: String,
    digest: String,
    size: u64,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

impl Artifact {
    /// The digest of the manifest that the version names now.
    ///
    /// # Errors
    /// When the registry is not reached or has no such version.
    pub async fn resolve(&self) -> Result<String, Error> {
        let place = self.place()?;
        if let Version::Digest(digest) = &self.version {
            return Ok(digest.clone());
        }
        let mut client = Client::new(place.registry, self.plain_http, self.credentials.clone())?;
        Ok(manifest(&mut client, &place).await?.digest)
    }

    /// Unpacks the artifact into an empty directory; answers the digest of its manifest and the directory that its content
    /// is in: a chart's archive has one of the chart's name. `scratch` is for files that a program needs, and not below `into`.
    ///
    /// # Errors
    /// When the registry is not reached, has no such version, what it sends is not what its digest says, or not signed as it
    /// must be.
    pub async fn pull(
        &self,
        into: &Path,
        surroundings: &Surroundings,
        scratch: &Path,
    ) -> Result<(String, PathBuf), Error> {
        let keyring = self.chart_signers.as_deref().map(Keyring::read).transpose()?;
        let place = self.place()?;
        let mut client = Client::new(place.registry, self.plain_http, self.credentials.clone())?;
        let fetched = manifest(&mut client, &place).await?;
        if let Some(signers) = &self.signers {
            let keys = signature::keys(signers)?;
            signature::verify(&mut client, &place, &fetched, &keys).await?;
        }
        let Fetched { digest, manifest, .. } = fetched;
        let is_archive = |layer: &&Descriptor| {
            let kind = layer.media_type.as_str();
            kind.ends_with("tar") || kind.ends_with("tar+gzip") || kind.ends_with("tar.gzip")
        };
        let Some(layer) = manifest.layers.iter().find(is_archive) else {
            let kinds: Vec<&str> = manifest.layers.iter().map(|layer| layer.media_type.as_str()).collect();
            return Err(Error::Invalid(format!(
                "{} has no layer that is a tar archive: {kinds:?}",
                self.url
            )));
        };
        if layer.size > MAX_LAYER as u64 {
            return Err(Error::Invalid(format!("{} is larger than {MAX_LAYER} bytes", self.url)));
        }
        let body = blob(&mut client, &place, &layer.digest, MAX_LAYER).await?;
        if let Some(keyring) = keyring {
            let expected = place.chart(layer.digest.trim_start_matches("sha256:"));
            let provenance = provenance_of(&mut client, &place, &manifest, &expected).await?;
            provenance::verify(&provenance, keyring, &expected, surroundings, scratch).await?;
        }
        let into = into.to_owned();
        let unpacked = aside(move || archive::unpack(&body, &into).map(|()| archive::content(&into))).await?;
        Ok((digest, unpacked))
    }

    fn place(&self) -> Result<Place<'_>, Error> {
        let (registry, repository) = parts(&self.url)?;
        check_version(&self.version)?;
        let (Version::Tag(version) | Version::Digest(version)) = &self.version;
        Ok(Place { registry, repository, version })
    }
}

/// Checks that an address is `oci://registry[:port]/repository`.
///
/// # Errors
/// When it is not.
pub fn check_url(url: &str) -> Result<(), Error> {
    parts(url).map(drop)
}

/// Checks that a tag may be one, and that a digest is all of one.
///
/// # Errors
/// When it is not.
pub fn check_version(version: &Version) -> Result<(), Error> {
    match version {
        Version::Tag(tag) if tag.len() <= 128 && is_plain(tag, "._-") => Ok(()),
        Version::Digest(digest) if is_digest(digest) => Ok(()),
        Version::Tag(other) | Version::Digest(other) => {
            Err(Error::Invalid(format!("{other:?} is no tag and no sha256 digest")))
        }
    }
}

/// Registry and repository.
fn parts(url: &str) -> Result<(&str, &str), Error> {
    let invalid = || Error::Invalid(format!("{} is no oci://registry/repository", shown(url)));
    let rest = url.strip_prefix("oci://").ok_or_else(invalid)?;
    let (registry, repository) = rest.split_once('/').ok_or_else(invalid)?;
    if !is_plain(registry, ".-:") || !is_plain(repository, "._-/") || repository.ends_with('/') {
        return Err(invalid());
    }
    Ok((registry, repository))
}

/// Whether a part of an address leads nowhere else: letters, digits and some `more`.
fn is_plain(text: &str, more: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || more.as_bytes().contains(&byte);
    !text.is_empty() && !text.contains("..") && text.bytes().all(fits)
}

impl Place<'_> {
    /// The chart that is there. `helm push` makes a tag of its version, and no tag may hold a `+`.
    fn chart<'b>(&self, digest: &'b str) -> Expected<'b> {
        let name = self.repository.rsplit('/').next().unwrap_or_default();
        let version = Some(self.version.replace('_', "+")).filter(|tag| charts::version(tag).is_some());
        Expected {
            what: format!("chart {} {}", self.repository, self.version),
            file: version.map(|version| format!("{name}-{version}.tgz")),
            digest,
        }
    }
}

async fn provenance_of(
    client: &mut Client,
    place: &Place<'_>,
    manifest: &Manifest,
    expected: &Expected<'_>,
) -> Result<Bytes, Error> {
    let not_signed = |said: &str| Error::NotSigned { what: expected.what.clone(), said: said.to_owned() };
    let layer = manifest.layers.iter().find(|layer| layer.media_type == PROVENANCE);
    let layer = layer.ok_or_else(|| {
        not_signed("it has no provenance; helm push takes the .prov file that lies beside the archive")
    })?;
    if layer.size > MAX_PROVENANCE as u64 {
        return Err(not_signed("its provenance is larger than 256 KiB"));
    }
    blob(client, place, &layer.digest, MAX_PROVENANCE).await
}

pub(crate) fn is_digest(text: &str) -> bool {
    text.strip_prefix("sha256:").is_some_and(fleet_planner::is_digest)
}

async fn manifest(client: &mut Client, place: &Place<'_>) -> Result<Fetched, Error> {
    let path = format!("/v2/{}/manifests/{}", place.repository, place.version);
    let Got { body, .. } = client.get(&path, MANIFESTS, MAX_MANIFEST).await?;
    let digest = format!("sha256:{}", fleet_planner::digest(&body));
    if is_digest(place.version) {
        check(&body, place.version, place.repository)?;
    }
    let manifest: Manifest = serde_json::from_slice(&body)
        .map_err(|error| Error::Invalid(format!("{} has no readable manifest: {error}", place.repository)))?;
    Ok(Fetched { digest, body, manifest })
}

/// A blob of the repository, checked.
async fn blob(client: &mut Client, place: &Place<'_>, digest: &str, most: usize) -> Result<Bytes, Error> {
    if !is_digest(digest) {
        return Err(Error::Invalid(format!("{}: {digest:?} is no sha256 digest", place.repository)));
    }
    let path = format!("/v2/{}/blobs/{digest}", place.repository);
    let Got { body, .. } = client.get(&path, "*/*", most).await?;
    check(&body, digest, place.repository)?;
    Ok(body)
}

fn check(body: &Bytes, digest: &str, what: &str) -> Result<(), Error> {
    let found = format!("sha256:{}", fleet_planner::digest(body));
    if found == *digest {
        return Ok(());
    }
    Err(Error::Invalid(format!("{what}: the registry sent {found} for {digest}")))
}

#[cfg(test)]
mod tests;
