//! A write as those see it who judge it.

use serde_json::Value;

/// A write as it would be done.
#[derive(Clone, Copy, Debug)]
pub struct Write<'a> {
    /// The API group.
    pub group: &'a str,
    /// The resource, plural. Any of its subresources may be what is written.
    pub resource: &'a str,
    /// The namespace, or "".
    pub namespace: &'a str,
    /// The object as it is stored; `None`: it is made.
    pub old: Option<&'a Value>,
    /// The object as it would be.
    pub new: &'a Value,
}
