//! Paths to fields that cost nothing until something is wrong.

use std::fmt;

/// The path of a field, as a chain of borrowed steps on the stack: `spec.containers[0].name`.
///
/// Checking a sound object writes no text at all; [`crate::problems::Problems`] writes a path out only with a finding.
#[derive(Clone, Copy, Debug)]
pub struct Path<'a> {
    parent: Option<&'a Path<'a>>,
    step: Step<'a>,
}

#[derive(Clone, Copy, Debug)]
enum Step<'a> {
    Field(&'a str),
    Index(usize),
    Key(&'a str),
}

impl<'a> Path<'a> {
    /// A top-level field; may have dots in it (`spec.template`).
    #[must_use]
    pub const fn new(name: &'a str) -> Self {
        Self { parent: None, step: Step::Field(name) }
    }

    /// A field in this object.
    #[must_use]
    pub const fn field(&'a self, name: &'a str) -> Self {
        Self { parent: Some(self), step: Step::Field(name) }
    }

    /// An item of this list.
    #[must_use]
    pub const fn index(&'a self, index: usize) -> Self {
        Self { parent: Some(self), step: Step::Index(index) }
    }

    /// A value of this map.
    #[must_use]
    pub const fn key(&'a self, key: &'a str) -> Self {
        Self { parent: Some(self), step: Step::Key(key) }
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(parent) = self.parent {
            // As deep as the code that made the chain: a handful of steps.
            parent.fmt(f)?;
        }
        match self.step {
            Step::Field("") => Ok(()),
            Step::Field(name) if self.parent.is_some_and(|parent| !parent.is_empty()) => write!(f, ".{name}"),
            Step::Field(name) => f.write_str(name),
            Step::Index(index) => write!(f, "[{index}]"),
            Step::Key(key) => write!(f, "[{key}]"),
        }
    }
}

impl Path<'_> {
    /// Whether it is an item of the list of that name.
    #[must_use]
    pub fn is_under(&self, list: &str) -> bool {
        matches!((self.step, self.parent.map(|parent| parent.step)),
            (Step::Index(_), Some(Step::Field(name))) if name == list)
    }

    fn is_empty(&self) -> bool {
        matches!(self.step, Step::Field("")) && self.parent.is_none_or(Self::is_empty)
    }
}

#[cfg(test)]
mod tests {
    use super::Path;

    #[test]
    fn paths_read_as_upstream_writes_them() {
        let spec = Path::new("spec");
        let containers = spec.field("containers");
        let first = containers.index(0);
        assert_eq!(first.field("name").to_string(), "spec.containers[0].name");
        assert_eq!(Path::new("metadata.labels").key("a/b").to_string(), "metadata.labels[a/b]");
        let root = Path::new("");
        assert_eq!(root.field("spec").to_string(), "spec");
    }
}
