//! `v1.PersistentVolumeClaim`.

use jiff::Timestamp;
use serde_json::Value;

use crate::columns::{Column, age};
use crate::json::{child, default_text, entries, existing, given, list, remove, same, set, text, texts};
use crate::meta;
use crate::names;
use crate::path::Path;
use crate::pod_spec::{amount, canonical, is_native, quantity_value};
use crate::problems::{IMMUTABLE, Problems, Verbatim};
use crate::rules::{KindRules, or};

/// Access modes that a claim or volume may have.
pub(crate) const ACCESS_MODES: [&str; 4] =
    ["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];
/// How a volume may appear.
pub(crate) const VOLUME_MODES: [&str; 2] = ["Block", "Filesystem"];
const BETA_CLASS: &str = "volume.beta.kubernetes.io/storage-class";
const RESIZE_STATES: [&str; 5] = [
    "ControllerResizeInProgress",
    "ControllerResizeInfeasible",
    "NodeResizeInProgress",
    "NodeResizeInfeasible",
    "NodeResizePending",
];

/// What Kubernetes demands of claims.
pub const RULES: KindRules = KindRules {
    defaults: |object| {
        if let Some(status) = child(object, "status") {
            default_text(status, "phase", "Pending");
        }
        if let Some(spec) = existing(object, "spec") {
            default_spec(spec);
        }
    },
    counts_generation: false,
    prepare_create: |object| {
        set(object, "status", serde_json::json!({"phase": "Pending"}));
        if let Some(spec) = existing(object, "spec") {
            // The feature CrossNamespaceVolumeDataSource is off.
            if !text(&spec["dataSourceRef"], "namespace").is_empty() {
                remove(spec, "dataSourceRef");
            }
            unify_sources(spec);
        }
    },
    prepare_update: |object, _| {
        if let Some(spec) = existing(object, "spec") {
            unify_sources(spec);
        }
    },
    validate: |problems, object| validate_spec(problems, &Path::new("spec"), &object["spec"], &Value::Null),
    validates_updates: false,
    validate_update: |problems, object, old| {
        validate_spec(problems, &Path::new("spec"), &object["spec"], &old["spec"]);
        validate_step(problems, object, old);
    },
    validate_status: |problems, object, _| validate_status(problems, object),
    columns: || {
        vec![
            Column::object_name(),
            Column::described("Status", "PersistentVolumeClaimStatus", "phase"),
            Column::described("Volume", "PersistentVolumeClaimSpec", "volumeName"),
            Column::described("Capacity", "PersistentVolumeClaimStatus", "capacity"),
            Column::described("Access Modes", "PersistentVolumeClaimStatus", "accessModes"),
            Column::described("StorageClass", "PersistentVolumeClaimSpec", "storageClassName"),
            Column::described(
                "VolumeAttributesClass",
                "PersistentVolumeClaimSpec",
                "volumeAttributesClassName",
            ),
            Column::age(),
            Column::described("VolumeMode", "PersistentVolumeClaimSpec", "volumeMode").in_wide(),
        ]
    },
    cells,
    ..KindRules::NEW
};

/// A claim's or claim template's spec.
pub(crate) fn default_spec(spec: &mut Value) {
    if given(spec, "volumeMode").is_none() {
        set(spec, "volumeMode", "Filesystem");
    }
}

/// `dataSource` and `dataSourceRef` say the same where only one of them can have been meant (upstream's
/// `NormalizeDataSources`); `dataSource` takes only what it always took.
fn unify_sources(spec: &mut Value) {
    if let Some(source) = given(spec, "dataSource") {
        let (group, kind) = (text(source, "apiGroup"), text(source, "kind"));
        let known = matches!(
            (group, kind),
            ("", "PersistentVolumeClaim") | ("snapshot.storage.k8s.io", "VolumeSnapshot")
        );
        if !known {
            remove(spec, "dataSource");
        }
    }
    let copied = match (given(spec, "dataSource"), given(spec, "dataSourceRef")) {
        (Some(source), None) => Some(("dataSourceRef", source.clone())),
        (None, Some(source)) if text(source, "namespace").is_empty() => Some(("dataSource", source.clone())),
        _ => None,
    };
    if let Some((key, source)) = copied {
        set(spec, key, source);
    }
}

/// Access modes at `at` (of claims and volumes).
pub(crate) fn access_modes(problems: &mut Problems, at: &Path<'_>, spec: &Value) {
    let at = at.field("accessModes");
    let (mut single, mut other) = (false, false);
    for mode in texts(spec, "accessModes") {
        if !ACCESS_MODES.contains(&mode) {
            problems.unsupported(at, mode, &ACCESS_MODES);
        } else if mode == "ReadWriteOncePod" {
            single = true;
        } else {
            other = true;
        }
    }
    if single && other {
        problems.forbidden(at, "may not use ReadWriteOncePod with other access modes");
    }
}

/// A claim's spec at `at`; `old` is the one it replaces, or null.
pub(crate) fn validate_spec(problems: &mut Problems, at: &Path<'_>, spec: &Value, old: &Value) {
    if list(spec, "accessModes").is_empty() {
        problems.required(at.field("accessModes"), "at least 1 access mode is required");
    }
    if let Some(selector) = given(spec, "selector") {
        let tolerated = names::has_bad_selector_value(&old["selector"]);
        names::selector_with(problems, &at.field("selector"), selector, tolerated);
    }
    access_modes(problems, at, spec);
    let resources = at.field("resources");
    let storage = resources.key("storage");
    match given(&spec["resources"]["requests"], "storage") {
        None => problems.required(storage, ""),
        Some(size) if amount(size).is_some_and(|size| size.is_negative() || size.is_zero()) => {
            problems.invalid(storage, canonical(size), "must be greater than zero");
        }
        Some(size) => quantity_value(problems, storage, "storage", size),
    }
    for key in ["storageClassName", "volumeAttributesClassName"] {
        problems.check_optional(at.field(key), text(spec, key), names::dns1123_subdomain);
    }
    volume_mode(problems, at, spec);
    sources(problems, at, spec, old);
}

/// `volumeMode`, which may be missing.
pub(crate) fn volume_mode(problems: &mut Problems, at: &Path<'_>, spec: &Value) {
    if let Some(mode) = given(spec, "volumeMode")
        && !mode.as_str().is_some_and(|mode| VOLUME_MODES.contains(&mode))
    {
        problems.unsupported(at.field("volumeMode"), mode, &VOLUME_MODES);
    }
}

fn sources(problems: &mut Problems, at: &Path<'_>, spec: &Value, old: &Value) {
    let tolerated = ["dataSource", "dataSourceRef"].iter().any(|key| given(&old[*key], "apiGroup").is_some());
    for key in ["dataSource", "dataSourceRef"] {
        if let Some(source) = given(spec, key) {
            data_source(problems, &at.field(key), source, tolerated);
        }
    }
    let (Some(source), Some(reference)) = (given(spec, "dataSource"), given(spec, "dataSourceRef")) else {
        return;
    };
    if !text(reference, "namespace").is_empty() {
        let why = "may not be specified when dataSourceRef.namespace is specified";
        problems.invalid(at, Verbatim("{}"), why);
    } else if source.get("apiGroup") != reference.get("apiGroup")
        || source.get("kind") != reference.get("kind")
        || source.get("name") != reference.get("name")
    {
        problems.invalid(at, Verbatim("{}"), "must match dataSourceRef");
    }
}

fn data_source(problems: &mut Problems, at: &Path<'_>, source: &Value, any_group: bool) {
    for key in ["name", "kind"] {
        if text(source, key).is_empty() {
            problems.required(at.field(key), "");
        }
    }
    let (group, kind) = (text(source, "apiGroup"), text(source, "kind"));
    if group.is_empty() && kind != "PersistentVolumeClaim" {
        let why = "must be 'PersistentVolumeClaim' when referencing the default apiGroup";
        problems.invalid(at, kind, why);
    }
    if !any_group {
        problems.check_optional(at.field("apiGroup"), group, names::dns1123_subdomain);
    }
    problems.check_optional(at.field("namespace"), text(source, "namespace"), names::dns1123_label);
}

/// A template in a pod (`ephemeral`) or stateful set at `at`: labels and annotations are all its metadata may have.
pub(crate) fn validate_template(problems: &mut Problems, at: &Path<'_>, template: &Value) {
    let metadata = &template["metadata"];
    let within = at.field("metadata");
    meta::annotations(problems, &within.field("annotations"), metadata);
    names::labels(problems, &within.field("labels"), metadata, "labels");
    const OTHERS: [(&str, &str); 12] = [
        ("name", "name"),
        ("generateName", "generateName"),
        ("namespace", "namespace"),
        ("selfLink", "selfLink"),
        // Upstream lower-cases the first letter of Go's name.
        ("uid", "uID"),
        ("resourceVersion", "resourceVersion"),
        ("generation", "generation"),
        ("deletionTimestamp", "deletionTimestamp"),
        ("deletionGracePeriodSeconds", "deletionGracePeriodSeconds"),
        ("ownerReferences", "ownerReferences"),
        ("finalizers", "finalizers"),
        ("managedFields", "managedFields"),
    ];
    for (key, shown) in OTHERS {
        if given(metadata, key).is_some_and(|value| !crate::json::is_nothing(value)) {
            problems.forbidden(within.field(shown), "cannot be set");
        }
    }
    validate_spec(problems, &at.field("spec"), &template["spec"], &Value::Null);
}

/// What an update may not change (upstream's `ValidatePersistentVolumeClaimUpdate`).
fn validate_step(problems: &mut Problems, object: &Value, old: &Value) {
    let (mut new, mut before) = (object["spec"].clone(), old["spec"].clone());
    if text(&before, "volumeName").is_empty() {
        set(&mut before, "volumeName", new.get("volumeName").cloned().unwrap_or_default());
    }
    class_step(problems, object, old, &mut new, &before);
    let bound = text(&object["status"], "phase") == "Bound";
    if bound {
        if let Some(requests) =
            existing(&mut new, "resources").and_then(|resources| existing(resources, "requests"))
        {
            set(requests, "storage", before["resources"]["requests"]["storage"].clone());
        }
        set(&mut new, "volumeAttributesClassName", before["volumeAttributesClassName"].clone());
    }
    if !same(&new, &before) {
        let why = format!(
            "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims\n{}",
            crate::go_structures::difference("PersistentVolumeClaimSpec", &before, &new)
        );
        problems.forbidden("spec", &why);
    }
    let size = |object: &Value| given(&object["spec"]["resources"]["requests"], "storage").and_then(amount);
    let capacity = given(&old["status"]["capacity"], "storage")
        .and_then(amount)
        .unwrap_or(api_machinery::quantity::Quantity::ZERO);
    if let (Some(now), Some(then)) = (size(object), size(old))
        && now < then
        && now <= capacity
    {
        problems.forbidden("spec.resources.requests.storage", "field can not be less than status.capacity");
    }
    // Upstream says `volumeMode` without its parent.
    problems.immutable("volumeMode", given(&object["spec"], "volumeMode"), given(&old["spec"], "volumeMode"));
    attributes_step(problems, object, old);
}

fn class_step(problems: &mut Problems, object: &Value, old: &Value, new: &mut Value, before: &Value) {
    let note = |object: &Value| {
        given(&object["metadata"]["annotations"], BETA_CLASS).and_then(Value::as_str).map(str::to_owned)
    };
    let class = |object: &Value| {
        given(&object["spec"], "storageClassName").and_then(Value::as_str).map(str::to_owned)
    };
    let (old_note, new_note) = (note(old), note(object));
    let (old_class, new_class) = (class(old), class(object));
    if old_note.is_some()
        && old_class.is_none()
        && new_class == old_note
        && (new_note.is_none() || new_note == old_note)
    {
        // The class moves from the annotation to its field.
        remove(new, "storageClassName");
        return;
    }
    if old_note.as_deref().unwrap_or_default() != new_note.as_deref().unwrap_or_default() {
        let at = format!("metadata.annotations.{BETA_CLASS}");
        problems.invalid(at, new_note.as_deref().unwrap_or_default(), IMMUTABLE);
    }
    // A claim without a class may get the default one later.
    if new_class.is_some() && old_class.is_none() && (old_note.is_none() || new_class == old_note) {
        set(new, "storageClassName", before["storageClassName"].clone());
    }
}

fn attributes_step(problems: &mut Problems, object: &Value, old: &Value) {
    let class = |object: &Value| given(&object["spec"], "volumeAttributesClassName").cloned();
    let (new, before) = (class(object), class(old));
    if new == before || given(&old["status"], "currentVolumeAttributesClassName").is_none() {
        return;
    }
    let why = match new {
        None => "update to nil is forbidden when status.currentVolumeAttributesClassName is not nil",
        Some(class) if class == "" => {
            "update to empty string is forbidden when status.currentVolumeAttributesClassName is not nil"
        }
        Some(_) => return,
    };
    problems.forbidden("spec.volumeAttributesClassName", why);
}

fn validate_status(problems: &mut Problems, object: &Value) {
    if list(&object["spec"], "accessModes").is_empty() {
        problems.required("Spec.accessModes", "");
    }
    let status = &object["status"];
    let capacity = Path::new("status.capacity");
    for (name, size) in entries(status, "capacity") {
        basic(problems, &capacity.key(name), size);
    }
    let states = Path::new("status.allocatedResourceStatuses");
    for (name, state) in entries(status, "allocatedResourceStatuses") {
        resource_key(problems, &states, name);
        if !state.as_str().is_some_and(|state| RESIZE_STATES.contains(&state)) {
            problems.unsupported(states, name, &RESIZE_STATES);
        }
    }
    let allocated = Path::new("status.allocatedResources");
    for (name, size) in entries(status, "allocatedResources") {
        if resource_key(problems, &allocated, name) && basic(problems, &allocated.key(name), size) {
            quantity_value(problems, allocated.key(name), "storage", size);
        }
    }
}

/// A quantity that is none below nothing; answers whether it is fine.
pub(crate) fn basic(problems: &mut Problems, at: &Path<'_>, size: &Value) -> bool {
    let negative = amount(size).filter(|size| size.is_negative());
    if let Some(size) = negative {
        problems.invalid(at, size.units(), "must be a valid resource quantity");
    }
    negative.is_none()
}

fn resource_key(problems: &mut Problems, at: &Path<'_>, name: &str) -> bool {
    let before = problems.len();
    problems.check(at, name, names::qualified_name);
    if problems.len() == before && is_native(name) && name != "storage" {
        problems.unsupported(at, name, &["storage"]);
    }
    problems.len() == before
}

/// Access modes in kubectl's letters.
pub(crate) fn shown_modes(object: &Value, key: &str) -> String {
    const LETTERS: [(&str, &str); 4] = [
        ("ReadWriteOnce", "RWO"),
        ("ReadOnlyMany", "ROX"),
        ("ReadWriteMany", "RWX"),
        ("ReadWriteOncePod", "RWOP"),
    ];
    let found: Vec<&str> = LETTERS
        .iter()
        .filter(|(name, _)| texts(object, key).any(|mode| mode == *name))
        .map(|(_, short)| *short)
        .collect();
    found.join(",")
}

/// The class an object names: in the old annotation or in its field.
pub(crate) fn shown_class(object: &Value) -> &str {
    match text(&object["metadata"]["annotations"], BETA_CLASS) {
        "" => text(&object["spec"], "storageClassName"),
        class => class,
    }
}

fn cells(object: &Value, now: Timestamp) -> Vec<Value> {
    let (spec, status) = (&object["spec"], &object["status"]);
    let phase = if given(&object["metadata"], "deletionTimestamp").is_some() {
        Value::from("Terminating")
    } else {
        or(text(status, "phase"), "")
    };
    let bound = !text(spec, "volumeName").is_empty();
    let capacity = given(&status["capacity"], "storage").filter(|_| bound).map(canonical).unwrap_or_default();
    vec![
        phase,
        text(spec, "volumeName").into(),
        capacity.into(),
        if bound { shown_modes(status, "accessModes") } else { String::new() }.into(),
        shown_class(object).into(),
        or(text(spec, "volumeAttributesClassName"), "<unset>"),
        age(object, now),
        or(text(spec, "volumeMode"), "<unset>"),
    ]
}
