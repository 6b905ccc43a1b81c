//! A bundle: the canonical content of a profile, named by its digest, the same for every cluster.

use fleet_objects::{ConflictPolicy, HealthRule, ProfileSpec, VariableDefinition, assignment_name};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::yaml::{self, YamlError};

/// What agents fetch: objects before substitution.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Bundle {
    /// The format; readers refuse a newer one.
    pub format: u32,
    /// Where namespaced objects go that name no namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_namespace: Option<String>,
    /// What happens when another manager owns a field.
    #[serde(default)]
    pub conflicts: ConflictPolicy,
    /// The variables of the objects.
    #[serde(default)]
    pub variables: Vec<VariableDefinition>,
    /// The objects.
    pub objects: Vec<Value>,
    /// Where layers begin among the objects. What comes before the first of them is applied first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub layers: Vec<LayerStart>,
    /// Assignments of the same cluster that must be healthy before this one begins.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub depends_on: Vec<String>,
    /// How objects of some kinds are judged; those of layers first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub health: Vec<BundleRule>,
}

/// A health rule, and where it holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BundleRule {
    /// The layer, counted from 1; everywhere when none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layer: Option<usize>,
    /// The rule.
    #[serde(flatten)]
    pub rule: HealthRule,
}

/// Where a layer begins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerStart {
    /// Its name.
    pub name: String,
    /// The place of its first object.
    pub from: usize,
}

/// The newest format: 3 has health rules, 2 layers, dependencies and secret variables. A bundle without them is of an older
/// format, so that agents which know no other take it.
pub const FORMAT: u32 = 3;
/// Layers of a profile at most.
pub const MAX_LAYERS: usize = 100;
/// Objects in a bundle at most.
pub const MAX_OBJECTS: usize = 20_000;

/// Why there is no bundle.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BundleError {
    /// A text is not YAML.
    #[error(transparent)]
    Yaml(#[from] YamlError),
    /// An inline manifest is neither an object nor text.
    #[error("{place}manifests[{index}]: expected an object or YAML text")]
    NotAnObject {
        /// The layer, or nothing.
        place: String,
        /// Which.
        index: usize,
    },
    /// More objects than a bundle may hold.
    #[error("{count} objects are more than the {MAX_OBJECTS} a profile may hold")]
    TooMany {
        /// How many.
        count: usize,
    },
    /// Layers that cannot be told apart, or too many.
    #[error("layers[{index}]: {problem}")]
    Layer {
        /// Which.
        index: usize,
        /// What is wrong.
        problem: String,
    },
    /// The bytes are not a bundle of this format.
    #[error("not a readable bundle: {reason}")]
    Unreadable {
        /// Why.
        reason: String,
    },
}

/// The bundle of a profile of `namespace`. `files` are the texts of its uploaded source, in order, with their names.
///
/// # Errors
/// The first text or manifest that cannot be read.
pub fn build(spec: &ProfileSpec, namespace: &str, files: &[(String, String)]) -> Result<Bundle, BundleError> {
    let mut objects = Vec::new();
    take(&spec.manifests, "", &mut objects)?;
    for (name, text) in files {
        objects.extend(yaml::documents(text, name)?);
    }
    let mut layers: Vec<LayerStart> = Vec::new();
    for (index, layer) in spec.layers.iter().enumerate() {
        let wrong = |problem: String| Err(BundleError::Layer { index, problem });
        if layer.name.is_empty() || layers.iter().any(|known| known.name == layer.name) {
            return wrong(format!("its name {:?} is empty or another layer's", layer.name));
        }
        if index >= MAX_LAYERS {
            return wrong(format!("more than {MAX_LAYERS} layers"));
        }
        layers.push(LayerStart { name: layer.name.clone(), from: objects.len() });
        take(&layer.manifests, &format!("layers[{index}]."), &mut objects)?;
    }
    if objects.len() > MAX_OBJECTS {
        return Err(BundleError::TooMany { count: objects.len() });
    }
    let plain = layers.is_empty()
        && spec.depends_on.is_empty()
        && !spec.variables.iter().any(|variable| variable.secret);
    let health = health(spec);
    Ok(Bundle {
        format: if !health.is_empty() {
            FORMAT
        } else if plain {
            1
        } else {
            2
        },
        target_namespace: spec.target_namespace.clone(),
        conflicts: spec.conflicts,
        variables: spec.variables.clone(),
        objects,
        layers,
        depends_on: spec.depends_on.iter().map(|profile| assignment_name(namespace, profile)).collect(),
        health,
    })
}

fn health(spec: &ProfileSpec) -> Vec<BundleRule> {
    let layers = spec.layers.iter().enumerate();
    let of_layers = layers.flat_map(|(index, layer)| {
        layer.health.iter().map(move |rule| BundleRule { layer: Some(index + 1), rule: rule.clone() })
    });
    let everywhere = spec.health.iter().map(|rule| BundleRule { layer: None, rule: rule.clone() });
    of_layers.chain(everywhere).collect()
}

fn take(manifests: &[Value], place: &str, objects: &mut Vec<Value>) -> Result<(), BundleError> {
    for (index, manifest) in manifests.iter().enumerate() {
        match manifest {
            Value::String(text) => {
                objects.extend(yaml::documents(text, &format!("{place}manifests[{index}]"))?);
            }
            Value::Object(_) => objects.push(manifest.clone()),
            _ => return Err(BundleError::NotAnObject { place: place.to_owned(), index }),
        }
    }
    Ok(())
}

impl Bundle {
    /// The canonical bytes: JSON with map keys in order (`serde_json` maps are ordered by key).
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("strings, numbers and maps with string keys are JSON")
    }

    /// Reads canonical bytes.
    ///
    /// # Errors
    /// [`BundleError::Unreadable`].
    pub fn decode(bytes: &[u8]) -> Result<Self, BundleError> {
        let bundle: Self = serde_json::from_slice(bytes)
            .map_err(|error| BundleError::Unreadable { reason: error.to_string() })?;
        if bundle.format > FORMAT {
            return Err(BundleError::Unreadable {
                reason: format!("format {} is newer than {FORMAT}; upgrade the agent", bundle.format),
            });
        }
        Ok(bundle)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_same_profile_has_the_same_bytes() {
        let spec = ProfileSpec {
            manifests: vec![json!({"kind": "A", "apiVersion": "v1"}), json!("kind: B\napiVersion: v1\n")],
            ..ProfileSpec::default()
        };
        let bundle = build(&spec, "default", &[("x.yaml".into(), "kind: C".into())]).unwrap();
        assert_eq!(bundle.objects.len(), 3);
        let reordered = ProfileSpec {
            manifests: vec![json!({"apiVersion": "v1", "kind": "A"}), spec.manifests[1].clone()],
            ..spec
        };
        assert_eq!(
            build(&reordered, "default", &[("x.yaml".into(), "kind: C".into())]).unwrap().encode(),
            bundle.encode()
        );
        assert_eq!(Bundle::decode(&bundle.encode()).unwrap(), bundle);
        assert!(Bundle::decode(br#"{"format":99,"objects":[]}"#).is_err());
        assert!(Bundle::decode(b"\xff").is_err());
    }

    #[test]
    fn layers_and_dependencies_need_agents_that_know_them() {
        let layer = |name: &str| fleet_objects::ProfileLayer {
            name: name.into(),
            origin: None,
            manifests: vec![json!({"kind": "B", "apiVersion": "v1"})],
            health: Vec::new(),
        };
        let plain =
            ProfileSpec { manifests: vec![json!("kind: A\n---\nkind: A2")], ..ProfileSpec::default() };
        assert_eq!(build(&plain, "default", &[]).unwrap().format, 1);
        let layered = ProfileSpec {
            layers: vec![layer("db"), layer("app")],
            depends_on: vec!["base".into()],
            ..plain.clone()
        };
        let bundle = build(&layered, "team", &[]).unwrap();
        let starts: Vec<_> = bundle.layers.iter().map(|layer| (layer.name.as_str(), layer.from)).collect();
        assert_eq!((bundle.format, starts), (2, vec![("db", 2), ("app", 3)]));
        assert_eq!(bundle.depends_on, ["team.base"]);
        let judged = ProfileSpec { health: vec![HealthRule::default()], ..layered.clone() };
        assert_eq!(build(&judged, "team", &[]).unwrap().format, 3);
        let twice = ProfileSpec { layers: vec![layer("db"), layer("db")], ..plain };
        let error = build(&twice, "team", &[]).unwrap_err().to_string();
        assert!(error.starts_with("layers[1]: its name"), "{error}");
    }
}
