//! Which other objects a pod or a volume names (upstream `pkg/api/v1/pod`, `pkg/api/v1/persistentvolume`).

use serde_json::Value;

use crate::json::{list, present, text};

/// Sources of volumes whose secret stands in `secretRef.name`.
const WITH_SECRET_REF: [&str; 7] = ["cephfs", "cinder", "flexVolume", "rbd", "scaleIO", "iscsi", "storageos"];

/// Every container of a pod spec, of whatever sort.
pub fn containers(spec: &Value) -> impl Iterator<Item = &Value> {
    ["initContainers", "containers", "ephemeralContainers"].into_iter().flat_map(|key| list(spec, key))
}

/// The objects that a container's environment reads from `kind` (`secret`, `configMap`): variable ("" for all keys of
/// the object) and name.
pub fn of_environment<'a>(container: &'a Value, kind: &str) -> impl Iterator<Item = (&'a str, &'a str)> {
    let (key_reference, reference) = (format!("{kind}KeyRef"), format!("{kind}Ref"));
    let single = list(container, "env").iter().filter_map(move |variable| {
        let found = variable["valueFrom"].get(&key_reference).filter(|value| !value.is_null())?;
        Some((text(variable, "name"), text(found, "name")))
    });
    let whole = list(container, "envFrom").iter().filter_map(move |source| {
        let found = source.get(&reference).filter(|value| !value.is_null())?;
        Some(("", text(found, "name")))
    });
    single.chain(whole)
}

/// The secrets that a volume of a pod mounts or is mounted with.
fn secrets_of_volume(volume: &Value) -> impl Iterator<Item = &str> {
    let plain = [
        text(&volume["secret"], "secretName"),
        text(&volume["azureFile"], "secretName"),
        text(&volume["csi"]["nodePublishSecretRef"], "name"),
    ];
    let referred = WITH_SECRET_REF.iter().map(|kind| text(&volume[*kind]["secretRef"], "name"));
    let projected =
        list(&volume["projected"], "sources").iter().map(|source| text(&source["secret"], "name"));
    plain.into_iter().chain(referred).chain(projected).filter(|name| !name.is_empty())
}

/// Every secret that a pod spec names; a name may come twice.
pub fn secrets(spec: &Value) -> impl Iterator<Item = &str> {
    let pull = list(spec, "imagePullSecrets").iter().map(|entry| text(entry, "name"));
    let environment = containers(spec).flat_map(|own| of_environment(own, "secret")).map(|(_, name)| name);
    let volumes = list(spec, "volumes").iter().flat_map(secrets_of_volume);
    pull.chain(environment).chain(volumes).filter(|name| !name.is_empty())
}

/// Every config map that a pod spec names; a name may come twice.
pub fn config_maps(spec: &Value) -> impl Iterator<Item = &str> {
    let environment = containers(spec).flat_map(|own| of_environment(own, "configMap")).map(|(_, name)| name);
    let volumes = list(spec, "volumes").iter().flat_map(|volume| {
        let projected =
            list(&volume["projected"], "sources").iter().map(|source| text(&source["configMap"], "name"));
        std::iter::once(text(&volume["configMap"], "name")).chain(projected)
    });
    environment.chain(volumes).filter(|name| !name.is_empty())
}

/// The claim that stands behind a volume of the pod `pod`: the one it names, or the one that is made for it.
#[must_use]
pub fn claim_of_volume(pod: &str, volume: &Value) -> Option<String> {
    if present(volume, "persistentVolumeClaim") {
        return Some(text(&volume["persistentVolumeClaim"], "claimName").to_owned());
    }
    present(volume, "ephemeral").then(|| format!("{pod}-{}", text(volume, "name")))
}

/// Every ResourceClaim of a pod: those it names, and those that were made for it, which its status tells.
pub fn resource_claims(pod: &Value) -> impl Iterator<Item = &str> {
    let named = list(&pod["spec"], "resourceClaims").iter().map(|claim| text(claim, "resourceClaimName"));
    let made = list(&pod["status"], "resourceClaimStatuses").iter();
    let made = made.map(|claim| text(claim, "resourceClaimName"));
    let extended = text(&pod["status"]["extendedResourceClaimStatus"], "resourceClaimName");
    named.chain(made).chain(std::iter::once(extended)).filter(|name| !name.is_empty())
}

/// The secrets by which nodes reach a PersistentVolume: namespace and name. Where no namespace is told, it is that of the
/// claim.
#[must_use]
pub fn secrets_of_persistent_volume(volume: &Value) -> Vec<(&str, &str)> {
    let spec = &volume["spec"];
    let claim = text(&spec["claimRef"], "namespace");
    let or_claim = |namespace| if str::is_empty(namespace) { claim } else { namespace };
    let referred = ["cephfs", "cinder", "flexVolume", "rbd", "scaleIO", "iscsi", "storageos"]
        .into_iter()
        .map(|kind| &spec[kind]["secretRef"])
        .chain(
            ["nodePublishSecretRef", "nodeStageSecretRef", "nodeExpandSecretRef"]
                .into_iter()
                .map(|key| &spec["csi"][key]),
        )
        .map(|reference| (or_claim(text(reference, "namespace")), text(reference, "name")));
    let azure = &spec["azureFile"];
    let azure = (or_claim(text(azure, "secretNamespace")), text(azure, "secretName"));
    referred.chain([azure]).filter(|(_, name)| !name.is_empty()).collect()
}

/// What a pod spec refers to in the API, as the plural a refusal names; `None`: nothing. A mirror pod must not refer to
/// anything, for its node would get access to it.
///
/// # Errors
/// For a volume whose source is not known.
pub fn api_reference(spec: &Value) -> Result<Option<&'static str>, String> {
    if !text(spec, "serviceAccountName").is_empty() {
        return Ok(Some("serviceaccounts"));
    }
    if secrets(spec).next().is_some() {
        return Ok(Some("secrets"));
    }
    if config_maps(spec).next().is_some() {
        return Ok(Some("configmaps"));
    }
    if !list(spec, "resourceClaims").is_empty() {
        return Ok(Some("resourceclaims"));
    }
    for volume in list(spec, "volumes") {
        if let Some(found) = reference_of_volume(volume)? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

fn reference_of_volume(volume: &Value) -> Result<Option<&'static str>, String> {
    const LOCAL: [&str; 22] = [
        "awsElasticBlockStore",
        "azureDisk",
        "cephfs",
        "cinder",
        "downwardAPI",
        "emptyDir",
        "fc",
        "flexVolume",
        "flocker",
        "gcePersistentDisk",
        "gitRepo",
        "hostPath",
        "image",
        "iscsi",
        "nfs",
        "photonPersistentDisk",
        "portworxVolume",
        "quobyte",
        "rbd",
        "scaleIO",
        "storageos",
        "vsphereVolume",
    ];
    const REMOTE: [(&str, &str); 7] = [
        ("configMap", "configmaps (via configmap volumes)"),
        ("secret", "secrets (via secret volumes)"),
        ("csi", "csidrivers (via CSI volumes)"),
        ("glusterfs", "endpoints (via glusterFS volumes)"),
        ("persistentVolumeClaim", "persistentvolumeclaims"),
        ("ephemeral", "persistentvolumeclaims (via ephemeral volumes)"),
        ("azureFile", "secrets (via azureFile volumes)"),
    ];
    const PROJECTED: [(&str, &str); 5] = [
        ("configMap", "configmaps (via projected volumes)"),
        ("secret", "secrets (via projected volumes)"),
        ("serviceAccountToken", "serviceaccounts (via projected volumes)"),
        ("clusterTrustBundle", "clustertrustbundles"),
        ("podCertificate", "podcertificates"),
    ];
    let first = |table: &'static [(&'static str, &'static str)], object: &Value| {
        table.iter().find(|(key, _)| present(object, key)).map(|(_, told)| *told)
    };
    if LOCAL.iter().any(|key| present(volume, key)) {
        return Ok(None);
    }
    if let Some(found) = first(&REMOTE, volume) {
        return Ok(Some(found));
    }
    let name = text(volume, "name");
    if !present(volume, "projected") {
        return Err(format!("unknown volume type for volume  {name:?}"));
    }
    for source in list(&volume["projected"], "sources") {
        match first(&PROJECTED, source) {
            Some(found) => return Ok(Some(found)),
            None if present(source, "downwardAPI") => {}
            None => return Err(format!("unknown source for projected volume {name:?}")),
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pod_names_objects_in_many_places() {
        let pod = json!({
            "metadata": {"name": "p"},
            "spec": {
                "imagePullSecrets": [{"name": "pull"}],
                "initContainers": [{"env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "env"}}}]}],
                "containers": [{"envFrom": [{"secretRef": {"name": "all"}}, {"configMapRef": {"name": "map"}}]}],
                "ephemeralContainers": [{"env": [{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "key"}}}]}],
                "volumes": [
                    {"name": "a", "secret": {"secretName": "mounted"}},
                    {"name": "b", "projected": {"sources": [{"secret": {"name": "part"}}, {"configMap": {"name": "half"}}]}},
                    {"name": "c", "csi": {"nodePublishSecretRef": {"name": "csi"}}},
                    {"name": "d", "cephfs": {"secretRef": {"name": "ceph"}}},
                    {"name": "e", "persistentVolumeClaim": {"claimName": "claim"}},
                    {"name": "f", "ephemeral": {}},
                ],
                "resourceClaims": [{"name": "r", "resourceClaimName": "device"}],
            },
            "status": {"resourceClaimStatuses": [{"name": "t", "resourceClaimName": "made"}]},
        });
        let spec = &pod["spec"];
        assert_eq!(
            secrets(spec).collect::<Vec<_>>(),
            ["pull", "env", "all", "mounted", "part", "csi", "ceph"].into_iter().collect::<Vec<_>>()
        );
        let mut maps: Vec<_> = config_maps(spec).collect();
        maps.sort_unstable();
        assert_eq!(maps, ["half", "key", "map"]);
        let claims: Vec<_> =
            list(spec, "volumes").iter().filter_map(|volume| claim_of_volume("p", volume)).collect();
        assert_eq!(claims, ["claim", "p-f"]);
        assert_eq!(resource_claims(&pod).collect::<Vec<_>>(), ["device", "made"]);
    }

    #[test]
    fn a_volume_without_a_namespace_for_its_secret_takes_its_claims() {
        let volume = json!({"spec": {"claimRef": {"namespace": "n", "name": "c"}, "azureFile": {"secretName": "a"},
            "csi": {"nodeStageSecretRef": {"namespace": "other", "name": "b"}}}});
        assert_eq!(secrets_of_persistent_volume(&volume), [("other", "b"), ("n", "a")]);
    }

    #[test]
    fn what_a_mirror_pod_must_not_refer_to() {
        let volume = |source: Value| json!({"volumes": [source]});
        assert_eq!(api_reference(&volume(json!({"name": "v", "hostPath": {}}))), Ok(None));
        assert_eq!(api_reference(&json!({"serviceAccountName": "a"})), Ok(Some("serviceaccounts")));
        assert_eq!(
            api_reference(&volume(json!({"name": "v", "persistentVolumeClaim": {"claimName": "c"}}))),
            Ok(Some("persistentvolumeclaims"))
        );
        assert_eq!(
            api_reference(&volume(
                json!({"name": "v", "projected": {"sources": [{"serviceAccountToken": {}}]}})
            )),
            Ok(Some("serviceaccounts (via projected volumes)"))
        );
        assert!(api_reference(&volume(json!({"name": "v", "new": {}}))).is_err());
    }
}
