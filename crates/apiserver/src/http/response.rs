//! Answers: objects, errors, compressed when large.

use std::io::Write;
use std::sync::Arc;

use api_machinery::protobuf;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use kube_objects::{Reason, Status};
use serde_json::Value;

use super::body::full;
use super::negotiation::Format;
use crate::extension::Body;

/// Answers larger than this are compressed for clients that accept it (upstream's bound).
pub(crate) const GZIP_FROM_BYTES: usize = 128 * 1024;

/// How an answer is to be written.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Style {
    pub(crate) format: Format,
    pub(crate) gzip: bool,
    pub(crate) pretty: bool,
}

impl Style {
    /// As a request's headers and query ask.
    pub(crate) fn of(format: Format, headers: &HeaderMap, pretty: bool) -> Self {
        let accepted = headers.get(header::ACCEPT_ENCODING).and_then(|value| value.to_str().ok());
        let gzip = accepted.is_some_and(|text| {
            text.split(',').any(|part| part.split(';').next().is_some_and(|name| name.trim() == "gzip"))
        });
        Self { format, gzip, pretty }
    }
}

/// A document.
pub(crate) fn object(code: u16, value: &Value, style: Style) -> Response<Body> {
    let bytes = match (style.format, style.pretty) {
        (Format::Yaml, _) => match serde_saphyr::to_string(value) {
            Ok(text) => text.into_bytes(),
            Err(error) => return status(&Status::internal(error)),
        },
        (Format::Protobuf, _) => match protobuf::encode(value) {
            Ok(bytes) => bytes,
            Err(error) => return status(&Status::internal(error)),
        },
        (Format::Json, true) => match serde_json::to_vec_pretty(value) {
            Ok(bytes) => bytes,
            Err(error) => return status(&Status::internal(error)),
        },
        (Format::Json, false) => match serde_json::to_vec(value) {
            Ok(bytes) => bytes,
            Err(error) => return status(&Status::internal(error)),
        },
    };
    encoded(code, bytes.into(), style)
}

/// Bytes that are already in the style's format.
pub(crate) fn encoded(code: u16, bytes: Bytes, style: Style) -> Response<Body> {
    let kind = style.format.media_type();
    if style.gzip && bytes.len() > GZIP_FROM_BYTES {
        // Level 1, like upstream: lists are large and repetitive, time matters more.
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(1));
        if encoder.write_all(&bytes).is_ok()
            && let Ok(packed) = encoder.finish()
        {
            return compressed(code, kind, full(packed));
        }
    }
    plain(code, kind, bytes)
}

/// A body that is compressed already.
pub(crate) fn compressed(code: u16, kind: &'static str, body: Body) -> Response<Body> {
    let mut response = plain(code, kind, Bytes::new());
    *response.body_mut() = body;
    response.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    response.headers_mut().insert(header::VARY, HeaderValue::from_static("Accept-Encoding"));
    response
}

/// Bytes of a type.
pub(crate) fn plain(code: u16, kind: &'static str, bytes: Bytes) -> Response<Body> {
    let mut response = Response::new(full(bytes));
    *response.status_mut() = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    response
}

/// An error, before it is known what the client accepts.
pub(crate) fn status(status: &Status) -> Response<Body> {
    status_in(status, Format::Json)
}

/// An error in the format that the client asked for; JSON for what cannot be written in it.
pub(crate) fn status_in(status: &Status, format: Format) -> Response<Body> {
    let document = status.to_json();
    let packed = (format == Format::Protobuf).then(|| protobuf::encode(&document).ok()).flatten();
    let mut response = match packed {
        Some(bytes) => plain(status.code, protobuf::MEDIA_TYPE, bytes.into()),
        None => plain(status.code, "application/json", document.to_string().into()),
    };
    let retry = status.details.as_ref().and_then(|details| details.retry_after_seconds);
    if let Some(seconds) = retry.or((status.reason == Some(Reason::TooManyRequests)).then_some(1)) {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response.extensions_mut().insert(Failed(Arc::new(status.clone())));
    response
}

/// A failed request's status, attached to its answer for whoever records it.
#[derive(Clone, Debug)]
pub(crate) struct Failed(pub(crate) Arc<Status>);

/// Adds `Warning` headers (RFC 7234 code 299), at most as many bytes of them as upstream sends.
pub(crate) fn warn(response: &mut Response<Body>, warnings: &[String]) {
    let mut left = 4096_usize;
    for warning in warnings {
        let text: String = warning.chars().filter(|c| !c.is_control()).collect();
        let quoted = format!("299 - \"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
        left = left.saturating_sub(quoted.len());
        if left == 0 {
            return;
        }
        if let Ok(value) = HeaderValue::from_bytes(quoted.as_bytes()) {
            response.headers_mut().append(header::WARNING, value);
        }
    }
}
