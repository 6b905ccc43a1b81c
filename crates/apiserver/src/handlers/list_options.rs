//! What a list or a watch is asked for: the table of resourceVersion, resourceVersionMatch, limit and continue, and what
//! upstream refuses (`internalversion/validation`, `storage/cacher/delegator`). Pure.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use kube_objects::{Reason, Status, StatusCause};
use serde::Deserialize;
use storage::Revision;

use crate::request_info::Query;

/// Which state a list shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Everything acknowledged before the request.
    Newest,
    /// Whatever is at hand.
    Any,
    /// At least this.
    NotOlderThan(Revision),
    /// Exactly this.
    Exact(Revision),
    /// The next page of a list: exactly this, from a key on.
    Continued(Revision, String),
    /// The newest, from a key on: after an expired token the client goes on inconsistently.
    NewestFrom(String),
}

/// A list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ListOptions {
    pub(crate) state: State,
    /// `None`: everything.
    pub(crate) limit: Option<usize>,
}

/// How a watch begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Start {
    /// With the state (as old as the cache has it, or consistent), then what changes.
    State { consistent: bool },
    /// With what changes from now on.
    Now,
    /// With what changed after a revision.
    After(Revision),
    /// WatchList: with the state at least as new as this, then a marked bookmark.
    List { at_least: Option<Revision> },
}

/// A watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WatchOptions {
    pub(crate) start: Start,
    pub(crate) bookmarks: bool,
    /// As the client wants it; `None`: the server chooses.
    pub(crate) timeout_seconds: Option<u64>,
}

const MATCH: &str = "resourceVersionMatch";

fn forbidden(field: &str, why: &str) -> StatusCause {
    cause("FieldValueForbidden", field, format!("Forbidden: {why}"))
}

fn unsupported(value: &str, supported: &[&str]) -> StatusCause {
    let quoted: Vec<String> = supported.iter().map(|value| format!("{value:?}")).collect();
    let message = format!("Unsupported value: {value:?}: supported values: {}", quoted.join(", "));
    cause("FieldValueNotSupported", MATCH, message)
}

fn cause(reason: &str, field: &str, message: String) -> StatusCause {
    StatusCause { reason: reason.to_owned(), message, field: field.to_owned() }
}

fn judged(causes: Vec<StatusCause>) -> Result<(), Status> {
    if causes.is_empty() { Ok(()) } else { Err(Status::invalid("meta.k8s.io", "ListOptions", "", causes)) }
}

fn bad(message: impl Into<String>) -> Status {
    Status::new(Reason::BadRequest, message)
}

/// An integer parameter. Clients see Go's words for what is none.
fn integer(query: &Query, name: &str) -> Result<Option<i64>, Status> {
    let Some(text) = query.text(name) else { return Ok(None) };
    text.parse().map(Some).map_err(|error: std::num::ParseIntError| {
        use std::num::IntErrorKind::{NegOverflow, PosOverflow};
        let what = match error.kind() {
            PosOverflow | NegOverflow => "value out of range",
            _ => "invalid syntax",
        };
        bad(format!("strconv.ParseInt: parsing {text:?}: {what}"))
    })
}

fn version(query: &Query) -> Result<Option<Revision>, Status> {
    let Some(text) = query.text("resourceVersion") else { return Ok(None) };
    // Go takes no sign, which Rust would.
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| digits).map(|version| Some(Revision(version))).ok_or_else(|| {
        bad(format!(
            "invalid resource version: resourceVersion: Invalid value: {text:?}: strconv.ParseUint: parsing {text:?}: \
             invalid syntax"
        ))
    })
}

/// A list's options.
///
/// # Errors
/// 400 for what cannot be read, 422 for what does not go together.
pub(crate) fn list(query: &Query) -> Result<ListOptions, Status> {
    let limit =
        integer(query, "limit")?.and_then(|limit| usize::try_from(limit).ok()).filter(|limit| *limit > 0);
    let matching = query.text(MATCH);
    let token = query.text("continue");
    judged(list_causes(query, matching, token))?;
    if let Some(token) = token {
        // "0" says nothing about a page that goes on where another ended.
        if query.text("resourceVersion").is_some_and(|version| version != "0") {
            return Err(bad("specifying resource version is not allowed when using continue"));
        }
        return Ok(ListOptions { state: from_token(token)?, limit });
    }
    let state = match (version(query)?, matching) {
        (None, _) => State::Newest,
        (Some(version), Some("Exact")) => State::Exact(version),
        (Some(Revision(0)), _) => State::Any,
        (Some(version), None) if limit.is_some() => State::Exact(version),
        (Some(version), _) => State::NotOlderThan(version),
    };
    // What is at hand is answered whole, as upstream's cache does.
    let limit = limit.filter(|_| state != State::Any);
    Ok(ListOptions { state, limit })
}

fn list_causes(query: &Query, matching: Option<&str>, token: Option<&str>) -> Vec<StatusCause> {
    let mut causes = Vec::new();
    let version = query.text("resourceVersion");
    if let Some(matching) = matching {
        if version.is_none() {
            causes.push(forbidden(
                MATCH,
                "resourceVersionMatch is forbidden unless resourceVersion is provided",
            ));
        }
        if token.is_some() {
            causes.push(forbidden(MATCH, "resourceVersionMatch is forbidden when continue is provided"));
        }
        if !matches!(matching, "Exact" | "NotOlderThan") {
            causes.push(unsupported(matching, &["Exact", "NotOlderThan", ""]));
        }
        if matching == "Exact" && version == Some("0") {
            let why = "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"";
            causes.push(forbidden(MATCH, why));
        }
    }
    if query.optional_flag("sendInitialEvents").is_some() {
        causes.push(forbidden("sendInitialEvents", "sendInitialEvents is forbidden for list"));
    }
    causes
}

/// A watch's options.
///
/// # Errors
/// As [`list`].
pub(crate) fn watch(query: &Query) -> Result<WatchOptions, Status> {
    let timeout = integer(query, "timeoutSeconds")?;
    integer(query, "limit")?;
    let initial = query.optional_flag("sendInitialEvents");
    let matching = query.text(MATCH);
    judged(watch_causes(query, initial, matching))?;
    let version = version(query)?;
    let start = match (initial, version) {
        (Some(true), None) => Start::List { at_least: None },
        (Some(true), Some(version)) => Start::List { at_least: Some(version) },
        (Some(false), None | Some(Revision(0))) => Start::Now,
        (None, None) => Start::State { consistent: true },
        (None, Some(Revision(0))) => Start::State { consistent: false },
        (_, Some(version)) => Start::After(version),
    };
    let timeout_seconds =
        timeout.and_then(|seconds| u64::try_from(seconds).ok()).filter(|seconds| *seconds > 0);
    Ok(WatchOptions { start, bookmarks: query.flag("allowWatchBookmarks"), timeout_seconds })
}

fn watch_causes(query: &Query, initial: Option<bool>, matching: Option<&str>) -> Vec<StatusCause> {
    let mut causes = Vec::new();
    if initial.is_some() && matching != Some("NotOlderThan") {
        causes.push(forbidden(
            MATCH,
            "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
        ));
    }
    // A watch from the state is one with initial events by default, and judged as such.
    let from_state = matches!(query.text("resourceVersion"), None | Some("0"));
    if let Some(matching) = matching {
        if initial.is_none() {
            let why = "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided";
            causes.push(forbidden(MATCH, why));
        }
        if matching != "NotOlderThan" {
            causes.push(unsupported(matching, &["NotOlderThan"]));
        }
    }
    if query.text("continue").is_some() && (matching.is_some() || from_state) {
        causes.push(forbidden(MATCH, "resourceVersionMatch is forbidden when continue is provided"));
    }
    causes
}

/// Upstream's token: where a list goes on, in base64.
#[derive(Deserialize)]
struct Token {
    #[serde(default)]
    v: String,
    #[serde(default)]
    rv: i64,
    #[serde(default)]
    start: String,
}

/// The token of a list that goes on behind `last` (a key within the list's scope) at `revision`; `None`: at whatever is the
/// newest then.
pub(crate) fn token(revision: Option<Revision>, last: &str) -> String {
    token_from(revision, &format!("{last}\0"))
}

/// The token of a list that goes on at `start`.
pub(crate) fn token_from(revision: Option<Revision>, start: &str) -> String {
    let rv = revision.map_or(-1, |revision| i64::try_from(revision.0).unwrap_or(i64::MAX));
    let start = serde_json::Value::from(start);
    URL_SAFE_NO_PAD.encode(format!("{{\"v\":\"meta.k8s.io/v1\",\"rv\":{rv},\"start\":{start}}}"))
}

fn from_token(token: &str) -> Result<State, Status> {
    let invalid = |why: &dyn std::fmt::Display| {
        bad(format!("invalid continue token: continue key is not valid: {why}"))
    };
    let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|error| invalid(&error))?;
    let token: Token = serde_json::from_slice(&bytes).map_err(|error| invalid(&error))?;
    if token.v != "meta.k8s.io/v1" {
        return Err(invalid(&format!("server does not recognize this encoded version {}", token.v)));
    }
    if token.rv == 0 {
        return Err(invalid(&"incorrect encoded start resourceVersion (version meta.k8s.io/v1)"));
    }
    if token.start.is_empty() {
        return Err(invalid(&"encoded start key empty (version meta.k8s.io/v1)"));
    }
    // A key may not lead out of the list's scope.
    let path = token.start.strip_prefix('/').unwrap_or(&token.start);
    if path.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Err(invalid(&token.start));
    }
    Ok(match u64::try_from(token.rv) {
        Ok(revision) => State::Continued(Revision(revision), path.to_owned()),
        Err(_) => State::NewestFrom(path.to_owned()),
    })
}

#[cfg(test)]
mod tests;
