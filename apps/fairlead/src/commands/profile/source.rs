//! Where the manifests of a profile come from: files, Kustomize, a Helm chart, each of them here or in a Git repository.
//!
//! What is well known is left to the well-known tools, run where the person is and as the person has set them up.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use manifest_sources::git::{Reference, Repository, Verify};
use manifest_sources::{HelmOptions, Rendering, Surroundings};
use tempfile::TempDir;

use crate::documents::{self, Document};
use crate::failure::{Code, Failure};

#[derive(Args, Clone, Debug, Default)]
pub(super) struct SourceArguments {
    /// File or directory of manifests; - for stdin
    #[arg(long, value_name = "DIR|FILE", required_unless_present_any = ["kustomize", "helm"])]
    from: Option<PathBuf>,
    /// Directory of a kustomization, built by kustomize or kubectl
    #[arg(long, value_name = "DIR", conflicts_with = "from")]
    kustomize: Option<PathBuf>,
    /// Helm chart (directory or archive), rendered by helm
    #[arg(long, value_name = "CHART", conflicts_with_all = ["from", "kustomize"])]
    helm: Option<PathBuf>,
    /// Values file for the chart; may be given several times
    #[arg(long, value_name = "FILE", requires = "helm")]
    values: Vec<PathBuf>,
    /// Release name for the chart [default: the profile's name]
    #[arg(long, value_name = "NAME", requires = "helm")]
    release: Option<String>,
    /// Git repository; the paths above are then paths in it
    #[arg(long, value_name = "URL")]
    git: Option<String>,
    /// Branch, tag or commit [default: the repository's HEAD]
    #[arg(long, value_name = "REF", requires = "git")]
    git_ref: Option<String>,
    /// Fetch the repository's submodules, and theirs
    #[arg(long, requires = "git")]
    git_submodules: bool,
    /// Refuse a commit or tag without a signature that git accepts
    #[arg(long, requires = "git")]
    git_verify: bool,
}

impl SourceArguments {
    /// The source of a layer at a path of the same place: what a directory is is told by what lies in it. In a
    /// repository, which is not here yet, layers are files.
    pub(super) fn of_layer(&self, path: &Path) -> Self {
        let own = Some(path.to_owned());
        let place = Self {
            git: self.git.clone(),
            git_ref: self.git_ref.clone(),
            git_verify: self.git_verify,
            git_submodules: self.git_submodules,
            ..Self::default()
        };
        match manifest_sources::holds(path) {
            Rendering::Kustomize if self.git.is_none() => Self { kustomize: own, ..place },
            Rendering::Helm if self.git.is_none() => Self { helm: own, ..place },
            _ => Self { from: own, ..place },
        }
    }
}

/// What was read.
pub(super) struct Source {
    pub(super) documents: Vec<Document>,
    /// Where it came from, as exactly as can be told.
    pub(super) origin: String,
}

/// Reads manifests as the arguments say. `profile` and `namespace` are for charts.
pub(super) async fn read(
    arguments: &SourceArguments,
    profile: &str,
    namespace: Option<&str>,
) -> Result<Source, Failure> {
    let checkout = match &arguments.git {
        Some(url) => Some(check_out(url, arguments).await?),
        None => None,
    };
    let at = |path: &Path| match &checkout {
        Some(checkout) => manifest_sources::inside(checkout.directory.path(), path).map_err(failed),
        None => Ok(path.to_owned()),
    };
    let (documents, path) = if let Some(path) = &arguments.kustomize {
        (build(&at(path)?, Rendering::Kustomize, &HelmOptions::default()).await?, path)
    } else if let Some(path) = &arguments.helm {
        let options = HelmOptions {
            release: arguments.release.as_deref().unwrap_or(profile).to_owned(),
            namespace: namespace.map(str::to_owned),
            values: arguments.values.iter().map(|file| at(file)).collect::<Result<_, _>>()?,
        };
        (build(&at(path)?, Rendering::Helm, &options).await?, path)
    } else if let Some(path) = &arguments.from {
        (documents::read(&at(path)?)?, path)
    } else {
        return Err(Failure::usage("nothing to read: give --from, --kustomize or --helm"));
    };
    let origin = match (&arguments.git, &checkout) {
        (Some(url), Some(checkout)) => format!("{url}@{} {}", checkout.commit, path.display()),
        _ => path.display().to_string(),
    };
    Ok(Source { documents: documents::unfolded(documents)?, origin })
}

struct Checkout {
    directory: TempDir,
    commit: String,
}

async fn check_out(url: &str, arguments: &SourceArguments) -> Result<Checkout, Failure> {
    let directory = tempfile::tempdir().context("cannot make a directory to check out to")?;
    let paths = [&arguments.kustomize, &arguments.helm, &arguments.from].into_iter().flatten();
    let repository = Repository {
        url: url.to_owned(),
        paths: paths.chain(&arguments.values).cloned().collect(),
        submodules: arguments.git_submodules,
        reference: arguments.git_ref.clone().map_or(Reference::Head, Reference::Name),
        verify: if arguments.git_verify { Verify::Trusted } else { Verify::Nobody },
        ..Repository::default()
    };
    let commit = repository.check_out(directory.path(), &Surroundings::Own, directory.path()).await;
    Ok(Checkout { commit: commit.map_err(failed)?, directory })
}

async fn build(path: &Path, rendering: Rendering, helm: &HelmOptions) -> Result<Vec<Document>, Failure> {
    let text = manifest_sources::render(path, rendering, helm, &Surroundings::Own).await;
    let name = if rendering == Rendering::Helm { "chart" } else { "kustomization" };
    documents::parse(name, &text.map_err(failed)?)
}

fn failed(error: manifest_sources::Error) -> Failure {
    Failure::new(Code::Usage, anyhow::Error::new(error))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn git(directory: &Path, arguments: &[&str]) {
        let mut command = Command::new("git");
        command.current_dir(directory).args(["-c", "user.name=test", "-c", "user.email=test@example.com"]);
        command.args(["-c", "commit.gpgsign=false", "-c", "init.defaultBranch=main"]).args(arguments);
        assert!(command.output().unwrap().status.success(), "git {arguments:?}");
    }

    fn repository() -> Option<TempDir> {
        if Command::new("git").arg("--version").output().is_err() {
            return None;
        }
        let repository = tempfile::tempdir().unwrap();
        let at = |name: &str| repository.path().join(name);
        std::fs::create_dir_all(at("base")).unwrap();
        std::fs::write(at("base/map.yaml"), "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n")
            .unwrap();
        std::fs::write(at("base/kustomization.yaml"), "resources: [map.yaml]\nnamePrefix: pre-\n").unwrap();
        std::os::unix::fs::symlink("/etc", at("outside")).unwrap();
        git(repository.path(), &["init", "--quiet"]);
        git(repository.path(), &["add", "--all"]);
        git(repository.path(), &["commit", "--quiet", "-m", "one"]);
        git(repository.path(), &["tag", "v1"]);
        Some(repository)
    }

    fn of(repository: &TempDir) -> SourceArguments {
        SourceArguments {
            git: Some(repository.path().display().to_string()),
            git_ref: Some("v1".to_owned()),
            ..SourceArguments::default()
        }
    }

    #[tokio::test]
    async fn a_repository_is_read_at_a_commit_and_nothing_outside_it() {
        let Some(repository) = repository() else {
            eprintln!("skipped: there is no git");
            return;
        };
        let good = SourceArguments { from: Some("base/map.yaml".into()), ..of(&repository) };
        let source = read(&good, "app", None).await.ok().unwrap();
        assert_eq!(source.documents.len(), 1);
        let commit = source.origin.split('@').next_back().unwrap();
        assert_eq!((commit.find(' '), commit.ends_with("base/map.yaml")), (Some(40), true), "{commit}");
        for path in ["../x", "/etc/hosts", "outside/hosts", "nowhere"] {
            let bad = SourceArguments { from: Some(path.into()), ..of(&repository) };
            let failure = read(&bad, "app", None).await.err().unwrap();
            assert!(crate::failure::render(&failure).contains("no path in what was fetched"), "{path}");
        }
        let unsigned = SourceArguments { git_verify: true, ..good.clone() };
        assert!(read(&unsigned, "app", None).await.is_err(), "an unsigned commit passed");
        let option = SourceArguments { git: Some("--upload-pack=touch".into()), ..good };
        assert!(crate::failure::render(&read(&option, "app", None).await.err().unwrap()).contains("dash"));
    }

    #[tokio::test]
    async fn submodules_of_a_repository_are_read_when_asked_for() {
        let (Some(lib), Some(repository)) = (repository(), repository()) else {
            eprintln!("skipped: there is no git");
            return;
        };
        let beside = format!("../{}", lib.path().file_name().unwrap().display());
        let modules = format!("[submodule \"lib\"]\n\tpath = lib\n\turl = {beside}\n");
        std::fs::write(repository.path().join(".gitmodules"), modules).unwrap();
        let head = Command::new("git").current_dir(lib.path()).args(["rev-parse", "HEAD"]).output().unwrap();
        let link = format!("160000,{},lib", String::from_utf8(head.stdout).unwrap().trim());
        git(repository.path(), &["add", ".gitmodules"]);
        git(repository.path(), &["update-index", "--add", "--cacheinfo", &link]);
        git(repository.path(), &["commit", "--quiet", "-m", "lib"]);
        let own =
            SourceArguments { git_ref: None, from: Some("lib/base/map.yaml".into()), ..of(&repository) };
        let failure = read(&own, "app", None).await.err().unwrap();
        assert!(crate::failure::render(&failure).contains("--git-submodules"));
        let own = SourceArguments { git_submodules: true, ..own };
        assert_eq!(read(&own, "app", None).await.ok().unwrap().documents.len(), 1);
    }

    #[test]
    fn a_layer_is_what_lies_in_it() {
        let directory = tempfile::tempdir().unwrap();
        let none = SourceArguments::default();
        assert!(none.of_layer(directory.path()).from.is_some());
        std::fs::write(directory.path().join("Chart.yaml"), "").unwrap();
        assert!(none.of_layer(directory.path()).helm.is_some());
        std::fs::write(directory.path().join("kustomization.yaml"), "").unwrap();
        assert!(none.of_layer(directory.path()).kustomize.is_some());
        let remote = SourceArguments { git: Some("https://example.com/x".into()), ..none };
        assert!(remote.of_layer(directory.path()).from.is_some());
    }
}
