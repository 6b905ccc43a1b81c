//! What a repository holds about an artifact: the list of manifests that name it as their subject.
//!
//! By the distribution specification 1.1 a registry answers it at `referrers/DIGEST`; of one that does not, whoever pushes
//! keeps the list himself, under the tag `sha256-DIGEST`.

use http::StatusCode;
use http::header::LINK;
use serde::Deserialize;

use super::{Fetched, MAX_MANIFEST, Place, is_digest, manifest};
use crate::client::{Client, Got};
use crate::error::Error;

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// Pages of a list that are read; each may be as large as a manifest.
const MAX_PAGES: usize = 4;

/// A manifest that says something about an artifact, as the list names it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Referrer {
    pub(super) digest: String,
    #[serde(default)]
    pub(super) artifact_type: String,
}

#[derive(Deserialize)]
struct Index {
    #[serde(default)]
    manifests: Vec<Referrer>,
}

/// What says something about the artifact of this digest.
pub(super) async fn list(
    client: &mut Client,
    place: &Place<'_>,
    digest: &str,
) -> Result<Vec<Referrer>, Error> {
    let below = format!("/v2/{}/referrers/", place.repository);
    let mut found = Vec::new();
    let mut path = format!("{below}{digest}");
    for _ in 0..MAX_PAGES {
        let got = match client.get(&path, INDEX, MAX_MANIFEST).await {
            // 404 is what the specification says; registries that know no such address say the others, too.
            Err(Error::Refused {
                status: StatusCode::NOT_FOUND | StatusCode::BAD_REQUEST | StatusCode::NOT_ACCEPTABLE,
                ..
            }) if found.is_empty() => return by_tag(client, place, digest).await,
            got => got?,
        };
        found.extend(read(&got)?);
        match next(&got) {
            Some(next) if next.starts_with(&below) => path = next,
            _ => return Ok(found),
        }
    }
    Err(Error::Invalid(format!("the list of what refers to it has more than {MAX_PAGES} pages")))
}

async fn by_tag(client: &mut Client, place: &Place<'_>, digest: &str) -> Result<Vec<Referrer>, Error> {
    let path = format!("/v2/{}/manifests/{}", place.repository, digest.replace(':', "-"));
    match client.get(&path, INDEX, MAX_MANIFEST).await {
        Ok(got) => read(&got),
        Err(error) if error.is_absent() => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

fn read(got: &Got) -> Result<Vec<Referrer>, Error> {
    let index: Index = serde_json::from_slice(&got.body)
        .map_err(|error| Error::Invalid(format!("the list of what refers to it cannot be read: {error}")))?;
    Ok(index.manifests)
}

/// Where the list goes on (RFC 8288): only at the registry itself.
fn next(got: &Got) -> Option<String> {
    let link = got.headers.get(LINK)?.to_str().ok()?;
    let (target, parameters) = link.strip_prefix('<')?.split_once('>')?;
    parameters.contains("rel=\"next\"").then(|| target.to_owned())
}

/// The manifest of a referrer, which must say of itself what the list says of it.
pub(super) async fn fetch(
    client: &mut Client,
    place: &Place<'_>,
    referrer: &str,
    subject: &str,
) -> Result<Fetched, Error> {
    if !is_digest(referrer) {
        return Err(Error::Invalid(format!(
            "the list of what refers to it names {referrer:?}, which is no digest"
        )));
    }
    let fetched = manifest(client, &Place { version: referrer, ..*place }).await?;
    match &fetched.manifest.subject {
        Some(own) if own.digest == subject => Ok(fetched),
        _ => Err(Error::Invalid(format!("{referrer} is listed and does not refer to it"))),
    }
}
