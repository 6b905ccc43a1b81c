//! Where a profile's content is kept, for the hub to pull: Git, an OCI registry, or a repository of Helm charts. Each layer
//! may be kept elsewhere.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Where a profile's content is kept. The hub pulls it and writes what it finds into the Profile, under the field manager
/// `fairlead-source`: `spec.source` (and `spec.layers` where `layers` are given). The rest of the Profile is people's.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "fleet.fairlead.dev",
    version = "v1alpha1",
    kind = "Source",
    plural = "sources",
    category = "fleet",
    namespaced,
    status = "SourceStatus",
    derive = "PartialEq",
    printcolumn = r#"{"name":"Profile","type":"string","jsonPath":".spec.profile"}"#,
    printcolumn = r#"{"name":"Ready","type":"string","jsonPath":".status.conditions[?(@.type==\"Ready\")].status"}"#,
    printcolumn = r#"{"name":"Revision","type":"string","jsonPath":".status.revision"}"#,
    printcolumn = r#"{"name":"Suspended","type":"boolean","jsonPath":".spec.suspend"}"#,
    printcolumn = r#"{"name":"Reason","type":"string","priority":1,"jsonPath":".status.conditions[?(@.type==\"Ready\")].message"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct SourceSpec {
    /// The Profile, in the source's namespace; made when it is not there.
    pub profile: String,
    /// Where the profile's first part is kept, and each layer that does not say otherwise. May be missing where every layer
    /// says where it is kept: the profile then has no first part of the source's.
    #[serde(flatten)]
    pub place: SourcePlace,
    /// What of it: the profile's first part.
    #[serde(flatten)]
    pub content: SourceContent,
    /// The profile's layers, in their order, at most 64. Without any, the profile's layers are people's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub layers: Vec<SourceLayer>,
    /// How often it is looked at, from 10 to 86400; 300 when not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval_seconds: Option<u32>,
    /// While true it is not looked at; the profile stays as it is.
    #[serde(default)]
    pub suspend: bool,
}

/// Where something is kept: at most one of these.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SourcePlace {
    /// A Git repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub git: Option<GitSource>,
    /// An artifact in an OCI registry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oci: Option<OciSource>,
    /// A chart in a repository of Helm charts. One in an OCI registry is an artifact: `oci`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chart: Option<ChartSource>,
}

impl SourcePlace {
    /// Whether it names nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Where it is, for people.
    #[must_use]
    pub fn url(&self) -> String {
        match (&self.git, &self.oci, &self.chart) {
            (Some(git), ..) => git.url.clone(),
            (None, Some(oci), _) => oci.url.clone(),
            (None, None, Some(chart)) => {
                format!("{}/{}", chart.repository.trim_end_matches('/'), chart.name)
            }
            (None, None, None) => String::new(),
        }
    }
}

/// A chart in a repository of Helm charts: what `index.yaml` below an HTTP address lists.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ChartSource {
    /// `https://…`, below which `index.yaml` is.
    pub repository: String,
    /// The chart's name.
    pub name: String,
    /// A version, or a range of versions (`1.2.3`, `^1.2`, `~1.2.3`, `1.x`, `>=1.2, <2`) of which the newest is taken; the
    /// newest of all when not given. Versions before a release count only where the range names one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The chart's archive must have this SHA-256: `sha256:` and 64 hexadecimal digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// A Secret of the source's namespace: `username` and `password`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretReference>,
    /// Who must have signed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verify: Option<ChartVerification>,
    /// The repository may be at `http://…`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub plain_http: bool,
}

/// A Git repository. Of `branch`, `tag` and `commit` at most one; the repository's HEAD without any.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GitSource {
    /// `https://`, `ssh://`, `git://` or `user@host:path`.
    pub url: String,
    /// The newest commit of a branch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
    /// What a tag names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// This commit, 40 hexadecimal digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// A Secret of the source's namespace: `username` and `password`, or `identity` (a private key) and `known_hosts`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretReference>,
    /// Who must have signed the commit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verify: Option<GitVerification>,
    /// Whether submodules are fetched, and theirs: at most 64, at most 8 in one another, each at the commit that the repository
    /// names. The Secret is for those at the repository's own server alone.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub submodules: bool,
    /// Whether what pointers of Git LFS point to is fetched, where it becomes manifests. The Secret's `username` and `password` are
    /// for the repository's own server alone.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub lfs: bool,
}

/// Who must have signed what.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GitVerification {
    /// The lines of an `allowed_signers` file of `ssh-keygen`: a principal and a public key each.
    pub allowed_signers: String,
    /// What they must have signed: the commit, unless said otherwise. No default of the schema's: one would stay behind, alone,
    /// where an applied source lets go of its verification.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signed: Option<SignedObject>,
}

/// What must be signed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SignedObject {
    /// The commit.
    #[default]
    Commit,
    /// The annotated tag that `tag` names, made under that very name.
    Tag,
    /// Both.
    TagAndCommit,
}

/// Who must have signed a chart.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ChartVerification {
    /// OpenPGP public keys, armored (`gpg --armor --export`), at most 10 blocks. One of them must have signed the provenance that
    /// lies beside the archive (`NAME-VERSION.tgz.prov`, by `helm package --sign`), of this name, version and digest.
    pub pgp_keys: String,
}

/// Who must have signed an artifact: at least one of these, and what is given holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OciVerification {
    /// Public keys in PEM (`cosign generate-key-pair`: ECDSA on P-256; or Ed25519), at most 10. One of them must have signed
    /// the artifact's digest as `cosign sign --key` does: in a bundle that refers to it, or under a tag of its repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public_keys: Option<String>,
    /// For a chart: OpenPGP public keys, armored (`gpg --armor --export`), at most 10 blocks. One of them must have signed the
    /// chart's provenance (`helm package --sign`, then `helm push`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pgp_keys: Option<String>,
}

/// An artifact in an OCI registry. Of `tag` and `digest` at most one; the tag `latest` without any.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OciSource {
    /// `oci://registry[:port]/repository`.
    pub url: String,
    /// What a tag names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// This manifest: `sha256:` and 64 hexadecimal digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// A Secret of the source's namespace: `username` and `password`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretReference>,
    /// Who must have signed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verify: Option<OciVerification>,
    /// The registry has no TLS.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub plain_http: bool,
}

/// Names a Secret of the same namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SecretReference {
    /// Its name.
    pub name: String,
}

/// What of a repository or artifact becomes manifests, and how.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SourceContent {
    /// A directory or file in it; all of it when not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// How it becomes manifests.
    #[serde(default)]
    pub render: SourceRendering,
    /// What Helm is told, for a chart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub helm: Option<HelmSource>,
}

/// How a directory becomes manifests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SourceRendering {
    /// By what lies in it: a kustomization, a chart, or files.
    #[default]
    Auto,
    /// Every `.yaml`, `.yml` and `.json` file.
    Plain,
    /// By `kustomize` or `kubectl`, which must be on the hub's PATH.
    Kustomize,
    /// By `helm`, which must be on the hub's PATH.
    Helm,
}

/// What Helm is told about a chart.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HelmSource {
    /// The release's name; the profile's when not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<String>,
    /// The release's namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Files of values in the repository or artifact, later ones over earlier ones.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub values_files: Vec<String>,
    /// Values over those of files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::profile::any_value")]
    pub values: Option<Value>,
}

/// A layer of the profile.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SourceLayer {
    /// Its name.
    pub name: String,
    /// Where it is kept; where the source's first part is, when nothing is said.
    #[serde(flatten)]
    pub place: SourcePlace,
    /// What of it.
    #[serde(flatten)]
    pub content: SourceContent,
}

impl SourceSpec {
    /// Where a layer is kept.
    #[must_use]
    pub fn place_of<'a>(&'a self, layer: &'a SourceLayer) -> &'a SourcePlace {
        if layer.place.is_empty() { &self.place } else { &layer.place }
    }
}

/// What a layer of the profile was made of last.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PulledLayer {
    /// Its name.
    pub name: String,
    /// Where it is kept.
    pub url: String,
    /// The commit, or the digest of the manifest or chart.
    pub revision: String,
    /// Objects in it.
    #[serde(default)]
    pub objects: u32,
}

/// What came of pulling.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SourceStatus {
    /// The `metadata.generation` this status speaks of.
    #[serde(default)]
    pub observed_generation: i64,
    /// The commit, or the digest of the manifest or chart, that the profile's first part was made of last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// The SHA-256 of what it became.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// The layers, in their order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub layers: Vec<PulledLayer>,
    /// The value of the annotation `fleet.fairlead.dev/sync` that was followed last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub synced: Option<String>,
    /// `Ready`: the profile holds the newest revision, as far as that is known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}
