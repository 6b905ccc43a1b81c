//! Objects of custom kinds in the versions that requests speak: read in the version asked for, written in the storage
//! version. Conversion is a change of apiVersion, or a webhook's work; either way the result is brought into the form
//! of its version's schema.

use std::sync::{Arc, Weak};
use std::time::Duration;

use api_machinery::custom_resource::{conversion, objects};
use bytes::Bytes;
use kube_objects::Status;
use serde_json::Value;
use storage::Revision;
use uuid::Uuid;

use super::objects::{ObjectAccess, encode};
use crate::catalogue::{Conversion, Definition, Resource};
use crate::watch_cache::{CachedObject, EncodedObject};
use crate::webhook_client::ClientConfig;

/// How long a conversion may take (upstream's default for webhooks that name no other).
const CONVERSION_TIMEOUT: Duration = Duration::from_secs(30);

/// An object as it is to be written.
pub(crate) struct Storable {
    pub(crate) bytes: Bytes,
    /// What a reader will see, but for the revision; `None` when that is [`Self::read_back`].
    pub(crate) shown: Option<EncodedObject>,
    /// What a reader in the request's version will see, when that is not what was given.
    pub(crate) read_back: Option<Value>,
}

impl ObjectAccess {
    /// Objects in the version of `resource`; other kinds as they are.
    ///
    /// # Errors
    /// 500 when the conversion webhook fails.
    pub(crate) async fn views(
        &self,
        resource: &Resource,
        found: Vec<Arc<CachedObject>>,
    ) -> Result<Vec<Arc<CachedObject>>, Status> {
        let Some(definition) = &resource.definition else { return Ok(found) };
        let version = &resource.gvr.version;
        let is_ready = |object: &Arc<CachedObject>| object.is_in(version) != Some(false);
        if found.iter().all(is_ready) {
            return Ok(found);
        }
        let mut out = found;
        let mut open = Vec::new();
        for (index, object) in out.iter_mut().enumerate() {
            if is_ready(object) {
                continue;
            }
            match object.known_in(definition, version) {
                Some(known) => *object = known,
                None => open.push(index),
            }
        }
        let originals: Vec<Value> = open.iter().map(|index| out[*index].encoded.to_value()).collect();
        let converted = self.convert(definition, version, originals).await?;
        for (index, value) in open.into_iter().zip(converted) {
            let converted = out[index].converted(definition, version, value);
            out[index] = converted.ok_or_else(|| Status::internal("a converted object has no metadata"))?;
        }
        Ok(out)
    }

    /// One object in the version of `resource`.
    ///
    /// # Errors
    /// As [`Self::views`].
    pub(crate) async fn view(
        &self,
        resource: &Resource,
        object: Arc<CachedObject>,
    ) -> Result<Arc<CachedObject>, Status> {
        if resource.definition.is_none() || object.is_in(&resource.gvr.version) == Some(true) {
            return Ok(object);
        }
        let mut views = self.views(resource, vec![object]).await?;
        views.pop().ok_or_else(|| Status::internal("a conversion lost its object"))
    }

    /// An object of `resource`'s version as it is stored.
    ///
    /// # Errors
    /// As [`Self::views`].
    pub(crate) async fn storable(&self, resource: &Resource, object: &Value) -> Result<Storable, Status> {
        let foreign = resource.definition.as_ref().filter(|_| !resource.stores());
        let Some(definition) = foreign else {
            let bytes = encode(object);
            self.cache.hand_over(resource, &bytes, object);
            let shown = EncodedObject::new(bytes.clone(), Revision::default());
            return Ok(Storable { bytes, shown, read_back: None });
        };
        let storage = definition.storage_version();
        let stored = self.convert_one(definition, &storage.name, object.clone()).await?;
        let read_back = self.convert_one(definition, &resource.gvr.version, stored.clone()).await?;
        Ok(Storable { bytes: encode(&stored), shown: None, read_back: Some(read_back) })
    }

    /// Whether an object is stored in another version than it would be written in now: even a write that changes nothing
    /// is due then, which is how stored objects are migrated.
    pub(crate) fn is_outdated(resource: &Resource, object: &CachedObject) -> bool {
        let storage = resource.definition.as_ref().map(|definition| &definition.storage_version().name);
        storage.zip(object.custom.as_ref()).is_some_and(|(storage, custom)| **storage != *custom.stored)
    }

    /// An object of a custom kind, in whatever version, in that of `resource`.
    ///
    /// # Errors
    /// As [`Self::views`].
    pub(crate) async fn converted(&self, resource: &Resource, object: Value) -> Result<Value, Status> {
        match &resource.definition {
            Some(definition) => self.convert_one(definition, &resource.gvr.version, object).await,
            None => Ok(object),
        }
    }

    async fn convert_one(
        &self,
        definition: &Definition,
        version: &str,
        object: Value,
    ) -> Result<Value, Status> {
        let mut converted = self.convert(definition, version, vec![object]).await?;
        converted.pop().ok_or_else(|| Status::internal("a conversion lost its object"))
    }

    /// Objects of any versions of a definition in one of them.
    async fn convert(
        &self,
        definition: &Definition,
        version: &str,
        originals: Vec<Value>,
    ) -> Result<Vec<Value>, Status> {
        let desired = format!("{}/{version}", definition.group);
        let target = definition.version(version);
        let mut converted = match &definition.conversion {
            _ if originals.is_empty() => return Ok(originals),
            Conversion::None => renamed(originals, &desired),
            Conversion::Webhook { client, review } => {
                self.ask(definition, client, review, &desired, originals).await?
            }
        };
        if let Some(target) = target {
            for object in &mut converted {
                objects::shape(object, &target.schema);
            }
        }
        Ok(converted)
    }

    async fn ask(
        &self,
        definition: &Definition,
        client: &Value,
        review: &str,
        desired: &str,
        originals: Vec<Value>,
    ) -> Result<Vec<Value>, Status> {
        let failed = |why: String| {
            let from = originals.first().and_then(|object| object["apiVersion"].as_str()).unwrap_or_default();
            Status::unreasoned(format!("conversion webhook for {from}, Kind={}{why}", definition.kind))
        };
        let webhooks = self.webhooks.get().and_then(Weak::upgrade);
        let webhooks = webhooks.ok_or_else(|| failed(" failed: the server is shutting down".to_owned()))?;
        let config = ClientConfig::from_json(client).map_err(|why| failed(format!(" failed: {why}")))?;
        let uid = Uuid::new_v4().to_string();
        let question = conversion::review(review, &uid, desired, &originals);
        let answered = webhooks.post(&config, &question, CONVERSION_TIMEOUT).await;
        let answer = answered.map_err(|why| failed(format!(" failed: {why}")))?;
        conversion::converted(&answer, review, &uid, desired, &originals).map_err(failed)
    }
}

fn renamed(mut objects: Vec<Value>, desired: &str) -> Vec<Value> {
    for object in &mut objects {
        object["apiVersion"] = Value::String(desired.to_owned());
    }
    objects
}
