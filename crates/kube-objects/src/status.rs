//! `v1.Status`: the shape of every error, in the words clients branch on (apimachinery `pkg/api/errors`).

use serde::{Deserialize, Serialize};

/// Why a request failed; clients branch on it. The variants are upstream's `metav1.StatusReason`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "each is the Kubernetes reason of that name")]
pub enum Reason {
    BadRequest,
    Unauthorized,
    Forbidden,
    NotFound,
    MethodNotAllowed,
    NotAcceptable,
    AlreadyExists,
    Conflict,
    Gone,
    Expired,
    RequestEntityTooLarge,
    UnsupportedMediaType,
    Invalid,
    TooManyRequests,
    InternalError,
    ServiceUnavailable,
    ServerTimeout,
    Timeout,
}

impl Reason {
    /// The HTTP status code upstream answers with.
    #[must_use]
    pub fn code(self) -> u16 {
        match self {
            Self::BadRequest => 400,
            Self::Unauthorized => 401,
            Self::Forbidden => 403,
            Self::NotFound => 404,
            Self::MethodNotAllowed => 405,
            Self::NotAcceptable => 406,
            Self::AlreadyExists | Self::Conflict => 409,
            Self::Gone | Self::Expired => 410,
            Self::RequestEntityTooLarge => 413,
            Self::UnsupportedMediaType => 415,
            Self::Invalid => 422,
            Self::TooManyRequests => 429,
            Self::InternalError | Self::ServerTimeout => 500,
            Self::ServiceUnavailable => 503,
            Self::Timeout => 504,
        }
    }
}

/// One cause: what is wrong with which field.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusCause {
    /// `FieldValueInvalid`, `FieldValueRequired`, `FieldManagerConflict` …
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// For a person.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// The field's path: `spec.containers[0].name`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub field: String,
}

/// What the error is about.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StatusDetails {
    /// The object's name.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Its group.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub group: String,
    /// Its resource (or kind, for validation errors).
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// Its uid.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub uid: String,
    /// Single causes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<StatusCause>,
    /// When to come back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_seconds: Option<u32>,
}

/// A failed request's answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Status {
    /// Why; `None` for an error upstream gives no reason.
    pub reason: Option<Reason>,
    /// The HTTP status code.
    pub code: u16,
    /// For a person.
    pub message: String,
    /// Boxed: most results are no errors and should stay small.
    pub details: Option<Box<StatusDetails>>,
    /// A reason of somebody else's making (an admission webhook's), shown when `reason` is `None`.
    pub other_reason: Option<Box<str>>,
}

impl Status {
    /// A failure for `reason`, with its usual code.
    #[must_use]
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            reason: Some(reason),
            code: reason.code(),
            message: message.into(),
            details: None,
            other_reason: None,
        }
    }

    /// A failure that upstream gives no reason for: an error of its own that it passes on.
    #[must_use]
    pub fn unreasoned(message: impl Into<String>) -> Self {
        Self { reason: None, code: 500, message: message.into(), details: None, other_reason: None }
    }

    /// The same about something.
    #[must_use]
    pub fn with_details(mut self, details: StatusDetails) -> Self {
        self.details = Some(Box::new(details));
        self
    }

    /// `pods "a" not found`.
    #[must_use]
    pub fn not_found(group: &str, resource: &str, name: &str) -> Self {
        Self::new(Reason::NotFound, format!("{} \"{name}\" not found", qualified(resource, group)))
            .with_details(about(group, resource, name))
    }

    /// `pods "a" already exists`.
    #[must_use]
    pub fn already_exists(group: &str, resource: &str, name: &str) -> Self {
        Self::new(Reason::AlreadyExists, format!("{} \"{name}\" already exists", qualified(resource, group)))
            .with_details(about(group, resource, name))
    }

    /// `Operation cannot be fulfilled on pods "a": …`.
    #[must_use]
    pub fn conflict(group: &str, resource: &str, name: &str, why: &str) -> Self {
        let message =
            format!("Operation cannot be fulfilled on {} \"{name}\": {why}", qualified(resource, group));
        Self::new(Reason::Conflict, message).with_details(about(group, resource, name))
    }

    /// `Pod "a" is invalid: …`, with the causes' fields; upstream joins several in brackets.
    #[must_use]
    pub fn invalid(group: &str, kind: &str, name: &str, causes: Vec<StatusCause>) -> Self {
        // The message says the same thing once, the causes as often as it was found.
        let mut each: Vec<String> = Vec::new();
        for cause in &causes {
            let said = format!("{}: {}", cause.field, cause.message);
            if !each.contains(&said) {
                each.push(said);
            }
        }
        let what = if each.len() == 1 { each.concat() } else { format!("[{}]", each.join(", ")) };
        let message = format!("{} \"{name}\" is invalid: {what}", qualified(kind, group));
        Self::new(Reason::Invalid, message).with_details(StatusDetails { causes, ..about(group, kind, name) })
    }

    /// Something of ours failed; `error` is told.
    #[must_use]
    pub fn internal(error: impl std::fmt::Display) -> Self {
        Self::new(Reason::InternalError, format!("Internal error occurred: {error}"))
    }

    /// The `v1.Status` document.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        let mut json = serde_json::json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.message, "code": self.code,
        });
        if let Some(reason) = self.reason {
            json["reason"] = serde_json::json!(reason);
        } else if let Some(reason) = &self.other_reason {
            json["reason"] = serde_json::json!(reason);
        }
        if let Some(details) = &self.details {
            json["details"] = serde_json::json!(details);
        }
        json
    }
}

fn about(group: &str, kind: &str, name: &str) -> StatusDetails {
    StatusDetails {
        group: group.to_owned(),
        kind: kind.to_owned(),
        name: name.to_owned(),
        ..StatusDetails::default()
    }
}

fn qualified(what: &str, group: &str) -> String {
    if group.is_empty() { what.to_owned() } else { format!("{what}.{group}") }
}
