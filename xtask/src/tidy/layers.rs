//! Which crate may import which: only crates of the layers above its own, with few exceptions.

use std::collections::BTreeMap;

use super::Crate;

/// From top to bottom.
const LAYERS: [&str; 10] = [
    "foundation",
    "vocabulary",
    "logic",
    "ports",
    "adapters",
    "components",
    "assemblies",
    "apps",
    "testing",
    "tools",
];

/// Crates of one layer that may import one another: words build on words.
const OPEN: &str = "vocabulary";

/// The only imports between two crates of another layer: the API server asks who somebody is and what they may, lets
/// policies judge, and speaks the streaming protocols; the rules of kinds read schemas, names and quantities, and the
/// planner compares quantities.
const NEIGHBOURS: [(&str, &str); 5] = [
    ("apiserver", "access"),
    ("apiserver", "policy-engines"),
    ("apiserver", "streams"),
    ("kind-rules", "api-machinery"),
    ("fleet-planner", "api-machinery"),
];

/// Adapters that no component may see: components reach objects through a client alone.
const HIDDEN_FROM_COMPONENTS: [&str; 6] =
    ["apiserver", "access", "policy-engines", "storage-embedded", "storage-etcd", "storage-sealed"];

/// What brings effects with it; no crate of the logic layer depends on these.
const EFFECTS: [&str; 9] =
    ["tokio", "tokio-util", "kube", "hyper", "reqwest", "rand", "tonic", "async-trait", "nix"];

/// Every import that the layers forbid.
pub(super) fn check(crates: &[Crate]) -> Vec<String> {
    let by_name: BTreeMap<&str, &Crate> =
        crates.iter().map(|package| (package.name.as_str(), package)).collect();
    let mut violations = Vec::new();
    for package in crates {
        let Some(own) = rank(package) else {
            let layer = package.layer.as_deref().unwrap_or("none");
            violations.push(format!(
                "{}: its layer ({layer}) is none of {}",
                package.name,
                LAYERS.join(", ")
            ));
            continue;
        };
        for name in &package.dependencies {
            if own == "logic" && EFFECTS.contains(&name.as_str()) {
                violations.push(format!("{} (logic) depends on {name}, which has effects", package.name));
            }
            let Some(other) = by_name.get(name.as_str()) else { continue };
            if let Some(layer) = rank(other)
                && !may_import(package, own, other, layer)
            {
                violations.push(format!("{} ({own}) imports {} ({layer})", package.name, other.name));
            }
        }
    }
    violations
}

fn rank(package: &Crate) -> Option<&'static str> {
    LAYERS.into_iter().find(|layer| package.layer.as_deref() == Some(layer))
}

fn may_import(package: &Crate, own: &str, other: &Crate, layer: &str) -> bool {
    let position = |layer: &str| LAYERS.iter().position(|known| *known == layer);
    if own == "components" && HIDDEN_FROM_COMPONENTS.contains(&other.name.as_str()) {
        return false;
    }
    if own == layer {
        return own == OPEN || NEIGHBOURS.contains(&(package.name.as_str(), other.name.as_str()));
    }
    position(layer) < position(own)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, layer: &str, dependencies: &[&str]) -> Crate {
        Crate {
            name: name.into(),
            layer: Some(layer.into()),
            dependencies: dependencies.iter().map(|name| (*name).to_owned()).collect(),
            ..Crate::default()
        }
    }

    #[test]
    fn planted_imports_are_found() {
        let crates = [
            package("access", "adapters", &["words"]),
            package("apiserver", "adapters", &["access", "durable-log"]),
            package("durable-log", "adapters", &[]),
            package("hub", "components", &["access", "durable-log", "agent"]),
            package("agent", "components", &["words"]),
            package("words", "vocabulary", &["more-words"]),
            package("more-words", "vocabulary", &["planner"]),
            package("planner", "logic", &["words", "tokio"]),
            package("odd", "basement", &[]),
        ];
        assert_eq!(
            check(&crates),
            [
                "apiserver (adapters) imports durable-log (adapters)",
                "hub (components) imports access (adapters)",
                "hub (components) imports agent (components)",
                "more-words (vocabulary) imports planner (logic)",
                "planner (logic) depends on tokio, which has effects",
                "odd: its layer (basement) is none of foundation, vocabulary, logic, ports, adapters, components, assemblies, apps, testing, tools",
            ]
        );
    }
}
