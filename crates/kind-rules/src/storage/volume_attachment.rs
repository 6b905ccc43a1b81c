//! `VolumeAttachment`.

use api_machinery::names;
use serde_json::Value;

use super::driver_name;
use crate::checks::{columns, each};
use crate::columns::age;
use crate::json::{entries, existing, integer, present, remove, set, text, truth};
use crate::path::Path;
use crate::problems::{IMMUTABLE, Problems, Verbatim, go_form, quoted};
use crate::rules::KindRules;

/// Bound of a status' metadata in bytes; upstream names it for the message of an error too, whose own bound is smaller.
const METADATA_MAX: usize = 256 * 1024;
const ERROR_MESSAGE_MAX: usize = 1024;

/// `storage.k8s.io/v1.VolumeAttachment`.
pub const VOLUME_ATTACHMENT: KindRules = KindRules {
    validate,
    validate_update: keeps_spec,
    prepare_status: keep_metadata,
    validate_status: |problems, object, old| {
        validate(problems, object);
        keeps_spec(problems, object, old);
    },
    counts_generation: false,
    unconditional_update: false,
    columns: || {
        let mut all = columns(&["Attacher", "PV", "Node", "Attached:boolean", "Age"]);
        "name".clone_into(&mut all[1].format);
        all
    },
    cells: |object, now| {
        let spec = &object["spec"];
        vec![
            text(spec, "attacher").into(),
            text(&spec["source"], "persistentVolumeName").into(),
            text(spec, "nodeName").into(),
            truth(&object["status"], "attached").into(),
            age(object, now),
        ]
    },
    ..KindRules::NEW
};

fn keeps_spec(problems: &mut Problems, object: &Value, old: &Value) {
    let spec = &object["spec"];
    if *spec == old["spec"] {
        return;
    }
    let source = [
        ("persistentVolumeName", "PersistentVolumeName", "null"),
        ("inlineVolumeSpec", "InlineVolumeSpec", "null"),
    ];
    let shown = format!(
        "{{\"Attacher\":{},\"Source\":{},\"NodeName\":{}}}",
        quoted(text(spec, "attacher")),
        go_form(&spec["source"], &source),
        quoted(text(spec, "nodeName"))
    );
    problems.invalid("spec", Verbatim(&shown), IMMUTABLE);
}

/// A status writer changes no labels, annotations, finalizers or owners (upstream's `ResetObjectMetaForStatus`).
pub(crate) fn keep_metadata(object: &mut Value, old: &Value) {
    let Some(metadata) = existing(object, "metadata") else { return };
    for key in ["labels", "annotations", "finalizers", "ownerReferences"] {
        match old["metadata"].get(key) {
            Some(kept) => set(metadata, key, kept.clone()),
            None => drop(remove(metadata, key)),
        }
    }
}

fn validate(problems: &mut Problems, object: &Value) {
    let (spec, at) = (&object["spec"], Path::new("spec"));
    driver_name(problems, at.field("attacher"), text(spec, "attacher"));
    let (source, source_at) = (&spec["source"], at.field("source"));
    let one = "must specify exactly one of inlineVolumeSpec and persistentVolumeName";
    match (present(source, "inlineVolumeSpec"), source["persistentVolumeName"].as_str()) {
        (false, None) => problems.required(source_at, one),
        (true, Some(_)) => problems.forbidden(source_at, one),
        (false, Some("")) => {
            problems.required(
                source_at.field("persistentVolumeName"),
                "must specify non empty persistentVolumeName",
            );
        }
        _ => {}
    }
    let node = text(spec, "nodeName");
    each(problems, at.field("nodeName"), node, names::dns1123_subdomain(node));
    status(problems, &object["status"]);
    if let Some(volume) = source["persistentVolumeName"].as_str() {
        each(problems, source_at.field("persistentVolumeName"), volume, names::dns1123_subdomain(volume));
    }
}

fn status(problems: &mut Problems, status: &Value) {
    let at = Path::new("status");
    let bytes: usize = entries(status, "attachmentMetadata")
        .map(|(key, value)| key.len() + value.as_str().unwrap_or_default().len())
        .sum();
    if bytes > METADATA_MAX {
        problems.too_many_bytes(at.field("attachmentMetadata"), METADATA_MAX);
    }
    for key in ["attachError", "detachError"] {
        if text(&status[key], "message").len() > ERROR_MESSAGE_MAX {
            problems.too_many_bytes(at.field(key).field("message"), METADATA_MAX);
        }
        let code = integer(&status[key], "errorCode");
        if code < 0 {
            let detail = "must be between 0 and 2147483647, inclusive";
            problems.invalid(at.field(key).field("errorCode"), code, detail);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::{findings, status_findings, update_findings};

    #[test]
    fn an_attachment_names_one_volume() {
        let of = |source: Value| json!({"spec": {"attacher": "a.b", "nodeName": "n", "source": source}});
        let one = "must specify exactly one of inlineVolumeSpec and persistentVolumeName";
        assert_eq!(
            findings(&VOLUME_ATTACHMENT, &of(json!({}))),
            [format!("spec.source: Required value: {one}")]
        );
        let good = of(json!({"persistentVolumeName": "p"}));
        assert!(findings(&VOLUME_ATTACHMENT, &good).is_empty());
        let other = of(json!({"persistentVolumeName": "q"}));
        assert_eq!(update_findings(&VOLUME_ATTACHMENT, &other, &good).len(), 1);
        let mut failed = good.clone();
        failed["status"] = json!({"attachError": {"message": "x".repeat(1025)}});
        assert_eq!(
            status_findings(&VOLUME_ATTACHMENT, &failed, &good),
            ["status.attachError.message: Too long: may not be more than 262144 bytes"]
        );
    }
}
