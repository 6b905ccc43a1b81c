//! `matches`, `find` and `findAll`.

use regex::Regex;

use super::{Implementation, no_overload};
use crate::cel::error::EvalError;
use crate::cel::patterns::compile;
use crate::cel::value::{Result, Value, texts};
use crate::cel::work;

pub(super) fn find(function: &str) -> Option<Implementation> {
    Some(match function {
        "matches" => |args| compiled("matches", args),
        "find" => |args| compiled("find", args),
        "findAll" => |args| compiled("findAll", args),
        _ => return None,
    })
}

/// What compiling a pattern while the expression runs is worth in steps, beside its length.
const COMPILE_STEPS: usize = 1_000;

fn compiled<'a>(function: &str, args: &[Value<'a>]) -> Result<'a> {
    let Some(Value::String(pattern)) = args.get(1) else { return no_overload() };
    work::spend(COMPILE_STEPS + 16 * pattern.as_str().len())?;
    let pattern = compile(pattern.as_str()).map_err(EvalError::new)?;
    apply(function, &pattern, args)
}

pub(super) fn apply<'a>(function: &str, pattern: &Regex, args: &[Value<'a>]) -> Result<'a> {
    let Some(Value::String(text)) = args.first() else { return no_overload() };
    let text = text.as_str();
    work::spend(text.len())?;
    Ok(match (function, args.get(2)) {
        ("matches", None) => Value::Bool(pattern.is_match(text)),
        ("find", None) => Value::text(pattern.find(text).map_or("", |found| found.as_str())),
        ("findAll", limit) => {
            let limit = match limit {
                None => usize::MAX,
                Some(Value::Int(limit)) => usize::try_from(*limit).unwrap_or(usize::MAX),
                Some(_) => return no_overload(),
            };
            texts(pattern.find_iter(text).take(limit).map(|found| found.as_str()))
        }
        _ => return no_overload(),
    })
}
