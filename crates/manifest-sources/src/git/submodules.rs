//! Submodules: repositories at places of a repository, each at the commit that the repository names.
//!
//! A commit that is signed names the commits of its submodules, so that what is signed of them is what is fetched. Where they
//! are kept is a text of whoever may write to the repository: it leads to no path of this machine, runs nothing, and takes the
//! source's credentials to their own server alone, and only from there.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use super::address::{self, Server};
use super::{Credentials, Reference, Repository, Verify};
use crate::error::Error;
use crate::process::Surroundings;

/// Submodules of a source, those of submodules among them: each takes some processes and a directory.
const MAX_SUBMODULES: usize = 64;
/// How deep submodules may lie in one another.
const MAX_DEPTH: usize = 8;

/// A place of a tree where another repository belongs.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) path: String,
    commit: String,
}

/// What was fetched on the way to a repository, and how much more may be.
pub(super) struct Trail {
    /// The repositories that the present one lies in, itself among them, as `address::bare` has them.
    urls: Vec<String>,
    left: usize,
    /// Everything that was fetched, with where it lies.
    pub(super) taken: Vec<(PathBuf, Repository)>,
}

impl Trail {
    pub(super) fn new() -> Self {
        Self { urls: Vec::new(), left: MAX_SUBMODULES, taken: Vec::new() }
    }
}

/// The links among the lines of `git ls-tree -r -z`: MODE SP TYPE SP OBJECT TAB PATH.
pub(super) fn links(tree: &str) -> Vec<Link> {
    let entries = tree.split('\0').filter_map(|entry| entry.strip_prefix("160000 ")?.split_once('\t'));
    let link = |(what, path): (&str, &str)| {
        Some(Link { path: path.to_owned(), commit: what.split_once(' ')?.1.to_owned() })
    };
    entries.filter_map(link).collect()
}

impl Repository {
    /// Fetches the submodules of a checkout at `into`, and theirs.
    pub(super) async fn fetch_submodules(
        &self,
        links: Vec<Link>,
        into: &Path,
        surroundings: &Surroundings,
        scratch: &Path,
        trail: &mut Trail,
    ) -> Result<(), Error> {
        if links.is_empty() {
            return Ok(());
        }
        let told = self.git(surroundings, into, scratch, &MODULES).await;
        let urls = told.as_deref().map(modules).unwrap_or_default();
        trail.urls.push(address::bare(&self.url));
        for link in links {
            let path = link.path.clone();
            let fetched = self.fetch_submodule(&link, &urls, into, surroundings, scratch, trail).await;
            fetched.map_err(|source| Error::Submodule { path, source: Box::new(source) })?;
        }
        trail.urls.pop();
        Ok(())
    }

    async fn fetch_submodule(
        &self,
        link: &Link,
        urls: &BTreeMap<String, String>,
        into: &Path,
        surroundings: &Surroundings,
        scratch: &Path,
        trail: &mut Trail,
    ) -> Result<(), Error> {
        let invalid = |why: String| Err(Error::Invalid(why));
        let Some(url) = urls.get(&link.path) else {
            return invalid(".gitmodules does not say where it is kept".to_owned());
        };
        let url = address::of_submodule(&self.url, url)?;
        if trail.urls.contains(&address::bare(&url)) {
            return invalid(format!("{url} lies in itself"));
        }
        if trail.urls.len() > MAX_DEPTH {
            return invalid(format!("submodules lie in one another more than {MAX_DEPTH} deep"));
        }
        trail.left = match trail.left.checked_sub(1) {
            Some(left) => left,
            None => return invalid(format!("there are more than {MAX_SUBMODULES} submodules")),
        };
        let credentials = self.credentials_for(&url, surroundings)?;
        let place = place(into, &link.path)?;
        let submodule = Self {
            url,
            reference: Reference::Commit(link.commit.clone()),
            credentials,
            verify: Verify::Nobody,
            paths: Vec::new(),
            submodules: true,
            lfs: self.lfs,
        };
        Box::pin(submodule.take(&place, surroundings, scratch, trail)).await.map(drop)
    }

    /// What a submodule at `url` is fetched with: the repository's own, at its own server, and nothing elsewhere.
    fn credentials_for(&self, url: &str, surroundings: &Surroundings) -> Result<Credentials, Error> {
        let (own, other) = (Server::of(&self.url), Server::of(url));
        if own.is_some() && own == other {
            return Ok(self.credentials.clone());
        }
        let by_ssh = other.as_ref().is_some_and(|server| server.protocol == "ssh");
        match (surroundings, other) {
            // SSH would take whatever key this machine's user has.
            (Surroundings::Isolated { .. }, Some(server)) if by_ssh => Err(Error::Invalid(format!(
                "it is at {server}, where the source's credentials do not go, and SSH lets nobody in without any"
            ))),
            _ => Ok(Credentials::default()),
        }
    }
}

/// What `.gitmodules` of the commit says, by git's own reader of such files.
const MODULES: [&str; 6] = ["config", "--blob", "HEAD:.gitmodules", "--no-includes", "--null", "--list"];

/// Path and URL of each submodule: records `submodule.NAME.KEY` LF VALUE NUL.
fn modules(told: &str) -> BTreeMap<String, String> {
    let mut named: BTreeMap<&str, (Option<&str>, Option<&str>)> = BTreeMap::new();
    for (key, value) in told.split('\0').filter_map(|record| record.split_once('\n')) {
        let Some((name, key)) = key.strip_prefix("submodule.").and_then(|key| key.rsplit_once('.')) else {
            continue;
        };
        let module = named.entry(name).or_default();
        match key {
            "path" => module.0 = Some(value),
            "url" => module.1 = Some(value),
            _ => {}
        }
    }
    let whole = named.into_values().filter_map(|(path, url)| path.zip(url));
    whole.map(|(path, url)| (path.trim_end_matches('/').to_owned(), url.to_owned())).collect()
}

/// The directory that a submodule belongs into: empty, and reached over directories alone.
fn place(root: &Path, path: &str) -> Result<PathBuf, Error> {
    let refused = |why: &str| Error::Invalid(format!("{path:?} {why}"));
    let mut place = root.to_owned();
    for part in Path::new(path).components() {
        let Component::Normal(part) = part else { return Err(refused("leads out")) };
        if part.eq_ignore_ascii_case(".git") {
            return Err(refused("is git's own"));
        }
        place.push(part);
        match place.symlink_metadata() {
            Ok(kind) if kind.is_dir() => {}
            Ok(_) => return Err(refused("leads over a link or a file")),
            Err(_) => std::fs::create_dir(&place).map_err(Error::file("create", &place))?,
        }
    }
    let mut held = std::fs::read_dir(&place).map_err(Error::file("read", &place))?;
    if place == root || held.next().is_some() { Err(refused("is not empty")) } else { Ok(place) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_and_modules_are_read_as_git_writes_them() {
        let tree = "100644 blob aa\ta.yaml\x00160000 commit bb\tvendor/a b\0";
        assert_eq!(links(tree), [Link { path: "vendor/a b".into(), commit: "bb".into() }]);
        let told = "submodule.a.b.path\nvendor/a b\0submodule.a.b.url\n../lib\0submodule.c.url\nx\0core.bare\ntrue\0";
        assert_eq!(modules(told), BTreeMap::from([("vendor/a b".to_owned(), "../lib".to_owned())]));
    }

    #[test]
    fn a_submodule_has_an_empty_directory_of_its_own() {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name);
        std::fs::create_dir_all(at("held/full")).unwrap();
        std::fs::write(at("file"), "x").unwrap();
        std::os::unix::fs::symlink("held", at("link")).unwrap();
        assert_eq!(place(root.path(), "held/new/lib").unwrap(), at("held/new/lib"));
        for (path, part) in [
            ("../out", "leads out"),
            ("/out", "leads out"),
            ("a/../../out", "leads out"),
            (".git/hooks", "git's own"),
            ("a/.GIT", "git's own"),
            ("link/lib", "over a link"),
            ("link", "over a link"),
            ("file", "over a link"),
            ("held", "not empty"),
            ("", "not empty"),
        ] {
            let said = place(root.path(), path).unwrap_err().to_string();
            assert!(said.contains(part), "{path}: {said}");
        }
    }
}
