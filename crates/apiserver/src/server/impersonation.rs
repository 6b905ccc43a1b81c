//! `Impersonate-*` headers: acting as somebody else, for those who may.
//!
//! Kubernetes 1.36 knows two ways. The old one needs the verb `impersonate` on every part of the wanted user. The
//! constrained one (KEP-5284) needs `impersonate:MODE` on every part and `impersonate-on:MODE:VERB` on the request
//! itself. The constrained modes are tried first; when none allows, the error of the first that applied is told.

mod modes;

use access::Attributes;
use access::authentication::{ANONYMOUS, AUTHENTICATED, UNAUTHENTICATED};
use http::HeaderMap;
use kube_objects::{Reason, Status, UserInfo};

use super::Server;
use modes::Mode;

const USER: &str = "impersonate-user";
const UID: &str = "impersonate-uid";
const GROUP: &str = "impersonate-group";
const EXTRA: &str = "impersonate-extra-";

/// Who a request acts as.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Impersonated {
    pub(super) user: UserInfo,
    /// The verb of the constrained mode that allowed it; "" for the old way.
    pub(super) constraint: &'static str,
}

/// Decides a question of authorization.
trait Authority {
    /// Whether `user` may, or the 403.
    fn check(&self, user: &UserInfo, attributes: &Attributes) -> Result<(), Status>;
}

impl Authority for Server {
    fn check(&self, user: &UserInfo, attributes: &Attributes) -> Result<(), Status> {
        self.authorize(user, attributes)
    }
}

impl Server {
    /// Whom the request of `user` acts as; `None` when it does not ask to. Takes the headers away: nothing behind this
    /// may behave differently because of them.
    pub(super) fn impersonate(
        &self,
        user: &UserInfo,
        request: &Attributes,
        headers: &mut HeaderMap,
    ) -> Result<Option<Impersonated>, Status> {
        let Some(wanted) = wanted(headers)? else { return Ok(None) };
        impersonated(self, user, &wanted, request).map(Some)
    }
}

/// What the headers ask for, as they say it.
fn wanted(headers: &mut HeaderMap) -> Result<Option<UserInfo>, Status> {
    if !headers.keys().any(|name| name.as_str().starts_with("impersonate-")) {
        return Ok(None);
    }
    let first = |name: &str| {
        headers
            .get(name)
            .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
            .unwrap_or_default()
    };
    let mut wanted = UserInfo { username: first(USER), uid: first(UID), ..UserInfo::default() };
    let all = |name: &http::HeaderName| -> Vec<String> {
        let values = headers.get_all(name).iter();
        values.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()).collect()
    };
    let mut more = !wanted.uid.is_empty();
    for name in headers.keys() {
        if name.as_str() == GROUP {
            wanted.groups = all(name);
            more = true;
        } else if let Some(key) = name.as_str().strip_prefix(EXTRA) {
            // Header names arrive in lower case; keys with other characters are percent-encoded.
            wanted.extra.entry(crate::request_info::decode(key, false)).or_default().extend(all(name));
            more = true;
        }
    }
    if wanted.username.is_empty() {
        if !more {
            return Ok(None);
        }
        let message = format!("requested {wanted:?} without impersonating a user name");
        return Err(Status::new(Reason::BadRequest, message));
    }
    let names: Vec<_> = headers
        .keys()
        .filter(|name| matches!(name.as_str(), USER | UID | GROUP) || name.as_str().starts_with(EXTRA))
        .cloned()
        .collect();
    for name in names {
        headers.remove(name);
    }
    Ok(Some(wanted))
}

fn impersonated(
    authority: &impl Authority,
    requestor: &UserInfo,
    wanted: &UserInfo,
    request: &Attributes,
) -> Result<Impersonated, Status> {
    let mut first_error = None;
    for mode in Mode::ALL {
        if !mode.applies(wanted, requestor) {
            continue;
        }
        match mode.check(authority, requestor, wanted, request) {
            Ok(user) => return Ok(Impersonated { user: completed(user), constraint: mode.constraint() }),
            Err(status) => first_error = first_error.or(Some(status)),
        }
    }
    Err(first_error.unwrap_or_else(|| Status::internal("all impersonation modes failed")))
}

/// Adds the group of everybody who is known, or of those who are not.
fn completed(mut user: UserInfo) -> UserInfo {
    if user.username == ANONYMOUS {
        if !user.in_group(UNAUTHENTICATED) {
            user.groups.push(UNAUTHENTICATED.to_owned());
        }
    } else if !user.in_group(UNAUTHENTICATED) && !user.in_group(AUTHENTICATED) {
        user.groups.push(AUTHENTICATED.to_owned());
    }
    user
}

#[cfg(test)]
mod tests;
