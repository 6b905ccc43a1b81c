//! Label and field selectors of lists and watches. Pure.

use std::borrow::Cow;

use api_machinery::selector::{FieldSelector, LabelSelector};
use kube_objects::{Reason, Status};

use crate::catalogue::Resource;
use crate::watch_cache::CachedObject;

/// Which objects are wanted; empty: all.
#[derive(Clone, Debug)]
pub(crate) struct Selector {
    labels: LabelSelector,
    fields: FieldSelector,
}

impl Selector {
    /// Of the two query parameters.
    ///
    /// # Errors
    /// 400 for a selector that does not parse or a field that the resource cannot select by.
    pub(crate) fn parse(resource: &Resource, labels: &str, fields: &str) -> Result<Self, Status> {
        let bad = |error: &dyn std::fmt::Display| Status::new(Reason::BadRequest, error.to_string());
        let labels = labels.parse().map_err(|error| bad(&error))?;
        let mut parsed: FieldSelector = fields.parse().map_err(|error| bad(&error))?;
        for term in &mut parsed.terms {
            let path = term.field.as_str();
            let known = matches!(path, "metadata.name" | "metadata.namespace")
                || resource.strategy.custom_selectable_fields().iter().any(|own| own == path);
            if known {
                continue;
            }
            match resource.strategy.field_label(&resource.gvr.group, path) {
                Some(stored) => term.field = stored,
                None => {
                    // Kinds that registered no fields of their own share apimachinery's default refusal.
                    let plain = !resource.custom && resource.strategy.selectable_fields().is_empty();
                    let message = if plain {
                        format!(
                            "{path:?} is not a known field selector: only \"metadata.name\", \"metadata.namespace\""
                        )
                    } else {
                        format!("field label not supported: {path}")
                    };
                    return Err(Status::new(Reason::BadRequest, message));
                }
            }
        }
        Ok(Self { labels, fields: parsed })
    }

    /// Whether it wants everything.
    pub(crate) fn is_empty(&self) -> bool {
        self.labels.is_everything() && self.fields.is_everything()
    }

    /// Whether it wants `object` by its name; everything else may look otherwise in another version.
    pub(crate) fn matches_name(&self, object: &CachedObject) -> bool {
        self.name().is_none_or(|name| object.name() == name)
    }

    /// Whether it wants `object`.
    pub(crate) fn matches(&self, object: &CachedObject) -> bool {
        self.labels.matches(|key| object.label(key))
            && self.fields.matches(|path| Cow::Borrowed(object.field(path).unwrap_or_default()))
    }

    /// The name that a field selector pins, if one does.
    pub(crate) fn name(&self) -> Option<&str> {
        self.fields.required_value("metadata.name")
    }
}
