//! Sets of field paths, as trees, and their wire form `FieldsV1`.
//!
//! A path element is kept as it stands in `FieldsV1`, canonically: `f:NAME`, `k:{"KEY":VALUE,…}` (an item of a list merged by
//! key), `v:VALUE` (an item of a set), `i:INDEX`.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use serde_json::{Map, Value};

/// A wire form nested deeper than this is refused: walks recurse.
const MAX_DEPTH: usize = 128;

/// The element of an object's field.
#[must_use]
pub fn field(name: &str) -> String {
    // Elements are made by the hundred for each write: without the machinery of `format!`.
    ["f:", name].concat()
}

/// The element of a list item by its keys, each named once.
#[must_use]
pub fn keyed<'a>(keys: impl IntoIterator<Item = (&'a str, &'a Value)>) -> String {
    let mut keys: Vec<(&str, &Value)> = keys.into_iter().collect();
    // Equal keys make equal text.
    keys.sort_unstable_by_key(|(key, _)| *key);
    let mut text = String::from("k:{");
    for (index, (key, value)) in keys.into_iter().enumerate() {
        if index > 0 {
            text.push(',');
        }
        push_text(key, &mut text);
        text.push(':');
        match value {
            Value::String(value) => push_text(value, &mut text),
            // Writing to a String cannot fail.
            value => drop(write!(text, "{value}")),
        }
    }
    text.push('}');
    text
}

/// Appends a text as JSON.
fn push_text(value: &str, out: &mut String) {
    if value.bytes().any(|byte| byte < b' ' || byte == b'"' || byte == b'\\') {
        let _ = write!(out, "{}", Value::String(value.to_owned()));
        return;
    }
    out.push('"');
    out.push_str(value);
    out.push('"');
}

/// The element of a set's item.
#[must_use]
pub fn valued(value: &Value) -> String {
    format!("v:{value}")
}

/// A set of paths. A path can be a member itself, have members below, or both.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSet {
    members: BTreeSet<String>,
    children: BTreeMap<String, FieldSet>,
}

impl FieldSet {
    /// Whether it holds no path.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.members.is_empty() && self.children.is_empty()
    }

    /// Adds a path; an empty one is ignored.
    pub fn insert(&mut self, path: &[String]) {
        match path {
            [] => {}
            [last] => drop(self.members.insert(last.clone())),
            [first, rest @ ..] => self.children.entry(first.clone()).or_default().insert(rest),
        }
    }

    /// Adds an element at the top.
    pub fn insert_element(&mut self, element: String) {
        self.members.insert(element);
    }

    /// Puts a set below an element; an empty one leaves nothing.
    pub fn insert_below(&mut self, element: String, below: Self) {
        if below.is_empty() {
            return;
        }
        match self.children.entry(element) {
            Entry::Vacant(place) => {
                place.insert(below);
            }
            Entry::Occupied(mut child) => child.get_mut().absorb(below),
        }
    }

    /// Whether the element itself is a member.
    #[must_use]
    pub fn has(&self, element: &str) -> bool {
        self.members.contains(element)
    }

    /// What is below an element.
    #[must_use]
    pub fn below(&self, element: &str) -> Option<&Self> {
        self.children.get(element)
    }

    /// Every path of either.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        let mut all = self.clone();
        all.absorb(other.clone());
        all
    }

    /// Adds every path of another set.
    pub fn absorb(&mut self, other: Self) {
        self.members.extend(other.members);
        for (element, theirs) in other.children {
            self.insert_below(element, theirs);
        }
    }

    /// Every path of both.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        let members = self.members.intersection(&other.members).cloned().collect();
        let common = self.children.iter().filter_map(|(element, mine)| {
            let both = mine.intersection(other.children.get(element)?);
            (!both.is_empty()).then(|| (element.clone(), both))
        });
        Self { members, children: common.collect() }
    }

    /// The paths that are not in `other`.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Self {
        let members = self.members.difference(&other.members).cloned().collect();
        let rest = self.children.iter().filter_map(|(element, mine)| {
            let rest =
                other.children.get(element).map_or_else(|| mine.clone(), |theirs| mine.difference(theirs));
            (!rest.is_empty()).then(|| (element.clone(), rest))
        });
        Self { members, children: rest.collect() }
    }

    /// Takes out the paths of `other`; whether there were any.
    pub fn subtract(&mut self, other: &Self) -> bool {
        let mut changed = false;
        for element in &other.members {
            changed |= self.members.remove(element);
        }
        self.take_below(other, |mine, theirs| changed |= mine.subtract(theirs));
        changed
    }

    /// Takes out the paths of `other` and all that is below them.
    pub fn subtract_trees(&mut self, other: &Self) {
        for element in &other.members {
            self.members.remove(element);
            self.children.remove(element);
        }
        self.take_below(other, Self::subtract_trees);
    }

    /// Takes out the paths of `owned` and those above them: what is left can go when this set's owner lets go.
    pub fn subtract_owned(&mut self, owned: &Self) {
        for element in owned.members.iter().chain(owned.children.keys()) {
            self.members.remove(element);
        }
        self.take_below(owned, Self::subtract_owned);
    }

    /// Takes from the children that both have; a child with nothing left goes.
    fn take_below(&mut self, other: &Self, mut take: impl FnMut(&mut Self, &Self)) {
        for (element, theirs) in &other.children {
            let Some(mine) = self.children.get_mut(element) else { continue };
            take(mine, theirs);
            if mine.is_empty() {
                self.children.remove(element);
            }
        }
    }

    /// Every path, as messages show it: `.spec.containers[name="a"].image`.
    #[must_use]
    pub fn paths(&self) -> Vec<String> {
        let mut paths = Vec::new();
        self.collect_paths("", &mut paths);
        paths
    }

    fn collect_paths(&self, prefix: &str, paths: &mut Vec<String>) {
        let elements: BTreeSet<&String> = self.members.iter().chain(self.children.keys()).collect();
        for element in elements {
            let path = format!("{prefix}{}", spoken(element));
            if let Some(below) = self.children.get(element) {
                below.collect_paths(&path, paths);
            }
            if self.members.contains(element) {
                paths.push(path);
            }
        }
    }

    /// The wire form.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let mut json = Map::new();
        for element in &self.members {
            json.insert(element.clone(), Value::Object(Map::new()));
        }
        for (element, below) in &self.children {
            let mut below = below.to_json();
            if self.members.contains(element)
                && let Some(map) = below.as_object_mut()
            {
                map.insert(".".to_owned(), Value::Object(Map::new()));
            }
            json.insert(element.clone(), below);
        }
        Value::Object(json)
    }

    /// Reads the wire form; `None` if it has another shape or is nested too deeply.
    #[must_use]
    pub fn from_json(json: &Value) -> Option<Self> {
        Self::read(json, 0)
    }

    fn read(json: &Value, depth: usize) -> Option<Self> {
        let mut set = Self::default();
        if depth > MAX_DEPTH {
            return None;
        }
        for (key, below) in json.as_object()? {
            if key == "." {
                continue; // said by the caller, who knows the element
            }
            let element = canonical(key)?;
            let map = below.as_object()?;
            if map.is_empty() || map.contains_key(".") {
                set.members.insert(element.clone());
            }
            let child = Self::read(below, depth + 1)?;
            if !child.is_empty() {
                set.children.insert(element, child);
            }
        }
        Some(set)
    }
}

/// An element in its one spelling: keys sorted, no white space.
fn canonical(key: &str) -> Option<String> {
    let (kind, rest) = key.split_once(':')?;
    match kind {
        "f" => Some(key.to_owned()),
        "k" if is_plain(rest) => Some(key.to_owned()),
        "k" => {
            let keys: Map<String, Value> = serde_json::from_str(rest).ok()?;
            Some(keyed(keys.iter().map(|(key, value)| (key.as_str(), value))))
        }
        "v" => Some(valued(&serde_json::from_str(rest).ok()?)),
        "i" => rest.parse::<i64>().ok().map(|index| format!("i:{index}")),
        _ => None,
    }
}

/// Whether the keys of an item are in the spelling of [`keyed`], and so simple that it shows without parsing them: one key
/// or several in order, texts without escapes, whole numbers.
fn is_plain(keys: &str) -> bool {
    let text = |rest: &str| -> Option<usize> {
        let end = rest.strip_prefix('"')?.find('"')?;
        let plain = |byte: u8| byte >= b' ' && byte != b'\\';
        rest[1..=end].bytes().all(plain).then_some(end + 2)
    };
    let number = |rest: &str| {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        (digits == 1 || (digits > 1 && digits < 18 && !rest.starts_with('0'))).then_some(digits)
    };
    let Some(mut rest) = keys.strip_prefix('{') else { return false };
    let mut last = None;
    loop {
        let Some(end) = text(rest) else { return false };
        let (name, behind) = (&rest[1..end - 1], &rest[end..]);
        if last.is_some_and(|last| name <= last) {
            return false;
        }
        last = Some(name);
        let Some(value) = behind.strip_prefix(':') else { return false };
        let Some(end) = text(value).or_else(|| number(value)) else { return false };
        rest = match value[end..].strip_prefix(',') {
            Some(next) => next,
            None => return &value[end..] == "}",
        };
    }
}

fn spoken(element: &str) -> String {
    let (kind, rest) = element.split_once(':').unwrap_or(("f", element));
    match kind {
        "k" => {
            let keys: Value = serde_json::from_str(rest).unwrap_or_default();
            let mut text = String::new();
            for (name, value) in keys.as_object().into_iter().flatten() {
                let comma = if text.is_empty() { "" } else { "," };
                // Writing to a String cannot fail.
                let _ = write!(text, "{comma}{name}={value}");
            }
            format!("[{text}]")
        }
        "v" => format!("[={rest}]"),
        "i" => format!("[{rest}]"),
        _ => format!(".{rest}"),
    }
}
