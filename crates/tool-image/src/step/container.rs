//! What expressions may ask of the step's container.

use std::cell::RefCell;
use std::collections::BTreeMap;

use serde_json::Value;
use workflow::pod::RESULTS_DIR;
use workflow::progress::Machine;

/// What expressions may ask of the container, taken before they are resolved.
pub(super) struct Container {
    environment: Value,
    date: String,
    /// Answers by call.
    files: BTreeMap<Call, Result<Value, String>>,
    /// The call that had no answer yet.
    wanted: RefCell<Option<Call>>,
}

/// A function that looks at files, and its arguments as JSON.
pub(super) type Call = (&'static str, String);

impl Machine for Container {
    fn environment(&self) -> Option<Value> {
        Some(self.environment.clone())
    }

    fn call(&self, name: &str, arguments: &[Value]) -> Option<Result<Value, String>> {
        match name {
            "date" => Some(Ok(Value::from(self.date.as_str()))),
            "file" => Some(self.answer("file", arguments)),
            "glob" => Some(self.answer("glob", arguments)),
            _ => None,
        }
    }

    fn results_dir(&self, id: &str) -> Option<String> {
        Some(format!("{RESULTS_DIR}/{id}"))
    }
}

impl Container {
    pub(super) fn new(environment: Value, date: String) -> Self {
        Self { environment, date, files: BTreeMap::new(), wanted: RefCell::default() }
    }

    /// The call that had no answer, unless `limit` calls were answered already.
    pub(super) fn wanted(&self, limit: usize) -> Option<Call> {
        self.wanted.take().filter(|_| self.files.len() < limit)
    }

    pub(super) fn learn(&mut self, call: Call, answer: Result<Value, String>) {
        self.files.insert(call, answer);
    }

    fn answer(&self, name: &'static str, arguments: &[Value]) -> Result<Value, String> {
        let call = (name, Value::from(arguments.to_vec()).to_string());
        self.files.get(&call).cloned().unwrap_or_else(|| {
            self.wanted.replace(Some(call));
            Err("looks at too many files".to_owned())
        })
    }
}
