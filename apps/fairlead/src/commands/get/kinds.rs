//! What people call a kind, looked up in what a cluster serves. Pure.

use serde_json::Value;

/// A kind that a cluster serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::commands) struct Served {
    /// `/api/v1` or `/apis/GROUP/VERSION`.
    pub(in crate::commands) root: String,
    /// The plural.
    pub(in crate::commands) plural: String,
    /// Whether its objects are in namespaces.
    pub(in crate::commands) namespaced: bool,
}

/// Looks for `asked` in aggregated discovery documents (`/api`, then `/apis`), in their order. It may be a plural, singular,
/// short name or kind, or `PLURAL.GROUP`.
pub(in crate::commands) fn find(documents: &[Value], asked: &str) -> Option<Served> {
    let asked = asked.to_ascii_lowercase();
    let (word, group) = asked.split_once('.').unwrap_or((asked.as_str(), ""));
    let items = |value: &Value, key: &str| value[key].as_array().cloned().unwrap_or_default();
    let mut found: Option<(u8, Served)> = None;
    for item in documents.iter().flat_map(|document| items(document, "items")) {
        let own_group = item["metadata"]["name"].as_str().unwrap_or_default();
        if !group.is_empty() && group != own_group {
            continue;
        }
        for version in items(&item, "versions") {
            let number = version["version"].as_str().unwrap_or_default();
            for resource in items(&version, "resources") {
                let Some(rank) = rank(&resource, word) else { continue };
                // Groups and versions come in the order of preference; a better name wins over an earlier place.
                if found.as_ref().is_some_and(|(best, _)| *best <= rank) {
                    continue;
                }
                let root = if own_group.is_empty() {
                    format!("/api/{number}")
                } else {
                    format!("/apis/{own_group}/{number}")
                };
                let plural = resource["resource"].as_str().unwrap_or_default().to_owned();
                found = Some((rank, Served { root, plural, namespaced: resource["scope"] == "Namespaced" }));
            }
        }
    }
    found.map(|(_, served)| served)
}

/// How well a word names a resource; less is better.
fn rank(resource: &Value, word: &str) -> Option<u8> {
    let is = |value: &Value| value.as_str().is_some_and(|own| own.eq_ignore_ascii_case(word));
    let short = resource["shortNames"].as_array().is_some_and(|own| own.iter().any(is));
    match () {
        () if is(&resource["resource"]) => Some(0),
        () if is(&resource["singularResource"]) => Some(1),
        () if short => Some(2),
        () if is(&resource["responseKind"]["kind"]) => Some(3),
        () => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_kind_is_found_by_every_name_it_has() {
        let resource = |plural: &str, singular: &str, kind: &str, short: &[&str], scope: &str| {
            json!({"resource": plural, "singularResource": singular, "shortNames": short, "scope": scope,
                "responseKind": {"kind": kind}})
        };
        let core = json!({"items": [{"metadata": {}, "versions": [{"version": "v1", "resources": [
            resource("pods", "pod", "Pod", &["po"], "Namespaced"),
            resource("events", "event", "Event", &["ev"], "Namespaced"),
            resource("nodes", "node", "Node", &["no"], "Cluster")]}]}]});
        let groups = json!({"items": [
            {"metadata": {"name": "apps"}, "versions": [{"version": "v1", "resources": [
                resource("deployments", "deployment", "Deployment", &["deploy"], "Namespaced")]}]},
            {"metadata": {"name": "events.k8s.io"}, "versions": [{"version": "v1", "resources": [
                resource("events", "event", "Event", &["ev"], "Namespaced")]}]}]});
        let documents = [core, groups];
        for asked in ["pods", "pod", "po", "Pod", "PODS"] {
            let found = find(&documents, asked).expect(asked);
            assert_eq!((found.root.as_str(), found.plural.as_str()), ("/api/v1", "pods"));
        }
        assert!(!find(&documents, "no").expect("nodes").namespaced);
        assert_eq!(find(&documents, "events").expect("the core's come first").root, "/api/v1");
        assert_eq!(
            find(&documents, "events.events.k8s.io").expect("by group").root,
            "/apis/events.k8s.io/v1"
        );
        assert_eq!(find(&documents, "deployments.apps").expect("by group").root, "/apis/apps/v1");
        assert_eq!(find(&documents, "deployments.extensions"), None);
        assert_eq!(find(&documents, "unicorns"), None);
    }
}
