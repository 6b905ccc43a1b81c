//! Field numbers of the Kubernetes protobuf encoding, taken from the struct tags of the Go types (facts, no text).
//!
//! Input is a checkout's `staging/src/k8s.io`; output one line per message:
//! `core/v1.Pod metadata=1m:meta/v1.ObjectMeta spec=2m:core/v1.PodSpec`. A field is `JSONNAME=NUMBER FLAGS KIND`: `*` says a
//! pointer (present even when empty), `[` a list, `{` a map with string keys; kinds: `s` string, `y` bytes, `i` integer,
//! `b` boolean, `d` double, `m:MESSAGE`, `l` list of strings in a message of its own, `q` quantity, `o` int-or-string,
//! `t` time, `u` micro time, `r` raw JSON, `f` fieldsV1. An empty JSON name means: its fields stand in the parent.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

/// What a named Go type is.
enum Named {
    Struct(Vec<Field>),
    Other(String),
}

struct Field {
    json: String,
    number: u32,
    go: String,
}

/// Package → (imports, types).
type Packages = BTreeMap<String, (HashMap<String, String>, BTreeMap<String, Named>)>;

/// Writes the table.
pub(crate) fn run(root: &Path, from: &Path) -> anyhow::Result<()> {
    let mut packages = Packages::new();
    read(&mut packages, "meta/v1", &from.join("apimachinery/pkg/apis/meta/v1"))?;
    for group in directories(&from.join("api"))? {
        for version in directories(&group)? {
            let name = |path: &Path| {
                path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
            };
            if matches!(name(&version).as_str(), "v1" | "v2") {
                read(&mut packages, &format!("{}/{}", name(&group), name(&version)), &version)?;
            }
        }
    }
    let mut text = String::new();
    for (package, (imports, types)) in &packages {
        for (name, named) in types {
            let Named::Struct(fields) = named else { continue };
            if fields.is_empty() {
                continue;
            }
            write!(text, "{package}.{name}")?;
            for field in fields {
                if let Some(kind) = kind(&packages, package, imports, &field.go) {
                    write!(text, " {}={}{kind}", field.json, field.number)?;
                }
            }
            text.push('\n');
        }
    }
    let path = root.join("crates/api-machinery/tables/protobuf.txt");
    std::fs::write(&path, text).with_context(|| format!("writing {}", path.display()))
}

fn directories(of: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(of).with_context(|| format!("reading {}", of.display()))?;
    let mut found: Vec<PathBuf> = entries
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.is_dir())
        .collect();
    found.sort();
    Ok(found)
}

fn read(packages: &mut Packages, name: &str, directory: &Path) -> anyhow::Result<()> {
    let (mut imports, mut types) = (HashMap::new(), BTreeMap::new());
    for entry in std::fs::read_dir(directory).with_context(|| format!("reading {}", directory.display()))? {
        let path = entry?.path();
        let file = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let wanted = file.starts_with("types") || file.contains("time");
        if !wanted || !file.ends_with(".go") || file.contains("generated") || file.ends_with("_test.go") {
            continue;
        }
        let text = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        parse(&text, &mut imports, &mut types);
    }
    packages.insert(name.to_owned(), (imports, types));
    Ok(())
}

fn parse(text: &str, imports: &mut HashMap<String, String>, types: &mut BTreeMap<String, Named>) {
    let mut open: Option<(String, Vec<Field>)> = None;
    for line in text.lines() {
        let line = line.trim();
        // Fields that were taken out are left in comments.
        if line.starts_with("//") {
            continue;
        }
        if let Some((name, mut fields)) = open.take() {
            if line == "}" {
                types.insert(name, Named::Struct(fields));
                continue;
            }
            fields.extend(field(line));
            open = Some((name, fields));
        } else if let Some(rest) = line.strip_prefix("type ") {
            let Some((name, what)) = rest.split_once(' ') else { continue };
            match what.strip_prefix("struct {") {
                Some("}") => drop(types.insert(name.to_owned(), Named::Struct(Vec::new()))),
                Some(_) => open = Some((name.to_owned(), Vec::new())),
                None => drop(
                    types.insert(name.to_owned(), Named::Other(what.trim_start_matches("= ").to_owned())),
                ),
            }
        } else if let Some(path) =
            line.strip_suffix('"').and_then(|line| line.split_once('"').map(|(_, path)| path))
        {
            let package = path
                .strip_prefix("k8s.io/api/")
                .or_else(|| path.strip_prefix("k8s.io/apimachinery/pkg/apis/"));
            let alias = line.split('"').next().unwrap_or_default().trim();
            let last = path.rsplit('/').next().unwrap_or_default();
            let alias = if alias.is_empty() { last } else { alias };
            imports.insert(alias.to_owned(), package.unwrap_or(last).to_owned());
        }
    }
}

/// `Name Type `tags`` or an embedded `Type `tags``.
fn field(line: &str) -> Option<Field> {
    let (declaration, tags) = line.split_once('`')?;
    let tag = |key: &str| tags.split_once(&format!("{key}:\"")).and_then(|(_, rest)| rest.split('"').next());
    let number = tag("protobuf")?.split(',').nth(1)?.parse().ok()?;
    let json = tag("json")?.split(',').next()?.to_owned();
    let go = declaration.split_whitespace().last()?.to_owned();
    Some(Field { json, number, go })
}

fn kind(packages: &Packages, package: &str, imports: &HashMap<String, String>, go: &str) -> Option<String> {
    if let Some(rest) = go.strip_prefix('*') {
        return Some(format!("*{}", kind(packages, package, imports, rest)?));
    }
    if go == "[]byte" {
        return Some("y".to_owned());
    }
    if let Some(rest) = go.strip_prefix("[]") {
        return Some(format!("[{}", kind(packages, package, imports, rest)?));
    }
    if let Some(rest) = go.strip_prefix("map[") {
        let (_, value) = rest.split_once(']')?;
        return Some(format!("{{{}", kind(packages, package, imports, value)?));
    }
    let plain = match go {
        "string" => "s",
        "bool" => "b",
        "float64" => "d",
        "int" | "int32" | "int64" | "uint32" | "uint64" => "i",
        _ => "",
    };
    if !plain.is_empty() {
        return Some(plain.to_owned());
    }
    let (home, name) = match go.split_once('.') {
        Some((alias, name)) => (imports.get(alias)?.as_str(), name),
        None => (package, go),
    };
    match (home, name) {
        ("resource", "Quantity") => return Some("q".to_owned()),
        ("intstr", "IntOrString") => return Some("o".to_owned()),
        ("runtime", "RawExtension") => return Some("r".to_owned()),
        ("meta/v1", "Time") => return Some("t".to_owned()),
        ("meta/v1", "MicroTime") => return Some("u".to_owned()),
        ("meta/v1", "FieldsV1") => return Some("f".to_owned()),
        ("types", _) => return Some("s".to_owned()),
        _ => {}
    }
    let (imports, types) = packages.get(home)?;
    match types.get(name)? {
        Named::Struct(_) => Some(format!("m:{home}.{name}")),
        Named::Other(what) if what.starts_with("[]") && what != "[]byte" => Some("l".to_owned()),
        Named::Other(what) => kind(packages, home, imports, what),
    }
}
