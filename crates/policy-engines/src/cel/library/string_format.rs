//! `"…%s…".format([…])` (cel-go `ext/formatting.go`, the version with the `en_US` locale).

use crate::cel::error::EvalError;
use crate::cel::value::{List, Value};
use crate::cel::{time, work};

use super::conversions;

type Out<T> = std::result::Result<T, EvalError>;

/// Digits after the point, when none are asked for.
const PRECISION: usize = 6;
/// More digits say nothing; bounds what a format makes.
const MAX_PRECISION: usize = 1_000;

/// Fills in the clauses.
pub(super) fn format(text: &str, args: &List<'_>) -> Out<String> {
    let mut out = String::new();
    let mut rest = text;
    let mut next = 0;
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('%') {
            out.push('%');
            rest = after;
            continue;
        }
        if next >= args.len() {
            return Err(EvalError::new(format!("index {next} out of range")));
        }
        let (precision, after) = precision(rest)?;
        let Some(verb) = after.chars().next() else {
            return Err(EvalError::new("unexpected end of string"));
        };
        let value = args.item(next)?;
        let written = clause(verb, precision, &value)
            .map_err(|error| if error.is_stop() { error } else { during(&error.to_string(), verb) })?;
        work::spend(written.len())?;
        out.push_str(&written);
        rest = &after[verb.len_utf8()..];
        next += 1;
    }
    out.push_str(rest);
    Ok(out)
}

fn during(what: &str, verb: char) -> EvalError {
    let stage = if "sdfebxXo".contains(verb) {
        "error during formatting"
    } else {
        "could not parse formatting clause"
    };
    EvalError::new(format!("{stage}: {what}"))
}

fn precision(rest: &str) -> Out<(Option<usize>, &str)> {
    let Some(after) = rest.strip_prefix('.') else { return Ok((None, rest)) };
    let length = after.bytes().take_while(u8::is_ascii_digit).count();
    if length == after.len() {
        return Err(EvalError::new(
            "could not parse formatting clause: error while parsing precision: could not find end of precision specifier",
        ));
    }
    let digits: Option<usize> = after[..length].parse().ok().filter(|digits| *digits <= MAX_PRECISION);
    let digits = digits.ok_or_else(|| {
        EvalError::new("could not parse formatting clause: error while parsing precision: error while converting precision to integer")
    })?;
    Ok((Some(digits), &after[length..]))
}

fn clause(verb: char, precision: Option<usize>, value: &Value<'_>) -> Out<String> {
    let wrong = |what: &str| Err(EvalError::new(format!("{what}, was given {}", value.type_name())));
    match verb {
        's' => string(value),
        'd' => match value {
            Value::Int(number) => Ok(number.to_string()),
            Value::Uint(number) => Ok(number.to_string()),
            _ => wrong("decimal clause can only be used on integers"),
        },
        'f' => match double(value) {
            Some(number) => Ok(fixed(number, precision.unwrap_or(PRECISION))),
            None => wrong("fixed-point clause can only be used on doubles"),
        },
        'e' => match double(value) {
            Some(number) => Ok(scientific(number, precision.unwrap_or(PRECISION))),
            None => wrong("scientific clause can only be used on doubles"),
        },
        'b' => match value {
            Value::Int(number) => Ok(signed(*number, |digits| format!("{digits:b}"))),
            Value::Uint(number) => Ok(format!("{number:b}")),
            Value::Bool(value) => Ok(u8::from(*value).to_string()),
            _ => wrong("only integers and bools can be formatted as binary"),
        },
        'o' => match value {
            Value::Int(number) => Ok(signed(*number, |digits| format!("{digits:o}"))),
            Value::Uint(number) => Ok(format!("{number:o}")),
            _ => wrong("octal clause can only be used on integers"),
        },
        'x' | 'X' => {
            let lower = match value {
                Value::Int(number) => signed(*number, |digits| format!("{digits:x}")),
                Value::Uint(number) => format!("{number:x}"),
                Value::String(text) => hex(text.as_str().as_bytes()),
                Value::Bytes(bytes) => hex(bytes),
                _ => return wrong("only integers, byte buffers, and strings can be formatted as hex"),
            };
            Ok(if verb == 'X' { lower.to_uppercase() } else { lower })
        }
        other => Err(EvalError::new(format!("unrecognized formatting clause \"{other}\""))),
    }
}

fn signed(number: i64, digits: impl Fn(u64) -> String) -> String {
    let sign = if number < 0 { "-" } else { "" };
    format!("{sign}{}", digits(number.unsigned_abs()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn double(value: &Value<'_>) -> Option<f64> {
    match value {
        Value::Double(number) => Some(*number),
        Value::String(text) => match text.as_str() {
            "NaN" => Some(f64::NAN),
            "Infinity" => Some(f64::INFINITY),
            "-Infinity" => Some(f64::NEG_INFINITY),
            _ => None,
        },
        _ => None,
    }
}

fn not_finite(number: f64) -> Option<String> {
    if number.is_nan() {
        return Some("NaN".to_owned());
    }
    number.is_infinite().then(|| if number > 0.0 { "∞".to_owned() } else { "-∞".to_owned() })
}

fn fixed(number: f64, precision: usize) -> String {
    if let Some(written) = not_finite(number) {
        return written;
    }
    let plain = format!("{:.precision$}", number.abs());
    let (whole, fraction) = plain.split_once('.').unwrap_or((&plain, ""));
    let mut grouped = String::new();
    for (index, digit) in whole.chars().enumerate() {
        if index > 0 && (whole.len() - index) % 3 == 0 {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    let sign = if number.is_sign_negative() && number != 0.0 { "-" } else { "" };
    let point = if fraction.is_empty() { "" } else { "." };
    format!("{sign}{grouped}{point}{fraction}")
}

fn scientific(number: f64, precision: usize) -> String {
    const SUPERSCRIPT: [char; 10] = ['⁰', '¹', '²', '³', '⁴', '⁵', '⁶', '⁷', '⁸', '⁹'];
    if let Some(written) = not_finite(number) {
        return written;
    }
    let plain = format!("{number:.precision$e}");
    let (mantissa, exponent) = plain.split_once('e').unwrap_or((&plain, "0"));
    let (sign, digits) = match exponent.strip_prefix('-') {
        Some(digits) => ("⁻", digits),
        None => ("", exponent),
    };
    let raised: String = format!("{digits:0>2}")
        .chars()
        .filter_map(|digit| SUPERSCRIPT.get(digit.to_digit(10)? as usize).copied())
        .collect();
    format!("{mantissa}×10{sign}{raised}")
}

fn string(value: &Value<'_>) -> Out<String> {
    match value {
        Value::Null => Ok("null".to_owned()),
        Value::List(_) | Value::Map(_) => nested(value),
        Value::Library(_) | Value::Object(_) | Value::Optional(_) | Value::Opaque(_) => {
            Err(EvalError::new(format!(
                "string clause can only be used on strings, bools, bytes, ints, doubles, maps, lists, types, durations, and timestamps, was given {}",
                value.type_name()
            )))
        }
        simple => match conversions::to_string(simple)? {
            Value::String(text) => Ok(text.as_str().to_owned()),
            other => Ok(crate::cel::value::shown(&other)),
        },
    }
}

/// A value within a list or map, as a literal.
fn nested(value: &Value<'_>) -> Out<String> {
    work::spend(1)?;
    Ok(match value {
        Value::String(text) => format!("{:?}", text.as_str()),
        Value::Bytes(bytes) => format!("b{:?}", String::from_utf8_lossy(bytes)),
        Value::Double(number) if number.is_finite() => format!("{number:.PRECISION$}"),
        Value::Double(number) => format!("{:?}", conversions::written_double(*number)),
        Value::Timestamp(at) => format!("timestamp({:?})", at.written()),
        Value::Duration(nanos) => format!("duration({:?})", time::written_duration(*nanos)),
        Value::List(list) => {
            let items = list.iter().map(|item| nested(&item?)).collect::<Out<Vec<_>>>()?;
            format!("[{}]", items.join(", "))
        }
        Value::Map(map) => {
            let pair = |(key, value): &(Value<'_>, Value<'_>)| Ok((nested(key)?, nested(value)?));
            let mut pairs = map.entries()?.iter().map(pair).collect::<Out<Vec<_>>>()?;
            pairs.sort();
            let pairs: Vec<String> = pairs.into_iter().map(|(key, value)| format!("{key}:{value}")).collect();
            format!("{{{}}}", pairs.join(", "))
        }
        Value::Library(_) | Value::Object(_) | Value::Optional(_) | Value::Opaque(_) => {
            return Err(EvalError::new(format!("no formatting function for {}", value.type_name())));
        }
        simple => string(simple)?,
    })
}
