//! What of a checkout becomes manifests: the files that Kustomize, Helm or this program itself will read.
//!
//! A kustomization may lie beside what it builds on, so that the path of a source says too little; all of a repository would say
//! too much of one that also holds pictures.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use fleet_planner::yaml;
use serde_json::Value;

use crate::directory::{self, inside};
use crate::error::Error;
use crate::tools::{KUSTOMIZATIONS, Rendering, holds};

/// Directories that are looked into, and files found: as many as a checkout may have.
const MAX_SEEN: usize = 50_000;
/// Bytes of a kustomization; a longer one is Kustomize's to complain about.
const MAX_KUSTOMIZATION: u64 = 1 << 20;

/// What is reached.
#[derive(Debug, Default)]
pub(crate) struct Reached {
    /// Files, without links on the way.
    pub(crate) files: BTreeSet<PathBuf>,
    /// Paths in the checkout that are named, there or not: what a submodule holds is not there.
    pub(crate) named: BTreeSet<PathBuf>,
}

/// What these paths of a checkout lead to; all of it when there are none.
///
/// # Errors
/// When something cannot be read, or there is too much.
pub(crate) fn reached(root: &Path, paths: &[PathBuf]) -> Result<Reached, Error> {
    let root = root.canonicalize().map_err(Error::file("read", root))?;
    let mut walk = Walk { root: &root, seen: BTreeSet::new(), found: Reached::default() };
    let whole = [PathBuf::from(".")];
    for path in if paths.is_empty() { &whole } else { paths } {
        if let Some(path) = joined(Path::new(""), path) {
            walk.visit(&path)?;
        }
    }
    Ok(walk.found)
}

struct Walk<'a> {
    root: &'a Path,
    seen: BTreeSet<PathBuf>,
    found: Reached,
}

impl Walk<'_> {
    fn visit(&mut self, path: &Path) -> Result<(), Error> {
        self.found.named.insert(path.to_owned());
        // What leads out or is not there is somebody else's to complain about.
        let Ok(real) = inside(self.root, path) else { return Ok(()) };
        if self.seen.len() + self.found.named.len() + self.found.files.len() > MAX_SEEN {
            return Err(Error::Invalid(format!("it leads to more than {MAX_SEEN} files")));
        }
        if real.is_file() {
            self.found.files.insert(real);
            return Ok(());
        }
        if !self.seen.insert(real.clone()) {
            return Ok(());
        }
        let kind = holds(&real);
        let mut files = Vec::new();
        directory::collect(&real, &mut files, 0, kind == Rendering::Helm)?;
        for file in files {
            // A link may lead out of what is looked at, and yet stay in the checkout.
            self.found
                .files
                .extend(file.strip_prefix(self.root).ok().and_then(|own| inside(self.root, own).ok()));
        }
        if kind == Rendering::Kustomize {
            for name in KUSTOMIZATIONS {
                self.kustomization(path, &real.join(name))?;
            }
        }
        Ok(())
    }

    /// Every word of a kustomization that is the name of a file is one that Kustomize may read; of a directory, when there is a
    /// kustomization in it.
    fn kustomization(&mut self, directory: &Path, file: &Path) -> Result<(), Error> {
        let small = file.metadata().is_ok_and(|kind| kind.is_file() && kind.len() <= MAX_KUSTOMIZATION);
        let text = if small { std::fs::read_to_string(file).unwrap_or_default() } else { String::new() };
        if small {
            self.found.files.extend(file.canonicalize());
        }
        let mut words = Vec::new();
        for document in yaml::documents(&text, "kustomization").unwrap_or_default() {
            strings(document, &mut words);
        }
        for word in words {
            // Generators may write KEY=FILE.
            for name in
                [Some(word.as_str()), word.split_once('=').map(|(_, file)| file)].into_iter().flatten()
            {
                let Some(path) = joined(directory, Path::new(name)) else { continue };
                let real = inside(self.root, &path).ok();
                match real {
                    Some(real) if real.is_dir() && holds(&real) != Rendering::Kustomize => {}
                    Some(_) => self.visit(&path)?,
                    None => drop(self.found.named.insert(path)),
                }
            }
        }
        Ok(())
    }
}

fn strings(value: Value, found: &mut Vec<String>) {
    match value {
        Value::String(text) if !text.contains("://") && !text.contains('\n') => found.push(text),
        Value::Array(values) => values.into_iter().for_each(|value| strings(value, found)),
        Value::Object(fields) => fields.into_iter().for_each(|(_, value)| strings(value, found)),
        _ => {}
    }
}

/// A path from a directory of the checkout, without `.` and `..`; nothing when it leads out.
fn joined(directory: &Path, path: &Path) -> Option<PathBuf> {
    let mut whole: Vec<Component<'_>> = directory.components().collect();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => drop(whole.pop()?),
            Component::Normal(_) => whole.push(part),
            _ => return None,
        }
    }
    Some(whole.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kustomization_leads_to_what_it_names_and_a_chart_to_all_it_holds() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path().canonicalize().unwrap();
        let write = |name: &str, text: &str| {
            std::fs::create_dir_all(root.join(name).parent().unwrap()).unwrap();
            std::fs::write(root.join(name), text).unwrap();
        };
        write(
            "prod/kustomization.yaml",
            "resources: [../base, ../docs, ../gone/x, ../../out, 'https://x.com/y']\n\
             configMapGenerator:\n- {name: a, files: [key=app.conf]}\nnamespace: pictures\n",
        );
        write("prod/app.conf", "x");
        write("prod/pictures/a.png", "x");
        write("base/kustomization.yml", "resources: [map.yaml, ../prod]\n");
        write("base/map.yaml", "kind: A");
        write("base/README.md", "x");
        write("docs/a.png", "x");
        write("chart/Chart.yaml", "name: a");
        write("chart/files/a.bin", "x");
        write("plain/a.yaml", "kind: A");
        write("plain/a.bin", "x");
        let of = |paths: &[&str]| {
            let paths: Vec<PathBuf> = paths.iter().map(PathBuf::from).collect();
            let found = reached(&root, &paths).unwrap();
            let files: Vec<String> = found
                .files
                .iter()
                .map(|file| file.strip_prefix(&root).unwrap().display().to_string())
                .collect();
            (files, found.named)
        };
        let (files, named) = of(&["./prod"]);
        assert_eq!(
            files,
            ["base/kustomization.yml", "base/map.yaml", "prod/app.conf", "prod/kustomization.yaml"]
        );
        assert!(named.contains(Path::new("gone/x")) && !named.contains(Path::new("../out")), "{named:?}");
        assert_eq!(of(&["chart"]).0, ["chart/Chart.yaml", "chart/files/a.bin"]);
        assert_eq!(of(&["plain", "docs/a.png"]).0, ["docs/a.png", "plain/a.yaml"]);
        assert_eq!(of(&[]).0.len(), 5, "manifests alone");
    }
}
