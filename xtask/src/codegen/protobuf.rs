//! The protobuf form of the built-in kinds: which number, type and JSON name each field has.
//!
//! The published `generated.proto` files give numbers and types. What they do not say stands in the tags of the Go
//! types beside them: JSON names, which fields are flattened into their parent, which may be absent on the wire
//! (pointers, slices, maps), and which the JSON form leaves out when empty. Only these facts are taken.
//!
//! One line per message: `NAME [[]] NUMBER:JSON:TYPE:FLAGS ...`, sorted. A leading `[]` says that the JSON form is the
//! bare list of items. Flags: `r` repeated, `m` map from strings, `p` may be absent, `o` left out of JSON when empty,
//! `z` also when an empty object, `i` flattened. A type without a dot is a scalar or of the message's own package.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

const META: &str = "k8s.io.apimachinery.pkg.apis.meta.v1";

/// Kinds of the group meta.k8s.io that no OpenAPI document names as such.
const META_KINDS: &[&str] =
    &["Status", "WatchEvent", "DeleteOptions", "PartialObjectMetadata", "PartialObjectMetadataList"];

/// Types with a form of their own, which the reader knows by name.
const SPECIAL: &[&str] = &[
    "k8s.io.apimachinery.pkg.apis.meta.v1.Time",
    "k8s.io.apimachinery.pkg.apis.meta.v1.MicroTime",
    "k8s.io.apimachinery.pkg.apis.meta.v1.FieldsV1",
    "k8s.io.apimachinery.pkg.api.resource.Quantity",
    "k8s.io.apimachinery.pkg.util.intstr.IntOrString",
    "k8s.io.apimachinery.pkg.runtime.RawExtension",
    "k8s.io.apiextensions_apiserver.pkg.apis.apiextensions.v1.JSON",
    "k8s.io.apiextensions_apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrArray",
    "k8s.io.apiextensions_apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrBool",
    "k8s.io.apiextensions_apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrStringArray",
];

const SCALARS: &[&str] = &["string", "bool", "int32", "int64", "double", "bytes"];

struct Field {
    number: u32,
    name: String,
    kind: String,
    flags: String,
}

#[derive(Default)]
struct Message {
    package: String,
    list: bool,
    fields: Vec<Field>,
}

/// What a Go field's tags say.
struct Tag {
    json: String,
    flags: String,
}

/// The Go declarations of one package.
#[derive(Default)]
struct Declarations {
    /// By type and field number.
    tags: BTreeMap<(String, u32), Tag>,
    /// Types that are slices under a name.
    slices: BTreeSet<String>,
}

/// The table, of what the kinds listed in `kinds` (the table of kinds) reach.
pub(crate) fn table(directory: &Path, kinds: &str) -> anyhow::Result<String> {
    let mut protos = Vec::new();
    find(directory, &mut protos)?;
    protos.sort();
    let mut messages = BTreeMap::new();
    for path in protos {
        read_package(&path, &mut messages)?;
    }
    let roots = kinds
        .lines()
        .filter_map(|line| line.split_once(' '))
        .map(|(_, name)| message_name(name))
        .chain(META_KINDS.iter().map(|kind| format!("{META}.{kind}")));
    lines(&messages, roots)
}

/// `io.k8s.kube-aggregator.x` is the message `k8s.io.kube_aggregator.x`.
fn message_name(openapi: &str) -> String {
    let rest = openapi.strip_prefix("io.k8s.").unwrap_or(openapi);
    format!("k8s.io.{}", rest.replace('-', "_"))
}

fn find(directory: &Path, found: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    for entry in std::fs::read_dir(directory).with_context(|| format!("listing {}", directory.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            find(&path, found)?;
        } else if path.file_name().is_some_and(|name| name == "generated.proto") {
            found.push(path);
        }
    }
    Ok(())
}

fn read_package(proto: &Path, messages: &mut BTreeMap<String, Message>) -> anyhow::Result<()> {
    let mut declarations = Declarations::default();
    let directory = proto.parent().context("a file stands in a directory")?;
    for path in super::files(directory, "go")? {
        let text = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        read_declarations(&text, &mut declarations);
    }
    let text = std::fs::read_to_string(proto).with_context(|| format!("reading {}", proto.display()))?;
    let mut package = String::new();
    let mut current: Option<(String, Message)> = None;
    for line in text.lines().map(str::trim).filter(|line| !line.starts_with("//")) {
        if let Some(rest) = line.strip_prefix("package ") {
            package = rest.trim_end_matches(';').to_owned();
        } else if let Some(rest) = line.strip_prefix("message ") {
            let name = rest.trim_end_matches('{').trim().to_owned();
            let list = declarations.slices.contains(&name);
            current = Some((name, Message { package: package.clone(), list, fields: Vec::new() }));
        } else if line == "}" {
            if let Some((name, mut message)) = current.take() {
                message.fields.sort_by_key(|field| field.number);
                messages.insert(format!("{package}.{name}"), message);
            }
        } else if let Some((name, message)) = &mut current
            && let Some(field) = field(line, name, &package, &declarations)
        {
            message.fields.push(field);
        }
    }
    Ok(())
}

fn field(line: &str, message: &str, package: &str, declarations: &Declarations) -> Option<Field> {
    let (left, number) = line.strip_suffix(';')?.split_once('=')?;
    let number = number.trim().parse().ok()?;
    let mut flags = String::new();
    let left = left.trim();
    let (kind, name) = left.rsplit_once(' ')?;
    let kind = kind.trim();
    let kind = if let Some(entry) = kind.strip_prefix("map<string,") {
        flags.push('m');
        entry.trim_end_matches('>')
    } else {
        let (label, kind) = kind.split_once(' ')?;
        if label == "repeated" {
            flags.push('r');
        }
        kind
    };
    let kind = kind.trim().trim_start_matches('.');
    let kind = kind.strip_prefix(&format!("{package}.")).unwrap_or(kind).to_owned();
    let name = match declarations.tags.get(&(message.to_owned(), number)) {
        Some(tag) => {
            flags.push_str(&tag.flags);
            tag.json.clone()
        }
        None => name.to_owned(),
    };
    Some(Field { number, name, kind, flags })
}

/// Reads the tags of one file's struct fields.
fn read_declarations(text: &str, into: &mut Declarations) {
    let mut owner: Option<String> = None;
    let mut tagged: Vec<(String, u32, Tag, String)> = Vec::new();
    for line in text.lines().map(str::trim).filter(|line| !line.starts_with("//")) {
        if let Some(rest) = line.strip_prefix("type ")
            && let Some((name, definition)) = rest.split_once(' ')
        {
            if definition.starts_with("[]") {
                into.slices.insert(name.to_owned());
            }
            owner = definition.starts_with("struct").then(|| name.to_owned());
        } else if line == "}" {
            owner = None;
        } else if let Some(owner) = &owner
            && let Some((number, tag, kind)) = go_field(line)
        {
            tagged.push((owner.clone(), number, tag, kind));
        }
    }
    for (owner, number, mut tag, kind) in tagged {
        if into.slices.contains(&kind) || kind == "ResourceList" || kind.ends_with(".ResourceList") {
            tag.flags.push('p');
        }
        into.tags.insert((owner, number), tag);
    }
}

fn go_field(line: &str) -> Option<(u32, Tag, String)> {
    let (declaration, tags) = line.split_once('`')?;
    let number = tag_value(tags, "protobuf")?.split(',').nth(1)?.parse().ok()?;
    let json = tag_value(tags, "json")?;
    let mut parts = json.split(',');
    let name = parts.next().unwrap_or_default().to_owned();
    let mut flags = String::new();
    let kind = declaration.split_whitespace().last()?;
    if kind.starts_with('*') || kind.starts_with("[]") || kind.starts_with("map[") {
        flags.push('p');
    }
    for option in parts {
        match option {
            "omitempty" => flags.push('o'),
            "omitzero" => flags.push('z'),
            "inline" => flags.push('i'),
            _ => {}
        }
    }
    Some((number, Tag { json: name, flags }, kind.to_owned()))
}

fn tag_value<'a>(tags: &'a str, key: &str) -> Option<&'a str> {
    let (_, rest) = tags.split_once(&format!("{key}:\""))?;
    rest.split_once('"').map(|(value, _)| value)
}

/// Writes what the roots reach. Roots without a message (tables, API versions) are not served as protobuf.
fn lines(
    messages: &BTreeMap<String, Message>,
    roots: impl Iterator<Item = String>,
) -> anyhow::Result<String> {
    let mut wanted: Vec<String> = roots.filter(|name| messages.contains_key(name)).collect();
    // Both are named by special types only.
    let schema = "k8s.io.apiextensions_apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps";
    wanted.extend(messages.contains_key(schema).then(|| schema.to_owned()));
    let mut reached = BTreeSet::new();
    while let Some(name) = wanted.pop() {
        if SPECIAL.contains(&name.as_str()) || !reached.insert(name.clone()) {
            continue;
        }
        let Some(message) = messages.get(&name) else { bail!("message {name} is in none of the files") };
        for field in &message.fields {
            if !SCALARS.contains(&field.kind.as_str()) {
                let local = !field.kind.contains('.');
                wanted.push(if local {
                    format!("{}.{}", message.package, field.kind)
                } else {
                    field.kind.clone()
                });
            }
        }
    }
    let mut out = String::new();
    for name in reached {
        let message = &messages[&name];
        out.push_str(&name);
        if message.list {
            out.push_str(" []");
        }
        for field in &message.fields {
            let _ = write!(out, " {}:{}:{}:{}", field.number, field.name, field.kind, field.flags);
        }
        out.push('\n');
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_complete_what_the_message_says() {
        let directory = tempfile::tempdir().unwrap();
        let proto = "package k8s.io.api.x.v1;\n// note\nmessage Thing {\n  // note\n  optional Inner inner = 2;\n\n  \
                     map<string, bytes> data = 1;\n  repeated .k8s.io.api.x.v1.Words words = 3;\n}\n\
                     message Inner {\n  optional string text = 1;\n}\nmessage Words {\n  repeated string items = 1;\n}\n\
                     message Unreached {\n}\n";
        let go = "type Words []string\ntype Thing struct {\n\tInner `json:\",inline\" protobuf:\"bytes,2,opt,name=inner\"`\n\
                  \tData map[string][]byte `json:\"data,omitempty\" protobuf:\"bytes,1,rep,name=data\"`\n}\n\
                  type Inner struct {\n\tText *string `json:\"theText,omitempty\" protobuf:\"bytes,1,opt,name=text\"`\n}\n";
        std::fs::write(directory.path().join("generated.proto"), proto).unwrap();
        std::fs::write(directory.path().join("types.go"), go).unwrap();
        let table = table(directory.path(), "x/v1/Thing io.k8s.api.x.v1.Thing\n");
        // The kinds of meta.k8s.io are absent here, and that is allowed.
        assert_eq!(
            table.unwrap(),
            "k8s.io.api.x.v1.Inner 1:theText:string:po\n\
             k8s.io.api.x.v1.Thing 1:data:bytes:mpo 2::Inner:i 3:words:Words:r\n\
             k8s.io.api.x.v1.Words [] 1:items:string:r\n"
        );
    }
}
