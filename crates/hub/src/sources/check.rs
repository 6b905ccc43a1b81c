//! What is wrong with a Source whatever servers say: told to whoever writes one, by admission, and in the status of one that a
//! hub holds already. Pure: what is asked for is read out of the specification here, for the pull as well.

use std::collections::BTreeSet;
use std::path::Path;

use api_machinery::names::dns1123_subdomain;
use fleet_objects::source::{
    ChartSource, GitSource, OciSource, OciVerification, SecretReference, SignedObject, SourceContent,
    SourcePlace, SourceRendering, SourceSpec,
};
use fleet_planner::validation::{FieldError, FieldPath};
use manifest_sources::git::{self, Reference, Signed};
use manifest_sources::oci::{self, Version};
use manifest_sources::{charts, check_openpgp_keys, check_path, check_release};

use super::due::INTERVALS;
use super::pull::Failure;
use crate::validation::nameless;

/// Layers of a source, and places that all of them together may be kept at: each takes some disk while it is fetched.
const MAX_LAYERS: usize = 64;
const MAX_PLACES: usize = 16;

/// What is said where a part is kept nowhere, or at several places.
pub(super) const ONE_PLACE: &str = "exactly one of git, oci and chart must be given";

/// Everything that is wrong, by its field.
pub(crate) fn problems(spec: &SourceSpec) -> Vec<FieldError> {
    judge(spec).into_iter().map(|problem| problem.error).collect()
}

/// Refuses what cannot be pulled, in the words of the first thing that is wrong.
pub(super) fn hindrance(spec: &SourceSpec) -> Result<(), Failure> {
    let Some(problem) = judge(spec).into_iter().find(|problem| problem.hinders) else { return Ok(()) };
    let detail = problem.error.detail;
    let of_layer = problem.layer.filter(|layer| !layer.is_empty());
    let message = of_layer.map_or_else(|| detail.clone(), |layer| format!("layer {layer}: {detail}"));
    Err(Failure::new("Invalid", message))
}

/// Which commit of a repository is asked for.
pub(super) fn reference(git: &GitSource) -> Result<Reference, &'static str> {
    match (&git.branch, &git.tag, &git.commit) {
        (None, None, None) => Ok(Reference::Head),
        (Some(branch), None, None) => Ok(Reference::Branch(branch.clone())),
        (None, Some(tag), None) => Ok(Reference::Tag(tag.clone())),
        (None, None, Some(commit)) => Ok(Reference::Commit(commit.clone())),
        _ => Err("of branch, tag and commit only one may be given"),
    }
}

/// What of it must be signed.
pub(super) fn signed(what: Option<SignedObject>) -> Signed {
    match what.unwrap_or_default() {
        SignedObject::Commit => Signed::Commit,
        SignedObject::Tag => Signed::Tag,
        SignedObject::TagAndCommit => Signed::TagAndCommit,
    }
}

/// Which version of an artifact is asked for.
pub(super) fn version(oci: &OciSource) -> Result<Version, &'static str> {
    match (&oci.tag, &oci.digest) {
        (None, None) => Ok(Version::default()),
        (Some(tag), None) => Ok(Version::Tag(tag.clone())),
        (None, Some(digest)) => Ok(Version::Digest(digest.clone())),
        _ => Err("of tag and digest only one may be given"),
    }
}

/// By whom an artifact must be signed. A verification without keys would be none.
pub(super) fn signers(oci: &OciSource) -> Result<Option<&OciVerification>, &'static str> {
    match &oci.verify {
        Some(OciVerification { public_keys: None, pgp_keys: None }) => {
            Err("verify says neither publicKeys nor pgpKeys")
        }
        verify => Ok(verify.as_ref()),
    }
}

/// Something that is wrong.
struct Problem {
    error: FieldError,
    /// Of which layer it is.
    layer: Option<String>,
    /// Whether nothing can be pulled as it is; the rest is said and not followed, and takes nothing from a source that worked.
    hinders: bool,
}

fn judge(spec: &SourceSpec) -> Vec<Problem> {
    let mut found = Found::default();
    let at = FieldPath::new("spec");
    found.name(&at.child("profile"), &spec.profile, "profile");
    let has_content = spec.content != SourceContent::default();
    if !spec.place.is_empty() {
        found.place(&at, &spec.place);
    } else if spec.layers.is_empty() || has_content {
        found.required(&at, ONE_PLACE);
    }
    found.content(&at, &spec.content);
    found.layers(&at.child("layers"), spec);
    if spec.interval_seconds.is_some_and(|seconds| !INTERVALS.contains(&seconds)) {
        let detail = format!("from {} to {}", INTERVALS.start(), INTERVALS.end());
        found.not_followed(&at.child("intervalSeconds"), detail);
    }
    found.all
}

#[derive(Default)]
struct Found {
    all: Vec<Problem>,
    layer: Option<String>,
}

impl Found {
    fn push(&mut self, error: FieldError, hinders: bool) {
        self.all.push(Problem { error, layer: self.layer.clone(), hinders });
    }

    fn wrong(&mut self, at: &FieldPath, detail: impl Into<String>) {
        self.push(nameless(at, detail), true);
    }

    fn not_followed(&mut self, at: &FieldPath, detail: impl Into<String>) {
        self.push(nameless(at, detail), false);
    }

    fn required(&mut self, at: &FieldPath, detail: impl Into<String>) {
        self.push(FieldError::required(at, detail), true);
    }

    fn refused(&mut self, at: &FieldPath, outcome: Result<(), manifest_sources::Error>) {
        if let Err(error) = outcome {
            self.wrong(at, error.chain());
        }
    }

    /// The name of an object beside the source.
    fn name(&mut self, at: &FieldPath, name: &str, what: &str) {
        if name.is_empty() {
            self.required(at, format!("the name of a {what}"));
        } else if let Some(problem) = dns1123_subdomain(name).first() {
            self.wrong(at, format!("{name:?} is no name of a {what}: {problem}"));
        }
    }

    fn layers(&mut self, at: &FieldPath, spec: &SourceSpec) {
        if spec.layers.len() > MAX_LAYERS {
            self.wrong(at, format!("there are more than {MAX_LAYERS} layers"));
        }
        let mut names = BTreeSet::new();
        let mut places: Vec<&SourcePlace> = Vec::new();
        for (index, layer) in spec.layers.iter().enumerate() {
            let at = at.index(index);
            if layer.name.is_empty() {
                self.required(&at.child("name"), "layers are told apart by their names");
            } else if !names.insert(layer.name.as_str()) {
                self.wrong(&at.child("name"), format!("two layers are called {}", layer.name));
            }
            self.layer = Some(layer.name.clone());
            if !layer.place.is_empty() {
                self.place(&at, &layer.place);
            } else if spec.place.is_empty() {
                let detail =
                    "it does not say where it is kept (git, oci or chart), and neither does the source";
                self.required(&at, detail);
            }
            self.content(&at, &layer.content);
            self.layer = None;
            // A document may have more layers than anybody wants to compare.
            if places.len() <= MAX_PLACES && !places.contains(&spec.place_of(layer)) {
                places.push(spec.place_of(layer));
            }
        }
        if !spec.place.is_empty() && !places.contains(&&spec.place) {
            places.push(&spec.place);
        }
        if places.len() > MAX_PLACES {
            self.wrong(at, format!("its parts are kept at more than {MAX_PLACES} places"));
        }
    }

    fn place(&mut self, at: &FieldPath, place: &SourcePlace) {
        let given = [place.git.is_some(), place.oci.is_some(), place.chart.is_some()];
        if given.iter().filter(|given| **given).count() > 1 {
            self.wrong(at, ONE_PLACE);
        }
        if let Some(git) = &place.git {
            self.git(&at.child("git"), git);
        }
        if let Some(oci) = &place.oci {
            self.oci(&at.child("oci"), oci);
        }
        if let Some(chart) = &place.chart {
            self.chart(&at.child("chart"), chart);
        }
    }

    fn git(&mut self, at: &FieldPath, git: &GitSource) {
        self.refused(&at.child("url"), git::check_url(&git.url));
        self.secret(at, git.secret_ref.as_ref());
        let verify = git.verify.as_ref().map(|verify| (at.child("verify"), verify));
        match reference(git) {
            Err(detail) => self.wrong(at, detail),
            Ok(reference) => {
                let field = match reference {
                    Reference::Commit(_) => "commit",
                    Reference::Tag(_) => "tag",
                    _ => "branch",
                };
                self.refused(&at.child(field), git::check_reference(&reference));
                if let Some((at, verify)) = &verify {
                    let outcome = git::check_signed(&reference, signed(verify.signed));
                    self.refused(&at.child("signed"), outcome);
                }
            }
        }
        // `ssh-keygen` reads the file, and may find the line it needs.
        if let Some((at, verify)) = verify
            && let Err(error) = git::check_signers(&verify.allowed_signers)
        {
            self.not_followed(&at.child("allowedSigners"), error.chain());
        }
    }

    fn oci(&mut self, at: &FieldPath, oci: &OciSource) {
        self.refused(&at.child("url"), oci::check_url(&oci.url));
        self.secret(at, oci.secret_ref.as_ref());
        match version(oci) {
            Err(detail) => self.wrong(at, detail),
            Ok(version) => {
                let field = if matches!(version, Version::Tag(_)) { "tag" } else { "digest" };
                self.refused(&at.child(field), oci::check_version(&version));
            }
        }
        let at = at.child("verify");
        match signers(oci) {
            Err(detail) => self.required(&at, detail),
            Ok(None) => {}
            Ok(Some(verify)) => {
                if let Some(keys) = &verify.public_keys {
                    self.refused(&at.child("publicKeys"), oci::check_keys(keys));
                }
                if let Some(keys) = &verify.pgp_keys {
                    self.refused(&at.child("pgpKeys"), check_openpgp_keys(keys));
                }
            }
        }
    }

    fn chart(&mut self, at: &FieldPath, chart: &ChartSource) {
        let outcome = charts::check_repository(&chart.repository, chart.plain_http);
        self.refused(&at.child("repository"), outcome);
        if chart.name.is_empty() {
            self.required(&at.child("name"), "the name of a chart");
        }
        self.secret(at, chart.secret_ref.as_ref());
        if let Some(version) = &chart.version {
            self.refused(&at.child("version"), charts::check_version(version));
        }
        if let Some(digest) = &chart.digest {
            self.refused(&at.child("digest"), charts::check_digest(digest));
        }
        if let Some(verify) = &chart.verify {
            self.refused(&at.child("verify").child("pgpKeys"), check_openpgp_keys(&verify.pgp_keys));
        }
    }

    fn secret(&mut self, at: &FieldPath, reference: Option<&SecretReference>) {
        if let Some(SecretReference { name }) = reference {
            self.name(&at.child("secretRef").child("name"), name, "secret");
        }
    }

    fn content(&mut self, at: &FieldPath, content: &SourceContent) {
        if let Some(path) = &content.path {
            self.refused(&at.child("path"), check_path(Path::new(path)));
        }
        let Some(helm) = &content.helm else { return };
        let at = at.child("helm");
        if matches!(content.render, SourceRendering::Plain | SourceRendering::Kustomize) {
            let detail = format!("Helm is told this, and render says {:?}", content.render);
            self.not_followed(&at, detail);
        }
        if let Some(release) = &helm.release {
            self.refused(&at.child("release"), check_release(release));
        }
        for (index, file) in helm.values_files.iter().enumerate() {
            self.refused(&at.child("valuesFiles").index(index), check_path(Path::new(file)));
        }
        if helm.values.as_ref().is_some_and(|values| !values.is_object()) {
            self.wrong(&at.child("values"), "values are an object");
        }
    }
}

#[cfg(test)]
mod tests;
