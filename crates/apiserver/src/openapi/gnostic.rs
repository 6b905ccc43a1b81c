//! The v2 document as protobuf: gnostic's `openapi.v2.Document`, which Go clients up to 1.26 decode instead of JSON.
//!
//! Written by hand over [`prost::encoding`]: the messages are many, and only the fields that v2 documents of this server
//! have are needed. Field numbers are those of gnostic-models' `OpenAPIv2.proto`. Unset fields are left out, as proto3 has it.

use bytes::{BufMut, Bytes, BytesMut};
use prost::encoding::{WireType, encode_key, encode_varint};
use serde_json::{Map, Value};

/// Encodes a swagger 2.0 document.
pub(super) fn encode(document: &Value) -> Bytes {
    let mut out = BytesMut::new();
    text(&mut out, 1, &document["swagger"]);
    message(&mut out, 2, |info| {
        text(info, 1, &document["info"]["title"]);
        text(info, 2, &document["info"]["version"]);
    });
    message(&mut out, 8, |paths| {
        for (path, item) in entries(&document["paths"]) {
            message(paths, 2, |named| {
                string(named, 1, path);
                message(named, 2, |out| path_item(out, item));
            });
        }
    });
    message(&mut out, 9, |definitions| named_schemas(definitions, &document["definitions"]));
    out.freeze()
}

fn path_item(out: &mut BytesMut, item: &Value) {
    for (method, field) in [("get", 2), ("put", 3), ("post", 4), ("delete", 5), ("patch", 8)] {
        if let Some(found) = item.get(method) {
            message(out, field, |out| operation(out, found));
        }
    }
    parameters(out, 9, &item["parameters"]);
}

fn operation(out: &mut BytesMut, operation: &Value) {
    text(out, 5, &operation["operationId"]);
    texts(out, 6, &operation["produces"]);
    texts(out, 7, &operation["consumes"]);
    parameters(out, 8, &operation["parameters"]);
    message(out, 9, |responses| {
        for (code, response) in entries(&operation["responses"]) {
            message(responses, 1, |named| {
                string(named, 1, code);
                message(named, 2, |value| message(value, 1, |out| text(out, 1, &response["description"])));
            });
        }
    });
    extensions(out, 13, operation);
}

/// `ParametersItem { parameter: Parameter { body | non_body { query | path } } }`.
fn parameters(out: &mut BytesMut, field: u32, list: &Value) {
    for parameter in list.as_array().into_iter().flatten() {
        message(out, field, |item| {
            message(item, 1, |out| match parameter["in"].as_str() {
                Some("body") => message(out, 1, |body| {
                    text(body, 2, &parameter["name"]);
                    text(body, 3, &parameter["in"]);
                    boolean(body, 4, &parameter["required"]);
                    message(body, 5, |out| schema(out, &parameter["schema"]));
                }),
                place => {
                    let kind = if place == Some("path") { 4 } else { 3 };
                    message(out, 2, |non_body| {
                        message(non_body, kind, |out| plain_parameter(out, parameter, kind))
                    });
                }
            });
        });
    }
}

/// `QueryParameterSubSchema` and `PathParameterSubSchema` differ in that only the former has `allow_empty_value = 5`.
fn plain_parameter(out: &mut BytesMut, parameter: &Value, kind: u32) {
    boolean(out, 1, &parameter["required"]);
    text(out, 2, &parameter["in"]);
    text(out, 4, &parameter["name"]);
    text(out, if kind == 4 { 5 } else { 6 }, &parameter["type"]);
    boolean(out, if kind == 4 { 19 } else { 20 }, &parameter["uniqueItems"]);
}

fn named_schemas(out: &mut BytesMut, schemas: &Value) {
    for (name, value) in entries(schemas) {
        message(out, 1, |named| {
            string(named, 1, name);
            message(named, 2, |out| schema(out, value));
        });
    }
}

fn schema(out: &mut BytesMut, value: &Value) {
    text(out, 1, &value["$ref"]);
    text(out, 2, &value["format"]);
    text(out, 4, &value["description"]);
    texts(out, 19, &value["required"]);
    match &value["additionalProperties"] {
        Value::Null => {}
        Value::Bool(any) => message(out, 21, |item| boolean_always(item, 2, *any)),
        nested => message(out, 21, |item| message(item, 1, |out| schema(out, nested))),
    }
    if let Some(kind) = value["type"].as_str() {
        message(out, 22, |item| string(item, 1, kind));
    }
    if !value["items"].is_null() {
        message(out, 23, |item| message(item, 1, |out| schema(out, &value["items"])));
    }
    if !value["properties"].is_null() {
        message(out, 25, |properties| named_schemas(properties, &value["properties"]));
    }
    extensions(out, 31, value);
}

/// `NamedAny { name, value: Any { yaml } }`; JSON is YAML.
fn extensions(out: &mut BytesMut, field: u32, value: &Value) {
    for (name, extension) in entries(value).filter(|(name, _)| name.starts_with("x-")) {
        message(out, field, |named| {
            string(named, 1, name);
            message(named, 2, |any| string(any, 2, &extension.to_string()));
        });
    }
}

fn entries(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flat_map(Map::iter)
}

fn message(out: &mut BytesMut, field: u32, fill: impl FnOnce(&mut BytesMut)) {
    let mut inner = BytesMut::new();
    fill(&mut inner);
    encode_key(field, WireType::LengthDelimited, out);
    encode_varint(inner.len() as u64, out);
    out.put(inner);
}

fn string(out: &mut BytesMut, field: u32, text: &str) {
    if !text.is_empty() {
        encode_key(field, WireType::LengthDelimited, out);
        encode_varint(text.len() as u64, out);
        out.put(text.as_bytes());
    }
}

fn text(out: &mut BytesMut, field: u32, value: &Value) {
    string(out, field, value.as_str().unwrap_or_default());
}

fn texts(out: &mut BytesMut, field: u32, list: &Value) {
    for each in list.as_array().into_iter().flatten() {
        text(out, field, each);
    }
}

fn boolean(out: &mut BytesMut, field: u32, value: &Value) {
    if value == true {
        boolean_always(out, field, true);
    }
}

/// A oneof's boolean is present even when false.
fn boolean_always(out: &mut BytesMut, field: u32, value: bool) {
    encode_key(field, WireType::Varint, out);
    encode_varint(u64::from(value), out);
}
