//! Who a request comes from.

use std::collections::BTreeMap;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize};

/// An authenticated user, as `TokenReview` and `SubjectAccessReview` carry it. Only an authenticator makes one from
/// a connection; handlers take it from the request's extensions and never from headers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserInfo {
    /// `system:serviceaccount:NAMESPACE:NAME`, a certificate's common name, `system:anonymous` …
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub username: String,
    /// Tells two users of the same name over time apart.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub uid: String,
    /// Groups, a certificate's organizations.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    /// What else the authenticator knows, by key.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub extra: BTreeMap<String, Vec<String>>,
}

impl UserInfo {
    /// A user by name and groups.
    #[must_use]
    pub fn new(username: impl Into<String>, groups: &[&str]) -> Self {
        Self {
            username: username.into(),
            groups: groups.iter().map(|group| (*group).to_owned()).collect(),
            ..Self::default()
        }
    }

    /// A ServiceAccount, with the groups its tokens bring.
    #[must_use]
    pub fn service_account(namespace: &str, name: &str) -> Self {
        let own = format!("system:serviceaccounts:{namespace}");
        Self::new(
            format!("system:serviceaccount:{namespace}:{name}"),
            &["system:serviceaccounts", &own, "system:authenticated"],
        )
    }

    /// The agent of a node, as its client certificate names it.
    #[must_use]
    pub fn node(name: &str) -> Self {
        Self::new(format!("system:node:{name}"), &["system:nodes", "system:authenticated"])
    }

    /// A part of the control plane that has a user name of its own: `system:kube-scheduler`.
    #[must_use]
    pub fn component(username: &str) -> Self {
        Self::new(username, &["system:authenticated"])
    }

    /// Whether the user is in `group`, compared exactly.
    #[must_use]
    pub fn in_group(&self, group: &str) -> bool {
        self.groups.iter().any(|own| own == group)
    }
}

/// What cannot stand in a header's name (RFC 9110, `token`), and the percent sign.
const NOT_IN_NAMES: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'!')
    .remove(b'#')
    .remove(b'$')
    .remove(b'&')
    .remove(b'\'')
    .remove(b'*')
    .remove(b'+')
    .remove(b'-')
    .remove(b'.')
    .remove(b'^')
    .remove(b'_')
    .remove(b'`')
    .remove(b'|')
    .remove(b'~');

/// A key of [`UserInfo::extra`] as it can stand in the name of a header: what may not is percent-encoded, and so is the
/// percent sign (upstream `headerKeyEscape` of client-go's transport).
#[must_use]
pub fn extra_header_key(key: &str) -> String {
    utf8_percent_encode(key, NOT_IN_NAMES).to_string()
}
