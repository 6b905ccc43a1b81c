//! A checked expression made ready to run: names resolved, constants folded, patterns compiled. What is folded is what
//! cel-go folds, because costs are counted on what is left.

use std::sync::Arc;

use regex::Regex;

use super::ast::{Entry, Expr, Field, Fold, Kind, Literal};
use super::checker::{Checked, Reference};
use super::library::{self, Implementation};
use super::patterns;
use super::value::{Key, Map, Value};

/// A step.
#[derive(Debug)]
pub(crate) enum Node {
    Constant(Value<'static>),
    Attribute(Box<Attribute>),
    And(Box<[Node; 2]>),
    Or(Box<[Node; 2]>),
    Call(Box<Call>),
    /// `value in [constants]`.
    OneOf(Box<Node>, Box<Membership>),
    /// `a.or(b)`; `true` for `orValue`.
    OptionalOr(Box<[Node; 2]>, bool),
    List(Vec<(Node, bool)>),
    Map(Vec<MapEntry>),
    Object(Box<ObjectNode>),
    Fold(Box<FoldNode>),
}

/// A variable or value and what is selected from it: evaluated as one, because its cost is counted as one.
#[derive(Debug)]
pub(crate) struct Attribute {
    pub(crate) base: Base,
    pub(crate) qualifiers: Vec<Qualifier>,
    /// `has(…)`: the last qualifier is only looked for.
    pub(crate) test_only: bool,
}

#[derive(Debug)]
pub(crate) enum Base {
    /// A variable of the environment.
    Variable(String),
    /// A fold's variable, counted from the innermost.
    Local(usize),
    Value(Node),
    Conditional(Node, Node, Node),
}

#[derive(Debug)]
pub(crate) enum Qualifier {
    Field { name: Value<'static>, optional: bool },
    Computed { key: Node, optional: bool },
}

#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) function: &'static str,
    /// The one overload, where only one is possible.
    pub(crate) overload: &'static str,
    pub(crate) implementation: Implementation,
    pub(crate) args: Vec<Node>,
    /// A constant pattern.
    pub(crate) pattern: Option<Regex>,
}

/// Constants that a value may be one of.
#[derive(Debug)]
pub(crate) struct Membership {
    pub(crate) keys: std::collections::BTreeSet<Key>,
}

#[derive(Debug)]
pub(crate) struct MapEntry {
    pub(crate) key: Node,
    pub(crate) value: Node,
    pub(crate) optional: bool,
}

#[derive(Debug)]
pub(crate) struct ObjectNode {
    pub(crate) type_name: String,
    pub(crate) fields: Vec<(String, Node, bool)>,
}

#[derive(Debug)]
pub(crate) struct FoldNode {
    pub(crate) range: Node,
    pub(crate) two: bool,
    pub(crate) init: Node,
    pub(crate) condition: Node,
    pub(crate) step: Step,
    pub(crate) result: Node,
}

/// What a fold does with each item.
#[derive(Debug)]
pub(crate) enum Step {
    Node(Node),
    /// `accumulator + [item]`, perhaps only if a filter lets through: done in place.
    Append {
        filter: Option<Node>,
        item: Node,
    },
}

/// Makes it ready.
///
/// # Errors
/// When a constant cannot be evaluated: `int("x")`.
pub(crate) fn lower(checked: &Checked) -> Result<Node, String> {
    Lowering { checked, locals: Vec::new() }.node(&checked.root)
}

struct Lowering<'c> {
    checked: &'c Checked,
    /// Names of folds' variables, innermost last.
    locals: Vec<String>,
}

/// Conversions that are carried out beforehand when their argument is a constant.
const CONVERSIONS: [&str; 10] =
    ["bool", "bytes", "double", "duration", "dyn", "int", "string", "timestamp", "type", "uint"];

impl Lowering<'_> {
    fn node(&mut self, expr: &Expr) -> Result<Node, String> {
        match &expr.kind {
            Kind::Literal(literal) => Ok(Node::Constant(constant(literal))),
            Kind::Ident(_) => Ok(self.ident(expr)),
            Kind::Select { operand, field, test_only } => self.select(expr, operand, field, *test_only),
            Kind::Call { target, args, .. } => self.call(expr, target.as_deref(), args),
            Kind::List { elements, optional } => self.list(elements, optional),
            Kind::Map(entries) => self.map(entries),
            Kind::Struct { name, fields } => self.object(name, fields),
            Kind::Fold(fold) => self.fold(fold),
            Kind::Broken => Err("unexpected expression".to_owned()),
        }
    }

    fn ident(&self, expr: &Expr) -> Node {
        match self.checked.reference(expr) {
            Some(Reference::TypeName(t)) => Node::Constant(Value::Type(t.runtime_name())),
            Some(Reference::Variable(name)) => attribute(Base::Variable(name.clone())),
            _ => {
                let Kind::Ident(name) = &expr.kind else { return Node::Constant(Value::Null) };
                let depth = self.locals.iter().rev().position(|local| local == name);
                attribute(depth.map_or_else(|| Base::Variable(name.clone()), Base::Local))
            }
        }
    }

    fn select(&mut self, expr: &Expr, operand: &Expr, field: &str, test_only: bool) -> Result<Node, String> {
        if self.checked.reference(expr).is_some() {
            return Ok(self.ident(expr));
        }
        let operand = self.node(operand)?;
        let name = Value::text(field);
        Ok(qualified(operand, Qualifier::Field { name, optional: false }, test_only))
    }

    fn call(&mut self, expr: &Expr, target: Option<&Expr>, args: &[Expr]) -> Result<Node, String> {
        let Some(Reference::Call { function, overloads, namespaced }) = self.checked.reference(expr) else {
            return Err("unresolved function".to_owned());
        };
        let (function, namespaced) = (*function, *namespaced);
        let overload = if let [one] = overloads[..] { one } else { "" };
        let mut nodes = Vec::with_capacity(args.len() + 1);
        for arg in target.filter(|_| !namespaced).into_iter().chain(args) {
            nodes.push(self.node(arg)?);
        }
        self.finish_call(function, overload, nodes)
    }

    fn finish_call(
        &self,
        function: &'static str,
        overload: &'static str,
        args: Vec<Node>,
    ) -> Result<Node, String> {
        match function {
            "_&&_" => return pair(args).map(|pair| Node::And(Box::new(pair))),
            "_||_" => return pair(args).map(|pair| Node::Or(Box::new(pair))),
            "_?_:_" => {
                let [condition, then, otherwise]: [Node; 3] =
                    args.try_into().map_err(|_| "unexpected arguments".to_owned())?;
                return Ok(attribute(Base::Conditional(condition, then, otherwise)));
            }
            "_[_]" | "_[?_]" | "_?._" => {
                let [operand, key] = pair(args)?;
                return Ok(indexed(operand, key, function != "_[_]"));
            }
            "or" | "orValue" if args.len() == 2 => {
                return Ok(Node::OptionalOr(Box::new(pair(args)?), function == "orValue"));
            }
            _ => {}
        }
        if let (true, [Node::Constant(value)]) = (CONVERSIONS.contains(&function), &args[..]) {
            let implementation = library::find(function).ok_or("unknown function")?;
            let value = implementation(std::slice::from_ref(value)).map_err(|error| error.to_string())?;
            return Ok(Node::Constant(value));
        }
        if let ("in_list", [_, Node::Constant(Value::List(list))]) = (overload, &args[..]) {
            if list.len() == 0 {
                return Ok(Node::Constant(Value::Bool(false)));
            }
            if let Some(keys) = membership(list) {
                let [value, _] = pair(args)?;
                return Ok(Node::OneOf(Box::new(value), Box::new(Membership { keys })));
            }
        }
        let pattern = match (function, args.get(1)) {
            ("matches" | "find" | "findAll", Some(Node::Constant(Value::String(text)))) => {
                Some(patterns::compile(text.as_str())?)
            }
            _ => None,
        };
        let implementation = library::find_overload(overload)
            .or_else(|| library::find(function))
            .ok_or_else(|| format!("unknown function {function}"))?;
        Ok(Node::Call(Box::new(Call { function, overload, implementation, args, pattern })))
    }

    fn list(&mut self, elements: &[Expr], optional: &[bool]) -> Result<Node, String> {
        let mut nodes = Vec::with_capacity(elements.len());
        for (element, optional) in elements.iter().zip(optional) {
            nodes.push((self.node(element)?, *optional));
        }
        let constant = |(node, optional): &(Node, bool)| match node {
            Node::Constant(value) if !optional => Some(value.clone()),
            _ => None,
        };
        Ok(match nodes.iter().map(constant).collect::<Option<Vec<_>>>() {
            Some(values) => Node::Constant(Value::list(values)),
            None => Node::List(nodes),
        })
    }

    fn map(&mut self, entries: &[Entry]) -> Result<Node, String> {
        let mut nodes = Vec::with_capacity(entries.len());
        for entry in entries {
            let (key, value) = (self.node(&entry.key)?, self.node(&entry.value)?);
            nodes.push(MapEntry { key, value, optional: entry.optional });
        }
        let constant = |entry: &MapEntry| match (&entry.key, &entry.value) {
            (Node::Constant(key), Node::Constant(value)) if !entry.optional => {
                Some((Key::of(key)?, (key.clone(), value.clone())))
            }
            _ => None,
        };
        Ok(match nodes.iter().map(constant).collect::<Option<std::collections::BTreeMap<_, _>>>() {
            Some(made) if made.len() == nodes.len() => Node::Constant(Value::Map(Map::made(made))),
            _ => Node::Map(nodes),
        })
    }

    fn object(&mut self, name: &str, fields: &[Field]) -> Result<Node, String> {
        let mut nodes = Vec::with_capacity(fields.len());
        for field in fields {
            nodes.push((field.name.clone(), self.node(&field.value)?, field.optional));
        }
        let type_name = name.strip_prefix('.').unwrap_or(name).to_owned();
        Ok(Node::Object(Box::new(ObjectNode { type_name, fields: nodes })))
    }

    fn fold(&mut self, fold: &Fold) -> Result<Node, String> {
        let range = self.node(&fold.range)?;
        let init = self.node(&fold.init)?;
        let depth = self.locals.len();
        self.locals.push(fold.accumulator.clone());
        self.locals.push(fold.var.clone());
        if let Some(second) = &fold.var2 {
            self.locals.push(second.clone());
        }
        let condition = self.node(&fold.condition)?;
        let step = self.step(fold)?;
        self.locals.truncate(depth + 1);
        let result = self.node(&fold.result)?;
        self.locals.truncate(depth);
        let two = fold.var2.is_some();
        Ok(Node::Fold(Box::new(FoldNode { range, two, init, condition, step, result })))
    }

    fn step(&mut self, fold: &Fold) -> Result<Step, String> {
        let starts_empty = matches!(&fold.init.kind, Kind::List { elements, .. } if elements.is_empty());
        if starts_empty && let Some((filter, item)) = append(&fold.step, &fold.accumulator) {
            let filter = filter.map(|filter| self.node(filter)).transpose()?;
            return Ok(Step::Append { filter, item: self.node(item)? });
        }
        Ok(Step::Node(self.node(&fold.step)?))
    }
}

/// The filter and the item of `accumulator + [item]` or `filter ? accumulator + [item] : accumulator`.
fn append<'e>(step: &'e Expr, accumulator: &str) -> Option<(Option<&'e Expr>, &'e Expr)> {
    let Kind::Call { function, args, target: None } = &step.kind else { return None };
    let is_accumulator = |expr: &Expr| matches!(&expr.kind, Kind::Ident(name) if name == accumulator);
    match (function.as_str(), &args[..]) {
        ("_+_", [left, right]) if is_accumulator(left) => match &right.kind {
            Kind::List { elements, optional } if optional == &[false] => Some((None, &elements[0])),
            _ => None,
        },
        ("_?_:_", [filter, then, otherwise]) if is_accumulator(otherwise) => {
            let (None, item) = append(then, accumulator)? else { return None };
            Some((Some(filter), item))
        }
        _ => None,
    }
}

fn pair(args: Vec<Node>) -> Result<[Node; 2], String> {
    args.try_into().map_err(|_| "unexpected arguments".to_owned())
}

fn attribute(base: Base) -> Node {
    Node::Attribute(Box::new(Attribute { base, qualifiers: Vec::new(), test_only: false }))
}

fn qualified(operand: Node, qualifier: Qualifier, test_only: bool) -> Node {
    let mut attribute = match operand {
        Node::Attribute(attribute) if !attribute.test_only => attribute,
        other => Box::new(Attribute { base: Base::Value(other), qualifiers: Vec::new(), test_only: false }),
    };
    attribute.qualifiers.push(qualifier);
    attribute.test_only = test_only;
    Node::Attribute(attribute)
}

fn indexed(operand: Node, key: Node, optional: bool) -> Node {
    let qualifier = match key {
        Node::Constant(name) => Qualifier::Field { name, optional },
        key => Qualifier::Computed { key, optional },
    };
    qualified(operand, qualifier, false)
}

/// The constants of a list as a set, when all of them are simple.
fn membership(list: &super::value::List<'static>) -> Option<std::collections::BTreeSet<Key>> {
    list.iter().map(|item| Key::of(&item.ok()?)).collect()
}

fn constant(literal: &Literal) -> Value<'static> {
    match literal {
        Literal::Null => Value::Null,
        Literal::Bool(value) => Value::Bool(*value),
        Literal::Int(value) => Value::Int(*value),
        Literal::Uint(value) => Value::Uint(*value),
        Literal::Double(value) => Value::Double(*value),
        Literal::String(text) => Value::text(Arc::clone(text)),
        Literal::Bytes(bytes) => Value::Bytes(Arc::clone(bytes)),
    }
}
