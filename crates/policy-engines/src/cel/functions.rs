//! Which functions there are: their overloads, and since which Kubernetes version a new expression may use them.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use super::types::{OPTIONAL, Type};

mod declarations;

/// One way to call a function.
#[derive(Debug)]
pub(crate) struct Overload {
    pub(crate) id: &'static str,
    pub(crate) is_method: bool,
    pub(crate) args: Vec<Type>,
    pub(crate) result: Type,
    /// The type parameters in use.
    pub(crate) parameters: Vec<char>,
    pub(crate) library: Library,
}

/// Which library an overload belongs to, and whether every environment has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Library {
    /// Part of every environment since the 1.x version given.
    Since(u32),
    /// Only where patches are written.
    Patches,
}

/// A function's overloads, in the order of declaration.
pub(crate) type Function = Vec<Overload>;

/// All functions, by name.
pub(crate) fn all() -> &'static BTreeMap<&'static str, Function> {
    static ALL: OnceLock<BTreeMap<&'static str, Function>> = OnceLock::new();
    ALL.get_or_init(|| {
        let mut functions: BTreeMap<&'static str, Function> = BTreeMap::new();
        for (library, lines) in declarations::TABLES {
            for line in lines.lines().filter(|line| !line.trim().is_empty()) {
                if let Some((name, overload)) = read(line, *library) {
                    functions.entry(name).or_default().push(overload);
                }
            }
        }
        functions
    })
}

/// The overload's one name for everywhere: ids are compared by address-independent text.
pub(crate) fn overload(id: &str) -> Option<&'static str> {
    static IDS: OnceLock<BTreeMap<&'static str, ()>> = OnceLock::new();
    let ids = IDS.get_or_init(|| all().values().flatten().map(|overload| (overload.id, ())).collect());
    ids.get_key_value(id).map(|(id, ())| *id)
}

/// Reads `name id target.(arg, arg) result`; without `target.` for plain functions.
fn read(line: &'static str, library: Library) -> Option<(&'static str, Overload)> {
    let (name, rest) = line.trim().split_once(' ')?;
    let (id, rest) = rest.trim().split_once(' ')?;
    let open = rest.find('(').filter(|_| !rest.contains(".("));
    let (target, rest) = match (open, rest.find(".(")) {
        (_, Some(dot)) => (Some(&rest[..dot]), &rest[dot + 2..]),
        (Some(open), None) => (None, &rest[open + 1..]),
        _ => return None,
    };
    let close = closing(rest)?;
    let mut args: Vec<Type> = target.into_iter().map(read_type).collect();
    args.extend(split(&rest[..close]).into_iter().map(read_type));
    let result = read_type(rest[close + 1..].trim());
    let mut parameters = Vec::new();
    args.iter().chain([&result]).for_each(|t| collect(t, &mut parameters));
    Some((name, Overload { id, is_method: target.is_some(), args, result, parameters, library }))
}

fn closing(text: &str) -> Option<usize> {
    let mut depth = 0;
    for (at, letter) in text.char_indices() {
        match letter {
            '(' => depth += 1,
            ')' if depth == 0 => return Some(at),
            ')' => depth -= 1,
            _ => {}
        }
    }
    None
}

fn split(text: &str) -> Vec<&str> {
    let (mut parts, mut depth, mut start) = (Vec::new(), 0, 0);
    for (at, letter) in text.char_indices() {
        match letter {
            '(' => depth += 1,
            ')' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(text[start..at].trim());
                start = at + 1;
            }
            _ => {}
        }
    }
    if !text[start..].trim().is_empty() {
        parts.push(text[start..].trim());
    }
    parts
}

/// The type that a declaration or a name in an expression says.
fn read_type(text: &'static str) -> Type {
    if let Some((name, rest)) = text.split_once('(') {
        let inner = split(rest.strip_suffix(')').unwrap_or(rest));
        let mut types = inner.into_iter().map(read_type);
        let (first, second) = (types.next().unwrap_or(Type::Dyn), types.next());
        return match (name, second) {
            ("map", Some(second)) => Type::map(first, second),
            ("type", _) => Type::Meta(Some(Arc::new(first))),
            ("optional", _) => Type::Opaque(OPTIONAL, Some(Arc::new(first))),
            _ => Type::list(first),
        };
    }
    named_type(text).unwrap_or_else(|| match text.chars().next() {
        Some(letter) if text.len() == 1 => Type::Parameter(letter),
        _ => Type::Object(text),
    })
}

/// Simple types by name.
pub(crate) fn named_type(name: &str) -> Option<Type> {
    Some(match name {
        "dyn" => Type::Dyn,
        "null_type" => Type::Null,
        "bool" => Type::Bool,
        "int" => Type::Int,
        "uint" => Type::Uint,
        "double" => Type::Double,
        "string" => Type::String,
        "bytes" => Type::Bytes,
        "timestamp" | "google.protobuf.Timestamp" => Type::Timestamp,
        "duration" | "google.protobuf.Duration" => Type::Duration,
        "net.IP" => Type::Opaque("net.IP", None),
        "net.CIDR" => Type::Opaque("net.CIDR", None),
        _ => return None,
    })
}

fn collect(t: &Type, into: &mut Vec<char>) {
    match t {
        Type::Parameter(name) if !into.contains(name) => into.push(*name),
        Type::List(of) | Type::Meta(Some(of)) | Type::Opaque(_, Some(of)) => collect(of, into),
        Type::Map(of) => {
            collect(&of.0, into);
            collect(&of.1, into);
        }
        _ => {}
    }
}

/// The same type with parameters replaced.
pub(crate) fn instantiate(t: &Type, with: &[(char, Type)]) -> Type {
    match t {
        Type::Parameter(name) => {
            with.iter().find(|(known, _)| known == name).map_or_else(|| t.clone(), |(_, to)| to.clone())
        }
        Type::List(of) => Type::list(instantiate(of, with)),
        Type::Meta(Some(of)) => Type::Meta(Some(Arc::new(instantiate(of, with)))),
        Type::Opaque(name, Some(of)) => Type::Opaque(name, Some(Arc::new(instantiate(of, with)))),
        Type::Map(of) => Type::map(instantiate(&of.0, with), instantiate(&of.1, with)),
        other => other.clone(),
    }
}
