//! A request's objects as a webhook or a policy is shown them, and back: in the version that its rules name, whatever
//! version the request was made in (`matchPolicy: Equivalent`).

use std::sync::Arc;

use api_machinery::schema::{SchemaRef, SchemaSet};
use api_machinery::{defaulting, strictness, validation};
use kube_objects::{GroupVersionKind, GroupVersionResource, Status};
use serde_json::Value;

use super::{Attributes, request};
use crate::catalogue::Resource;
use crate::handlers::conversion;
use crate::registry::objects::ObjectAccess;

/// What somebody sees of a request.
pub(super) struct Seen<'a> {
    own: &'a Resource,
    /// As what it is wanted, when that is not how it was made.
    equivalent: Option<Arc<Resource>>,
    /// The kind of the object, which may be a subresource's.
    pub(super) kind: GroupVersionKind,
    /// As it will be; null on DELETE.
    pub(super) object: Value,
    /// As it was.
    pub(super) old: Value,
}

impl<'a> Seen<'a> {
    /// As `wanted`: the request's own resource or one of its equivalents.
    ///
    /// # Errors
    /// 500 when a custom kind's conversion webhook fails.
    pub(super) async fn of(
        objects: &ObjectAccess,
        wanted: &GroupVersionResource,
        attributes: &Attributes<'a>,
        object: &Value,
    ) -> Result<Self, Status> {
        let own = attributes.cx.resource;
        // One that was just taken out of service is shown as the request has it.
        let equivalent = if *wanted == own.gvr { None } else { find(objects, wanted) };
        let kind = match &equivalent {
            Some(other) => request::subresource_kind(other, attributes.cx.subresource),
            None => attributes.kind.clone(),
        };
        let resource = equivalent.as_deref().unwrap_or(own);
        let object = shown(objects, resource, attributes, object).await?;
        let old = match attributes.old {
            Some(old) => shown(objects, resource, attributes, old).await?,
            None => Value::Null,
        };
        Ok(Self { own, equivalent, kind, object, old })
    }

    /// As what it is shown.
    pub(super) fn resource(&self) -> &Resource {
        self.equivalent.as_deref().unwrap_or(self.own)
    }

    /// The schema of the object; none for a subresource that has none.
    pub(super) fn schema(&self) -> Option<SchemaRef> {
        if self.is_whole() {
            return Some(self.resource().schema.clone());
        }
        SchemaSet::builtin().for_kind(&self.kind)
    }

    /// Whether the request is about the resource's own kind.
    fn is_whole(&self) -> bool {
        self.kind == self.resource().gvk()
    }

    /// Drops from what was made of the object what its kind does not know and fills in its defaults, as for a client's
    /// document.
    ///
    /// # Errors
    /// Why it is no object of its kind.
    pub(super) fn complete(&self, made: &mut Value) -> Result<(), String> {
        let Some(schema) = self.schema() else { return Ok(()) };
        strictness::prune(made, &schema);
        if !(self.is_whole() && self.resource().custom)
            && let Some(refused) = validation::decode_error(made, &schema, &self.kind)
        {
            return Err(refused.message);
        }
        defaulting::apply_defaults(made, &schema);
        Ok(())
    }

    /// What was made of the object, as the plug-ins see it.
    ///
    /// # Errors
    /// As [`Self::of`].
    pub(super) async fn returned(
        &self,
        objects: &ObjectAccess,
        attributes: &Attributes<'_>,
        made: Value,
    ) -> Result<Value, Status> {
        let mut object = self.converted_back(objects, made).await?;
        if attributes.cx.subresource.is_none() {
            self.own.strategy.default_fields(&mut object);
        }
        Ok(object)
    }

    async fn converted_back(&self, objects: &ObjectAccess, made: Value) -> Result<Value, Status> {
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

fn find(objects: &ObjectAccess, wanted: &GroupVersionResource) -> Option<Arc<Resource>> {
    objects.kinds.catalogue().find(&wanted.group, &wanted.version, &wanted.resource).cloned()
}

/// An object that plug-ins see, which is in its stored form, as `resource` shows it.
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
    let mut shown = conversion::served(resource, object.clone());
    if !same {
        shown["apiVersion"] = Value::String(resource.api_version());
    }
    Ok(shown)
}
