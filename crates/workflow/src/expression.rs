//! The expression language: `config.workers > 1 && passed`, and texts with expressions in them: `k6:{{ config.version }}`.
//!
//! Every JSON value is an expression. Expressions are read once, then resolved in steps: whoever plans knows parameters
//! and matrices, the container knows its environment, files and what earlier steps left. What a scope does not know yet
//! stays an expression ([`Expression::resolve`]) and can be printed and read again, so a plan carries it as text.
//!
//! Never: touches a file, a clock or the environment. Functions that need one ask their [`Scope`].

mod functions;
mod jq;
mod lex;
mod parse;
mod print;
mod resolve;
mod template;

use serde_json::Value;

pub use functions::absolute as absolute_path;
pub use functions::is_function;
pub(crate) use functions::{absolute, quote};
pub use resolve::{render, truthy};
pub use template::Template;

/// Bytes of one expression. Scripts stand around expressions, not in them.
pub const MAX_LENGTH: usize = 16 * 1024;
/// Levels of brackets and calls.
pub const MAX_DEPTH: usize = 64;
/// Items a function may produce: `range` must not eat the machine.
pub const MAX_ITEMS: usize = 10_000;

/// What is wrong with an expression, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message} (at character {})", at + 1)]
pub struct ExpressionError {
    /// Bytes from the beginning of the expression or template.
    pub at: usize,
    /// For people.
    pub message: String,
}

/// One expression.
#[derive(Clone, Debug, PartialEq)]
pub struct Expression {
    pub(crate) node: Node,
}

/// What an expression is made of. `at` counts bytes from its beginning.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Node {
    Literal(Value),
    Name { at: usize, name: String },
    Access { at: usize, base: Box<Node>, path: Vec<Key> },
    Call { at: usize, name: String, arguments: Vec<Argument> },
    List(Vec<Argument>),
    Object(Vec<(String, Node)>),
    Not(Box<Node>),
    Negative { at: usize, inner: Box<Node> },
    Binary { at: usize, operator: Operator, left: Box<Node>, right: Box<Node> },
    Choice { condition: Box<Node>, yes: Box<Node>, no: Box<Node> },
}

/// One part of a path behind a value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Key {
    /// `.name`, or `.0` of a list.
    Member(String),
    /// `.*`: every item; what follows is taken of each.
    Every,
    /// `[…]`.
    Index(Node),
}

/// An argument; `list...` hands over every item as one of its own.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Argument {
    pub(crate) node: Node,
    pub(crate) spread: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operator {
    Or,
    And,
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
    Power,
}

impl Operator {
    /// How tightly it binds; larger is tighter.
    pub(crate) fn strength(self) -> u8 {
        match self {
            Self::Or => 1,
            Self::And => 2,
            Self::Equal | Self::NotEqual => 3,
            Self::Less | Self::LessOrEqual | Self::Greater | Self::GreaterOrEqual => 4,
            Self::Add | Self::Subtract => 5,
            Self::Multiply | Self::Divide | Self::Remainder => 6,
            Self::Power => 7,
        }
    }

    pub(crate) fn sign(self) -> &'static str {
        match self {
            Self::Or => "||",
            Self::And => "&&",
            Self::Equal => "==",
            Self::NotEqual => "!=",
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
            Self::Add => "+",
            Self::Subtract => "-",
            Self::Multiply => "*",
            Self::Divide => "/",
            Self::Remainder => "%",
            Self::Power => "**",
        }
    }
}

/// What a scope knows of a name.
#[derive(Clone, Debug, PartialEq)]
pub enum Lookup {
    /// Its value.
    Known(Value),
    /// It will be known to a later scope.
    Later,
    /// No scope will ever know it.
    Unknown,
}

/// Where expressions find names and functions beyond the built-in ones.
pub trait Scope {
    /// The value of the first part of a path: `config` of `config.workers`.
    fn name(&self, name: &str) -> Lookup;
    /// A member that an object known under `root` does not have. `None` makes it an error.
    fn missing(&self, root: &str, key: &str) -> Option<Value> {
        let _ = (root, key);
        None
    }
    /// Whether a member that an object known under `root` does not have will be known to a later scope.
    fn comes_later(&self, root: &str, key: &str) -> bool {
        let _ = (root, key);
        false
    }
    /// A function beyond the built-in ones, called with values alone. `None`: not one of this scope's.
    ///
    /// The inner `Ok` may be another expression, which stands for the call from then on.
    fn call(&self, name: &str, arguments: &[Value]) -> Option<Result<Expression, String>> {
        let _ = (name, arguments);
        None
    }
    /// Whether a later scope has this function.
    fn calls_later(&self, name: &str) -> bool {
        let _ = name;
        false
    }
}

impl Expression {
    /// Reads an expression.
    ///
    /// # Errors
    /// What is wrong and where.
    pub fn parse(text: &str) -> Result<Self, ExpressionError> {
        parse::expression(text).map(|node| Self { node })
    }

    /// The expression that is this value.
    #[must_use]
    pub fn literal(value: Value) -> Self {
        Self { node: Node::Literal(value) }
    }

    /// Its value, when nothing is left to resolve.
    #[must_use]
    pub fn value(&self) -> Option<&Value> {
        match &self.node {
            Node::Literal(value) => Some(value),
            _ => None,
        }
    }

    /// Puts in what `scope` knows and works out what can be.
    ///
    /// # Errors
    /// For names and functions that nobody will know, and for what cannot be worked out.
    pub fn resolve(&self, scope: &dyn Scope) -> Result<Self, ExpressionError> {
        resolve::node(&self.node, scope, 0).map(|node| Self { node })
    }

    /// Its value in a scope that knows everything.
    ///
    /// # Errors
    /// As [`Expression::resolve`], and when something is still not known.
    pub fn evaluate(&self, scope: &dyn Scope) -> Result<Value, ExpressionError> {
        let resolved = self.resolve(scope)?;
        match resolved.node {
            Node::Literal(value) => Ok(value),
            _ => Err(ExpressionError { at: 0, message: format!("{resolved} is not known here") }),
        }
    }

    /// The names it asks for that are not values yet, with their places.
    #[must_use]
    pub fn names(&self) -> Vec<(usize, String)> {
        let mut names = Vec::new();
        collect_names(&self.node, &mut names);
        names
    }
}

impl std::fmt::Display for Expression {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        print::node(&self.node, f)
    }
}

fn collect_names(node: &Node, names: &mut Vec<(usize, String)>) {
    match node {
        Node::Literal(_) => {}
        Node::Name { at, name } => names.push((*at, name.clone())),
        Node::Access { base, path, .. } => {
            collect_names(base, names);
            for key in path {
                if let Key::Index(index) = key {
                    collect_names(index, names);
                }
            }
        }
        Node::Call { arguments, .. } | Node::List(arguments) => {
            arguments.iter().for_each(|argument| collect_names(&argument.node, names));
        }
        Node::Object(entries) => entries.iter().for_each(|(_, value)| collect_names(value, names)),
        Node::Not(inner) | Node::Negative { inner, .. } => collect_names(inner, names),
        Node::Binary { left, right, .. } => {
            collect_names(left, names);
            collect_names(right, names);
        }
        Node::Choice { condition, yes, no } => {
            [condition, yes, no].into_iter().for_each(|part| collect_names(part, names));
        }
    }
}

#[cfg(test)]
mod tests;
