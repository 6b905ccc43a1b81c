//! From a directory to manifests: as they are, or built by Kustomize or Helm.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::directory;
use crate::error::{Error, aside};
use crate::process::{Call, Surroundings, find};

/// How a directory becomes manifests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rendering {
    /// By what lies in it: a kustomization, a chart, or files.
    #[default]
    Auto,
    /// Every `.yaml`, `.yml` and `.json` file.
    Plain,
    /// `kustomize build`, or `kubectl kustomize`.
    Kustomize,
    /// `helm template`.
    Helm,
}

/// What Helm is told about a chart.
#[derive(Clone, Debug, Default)]
pub struct HelmOptions {
    /// The release's name.
    pub release: String,
    /// The namespace of the release.
    pub namespace: Option<String>,
    /// Files of values, later ones over earlier ones.
    pub values: Vec<PathBuf>,
}

/// What a kustomization's file may be called.
pub(crate) const KUSTOMIZATIONS: [&str; 3] = ["kustomization.yaml", "kustomization.yml", "Kustomization"];

/// What a directory is, by what lies in it.
#[must_use]
pub fn holds(directory: &Path) -> Rendering {
    let has = |name: &str| directory.join(name).is_file();
    if KUSTOMIZATIONS.into_iter().any(has) {
        Rendering::Kustomize
    } else if has("Chart.yaml") {
        Rendering::Helm
    } else {
        Rendering::Plain
    }
}

/// The manifests of a path, as a text of any number of YAML documents.
///
/// # Errors
/// A program that is missing or fails, files that cannot be read, a chart with hooks.
pub async fn render(
    path: &Path,
    rendering: Rendering,
    helm: &HelmOptions,
    surroundings: &Surroundings,
) -> Result<String, Error> {
    match rendering {
        Rendering::Auto => Box::pin(render(path, holds(path), helm, surroundings)).await,
        Rendering::Plain => {
            let path = path.to_owned();
            aside(move || directory::manifests(&path)).await
        }
        Rendering::Kustomize => kustomize(path, surroundings).await,
        Rendering::Helm => template(path, helm, surroundings).await,
    }
}

async fn kustomize(directory: &Path, surroundings: &Surroundings) -> Result<String, Error> {
    let own = find("kustomize").map(|tool| (tool, "build"));
    let Some((program, verb)) = own.or_else(|| find("kubectl").map(|tool| (tool, "kustomize"))) else {
        let needs = "neither kustomize nor kubectl is on the PATH, and a kustomization needs one of them";
        let hint = "https://kubectl.docs.kubernetes.io/installation/kustomize";
        return Err(Error::MissingTool { needs: needs.to_owned(), hint });
    };
    let directory = directory.canonicalize().map_err(Error::file("find", directory))?;
    let call = Call {
        tool: "kustomize",
        program,
        arguments: vec![verb.into(), directory.clone().into()],
        directory: &directory,
        surroundings,
        environment: Vec::new(),
    };
    call.run().await
}

async fn template(chart: &Path, options: &HelmOptions, surroundings: &Surroundings) -> Result<String, Error> {
    let release = options.release.as_str();
    check_release(release)?;
    let Some(program) = find("helm") else {
        let needs = "helm is not on the PATH, and a chart needs it".to_owned();
        return Err(Error::MissingTool { needs, hint: "https://helm.sh/docs/intro/install" });
    };
    // A path, never the name of a chart in some repository of the user's.
    let chart = chart.canonicalize().map_err(Error::file("find chart", chart))?;
    let mut arguments: Vec<OsString> =
        vec!["template".into(), release.into(), chart.clone().into(), "--include-crds".into()];
    for file in &options.values {
        arguments.extend(["--values".into(), file.clone().into()]);
    }
    if let Some(namespace) = &options.namespace {
        arguments.push(format!("--namespace={namespace}").into());
    }
    let directory = chart.parent().unwrap_or(&chart);
    let call = Call { tool: "helm", program, arguments, directory, surroundings, environment: Vec::new() };
    let text = call.run().await?;
    refuse_hooks(&text)?;
    Ok(text)
}

/// Checks that a text may be a release's name, and no program takes it for an option.
///
/// # Errors
/// When it may not.
pub fn check_release(name: &str) -> Result<(), Error> {
    if name.is_empty() || name.starts_with('-') {
        return Err(Error::Invalid(format!("{name:?} is no name of a release")));
    }
    Ok(())
}

/// A profile enforces: a hook would be put back for ever after it ran.
fn refuse_hooks(text: &str) -> Result<(), Error> {
    let documents = fleet_planner::yaml::documents(text, "chart");
    let documents = documents.map_err(|error| Error::Invalid(error.to_string()))?;
    let is_hook = |document: &&Value| document["metadata"]["annotations"]["helm.sh/hook"].is_string();
    let Some(hook) = documents.iter().find(is_hook) else { return Ok(()) };
    let kind = hook["kind"].as_str().unwrap_or_default();
    let name = hook["metadata"]["name"].as_str().unwrap_or_default();
    Err(Error::Invalid(format!(
        "the chart has a hook ({kind} {name}), and profiles have none; switch it off in the chart's values"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_what_lies_in_it() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(holds(directory.path()), Rendering::Plain);
        std::fs::write(directory.path().join("Chart.yaml"), "").unwrap();
        assert_eq!(holds(directory.path()), Rendering::Helm);
        std::fs::write(directory.path().join("kustomization.yaml"), "").unwrap();
        assert_eq!(holds(directory.path()), Rendering::Kustomize);
    }

    #[test]
    fn hooks_are_refused() {
        assert!(refuse_hooks("kind: Job\nmetadata: {name: a}\n").is_ok());
        let hook = "kind: Job\nmetadata: {name: migrate, annotations: {helm.sh/hook: pre-install}}\n";
        let said = refuse_hooks(hook).unwrap_err().to_string();
        assert!(said.contains("hook (Job migrate)"), "{said}");
    }

    #[tokio::test]
    async fn a_kustomization_is_built() {
        if find("kustomize").or_else(|| find("kubectl")).is_none() {
            eprintln!("skipped: there is no kustomize");
            return;
        }
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        std::fs::write(at("map.yaml"), "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n").unwrap();
        std::fs::write(at("kustomization.yaml"), "resources: [map.yaml]\nnamePrefix: pre-\n").unwrap();
        let isolated = Surroundings::Isolated { home: directory.path().join("home") };
        let text =
            render(directory.path(), Rendering::Auto, &HelmOptions::default(), &isolated).await.unwrap();
        assert!(text.contains("name: pre-a"), "{text}");
    }
}
