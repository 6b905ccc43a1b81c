//! Schema, patches and field ownership of one resource: the engine's calls into `api_machinery`. Pure.

use api_machinery::apply::field_set::FieldSet;
use api_machinery::apply::{self, Manager};
use api_machinery::custom_resource::objects;
use api_machinery::defaulting::apply_defaults;
use api_machinery::schema::Schema;
use api_machinery::strictness::{self, FieldValidation};
use api_machinery::{patch, validation};
use kube_objects::{Reason, Status, StatusCause, StatusDetails};
use serde_json::Value;

use crate::catalogue::{Ownership, Resource};
use crate::handlers::create::seconds;
use crate::handlers::{Call, conversion};
use crate::registry::custom;

/// How a patch is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PatchKind {
    Json,
    Merge,
    Strategic,
    Apply,
}

impl PatchKind {
    /// By the Content-Type header.
    ///
    /// # Errors
    /// 415; strategic merge patches of custom resources too.
    pub(crate) fn of(resource: &Resource, content_type: Option<&str>) -> Result<Self, Status> {
        let kind = content_type.unwrap_or_default().split(';').next().unwrap_or_default().trim();
        Ok(match kind {
            "application/json-patch+json" => Self::Json,
            "application/merge-patch+json" => Self::Merge,
            "application/strategic-merge-patch+json" if !resource.custom => Self::Strategic,
            "application/apply-patch+yaml" => Self::Apply,
            other => {
                return Err(Status::new(
                    Reason::UnsupportedMediaType,
                    format!(
                        "the body of the request was in an unknown format - {other}; accepted media types include: \
                         application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml{}",
                        if resource.custom { "" } else { ", application/strategic-merge-patch+json" }
                    ),
                ));
            }
        })
    }
}

/// Applies a JSON, merge or strategic merge patch.
///
/// # Errors
/// 400 for a patch that makes no sense, 422 for one that does not fit the object.
pub(crate) fn patched(
    schema: &Schema,
    kind: PatchKind,
    object: &Value,
    patch: &Value,
) -> Result<Value, Status> {
    match kind {
        // Upstream does not tell which operation it was.
        PatchKind::Json => patch::json_patch(object, patch).map_err(|status| match status.reason {
            Some(Reason::Invalid) => {
                let sentence = "the server rejected our request due to an error in our request";
                Status::new(Reason::Invalid, sentence).with_details(StatusDetails::default())
            }
            _ => status,
        }),
        PatchKind::Strategic => patch::strategic_merge_patch(object, patch, schema),
        PatchKind::Merge | PatchKind::Apply => patch::merge_patch(object, patch),
    }
}

/// Drops what the schema does not know (saying so as the request wants), refuses wrong types, fills in defaults.
///
/// # Errors
/// 400 for wrong types, and for unknown or duplicate fields under strict validation.
pub(crate) fn decoded(call: &Call, mut object: Value) -> Result<Value, Status> {
    let resource = &call.resource;
    let text = call.query.get("fieldValidation").unwrap_or_default();
    // Another value has been refused before: see `handlers::write_options`.
    let mode = FieldValidation::parse(text).unwrap_or_default();
    let unknown = if resource.custom {
        objects::prune(&mut object, &resource.schema)
    } else {
        strictness::prune(&mut object, &resource.schema)
    };
    let duplicates = std::mem::take(&mut *call.duplicates.lock());
    for warning in strictness::check(mode, &unknown, &duplicates, &resource.gvk())? {
        call.warn(warning);
    }
    if !resource.custom
        && let Some(refused) = validation::decode_error(&object, &resource.schema, &resource.gvk())
    {
        return Err(refused);
    }
    apply_defaults(&mut object, &resource.schema);
    Ok(object)
}

/// An apply configuration as it counts: nulls of native types say nothing. Its fields are judged before it is merged:
/// after that nobody could tell whose they were. `named` is what the document says of its namespace and name.
///
/// # Errors
/// As upstream a plain error: typed apply knows no fields outside the schema, no other types, no item twice, whatever the
/// request says.
pub(crate) fn configuration(call: &Call, mut config: Value, named: &str) -> Result<Value, Status> {
    let resource = &call.resource;
    let unknown = strictness::prune(&mut config, &resource.schema);
    let problem = match unknown.first() {
        Some(path) => Some(format!(".{path}: field not declared in schema")),
        None => apply::check::check(&resource.schema, &config).err(),
    };
    let Some(problem) = problem else { return Ok(config) };
    let gvk = resource.gvk();
    let message = format!(
        "failed to create typed patch object ({named}; {}, Kind={}): {problem}",
        gvk.api_version(),
        gvk.kind,
    );
    Err(Status::unreasoned(message))
}

/// What is wrong with a custom resource by its schema, as a step from `old`; native kinds are judged by their
/// strategies.
pub(crate) fn problems(call: &Call, object: &Value, old: Option<&Value>) -> Vec<StatusCause> {
    let resource = &call.resource;
    if !resource.custom {
        return Vec::new();
    }
    let verdict = custom::problems(resource, object, old, call.path.subresource == "status");
    verdict.warnings.into_iter().for_each(|warning| call.warn(warning));
    verdict.causes
}

struct Owner {
    name: String,
    api_version: String,
    time: String,
}

impl Owner {
    fn of(call: &Call) -> Self {
        Self { name: call.field_manager(), api_version: call.resource.api_version(), time: seconds(call.now) }
    }

    fn manager<'a>(&'a self, call: &'a Call) -> Manager<'a> {
        Manager {
            name: &self.name,
            subresource: &call.path.subresource,
            api_version: &self.api_version,
            time: &self.time,
        }
    }
}

/// Fields that the endpoint of a request ignores.
fn ignored(call: &Call, object: &Value) -> FieldSet {
    let mut set = FieldSet::default();
    let sub = call.path.subresource.as_str();
    for key in object.as_object().into_iter().flatten().map(|(key, _)| key.as_str()) {
        let ignored = match sub {
            "" => key == "status" && call.resource.has_status(),
            "status" => !matches!(key, "status" | "metadata" | "apiVersion" | "kind"),
            _ => false,
        };
        if ignored {
            set.insert_element(api_machinery::apply::field_set::field(key));
        }
    }
    set
}

/// Records who owns what after a write other than an apply.
pub(crate) fn track(call: &Call, live: Option<&Value>, object: &mut Value) {
    if call.applying() {
        return;
    }
    let ownership = call.resource.definition.as_ref().map(|definition| definition.ownership);
    if ownership == Some(Ownership::FromFirstApply) && !live.is_some_and(apply::was_applied) {
        // What an earlier release recorded goes with the next write.
        return apply::forget_owners(object);
    }
    let owner = Owner::of(call);
    let reset = if live.is_none() { ignored(call, object) } else { FieldSet::default() };
    let (resource, manager) = (&call.resource, owner.manager(call));
    let others = conversion::others(resource);
    if conversion::is_identity(resource) {
        return apply::track_update(&resource.schema, live, object, &manager, &reset, &others);
    }
    let before = live.map(|live| conversion::served(resource, live.clone()));
    let mut shown = conversion::served(resource, object.clone());
    apply::track_update(&resource.schema, before.as_ref(), &mut shown, &manager, &reset, &others);
    if let (Some(stored), Some(shown)) =
        (object["metadata"].as_object_mut(), shown["metadata"].as_object_mut())
    {
        stored.remove("managedFields");
        stored.extend(shown.remove_entry("managedFields"));
    }
}

/// The object after an apply of `config` onto `live`.
///
/// # Errors
/// 409 with the conflicts, 400 for a configuration that cannot be merged.
pub(crate) fn applied(call: &Call, live: Option<&Value>, config: &Value) -> Result<Value, Status> {
    let owner = Owner::of(call);
    let reset = ignored(call, config);
    let force = call.query.flag("force");
    let others = conversion::others(&call.resource);
    apply::apply(&call.resource.schema, live, config, &owner.manager(call), force, &reset, &others)
        .map_err(|error| error.to_status())
}
