//! How long a request may take. Pure.

use std::time::Duration;

use kube_objects::{Reason, Status, StatusDetails};

use crate::request_info::RequestInfo;

/// Upstream's default `--request-timeout`.
pub(crate) const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);

/// How long a request may take: what its `timeout` parameter says, up to `maximum`; `None` for one that lasts as long
/// as its work does.
///
/// # Errors
/// 400 for a parameter that is no duration.
pub(super) fn of(info: &RequestInfo, unbounded: bool, maximum: Duration) -> Result<Option<Duration>, Status> {
    if unbounded || info.is_long_running() {
        return Ok(None);
    }
    let Some(text) = info.query.text("timeout") else { return Ok(Some(maximum)) };
    match go_duration(text) {
        // Zero and less: the client sets no bound of its own.
        Some(asked) if asked.is_zero() || asked > maximum => Ok(Some(maximum)),
        Some(asked) => Ok(Some(asked)),
        None => {
            let message =
                format!("invalid timeout specified in the request URL - time: invalid duration {text:?}");
            Err(Status::new(Reason::BadRequest, message))
        }
    }
}

/// The 504 of a request that took too long.
pub(super) fn exceeded() -> Status {
    Status::new(Reason::Timeout, "Timeout: request did not complete within the allotted timeout")
        .with_details(StatusDetails::default())
}

/// Go's `time.ParseDuration`: `1h2m3.5s`. A negative one is nothing.
fn go_duration(text: &str) -> Option<Duration> {
    let (negative, mut rest) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Some(Duration::ZERO);
    }
    let mut seconds = 0.0_f64;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let unit = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        let scale = match &rest[..unit] {
            "ns" => 1e-9,
            "us" | "µs" | "μs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        seconds += number * scale;
        rest = &rest[unit..];
    }
    if negative { Some(Duration::ZERO) } else { Duration::try_from_secs_f64(seconds).ok() }
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;

    fn ask(method: Method, path: &str) -> Result<Option<Duration>, Status> {
        of(&RequestInfo::of(&method, &path.parse().unwrap()), false, REQUEST_TIMEOUT)
    }

    #[test]
    fn a_client_may_shorten_its_deadline_and_not_lengthen_it() {
        assert_eq!(ask(Method::GET, "/api/v1/pods").unwrap(), Some(REQUEST_TIMEOUT));
        assert_eq!(ask(Method::GET, "/api/v1/pods?timeout=1.5s").unwrap(), Some(Duration::from_millis(1500)));
        assert_eq!(ask(Method::GET, "/api/v1/pods?timeout=1m30s").unwrap(), Some(REQUEST_TIMEOUT));
        assert_eq!(ask(Method::GET, "/api/v1/pods?timeout=0s").unwrap(), Some(REQUEST_TIMEOUT));
        let refused = ask(Method::GET, "/api/v1/pods?timeout=soon").unwrap_err();
        assert_eq!(
            refused.message,
            "invalid timeout specified in the request URL - time: invalid duration \"soon\""
        );
    }

    #[test]
    fn what_lasts_has_none() {
        for path in [
            "/api/v1/pods?watch=1",
            "/api/v1/namespaces/n/pods/p/log",
            "/api/v1/namespaces/n/services/s/proxy/x",
        ] {
            assert_eq!(ask(Method::GET, path).unwrap(), None, "{path}");
        }
    }
}
