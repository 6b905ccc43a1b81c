//! Checks the house rules that no compiler checks: layers, effects in pure files, file lengths, workspace lints, names.

mod layers;
mod sources;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use cargo_metadata::{DependencyKind, MetadataCommand};

/// A crate of the workspace, as far as the rules look at it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Crate {
    /// Its name.
    pub(crate) name: String,
    /// `[package.metadata] layer`.
    pub(crate) layer: Option<String>,
    /// Its directory, from the repository's root.
    pub(crate) directory: PathBuf,
    /// Its Cargo.toml.
    pub(crate) manifest: String,
    /// What it depends on when built; tests may use anything.
    pub(crate) dependencies: Vec<String>,
}

/// Prints every violation and fails when there is one.
pub(crate) fn run(root: &Path) -> anyhow::Result<()> {
    let violations = check(root)?;
    for violation in &violations {
        println!("{violation}");
    }
    match violations.len() {
        0 => Ok(()),
        count => bail!("{count} violations of the house rules"),
    }
}

/// All violations in the repository at `root`, one line each.
pub(crate) fn check(root: &Path) -> anyhow::Result<Vec<String>> {
    let crates = crates(root)?;
    let mut violations = layers::check(&crates);
    violations.extend(manifests(root, &crates)?);
    for package in &crates {
        for path in sources::rust_files(&root.join(&package.directory))? {
            let text =
                std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
            let shown = path.strip_prefix(root).unwrap_or(&path);
            violations.extend(sources::check(shown, &text, package.layer.as_deref() == Some("logic")));
        }
    }
    violations.sort();
    Ok(violations)
}

fn crates(root: &Path) -> anyhow::Result<Vec<Crate>> {
    let metadata = MetadataCommand::new()
        .manifest_path(root.join("Cargo.toml"))
        .no_deps()
        .exec()
        .context("asking cargo for the workspace")?;
    let mut crates = Vec::new();
    for package in metadata.packages {
        let manifest_path = package.manifest_path.as_std_path();
        let directory = manifest_path.parent().unwrap_or(root);
        let built = |dependency: &&cargo_metadata::Dependency| dependency.kind != DependencyKind::Development;
        crates.push(Crate {
            name: package.name.to_string(),
            layer: package.metadata.get("layer").and_then(|layer| layer.as_str()).map(str::to_owned),
            directory: directory.strip_prefix(&metadata.workspace_root).unwrap_or(directory).to_path_buf(),
            manifest: std::fs::read_to_string(manifest_path)
                .with_context(|| format!("reading {}", manifest_path.display()))?,
            dependencies: package.dependencies.iter().filter(built).map(|dep| dep.name.clone()).collect(),
        });
    }
    Ok(crates)
}

/// Every crate takes the workspace's lints and stands in ARCHITECTURE.md, where there is one.
fn manifests(root: &Path, crates: &[Crate]) -> anyhow::Result<Vec<String>> {
    let path = root.join("ARCHITECTURE.md");
    let architecture = if path.exists() { Some(std::fs::read_to_string(&path)?) } else { None };
    let mut violations = Vec::new();
    for package in crates {
        let shown = package.directory.display().to_string();
        if !takes_workspace_lints(&package.manifest) {
            violations.push(format!("{shown}/Cargo.toml: does not say `[lints] workspace = true`"));
        }
        if architecture.as_ref().is_some_and(|text| !text.contains(&format!("`{shown}`"))) {
            violations.push(format!("{shown}: is not named in ARCHITECTURE.md"));
        }
    }
    Ok(violations)
}

fn takes_workspace_lints(manifest: &str) -> bool {
    let mut in_lints = false;
    manifest.lines().map(str::trim).any(|line| {
        if line.starts_with('[') {
            in_lints = line == "[lints]";
        }
        line == "lints.workspace = true" || (in_lints && line == "workspace = true")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_repository_keeps_its_layers() {
        let crates = crates(&crate::repository_root()).unwrap();
        assert!(crates.len() > 20);
        assert_eq!(layers::check(&crates), Vec::<String>::new());
    }

    #[test]
    fn a_planted_workspace_is_found_out() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        let manifest = |name: &str, layer: &str, rest: &str| {
            format!(
                "[package]\nname = \"{name}\"\nversion = \"0.1.0\"\nedition = \"2024\"\n[package.metadata]\nlayer = \"{layer}\"\n{rest}"
            )
        };
        write("Cargo.toml", "[workspace]\nresolver = \"3\"\nmembers = [\"crates/*\"]\n[workspace.lints]\n");
        write("ARCHITECTURE.md", "`crates/low` is all there is.");
        let lints = "[lints]\nworkspace = true\n";
        write(
            "crates/low/Cargo.toml",
            &manifest("low", "logic", &format!("{lints}[dependencies]\nhigh = {{ path = \"../high\" }}\n")),
        );
        write("crates/low/src/lib.rs", "//! Low.\nuse std::fs;\n");
        write("crates/high/Cargo.toml", &manifest("high", "apps", ""));
        write("crates/high/src/lib.rs", "//! High.\n");
        write("crates/high/src/inner/mod.rs", concat!("fn later() { todo", "!() }\n"));
        write("crates/high/src/plan.rs", "use tokio::time;\n");
        let found = check(root.path()).unwrap();
        for wanted in [
            "low (logic) imports high (apps)",
            "crates/high/Cargo.toml: does not say `[lints] workspace = true`",
            "crates/high: is not named in ARCHITECTURE.md",
            "crates/high/src/inner/mod.rs: name it crates/high/src/inner.rs",
            "crates/high/src/inner/mod.rs:1: todo! is no answer",
            "crates/high/src/plan.rs:1: a pure file imports tokio",
            "crates/low/src/lib.rs:2: the logic layer imports std::fs",
        ] {
            assert!(found.iter().any(|line| line.contains(wanted)), "{wanted} not in {found:#?}");
        }
    }
}
