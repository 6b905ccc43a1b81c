//! Runs one plug-in in tests over a fixed set of objects.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use kube_objects::{Status, UserInfo};
use parking_lot::Mutex;
use serde_json::Value;

use super::attributes::Reinvocation;
use super::{Attributes, Operation, Plugin, RequestOptions};
use crate::catalogue::Catalogue;
use crate::registry::bootstrap::Facts;
use crate::registry::strategy::{Objects, RequestContext};

/// Objects, a user, and what was said.
pub(super) struct Fixture {
    objects: Fixed,
    catalogue: Catalogue,
    facts: Facts,
    pub(super) user: UserInfo,
    pub(super) subresource: Option<&'static str>,
    pub(super) old: Option<Value>,
    pub(super) authorizer: Option<access::Authorizer>,
    pub(super) warnings: Mutex<Vec<String>>,
    pub(super) audit: Mutex<BTreeMap<String, String>>,
}

#[derive(Default)]
struct Fixed(Mutex<Vec<(String, String, Value)>>);

impl Fixture {
    pub(super) fn new() -> Self {
        Self {
            objects: Fixed::default(),
            catalogue: Catalogue::cluster(),
            facts: Facts::default(),
            user: UserInfo::new("tester", &["system:authenticated"]),
            subresource: None,
            old: None,
            authorizer: None,
            warnings: Mutex::default(),
            audit: Mutex::default(),
        }
    }

    /// With an object that is there.
    pub(super) fn with(self, group: &str, resource: &str, object: Value) -> Self {
        self.objects.0.lock().push((group.to_owned(), resource.to_owned(), object));
        self
    }

    /// An object as it is now.
    pub(super) fn object(&self, group: &str, resource: &str, name: &str) -> Value {
        let all = self.objects.0.lock();
        let own = all.iter().find(|(own_group, own, object)| {
            own_group == group && own == resource && object["metadata"]["name"] == name
        });
        own.map(|(_, _, object)| object.clone()).expect("an object of that name")
    }

    /// As an update of `old`.
    pub(super) fn updating(self, old: Value) -> Self {
        Self { old: Some(old), ..self }
    }

    /// At a subresource.
    pub(super) fn at(self, subresource: &'static str) -> Self {
        Self { subresource: Some(subresource), ..self }
    }

    /// As somebody.
    pub(super) fn by(self, user: UserInfo) -> Self {
        Self { user, ..self }
    }

    /// Both phases of one plug-in; answers the object.
    pub(super) async fn run(
        &self,
        plugin: &dyn Plugin,
        operation: Operation,
        group: &str,
        resource: &str,
        namespace: &str,
        mut object: Value,
    ) -> Result<Value, Status> {
        let resource = self.catalogue.stored(group, resource).expect("a served resource");
        let of = if object.is_null() { self.old.as_ref() } else { Some(&object) };
        let name = of.map(|object| object["metadata"]["name"].as_str().unwrap_or_default().to_owned());
        let name = name.unwrap_or_default();
        let attributes = Attributes {
            cx: RequestContext {
                user: &self.user,
                resource,
                namespace,
                name: &name,
                subresource: self.subresource,
                dry_run: false,
                now: Timestamp::UNIX_EPOCH,
                objects: &self.objects,
                facts: &self.facts,
                authorizer: self.authorizer.as_ref(),
            },
            operation,
            kind: super::subresource_kind(resource, self.subresource),
            old: self.old.as_ref(),
            options: RequestOptions::default(),
            warnings: &self.warnings,
            audit: &self.audit,
            reinvocation: Reinvocation::default(),
        };
        if plugin.handles(&attributes) {
            plugin.mutate(&attributes, &mut object).await?;
            plugin.validate(&attributes, &object).await?;
        }
        Ok(object)
    }
}

#[async_trait]
impl Objects for Fixed {
    async fn get(
        &self,
        group: &str,
        resource: &str,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Arc<Value>>, Status> {
        let all = self.list(group, resource, namespace).await?;
        Ok(all.into_iter().find(|object| object["metadata"]["name"] == name))
    }

    async fn list(&self, group: &str, resource: &str, namespace: &str) -> Result<Vec<Arc<Value>>, Status> {
        let all = self.0.lock();
        let of = all.iter().filter(|(own_group, own, object)| {
            own_group == group
                && own == resource
                && (namespace.is_empty()
                    || object["metadata"]["namespace"].as_str().is_none_or(|own| own == namespace))
        });
        Ok(of.map(|(_, _, object)| Arc::new(object.clone())).collect())
    }

    async fn modify(
        &self,
        group: &str,
        resource: &str,
        _namespace: &str,
        name: &str,
        change: &(dyn for<'a> Fn(&'a mut Value) -> Result<bool, Status> + Send + Sync),
    ) -> Result<bool, Status> {
        let mut all = self.0.lock();
        for (own_group, own, object) in all.iter_mut() {
            if own_group == group && own == resource && object["metadata"]["name"] == name {
                change(object)?;
                return Ok(true);
            }
        }
        Ok(false)
    }
}
