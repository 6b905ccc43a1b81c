//! Where a source's parts are kept: asked for what it is now, and fetched.

use std::path::{Path, PathBuf};

use fleet_objects::source::{ChartSource, GitSource, OciSource, SecretReference, SourceContent, SourcePlace};
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use manifest_sources::charts::{Chart, Listed};
use manifest_sources::git::{Credentials, Repository, Verify};
use manifest_sources::oci::Artifact;
use manifest_sources::{Login, Surroundings};

use super::check;
use super::pull::Failure;
use crate::error::Error;
use crate::service::Shared;

/// What a place names.
pub(super) enum Upstream {
    Git(Repository),
    Oci(Artifact),
    Chart(Chart, Option<Listed>),
}

impl Upstream {
    /// What `place` names. `parts`: what of it is used.
    pub(super) async fn of(
        shared: &Shared,
        namespace: &str,
        place: &SourcePlace,
        parts: &[&SourceContent],
    ) -> Result<Self, Failure> {
        match (&place.git, &place.oci, &place.chart) {
            (Some(git), None, None) => {
                let secret = secret(shared, namespace, git.secret_ref.as_ref()).await?;
                repository(git, &secret, paths(parts)).map(Self::Git)
            }
            (None, Some(oci), None) => {
                let secret = secret(shared, namespace, oci.secret_ref.as_ref()).await?;
                artifact(oci, &secret).map(Self::Oci)
            }
            (None, None, Some(wanted)) => {
                let secret = secret(shared, namespace, wanted.secret_ref.as_ref()).await?;
                Ok(Self::Chart(chart(wanted, &secret)?, None))
            }
            _ => Err(invalid(check::ONE_PLACE)),
        }
    }

    /// Which commit, manifest or version it names now. `files` is a directory for what the programs need.
    pub(super) async fn resolve(
        &mut self,
        surroundings: &Surroundings,
        files: &Path,
    ) -> Result<String, Failure> {
        match self {
            Self::Git(repository) => Ok(repository.resolve(surroundings, files).await?),
            Self::Oci(artifact) => Ok(artifact.resolve().await?),
            Self::Chart(chart, listed) => Ok(listed.insert(chart.resolve().await?).revision()),
        }
    }

    /// Fetches it into an empty directory; answers what it was, and where in the directory its content is.
    pub(super) async fn fetch(
        &self,
        into: PathBuf,
        surroundings: &Surroundings,
        files: &Path,
    ) -> Result<(String, PathBuf), Failure> {
        match self {
            Self::Git(repository) => {
                let commit = repository.check_out(&into, surroundings, files).await?;
                Ok((commit, into))
            }
            Self::Oci(artifact) => Ok(artifact.pull(&into, surroundings, files).await?),
            Self::Chart(chart, Some(listed)) => Ok(chart.pull(listed, &into, surroundings, files).await?),
            Self::Chart(chart, None) => {
                let listed = chart.resolve().await?;
                Ok(chart.pull(&listed, &into, surroundings, files).await?)
            }
        }
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
fn paths(parts: &[&SourceContent]) -> Vec<PathBuf> {
    let paths = parts.iter().flat_map(|content| {
        let files = content.helm.iter().flat_map(|helm| helm.values_files.iter());
        [content.path.as_deref().unwrap_or(".")].into_iter().chain(files.map(String::as_str))
    });
    paths.map(PathBuf::from).collect()
}

fn repository(git: &GitSource, secret: &Words, paths: Vec<PathBuf>) -> Result<Repository, Failure> {
    let verify = git.verify.as_ref();
    Ok(Repository {
        url: git.url.clone(),
        reference: check::reference(git).map_err(invalid)?,
        credentials: Credentials {
            basic: secret.pair("username", "password")?,
            ssh: secret.pair("identity", "known_hosts")?,
        },
        verify: verify.map_or(Verify::Nobody, |verify| Verify::AllowedSigners {
            signers: verify.allowed_signers.clone(),
            signed: check::signed(verify.signed),
        }),
        paths,
        submodules: git.submodules,
        lfs: git.lfs,
    })
}

fn artifact(oci: &OciSource, secret: &Words) -> Result<Artifact, Failure> {
    let verify = check::signers(oci).map_err(invalid)?;
    Ok(Artifact {
        url: oci.url.clone(),
        version: check::version(oci).map_err(invalid)?,
        credentials: login(secret)?,
        signers: verify.and_then(|verify| verify.public_keys.clone()),
        chart_signers: verify.and_then(|verify| verify.pgp_keys.clone()),
        plain_http: oci.plain_http,
    })
}

fn chart(wanted: &ChartSource, secret: &Words) -> Result<Chart, Failure> {
    Ok(Chart {
        repository: wanted.repository.clone(),
        name: wanted.name.clone(),
        version: wanted.version.clone(),
        digest: wanted.digest.clone(),
        signers: wanted.verify.as_ref().map(|verify| verify.pgp_keys.clone()),
        credentials: login(secret)?,
        plain_http: wanted.plain_http,
    })
}

fn invalid(why: &'static str) -> Failure {
    Failure::new("Invalid", why)
}

fn login(secret: &Words) -> Result<Option<Login>, Failure> {
    let credentials = secret.pair("username", "password")?;
    Ok(credentials.map(|(user, password)| Login { user, password }))
}

#[cfg(test)]
mod tests {
    use fleet_objects::source::OciVerification;

    use super::*;

    #[test]
    fn a_verification_without_keys_is_refused() {
        let keys = |public: Option<&str>, pgp: Option<&str>| OciSource {
            verify: Some(OciVerification {
                public_keys: public.map(str::to_owned),
                pgp_keys: pgp.map(str::to_owned),
            }),
            ..OciSource::default()
        };
        assert!(artifact(&keys(None, None), &Words(None)).is_err());
        let asked = artifact(&keys(Some("a"), Some("b")), &Words(None)).unwrap();
        assert_eq!((asked.signers.as_deref(), asked.chart_signers.as_deref()), (Some("a"), Some("b")));
    }
}
