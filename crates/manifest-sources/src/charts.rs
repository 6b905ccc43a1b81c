//! Charts in repositories of Helm charts: an `index.yaml` below an HTTP address lists versions with their archives.
//!
//! The newest version that a range allows is taken, as `helm pull --version` takes it. An archive is checked against the digest
//! that the index says, against the one that a person pinned, and against the provenance of a signer that he pinned; the user's
//! name and password go to the repository's own server alone.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use http::Uri;
use semver::{Op, Version, VersionReq};
use serde::Deserialize;

use crate::archive;
use crate::client::{Client, Got, Login};
use crate::error::{Error, aside};
use crate::oci::is_digest;
use crate::process::Surroundings;
use crate::provenance::{self, Expected, Keyring, MAX_PROVENANCE};
use crate::shown::shown;

/// Bytes of an index (those of large public repositories have some 20 MB), and of a chart's archive.
const MAX_INDEX: usize = 48 << 20;
const MAX_ARCHIVE: usize = 64 << 20;
/// Values in an index: some 30 of a version, which takes a kilobyte; the parser's own bound is a twenty-fourth of this.
const MAX_INDEX_NODES: usize = MAX_INDEX / 8;

/// A chart in a repository.
#[derive(Clone, Debug, Default)]
pub struct Chart {
    /// `https://…`, below which `index.yaml` is.
    pub repository: String,
    /// The chart's name.
    pub name: String,
    /// A version, or a range of which the newest is taken; the newest of all without one.
    pub version: Option<String>,
    /// The archive's digest must be this: `sha256:` and 64 hexadecimal digits.
    pub digest: Option<String>,
    /// OpenPGP keys, armored, one of which must have signed the archive's provenance; `None`: nobody need have.
    pub signers: Option<String>,
    /// User name and password.
    pub credentials: Option<Login>,
    /// The repository may be at `http://…`.
    pub plain_http: bool,
}

/// A version of a chart, as its repository lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// As it is written there.
    pub version: String,
    /// SHA-256 of its archive, hexadecimal, where the repository says one.
    pub digest: Option<String>,
    urls: Vec<String>,
}

impl Listed {
    /// By what it is told from every other version: `VERSION@sha256:DIGEST`.
    #[must_use]
    pub fn revision(&self) -> String {
        match &self.digest {
            Some(digest) => format!("{}@sha256:{digest}", self.version),
            None => self.version.clone(),
        }
    }
}

#[derive(Deserialize)]
struct Index {
    #[serde(default)]
    entries: BTreeMap<String, Vec<Entry>>,
}

#[derive(Deserialize)]
struct Entry {
    version: String,
    #[serde(default)]
    digest: Option<String>,
    #[serde(default)]
    urls: Vec<String>,
}

impl Chart {
    /// The version that is meant now.
    ///
    /// # Errors
    /// When the repository is not reached, or lists no such version.
    pub async fn resolve(&self) -> Result<Listed, Error> {
        let wanted = self.version.as_deref().map(ranges);
        let repository = self.repository()?;
        let index = Uri::try_from(format!("{repository}/index.yaml")).map_err(|_| self.no_address())?;
        let body = self.get(&index, MAX_INDEX).await?;
        let name = self.name.clone();
        let unreadable = self.invalid("its index cannot be read");
        let found = aside(move || {
            let text = std::str::from_utf8(&body).map_err(|_| unreadable)?;
            let index: Index = serde_saphyr::from_str_with_options(text, index_options())
                .map_err(|error| Error::Invalid(format!("the repository's index cannot be read: {error}")))?;
            Ok(index.entries.into_iter().find(|(own, _)| *own == name).map(|(_, entries)| entries))
        });
        let entries = found.await?.ok_or_else(|| self.invalid("it lists no such chart"))?;
        let understood = wanted.as_ref().map(|ranges| ranges.as_deref().unwrap_or_default());
        if let Some(newest) = newest(entries, understood, self.version.as_deref()) {
            return Ok(newest);
        }
        // What is no range may have been a version's name.
        wanted.transpose()?;
        let wanted = self.version.as_deref().unwrap_or("a release");
        Err(self.invalid(&format!("it lists no version that is {wanted}")))
    }

    /// Unpacks a version into an empty directory; answers its revision and the directory that the chart is in. `scratch` is for
    /// files that a program needs, and not below `into`.
    ///
    /// # Errors
    /// When no server gives the archive, it is not what its digest says, or not signed as it must be.
    pub async fn pull(
        &self,
        listed: &Listed,
        into: &Path,
        surroundings: &Surroundings,
        scratch: &Path,
    ) -> Result<(String, PathBuf), Error> {
        let keys = self.signers.as_deref().map(Keyring::read).transpose()?;
        let repository = self.repository()?;
        let url = listed.urls.first().ok_or_else(|| self.invalid("the version has no archive"))?;
        let url = if url.contains("://") {
            url.clone()
        } else {
            format!("{repository}/{}", url.trim_start_matches('/'))
        };
        let url = Uri::try_from(url).map_err(|_| self.no_address())?;
        let body = self.get(&url, MAX_ARCHIVE).await?;
        let found = fleet_planner::digest(&body);
        let pinned = self.digest.as_deref().map(|digest| digest.trim_start_matches("sha256:"));
        for wanted in listed.digest.as_deref().into_iter().chain(pinned) {
            if !wanted.eq_ignore_ascii_case(&found) {
                return Err(self.invalid(&format!("its archive is {found} and not {wanted}")));
            }
        }
        if let Some(keys) = keys {
            let expected = Expected {
                what: format!("chart {} {}", self.name, listed.version),
                file: Some(format!("{}-{}.tgz", self.name, listed.version)),
                digest: &found,
            };
            let provenance = self.provenance(&url, &expected).await?;
            provenance::verify(&provenance, keys, &expected, surroundings, scratch).await?;
        }
        let into = into.to_owned();
        let unpacked = aside(move || archive::unpack(&body, &into).map(|()| archive::content(&into))).await?;
        let exact = Listed { digest: Some(found), ..listed.clone() };
        Ok((exact.revision(), unpacked))
    }

    /// What lies beside an archive.
    async fn provenance(&self, archive: &Uri, expected: &Expected<'_>) -> Result<Bytes, Error> {
        let query = archive.query().map_or_else(String::new, |query| format!("?{query}"));
        let mut parts = archive.clone().into_parts();
        let beside = format!("{}.prov{query}", archive.path());
        parts.path_and_query = Some(beside.parse().map_err(|_| self.no_address())?);
        let url = Uri::from_parts(parts).map_err(|_| self.no_address())?;
        self.get(&url, MAX_PROVENANCE).await.map_err(|error| {
            if !error.is_absent() {
                return error;
            }
            let said = format!("no provenance lies beside its archive ({}.prov)", archive.path());
            Error::NotSigned { what: expected.what.clone(), said }
        })
    }

    /// Without a slash at its end, once what is asked for can be.
    fn repository(&self) -> Result<&str, Error> {
        check_repository(&self.repository, self.plain_http)?;
        self.digest.as_deref().map_or(Ok(()), check_digest)?;
        self.version.as_deref().map_or(Ok(()), check_version)?;
        Ok(self.repository.trim_end_matches('/'))
    }

    async fn get(&self, uri: &Uri, most: usize) -> Result<Bytes, Error> {
        let authority = uri.authority().filter(|authority| !authority.as_str().contains('@'));
        let authority = authority.ok_or_else(|| self.no_address())?;
        let plain = match uri.scheme_str() {
            Some("https") => false,
            Some("http") if self.plain_http => true,
            _ => return Err(self.no_address()),
        };
        let home = Uri::try_from(self.repository.as_str()).map_err(|_| self.no_address())?;
        let own = home.authority() == Some(authority) && home.scheme() == uri.scheme();
        let credentials = self.credentials.clone().filter(|_| own);
        let mut client = Client::new(authority.as_str(), plain, credentials)?;
        let path = uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
        let Got { body, .. } = client.get(path, "*/*", most).await?;
        Ok(body)
    }

    fn no_address(&self) -> Error {
        self.invalid("it is at no https:// address")
    }

    fn invalid(&self, why: &str) -> Error {
        Error::Invalid(format!("chart {} of {}: {why}", self.name, shown(&self.repository)))
    }
}

/// Checks that a repository of charts is at an `https://` address, or at an `http://` one that may be.
///
/// # Errors
/// When it is not, or the address says who logs in.
pub fn check_repository(url: &str, plain_http: bool) -> Result<(), Error> {
    let invalid = |why: &str| Err(Error::Invalid(format!("{} {why}", shown(url))));
    match url.split_once("://").map(|(scheme, _)| scheme) {
        Some("https") => {}
        Some("http") if plain_http => {}
        Some("http") => return invalid("has no TLS, which plainHttp allows"),
        Some("oci") => return invalid("is a registry's: its charts are kept at oci, not at chart"),
        _ => return invalid("is no https:// address"),
    }
    let Some(authority) = Uri::try_from(url).ok().and_then(|uri| uri.authority().cloned()) else {
        return invalid("is no https:// address");
    };
    if authority.as_str().contains('@') {
        return invalid("names a user, who belongs into a Secret");
    }
    Ok(())
}

/// Checks that a digest is all of one.
///
/// # Errors
/// When it is not.
pub fn check_digest(digest: &str) -> Result<(), Error> {
    if is_digest(digest) {
        return Ok(());
    }
    Err(Error::Invalid("digest must be sha256: and 64 hexadecimal digits".to_owned()))
}

/// Checks that a text is a range of versions, or may be a version's name: repositories list some that are no semantic versions.
///
/// # Errors
/// When it is neither.
pub fn check_version(text: &str) -> Result<(), Error> {
    let is_name =
        !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._+-".contains(&byte));
    if is_name { Ok(()) } else { ranges(text).map(drop) }
}

/// What of an index is read: indexes are larger than what people write by hand.
fn index_options() -> serde_saphyr::Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! { max_nodes: MAX_INDEX_NODES, max_events: 2 * MAX_INDEX_NODES },
    }
}

/// A version as charts write it: with or without a `v` in front.
pub(crate) fn version(text: &str) -> Option<Version> {
    Version::parse(text.trim().trim_start_matches('v')).ok()
}

/// The newest version that one of the ranges allows. A version that is named to the letter is taken whatever it looks like.
fn newest(entries: Vec<Entry>, wanted: Option<&[VersionReq]>, named: Option<&str>) -> Option<Listed> {
    let listed = |entry: Entry| Listed {
        digest: entry.digest.map(|digest| digest.trim_start_matches("sha256:").to_owned()),
        version: entry.version,
        urls: entry.urls,
    };
    let allowed = |version: &Version| match wanted {
        None => version.pre.is_empty(),
        Some(ranges) => ranges.iter().any(|range| range.matches(version)),
    };
    let mut best: Option<(Version, Entry)> = None;
    for entry in entries {
        if named == Some(entry.version.as_str()) {
            return Some(listed(entry));
        }
        let Some(version) = version(&entry.version).filter(allowed) else { continue };
        if best.as_ref().is_none_or(|(known, _)| *known < version) {
            best = Some((version, entry));
        }
    }
    best.map(|(_, entry)| listed(entry))
}

/// Ranges of versions as Helm reads them: `||` between them; a bare version is itself, a part of one all that begin with it.
fn ranges(text: &str) -> Result<Vec<VersionReq>, Error> {
    let invalid = || Error::Invalid(format!("{text:?} is no version and no range of versions"));
    let range = |part: &str| {
        let words = joined(part);
        let words: Vec<String> = match words.iter().position(|word| word == "-") {
            Some(1) if words.len() == 3 => vec![format!(">={}", words[0]), format!("<={}", words[2])],
            Some(_) => return Err(invalid()),
            None => words,
        };
        let mut parsed = VersionReq::STAR;
        for word in words {
            let bare = word.trim_start_matches(['=', '<', '>', '~', '^', '!']);
            let operator = &word[..word.len() - bare.len()];
            let bare = bare.trim_start_matches('v');
            let own = VersionReq::parse(&format!("{operator}{bare}")).map_err(|_| invalid())?;
            parsed.comparators.extend(own.comparators.into_iter().map(|mut one| {
                // Rust's bare version is a range, Helm's is that version.
                if operator.is_empty() && one.op == Op::Caret {
                    one.op = Op::Exact;
                }
                one
            }));
        }
        Ok(parsed)
    };
    text.split("||").map(range).collect()
}

/// The words of a range; an operator belongs to what follows it.
fn joined(text: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut open = false;
    for word in text.split([',', ' ']).filter(|word| !word.is_empty()) {
        match words.last_mut() {
            Some(last) if open => last.push_str(word),
            _ => words.push(word.to_owned()),
        }
        open = word.chars().all(|each| "=<>~^!".contains(each));
    }
    words
}

#[cfg(test)]
mod tests;
