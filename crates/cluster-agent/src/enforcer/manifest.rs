//! An object to apply, as it is kept between applies.

use std::fmt;

use serde_json::Value;

/// An object as JSON text: a tree of it takes ten times as much memory, and is asked for only when it is applied.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Manifest(Box<str>);

impl Manifest {
    pub(super) fn of(object: &Value) -> Self {
        Self(object.to_string().into())
    }

    /// The tree, made anew each time.
    pub(super) fn object(&self) -> Value {
        serde_json::from_str(&self.0).expect("it was written from a tree")
    }

    /// Names this very object.
    pub(super) fn digest(&self) -> String {
        fleet_planner::digest(self.0.as_bytes())
    }
}

impl fmt::Debug for Manifest {
    /// Without the text: it may be a Secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Manifest({} bytes)", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_kept_is_the_object_and_does_not_print() {
        let object = json!({"kind": "Secret", "stringData": {"password": "CANARY"}, "number": 1.5e300, "big": u64::MAX});
        let manifest = Manifest::of(&object);
        assert_eq!(manifest.object(), object);
        assert_eq!(manifest, Manifest::of(&manifest.object()));
        assert_eq!(manifest.digest(), fleet_planner::digest(object.to_string().as_bytes()));
        assert!(!format!("{manifest:?}").contains("CANARY"));
    }
}
