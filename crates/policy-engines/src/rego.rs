//! Rego, by the `regorus` crate, whose API is used in this module alone.
//!
//! * [`format`](mod@format): what `sprintf` writes.
//! * [`mend`]: what the Open Policy Agent reads and the engine does not.
//! * [`names`]: what modules define and call, looked at before anything runs.
//!
//! What users write runs in bounds: [`TIME_LIMIT`] for each evaluation (a program that overran it [`MAX_OVERRUNS`] times is
//! not run any more), [`MAX_SOURCE`] bytes, [`names::MAX_DEPTH`] calls within one another and no recursion, lists from
//! `numbers.range` of [`MAX_RANGE`]. Memory is bounded by the time alone.
//!
//! Nothing is read from outside: no HTTP, no environment, no files, no clock.
//!
//! Must never: take a program that did not end, or that calls what is not there, for one that found nothing.

mod format;
mod mend;
mod names;

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use regorus::utils::limits::ExecutionTimerConfig;
use regorus::{Engine, Value};
use serde::Deserialize as _;
use serde_json::Value as Json;

/// What one evaluation may take: some thousand times what policies on one object take.
const TIME_LIMIT: Duration = Duration::from_millis(200);
/// Steps between two looks at the clock; a step takes some microseconds.
const LOOK_EVERY: NonZeroU32 = NonZeroU32::new(64).unwrap();
/// Evaluations that may overrun before a program is given up: it would hold up all others again and again.
const MAX_OVERRUNS: u32 = 5;
/// Bytes of a program with its libraries. Gatekeeper's own largest has 12 kB.
const MAX_SOURCE: usize = 256 * 1024;
/// Elements of a list that `numbers.range` makes: more cannot be looked at within the time.
const MAX_RANGE: i64 = 100_000;
/// Violations of one evaluation that are kept.
const MAX_VIOLATIONS: usize = 100;
/// Functions of ours in place of the engine's, which know no bound, with the number of their arguments. The engine calls them
/// with exactly these: where the result is written as a last argument it would take them for without a value.
const OWN: [(&str, u8); 3] = [("numbers.range", 2), ("numbers.range_step", 3), ("sprintf", 2)];
/// Functions that could make a number of any length at once.
const REFUSED: [&str; 1] = ["bits.lsh"];
/// The name of a template's own module; libraries are numbered.
const MODULE: &str = "template.rego";

/// Why a program cannot be used, or did not end.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RegoError {
    /// The text is too long.
    #[error("the Rego has more than {MAX_SOURCE} bytes")]
    TooLarge,
    /// It is no Rego, or nothing that can be run.
    #[error("the Rego does not compile: {0}")]
    Compile(String),
    /// There is nothing to ask for.
    #[error("the Rego has no rule violation")]
    NoViolation,
    /// A function is not there.
    #[error("the Rego calls {0}, which is not there")]
    UnknownFunction(String),
    /// A function with another number of arguments than it has.
    #[error(
        "the Rego calls {name} with {given} arguments; it has {wanted}, and its result is what the call stands for"
    )]
    Arguments {
        /// The function.
        name: String,
        /// How many there are.
        given: usize,
        /// How many there should be.
        wanted: usize,
    },
    /// A function calls itself.
    #[error("the Rego's function {0} calls itself")]
    Recursion(String),
    /// Too many calls within one another.
    #[error("the Rego's rules need one another more than {} deep", names::MAX_DEPTH)]
    TooDeep,
    /// It ran into the limit.
    #[error("the Rego did not end within {} ms", TIME_LIMIT.as_millis())]
    OutOfTime,
    /// It failed.
    #[error("the Rego failed: {0}")]
    Failed(String),
    /// What it found is not what a violation looks like.
    #[error("a violation is an object with a text msg")]
    Shape,
}

/// A JSON document as Rego sees it. Clones share it.
#[derive(Clone, Debug)]
pub struct Document(Value);

impl Document {
    /// Of JSON.
    #[must_use]
    pub fn of(json: &Json) -> Self {
        // Every JSON value is a value of Rego.
        Self(Value::deserialize(json).unwrap_or(Value::Undefined))
    }

    /// A map of documents.
    #[must_use]
    pub fn map(entries: impl IntoIterator<Item = (String, Self)>) -> Self {
        let entries = entries.into_iter().map(|(key, Self(value))| (Value::from(key), value));
        Self(Value::from(entries.collect::<BTreeMap<_, _>>()))
    }
}

/// A text in Rego.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Source {
    /// The module with the rule `violation`.
    pub rego: String,
    /// Modules that it imports.
    pub libs: Vec<String>,
    /// Whether it is written in version 1 of the language; otherwise in version 0.
    pub v1: bool,
}

/// What a program says of an input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// For people.
    pub message: String,
}

/// A compiled program.
pub struct Program {
    engine: Mutex<Engine>,
    rule: String,
    overruns: AtomicU32,
    /// Whether it looks at what else there is.
    referential: bool,
}

impl std::fmt::Debug for Program {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Program").field("rule", &self.rule).finish_non_exhaustive()
    }
}

/// An error of regorus in one line.
fn line(error: &impl std::fmt::Display) -> String {
    let text = error.to_string();
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('|'));
    lines.collect::<Vec<_>>().join(" ")
}

fn number(value: &Value) -> Option<i64> {
    value.as_i64().ok()
}

/// `numbers.range` and `numbers.range_step` within bounds.
fn range(arguments: &[Value]) -> Option<Value> {
    let (from, to) = (number(arguments.first()?)?, number(arguments.get(1)?)?);
    let step = arguments.get(2).map_or(Some(1), number)?;
    let length = i128::from(to).abs_diff(i128::from(from));
    if step <= 0 || length > u128::try_from(MAX_RANGE).ok()?.checked_mul(u128::try_from(step).ok()?)? {
        return None;
    }
    let mut values = Vec::new();
    let mut next = Some(from);
    while let Some(value) = next.filter(|value| if from <= to { *value <= to } else { *value >= to }) {
        values.push(Value::from(value));
        next = if from <= to { value.checked_add(step) } else { value.checked_sub(step) };
    }
    Some(Value::from(values))
}

fn sprintf(arguments: &[Value]) -> Option<Value> {
    let [Value::String(format), Value::Array(arguments)] = arguments else { return None };
    let arguments: Vec<Value> = arguments.iter().cloned().collect();
    format::sprintf(format, &arguments).map(Value::from)
}

fn engine(v1: bool) -> Result<Engine, RegoError> {
    let mut engine = Engine::new();
    engine.set_rego_v0(!v1);
    engine.set_gather_prints(true);
    engine.set_execution_timer_config(ExecutionTimerConfig { limit: TIME_LIMIT, check_interval: LOOK_EVERY });
    for (name, arguments) in OWN {
        let called = move |arguments: Vec<Value>| {
            let value = if name == "sprintf" { sprintf(&arguments) } else { range(&arguments) };
            Ok(value.unwrap_or(Value::Undefined))
        };
        let added = engine.add_extension(name.to_owned(), arguments, Box::new(called));
        added.map_err(|error| RegoError::Compile(line(&error)))?;
    }
    Ok(engine)
}

/// Whether the engine has a function: it says differently that it has none and that the arguments are wrong.
fn is_there(engine: &mut Engine, function: &str) -> bool {
    match engine.eval_query(format!("{function}()"), false) {
        Ok(_) => true,
        Err(error) => !error.to_string().contains("could not find function"),
    }
}

impl Program {
    /// Compiles a text and looks through all of it.
    ///
    /// # Errors
    /// The first thing that keeps it from being run.
    pub fn compile(source: &Source) -> Result<Self, RegoError> {
        let texts = || std::iter::once(&source.rego).chain(&source.libs);
        if texts().map(String::len).sum::<usize>() > MAX_SOURCE {
            return Err(RegoError::TooLarge);
        }
        let texts: Vec<String> = texts().map(|text| mend::mended(text)).collect();
        let used = names::check(&texts)?;
        let mut asked = engine(source.v1)?;
        asked.set_strict_builtin_errors(true);
        let missing = |name: &&String| REFUSED.contains(&name.as_str()) || !is_there(&mut asked, name);
        if let Some(unknown) = used.functions.iter().find(missing) {
            return Err(RegoError::UnknownFunction(unknown.clone()));
        }
        let mut engine = engine(source.v1)?;
        // As the Open Policy Agent does: a built-in function that fails has no value.
        engine.set_strict_builtin_errors(false);
        let failed = |error| RegoError::Compile(line(&error));
        let mut packages = Vec::new();
        for (index, text) in texts.into_iter().enumerate() {
            let module = if index == 0 { MODULE.to_owned() } else { format!("lib{index}.rego") };
            packages.push(engine.add_policy(module, text).map_err(failed)?);
        }
        if !engine.has_declared_rule_rooted_at(MODULE, "violation").map_err(failed)? {
            return Err(RegoError::NoViolation);
        }
        // What is wrong beyond the grammar is said when it runs for the first time.
        let rule = format!("{}.violation", packages.first().map(String::as_str).unwrap_or_default());
        engine.set_input(Value::new_object());
        engine.eval_rule(rule.clone()).map_err(failed)?;
        Ok(Self {
            engine: Mutex::new(engine),
            rule,
            overruns: AtomicU32::new(0),
            referential: used.referential,
        })
    }

    /// Whether it looks at `data.inventory`.
    #[must_use]
    pub fn is_referential(&self) -> bool {
        self.referential
    }

    /// What `data.inventory` is from now on.
    ///
    /// # Errors
    /// When it cannot be taken.
    pub fn set_inventory(&self, inventory: &Document) -> Result<(), RegoError> {
        let data = Document::map([("inventory".to_owned(), inventory.clone())]);
        let mut engine = self.engine.lock().unwrap_or_else(PoisonError::into_inner);
        engine.clear_data();
        engine.add_data(data.0).map_err(|error| RegoError::Failed(line(&error)))
    }

    /// What it finds in an object (`input.review`) by what somebody asks (`input.parameters`), in the order of the set.
    ///
    /// # Errors
    /// When that was not found out.
    pub fn violations(&self, review: &Document, parameters: &Document) -> Result<Vec<Violation>, RegoError> {
        if self.overruns.load(Ordering::Relaxed) >= MAX_OVERRUNS {
            return Err(RegoError::OutOfTime);
        }
        let input = [("review".to_owned(), review.clone()), ("parameters".to_owned(), parameters.clone())];
        let mut engine = self.engine.lock().unwrap_or_else(PoisonError::into_inner);
        engine.set_input(Document::map(input).0);
        let began = Instant::now();
        let found = engine.eval_rule(self.rule.clone());
        let took = began.elapsed();
        engine.set_input(Value::new_object());
        let _ = engine.take_prints();
        // An error within a function is no error of what calls it: the clock decides, not what was answered.
        if took >= TIME_LIMIT {
            self.overruns.fetch_add(1, Ordering::Relaxed);
            return Err(RegoError::OutOfTime);
        }
        let found = found.map_err(|error| RegoError::Failed(line(&error)))?;
        read(&found)
    }
}

fn read(found: &Value) -> Result<Vec<Violation>, RegoError> {
    let all: Vec<&Value> = match found {
        Value::Undefined => Vec::new(),
        Value::Set(set) => set.iter().take(MAX_VIOLATIONS).collect(),
        Value::Array(array) => array.iter().take(MAX_VIOLATIONS).collect(),
        _ => return Err(RegoError::Shape),
    };
    let message = |one: &Value| match &one["msg"] {
        Value::String(text) => Ok(Violation { message: text.as_ref().to_owned() }),
        _ => Err(RegoError::Shape),
    };
    all.into_iter().map(message).collect()
}

#[cfg(test)]
mod tests;
