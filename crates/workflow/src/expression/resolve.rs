//! Works out what a scope allows.

use serde_json::{Map, Value};

use super::{
    Argument, Expression, ExpressionError, Key, Lookup, MAX_DEPTH, MAX_ITEMS, Node, Operator, Scope,
    functions,
};

type Resolved = Result<Node, ExpressionError>;

pub(super) fn node(node: &Node, scope: &dyn Scope, depth: usize) -> Resolved {
    if depth > MAX_DEPTH {
        return Err(ExpressionError { at: 0, message: format!("nested deeper than {MAX_DEPTH} levels") });
    }
    let inner = |part: &Node| self::node(part, scope, depth + 1);
    match node {
        Node::Literal(_) => Ok(node.clone()),
        Node::Name { at, name } => match scope.name(name) {
            Lookup::Known(value) => Ok(Node::Literal(value)),
            Lookup::Later => Ok(node.clone()),
            Lookup::Unknown => {
                Err(ExpressionError { at: *at, message: format!("there is nothing called {name:?}") })
            }
        },
        Node::Access { at, base, path } => {
            let root = match base.as_ref() {
                Node::Name { name, .. } => name.as_str(),
                _ => "",
            };
            let known_as = base.as_ref();
            let base = inner(base)?;
            let mut keys = Vec::new();
            for key in path {
                keys.push(match key {
                    Key::Index(index) => Key::Index(inner(index)?),
                    other => other.clone(),
                });
            }
            let known = keys.iter().all(|key| !matches!(key, Key::Index(index) if literal(index).is_none()));
            match literal(&base) {
                Some(value) if known && comes_later(value, &keys, root, scope) => {
                    Ok(Node::Access { at: *at, base: Box::new(known_as.clone()), path: keys })
                }
                Some(value) if known => {
                    let missing = |key: &str| scope.missing(root, key);
                    let told = |message| ExpressionError { at: *at, message };
                    access(value, &keys, root, &missing).map(Node::Literal).map_err(told)
                }
                _ => Ok(Node::Access { at: *at, base: Box::new(base), path: keys }),
            }
        }
        Node::Call { at, name, arguments } => call(*at, name, &list(arguments, scope, depth)?, scope, depth),
        Node::List(arguments) => {
            let arguments = list(arguments, scope, depth)?;
            Ok(match values(&arguments) {
                Some(values) => Node::Literal(Value::Array(values)),
                None => Node::List(arguments),
            })
        }
        Node::Object(entries) => {
            let mut out = Vec::new();
            for (key, value) in entries {
                out.push((key.clone(), inner(value)?));
            }
            let known: Option<Map<String, Value>> =
                out.iter().map(|(key, value)| Some((key.clone(), literal(value)?.clone()))).collect();
            Ok(known.map_or(Node::Object(out), |map| Node::Literal(Value::Object(map))))
        }
        Node::Not(value) => {
            let value = inner(value)?;
            Ok(match literal(&value) {
                Some(value) => Node::Literal(Value::Bool(!truthy(value))),
                None => Node::Not(Box::new(value)),
            })
        }
        Node::Negative { at, inner: value } => {
            let value = inner(value)?;
            match literal(&value) {
                Some(value) => arithmetic(*at, Operator::Subtract, &Value::from(0), value).map(Node::Literal),
                None => Ok(Node::Negative { at: *at, inner: Box::new(value) }),
            }
        }
        Node::Binary { at, operator, left, right } => {
            let left = inner(left)?;
            // What the left side decides is not looked at any further.
            match (operator, literal(&left)) {
                (Operator::And, Some(value)) if !truthy(value) => return Ok(Node::Literal(value.clone())),
                (Operator::Or, Some(value)) if truthy(value) => return Ok(Node::Literal(value.clone())),
                _ => {}
            }
            let right = inner(right)?;
            match (literal(&left), literal(&right)) {
                (Some(_), _) if matches!(operator, Operator::And | Operator::Or) => Ok(right),
                (Some(left), Some(right)) => binary(*at, *operator, left, right).map(Node::Literal),
                _ => Ok(Node::Binary {
                    at: *at,
                    operator: *operator,
                    left: Box::new(left),
                    right: Box::new(right),
                }),
            }
        }
        Node::Choice { condition, yes, no } => {
            let condition = inner(condition)?;
            match literal(&condition) {
                Some(value) => inner(if truthy(value) { yes } else { no }),
                None => Ok(Node::Choice {
                    condition: Box::new(condition),
                    yes: Box::new(inner(yes)?),
                    no: Box::new(inner(no)?),
                }),
            }
        }
    }
}

/// Whether the first key of a path is of what a named object will only have later.
fn comes_later(value: &Value, keys: &[Key], root: &str, scope: &dyn Scope) -> bool {
    let key = match keys.first() {
        Some(Key::Member(name)) => name.clone(),
        Some(Key::Index(Node::Literal(index))) => render(index),
        _ => return false,
    };
    !root.is_empty() && value.get(&key).is_none() && scope.comes_later(root, &key)
}

fn literal(node: &Node) -> Option<&Value> {
    match node {
        Node::Literal(value) => Some(value),
        _ => None,
    }
}

/// Resolves arguments and spreads lists that are known.
fn list(arguments: &[Argument], scope: &dyn Scope, depth: usize) -> Result<Vec<Argument>, ExpressionError> {
    let mut out = Vec::new();
    for argument in arguments {
        let node = node(&argument.node, scope, depth + 1)?;
        match node {
            Node::Literal(Value::Array(items)) if argument.spread => {
                let items =
                    items.into_iter().map(|item| Argument { node: Node::Literal(item), spread: false });
                out.extend(items);
            }
            node => out.push(Argument { spread: argument.spread && literal(&node).is_none(), node }),
        }
    }
    Ok(out)
}

fn values(arguments: &[Argument]) -> Option<Vec<Value>> {
    arguments.iter().map(|argument| (!argument.spread).then(|| literal(&argument.node).cloned())?).collect()
}

fn call(at: usize, name: &str, arguments: &[Argument], scope: &dyn Scope, depth: usize) -> Resolved {
    let unresolved = || Node::Call { at, name: name.to_owned(), arguments: arguments.to_vec() };
    let told = |message: String| ExpressionError { at, message };
    let built_in = functions::is_function(name);
    let Some(values) = values(arguments) else {
        return if built_in || scope.calls_later(name) || functions::is_deferred(name) {
            Ok(unresolved())
        } else {
            Err(told(format!("there is no function {name:?}")))
        };
    };
    if let Some(result) = scope.call(name, &values) {
        return result.map(|expression| expression.node).map_err(told);
    }
    if scope.calls_later(name) || functions::is_deferred(name) {
        return Ok(unresolved());
    }
    match (name, values.as_slice()) {
        ("map" | "filter", [Value::Array(items), Value::String(text)]) => {
            each(at, name, items, text, scope, depth)
        }
        ("eval", [Value::String(text)]) => {
            let inner = Expression::parse(text).map_err(|error| told(format!("eval: {error}")))?;
            node(&inner.node, scope, depth + 1)
        }
        _ if built_in => functions::call(name, &values).map(Node::Literal).map_err(told),
        _ => Err(told(format!("there is no function {name:?}"))),
    }
}

/// `map` and `filter`: an expression over each item, which it sees as `_`.
fn each(at: usize, name: &str, items: &[Value], text: &str, scope: &dyn Scope, depth: usize) -> Resolved {
    let told = |message: String| ExpressionError { at, message };
    if items.len() > MAX_ITEMS {
        return Err(told(format!("{name}: more than {MAX_ITEMS} items")));
    }
    let inner = Expression::parse(text).map_err(|error| told(format!("{name}: {error}")))?;
    let mut out = Vec::new();
    for (index, item) in items.iter().enumerate() {
        let own = serde_json::json!({ "value": item, "index": index, "key": index });
        let result = node(&inner.node, &Item { outer: scope, own }, depth + 1)?;
        let Some(value) = literal(&result) else {
            let value = Expression { node: result };
            return Err(told(format!("{name}: {value} is not known here")));
        };
        match name {
            "map" => out.push(value.clone()),
            _ if truthy(value) => out.push(item.clone()),
            _ => {}
        }
    }
    Ok(Node::Literal(Value::Array(out)))
}

/// The scope within `map` and `filter`.
struct Item<'a> {
    outer: &'a dyn Scope,
    own: Value,
}

impl Scope for Item<'_> {
    fn name(&self, name: &str) -> Lookup {
        if name == "_" { Lookup::Known(self.own.clone()) } else { self.outer.name(name) }
    }

    fn missing(&self, root: &str, key: &str) -> Option<Value> {
        self.outer.missing(root, key)
    }

    fn call(&self, name: &str, arguments: &[Value]) -> Option<Result<Expression, String>> {
        self.outer.call(name, arguments)
    }

    fn calls_later(&self, name: &str) -> bool {
        self.outer.calls_later(name)
    }
}

fn access(
    value: &Value,
    keys: &[Key],
    root: &str,
    missing: &dyn Fn(&str) -> Option<Value>,
) -> Result<Value, String> {
    let Some((first, rest)) = keys.split_first() else { return Ok(value.clone()) };
    let name = match first {
        Key::Every => {
            let items: Vec<&Value> = match value {
                Value::Array(items) => items.iter().collect(),
                Value::Object(entries) => entries.values().collect(),
                _ => return Err(format!("{} has no items", excerpt(value))),
            };
            let items: Result<Vec<_>, _> =
                items.into_iter().map(|item| access(item, rest, root, missing)).collect();
            return items.map(Value::Array);
        }
        Key::Member(name) => name.clone(),
        Key::Index(Node::Literal(index)) => render(index),
        Key::Index(_) => return Err("an index that is not known".to_owned()),
    };
    let found = match value {
        Value::Object(entries) => entries.get(&name),
        Value::Array(items) => name.parse::<usize>().ok().and_then(|index| items.get(index)),
        Value::Null => return Ok(Value::Null),
        _ => None,
    };
    match found {
        Some(found) => access(found, rest, root, missing),
        None => missing(&name).ok_or_else(|| {
            let of = if root.is_empty() { excerpt(value) } else { root.to_owned() };
            format!("{of} has no {name:?}")
        }),
    }
}

fn excerpt(value: &Value) -> String {
    let text = value.to_string();
    if text.chars().count() > 40 { format!("{}…", text.chars().take(40).collect::<String>()) } else { text }
}

/// Whether a value counts as true: not `false`, `null`, 0, an empty text or `"false"`.
#[must_use]
pub fn truthy(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(value) => *value,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !matches!(text.as_str(), "" | "false" | "0" | "off"),
        Value::Array(_) | Value::Object(_) => true,
    }
}

/// A value as text: texts as they are, lists and objects as JSON, `null` as nothing.
#[must_use]
pub fn render(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Number(number) => match number.as_f64() {
            Some(float) if number.is_f64() && float.fract() == 0.0 && float.abs() < 1e15 => {
                format!("{float:.0}")
            }
            _ => number.to_string(),
        },
        other => other.to_string(),
    }
}

fn binary(at: usize, operator: Operator, left: &Value, right: &Value) -> Result<Value, ExpressionError> {
    let compared = || match (functions::number(left), functions::number(right)) {
        (Some(left), Some(right)) => left.partial_cmp(&right),
        _ => Some(render(left).cmp(&render(right))),
    };
    Ok(match operator {
        Operator::Equal => Value::Bool(equal(left, right)),
        Operator::NotEqual => Value::Bool(!equal(left, right)),
        Operator::Less => Value::Bool(compared().is_some_and(std::cmp::Ordering::is_lt)),
        Operator::LessOrEqual => Value::Bool(compared().is_some_and(std::cmp::Ordering::is_le)),
        Operator::Greater => Value::Bool(compared().is_some_and(std::cmp::Ordering::is_gt)),
        Operator::GreaterOrEqual => Value::Bool(compared().is_some_and(std::cmp::Ordering::is_ge)),
        Operator::Add if left.is_string() || right.is_string() => {
            Value::String(render(left) + &render(right))
        }
        other => arithmetic(at, other, left, right)?,
    })
}

/// Numbers and booleans equal the texts that say them, as values of configuration are often texts.
fn equal(left: &Value, right: &Value) -> bool {
    if left == right {
        return true;
    }
    match (left, right) {
        (Value::Array(_) | Value::Object(_), _) | (_, Value::Array(_) | Value::Object(_)) => false,
        _ => match (functions::number(left), functions::number(right)) {
            (Some(left), Some(right)) => left.total_cmp(&right).is_eq(),
            _ => render(left) == render(right),
        },
    }
}

fn arithmetic(at: usize, operator: Operator, left: &Value, right: &Value) -> Result<Value, ExpressionError> {
    let told = |message: String| ExpressionError { at, message };
    if let (Some(left), Some(right)) = (functions::integer(left), functions::integer(right)) {
        let whole = match operator {
            Operator::Add => left.checked_add(right),
            Operator::Subtract => left.checked_sub(right),
            Operator::Multiply => left.checked_mul(right),
            Operator::Remainder => left.checked_rem(right),
            Operator::Divide if right != 0 && left.checked_rem(right) == Some(0) => left.checked_div(right),
            Operator::Power => u32::try_from(right).ok().and_then(|power| left.checked_pow(power)),
            _ => None,
        };
        if let Some(whole) = whole {
            return Ok(whole.into());
        }
    }
    let operand = |value: &Value| {
        functions::number(value)
            .ok_or_else(|| told(format!("{:?} wants numbers, {} is none", operator.sign(), excerpt(value))))
    };
    let (left, right) = (operand(left)?, operand(right)?);
    let result = match operator {
        Operator::Add => left + right,
        Operator::Subtract => left - right,
        Operator::Multiply => left * right,
        Operator::Divide => left / right,
        Operator::Remainder => left % right,
        Operator::Power => left.powf(right),
        _ => return Err(told(format!("{:?} is no arithmetic", operator.sign()))),
    };
    serde_json::Number::from_f64(result)
        .map(Value::Number)
        .ok_or_else(|| told(format!("{left} {} {right} is no number", operator.sign())))
}
