//! Request bodies: bounded; JSON, YAML or Kubernetes' protobuf.

use std::pin::Pin;

use api_machinery::protobuf;
use bytes::{Bytes, BytesMut};
use http_body::Body as _;
use http_body_util::{BodyExt, Full};
use kube_objects::{Reason, Status};
use serde_json::Value;

use crate::extension::Body;

/// Upstream's bound (`pkg/server/config.go`, MaxRequestBodyBytes): what etcd takes, doubled for overhead.
pub(crate) const BODY_LIMIT_BYTES: usize = 3 << 20;

/// Reads a body whole. By hand: the error type of a bounded body would leak a lifetime into every caller's future.
pub(crate) async fn read(mut body: Body) -> Result<Bytes, Status> {
    let mut whole = BytesMut::new();
    while let Some(frame) = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        let frame = match frame {
            Ok(frame) => frame,
            Err(error) => {
                let message = format!("failed to read the request's body: {error}");
                return Err(Status::new(Reason::BadRequest, message));
            }
        };
        let Ok(data) = frame.into_data() else { continue };
        if whole.len() + data.len() > BODY_LIMIT_BYTES {
            let message = format!("Request entity too large: limit is {BODY_LIMIT_BYTES}");
            return Err(Status::new(Reason::RequestEntityTooLarge, message));
        }
        whole.extend_from_slice(&data);
    }
    Ok(whole.freeze())
}

/// What a body is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Encoding {
    Json,
    Yaml,
    Protobuf,
}

/// By the Content-Type header; no header is JSON.
pub(crate) fn encoding(content_type: Option<&str>) -> Result<Encoding, Status> {
    let kind = content_type.unwrap_or("application/json").split(';').next().unwrap_or_default().trim();
    match kind.to_ascii_lowercase().as_str() {
        "" | "application/json" | "text/json" => Ok(Encoding::Json),
        "application/yaml" | "application/x-yaml" | "text/yaml" => Ok(Encoding::Yaml),
        protobuf::MEDIA_TYPE => Ok(Encoding::Protobuf),
        other => Err(unsupported(other)),
    }
}

/// 415, in upstream's words.
pub(crate) fn unsupported(kind: &str) -> Status {
    Status::new(
        Reason::UnsupportedMediaType,
        format!(
            "the body of the request was in an unknown format - {kind}; accepted media types include: \
             application/json, application/yaml, application/vnd.kubernetes.protobuf"
        ),
    )
}

/// Decodes a document.
pub(crate) fn decode(encoding: Encoding, bytes: &[u8]) -> Result<Value, Status> {
    match encoding {
        Encoding::Json => serde_json::from_slice(bytes).map_err(|error| undecodable(&error)),
        Encoding::Protobuf => match protobuf::decode(bytes) {
            Ok(decoded) => Ok(decoded.value),
            Err(error @ protobuf::ProtobufError::Kind { .. }) => {
                Err(Status::new(Reason::UnsupportedMediaType, error.to_string()))
            }
            Err(error) => Err(undecodable(&error)),
        },
        Encoding::Yaml => {
            let text = std::str::from_utf8(bytes).map_err(|error| undecodable(&error))?;
            serde_saphyr::from_str(text).map_err(|error| undecodable(&error))
        }
    }
}

/// A YAML document and the first key that stands twice in it, in the words of Go's parser (`line 9: key "a" already set
/// in map`); the last value counts.
pub(crate) fn decode_yaml(bytes: &[u8]) -> Result<(Value, Option<String>), Status> {
    let text = std::str::from_utf8(bytes).map_err(|error| undecodable(&error))?;
    let error = match serde_saphyr::from_str(text) {
        Ok(value) => return Ok((value, None)),
        Err(error) => error,
    };
    let options = serde_saphyr::options! { duplicate_keys: serde_saphyr::DuplicateKeyPolicy::LastWins };
    let Ok(value) = serde_saphyr::from_str_with_options(text, options) else {
        return Err(undecodable(&error));
    };
    let told = error.to_string();
    let after = |mark: &str| told.split_once(mark).map_or("", |(_, rest)| rest);
    let line: String = after("line ").chars().take_while(char::is_ascii_digit).collect();
    let key: String =
        after("duplicate mapping key: ").chars().take_while(|c| !matches!(c, ',' | '\n')).collect();
    Ok((value, Some(format!("line {line}: key {key:?} already set in map"))))
}

/// 400 for what is no document.
pub(crate) fn undecodable(error: &dyn std::fmt::Display) -> Status {
    Status::new(
        Reason::BadRequest,
        format!("the object provided is unrecognized: couldn't decode it: {error}"),
    )
}

/// A whole body.
pub(crate) fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}
