//! `apiextensions.k8s.io/v1.CustomResourceDefinition`.
//!
//! Names are accepted and the definition is established in the very write that creates it: when the request is answered,
//! the new resource is served. What later events call for (a name given back, an end to be made) is
//! [`crate::service`]'s.

use api_machinery::custom_resource::{self, normal, status, validation};
use api_machinery::field_path::causes;
use async_trait::async_trait;
use jiff::Timestamp;
use kind_rules::columns::Column;
use kube_objects::{Status, StatusCause};
use policy_engines::crd_rules::check_rules;
use serde_json::{Value, json};

use crate::handlers::create::seconds;
use crate::registry::strategy::{RequestContext, Strategy};

/// The strategy.
#[derive(Debug)]
pub(crate) struct Definitions;

/// Accepts what names are free.
fn accept(cx: &RequestContext<'_>, object: &mut Value) {
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    let group = object["spec"]["group"].as_str().unwrap_or_default();
    let in_use = cx.objects.names_in_use(group, name);
    status::accept(object, &in_use, &seconds(cx.now));
}

/// Adds the storage version to those that objects may be stored in.
fn remember_storage_version(object: &mut Value) {
    let versions = object["spec"]["versions"].as_array().into_iter().flatten();
    let storage =
        versions.filter(|version| version["storage"] == true).find_map(|version| version["name"].as_str());
    let Some(storage) = storage.map(str::to_owned) else { return };
    if !object["status"]["storedVersions"].is_array() {
        object["status"]["storedVersions"] = json!([]);
    }
    if let Some(stored) = object["status"]["storedVersions"].as_array_mut()
        && !stored.iter().any(|version| *version == *storage)
    {
        stored.push(json!(storage));
    }
}

/// Waits until this server serves what was written.
async fn settle(cx: &RequestContext<'_>, object: &Value) {
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    // A read waits for everything acknowledged before it. Should it fail, the client merely reads a moment too early.
    if let Err(error) = cx.objects.get(custom_resource::GROUP, custom_resource::RESOURCE, "", name).await {
        tracing::warn!(error = %error.message, name, "a definition was written, but is not served yet");
    }
}

/// What is wrong with a definition; its rules are judged when everything else is fine, and only in schemas that are new.
fn problems(object: &Value, old: Option<&Value>) -> Vec<StatusCause> {
    let found = causes(&validation::definition(object, old));
    if !found.is_empty() {
        return found;
    }
    let known = old.map(validation::schemas).unwrap_or_default();
    let schemas = validation::schemas(object).into_iter();
    let new = schemas.filter(|(_, schema)| known.iter().all(|(_, other)| other != schema));
    new.flat_map(|(path, schema)| check_rules(schema, &path.to_string(), true)).collect()
}

#[async_trait]
impl Strategy for Definitions {
    fn default_fields(&self, object: &mut Value) {
        normal::normalise(object);
    }

    async fn prepare_for_create(&self, cx: &RequestContext<'_>, object: &mut Value) -> Result<(), Status> {
        object["status"] = json!({});
        remember_storage_version(object);
        accept(cx, object);
        Ok(())
    }

    async fn prepare_for_update(
        &self,
        cx: &RequestContext<'_>,
        object: &mut Value,
        old: &Value,
    ) -> Result<(), Status> {
        object["status"] = old["status"].clone();
        remember_storage_version(object);
        if object["spec"]["names"] != old["spec"]["names"] {
            accept(cx, object);
        }
        Ok(())
    }

    fn validate(&self, _: &RequestContext<'_>, object: &Value) -> Vec<StatusCause> {
        problems(object, None)
    }

    fn validate_update(&self, cx: &RequestContext<'_>, object: &Value, old: &Value) -> Vec<StatusCause> {
        if cx.subresource == Some("status") {
            return causes(&validation::status(object));
        }
        problems(object, Some(old))
    }

    fn warnings(&self, object: &Value) -> Vec<String> {
        let unknown = validation::unknown_formats(object);
        unknown.into_iter().map(|format| format!("unrecognized format {format:?}")).collect()
    }

    fn columns(&self) -> Vec<Column> {
        let created = "CreationTimestamp is a timestamp representing the server time when this object was created. It \
                       is not guaranteed to be set in happens-before order across separate operations. Clients may \
                       not set this value. It is represented in RFC3339 form and is in UTC.";
        let created = Column { description: created.to_owned(), ..Column::new("Created At").of("date") };
        vec![Column::object_name(), created]
    }

    fn cells(&self, object: &Value, _: Timestamp) -> Vec<Value> {
        vec![object["metadata"]["name"].clone(), object["metadata"]["creationTimestamp"].clone()]
    }

    fn mark_deleted(&self, object: &mut Value, now: Timestamp) {
        if let Some(metadata) = object["metadata"].as_object_mut() {
            let finalizers = metadata.entry("finalizers").or_insert_with(|| json!([]));
            if let Some(list) = finalizers.as_array_mut()
                && !list.iter().any(|each| each == custom_resource::CLEANUP_FINALIZER)
            {
                list.push(json!(custom_resource::CLEANUP_FINALIZER));
            }
        }
        let message = "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon";
        status::set_condition(
            object,
            "Terminating",
            "True",
            "InstanceDeletionPending",
            message,
            &seconds(now),
        );
    }

    fn allows_unconditional_update(&self) -> bool {
        false
    }

    async fn after_create(&self, cx: &RequestContext<'_>, object: &Value) {
        settle(cx, object).await;
    }

    async fn after_update(&self, cx: &RequestContext<'_>, object: &Value, _old: &Value) {
        settle(cx, object).await;
    }

    async fn after_delete(&self, cx: &RequestContext<'_>, object: &Value) {
        settle(cx, object).await;
    }
}
