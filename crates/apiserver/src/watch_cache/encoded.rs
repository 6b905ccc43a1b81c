//! Objects as bytes, and what is indexed of them.

use std::collections::BTreeMap;

use bytes::{BufMut, Bytes, BytesMut};
use serde_json::Value;
use storage::{KeyValue, Revision};

use crate::catalogue::Resource;

/// An object as JSON. Stored bytes carry no resourceVersion (the store gives it at commit); it is spliced in when the
/// bytes are written out, so that neither a second copy nor a second encoding is kept.
#[derive(Clone, Debug)]
pub(crate) struct EncodedObject {
    bytes: Bytes,
    /// Just behind the opening brace of `metadata`.
    splice: usize,
    /// Whether something follows there, so that a comma is due.
    more: bool,
    revision: Revision,
}

impl EncodedObject {
    /// Of stored bytes; `None` if they are no JSON object with a `metadata` object.
    pub(crate) fn new(bytes: Bytes, revision: Revision) -> Option<Self> {
        let splice = metadata_start(&bytes)?;
        let more = bytes[splice..].iter().find(|byte| !byte.is_ascii_whitespace()) != Some(&b'}');
        Some(Self { bytes, splice, more, revision })
    }

    /// The same bytes at another revision: what a deletion leaves behind.
    pub(crate) fn at(&self, revision: Revision) -> Self {
        Self { revision, ..self.clone() }
    }

    /// The revision that stands in its resourceVersion.
    pub(crate) fn revision(&self) -> Revision {
        self.revision
    }

    /// Upper bound of what [`Self::write_to`] appends.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len() + 48
    }

    /// Appends the object with its resourceVersion.
    pub(crate) fn write_to(&self, out: &mut BytesMut) {
        out.reserve(self.len());
        out.put_slice(&self.bytes[..self.splice]);
        out.put_slice(b"\"resourceVersion\":\"");
        out.put_slice(self.revision.to_string().as_bytes());
        out.put_slice(if self.more { b"\"," } else { b"\"" });
        out.put_slice(&self.bytes[self.splice..]);
    }

    /// The object with its resourceVersion as bytes of its own.
    pub(crate) fn to_bytes(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(self.len());
        self.write_to(&mut out);
        out.freeze()
    }

    /// The object as a tree, with its resourceVersion.
    pub(crate) fn to_value(&self) -> Value {
        // `new` has parsed these very bytes, so they parse; an empty object is never seen.
        let mut value: Value = serde_json::from_slice(&self.bytes).unwrap_or_default();
        value["metadata"]["resourceVersion"] = Value::String(self.revision.to_string());
        value
    }
}

/// The offset just behind `"metadata":{` of the outermost object. A scan, because a nested object may have a key of that
/// name too.
fn metadata_start(bytes: &[u8]) -> Option<usize> {
    let mut depth = 0_usize;
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.checked_sub(1)?,
            b'"' => {
                let end = string_end(bytes, at)?;
                if depth == 1
                    && &bytes[at..end] == b"\"metadata\""
                    && let Some(value) = behind(bytes, end, b':')
                {
                    return behind(bytes, value, b'{');
                }
                at = end;
                continue;
            }
            _ => {}
        }
        at += 1;
    }
    None
}

/// Just behind `wanted`, if that is what comes next but for white space. A colon tells a key from a value of the same text.
fn behind(bytes: &[u8], from: usize, wanted: u8) -> Option<usize> {
    let space = bytes.get(from..)?.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
    (*bytes.get(from + space)? == wanted).then_some(from + space + 1)
}

/// Just behind the string that starts at `start`.
fn string_end(bytes: &[u8], start: usize) -> Option<usize> {
    let mut at = start + 1;
    loop {
        match bytes.get(at)? {
            b'\\' => at += 2,
            b'"' => return Some(at + 1),
            _ => at += 1,
        }
    }
}

/// An object in the cache: its bytes, and what selectors and preconditions look at.
#[derive(Clone, Debug)]
pub(crate) struct CachedObject {
    /// "" for a cluster-scoped object.
    pub(crate) namespace: String,
    /// The object's name.
    pub(crate) name: String,
    /// The object's uid.
    pub(crate) uid: String,
    /// What label selectors look at.
    pub(crate) labels: BTreeMap<String, String>,
    /// What field selectors look at besides name and namespace, in the order of the strategy's selectable fields.
    pub(crate) fields: Vec<(&'static str, String)>,
    /// The object itself.
    pub(crate) encoded: EncodedObject,
}

impl CachedObject {
    /// Of a stored version; `None` if it cannot be an object (damaged by another writer of the store).
    pub(crate) fn of(resource: &Resource, kv: &KeyValue) -> Option<Self> {
        let encoded = EncodedObject::new(kv.value.clone(), kv.mod_revision)?;
        let value: Value = serde_json::from_slice(&kv.value).ok()?;
        Some(Self::index(resource, encoded, &value))
    }

    fn index(resource: &Resource, encoded: EncodedObject, value: &Value) -> Self {
        let metadata = &value["metadata"];
        let text = |key: &str| metadata[key].as_str().unwrap_or_default().to_owned();
        let labels = metadata["labels"].as_object().into_iter().flatten();
        Self {
            namespace: text("namespace"),
            name: text("name"),
            uid: text("uid"),
            labels: labels
                .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
                .collect(),
            fields: resource
                .strategy
                .selectable_fields()
                .iter()
                .map(|path| (*path, resource.strategy.field_value(value, path)))
                .collect(),
            encoded,
        }
    }

    /// The object as a deletion at `revision` leaves it.
    pub(crate) fn at(&self, revision: Revision) -> Self {
        Self { encoded: self.encoded.at(revision), ..self.clone() }
    }

    /// The value of a selectable field; `None` for one that is not selectable.
    pub(crate) fn field(&self, path: &str) -> Option<&str> {
        match path {
            "metadata.name" => Some(&self.name),
            "metadata.namespace" => Some(&self.namespace),
            _ => self.fields.iter().find(|(own, _)| *own == path).map(|(_, value)| value.as_str()),
        }
    }
}
