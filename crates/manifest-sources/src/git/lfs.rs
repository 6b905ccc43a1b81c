//! Git LFS: files that a repository holds as pointers, with their content at a server beside it (git-lfs's `docs/spec.md` and
//! `docs/api/batch.md`, the transfer `basic`).
//!
//! A pointer says the SHA-256 and the size of its content, and the commit says the pointer: whatever server gives the content, it
//! is what was committed. Only what becomes manifests is asked for.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Uri};
use serde::Deserialize;
use serde_json::json;

use super::Repository;
use super::address::Server;
use crate::client::{Client, Got, Login};
use crate::error::{Error, aside};
use crate::process::Surroundings;
use crate::reach::reached;

const KIND: &str = "application/vnd.git-lfs+json";
/// What a pointer begins with, and once began with.
const VERSIONS: [&str; 2] =
    ["version https://git-lfs.github.com/spec/v1", "version https://hawser.github.com/spec/v1"];
/// Bytes of a pointer: git-lfs takes nothing longer for one.
const MAX_POINTER: u64 = 1024;
/// Objects of a checkout, bytes of one, and of all: as much as an artifact and its files may have.
const MAX_OBJECTS: usize = 1000;
const MAX_OBJECT: u64 = 64 << 20;
const MAX_BYTES: u64 = 256 << 20;
/// Objects asked for at once, as git-lfs does, and bytes of the answer: some kilobytes each, with what lets one in.
const BATCH: usize = 100;
const MAX_ANSWER: usize = 4 << 20;
/// Headers that an answer may ask to be sent.
const MAX_HEADERS: usize = 32;
/// A kustomization that was a pointer may lead to more of them.
const MAX_ROUNDS: usize = 4;

/// What a pointer points to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Pointer {
    oid: String,
    size: u64,
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    transfer: Option<String>,
    #[serde(default)]
    objects: Vec<Object>,
}

#[derive(Deserialize)]
struct Object {
    oid: String,
    #[serde(default)]
    actions: Option<Actions>,
    #[serde(default)]
    error: Option<Trouble>,
}

#[derive(Deserialize)]
struct Actions {
    download: Option<Action>,
}

#[derive(Deserialize)]
struct Action {
    href: String,
    #[serde(default)]
    header: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
struct Trouble {
    code: i64,
    #[serde(default)]
    message: String,
}

/// Puts the content of pointers into their place, in what of a checkout becomes manifests. `taken`: the repositories that it
/// consists of, each with the directory that it was checked out to. Refuses pointers when the repository does not say `lfs`.
pub(super) async fn resolve(
    repository: &Repository,
    root: &Path,
    taken: &[(PathBuf, Repository)],
    surroundings: &Surroundings,
    scratch: &Path,
) -> Result<(), Error> {
    let mut known = BTreeSet::new();
    for _ in 0..MAX_ROUNDS {
        let (place, paths) = (root.to_owned(), repository.paths.clone());
        let pointers = aside(move || find(&place, &paths)).await?;
        let Some((first, _)) = pointers.first() else { return Ok(()) };
        if !repository.lfs {
            let shown = first.strip_prefix(root.canonicalize().as_deref().unwrap_or(root)).unwrap_or(first);
            return Err(Error::Invalid(format!(
                "{} is a pointer of Git LFS, and this source does not fetch what such point to: have it do so (lfs: true; on \
                 the command line git lfs install), or keep the file itself in Git",
                shown.display()
            )));
        }
        known.extend(pointers.iter().map(|(_, pointer)| pointer.clone()));
        let total = known.iter().fold(0_u64, |total, pointer| total.saturating_add(pointer.size));
        if known.len() > MAX_OBJECTS || total > MAX_BYTES || known.iter().any(|each| each.size > MAX_OBJECT) {
            return Err(Error::Invalid(format!(
                "its pointers of Git LFS lead to more than {MAX_OBJECTS} objects, {MAX_OBJECT} bytes of one or {MAX_BYTES} \
                 of all"
            )));
        }
        for (at, own) in by_repository(pointers, taken) {
            let Some((directory, repository)) = taken.get(at) else { continue };
            repository.fetch_objects(own, directory, surroundings, scratch).await?;
        }
    }
    Err(Error::Invalid("pointers of Git LFS lead to others again and again".to_owned()))
}

/// Files with what they point to.
type Pointers = Vec<(PathBuf, Pointer)>;

fn find(root: &Path, paths: &[PathBuf]) -> Result<Pointers, Error> {
    let mut found = Vec::new();
    for file in reached(root, paths)?.files {
        let size = file.metadata().map_err(Error::file("read", &file))?.len();
        if size == 0 || size > MAX_POINTER {
            continue;
        }
        let content = std::fs::read(&file).map_err(Error::file("read", &file))?;
        let pointer = std::str::from_utf8(&content).ok().and_then(read);
        found.extend(
            pointer
                .transpose()
                .map_err(|why| {
                    let shown = file.file_name().unwrap_or_default().display();
                    Error::Invalid(format!("{shown} is a pointer of Git LFS that {why}"))
                })?
                .map(|pointer| (file, pointer)),
        );
    }
    Ok(found)
}

/// What a file points to, if it is a pointer.
fn read(text: &str) -> Option<Result<Pointer, &'static str>> {
    let mut lines = text.lines();
    lines.next().filter(|first| VERSIONS.contains(first))?;
    let (mut oid, mut size) = (None, None);
    for line in lines {
        match line.split_once(' ') {
            Some(("oid", value)) => {
                oid = value.strip_prefix("sha256:").filter(|oid| fleet_planner::is_digest(oid))
            }
            Some(("size", value)) => size = value.parse().ok(),
            Some((key, _)) if key.starts_with("ext-") => return Some(Err("needs an extension")),
            _ => {}
        }
    }
    Some(oid.zip(size).map(|(oid, size)| Pointer { oid: oid.to_owned(), size }).ok_or("cannot be read"))
}

/// Pointers by the repository that holds them: the innermost.
fn by_repository(pointers: Pointers, taken: &[(PathBuf, Repository)]) -> BTreeMap<usize, Pointers> {
    let mut sorted: BTreeMap<usize, Pointers> = BTreeMap::new();
    let real: Vec<PathBuf> =
        taken.iter().map(|(at, _)| at.canonicalize().unwrap_or_else(|_| at.clone())).collect();
    for (file, pointer) in pointers {
        let holds = (0..real.len()).filter(|at| file.starts_with(&real[*at]));
        let innermost = holds.max_by_key(|at| real[*at].components().count());
        sorted.entry(innermost.unwrap_or_default()).or_default().push((file, pointer));
    }
    sorted
}

impl Repository {
    async fn fetch_objects(
        &self,
        pointers: Pointers,
        directory: &Path,
        surroundings: &Surroundings,
        scratch: &Path,
    ) -> Result<(), Error> {
        let server = self.lfs_server(directory, surroundings, scratch).await?;
        let mut wanted: BTreeMap<Pointer, Vec<PathBuf>> = BTreeMap::new();
        for (file, pointer) in pointers {
            wanted.entry(pointer).or_default().push(file);
        }
        let wanted: Vec<_> = wanted.into_iter().collect();
        for batch in wanted.chunks(BATCH) {
            let mut answer = self.ask(&server, batch).await?;
            for (pointer, files) in batch {
                let content = self.object(&server, pointer, &mut answer).await?;
                let files = files.clone();
                aside(move || {
                    let write =
                        |file: &PathBuf| std::fs::write(file, &content).map_err(Error::file("write", file));
                    files.iter().try_for_each(write)
                })
                .await?;
            }
        }
        Ok(())
    }

    /// Where objects are asked for: what `.lfsconfig` says, or beside the repository.
    async fn lfs_server(
        &self,
        directory: &Path,
        surroundings: &Surroundings,
        scratch: &Path,
    ) -> Result<String, Error> {
        let refused = |url: &str| Error::Invalid(format!("Git LFS: {url:?} is no https URL of a server"));
        let file = directory.join(".lfsconfig");
        let told = if file.symlink_metadata().is_ok_and(|kind| kind.is_file()) {
            let get = ["config", "--file", ".lfsconfig", "--no-includes", "--get", "lfs.url"];
            // One that says nothing of it is a failure, too.
            self.git(surroundings, directory, scratch, &get).await.ok()
        } else {
            None
        };
        let told = told.as_deref().map(str::trim).filter(|told| !told.is_empty());
        let own = self.url.trim_end_matches('/');
        let url = told.map_or_else(
            || format!("{}.git/info/lfs", own.strip_suffix(".git").unwrap_or(own)),
            |told| told.trim_end_matches('/').to_owned(),
        );
        let protocol = Server::of(&url).map(|server| server.protocol);
        let plain = Server::of(&self.url).is_some_and(|server| server.protocol == "http");
        match protocol.as_deref() {
            Some("https") => Ok(url),
            Some("http") if plain => Ok(url),
            _ => Err(refused(&url)),
        }
    }

    /// What the server says of a batch of objects, by their ids.
    async fn ask(
        &self,
        server: &str,
        batch: &[(Pointer, Vec<PathBuf>)],
    ) -> Result<BTreeMap<String, Object>, Error> {
        let objects: Vec<_> =
            batch.iter().map(|(pointer, _)| json!({"oid": pointer.oid, "size": pointer.size})).collect();
        let body = json!({"operation": "download", "transfers": ["basic"], "hash_algo": "sha256", "objects": objects});
        let (mut client, path) = self.client(&format!("{server}/objects/batch"), HeaderMap::new())?;
        let Got { body, .. } = client.post(&path, KIND, Bytes::from(body.to_string()), MAX_ANSWER).await?;
        let unreadable = |why: String| Error::Invalid(format!("Git LFS: the answer of {server} {why}"));
        let answer: Answer =
            serde_json::from_slice(&body).map_err(|error| unreadable(format!("cannot be read: {error}")))?;
        match answer.transfer.as_deref() {
            None | Some("basic") => {}
            Some(_) => return Err(unreadable("asks for a transfer that is not known here".to_owned())),
        }
        Ok(answer.objects.into_iter().map(|object| (object.oid.clone(), object)).collect())
    }

    /// The content that a pointer points to, and no other.
    async fn object(
        &self,
        server: &str,
        pointer: &Pointer,
        answer: &mut BTreeMap<String, Object>,
    ) -> Result<Bytes, Error> {
        let invalid = |why: String| Error::Invalid(format!("Git LFS: object {} {why}", pointer.oid));
        let object = answer.remove(&pointer.oid);
        let object = object.ok_or_else(|| invalid(format!("is not in the answer of {server}")))?;
        if let Some(Trouble { code, message }) = object.error {
            let message: String = message.chars().take(200).collect();
            return Err(invalid(format!("is not given by {server}: {code} {message:?}")));
        }
        let action = object.actions.and_then(|actions| actions.download);
        let Action { href, header } = action.ok_or_else(|| invalid(format!("is nowhere, says {server}")))?;
        let headers =
            headers(header.unwrap_or_default()).ok_or_else(|| invalid("needs odd headers".to_owned()))?;
        let (mut client, path) = self.client(&href, headers)?;
        let most = usize::try_from(pointer.size).unwrap_or(usize::MAX);
        let Got { body, .. } = client.get(&path, "*/*", most).await?;
        let found = fleet_planner::digest(&body);
        if found != pointer.oid || body.len() as u64 != pointer.size {
            return Err(invalid(format!("came as {found}, {} bytes of {}", body.len(), pointer.size)));
        }
        Ok(body)
    }

    /// Who talks to a URL, and its path there. The repository's credentials go to its own server alone, and only where nothing
    /// else lets one in.
    fn client(&self, url: &str, headers: HeaderMap) -> Result<(Client, String), Error> {
        let refused = || Error::Invalid(format!("Git LFS: {url:?} is no https URL"));
        let uri = Uri::try_from(url).map_err(|_| refused())?;
        let (server, own) = (Server::of(url).ok_or_else(refused)?, Server::of(&self.url));
        let plain = match server.protocol.as_str() {
            "https" => false,
            "http" if own.as_ref().is_some_and(|own| own.protocol == "http") => true,
            _ => return Err(refused()),
        };
        let authority = uri.authority().ok_or_else(refused)?.as_str().rsplit('@').next().unwrap_or_default();
        let login = self
            .credentials
            .basic
            .as_ref()
            .map(|(user, password)| Login { user: user.clone(), password: password.clone() });
        let lets_in = headers.contains_key(http::header::AUTHORIZATION);
        let login = login.filter(|_| own == Some(server) && !lets_in);
        let path = uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str).to_owned();
        Ok((Client::new(authority, plain, login)?.known().with(headers), path))
    }
}

/// What a server asks to be sent, except what is the connection's own.
fn headers(asked: BTreeMap<String, String>) -> Option<HeaderMap> {
    const OWN: [HeaderName; 5] = [
        http::header::HOST,
        http::header::CONNECTION,
        http::header::CONTENT_LENGTH,
        http::header::TRANSFER_ENCODING,
        http::header::UPGRADE,
    ];
    let mut headers = HeaderMap::new();
    if asked.len() > MAX_HEADERS {
        return None;
    }
    for (name, value) in asked {
        let name = HeaderName::try_from(name).ok()?;
        if !OWN.contains(&name) {
            headers.insert(name, HeaderValue::try_from(value).ok()?);
        }
    }
    Some(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pointer_is_read_as_git_lfs_writes_it() {
        let oid = "4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393";
        for version in VERSIONS {
            let text = format!("{version}\noid sha256:{oid}\nsize 12345\n");
            assert_eq!(read(&text), Some(Ok(Pointer { oid: oid.to_owned(), size: 12345 })));
        }
        assert_eq!(read("kind: ConfigMap\n"), None);
        let version = VERSIONS[0];
        for text in [
            format!("{version}\n"),
            format!("{version}\noid sha256:abc\nsize 1\n"),
            format!("{version}\noid md5:{oid}\nsize 1\n"),
            format!("{version}\noid sha256:{oid}\nsize -1\n"),
        ] {
            assert_eq!(read(&text), Some(Err("cannot be read")), "{text}");
        }
        let extended = format!("{version}\next-0-foo sha256:{oid}\noid sha256:{oid}\nsize 1\n");
        assert_eq!(read(&extended), Some(Err("needs an extension")));
    }

    #[test]
    fn only_harmless_headers_are_sent() {
        let of = |pairs: &[(&str, &str)]| {
            headers(pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
        };
        let found = of(&[("Host", "x"), ("content-length", "9"), ("Authorization", "a")]).unwrap();
        assert_eq!(found.keys().collect::<Vec<_>>(), ["authorization"]);
        assert!(of(&[("a b", "x")]).is_none() && of(&[("a", "x\ny")]).is_none());
    }
}
