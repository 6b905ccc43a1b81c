//! Files of one volume that stand in each other's way.

use serde_json::Value;

use crate::json::{given, list, text};
use crate::problems::quoted;

/// A path, and where it comes from.
#[derive(Clone, PartialEq)]
struct Placed {
    path: String,
    source: String,
}

impl Placed {
    fn shown(&self) -> String {
        let path = quoted(&self.path);
        if self.source.is_empty() { path } else { format!("{path} ({})", self.source) }
    }
}

fn items(source: &Value, origin: &str) -> Vec<Placed> {
    let place = |item: &Value| Placed { path: text(item, "path").to_owned(), source: origin.to_owned() };
    list(source, "items").iter().map(place).collect()
}

pub(super) fn warn(found: &mut Vec<String>, spec: &Value) {
    for volume in list(spec, "volumes") {
        let name = quoted(text(volume, "name"));
        let mut say = |what: &str, places: Vec<Placed>| {
            for overlap in overlaps(places) {
                found.push(format!("volume {name} ({what}): overlapping paths: {overlap}"));
            }
        };
        if let Some(map) = given(volume, "configMap") {
            say(&format!("ConfigMap {}", quoted(text(map, "name"))), items(map, ""));
        }
        if let Some(secret) = given(volume, "secret") {
            say(&format!("Secret {}", quoted(text(secret, "secretName"))), items(secret, ""));
        }
        if let Some(source) = given(volume, "downwardAPI") {
            say("DownwardAPI", items(source, ""));
        }
        if let Some(projected) = given(volume, "projected") {
            let sources = list(projected, "sources");
            say("Projected", sources.iter().flat_map(projection).collect());
            for _ in sources.iter().filter(|source| source.as_object().is_none_or(|map| map.is_empty())) {
                found.push(format!("volume {name} (Projected) has no sources provided"));
            }
        }
    }
}

fn projection(source: &Value) -> Vec<Placed> {
    let one = |path: &Value, origin: &str| Placed {
        path: path.as_str().unwrap_or_default().to_owned(),
        source: origin.to_owned(),
    };
    if let Some(map) = given(source, "configMap").filter(|map| given(map, "items").is_some()) {
        items(map, &format!("ConfigMap {}", quoted(text(map, "name"))))
    } else if let Some(secret) = given(source, "secret").filter(|secret| given(secret, "items").is_some()) {
        items(secret, &format!("Secret {}", quoted(text(secret, "name"))))
    } else if let Some(downward) = given(source, "downwardAPI").filter(|own| given(own, "items").is_some()) {
        items(downward, "DownwardAPI")
    } else if let Some(token) = given(source, "serviceAccountToken") {
        vec![one(&token["path"], "ServiceAccountToken")]
    } else if let Some(bundle) = given(source, "clusterTrustBundle") {
        let name =
            if given(bundle, "name").is_some() { text(bundle, "name") } else { text(bundle, "signerName") };
        vec![one(&bundle["path"], &format!("ClusterTrustBundle {}", quoted(name)))]
    } else {
        Vec::new()
    }
}

fn overlaps(places: Vec<Placed>) -> Vec<String> {
    let (mut before, mut found): (Vec<Placed>, Vec<String>) = (Vec::new(), Vec::new());
    for mut place in places {
        place.path.truncate(place.path.trim_end_matches('/').len());
        if !place.path.is_empty() {
            for other in
                before.iter().filter(|other| !other.path.is_empty() && collide(&place.path, &other.path))
            {
                found.push(format!("{} with {}", place.shown(), other.shown()));
            }
        }
        before.push(place);
    }
    found
}

fn collide(one: &str, other: &str) -> bool {
    let within = |inner: &str, outer: &str| {
        inner.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    within(one, other) || within(other, one)
}
