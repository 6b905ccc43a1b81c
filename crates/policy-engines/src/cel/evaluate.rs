//! Runs programs, counting their cost as cel-go does.

use std::sync::Arc;

use super::error::EvalError;
use super::program::{Attribute, Base, Call, FoldNode, MapEntry, Node, ObjectNode, Qualifier, Step};
use super::value::{Key, List, Map, Object, Result, Value, shown};
use super::{library, runtime_cost, work};

/// Costs of steps (cel-go `common/cost.go`).
const SELECT: u64 = 1;
const MAKE_LIST: u64 = 10;
const MAKE_MAP: u64 = 30;
const MAKE_OBJECT: u64 = 40;

/// Where variables come from.
pub(crate) trait Activation<'a> {
    /// A variable's value. An error is the value of whatever uses it.
    fn variable(&self, name: &str) -> Option<Result<'a>>;

    /// A field of a variable whose fields are computed one by one (`variables`): `None` if it is no such variable.
    fn member(&self, _variable: &str, _field: &str) -> Option<Result<'a>> {
        None
    }
}

/// What an evaluation came to, and what it cost.
pub(crate) struct Outcome<'a> {
    pub(crate) value: Result<'a>,
    pub(crate) cost: u64,
}

/// Runs, spending at most `limit`.
pub(crate) fn run<'a>(node: &'a Node, activation: &dyn Activation<'a>, limit: u64) -> Outcome<'a> {
    work::bounded(|| {
        let mut run = Run { activation, locals: Vec::new(), cost: 0, limit };
        let value = run.eval(node);
        Outcome { value, cost: run.cost }
    })
}

struct Run<'a, 'r> {
    activation: &'r dyn Activation<'a>,
    locals: Vec<Local<'a>>,
    cost: u64,
    limit: u64,
}

/// A fold's variable.
enum Local<'a> {
    Is(Result<'a>),
    /// Evaluated when first used.
    Later(&'a Node),
}

type Done = std::result::Result<(), EvalError>;

impl<'a> Run<'a, '_> {
    fn spend(&mut self, cost: u64) -> Done {
        self.cost = self.cost.saturating_add(cost);
        if self.cost > self.limit { Err(EvalError::cost_exceeded()) } else { Ok(()) }
    }

    fn eval(&mut self, node: &'a Node) -> Result<'a> {
        match node {
            Node::Constant(value) => Ok(value.clone()),
            Node::Attribute(attribute) => self.attribute(attribute, true),
            Node::And(terms) => self.logical(terms, false),
            Node::Or(terms) => self.logical(terms, true),
            Node::Call(call) => self.call(call),
            Node::OneOf(value, set) => {
                let value = self.eval(value)?;
                Ok(Value::Bool(Key::of(&value).is_some_and(|key| set.keys.contains(&key))))
            }
            Node::OptionalOr(pair, is_value) => self.optional_or(pair, *is_value),
            Node::List(elements) => self.list(elements),
            Node::Map(entries) => self.map(entries),
            Node::Object(object) => self.object(object),
            Node::Fold(fold) => self.fold(fold),
        }
    }

    /// As a part of another attribute: what the variable itself costs is not counted.
    fn eval_unobserved(&mut self, node: &'a Node) -> Result<'a> {
        match node {
            Node::Attribute(attribute) => self.attribute(attribute, false),
            other => self.eval(other),
        }
    }

    fn logical(&mut self, terms: &'a [Node; 2], stops_at: bool) -> Result<'a> {
        let mut failed = None;
        for term in terms {
            match self.eval(term) {
                Ok(Value::Bool(value)) if value == stops_at => return Ok(Value::Bool(stops_at)),
                Ok(Value::Bool(_)) => {}
                Ok(_) => {
                    failed.get_or_insert_with(EvalError::no_such_overload);
                }
                Err(error) if error.is_stop() => return Err(error),
                Err(error) => {
                    failed.get_or_insert(error);
                }
            }
        }
        failed.map_or(Ok(Value::Bool(!stops_at)), Err)
    }

    fn optional_or(&mut self, pair: &'a [Node; 2], is_value: bool) -> Result<'a> {
        match self.eval(&pair[0])? {
            Value::Optional(Some(inner)) if is_value => Ok((*inner).clone()),
            Value::Optional(None) => self.eval(&pair[1]),
            other => Ok(other),
        }
    }

    fn attribute(&mut self, attribute: &'a Attribute, observed: bool) -> Result<'a> {
        let value = self.resolve(attribute);
        let counts = observed && !attribute.test_only && !matches!(attribute.base, Base::Conditional(..));
        match &value {
            Err(error) if error.is_stop() => {}
            _ if counts => self.spend(SELECT)?,
            _ => {}
        }
        value
    }

    fn resolve(&mut self, attribute: &'a Attribute) -> Result<'a> {
        let mut qualifiers = attribute.qualifiers.iter();
        let mut value = match &attribute.base {
            Base::Variable(name) => match self.composed(name, attribute) {
                Some(value) => {
                    qualifiers.next();
                    self.spend(SELECT)?;
                    value?
                }
                None => self.variable(name)?,
            },
            Base::Local(depth) => self.local(*depth)?,
            Base::Value(node) => self.eval(node)?,
            Base::Conditional(condition, then, otherwise) => match self.eval(condition)? {
                Value::Bool(true) => self.eval_unobserved(then)?,
                Value::Bool(false) => self.eval_unobserved(otherwise)?,
                _ => return Err(EvalError::no_such_overload()),
            },
        };
        if qualifiers.len() == 0 {
            return Ok(if attribute.test_only { Value::Bool(true) } else { value });
        }
        let mut optional = false;
        if let Value::Optional(inner) = &value {
            let Some(inner) = inner else { return self.absent(attribute) };
            optional = true;
            value = (**inner).clone();
        }
        let mut left = qualifiers.len();
        for qualifier in qualifiers {
            left -= 1;
            if attribute.test_only && left == 0 {
                return self.present(&value, qualifier);
            }
            optional |= matches!(
                qualifier,
                Qualifier::Field { optional: true, .. } | Qualifier::Computed { optional: true, .. }
            );
            match self.qualify(&value, qualifier, optional)? {
                Some(next) => value = next,
                None => return self.absent(attribute),
            }
        }
        Ok(if optional { Value::some(value) } else { value })
    }

    /// What an optional chain comes to when something in it is not there.
    #[expect(clippy::unused_self, reason = "beside its siblings")]
    fn absent(&self, attribute: &Attribute) -> Result<'a> {
        Ok(if attribute.test_only { Value::Bool(false) } else { Value::Optional(None) })
    }

    fn composed(&self, name: &str, attribute: &Attribute) -> Option<Result<'a>> {
        let Some(Qualifier::Field { name: field, .. }) = attribute.qualifiers.first() else { return None };
        self.activation.member(name, field.as_str()?)
    }

    fn variable(&self, name: &str) -> Result<'a> {
        self.activation
            .variable(name)
            .unwrap_or_else(|| Err(EvalError::new(format!("no such attribute(s): {name}"))))
    }

    fn local(&mut self, depth: usize) -> Result<'a> {
        let missing = || EvalError::new("no such attribute");
        let at = self.locals.len().checked_sub(depth + 1).ok_or_else(missing)?;
        match &self.locals[at] {
            Local::Is(value) => value.clone(),
            Local::Later(node) => {
                let node = *node;
                // The accumulator is not visible to what it starts from.
                let inner: Vec<_> = self.locals.drain(at..).collect();
                let value = self.eval(node);
                self.locals.extend(inner);
                self.locals[at] = Local::Is(value.clone());
                value
            }
        }
    }

    fn key(&mut self, qualifier: &'a Qualifier) -> Result<'a> {
        match qualifier {
            Qualifier::Field { name, .. } => Ok(name.clone()),
            Qualifier::Computed { key, .. } => self.eval_unobserved(key),
        }
    }

    /// The value at a key. `None`: it is not there, where that is no error.
    fn qualify(
        &mut self,
        value: &Value<'a>,
        qualifier: &'a Qualifier,
        optional: bool,
    ) -> std::result::Result<Option<Value<'a>>, EvalError> {
        let key = self.key(qualifier)?;
        let found = lookup(value, &key);
        match found {
            Ok(Some(next)) => {
                self.spend(SELECT)?;
                Ok(Some(next))
            }
            Ok(None) if optional => Ok(None),
            Ok(None) => {
                self.spend(SELECT)?;
                Err(missing(value, &key))
            }
            Err(error) => {
                if !optional {
                    self.spend(SELECT)?;
                }
                Err(error)
            }
        }
    }

    fn present(&mut self, value: &Value<'a>, qualifier: &'a Qualifier) -> Result<'a> {
        let key = self.key(qualifier)?;
        self.spend(SELECT)?;
        Ok(Value::Bool(lookup(value, &key)?.is_some()))
    }

    fn call(&mut self, call: &'a Call) -> Result<'a> {
        if call.function == "@not_strictly_false" {
            let value = self.eval(&call.args[0]);
            self.spend(1)?;
            return match value {
                Ok(Value::Bool(value)) => Ok(Value::Bool(value)),
                Err(error) if error.is_stop() => Err(error),
                _ => Ok(Value::Bool(true)),
            };
        }
        let mut args = Vec::with_capacity(call.args.len());
        let mut failed = None;
        for arg in &call.args {
            match self.eval(arg) {
                Ok(value) => args.push(value),
                Err(error) if error.is_stop() => return Err(error),
                Err(error) => {
                    // Two operands are both evaluated; of more, the first error ends it.
                    failed.get_or_insert(error);
                    if call.args.len() > 2 {
                        break;
                    }
                }
            }
        }
        if let Some(error) = failed {
            self.spend(u64::from(call.args.len() <= 2))?;
            return Err(error);
        }
        let value = match &call.pattern {
            Some(pattern) => library::with_pattern(call.function, pattern, &args),
            None => (call.implementation)(&args),
        };
        self.spend(runtime_cost::of_call(call.function, call.overload, &args, value.as_ref().ok()))?;
        value
    }

    /// A part of what is being made: it costs its making even if the part fails.
    fn part(&mut self, node: &'a Node, making: u64) -> Result<'a> {
        let value = self.eval(node);
        match &value {
            Err(error) if !error.is_stop() => self.spend(making)?,
            _ => {}
        }
        value
    }

    fn list(&mut self, elements: &'a [(Node, bool)]) -> Result<'a> {
        let mut items = Vec::with_capacity(elements.len());
        for (element, optional) in elements {
            match self.part(element, MAKE_LIST)? {
                Value::Optional(inner) if *optional => items.extend(inner.map(|inner| (*inner).clone())),
                other if *optional => return Err(not_optional("optional list element", &other)),
                value => items.push(value),
            }
        }
        self.spend(MAKE_LIST)?;
        Ok(Value::list(items))
    }

    fn map(&mut self, entries: &'a [MapEntry]) -> Result<'a> {
        let mut made = std::collections::BTreeMap::new();
        for entry in entries {
            let key = self.part(&entry.key, MAKE_MAP)?;
            let value = self.part(&entry.value, MAKE_MAP)?;
            let lookup = Key::of(&key).filter(|_| !matches!(key, Value::Double(_)));
            let lookup =
                lookup.ok_or_else(|| EvalError::new(format!("unsupported key type: {}", key.type_name())))?;
            match value {
                Value::Optional(inner) if entry.optional => {
                    if let Some(inner) = inner {
                        made.insert(lookup, (key, (*inner).clone()));
                    }
                }
                other if entry.optional => return Err(not_optional(&shown(&key), &other)),
                value => {
                    made.insert(lookup, (key, value));
                }
            }
        }
        self.spend(MAKE_MAP)?;
        Ok(Value::Map(Map::made(made)))
    }

    fn object(&mut self, object: &'a ObjectNode) -> Result<'a> {
        let mut fields = std::collections::BTreeMap::new();
        for (name, node, optional) in &object.fields {
            match self.part(node, MAKE_OBJECT)? {
                Value::Optional(inner) if *optional => {
                    if let Some(inner) = inner {
                        fields.insert(name.clone(), (*inner).clone());
                    }
                }
                other if *optional => return Err(not_optional(name, &other)),
                value => {
                    fields.insert(name.clone(), value);
                }
            }
        }
        self.spend(MAKE_OBJECT)?;
        Ok(Value::Object(Arc::new(Object { type_name: object.type_name.clone(), fields })))
    }

    fn fold(&mut self, fold: &'a FoldNode) -> Result<'a> {
        let range = self.eval(&fold.range)?;
        let depth = self.locals.len();
        self.locals.push(Local::Later(&fold.init));
        let value = self.iterate(fold, &range, depth).and_then(|()| {
            self.locals.truncate(depth + 1);
            self.eval(&fold.result)
        });
        self.locals.truncate(depth);
        value
    }

    fn iterate(&mut self, fold: &'a FoldNode, range: &Value<'a>, depth: usize) -> Done {
        let items: Vec<(Option<Value<'a>>, usize)> = match range {
            Value::List(list) => (0..list.len()).map(|index| (None, index)).collect(),
            Value::Map(map) => map.keys().into_iter().map(|key| (Some(key), 0)).collect(),
            other if fold.two => {
                let message = format!("unsupported comprehension range type: {}", other.type_name());
                return Err(EvalError::new(message));
            }
            other => {
                let message = format!("got '{}', expected iterable type", other.type_name());
                return Err(EvalError::new(message));
            }
        };
        work::spend(items.len())?;
        for (key, index) in items {
            self.locals.truncate(depth + 1);
            self.bind(fold, range, key, index);
            match self.eval(&fold.condition) {
                Ok(Value::Bool(false)) => return Ok(()),
                Err(error) if error.is_stop() => return Err(error),
                _ => {}
            }
            self.step(&fold.step, depth)?;
        }
        Ok(())
    }

    fn bind(&mut self, fold: &FoldNode, range: &Value<'a>, key: Option<Value<'a>>, index: usize) {
        let item = |range: &Value<'a>| match range {
            Value::List(list) => list.item(index),
            _ => Ok(Value::Null),
        };
        match (key, fold.two) {
            (None, false) => self.locals.push(Local::Is(item(range))),
            (None, true) => {
                let index = i64::try_from(index).unwrap_or(i64::MAX);
                self.locals.push(Local::Is(Ok(Value::Int(index))));
                self.locals.push(Local::Is(item(range)));
            }
            (Some(key), false) => self.locals.push(Local::Is(Ok(key))),
            (Some(key), true) => {
                let value = match range {
                    Value::Map(map) => map.find(&key).map(|value| value.unwrap_or(Value::Null)),
                    _ => Ok(Value::Null),
                };
                self.locals.push(Local::Is(Ok(key)));
                self.locals.push(Local::Is(value));
            }
        }
    }

    fn step(&mut self, step: &'a Step, depth: usize) -> Done {
        let value = match step {
            Step::Node(node) => self.eval(node),
            Step::Append { filter, item } => match self.append(filter.as_ref(), item, depth) {
                Ok(()) => return Ok(()),
                Err(error) => Err(error),
            },
        };
        match value {
            Err(error) if error.is_stop() => Err(error),
            value => {
                self.locals[depth] = Local::Is(value);
                Ok(())
            }
        }
    }

    /// `accumulator + [item]`, without a copy of what there is; costs what the call would.
    fn append(&mut self, filter: Option<&'a Node>, item: &'a Node, depth: usize) -> Done {
        if let Some(filter) = filter {
            match self.eval(filter)? {
                Value::Bool(true) => {}
                Value::Bool(false) => return self.keep(depth),
                _ => return Err(EvalError::no_such_overload()),
            }
        }
        // The accumulator, the list of one, and the sum. A constant list costs nothing. Both sides are evaluated, and
        // cost, whatever becomes of the other.
        let kept = self.keep(depth);
        self.spend(SELECT)?;
        let value = self.eval(item);
        if let Err(error) = &value
            && error.is_stop()
        {
            return Err(error.clone());
        }
        self.spend(if matches!(item, Node::Constant(_)) { 1 } else { MAKE_LIST + 1 })?;
        kept?;
        let value = value?;
        work::spend(1)?;
        let taken = std::mem::replace(&mut self.locals[depth], Local::Is(Ok(Value::Null)));
        let Local::Is(Ok(Value::List(mut list))) = taken else { return Err(EvalError::no_such_overload()) };
        list.push(value)?;
        self.locals[depth] = Local::Is(Ok(Value::List(list)));
        Ok(())
    }

    /// Passes the accumulator's error on, and makes sure that it is a list.
    fn keep(&mut self, depth: usize) -> Done {
        match &self.locals[depth] {
            Local::Is(Err(error)) => Err(error.clone()),
            Local::Is(Ok(_)) => Ok(()),
            Local::Later(_) => {
                self.locals[depth] = Local::Is(Ok(Value::List(List::made(Vec::new()))));
                Ok(())
            }
        }
    }
}

fn not_optional(name: &str, value: &Value<'_>) -> EvalError {
    EvalError::new(format!(
        "cannot initialize optional entry '{name}' from non-optional value {}",
        shown(value)
    ))
}

/// The value at a key of a list, map or object; `None` when it has none.
fn lookup<'a>(value: &Value<'a>, key: &Value<'_>) -> std::result::Result<Option<Value<'a>>, EvalError> {
    match value {
        Value::Map(map) => map.find(key),
        Value::List(list) => {
            let index = match key {
                Value::Int(index) => i128::from(*index),
                Value::Uint(index) => i128::from(*index),
                #[expect(clippy::cast_possible_truncation, reason = "whole and within bounds")]
                Value::Double(index) if index.fract() == 0.0 && index.abs() < 1e18 => *index as i128,
                other => {
                    return Err(EvalError::new(format!(
                        "unsupported index type '{}' in list",
                        other.type_name()
                    )));
                }
            };
            match usize::try_from(index) {
                Ok(index) if index < list.len() => list.item(index).map(Some),
                _ => Ok(None),
            }
        }
        Value::Object(object) => Ok(key.as_str().and_then(|name| object.fields.get(name)).cloned()),
        _ => Ok(None),
    }
}

fn missing(value: &Value<'_>, key: &Value<'_>) -> EvalError {
    match value {
        Value::List(_) => EvalError::new(format!("index out of bounds: {}", shown(key))),
        _ => EvalError::no_such_key(&shown(key)),
    }
}
