//! What a failed request means, in the terms callers branch on.

use std::time::Duration;

use kube::Error;

fn status(error: &Error) -> Option<&kube::core::Status> {
    match error {
        Error::Api(status) => Some(status),
        _ => None,
    }
}

/// The object changed meanwhile: read again and retry. Not an object that exists already.
#[must_use]
pub fn is_conflict(error: &Error) -> bool {
    status(error).is_some_and(kube::core::Status::is_conflict)
}

/// An object of that name exists already.
#[must_use]
pub fn is_already_exists(error: &Error) -> bool {
    status(error).is_some_and(kube::core::Status::is_already_exists)
}

/// There is no such object, or no such resource.
#[must_use]
pub fn is_not_found(error: &Error) -> bool {
    status(error).is_some_and(kube::core::Status::is_not_found)
}

/// The caller may not do this.
#[must_use]
pub fn is_forbidden(error: &Error) -> bool {
    status(error).is_some_and(kube::core::Status::is_forbidden)
}

/// The object breaks a rule: sending it again unchanged is useless.
#[must_use]
pub fn is_invalid(error: &Error) -> bool {
    status(error).is_some_and(kube::core::Status::is_invalid)
}

/// The resource version or continue token is too old: list anew.
#[must_use]
pub fn is_gone(error: &Error) -> bool {
    status(error)
        .is_some_and(|status| status.code == 410 || status.reason == "Expired" || status.reason == "Gone")
}

/// The namespace is being deleted: nothing new can be made in it (upstream's cause `NamespaceTerminating`).
#[must_use]
pub fn is_namespace_terminating(error: &Error) -> bool {
    status(error)
        .and_then(|status| status.details.as_ref())
        .is_some_and(|details| details.causes.iter().any(|cause| cause.reason == "NamespaceTerminating"))
}

/// The same request may succeed later without a change by the caller: overload, timeouts, a server that is away, and
/// any failure to reach it.
#[must_use]
pub fn is_retryable(error: &Error) -> bool {
    match error {
        Error::Api(status) => matches!(status.code, 408 | 429 | 500 | 502 | 503 | 504),
        Error::HyperError(_) | Error::Service(_) | Error::ReadEvents(_) => true,
        _ => false,
    }
}

/// How long the server asks to wait before a retry (`details.retryAfterSeconds`, which servers set together with the
/// `Retry-After` header).
#[must_use]
pub fn retry_after(error: &Error) -> Option<Duration> {
    let seconds = status(error)?.details.as_ref()?.retry_after_seconds;
    (seconds > 0).then(|| Duration::from_secs(u64::from(seconds)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::core::Status;

    fn api(code: u16, reason: &str) -> Error {
        Error::Api(Box::new(Status::failure("no", reason).with_code(code)))
    }

    #[test]
    fn tells_the_two_kinds_of_409_apart() {
        assert!(is_conflict(&api(409, "Conflict")) && !is_already_exists(&api(409, "Conflict")));
        assert!(is_already_exists(&api(409, "AlreadyExists")) && !is_conflict(&api(409, "AlreadyExists")));
    }

    #[test]
    fn retries_only_what_may_pass() {
        for (code, reason, expected) in [
            (429, "TooManyRequests", true),
            (503, "ServiceUnavailable", true),
            (500, "InternalError", true),
            (422, "Invalid", false),
            (404, "NotFound", false),
            (409, "Conflict", false),
        ] {
            assert_eq!(is_retryable(&api(code, reason)), expected, "{code}");
        }
    }

    #[test]
    fn reads_the_wait() {
        let body = serde_json::json!({
            "kind": "Status", "status": "Failure", "code": 429, "reason": "TooManyRequests", "message": "",
            "details": {"retryAfterSeconds": 3}
        });
        let status: Status = serde_json::from_value(body).unwrap();
        assert_eq!(retry_after(&Error::Api(Box::new(status))), Some(Duration::from_secs(3)));
        assert_eq!(retry_after(&api(429, "TooManyRequests")), None);
    }
}
