//! `sprintf` as Go formats, which the engine's own does not where numbers of verbs and arguments differ, and in bounds.
//!
//! As the Open Policy Agent does: whole numbers are `int`, others `float64`, texts `string`; everything else is formatted as the
//! text that Rego writes it as.

use regorus::Value;

/// Bytes of what is made: a message has some hundred.
const MAX_LENGTH: usize = 64 * 1024;
/// Widths and precisions beyond this are left out.
const MAX_WIDTH: usize = 1000;

enum Argument {
    Int(i64),
    Float(f64),
    Text(String),
}

/// How a verb is to be filled in.
#[derive(Default)]
struct Form {
    left: bool,
    plus: bool,
    zero: bool,
    width: usize,
    precision: Option<usize>,
}

/// The text; `None`: it would be too long.
pub(super) fn sprintf(format: &str, arguments: &[Value]) -> Option<String> {
    let mut arguments = arguments.iter().map(argument);
    let mut out = String::new();
    let mut rest = format.chars().peekable();
    while let Some(c) = rest.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut form = Form::default();
        while let Some(flag) = rest.next_if(|c| "-+0# ".contains(*c)) {
            form.left |= flag == '-';
            form.plus |= flag == '+';
            form.zero |= flag == '0';
        }
        let digits = |rest: &mut std::iter::Peekable<std::str::Chars<'_>>| {
            let mut number = 0_usize;
            while let Some(digit) = rest.peek().and_then(|c| c.to_digit(10)) {
                rest.next();
                number = number.saturating_mul(10).saturating_add(usize::try_from(digit).unwrap_or_default());
            }
            if number > MAX_WIDTH { 0 } else { number }
        };
        form.width = digits(&mut rest);
        if rest.next_if_eq(&'.').is_some() {
            form.precision = Some(digits(&mut rest));
        }
        match rest.next() {
            None => out.push_str("%!(NOVERB)"),
            Some('%') => out.push('%'),
            Some(verb) => match arguments.next() {
                None => out.push_str(&format!("%!{verb}(MISSING)")),
                Some(argument) => out.push_str(&formatted(&argument, verb, &form)),
            },
        }
        if out.len() > MAX_LENGTH {
            return None;
        }
    }
    let extra: Vec<String> = arguments.map(|argument| typed(&argument)).collect();
    if !extra.is_empty() {
        out.push_str(&format!("%!(EXTRA {})", extra.join(", ")));
    }
    (out.len() <= MAX_LENGTH).then_some(out)
}

fn argument(value: &Value) -> Argument {
    match value {
        Value::String(text) => Argument::Text(text.as_ref().to_owned()),
        Value::Number(_) => match (value.as_i64(), value.as_f64()) {
            (Ok(whole), _) => Argument::Int(whole),
            (Err(_), Ok(float)) if float.fract() != 0.0 => Argument::Float(float),
            _ => Argument::Text(value.to_string()),
        },
        other => Argument::Text(written(other)),
    }
}

/// As Rego writes a value.
fn written(value: &Value) -> String {
    let list = |values: &mut dyn Iterator<Item = &Value>| values.map(written).collect::<Vec<_>>().join(", ");
    match value {
        Value::Array(array) => format!("[{}]", list(&mut array.iter())),
        Value::Set(set) if set.is_empty() => "set()".to_owned(),
        Value::Set(set) => format!("{{{}}}", list(&mut set.iter())),
        Value::Object(object) => {
            let entries = object.iter().map(|(key, value)| format!("{}: {}", written(key), written(value)));
            format!("{{{}}}", entries.collect::<Vec<_>>().join(", "))
        }
        other => other.to_string(),
    }
}

/// A number as Go's `%v` shows it: with an exponent where it is very large or small.
fn float(value: f64) -> String {
    let size = value.abs();
    if size != 0.0 && !(1e-4..1e21).contains(&size) {
        let text = format!("{value:e}");
        let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let (sign, exponent) = exponent.strip_prefix('-').map_or(('+', exponent), |exponent| ('-', exponent));
        return format!("{digits}e{sign}{exponent:0>2}");
    }
    value.to_string()
}

fn typed(argument: &Argument) -> String {
    match argument {
        Argument::Int(whole) => format!("int={whole}"),
        Argument::Float(value) => format!("float64={}", float(*value)),
        Argument::Text(text) => format!("string={text}"),
    }
}

fn formatted(argument: &Argument, verb: char, form: &Form) -> String {
    let signed = |text: String| if form.plus && !text.starts_with('-') { format!("+{text}") } else { text };
    let cut =
        |text: &str| form.precision.map_or_else(|| text.to_owned(), |most| text.chars().take(most).collect());
    let (text, is_number) = match (argument, verb) {
        (Argument::Int(whole), 'v' | 'd') => (signed(whole.to_string()), true),
        (Argument::Int(whole), 'x') => (format!("{whole:x}"), true),
        (Argument::Int(whole), 'X') => (format!("{whole:X}"), true),
        (Argument::Int(whole), 'o') => (format!("{whole:o}"), true),
        (Argument::Int(whole), 'b') => (format!("{whole:b}"), true),
        (Argument::Float(value), 'v' | 'g') if form.precision.is_none() => (signed(float(*value)), true),
        (Argument::Float(value), 'f' | 'F' | 'v' | 'g') => {
            (signed(format!("{value:.*}", form.precision.unwrap_or(6))), true)
        }
        (Argument::Text(text), 'v' | 's') => (cut(text), false),
        (Argument::Text(text), 'q') => (format!("{:?}", cut(text)), false),
        (Argument::Text(text), 'x') => (text.bytes().map(|byte| format!("{byte:02x}")).collect(), false),
        (other, verb) => return format!("%!{verb}({})", typed(other)),
    };
    let lacking = form.width.saturating_sub(text.chars().count());
    if form.left {
        return text + &" ".repeat(lacking);
    }
    if form.zero && is_number {
        let (sign, digits) = text.split_at(usize::from(text.starts_with(['-', '+'])));
        return format!("{sign}{}{digits}", "0".repeat(lacking));
    }
    " ".repeat(lacking) + &text
}

#[cfg(test)]
mod tests {
    use serde::Deserialize as _;
    use serde_json::{Value as Json, json};

    use super::*;

    fn shown(format: &str, arguments: &Json) -> Option<String> {
        let values = arguments.as_array().expect("a list").iter();
        let values: Vec<Value> = values.map(|json| Value::deserialize(json).expect("a value")).collect();
        sprintf(format, &values)
    }

    #[test]
    fn texts_are_what_go_makes_of_them() {
        let cases = [
            ("%v <%v>: %v", json!(["a", 1, 1.5]), "a <1>: 1.5"),
            ("%s %d %%", json!(["a", -3]), "a -3 %"),
            (
                "%v %v %v %v",
                json!([true, null, ["a", 1], {"k": {"l": "m"}}]),
                "true null [\"a\", 1] {\"k\": {\"l\": \"m\"}}",
            ),
            ("%5d|%-5d|%05d|%+d", json!([42, 42, -42, 42]), "   42|42   |-0042|+42"),
            ("%.2f %f %v", json!([2.345, 0.5, 1e22]), "2.35 0.500000 1e+22"),
            ("%q %x %x %.2s", json!(["a\"b", 255, "az", "abc"]), "\"a\\\"b\" ff 617a ab"),
            ("%v %v", json!([1]), "1 %!v(MISSING)"),
            ("%v", json!([1, "b", 2.5]), "1%!(EXTRA string=b, float64=2.5)"),
            ("%d %s %t", json!(["a", 1, true]), "%!d(string=a) %!s(int=1) %!t(string=true)"),
            ("100%", json!([]), "100%!(NOVERB)"),
            ("%99999999d", json!([1]), "1"),
            ("%v", json!([0.000_01]), "1e-05"),
        ];
        for (format, arguments, expected) in cases {
            assert_eq!(shown(format, &arguments).as_deref(), Some(expected), "{format} {arguments}");
        }
        assert_eq!(shown("%v", &json!(["x".repeat(MAX_LENGTH + 1)])), None);
    }
}
