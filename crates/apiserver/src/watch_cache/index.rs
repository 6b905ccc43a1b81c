//! What selectors and preconditions look at of an object. There are many objects, and of each a dozen short texts: they lie
//! one behind the other in one buffer, not in an allocation each.

use serde_json::Value;

use crate::registry::strategy::Strategy;

/// Texts that every object has, by place; behind them stand the values of the strategy's selectable fields, then pairs of path
/// and value of a custom kind's, then pairs of key and value of the labels.
const NAMESPACE: usize = 0;
const NAME: usize = 1;
const UID: usize = 2;
const FIXED: usize = 3;

/// The texts of one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Index {
    texts: Box<str>,
    /// Where each text ends.
    ends: Box<[u32]>,
    /// The paths of the selectable fields.
    fields: &'static [&'static str],
    /// How many selectable fields the kind's definition adds.
    custom: usize,
}

/// Puts texts together.
#[derive(Default)]
struct Writer {
    texts: String,
    ends: Vec<u32>,
}

impl Writer {
    fn add(&mut self, text: &str) {
        self.texts.push_str(text);
        // No store takes objects of gigabytes.
        self.ends.push(u32::try_from(self.texts.len()).unwrap_or(u32::MAX));
    }
}

impl Index {
    /// Of an object of the kind whose strategy this is.
    pub(super) fn of(strategy: &dyn Strategy, object: &Value) -> Self {
        let mut out = Writer::default();
        let metadata = &object["metadata"];
        for key in ["namespace", "name", "uid"] {
            out.add(metadata[key].as_str().unwrap_or_default());
        }
        let fields = strategy.selectable_fields();
        for path in fields {
            out.add(&strategy.field_value(object, path));
        }
        let custom = strategy.custom_selectable_fields();
        for path in custom {
            out.add(path);
            out.add(&strategy.field_value(object, path));
        }
        let labels = metadata["labels"].as_object().into_iter().flatten();
        for (key, value) in labels.filter_map(|(key, value)| Some((key, value.as_str()?))) {
            out.add(key);
            out.add(value);
        }
        Self {
            texts: out.texts.into_boxed_str(),
            ends: out.ends.into_boxed_slice(),
            fields,
            custom: custom.len(),
        }
    }

    fn text(&self, place: usize) -> &str {
        let end = |place: usize| self.ends.get(place).map_or(self.texts.len(), |end| *end as usize);
        let start = place.checked_sub(1).map_or(0, end);
        self.texts.get(start..end(place)).unwrap_or_default()
    }

    /// The second of the pair that begins with `first`, of those from one place to another.
    fn paired(&self, from: usize, to: usize, first: &str) -> Option<&str> {
        (from..to).step_by(2).find(|place| self.text(*place) == first).map(|place| self.text(place + 1))
    }

    pub(super) fn namespace(&self) -> &str {
        self.text(NAMESPACE)
    }

    pub(super) fn name(&self) -> &str {
        self.text(NAME)
    }

    pub(super) fn uid(&self) -> &str {
        self.text(UID)
    }

    fn labels(&self) -> usize {
        FIXED + self.fields.len() + 2 * self.custom
    }

    /// The value of a label.
    pub(super) fn label(&self, key: &str) -> Option<&str> {
        self.paired(self.labels(), self.ends.len(), key)
    }

    /// The value of a selectable field besides name and namespace.
    pub(super) fn field(&self, path: &str) -> Option<&str> {
        match self.fields.iter().position(|own| *own == path) {
            Some(place) => Some(self.text(FIXED + place)),
            None => self.paired(FIXED + self.fields.len(), self.labels(), path),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;

    #[test]
    fn every_text_is_found_and_none_is_taken_for_another() {
        let catalogue = crate::Catalogue::cluster();
        let pods = Arc::clone(catalogue.find("", "v1", "pods").expect("pods"));
        let object = json!({"metadata": {"name": "näme", "namespace": "ns", "uid": "u-1",
            "labels": {"a": "b", "b": "", "spec.nodeName": "no field"}},
            "spec": {"nodeName": "n1", "restartPolicy": "Always"}, "status": {"phase": "Running"}});
        let index = Index::of(pods.strategy.as_ref(), &object);
        assert_eq!((index.namespace(), index.name(), index.uid()), ("ns", "näme", "u-1"));
        assert_eq!((index.label("a"), index.label("b"), index.label("c")), (Some("b"), Some(""), None));
        assert_eq!(index.field("spec.nodeName"), Some("n1"));
        assert_eq!((index.field("status.phase"), index.field("status.podIP")), (Some("Running"), Some("")));
        assert_eq!((index.field("a"), index.label("n1"), index.label("ns")), (None, None, None));
        let bare = Index::of(pods.strategy.as_ref(), &json!({}));
        assert_eq!((bare.namespace(), bare.name(), bare.label("a")), ("", "", None));
    }
}
