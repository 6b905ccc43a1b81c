//! Objects as bytes, and what is indexed of them.

use std::num::NonZeroUsize;
use std::sync::Arc;

use api_machinery::custom_resource::objects;
use bytes::{BufMut, Bytes, BytesMut};
use parking_lot::Mutex;
use serde_json::Value;
use storage::{KeyValue, Revision};

use super::index::Index;
use crate::catalogue::{Definition, Resource};
use crate::registry::strategy::Strategy;

/// An object as JSON. Stored bytes carry no resourceVersion (the store gives it at commit); it is spliced in when the
/// bytes are written out, so that neither a second copy nor a second encoding is kept. What this server stores begins with
/// apiVersion and kind, so that an item of a list, which says neither, can be cut out of the same bytes.
#[derive(Clone, Debug)]
pub(crate) struct EncodedObject {
    bytes: Bytes,
    /// Just behind the opening brace of `metadata`.
    splice: usize,
    /// Whether something follows there, so that a comma is due.
    more: bool,
    /// Where `"metadata"` begins, if nothing but apiVersion and kind stands before it.
    item: Option<NonZeroUsize>,
    revision: Revision,
}

impl EncodedObject {
    /// Of stored bytes; `None` if they are no JSON object with a `metadata` object.
    pub(crate) fn new(bytes: Bytes, revision: Revision) -> Option<Self> {
        let item = item_start(&bytes);
        let splice = metadata_start(&bytes)?;
        let more = bytes[splice..].iter().find(|byte| !byte.is_ascii_whitespace()) != Some(&b'}');
        Some(Self { bytes, splice, more, item, revision })
    }

    /// The same bytes at another revision: what a deletion leaves behind.
    pub(crate) fn at(&self, revision: Revision) -> Self {
        Self { revision, ..self.clone() }
    }

    /// The revision that stands in its resourceVersion.
    pub(crate) fn revision(&self) -> Revision {
        self.revision
    }

    /// The bytes that are stored: without a resourceVersion.
    pub(crate) fn stored(&self) -> &Bytes {
        &self.bytes
    }

    /// Upper bound of what [`Self::write_to`] appends.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len() + 48
    }

    /// How much [`Self::write_to`] appends.
    pub(crate) fn written_len(&self) -> usize {
        let digits = self.revision.0.checked_ilog10().map_or(1, |log| log as usize + 1);
        self.bytes.len() + b"\"resourceVersion\":\"\"".len() + digits + usize::from(self.more)
    }

    /// How much [`Self::write_item`] appends, if that is known without writing it.
    pub(crate) fn item_len(&self) -> Option<usize> {
        self.item.map(|start| self.written_len() - start.get() + 1)
    }

    /// Appends the object with its resourceVersion.
    pub(crate) fn write_to(&self, out: &mut BytesMut) {
        self.write_from(0, out);
    }

    /// Appends the object as an item of a list of its kind: without apiVersion and kind, as upstream's lists of built-in
    /// kinds are.
    pub(crate) fn write_item(&self, out: &mut BytesMut) {
        if let Some(start) = self.item {
            out.reserve(self.len());
            out.put_u8(b'{');
            return self.write_from(start.get(), out);
        }
        // Stored by another server, or by this one's ancestors.
        let mut value = self.to_value();
        if let Some(fields) = value.as_object_mut() {
            fields.remove("apiVersion");
            fields.remove("kind");
        }
        out.put_slice(value.to_string().as_bytes());
    }

    /// Appends a PartialObjectMetadata of the object.
    pub(crate) fn write_metadata(&self, out: &mut BytesMut) {
        let end = object_end(&self.bytes, self.splice).unwrap_or(self.splice);
        out.put_slice(
            b"{\"kind\":\"PartialObjectMetadata\",\"apiVersion\":\"meta.k8s.io/v1\",\"metadata\":{",
        );
        self.write_between(self.splice, end, out);
        out.put_u8(b'}');
    }

    fn write_from(&self, start: usize, out: &mut BytesMut) {
        self.write_between(start, self.bytes.len(), out);
    }

    fn write_between(&self, start: usize, end: usize, out: &mut BytesMut) {
        out.reserve(end - start + 48);
        out.put_slice(&self.bytes[start..self.splice]);
        out.put_slice(b"\"resourceVersion\":\"");
        put_number(self.revision.0, out);
        out.put_slice(if self.more { b"\"," } else { b"\"" });
        out.put_slice(&self.bytes[self.splice..end]);
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

/// Appends decimal digits.
fn put_number(mut number: u64, out: &mut BytesMut) {
    let mut digits = [0; 20];
    let mut first = digits.len();
    loop {
        first -= 1;
        digits[first] = b'0' + u8::try_from(number % 10).expect("a digit");
        number /= 10;
        if number == 0 {
            return out.put_slice(&digits[first..]);
        }
    }
}

/// Where `"metadata"` begins in bytes that begin with a plain apiVersion and kind, as this server writes them.
fn item_start(bytes: &[u8]) -> Option<NonZeroUsize> {
    let text = |from: usize, key: &[u8]| {
        let value = bytes.get(from..)?.strip_prefix(key)?;
        let end = value.iter().position(|byte| matches!(byte, b'"' | b'\\'))?;
        value[end..].starts_with(b"\",").then_some(from + key.len() + end + 2)
    };
    let kind = text(0, b"{\"apiVersion\":\"")?;
    let metadata = text(kind, b"\"kind\":\"")?;
    bytes[metadata..].starts_with(b"\"metadata\":").then(|| NonZeroUsize::new(metadata)).flatten()
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

/// Just behind the brace that closes the object whose inside begins at `from`.
fn object_end(bytes: &[u8], from: usize) -> Option<usize> {
    let mut depth = 1_usize;
    let mut at = from;
    loop {
        match bytes.get(at)? {
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth -= 1,
            b'"' => {
                at = string_end(bytes, at)?;
                continue;
            }
            _ => {}
        }
        at += 1;
        if depth == 0 {
            return Some(at);
        }
    }
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

/// What the cache knows of an object of a custom kind: it is stored in one version and read in several.
#[derive(Debug)]
pub(crate) struct CustomForm {
    /// The version that the stored bytes are in.
    pub(crate) stored: Box<str>,
    /// The version that these bytes are in.
    pub(crate) version: Box<str>,
    /// Of which definition ([`crate::Definition::shape`], its first bytes).
    shape: u64,
    /// The same object in versions that were asked for.
    forms: Mutex<Vec<Arc<CachedObject>>>,
}

impl Clone for CustomForm {
    /// Without the other versions: they are of another revision.
    fn clone(&self) -> Self {
        let (stored, version) = (self.stored.clone(), self.version.clone());
        Self { stored, version, shape: self.shape, forms: Mutex::default() }
    }
}

fn short(shape: &[u8; 32]) -> u64 {
    shape.iter().take(8).fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}

/// An object in the cache: its bytes, and what selectors and preconditions look at.
#[derive(Clone, Debug)]
pub(crate) struct CachedObject {
    index: Index,
    /// The object itself.
    pub(crate) encoded: EncodedObject,
    /// Of a custom kind.
    pub(crate) custom: Option<Box<CustomForm>>,
}

impl CachedObject {
    /// Of a stored version; `None` if it cannot be an object (damaged by another writer of the store). Objects of custom
    /// kinds are brought into the form of their version's schema, so that a definition's defaults show in old objects.
    pub(crate) fn of(resource: &Resource, kv: &KeyValue) -> Option<Self> {
        let mut value: Value = serde_json::from_slice(&kv.value).ok()?;
        let Some(definition) = &resource.definition else {
            let encoded = EncodedObject::new(kv.value.clone(), kv.mod_revision)?;
            return Some(Self::index(resource.strategy.as_ref(), encoded, &value));
        };
        let version = value["apiVersion"].as_str()?.rsplit('/').next().unwrap_or_default().to_owned();
        let mut bytes = kv.value.clone();
        if let Some(defined) = definition.version(&version) {
            let before = value.clone();
            objects::shape(&mut value, &defined.schema);
            if value != before {
                bytes = Bytes::from(value.to_string());
            }
        }
        let encoded = EncodedObject::new(bytes, kv.mod_revision)?;
        Some(Self::custom(definition, encoded, &value, &version, &version))
    }

    /// Of what is about to be stored, from the tree that the bytes were written from: what [`Self::of`] reads from the
    /// bytes, without reading them. `None` for custom kinds, whose stored form may not be the one that is shown.
    pub(crate) fn of_tree(resource: &Resource, bytes: &Bytes, value: &Value) -> Option<Self> {
        if resource.definition.is_some() {
            return None;
        }
        let encoded = EncodedObject::new(bytes.clone(), Revision::default())?;
        Some(Self::index(resource.strategy.as_ref(), encoded, value))
    }

    /// Whether selectors and readers see the same in both.
    #[cfg(debug_assertions)]
    pub(crate) fn shows_the_same(&self, other: &Self) -> bool {
        self.index == other.index && self.encoded.to_value() == other.encoded.to_value()
    }

    /// The same object in another version. `value` carries its resourceVersion, which is left out of the bytes.
    pub(crate) fn converted(
        &self,
        definition: &Definition,
        version: &str,
        mut value: Value,
    ) -> Option<Arc<Self>> {
        value.get_mut("metadata")?.as_object_mut()?.remove("resourceVersion");
        let encoded = EncodedObject::new(Bytes::from(value.to_string()), self.encoded.revision())?;
        let stored = self.custom.as_ref().map_or(version, |custom| &custom.stored);
        let converted = Arc::new(Self::custom(definition, encoded, &value, stored, version));
        if let Some(custom) = &self.custom {
            let mut forms = custom.forms.lock();
            forms.retain(|form| form.is_in(version) != Some(true));
            forms.push(Arc::clone(&converted));
        }
        Some(converted)
    }

    /// The same object in another version, when it was asked for before.
    pub(crate) fn known_in(&self, definition: &Definition, version: &str) -> Option<Arc<Self>> {
        let wanted = short(&definition.shape);
        let forms = self.custom.as_ref()?.forms.lock();
        let fits = |form: &&Arc<Self>| {
            form.custom.as_ref().is_some_and(|own| &*own.version == version && own.shape == wanted)
        };
        forms.iter().find(fits).cloned()
    }

    /// Whether its bytes are in a version; `None`: it is not of a custom kind.
    pub(crate) fn is_in(&self, version: &str) -> Option<bool> {
        self.custom.as_ref().map(|custom| &*custom.version == version)
    }

    fn custom(
        definition: &Definition,
        encoded: EncodedObject,
        value: &Value,
        stored: &str,
        version: &str,
    ) -> Self {
        let own = definition.strategy(version).unwrap_or_else(|| definition.strategy_of_storage());
        let form = CustomForm {
            stored: stored.into(),
            version: version.into(),
            shape: short(&definition.shape),
            forms: Mutex::default(),
        };
        Self { custom: Some(Box::new(form)), ..Self::index(own, encoded, value) }
    }

    fn index(strategy: &dyn Strategy, encoded: EncodedObject, value: &Value) -> Self {
        Self { index: Index::of(strategy, value), encoded, custom: None }
    }

    /// The same object, stored at `revision`.
    pub(crate) fn committed(mut self, revision: Revision) -> Self {
        self.encoded.revision = revision;
        self
    }

    /// The object as a deletion at `revision` leaves it.
    pub(crate) fn at(&self, revision: Revision) -> Self {
        Self { encoded: self.encoded.at(revision), ..self.clone() }
    }

    /// "" for a cluster-scoped object.
    pub(crate) fn namespace(&self) -> &str {
        self.index.namespace()
    }

    /// The object's name.
    pub(crate) fn name(&self) -> &str {
        self.index.name()
    }

    /// The object's uid.
    pub(crate) fn uid(&self) -> &str {
        self.index.uid()
    }

    /// The value of a label.
    pub(crate) fn label(&self, key: &str) -> Option<&str> {
        self.index.label(key)
    }

    /// The value of a selectable field; `None` for one that is not selectable.
    pub(crate) fn field(&self, path: &str) -> Option<&str> {
        match path {
            "metadata.name" => Some(self.name()),
            "metadata.namespace" => Some(self.namespace()),
            _ => self.index.field(path),
        }
    }
}
