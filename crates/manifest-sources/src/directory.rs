//! What was fetched, as a directory: nothing in it leads out, and it is not larger than it may be.

use std::path::{Component, Path, PathBuf};

use crate::error::{Error, aside};

/// Files of a checkout or an artifact at most, and bytes of all together.
const MAX_FILES: usize = 50_000;
const MAX_BYTES: u64 = 256 << 20;
/// How deep directories may lie in one another.
const MAX_DEPTH: usize = 64;
/// Bytes of one manifest file.
const MAX_FILE: u64 = 16 << 20;

/// A path below `root` that stays there, also through links.
///
/// # Errors
/// When it is not there or leads out.
pub fn inside(root: &Path, path: &Path) -> Result<PathBuf, Error> {
    check_path(path)?;
    let real = root.join(path).canonicalize().ok().zip(root.canonicalize().ok());
    match real {
        Some((real, root)) if real.starts_with(&root) => Ok(real),
        _ => Err(no_path(path)),
    }
}

/// Checks that a path stays below whatever it is a path in, links aside.
///
/// # Errors
/// When it is absolute or leads upwards.
pub fn check_path(path: &Path) -> Result<(), Error> {
    let stays = path.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    if stays { Ok(()) } else { Err(no_path(path)) }
}

fn no_path(path: &Path) -> Error {
    Error::Invalid(format!("{} is no path in what was fetched", path.display()))
}

/// Checks a whole tree: programs that read it follow links.
///
/// # Errors
/// The first link that leads out, or that it is too large.
pub async fn check(root: &Path) -> Result<(), Error> {
    let root = root.to_owned();
    aside(move || check_tree(&root)).await
}

fn check_tree(root: &Path) -> Result<(), Error> {
    let real = root.canonicalize().map_err(Error::file("read", root))?;
    let mut seen = Seen { root: &real, files: 0, bytes: 0 };
    seen.walk(&real, 0)
}

struct Seen<'a> {
    root: &'a Path,
    files: usize,
    bytes: u64,
}

impl Seen<'_> {
    fn walk(&mut self, directory: &Path, depth: usize) -> Result<(), Error> {
        for entry in entries(directory)? {
            let kind = entry.symlink_metadata().map_err(Error::file("read", &entry))?;
            if kind.is_symlink() {
                let leads = entry.canonicalize();
                if !leads.is_ok_and(|leads| leads.starts_with(self.root)) {
                    let shown = entry.strip_prefix(self.root).unwrap_or(&entry);
                    return Err(Error::Invalid(format!("the link {} leads out", shown.display())));
                }
            }
            self.files += 1;
            self.bytes = self.bytes.saturating_add(kind.len());
            if self.files > MAX_FILES || self.bytes > MAX_BYTES || depth > MAX_DEPTH {
                return Err(Error::Invalid(format!(
                    "it holds more than {MAX_FILES} files, {MAX_BYTES} bytes or {MAX_DEPTH} levels"
                )));
            }
            // What git keeps for itself is read by git alone.
            if kind.is_dir() && entry.file_name().is_none_or(|name| name != ".git") {
                self.walk(&entry, depth + 1)?;
            }
        }
        Ok(())
    }
}

fn entries(directory: &Path) -> Result<Vec<PathBuf>, Error> {
    let read = std::fs::read_dir(directory).and_then(|all| {
        let paths = all.map(|entry| entry.map(|entry| entry.path()));
        paths.collect::<Result<Vec<_>, _>>()
    });
    let mut paths = read.map_err(Error::file("read", directory))?;
    paths.sort();
    Ok(paths)
}

/// Every manifest of a file or directory as one text of many documents, in the order of paths.
pub(crate) fn manifests(path: &Path) -> Result<String, Error> {
    let mut files = Vec::new();
    if path.is_dir() {
        collect(path, &mut files, 0, false)?
    } else {
        files.push(path.to_owned())
    }
    let mut text = String::new();
    for file in &files {
        let size = std::fs::metadata(file).map_err(Error::file("read", file))?.len();
        if size > MAX_FILE || text.len() as u64 + size > MAX_BYTES {
            return Err(Error::Invalid(format!("{} is larger than {MAX_FILE} bytes", file.display())));
        }
        let content = std::fs::read_to_string(file).map_err(Error::file("read", file))?;
        text.push_str("---\n");
        text.push_str(&content);
        text.push('\n');
    }
    if files.is_empty() {
        return Err(Error::Invalid("it holds no .yaml, .yml or .json file".to_owned()));
    }
    Ok(text)
}

/// The manifest files below a directory, or all files.
pub(crate) fn collect(
    directory: &Path,
    files: &mut Vec<PathBuf>,
    depth: usize,
    all: bool,
) -> Result<(), Error> {
    for entry in entries(directory)? {
        let wanted =
            all || entry.extension().is_some_and(|kind| kind == "yaml" || kind == "yml" || kind == "json");
        let hidden = entry.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        if entry.is_dir() && !hidden && depth < MAX_DEPTH {
            collect(&entry, files, depth + 1, all)?;
        } else if wanted && entry.is_file() {
            files.push(entry);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_leads_out() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        std::fs::create_dir_all(at("deploy/.git")).unwrap();
        std::fs::write(at("deploy/b.yaml"), "kind: B").unwrap();
        std::fs::write(at("deploy/a.json"), "{}").unwrap();
        std::fs::write(at("deploy/README.md"), "x").unwrap();
        std::os::unix::fs::symlink("b.yaml", at("deploy/c.yaml")).unwrap();
        assert_eq!(manifests(&at("deploy")).unwrap(), "---\n{}\n---\nkind: B\n---\nkind: B\n");
        check_tree(directory.path()).unwrap();
        for path in ["../x", "/etc/hosts", "nowhere"] {
            assert!(inside(directory.path(), Path::new(path)).is_err(), "{path}");
        }
        std::os::unix::fs::symlink("/etc/hosts", at("deploy/d.yaml")).unwrap();
        assert_eq!(check_tree(directory.path()).unwrap_err().to_string(), "the link deploy/d.yaml leads out");
        assert!(inside(directory.path(), Path::new("deploy/d.yaml")).is_err());
    }
}
