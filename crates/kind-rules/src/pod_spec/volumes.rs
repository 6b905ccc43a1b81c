//! Volumes of a pod, and the sources that persistent volumes share with them.

use serde_json::Value;

use super::containers::pull_policy;
use super::resources::amount;
use super::validation::Scope;
use crate::core::persistent_volume_claim;
use crate::json::{given, list, text};
use crate::names;
use crate::path::Path;
use crate::problems::Problems;

mod files;
pub mod legacy;
pub mod paths;
mod projected;

pub mod downward;

/// The sound volumes of a pod by name: what mounts and devices may refer to.
#[derive(Debug, Default)]
pub(super) struct Sources<'a>(Vec<(&'a str, &'a Value)>);

impl<'a> Sources<'a> {
    pub(super) fn get(&self, name: &str) -> Option<&'a Value> {
        self.0.iter().find(|(own, _)| *own == name).map(|(_, volume)| *volume)
    }
}

/// `spec.volumes` at `at`.
pub(super) fn validate<'a>(
    problems: &mut Problems,
    at: &Path<'_>,
    spec: &'a Value,
    scope: Scope<'_>,
) -> Sources<'a> {
    let mut sources = Sources::default();
    let volumes = list(spec, "volumes");
    for (index, volume) in volumes.iter().enumerate() {
        let at = at.index(index);
        let before = problems.len();
        let name = text(volume, "name");
        source(problems, &at, volume, scope);
        problems.check_required(at.field("name"), name, names::dns1123_label);
        if sources.get(name).is_some() {
            problems.duplicate(at.field("name"), name);
        }
        if problems.len() == before {
            sources.0.push((name, volume));
        }
        let claim = text(&volume["persistentVolumeClaim"], "claimName");
        if !claim.is_empty() && is_created_here(volumes, scope.name(), claim) {
            let why = "must not reference a PVC that gets created for an ephemeral volume";
            problems.invalid(at.field("persistentVolumeClaim").field("claimName"), claim, why);
        }
    }
    sources
}

fn is_created_here(volumes: &[Value], pod: &str, claim: &str) -> bool {
    !pod.is_empty()
        && volumes.iter().filter(|volume| given(volume, "ephemeral").is_some()).any(|volume| {
            claim.strip_prefix(pod).and_then(|rest| rest.strip_prefix('-')) == Some(text(volume, "name"))
        })
}

const ONE: &str = "may not specify more than 1 volume type";

/// The sources in upstream's order of looking at them, with the name that upstream says of a second one.
const KINDS: [(&str, &str); 30] = [
    ("emptyDir", "emptyDir"),
    ("hostPath", "hostPath"),
    ("gitRepo", "gitRepo"),
    ("gcePersistentDisk", "gcePersistentDisk"),
    ("awsElasticBlockStore", "awsElasticBlockStore"),
    ("secret", "secret"),
    ("nfs", "nfs"),
    ("iscsi", "iscsi"),
    ("glusterfs", "glusterfs"),
    ("flocker", "flocker"),
    ("persistentVolumeClaim", "persistentVolumeClaim"),
    ("rbd", "rbd"),
    ("cinder", "cinder"),
    ("cephfs", "cephFS"),
    ("quobyte", "quobyte"),
    ("downwardAPI", "downwarAPI"),
    ("fc", "fc"),
    ("flexVolume", "flexVolume"),
    ("configMap", "configMap"),
    ("azureFile", "azureFile"),
    ("vsphereVolume", "vsphereVolume"),
    ("photonPersistentDisk", "photonPersistentDisk"),
    ("portworxVolume", "portworxVolume"),
    ("azureDisk", "azureDisk"),
    ("storageos", "storageos"),
    ("projected", "projected"),
    ("scaleIO", "scaleIO"),
    ("csi", "csi"),
    ("ephemeral", "ephemeral"),
    ("image", "image"),
];

fn source(problems: &mut Problems, at: &Path<'_>, volume: &Value, scope: Scope<'_>) {
    let mut found = false;
    for (kind, shown) in KINDS {
        let Some(source) = given(volume, kind) else { continue };
        if found && kind != "emptyDir" {
            problems.forbidden(at.field(shown), ONE);
        } else {
            one_source(problems, at, kind, source, volume, scope);
        }
        found = true;
        if kind == "iscsi" {
            initiator_length(problems, at, source, text(volume, "name"));
        }
    }
    if !found {
        problems.required(at, "must specify a volume type");
    }
}

fn initiator_length(problems: &mut Problems, at: &Path<'_>, iscsi: &Value, name: &str) {
    if given(iscsi, "initiatorName").is_some() && name.len() + 1 + text(iscsi, "targetPortal").len() > 64 {
        problems.invalid(at.field("name"), name, legacy::ISCSI_LENGTH);
    }
}

fn one_source(
    problems: &mut Problems,
    whole: &Path<'_>,
    kind: &str,
    source: &Value,
    volume: &Value,
    scope: Scope<'_>,
) {
    let at = whole.field(kind);
    match kind {
        "emptyDir" => {
            if given(source, "sizeLimit").and_then(amount).is_some_and(|size| size.is_negative()) {
                let why = "SizeLimit field must be a valid resource quantity";
                problems.forbidden(at.field("sizeLimit"), why);
            }
        }
        "hostPath" => paths::host_path(problems, &at, source),
        "secret" => files::secret(problems, &at, source),
        "configMap" => files::config_map(problems, &at, source),
        "downwardAPI" => downward::volume(problems, &at, source),
        "projected" => projected::validate(problems, &at, source, scope),
        "persistentVolumeClaim" => required(problems, &at, source, &["claimName"]),
        "csi" => csi(problems, &at, source),
        "ephemeral" => ephemeral(problems, whole, source, text(volume, "name"), scope),
        "image" => {
            if scope.is_pod {
                required(problems, &at, source, &["reference"]);
            }
            pull_policy(problems, &at.field("pullPolicy"), text(source, "pullPolicy"));
        }
        // Upstream's own spelling of the path.
        "gcePersistentDisk" => legacy::source(problems, &whole.field("persistentDisk"), kind, source),
        _ => legacy::source(problems, &at, kind, source),
    }
}

/// Text fields that must not be empty.
pub fn required(problems: &mut Problems, at: &Path<'_>, source: &Value, keys: &[&str]) {
    for key in keys {
        if text(source, key).is_empty() {
            problems.required(at.field(key), "");
        }
    }
}

/// The name of a CSI driver.
pub fn csi_driver_name(problems: &mut Problems, at: &Path<'_>, name: &str) {
    if name.is_empty() {
        problems.required(at, "");
        return;
    }
    if name.len() > 63 {
        problems.too_many_bytes(at, 63);
    }
    for why in names::dns1123_subdomain(&name.to_lowercase()) {
        problems.invalid(at, name, &why);
    }
}

fn csi(problems: &mut Problems, at: &Path<'_>, source: &Value) {
    csi_driver_name(problems, &at.field("driver"), text(source, "driver"));
    if let Some(secret) = given(source, "nodePublishSecretRef") {
        let name = text(secret, "name");
        if name.is_empty() {
            problems.required(at.field("nodePublishSecretRef").field("name"), "");
        } else {
            problems.check(at.field("name"), name, names::dns1123_subdomain);
        }
    }
}

fn ephemeral(problems: &mut Problems, whole: &Path<'_>, source: &Value, name: &str, scope: Scope<'_>) {
    let at = whole.field("ephemeral");
    let at = at.field("volumeClaimTemplate");
    match given(source, "volumeClaimTemplate") {
        None => problems.required(at, ""),
        Some(template) => persistent_volume_claim::validate_template(problems, &at, template),
    }
    if !scope.name().is_empty() && !name.is_empty() {
        let claim = format!("{}-{name}", scope.name());
        for why in names::dns1123_subdomain(&claim) {
            let why = format!("PVC name {}: {why}", crate::problems::quoted(&claim));
            problems.invalid(whole.field("name"), name, &why);
        }
    }
}
