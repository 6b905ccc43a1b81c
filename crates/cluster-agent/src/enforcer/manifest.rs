//! An object to apply, as it is kept between applies.

use std::fmt;

use serde::{Serialize, Serializer};
use serde_json::Value;
use serde_json::value::RawValue;

/// An object as JSON text: a tree of it takes ten times as much memory, and is asked for only when it is applied.
#[derive(Clone)]
pub(super) struct Manifest(Box<RawValue>);

impl Manifest {
    /// Of a tree.
    ///
    /// # Errors
    /// When its text cannot be read again, being nested too deeply, say: values of variables stand in content, and either may be
    /// nearly as deep as is read.
    pub(super) fn of(object: &Value) -> Result<Self, String> {
        let unreadable = |error: serde_json::Error| format!("it cannot be kept as JSON: {error}");
        let text = serde_json::value::to_raw_value(object).map_err(unreadable)?;
        serde_json::from_str::<Value>(text.get()).map_err(unreadable)?;
        Ok(Self(text))
    }

    /// The tree, made anew each time.
    pub(super) fn object(&self) -> Value {
        serde_json::from_str(self.0.get()).expect("it was read when it was made")
    }

    /// Names this very object.
    pub(super) fn digest(&self) -> String {
        fleet_planner::digest(self.0.get().as_bytes())
    }
}

impl PartialEq for Manifest {
    fn eq(&self, other: &Self) -> bool {
        self.0.get() == other.0.get()
    }
}

impl Serialize for Manifest {
    /// The very text: numbers are not read and written once more on their way.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl fmt::Debug for Manifest {
    /// Without the text: it may be a Secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Manifest({} bytes)", self.0.get().len())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_kept_is_the_object_and_does_not_print() {
        let object = json!({"kind": "Secret", "stringData": {"password": "CANARY"}, "number": 1.5e300, "big": u64::MAX});
        let manifest = Manifest::of(&object).expect("a manifest");
        assert_eq!(manifest.object(), object);
        assert_eq!(Ok(&manifest), Manifest::of(&manifest.object()).as_ref());
        assert_eq!(serde_json::to_string(&manifest).ok(), Some(object.to_string()));
        assert_eq!(manifest.digest(), fleet_planner::digest(object.to_string().as_bytes()));
        assert!(!format!("{manifest:?}").contains("CANARY"));
    }

    #[test]
    fn what_could_not_be_read_again_is_refused() {
        let nested = |depth: usize| (0..depth).fold(json!(1), |inner, _| json!({"a": [inner]}));
        let deepest = nested(50);
        assert_eq!(Manifest::of(&deepest).map(|manifest| manifest.object()), Ok(deepest));
        let refused = Manifest::of(&nested(100)).expect_err("it is too deep");
        assert!(refused.contains("recursion limit exceeded"), "{refused}");
    }
}
