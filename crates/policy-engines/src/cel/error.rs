//! Why an evaluation has no value.

use std::fmt;

/// Why an evaluation has no value; shows as cel-go says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EvalError(Box<Inner>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Inner {
    kind: Kind,
    message: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Of the expression and its data. `||` and `&&` may do without such a value.
    Value,
    NoSuchOverload,
    /// The evaluation was stopped: nothing can do without it.
    Stopped,
}

impl EvalError {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self(Box::new(Inner { kind: Kind::Value, message: message.into() }))
    }

    /// The operands are of no type that the function takes.
    pub(crate) fn no_such_overload() -> Self {
        Self(Box::new(Inner { kind: Kind::NoSuchOverload, message: "no such overload".to_owned() }))
    }

    /// The expression cost more than it may.
    pub(crate) fn cost_exceeded() -> Self {
        let message = "operation cancelled: actual cost limit exceeded".to_owned();
        Self(Box::new(Inner { kind: Kind::Stopped, message }))
    }

    pub(crate) fn no_such_key(key: &str) -> Self {
        Self::new(format!("no such key: {key}"))
    }

    pub(crate) fn is_stop(&self) -> bool {
        self.0.kind == Kind::Stopped
    }

    pub(crate) fn is_no_such_overload(&self) -> bool {
        self.0.kind == Kind::NoSuchOverload
    }
}

impl fmt::Display for EvalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl std::error::Error for EvalError {}
