//! Writes an expression so that reading it gives the same tree again.

use std::fmt::{Formatter, Result, Write as _};

use super::{Argument, Key, Node};

pub(super) fn node(node: &Node, f: &mut Formatter<'_>) -> Result {
    match node {
        Node::Literal(value) => write!(f, "{value}"),
        Node::Name { name, .. } => f.write_str(name),
        Node::Access { base, path, .. } => {
            inner(base, f)?;
            path.iter().try_for_each(|part| key(part, f))
        }
        Node::Call { name, arguments, .. } => {
            write!(f, "{name}(")?;
            list(arguments, f)?;
            f.write_char(')')
        }
        Node::List(arguments) => {
            f.write_char('[')?;
            list(arguments, f)?;
            f.write_char(']')
        }
        Node::Object(entries) => {
            f.write_char('{')?;
            for (index, (name, value)) in entries.iter().enumerate() {
                let comma = if index > 0 { "," } else { "" };
                write!(f, "{comma}{}:", serde_json::Value::from(name.as_str()))?;
                self::node(value, f)?;
            }
            f.write_char('}')
        }
        Node::Not(value) => {
            f.write_char('!')?;
            inner(value, f)
        }
        Node::Negative { inner: value, .. } => {
            f.write_char('-')?;
            inner(value, f)
        }
        Node::Binary { operator, left, right, .. } => {
            inner(left, f)?;
            f.write_str(operator.sign())?;
            inner(right, f)
        }
        Node::Choice { condition, yes, no } => {
            inner(condition, f)?;
            f.write_char('?')?;
            inner(yes, f)?;
            f.write_char(':')?;
            inner(no, f)
        }
    }
}

/// In brackets where it could be torn apart otherwise.
fn inner(value: &Node, f: &mut Formatter<'_>) -> Result {
    let negative =
        matches!(value, Node::Literal(serde_json::Value::Number(number)) if number.as_f64() < Some(0.0));
    let whole = !negative
        && matches!(
            value,
            Node::Literal(_) | Node::Name { .. } | Node::Access { .. } | Node::Call { .. } | Node::List(_)
        );
    if whole {
        return node(value, f);
    }
    f.write_char('(')?;
    node(value, f)?;
    f.write_char(')')
}

fn key(part: &Key, f: &mut Formatter<'_>) -> Result {
    match part {
        Key::Every => f.write_str(".*"),
        Key::Index(index) => {
            f.write_char('[')?;
            node(index, f)?;
            f.write_char(']')
        }
        Key::Member(name) => {
            let plain = !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || c == '_');
            let number = name.parse::<i64>().is_ok_and(|value| value.to_string() == *name);
            let word = plain && !name.starts_with(|c: char| c.is_ascii_digit());
            if word || number {
                write!(f, ".{name}")
            } else {
                write!(f, ".{}", serde_json::Value::from(name.as_str()))
            }
        }
    }
}

fn list(arguments: &[Argument], f: &mut Formatter<'_>) -> Result {
    for (index, argument) in arguments.iter().enumerate() {
        if index > 0 {
            f.write_char(',')?;
        }
        node(&argument.node, f)?;
        if argument.spread {
            f.write_str("...")?;
        }
    }
    Ok(())
}
