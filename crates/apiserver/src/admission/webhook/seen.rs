//! A request's objects as a webhook is shown them, and back: with `matchPolicy: Equivalent` in the version that its rules
//! name, whatever version the request was made in.

use std::sync::Arc;

use kube_objects::{GroupVersionKind, Status};
use serde_json::Value;

use super::review::Shown;
use crate::admission::{Attributes, request};
use crate::catalogue::Resource;
use crate::handlers::conversion;
use crate::registry::objects::ObjectAccess;

/// What a webhook sees.
pub(super) struct Seen<'a> {
    own: &'a Resource,
    /// As what the webhook wants it, when that is not how it was made.
    equivalent: Option<Arc<Resource>>,
    /// The kind of the object, which may be a subresource's.
    pub(super) kind: GroupVersionKind,
    /// As it will be; null on DELETE.
    pub(super) object: Value,
    /// As it was.
    pub(super) old: Value,
}

impl<'a> Seen<'a> {
    /// `equivalent`: another version that the webhook wants instead of the request's.
    ///
    /// # Errors
    /// 500 when a custom kind's conversion webhook fails.
    pub(super) async fn of(
        objects: &ObjectAccess,
        equivalent: Option<Arc<Resource>>,
        attributes: &Attributes<'a>,
        object: &Value,
    ) -> Result<Self, Status> {
        let kind = match &equivalent {
            Some(other) => request::subresource_kind(other, attributes.cx.subresource),
            None => attributes.kind.clone(),
        };
        let own = attributes.cx.resource;
        let resource = equivalent.as_deref().unwrap_or(own);
        let object = shown(objects, resource, attributes, object).await?;
        let old = match attributes.old {
            Some(old) => shown(objects, resource, attributes, old).await?,
            None => Value::Null,
        };
        Ok(Self { own, equivalent, kind, object, old })
    }

    /// As what the webhook wants it.
    pub(super) fn resource(&self) -> &Resource {
        self.equivalent.as_deref().unwrap_or(self.own)
    }

    /// The documents of a review.
    pub(super) fn shown(&self) -> Shown<'_> {
        Shown { resource: &self.resource().gvr, kind: &self.kind, object: &self.object, old: &self.old }
    }

    /// What a webhook made of the object, as the plug-ins see it.
    ///
    /// # Errors
    /// As [`Self::of`].
    pub(super) async fn returned(&self, objects: &ObjectAccess, made: Value) -> Result<Value, Status> {
        let own = self.own;
        let Some(equivalent) = &self.equivalent else { return Ok(conversion::stored(own, made)) };
        if own.custom {
            return objects.converted(own, made).await;
        }
        let mut object = conversion::stored(equivalent, made);
        if conversion::is_identity(own) {
            object["apiVersion"] = Value::String(own.api_version());
        }
        Ok(object)
    }
}

/// An object that plug-ins see, as `resource` shows it.
async fn shown(
    objects: &ObjectAccess,
    resource: &Resource,
    attributes: &Attributes<'_>,
    object: &Value,
) -> Result<Value, Status> {
    if object.is_null() || attributes.cx.subresource.is_some_and(|sub| sub != "status") {
        return Ok(object.clone());
    }
    let same = resource.gvr == attributes.cx.resource.gvr;
    if resource.custom && !same {
        return objects.converted(resource, object.clone()).await;
    }
    let mut shown = conversion::served(resource, conversion::stored(attributes.cx.resource, object.clone()));
    if !same {
        shown["apiVersion"] = Value::String(resource.api_version());
    }
    Ok(shown)
}
