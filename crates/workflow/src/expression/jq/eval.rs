//! What the terms of a query mean. A term gives any number of outputs for an input; all of them are worked out at once.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use jaq_core::load::lex::StrPart;
use jaq_core::load::parse::{BinaryOp, Pattern, Term};
use jaq_core::ops::{Cmp, Math};
use regex::{Regex, RegexBuilder};
use serde_json::{Map, Value};

use super::super::{MAX_ITEMS, quote};
use super::order::compare;
use super::{functions, paths};

/// What a query may cost: a step costs one, and a value that it gives one for each 16 bytes or part in it. Some 50 ms, and
/// some 64 MB at the very most.
const MAX_COST: usize = 1_000_000;
/// Terms within terms, calls of functions by functions among them: what a stack of 2 MiB bears in a debug build.
const MAX_DEPTH: usize = 64;
/// Lists and objects in each other: whatever looks through a value calls itself for each.
pub(super) const MAX_NESTING: usize = 128;
/// Bytes of one text.
const MAX_TEXT: usize = 1 << 20;
/// Bytes of a regular expression as it is carried out: dozens of classes of letters of all languages.
const MAX_REGEX: usize = 1 << 19;
/// What making one costs: milliseconds.
const REGEX_COST: usize = 20_000;
/// Those that are kept; few queries have more.
const MAX_REGEXES: usize = 16;

pub(super) type Part<'q> = Term<&'q str>;

/// Why there are no outputs.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Failure {
    /// What the query itself may catch.
    Raised(Value),
    /// It goes no further.
    Stopped(String),
}

pub(super) type Outputs = Result<Vec<Value>, Failure>;

pub(super) fn raised(why: impl Into<String>) -> Failure {
    Failure::Raised(Value::String(why.into()))
}

/// Variables, the newest first.
#[derive(Clone, Default)]
pub(super) struct Variables(Option<Rc<(String, Value, Variables)>>);

impl Variables {
    fn with(&self, name: &str, value: Value) -> Self {
        Self(Some(Rc::new((name.to_owned(), value, self.clone()))))
    }

    fn get(&self, name: &str) -> Option<&Value> {
        let mut own = self;
        while let Some(known) = &own.0 {
            if known.0 == name {
                return Some(&known.1);
            }
            own = &known.2;
        }
        None
    }
}

/// A query under way.
#[derive(Default)]
pub(super) struct Query {
    spent: Cell<usize>,
    depth: Cell<usize>,
    regexes: RefCell<Vec<(String, Regex)>>,
}

impl Query {
    pub(super) fn spend(&self, cost: usize) -> Result<(), Failure> {
        let spent = self.spent.get().saturating_add(cost);
        self.spent.set(spent);
        if spent > MAX_COST {
            Err(Failure::Stopped("the query takes too many steps".to_owned()))
        } else {
            Ok(())
        }
    }

    /// Goes one level deeper for the time of `work`.
    pub(super) fn deeper<T>(&self, work: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
        if self.depth.get() >= MAX_DEPTH {
            return Err(Failure::Stopped("the query goes too deep".to_owned()));
        }
        self.depth.set(self.depth.get() + 1);
        let done = work();
        self.depth.set(self.depth.get() - 1);
        done
    }

    /// A regular expression for such a text, linear in time and without back-references: made once, however often it is used.
    pub(super) fn regex(&self, pattern: &str, flags: &str, text: &str) -> Result<Regex, Failure> {
        self.spend(text.len() / 4)?;
        let whole = if flags.is_empty() { pattern.to_owned() } else { format!("(?{flags}){pattern}") };
        let mut known = self.regexes.borrow_mut();
        if let Some((_, regex)) = known.iter().find(|(own, _)| *own == whole) {
            return Ok(regex.clone());
        }
        self.spend(REGEX_COST)?;
        let made = RegexBuilder::new(&whole).size_limit(MAX_REGEX).build();
        let made = made.map_err(|error| raised(format!("{pattern:?} is no regular expression: {error}")))?;
        if known.len() >= MAX_REGEXES {
            known.remove(0);
        }
        known.push((whole, made.clone()));
        Ok(made)
    }

    pub(super) fn one(&self, value: Value) -> Outputs {
        self.spend(cost(&value))?;
        Ok(vec![value])
    }

    /// Every output of a term.
    pub(super) fn outputs(&self, term: &Part<'_>, input: &Value, names: &Variables) -> Outputs {
        self.spend(1)?;
        self.deeper(|| self.of(term, input, names))
    }

    fn of(&self, term: &Part<'_>, input: &Value, names: &Variables) -> Outputs {
        match term {
            Term::Id => self.one(input.clone()),
            Term::Recurse | Term::Path(..) => {
                Ok(paths::of(self, term, input, names)?.into_iter().map(|(_, value)| value).collect())
            }
            Term::Num(text) => {
                let number =
                    serde_json::from_str(text).map_err(|_| raised(format!("{text} is no number")))?;
                self.one(Value::Number(number))
            }
            Term::Str(format, parts) => self.text(*format, parts, input, names),
            Term::Arr(None) => self.one(Value::Array(Vec::new())),
            Term::Arr(Some(items)) => {
                let items = self.outputs(items, input, names)?;
                self.one(Value::Array(items))
            }
            Term::Obj(entries) => self.object(entries, input, names),
            Term::Neg(inner) => self.each(self.outputs(inner, input, names)?, |value| {
                functions::arithmetic(self, Math::Sub, &Value::from(0), &value)
            }),
            Term::BinOp(left, operator, right) => self.binary(left, operator, right, input, names),
            Term::Fold(kind, over, pattern, arguments) => {
                self.fold(kind, (over, pattern), arguments, input, names)
            }
            Term::TryCatch(inner, catch) => match (self.outputs(inner, input, names), catch) {
                (Err(Failure::Raised(why)), Some(catch)) => self.outputs(catch, &why, names),
                (Err(Failure::Raised(_)), None) => Ok(Vec::new()),
                (done, _) => done,
            },
            Term::IfThenElse(branches, otherwise) => {
                self.branches(branches, otherwise.as_deref(), input, names)
            }
            Term::Call(name, arguments) => functions::call(self, name, arguments, input, names),
            Term::Var(name) => match names.get(name) {
                Some(value) => self.one(value.clone()),
                None => Err(Failure::Stopped(format!("there is no variable {name}"))),
            },
            Term::Def(..) => Err(Failure::Stopped("functions cannot be defined here (def)".to_owned())),
            Term::Label(..) | Term::Break(_) => {
                Err(Failure::Stopped("a query cannot jump here (label, break)".to_owned()))
            }
        }
    }

    pub(super) fn each(
        &self,
        values: Vec<Value>,
        change: impl Fn(Value) -> Result<Value, Failure>,
    ) -> Outputs {
        let mut out = Vec::with_capacity(values.len());
        for value in values {
            out.extend(self.one(change(value)?)?);
        }
        Ok(out)
    }

    fn text(
        &self,
        format: Option<&str>,
        parts: &[StrPart<&str, Part<'_>>],
        input: &Value,
        names: &Variables,
    ) -> Outputs {
        let mut texts = vec![String::new()];
        for part in parts {
            match part {
                StrPart::Str(text) => {
                    self.spend(texts.len().saturating_mul(1 + text.len() / 16))?;
                    texts.iter_mut().for_each(|own| own.push_str(text));
                }
                StrPart::Char(own) => {
                    self.spend(texts.len())?;
                    texts.iter_mut().for_each(|text| text.push(*own));
                }
                StrPart::Term(term) => {
                    let values = self.outputs(term, input, names)?;
                    let mut next = Vec::new();
                    for value in values {
                        let value = formatted(format.unwrap_or("@text"), &value)?;
                        for text in &texts {
                            self.spend(1 + (text.len() + value.len()) / 16)?;
                            next.push(format!("{text}{value}"));
                        }
                    }
                    texts = next;
                }
            }
        }
        self.each(texts.into_iter().map(Value::String).collect(), Ok)
    }

    fn object(&self, entries: &[(Part<'_>, Option<Part<'_>>)], input: &Value, names: &Variables) -> Outputs {
        let mut objects = vec![Map::new()];
        for (key, value) in entries {
            // `{$name}` and `{name}` are short for a member of that name.
            let pairs: Vec<(Value, Value)> = match (key, value) {
                (Term::Var(name), None) => {
                    let values = self.outputs(key, input, names)?;
                    values
                        .into_iter()
                        .map(|value| (Value::from(name.trim_start_matches('$')), value))
                        .collect()
                }
                (_, None) => {
                    let mut pairs = Vec::new();
                    for key in self.outputs(key, input, names)? {
                        let value = paths::member(input, &key)?;
                        pairs.push((key, value));
                    }
                    pairs
                }
                (_, Some(value)) => {
                    let keys = self.outputs(key, input, names)?;
                    let values = self.outputs(value, input, names)?;
                    let pair = |key: &Value| {
                        values.iter().map(move |value| (key.clone(), value.clone())).collect::<Vec<_>>()
                    };
                    self.spend(keys.len().saturating_mul(values.iter().map(cost).sum()))?;
                    keys.iter().flat_map(pair).collect()
                }
            };
            let mut next = Vec::new();
            for (key, value) in pairs {
                let Value::String(key) = key else {
                    return Err(raised(format!("{key} is no name of a member")));
                };
                for object in &objects {
                    self.spend(cost_of(object) + cost(&value))?;
                    let mut object = object.clone();
                    object.insert(key.clone(), value.clone());
                    next.push(object);
                }
            }
            objects = next;
        }
        self.each(objects.into_iter().map(Value::Object).collect(), Ok)
    }

    fn binary(
        &self,
        left: &Part<'_>,
        operator: &BinaryOp<&str>,
        right: &Part<'_>,
        input: &Value,
        names: &Variables,
    ) -> Outputs {
        match operator {
            BinaryOp::Pipe(None) => {
                let mut values = vec![input.clone()];
                for part in chain(&[left, right], |operator| matches!(operator, BinaryOp::Pipe(None))) {
                    let mut next = Vec::new();
                    for value in values {
                        next.extend(self.outputs(part, &value, names)?);
                    }
                    values = next;
                }
                Ok(values)
            }
            BinaryOp::Pipe(Some(pattern)) => {
                let mut out = Vec::new();
                for value in self.outputs(left, input, names)? {
                    for names in self.bound(pattern, &value, names)? {
                        out.extend(self.outputs(right, input, &names)?);
                    }
                }
                Ok(out)
            }
            BinaryOp::Comma => {
                let mut out = Vec::new();
                for part in chain(&[left, right], |operator| matches!(operator, BinaryOp::Comma)) {
                    out.extend(self.outputs(part, input, names)?);
                }
                Ok(out)
            }
            BinaryOp::Alt => {
                let first = match self.outputs(left, input, names) {
                    Err(Failure::Raised(_)) => Vec::new(),
                    other => other?,
                };
                let some: Vec<Value> = first.into_iter().filter(truthy).collect();
                if some.is_empty() { self.outputs(right, input, names) } else { Ok(some) }
            }
            BinaryOp::Or | BinaryOp::And => {
                let decides = matches!(operator, BinaryOp::Or);
                let mut out = Vec::new();
                for value in self.outputs(left, input, names)? {
                    if truthy(&value) == decides {
                        out.push(Value::Bool(decides));
                    } else {
                        let right = self.outputs(right, input, names)?;
                        out.extend(right.iter().map(|value| Value::Bool(truthy(value))));
                    }
                }
                Ok(out)
            }
            BinaryOp::Math(operator) => self.combined(left, right, input, names, |left, right| {
                functions::arithmetic(self, *operator, left, right)
            }),
            BinaryOp::Cmp(operator) => self.combined(left, right, input, names, |left, right| {
                let order = compare(left, right);
                Ok(Value::Bool(match operator {
                    Cmp::Lt => order.is_lt(),
                    Cmp::Le => order.is_le(),
                    Cmp::Gt => order.is_gt(),
                    Cmp::Ge => order.is_ge(),
                    Cmp::Eq => order.is_eq(),
                    Cmp::Ne => order.is_ne(),
                }))
            }),
            BinaryOp::Assign | BinaryOp::UpdateMath(_) | BinaryOp::UpdateAlt => {
                let mut out = Vec::new();
                for value in self.outputs(right, input, names)? {
                    let change = |old: &Value| match operator {
                        BinaryOp::UpdateMath(math) => {
                            functions::arithmetic(self, *math, old, &value).map(Some)
                        }
                        BinaryOp::UpdateAlt if truthy(old) => Ok(Some(old.clone())),
                        _ => Ok(Some(value.clone())),
                    };
                    out.extend(self.one(paths::update(self, left, input, names, change)?)?);
                }
                Ok(out)
            }
            BinaryOp::Update => {
                // The first output counts; without one the place goes.
                let change = |old: &Value| Ok(self.outputs(right, old, names)?.into_iter().next());
                self.one(paths::update(self, left, input, names, change)?)
            }
        }
    }

    /// Every right output with every left one, as jq orders them.
    fn combined(
        &self,
        left: &Part<'_>,
        right: &Part<'_>,
        input: &Value,
        names: &Variables,
        work: impl Fn(&Value, &Value) -> Result<Value, Failure>,
    ) -> Outputs {
        let left = self.outputs(left, input, names)?;
        let mut out = Vec::new();
        for right in self.outputs(right, input, names)? {
            for left in &left {
                self.spend(cost(left) + cost(&right))?;
                out.extend(self.one(work(left, &right)?)?);
            }
        }
        Ok(out)
    }

    fn branches(
        &self,
        branches: &[(Part<'_>, Part<'_>)],
        otherwise: Option<&Part<'_>>,
        input: &Value,
        names: &Variables,
    ) -> Outputs {
        let Some(((condition, then), rest)) = branches.split_first() else {
            return match otherwise {
                Some(otherwise) => self.outputs(otherwise, input, names),
                None => self.one(input.clone()),
            };
        };
        let mut out = Vec::new();
        for value in self.outputs(condition, input, names)? {
            out.extend(match truthy(&value) {
                true => self.outputs(then, input, names)?,
                false => self.deeper(|| self.branches(rest, otherwise, input, names))?,
            });
        }
        Ok(out)
    }

    fn fold(
        &self,
        kind: &str,
        (over, pattern): (&Part<'_>, &Pattern<&str>),
        arguments: &[Part<'_>],
        input: &Value,
        names: &Variables,
    ) -> Outputs {
        let (init, update, extract) = match (kind, arguments) {
            ("reduce", [init, update]) | ("foreach", [init, update]) => (init, update, None),
            ("foreach", [init, update, extract]) => (init, update, Some(extract)),
            _ => return Err(Failure::Stopped(format!("{kind} does not take {} arguments", arguments.len()))),
        };
        let over = self.outputs(over, input, names)?;
        let mut out = Vec::new();
        for state in self.outputs(init, input, names)? {
            let mut state = Some(state);
            for value in &over {
                for names in self.bound(pattern, value, names)? {
                    // What gives nothing leaves null, and the last of several counts.
                    let next = self.outputs(update, &state.take().unwrap_or_default(), &names)?;
                    if kind == "foreach" {
                        for value in &next {
                            match extract {
                                Some(extract) => out.extend(self.outputs(extract, value, &names)?),
                                None => out.extend(self.one(value.clone())?),
                            }
                        }
                    }
                    state = next.into_iter().last();
                }
            }
            if kind == "reduce" {
                out.push(state.unwrap_or_default());
            }
        }
        Ok(out)
    }

    /// The variables that a pattern binds, once for each way.
    fn bound(
        &self,
        pattern: &Pattern<&str>,
        value: &Value,
        names: &Variables,
    ) -> Result<Vec<Variables>, Failure> {
        self.spend(1 + cost(value))?;
        let mut all = vec![names.clone()];
        match pattern {
            Pattern::Var(name) => return Ok(vec![names.with(name, value.clone())]),
            Pattern::Arr(parts) => {
                for (index, part) in parts.iter().enumerate() {
                    let item = paths::member(value, &Value::from(index))?;
                    let mut next = Vec::new();
                    for names in &all {
                        next.extend(self.deeper(|| self.bound(part, &item, names))?);
                    }
                    all = next;
                }
            }
            Pattern::Obj(parts) => {
                for (key, part) in parts {
                    let mut next = Vec::new();
                    for names in &all {
                        for key in self.outputs(key, value, names)? {
                            let member = paths::member(value, &key)?;
                            next.extend(self.deeper(|| self.bound(part, &member, names))?);
                        }
                    }
                    all = next;
                }
            }
        }
        Ok(all)
    }
}

/// The parts of a chain of one operator, however its reader put them together.
fn chain<'t, 'q>(ends: &[&'t Part<'q>], same: fn(&BinaryOp<&'q str>) -> bool) -> Vec<&'t Part<'q>> {
    let (mut open, mut out) = (ends.to_vec(), Vec::new());
    open.reverse();
    while let Some(term) = open.pop() {
        match term {
            Term::BinOp(left, operator, right) if same(operator) => open.extend([right.as_ref(), left]),
            other => out.push(other),
        }
    }
    out
}

/// What a value counts: its parts, and its texts by their length.
pub(super) fn cost(value: &Value) -> usize {
    cost_at(value, 0)
}

/// What an object counts.
fn cost_of(object: &Map<String, Value>) -> usize {
    1 + object.iter().map(|(key, value)| key.len() / 16 + cost(value)).sum::<usize>()
}

/// One that is nested too deep costs more than there is.
fn cost_at(value: &Value, depth: usize) -> usize {
    if depth > MAX_NESTING {
        return MAX_COST + 1;
    }
    let inner = |value: &Value| cost_at(value, depth + 1);
    1 + match value {
        Value::String(text) => text.len() / 16,
        Value::Array(items) => items.iter().map(inner).sum(),
        Value::Object(entries) => entries.iter().map(|(key, value)| key.len() / 16 + inner(value)).sum(),
        _ => 0,
    }
}

/// Everything but `false` and `null`.
pub(super) fn truthy(value: &Value) -> bool {
    !matches!(value, Value::Null | Value::Bool(false))
}

/// A text that is not too long.
pub(super) fn text(text: String) -> Result<Value, Failure> {
    if text.len() > MAX_TEXT {
        return Err(Failure::Stopped(format!("a text of {} bytes; at most {MAX_TEXT}", text.len())));
    }
    Ok(Value::String(text))
}

/// A list that is not too long.
pub(super) fn list(items: Vec<Value>) -> Result<Value, Failure> {
    if items.len() > MAX_ITEMS {
        return Err(Failure::Stopped(format!("a list of {} items; at most {MAX_ITEMS}", items.len())));
    }
    Ok(Value::Array(items))
}

/// As a text: one as it is, everything else as JSON.
pub(super) fn told(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

pub(super) fn formatted(format: &str, value: &Value) -> Result<String, Failure> {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    let row = |between: &str, word: &dyn Fn(&Value) -> String| {
        let items = value.as_array().ok_or_else(|| raised(format!("{format} wants a list")))?;
        Ok(items.iter().map(word).collect::<Vec<_>>().join(between))
    };
    match format {
        "@text" => Ok(told(value)),
        "@json" => Ok(value.to_string()),
        "@base64" => Ok(STANDARD.encode(told(value))),
        "@base64d" => {
            let bytes = STANDARD.decode(told(value)).map_err(|_| raised("@base64d: no base64"))?;
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        }
        "@uri" => Ok(escaped(&told(value))),
        "@sh" if value.is_array() => {
            row(" ", &|item| if item.is_string() { quote(&told(item)) } else { told(item) })
        }
        "@sh" => Ok(if value.is_string() { quote(&told(value)) } else { told(value) }),
        "@csv" => row(",", &|item| match item {
            Value::String(text) => format!("\"{}\"", text.replace('"', "\"\"")),
            Value::Null => String::new(),
            other => other.to_string(),
        }),
        "@tsv" => row("\t", &|item| match item {
            Value::String(text) => {
                text.replace('\\', "\\\\").replace('\t', "\\t").replace('\n', "\\n").replace('\r', "\\r")
            }
            Value::Null => String::new(),
            other => other.to_string(),
        }),
        "@html" => Ok(told(value)
            .replace('&', "&amp;")
            .replace('<', "&lt;")
            .replace('>', "&gt;")
            .replace('\'', "&#39;")
            .replace('"', "&quot;")),
        other => Err(Failure::Stopped(format!("there is no format {other}"))),
    }
}

/// Percent encoding of everything that RFC 3986 does not call unreserved.
fn escaped(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
    out
}
