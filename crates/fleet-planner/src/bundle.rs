//! A bundle: the canonical content of a profile, named by its digest, the same for every cluster.

use fleet_objects::{ConflictPolicy, ProfileSpec, VariableDefinition};
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
}

/// The newest format.
pub const FORMAT: u32 = 1;
/// Objects in a bundle at most.
pub const MAX_OBJECTS: usize = 20_000;

/// Why there is no bundle.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BundleError {
    /// A text is not YAML.
    #[error(transparent)]
    Yaml(#[from] YamlError),
    /// An inline manifest is neither an object nor text.
    #[error("manifests[{index}]: expected an object or YAML text")]
    NotAnObject {
        /// Which.
        index: usize,
    },
    /// More objects than a bundle may hold.
    #[error("{count} objects are more than the {MAX_OBJECTS} a profile may hold")]
    TooMany {
        /// How many.
        count: usize,
    },
    /// The bytes are not a bundle of this format.
    #[error("not a readable bundle: {reason}")]
    Unreadable {
        /// Why.
        reason: String,
    },
}

/// The bundle of a profile. `files` are the texts of its uploaded source, in order, with their names.
///
/// # Errors
/// The first text or manifest that cannot be read.
pub fn build(spec: &ProfileSpec, files: &[(String, String)]) -> Result<Bundle, BundleError> {
    let mut objects = Vec::new();
    for (index, manifest) in spec.manifests.iter().enumerate() {
        match manifest {
            Value::String(text) => objects.extend(yaml::documents(text, &format!("manifests[{index}]"))?),
            Value::Object(_) => objects.push(manifest.clone()),
            _ => return Err(BundleError::NotAnObject { index }),
        }
    }
    for (name, text) in files {
        objects.extend(yaml::documents(text, name)?);
    }
    if objects.len() > MAX_OBJECTS {
        return Err(BundleError::TooMany { count: objects.len() });
    }
    Ok(Bundle {
        format: FORMAT,
        target_namespace: spec.target_namespace.clone(),
        conflicts: spec.conflicts,
        variables: spec.variables.clone(),
        objects,
    })
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
        let bundle = build(&spec, &[("x.yaml".into(), "kind: C".into())]).unwrap();
        assert_eq!(bundle.objects.len(), 3);
        let reordered = ProfileSpec {
            manifests: vec![json!({"apiVersion": "v1", "kind": "A"}), spec.manifests[1].clone()],
            ..spec
        };
        assert_eq!(
            build(&reordered, &[("x.yaml".into(), "kind: C".into())]).unwrap().encode(),
            bundle.encode()
        );
        assert_eq!(Bundle::decode(&bundle.encode()).unwrap(), bundle);
        assert!(Bundle::decode(br#"{"format":99,"objects":[]}"#).is_err());
        assert!(Bundle::decode(b"\xff").is_err());
    }
}
