//! `v1.Pod`.

mod quality;
mod resize;
mod status;
mod table;
mod update;

use serde_json::{Value, json};

use crate::json::{child, default, entries, existing, given, integer, list, list_mut, set, text, truth};
use crate::path::Path;
use crate::pod_spec::{self, Scope, volumes};
use crate::problems::Problems;
use crate::rules::KindRules;

pub use quality::quality_of_service;
pub use resize::{prepare as prepare_resize, validate as validate_resize};
pub use update::{prepare_ephemeral, validate_ephemeral};

/// What Kubernetes demands of pods. Subresources besides `status` have functions of their own here.
pub const RULES: KindRules = KindRules {
    defaults: pod_spec::default_pod,
    prepare_create,
    prepare_update: |object, old| {
        set(object, "status", old["status"].clone());
        if let Some(spec) = existing(object, "spec") {
            pod_spec::drop_disabled(spec, &old["spec"]);
        }
    },
    prepare_status: status::prepare,
    validate: |problems, object| {
        validate_whole(problems, object, None);
        let spec = &object["spec"];
        let at = Path::new("spec");
        if !list(spec, "ephemeralContainers").is_empty() {
            problems.forbidden(at.field("ephemeralContainers"), "cannot be set on create");
        }
        if !text(spec, "nodeName").is_empty() && !list(spec, "schedulingGates").is_empty() {
            let why = "cannot be set until all schedulingGates have been cleared";
            problems.forbidden(at.field("nodeName"), why);
        }
        pod_spec::validate_fields_match(problems, &at, &object["metadata"], spec);
    },
    validates_updates: false,
    validate_update: update::validate,
    validate_status: status::validate,
    warnings: |object, old| {
        if old.is_some() {
            return Vec::new();
        }
        let mut found = Vec::new();
        let name = text(&object["metadata"], "name");
        let odd = crate::names::dns1123_label(name);
        if !odd.is_empty() {
            found.push(format!(
                "metadata.name: this is used in the Pod's hostname, which can result in surprising behavior; a DNS label is recommended: [{}]",
                odd.join(" ")
            ));
        }
        found.extend(pod_spec::warnings(&Path::new(""), object, false));
        found
    },
    columns: table::columns,
    cells: table::cells,
    selectable: &[
        "spec.nodeName",
        "spec.restartPolicy",
        "spec.schedulerName",
        "spec.serviceAccountName",
        "spec.hostNetwork",
        "status.phase",
        "status.podIP",
        "status.nominatedNodeName",
    ],
    field_value: |object, path| match path {
        // A flag that is not set is false, not "".
        "spec.hostNetwork" => Some(truth(&object["spec"], "hostNetwork").to_string()),
        "status.podIP" => Some(match list(&object["status"], "podIPs").first() {
            Some(ip) => text(ip, "ip").to_owned(),
            None => text(&object["status"], "podIP").to_owned(),
        }),
        _ => None,
    },
    ..KindRules::NEW
};

/// Metadata's annotations and the spec (upstream's `validatePodMetadataAndSpec`).
fn validate_whole(problems: &mut Problems, object: &Value, old: Option<&Value>) {
    let (metadata, spec) = (&object["metadata"], &object["spec"]);
    let notes = Path::new("metadata.annotations");
    pod_spec::validate_annotations(problems, &notes, metadata, spec, old.map(|old| &old["metadata"]));
    let scope = Scope { is_pod: true, metadata: Some(metadata), old: old.map(|old| &old["spec"]) };
    let at = Path::new("spec");
    pod_spec::validate(problems, &at, spec, scope);
    if text(spec, "serviceAccountName").is_empty() {
        tokens_need_accounts(problems, &at.field("volumes"), spec);
    }
}

fn tokens_need_accounts(problems: &mut Problems, at: &Path<'_>, spec: &Value) {
    for (index, volume) in list(spec, "volumes").iter().enumerate() {
        let at = at.index(index);
        let at = at.field("projected");
        let at = at.field("sources");
        for (number, source) in list(&volume["projected"], "sources").iter().enumerate() {
            if given(source, "serviceAccountToken").is_some() {
                let why = "must not be specified when serviceAccountName is not set";
                problems.forbidden(at.index(number).field("serviceAccountToken"), why);
            }
        }
    }
}

/// A new pod waits; what it may not bring along goes, and what follows from its own fields is filled in.
fn prepare_create(object: &mut Value) {
    let mut status = json!({"phase": "Pending", "qosClass": quality_of_service(&object["spec"])});
    if crate::json::number(&object["spec"], "terminationGracePeriodSeconds")
        .is_some_and(|seconds| seconds < 0)
        && let Some(spec) = existing(object, "spec")
    {
        set(spec, "terminationGracePeriodSeconds", 1);
    }
    if !list(&object["spec"], "schedulingGates").is_empty() {
        status["conditions"] = json!([{
            "type": "PodScheduled", "status": "False", "reason": "SchedulingGated",
            "message": "Scheduling is blocked due to non-empty scheduling gates",
            "lastProbeTime": null, "lastTransitionTime": null,
        }]);
    }
    set(object, "status", status);
    let labels = object["metadata"].get("labels").cloned().unwrap_or_default();
    if let Some(spec) = existing(object, "spec") {
        pod_spec::drop_disabled(spec, &Value::Null);
        merge_label_keys(spec, &labels);
    }
    app_armor_fields(object);
}

/// The keys of `matchLabelKeys` become expressions with the pod's own values.
fn merge_label_keys(spec: &mut Value, labels: &Value) {
    for constraint in list_mut(spec, "topologySpreadConstraints") {
        add_expressions(constraint, "matchLabelKeys", "In", labels);
    }
    let Some(affinity) = existing(spec, "affinity") else { return };
    for kind in ["podAffinity", "podAntiAffinity"] {
        let Some(pods) = existing(affinity, kind) else { continue };
        for term in list_mut(pods, "requiredDuringSchedulingIgnoredDuringExecution") {
            add_expressions(term, "matchLabelKeys", "In", labels);
            add_expressions(term, "mismatchLabelKeys", "NotIn", labels);
        }
        for weighted in list_mut(pods, "preferredDuringSchedulingIgnoredDuringExecution") {
            if let Some(term) = existing(weighted, "podAffinityTerm") {
                add_expressions(term, "matchLabelKeys", "In", labels);
                add_expressions(term, "mismatchLabelKeys", "NotIn", labels);
            }
        }
    }
}

fn add_expressions(holder: &mut Value, keys: &str, operator: &str, labels: &Value) {
    let keys: Vec<String> = crate::json::texts(holder, keys).map(str::to_owned).collect();
    let Some(selector) = existing(holder, "labelSelector") else { return };
    for key in keys {
        let Some(value) = labels.get(&key) else { continue };
        default(selector, "matchExpressions", json!([]));
        if let Some(expressions) = selector.get_mut("matchExpressions").and_then(Value::as_array_mut) {
            expressions.push(json!({"key": key, "operator": operator, "values": [value]}));
        }
    }
}

/// The old annotation of a container's AppArmor profile becomes the field.
fn app_armor_fields(object: &mut Value) {
    const PREFIX: &str = "container.apparmor.security.beta.kubernetes.io/";
    let profiles: Vec<(String, Value)> = entries(&object["metadata"], "annotations")
        .filter_map(|(key, value)| {
            let container = key.strip_prefix(PREFIX)?;
            let profile = match value.as_str()? {
                "runtime/default" => json!({"type": "RuntimeDefault"}),
                "unconfined" => json!({"type": "Unconfined"}),
                local => json!({"type": "Localhost", "localhostProfile": local.strip_prefix("localhost/")?}),
            };
            Some((container.to_owned(), profile))
        })
        .collect();
    let Some(spec) = existing(object, "spec") else { return };
    if profiles.is_empty() || text(&spec["os"], "name") == "windows" {
        return;
    }
    let of_pod = spec["securityContext"].get("appArmorProfile").cloned();
    for kind in ["initContainers", "containers", "ephemeralContainers"] {
        for container in list_mut(spec, kind) {
            let name = text(container, "name");
            let Some((_, profile)) = profiles.iter().find(|(own, _)| own == name) else { continue };
            if of_pod.as_ref() != Some(profile)
                && let Some(context) = child(container, "securityContext")
            {
                default(context, "appArmorProfile", profile.clone());
            }
        }
    }
}

/// Whether a pod has ended by itself.
#[must_use]
pub fn is_terminal(pod: &Value) -> bool {
    matches!(text(&pod["status"], "phase"), "Succeeded" | "Failed")
}

/// Whether its Ready condition is true.
#[must_use]
pub fn is_ready(pod: &Value) -> bool {
    list(&pod["status"], "conditions")
        .iter()
        .any(|condition| text(condition, "type") == "Ready" && text(condition, "status") == "True")
}

/// How long a deletion has to wait for the pod's node, in seconds; `None`: not at all. `requested` is the client's
/// gracePeriodSeconds.
#[must_use]
pub fn grace(object: &Value, requested: Option<i64>) -> Option<i64> {
    let spec = &object["spec"];
    // Nobody would end the work of a pod that is on no node or has ended.
    if text(spec, "nodeName").is_empty() || is_terminal(object) {
        return None;
    }
    let seconds = requested.unwrap_or_else(|| integer(spec, "terminationGracePeriodSeconds"));
    // Negative means "at once, but let the node agent have its say" (upstream's rule); 0 is force.
    let seconds = if seconds < 0 { 1 } else { seconds };
    (seconds > 0).then_some(seconds)
}

/// What a `v1.Binding` of a pod has to say.
pub fn validate_binding(problems: &mut Problems, binding: &Value) {
    let target = &binding["target"];
    let kind = text(target, "kind");
    if !matches!(kind, "" | "Node") {
        problems.unsupported_of("target.kind", kind, &["Node", "<empty>"]);
    }
    volumes::required(problems, &Path::new("target"), target, &["name"]);
}

#[cfg(test)]
mod tests;
