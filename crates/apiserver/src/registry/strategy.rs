//! [`Strategy`]: what a kind does beyond the engine.
//!
//! Order of a create: decode, schema defaults, [`Strategy::default_fields`], admission,
//! [`Strategy::prepare_for_create`], schema validation, [`Strategy::validate`], write, [`Strategy::after_create`].
//! An update: decode, defaults, admission, [`Strategy::prepare_for_update`], schema validation,
//! [`Strategy::validate_update`], write, [`Strategy::after_update`]. A status (or other subresource) update is an
//! update with [`RequestContext::subresource`] set and [`Strategy::prepare_for_status_update`] in place of
//! `prepare_for_update`. The engine itself sets uid, creationTimestamp, generation and managedFields, keeps metadata
//! immutables, isolates `status` from `spec` and checks metadata.

use std::sync::Arc;

use api_machinery::custom_resource::status::NamesInUse;
use async_trait::async_trait;
use jiff::Timestamp;
use kind_rules::columns::{Column, age};
use kind_rules::names::NameRule;
use kube_objects::{Status, StatusCause, UserInfo};
use serde_json::Value;

use crate::catalogue::Resource;
use crate::registry::bootstrap::Facts;

/// Reads objects for strategies and admission; a consistent view of this server's own objects, in the storage
/// version, resourceVersion included. What is read is shared between requests.
#[async_trait]
pub trait Objects: Send + Sync {
    /// One object; `namespace` is "" for a cluster-scoped one.
    async fn get(
        &self,
        group: &str,
        resource: &str,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Arc<Value>>, Status>;

    /// Every object of a resource in a namespace ("" means all), by key order.
    async fn list(&self, group: &str, resource: &str, namespace: &str) -> Result<Vec<Arc<Value>>, Status>;

    /// Writes an object as the server itself: no admission, no authorization; `change` gets the stored object and
    /// returns whether to write. Retries conflicts by itself, so `change` may run more than once. `false` when there
    /// is no such object.
    async fn modify(
        &self,
        group: &str,
        resource: &str,
        namespace: &str,
        name: &str,
        change: &(dyn for<'a> Fn(&'a mut Value) -> Result<bool, Status> + Send + Sync),
    ) -> Result<bool, Status>;

    /// The plural by which a kind is served; `None`: it is not.
    fn resource_of(&self, _group: &str, _version: &str, _kind: &str) -> Option<String> {
        None
    }

    /// The names that other CustomResourceDefinitions of a group than `except` have.
    fn names_in_use(&self, _group: &str, _except: &str) -> NamesInUse {
        NamesInUse::default()
    }
}

/// What a strategy may know about the request it serves.
#[derive(Clone, Copy)]
pub struct RequestContext<'a> {
    /// Who asks.
    pub user: &'a UserInfo,
    /// For what.
    pub resource: &'a Resource,
    /// "" for a cluster-scoped object.
    pub namespace: &'a str,
    /// The object's name; "" while a generated name is still to be drawn.
    pub name: &'a str,
    /// `status`, `scale` …
    pub subresource: Option<&'a str>,
    /// Nothing will be written: allocate nothing.
    pub dry_run: bool,
    /// When the request came.
    pub now: Timestamp,
    /// Reads other objects.
    pub objects: &'a dyn Objects,
    /// What start-up was told about this server: the service network.
    pub facts: &'a Facts,
    /// Whose word counts on granting; `None`: everything may be granted (no authorization at all).
    pub authorizer: Option<&'a access::Authorizer>,
}

impl std::fmt::Debug for RequestContext<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RequestContext")
            .field("user", &self.user.username)
            .field("resource", &self.resource.gvr)
            .field("namespace", &self.namespace)
            .field("name", &self.name)
            .field("subresource", &self.subresource)
            .finish_non_exhaustive()
    }
}

/// What stands at a path, as field selectors compare it; "" for nothing there.
pub(crate) fn field_at(object: &Value, path: &str) -> String {
    match path.split('.').try_fold(object, |value, key| value.get(key)) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Null) | None => String::new(),
        Some(other) => other.to_string(),
    }
}

/// What a kind does beyond the engine. Every default is the engine's ordinary behaviour, so that a kind's file holds
/// only what is special about it. Methods get and change whole objects as JSON in the storage version.
#[async_trait]
pub trait Strategy: Send + Sync + 'static {
    /// What its names look like.
    fn name_rule(&self) -> NameRule {
        NameRule::DnsSubdomain
    }

    /// Defaults that the schema cannot express. Runs on every decoded object (create, update, after a patch).
    fn default_fields(&self, _object: &mut Value) {}

    /// Clears and sets what a new object may not bring along; may allocate (not on a dry run). Errors end the request.
    async fn prepare_for_create(&self, _cx: &RequestContext<'_>, _object: &mut Value) -> Result<(), Status> {
        Ok(())
    }

    /// Carries over what an update may not change.
    async fn prepare_for_update(
        &self,
        _cx: &RequestContext<'_>,
        _object: &mut Value,
        _old: &Value,
    ) -> Result<(), Status> {
        Ok(())
    }

    /// The same for a subresource (`cx.subresource`). The engine has already put back everything but `status` and
    /// managedFields for `status`.
    async fn prepare_for_status_update(
        &self,
        _cx: &RequestContext<'_>,
        _object: &mut Value,
        _old: &Value,
    ) -> Result<(), Status> {
        Ok(())
    }

    /// What is wrong with a new object; all of it becomes one 422.
    fn validate(&self, _cx: &RequestContext<'_>, _object: &Value) -> Vec<StatusCause> {
        Vec::new()
    }

    /// What is wrong with an update; called for subresources too (`cx.subresource`). The default holds an updated
    /// object to the rules of a new one.
    fn validate_update(&self, cx: &RequestContext<'_>, object: &Value, _old: &Value) -> Vec<StatusCause> {
        self.validate(cx, object)
    }

    /// Whether a finalizer without a group has to be one of the standard ones.
    fn checks_finalizers(&self) -> bool {
        true
    }

    /// Told to the client in `Warning` headers.
    fn warnings(&self, _object: &Value) -> Vec<String> {
        Vec::new()
    }

    /// The same for an update; subresources warn of nothing.
    fn update_warnings(&self, object: &Value, _old: &Value) -> Vec<String> {
        self.warnings(object)
    }

    /// Field selectors besides metadata.name and metadata.namespace, as paths: `spec.nodeName`.
    fn selectable_fields(&self) -> &'static [&'static str] {
        &[]
    }

    /// The same for a custom kind, whose paths come with its definition.
    fn custom_selectable_fields(&self) -> &[String] {
        &[]
    }

    /// The selectable field that `label` of a field selector means in requests to `group`; `None` for one that means
    /// nothing there.
    fn field_label(&self, _group: &str, label: &str) -> Option<String> {
        self.selectable_fields().contains(&label).then(|| label.to_owned())
    }

    /// The value of a selectable field; the default reads the path, with "" for nothing there.
    fn field_value(&self, object: &Value, path: &str) -> String {
        field_at(object, path)
    }

    /// Columns of a Table; the default is Name and Age (upstream calls the latter `Created At` there; kubectl shows
    /// an age either way).
    fn columns(&self) -> Vec<Column> {
        vec![Column::object_name(), Column::age()]
    }

    /// One cell per column of [`Strategy::columns`].
    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        vec![object["metadata"]["name"].clone(), age(object, now)]
    }

    /// Whether a spec change counts in metadata.generation. The engine takes everything outside metadata and status
    /// as spec. Objects without a status subresource never count.
    fn counts_generation(&self) -> bool {
        true
    }

    /// Whether a change of annotations counts in metadata.generation too (deployments: the revision of a rollout).
    fn counts_annotations(&self) -> bool {
        false
    }

    /// Whether a deletion has to wait for someone to end the object's work: `Some(seconds)` sets deletionTimestamp and
    /// deletionGracePeriodSeconds; `None` deletes now (finalizers aside). `requested` is the client's
    /// gracePeriodSeconds.
    fn graceful_deletion(&self, _object: &Value, _requested: Option<i64>) -> Option<i64> {
        None
    }

    /// The first deletion of an object may leave marks on it (finalizers, conditions) that hold it until somebody has
    /// cleaned up; changes none by default.
    fn mark_deleted(&self, _object: &mut Value, _now: Timestamp) {}

    /// Refuses a deletion (403 for the namespace `default` …), before anything is changed.
    async fn check_delete(&self, _cx: &RequestContext<'_>, _object: &Value) -> Result<(), Status> {
        Ok(())
    }

    /// Whether a PUT without resourceVersion may overwrite.
    fn allows_unconditional_update(&self) -> bool {
        true
    }

    /// Whether a PUT of an object that is not there creates it.
    fn allows_create_on_update(&self) -> bool {
        false
    }

    /// The propagation policy of a DELETE that names none is to orphan (never for today's kinds; jobs of batch/v1
    /// through the old default: `true`).
    fn orphans_by_default(&self) -> bool {
        false
    }

    /// The write of a prepared create did not happen: give back what was allocated.
    async fn abandon_create(&self, _cx: &RequestContext<'_>, _object: &Value) {}

    /// After a successful create (never on a dry run).
    async fn after_create(&self, _cx: &RequestContext<'_>, _object: &Value) {}

    /// After a successful update (never on a dry run).
    async fn after_update(&self, _cx: &RequestContext<'_>, _object: &Value, _old: &Value) {}

    /// After the object has gone (never on a dry run).
    async fn after_delete(&self, _cx: &RequestContext<'_>, _object: &Value) {}

    /// Authorization that depends on the object (RBAC escalation, bind): called after validation of creates
    /// (`old` is `None`) and updates.
    async fn authorize(
        &self,
        _cx: &RequestContext<'_>,
        _object: &Value,
        _old: Option<&Value>,
    ) -> Result<(), Status> {
        Ok(())
    }
}

/// The engine's ordinary behaviour and nothing else.
#[derive(Clone, Copy, Debug, Default)]
pub struct Generic;

impl Strategy for Generic {}
