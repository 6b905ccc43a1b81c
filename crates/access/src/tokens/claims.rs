//! What stands in a token.

use serde::{Deserialize, Deserializer, Serialize};

/// What to put in a token.
#[derive(Clone, Debug)]
pub struct TokenRequest {
    /// The ServiceAccount's namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// Whom the token is for; empty: the API server.
    pub audiences: Vec<String>,
    /// How long it lives, in seconds; kept within [`super::MINIMUM_SECONDS`] and [`super::MAXIMUM_SECONDS`] by whoever
    /// validates the request.
    pub expiration_seconds: u64,
    /// The pod it is bound to.
    pub pod: Option<BoundReference>,
    /// The secret it is bound to.
    pub secret: Option<BoundReference>,
    /// The node it is bound to, or that its pod is on (then it informs and does not bind).
    pub node: Option<BoundReference>,
}

/// Names an object over its life.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BoundReference {
    /// Its name.
    #[serde(default)]
    pub name: String,
    /// Its uid.
    #[serde(default)]
    pub uid: String,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Claims {
    #[serde(default, deserialize_with = "one_or_many")]
    pub aud: Vec<String>,
    pub exp: u64,
    #[serde(default)]
    pub iat: u64,
    #[serde(default)]
    pub nbf: u64,
    pub iss: String,
    #[serde(default)]
    pub jti: String,
    pub sub: String,
    #[serde(rename = "kubernetes.io")]
    pub kubernetes: Private,
}

#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Private {
    #[serde(default)]
    pub namespace: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<BoundReference>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<BoundReference>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<BoundReference>,
    #[serde(default)]
    pub serviceaccount: BoundReference,
}

/// JWT lets a single audience stand without brackets.
fn one_or_many<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum OneOrMany {
        One(String),
        Many(Vec<String>),
    }
    Ok(match OneOrMany::deserialize(deserializer)? {
        OneOrMany::One(one) => vec![one],
        OneOrMany::Many(many) => many,
    })
}

/// `system:serviceaccount:NAMESPACE:NAME`.
pub(crate) fn service_account_user(namespace: &str, name: &str) -> String {
    format!("system:serviceaccount:{namespace}:{name}")
}
