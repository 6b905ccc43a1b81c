//! What an answer that is no success means, in client-go's words (apimachinery `NewGenericServerResponse`). Pure.

use kube_objects::{Reason, Status, StatusDetails};
use serde_json::Value;

/// The error that a status code outside 2xx stands for; a body that is a `Status` counts before the code.
pub(super) fn refusal(code: u16, body: &[u8]) -> Status {
    if let Ok(document) = serde_json::from_slice::<Value>(body)
        && document["kind"] == "Status"
        && document["status"] != "Success"
        && let Some(message) = document["message"].as_str()
    {
        let details: Option<StatusDetails> = serde_json::from_value(document["details"].clone()).ok();
        let mut status = Status::new(Reason::InternalError, message);
        status.code = code;
        status.reason = serde_json::from_value(document["reason"].clone()).ok();
        status.details = details.map(Box::new);
        return status;
    }
    let shown = String::from_utf8_lossy(body);
    let shown = if shown.trim().is_empty() { "unknown" } else { shown.trim() };
    let (reason, message) = match code {
        400 => (Reason::BadRequest, "the server rejected our request for an unknown reason".to_owned()),
        401 => (Reason::Unauthorized, "the server has asked for the client to provide credentials".to_owned()),
        403 => (Reason::Forbidden, shown.to_owned()),
        404 => (Reason::NotFound, "the server could not find the requested resource".to_owned()),
        405 => (
            Reason::MethodNotAllowed,
            "the server does not allow this method on the requested resource".to_owned(),
        ),
        406 => (Reason::NotAcceptable, shown.to_owned()),
        409 => (Reason::AlreadyExists, "the server reported a conflict".to_owned()),
        415 => (Reason::UnsupportedMediaType, shown.to_owned()),
        422 => {
            (Reason::Invalid, "the server rejected our request due to an error in our request".to_owned())
        }
        429 => (
            Reason::TooManyRequests,
            "the server has received too many requests and has asked us to try again later".to_owned(),
        ),
        503 => (
            Reason::ServiceUnavailable,
            "the server is currently unable to handle the request".to_owned(),
        ),
        504 => (
            Reason::Timeout,
            "the server was unable to return a response in the time allotted, but may still be processing the request"
                .to_owned(),
        ),
        500.. => (
            Reason::InternalError,
            format!("an error on the server ({shown:?}) has prevented the request from succeeding"),
        ),
        _ => (
            Reason::InternalError,
            format!("the server responded with the status code {code} but did not return more information"),
        ),
    };
    Status { code, ..Status::new(reason, message) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_documents_read_as_in_client_go() {
        for (code, body, message) in [
            (404, "404 page not found", "the server could not find the requested resource"),
            (500, "boom", "an error on the server (\"boom\") has prevented the request from succeeding"),
            (500, "", "an error on the server (\"unknown\") has prevented the request from succeeding"),
            (418, "", "the server responded with the status code 418 but did not return more information"),
            (503, r#"{"kind":"Status","message":"later"}"#, "later"),
        ] {
            assert_eq!(refusal(code, body.as_bytes()).message, message);
        }
    }
}
