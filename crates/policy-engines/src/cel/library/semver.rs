//! Semantic versions (semver.org 2.0), strict unless asked to normalize.

use std::cmp::Ordering;

use super::{Implementation, fail, no_overload};
use crate::cel::error::EvalError;
use crate::cel::value::{Library, Value};

/// A version.
#[derive(Clone, Debug)]
pub(crate) struct Semver {
    numbers: [u64; 3],
    pre_release: Vec<String>,
}

pub(super) fn find(function: &str) -> Option<Implementation> {
    Some(match function {
        "semver" => |args| match parse(args)? {
            Ok(version) => Ok(Value::library(Library::Semver(version))),
            Err(why) => fail(why),
        },
        "isSemver" => |args| Ok(Value::Bool(parse(args)?.is_ok())),
        "major" => |args| number(args, 0),
        "minor" => |args| number(args, 1),
        "patch" => |args| number(args, 2),
        _ => return None,
    })
}

fn number<'a>(args: &[Value<'a>], index: usize) -> crate::cel::value::Result<'a> {
    match args {
        [Value::Library(library)] => match &**library {
            Library::Semver(version) => {
                Ok(Value::Int(i64::try_from(version.numbers[index]).unwrap_or(i64::MAX)))
            }
            _ => no_overload(),
        },
        _ => no_overload(),
    }
}

fn parse(args: &[Value<'_>]) -> Result<Result<Semver, String>, EvalError> {
    match args {
        [Value::String(text)] | [Value::String(text), Value::Bool(false)] => Ok(Semver::parse(text.as_str())),
        [Value::String(text), Value::Bool(true)] => Ok(Semver::normalized(text.as_str())),
        _ => Err(EvalError::no_such_overload()),
    }
}

impl Semver {
    fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("Version string empty".to_owned());
        }
        let parts: Vec<&str> = text.splitn(3, '.').collect();
        let [major, minor, rest] = parts[..] else {
            return Err("No Major.Minor.Patch elements found".to_owned());
        };
        let (rest, build) = match rest.split_once('+') {
            Some((rest, build)) => (rest, Some(build)),
            None => (rest, None),
        };
        let (patch, pre) = match rest.split_once('-') {
            Some((patch, pre)) => (patch, Some(pre)),
            None => (rest, None),
        };
        let numbers = [
            whole("major", "Major", major)?,
            whole("minor", "Minor", minor)?,
            whole("patch", "Patch", patch)?,
        ];
        let pre_release = pre.map_or(Ok(Vec::new()), |pre| identifiers(pre, "prerelease", true))?;
        if let Some(build) = build {
            identifiers(build, "build meta data", false)?;
        }
        Ok(Self { numbers, pre_release })
    }

    /// Takes a leading `v`, missing parts and leading zeros.
    fn normalized(text: &str) -> Result<Self, String> {
        let text = text.strip_prefix('v').unwrap_or(text);
        let mut parts: Vec<String> = text.splitn(3, '.').map(ToOwned::to_owned).collect();
        let count = parts.len();
        for (index, part) in parts.iter_mut().enumerate() {
            let length = if index == 2 { part.find(['-', '+']).unwrap_or(part.len()) } else { part.len() };
            let digits = part[..length].trim_start_matches('0').to_owned();
            let rest = part[length..].to_owned();
            *part = format!("{}{rest}", if digits.is_empty() { "0".to_owned() } else { digits });
        }
        if count < 3 {
            if parts.last().is_some_and(|last| last.contains(['+', '-'])) {
                return Err("short version cannot contain PreRelease/Build meta data".to_owned());
            }
            parts.resize(3, "0".to_owned());
        }
        Self::parse(&parts.join("."))
    }

    /// Order by precedence; build data says nothing.
    pub(crate) fn compare(&self, other: &Self) -> Ordering {
        let by_numbers = self.numbers.cmp(&other.numbers);
        if by_numbers != Ordering::Equal {
            return by_numbers;
        }
        match (self.pre_release.is_empty(), other.pre_release.is_empty()) {
            (true, true) => Ordering::Equal,
            (true, false) => Ordering::Greater,
            (false, true) => Ordering::Less,
            (false, false) => compare_pre_releases(&self.pre_release, &other.pre_release),
        }
    }
}

fn compare_pre_releases(a: &[String], b: &[String]) -> Ordering {
    for (a, b) in a.iter().zip(b) {
        let order = match (a.parse::<u64>(), b.parse::<u64>()) {
            (Ok(a), Ok(b)) => a.cmp(&b),
            (Ok(_), Err(_)) => Ordering::Less,
            (Err(_), Ok(_)) => Ordering::Greater,
            (Err(_), Err(_)) => a.cmp(b),
        };
        if order != Ordering::Equal {
            return order;
        }
    }
    a.len().cmp(&b.len())
}

fn whole(name: &str, title: &str, text: &str) -> Result<u64, String> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(format!("Invalid character(s) found in {name} number {text:?}"));
    }
    if text.len() > 1 && text.starts_with('0') {
        return Err(format!("{title} number must not contain leading zeroes {text:?}"));
    }
    text.parse().map_err(|_| format!("strconv.ParseUint: parsing {text:?}: value out of range"))
}

fn identifiers(text: &str, what: &str, strict: bool) -> Result<Vec<String>, String> {
    let check = |part: &str| {
        let numeric = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        if part.is_empty() {
            let what = if strict { "Prerelease is empty" } else { "Build meta data is empty" };
            return Err(what.to_owned());
        }
        if strict && numeric && part.len() > 1 && part.starts_with('0') {
            return Err(format!("Numeric PreRelease version must not contain leading zeroes {part:?}"));
        }
        if !part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
            return Err(format!("Invalid character(s) found in {what} {part:?}"));
        }
        Ok(part.to_owned())
    };
    text.split('.').map(check).collect()
}
