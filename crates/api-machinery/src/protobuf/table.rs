//! The committed table of messages, parsed once when first asked for.

use std::collections::HashMap;
use std::sync::OnceLock;

use kube_objects::GroupVersion;

static LINES: &str = include_str!("../../tables/protobuf.txt");
static KINDS: &str = include_str!("../../tables/kinds.txt");

const META: &str = "k8s.io.apimachinery.pkg.apis.meta.v1.";

/// What a field holds, or each of its items.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FieldType {
    Text,
    Bool,
    Int32,
    Int64,
    Double,
    Bytes,
    /// A message whose JSON form is not an object of its fields.
    Special(Special),
    /// By its place in the table.
    Message(usize),
}

/// Messages with a JSON form of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Special {
    Time,
    MicroTime,
    Quantity,
    IntOrString,
    /// Bytes that are a JSON document: `RawExtension`, `FieldsV1`, apiextensions' `JSON`.
    Raw,
    /// A schema, or a list of them.
    SchemaOrArray,
    /// A schema, or whether anything is allowed.
    SchemaOrBool,
    /// A schema, or names of fields.
    SchemaOrStrings,
}

/// One field of a message.
#[derive(Clone, Debug)]
pub(super) struct Field {
    pub(super) number: u32,
    /// Empty for flattened messages.
    pub(super) json: &'static str,
    pub(super) kind: FieldType,
    pub(super) repeated: bool,
    pub(super) map: bool,
    /// Absent on the wire when absent in JSON; others are always written.
    pub(super) optional: bool,
    pub(super) omit_empty: bool,
    pub(super) omit_zero: bool,
    pub(super) inline: bool,
}

/// One message.
#[derive(Clone, Debug)]
pub(super) struct Message {
    /// The JSON form is the list of items itself.
    pub(super) list: bool,
    /// By number.
    pub(super) fields: Vec<Field>,
}

/// All messages.
#[derive(Debug)]
pub(super) struct Table {
    messages: Vec<Message>,
    by_name: HashMap<&'static str, usize>,
    /// `GROUP/VERSION/KIND`.
    by_kind: HashMap<&'static str, usize>,
    /// `JSONSchemaProps`, which special types name.
    schema: Option<usize>,
}

impl Table {
    /// That of the built-in kinds.
    pub(super) fn builtin() -> &'static Self {
        static TABLE: OnceLock<Table> = OnceLock::new();
        TABLE.get_or_init(|| Self::parse(LINES, KINDS))
    }

    fn parse(lines: &'static str, kinds: &'static str) -> Self {
        let name = |line: &'static str| line.split(' ').next().unwrap_or_default();
        let by_name: HashMap<_, _> = lines.lines().enumerate().map(|(at, line)| (name(line), at)).collect();
        let messages = lines.lines().map(|line| message(line, &by_name)).collect();
        let by_kind = kinds
            .lines()
            .filter_map(|line| {
                let (kind, openapi) = line.split_once(' ')?;
                let rest = openapi.strip_prefix("io.k8s.")?.replace('-', "_");
                Some((kind, *by_name.get(format!("k8s.io.{rest}").as_str())?))
            })
            .collect();
        let schema = "k8s.io.apiextensions_apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps";
        let schema = by_name.get(schema).copied();
        Self { messages, by_name, by_kind, schema }
    }

    pub(super) fn for_kind(&self, api_version: &str, kind: &str) -> Option<&Message> {
        let version = GroupVersion::parse(api_version)?;
        let key = format!("{}/{}/{kind}", version.group, version.version);
        let found = self.by_kind.get(key.as_str()).or_else(|| match (&*version.group, kind) {
            // Kinds that stand in every group.
            (_, "DeleteOptions" | "WatchEvent")
            | ("" | "meta.k8s.io", "Status")
            | ("meta.k8s.io", "PartialObjectMetadata" | "PartialObjectMetadataList") => {
                self.by_name.get(format!("{META}{kind}").as_str())
            }
            _ => None,
        })?;
        self.messages.get(*found)
    }

    pub(super) fn message(&self, at: usize) -> &Message {
        static NOTHING: Message = Message { list: false, fields: Vec::new() };
        self.messages.get(at).unwrap_or(&NOTHING)
    }

    /// The message of JSON schemas.
    pub(super) fn schema(&self) -> &Message {
        self.message(self.schema.unwrap_or(usize::MAX))
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.messages.len()
    }
}

fn message(line: &'static str, by_name: &HashMap<&'static str, usize>) -> Message {
    let mut words = line.split(' ');
    let name = words.next().unwrap_or_default();
    let package = name.rsplit_once('.').map_or("", |(package, _)| package);
    let mut message = Message { list: false, fields: Vec::new() };
    for word in words {
        if word == "[]" {
            message.list = true;
        } else if let Some(field) = field(word, package, by_name) {
            message.fields.push(field);
        }
    }
    message
}

fn field(word: &'static str, package: &str, by_name: &HashMap<&'static str, usize>) -> Option<Field> {
    let mut parts = word.split(':');
    let (number, json, kind, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    // Never shown in JSON.
    if json == "-" {
        return None;
    }
    Some(Field {
        number: number.parse().ok()?,
        json,
        kind: field_type(kind, package, by_name)?,
        repeated: flags.contains('r'),
        map: flags.contains('m'),
        optional: flags.contains('p'),
        omit_empty: flags.contains('o'),
        omit_zero: flags.contains('z'),
        inline: flags.contains('i'),
    })
}

fn field_type(kind: &str, package: &str, by_name: &HashMap<&'static str, usize>) -> Option<FieldType> {
    Some(match kind {
        "string" => FieldType::Text,
        "bool" => FieldType::Bool,
        "int32" => FieldType::Int32,
        "int64" => FieldType::Int64,
        "double" => FieldType::Double,
        "bytes" => FieldType::Bytes,
        _ => {
            let full = if kind.contains('.') { kind.to_owned() } else { format!("{package}.{kind}") };
            match special(&full) {
                Some(special) => FieldType::Special(special),
                None => FieldType::Message(*by_name.get(full.as_str())?),
            }
        }
    })
}

fn special(name: &str) -> Option<Special> {
    let (package, kind) = name.rsplit_once('.')?;
    Some(match (package, kind) {
        ("k8s.io.apimachinery.pkg.apis.meta.v1", "Time") => Special::Time,
        ("k8s.io.apimachinery.pkg.apis.meta.v1", "MicroTime") => Special::MicroTime,
        ("k8s.io.apimachinery.pkg.apis.meta.v1", "FieldsV1")
        | ("k8s.io.apimachinery.pkg.runtime", "RawExtension")
        | ("k8s.io.apiextensions_apiserver.pkg.apis.apiextensions.v1", "JSON") => Special::Raw,
        ("k8s.io.apimachinery.pkg.api.resource", "Quantity") => Special::Quantity,
        ("k8s.io.apimachinery.pkg.util.intstr", "IntOrString") => Special::IntOrString,
        ("k8s.io.apiextensions_apiserver.pkg.apis.apiextensions.v1", kind) => match kind {
            "JSONSchemaPropsOrArray" => Special::SchemaOrArray,
            "JSONSchemaPropsOrBool" => Special::SchemaOrBool,
            "JSONSchemaPropsOrStringArray" => Special::SchemaOrStrings,
            _ => return None,
        },
        _ => return None,
    })
}
