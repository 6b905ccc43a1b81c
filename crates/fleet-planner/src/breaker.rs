//! The deletion breaker: deletions that a person must confirm.

use fleet_objects::ObjectReference;

/// What a cluster's owner allows without asking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Fewer deletions than this at once are never held for their number.
    pub always_allowed: usize,
    /// Percent of all managed objects that may go at once.
    pub max_percent: usize,
}

impl Default for Limits {
    /// A small application may go; 20 and more objects only when they are at most a third of what is managed.
    fn default() -> Self {
        Self { always_allowed: 20, max_percent: 33 }
    }
}

/// Whether the deletions may go on. `managed` counts every object managed in the cluster, those to be deleted included.
///
/// # Errors
/// Why they are held.
pub fn check(
    deletions: &[ObjectReference],
    managed: usize,
    limits: Limits,
    confirmed: bool,
) -> Result<(), String> {
    if confirmed || deletions.is_empty() {
        return Ok(());
    }
    if let Some(grave) = deletions.iter().find(|object| is_grave(object)) {
        return Err(format!(
            "deleting {} {:?} may destroy more than itself; {} deletions wait for confirmation",
            grave.kind,
            grave.name,
            deletions.len()
        ));
    }
    if deletions.len() >= limits.always_allowed && deletions.len() * 100 > managed.max(1) * limits.max_percent
    {
        return Err(format!(
            "{} of {managed} managed objects would be deleted, more than {} %; they wait for confirmation",
            deletions.len(),
            limits.max_percent
        ));
    }
    Ok(())
}

/// Kinds whose deletion takes other things with it: definitions of kinds, namespaces, volumes and claims on them.
fn is_grave(object: &ObjectReference) -> bool {
    let group = object.api_version.split_once('/').map_or("", |(group, _)| group);
    matches!(
        (group, object.kind.as_str()),
        ("", "Namespace" | "PersistentVolume" | "PersistentVolumeClaim")
            | ("apiextensions.k8s.io", "CustomResourceDefinition")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn objects(kind: &str, count: usize) -> Vec<ObjectReference> {
        (0..count)
            .map(|index| ObjectReference {
                api_version: "v1".into(),
                kind: kind.into(),
                namespace: None,
                name: index.to_string(),
            })
            .collect()
    }

    #[test]
    fn numbers_and_grave_kinds() {
        let limits = Limits::default();
        assert!(check(&objects("ConfigMap", 19), 19, limits, false).is_ok());
        assert!(check(&objects("ConfigMap", 20), 20, limits, false).is_err());
        assert!(check(&objects("ConfigMap", 20), 61, limits, false).is_ok());
        assert!(check(&objects("ConfigMap", 20), 20, limits, true).is_ok());
        assert!(check(&objects("Namespace", 1), 1000, limits, false).unwrap_err().contains("Namespace"));
        assert!(check(&[], 0, limits, false).is_ok());
    }
}
