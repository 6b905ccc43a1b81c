//! The seam to the language of expressions: somebody else compiles and evaluates them, once for a configuration and as often
//! as tokens come.

use std::fmt;
use std::sync::Arc;

use serde_json::Value;

/// What an expression is about: the one variable that it sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// `claims`: those of a token.
    Claims,
    /// `user`: `username`, `uid`, `groups` and `extra`, all of them there.
    User,
}

/// Makes expressions ready to run.
pub trait Compiler {
    /// `condition`: it must be known to be true or false before it runs.
    ///
    /// # Errors
    /// What is wrong with the text, for whoever wrote it. The same text has the same outcome, always.
    fn compile(&self, source: &str, subject: Subject, condition: bool) -> Result<Arc<dyn Compiled>, String>;
}

/// An expression that is ready to run. Bounded in time and memory, whatever it says and whatever data it gets.
pub trait Compiled: fmt::Debug + Send + Sync + 'static {
    /// Whether it selects a field of its variable by name.
    fn selects(&self, field: &str) -> bool;

    /// Its value: null, true or false, a text, or a list of texts.
    ///
    /// # Errors
    /// Why it has none, or that it is of another type. Not safe to take for any value; the same data fails again.
    fn evaluate(&self, data: &Value) -> Result<Value, String>;
}

/// An expression of a configuration.
#[derive(Clone, Debug)]
pub struct Expression {
    /// Where it stands in its issuer's part: `claimMappings.username.expression`.
    pub field: String,
    /// As it was written.
    pub source: String,
    pub(super) compiled: Arc<dyn Compiled>,
}

/// What is compiled hangs on the place and the text alone.
impl PartialEq for Expression {
    fn eq(&self, other: &Self) -> bool {
        (&self.field, &self.source) == (&other.field, &other.source)
    }
}

impl Eq for Expression {}
