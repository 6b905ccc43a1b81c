//! Where the manifests of a profile come from: files, Kustomize, a Helm chart, each of them here or in a Git repository.
//!
//! What is well known is left to the well-known tools, run where the person is: the hub never runs them. Nothing goes
//! through a shell, and no argument of ours can be taken for an option.

use std::ffi::{OsStr, OsString};
use std::path::{Component, Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::Context as _;
use clap::Args;
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
    /// Refuse a commit or tag without a signature that git accepts
    #[arg(long, requires = "git")]
    git_verify: bool,
}

impl SourceArguments {
    /// The source of a layer at a path of the same place: what a directory is is told by what lies in it. In a
    /// repository, which is not here yet, layers are files.
    pub(super) fn of_layer(&self, path: &Path) -> Self {
        let holds = |file: &str| self.git.is_none() && path.join(file).is_file();
        let own = Some(path.to_owned());
        let place = Self {
            git: self.git.clone(),
            git_ref: self.git_ref.clone(),
            git_verify: self.git_verify,
            ..Self::default()
        };
        let kustomization = ["kustomization.yaml", "kustomization.yml", "Kustomization"];
        if kustomization.iter().any(|file| holds(file)) {
            Self { kustomize: own, ..place }
        } else if holds("Chart.yaml") {
            Self { helm: own, ..place }
        } else {
            Self { from: own, ..place }
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
pub(super) fn read(
    arguments: &SourceArguments,
    profile: &str,
    namespace: Option<&str>,
) -> Result<Source, Failure> {
    let checkout = match &arguments.git {
        Some(url) => {
            Some(check_out(url, arguments.git_ref.as_deref().unwrap_or("HEAD"), arguments.git_verify)?)
        }
        None => None,
    };
    let at = |path: &Path| match &checkout {
        Some(checkout) => inside(checkout.directory.path(), path),
        None => Ok(path.to_owned()),
    };
    let (documents, path) = if let Some(path) = &arguments.kustomize {
        (kustomize(&at(path)?)?, path)
    } else if let Some(path) = &arguments.helm {
        let values = arguments.values.iter().map(|file| at(file)).collect::<Result<Vec<_>, _>>()?;
        let release = arguments.release.as_deref().unwrap_or(profile);
        (helm(&at(path)?, &values, release, namespace)?, path)
    } else if let Some(path) = &arguments.from {
        (documents::read(&at(path)?)?, path)
    } else {
        return Err(Failure::usage("nothing to read: give --from, --kustomize or --helm"));
    };
    let origin = match (&arguments.git, &checkout) {
        (Some(url), Some(checkout)) => format!("{url}@{} {}", checkout.commit, path.display()),
        _ => path.display().to_string(),
    };
    Ok(Source { documents, origin })
}

/// A path that stays in the repository.
fn inside(root: &Path, path: &Path) -> Result<PathBuf, Failure> {
    let stays = path.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    let found = root.join(path);
    let real = found.canonicalize().ok().zip(root.canonicalize().ok());
    match real {
        Some((real, root)) if stays && real.starts_with(&root) => Ok(real),
        _ => Err(Failure::usage(format!("{} is no path in the repository", path.display()))),
    }
}

struct Checkout {
    directory: TempDir,
    commit: String,
}

fn check_out(url: &str, reference: &str, verify: bool) -> Result<Checkout, Failure> {
    if url.starts_with('-') || reference.starts_with('-') {
        return Err(Failure::usage(format!("{url} {reference}: neither may begin with a dash")));
    }
    let directory = tempfile::tempdir().context("cannot make a directory to check out to")?;
    let git = |arguments: &[&str]| {
        let mut command = Command::new("git");
        command.current_dir(directory.path()).args(arguments);
        // Asks nobody and runs no helper of the repository.
        command.env("GIT_TERMINAL_PROMPT", "0").env("GIT_CONFIG_NOSYSTEM", "1");
        run(command, "git", "https://git-scm.com")
    };
    git(&["init", "--quiet"])?;
    git(&["fetch", "--quiet", "--depth", "1", "--no-tags", url, reference])?;
    git(&["checkout", "--quiet", "--detach", "FETCH_HEAD"])?;
    if verify {
        git(&["verify-commit", "HEAD"])?;
    }
    let commit = git(&["rev-parse", "HEAD"])?.trim().to_owned();
    Ok(Checkout { directory, commit })
}

fn kustomize(directory: &Path) -> Result<Vec<Document>, Failure> {
    let kustomize = find("kustomize").map(|tool| (tool, "build"));
    let tool = kustomize.or_else(|| find("kubectl").map(|tool| (tool, "kustomize")));
    let Some((tool, verb)) = tool else {
        let message = "neither kustomize nor kubectl is on the PATH, and a kustomization needs one of them";
        return Err(Failure::usage(message).hint("https://kubectl.docs.kubernetes.io/installation/kustomize"));
    };
    let mut command = Command::new(tool);
    command.arg(verb).arg(directory);
    documents::parse("kustomization", &run(command, "kustomize", "")?)
}

fn helm(
    chart: &Path,
    values: &[PathBuf],
    release: &str,
    namespace: Option<&str>,
) -> Result<Vec<Document>, Failure> {
    if release.starts_with('-') {
        return Err(Failure::usage(format!("{release} is no name of a release")));
    }
    let Some(tool) = find("helm") else {
        let message = "helm is not on the PATH, and a chart needs it";
        return Err(Failure::usage(message).hint("https://helm.sh/docs/intro/install"));
    };
    // A path, never the name of a chart in some repository of the user's.
    let chart = chart.canonicalize().with_context(|| format!("cannot find chart {}", chart.display()))?;
    let mut command = Command::new(tool);
    command.args(["template", release]).arg(chart).arg("--include-crds");
    for file in values {
        command.arg("--values").arg(file);
    }
    if let Some(namespace) = namespace {
        command.arg(option("--namespace", namespace));
    }
    let documents = documents::parse("chart", &run(command, "helm", "")?)?;
    // A profile enforces: a hook would be put back for ever after it ran.
    let hook = documents
        .iter()
        .find(|document| document.value["metadata"]["annotations"]["helm.sh/hook"].is_string());
    if let Some(hook) = hook {
        let name = hook.value["metadata"]["name"].as_str().unwrap_or_default();
        let message = format!("the chart has a hook ({} {name}), and profiles have none", hook.kind());
        return Err(Failure::usage(message).hint("switch the hook off in the chart's values"));
    }
    Ok(documents)
}

fn option(name: &str, value: &str) -> OsString {
    format!("{name}={value}").into()
}

fn find(tool: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    find_in(&path, tool)
}

fn find_in(path: &OsStr, tool: &str) -> Option<PathBuf> {
    std::env::split_paths(path).map(|directory| directory.join(tool)).find(|file| file.is_file())
}

/// Runs a tool to its end; its stdout.
fn run(mut command: Command, name: &str, hint: &str) -> Result<String, Failure> {
    let output = command.stdin(Stdio::null()).output();
    let output = output.with_context(|| format!("cannot run {name}")).map_err(|error| {
        let failure = Failure::new(Code::Usage, error);
        if hint.is_empty() { failure } else { failure.hint(hint) }
    })?;
    text(output, name)
}

fn text(output: Output, name: &str) -> Result<String, Failure> {
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let said = said.trim();
        let first: String = said.chars().take(2000).collect();
        return Err(Failure::usage(format!("{name} ended with {}: {first}", output.status)));
    }
    String::from_utf8(output.stdout)
        .with_context(|| format!("{name} did not write text"))
        .map_err(|error| Failure::new(Code::Usage, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn git(directory: &Path, arguments: &[&str]) {
        let mut command = Command::new("git");
        command.current_dir(directory).args(["-c", "user.name=test", "-c", "user.email=test@example.com"]);
        command.args(["-c", "commit.gpgsign=false", "-c", "init.defaultBranch=main"]).args(arguments);
        assert!(command.output().unwrap().status.success(), "git {arguments:?}");
    }

    fn repository() -> Option<TempDir> {
        find("git")?;
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

    #[test]
    fn a_repository_is_read_at_a_commit_and_nothing_outside_it() {
        let Some(repository) = repository() else {
            eprintln!("skipped: there is no git");
            return;
        };
        let good = SourceArguments { from: Some("base/map.yaml".into()), ..of(&repository) };
        let source = read(&good, "app", None).ok().unwrap();
        assert_eq!(source.documents.len(), 1);
        let commit = source.origin.split('@').next_back().unwrap();
        assert_eq!((commit.find(' '), commit.ends_with("base/map.yaml")), (Some(40), true), "{commit}");
        for path in ["../x", "/etc/hosts", "outside/hosts", "nowhere"] {
            let bad = SourceArguments { from: Some(path.into()), ..of(&repository) };
            let failure = read(&bad, "app", None).err().unwrap();
            assert!(crate::failure::render(&failure).contains("no path in the repository"), "{path}");
        }
        let unsigned = SourceArguments { git_verify: true, ..good.clone() };
        assert!(read(&unsigned, "app", None).is_err(), "an unsigned commit passed");
        let option = SourceArguments { git: Some("--upload-pack=touch".into()), ..good };
        assert!(crate::failure::render(&read(&option, "app", None).err().unwrap()).contains("dash"));
    }

    #[test]
    fn a_kustomization_is_built() {
        let (Some(repository), Some(_)) = (repository(), find("kustomize").or_else(|| find("kubectl")))
        else {
            eprintln!("skipped: there is no git or no kustomize");
            return;
        };
        let arguments = SourceArguments { kustomize: Some("base".into()), ..of(&repository) };
        let source = read(&arguments, "app", None).ok().unwrap();
        assert_eq!(source.documents[0].value["metadata"]["name"], "pre-a");
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

    #[test]
    fn a_tool_that_is_not_there_is_named() {
        assert!(find_in(OsStr::new("/nowhere:/neither"), "helm").is_none());
        let command = Command::new("/nowhere/helm");
        let said = crate::failure::render(&run(command, "helm", "install it").unwrap_err());
        assert!(said.contains("cannot run helm") && said.contains("hint: install it"), "{said}");
    }
}
