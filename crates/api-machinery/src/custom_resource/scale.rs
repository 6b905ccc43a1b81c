//! `scale` of a custom kind: its replicas as an `autoscaling/v1.Scale`, found by the paths that the definition names.

use serde_json::{Map, Value, json};

use crate::field_path::{FieldError, FieldPath};

/// Where the replicas are: the steps of a path in the dot notation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScalePaths {
    spec_replicas: Vec<String>,
    status_replicas: Vec<String>,
    selector: Option<Vec<String>>,
}

/// An object has no Scale.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScaleError {
    /// Nothing is at `specReplicasPath`.
    #[error("the spec replicas field {0:?} does not exist")]
    NoReplicas(String),
    /// Something is there that is no number, or no text for the selector.
    #[error("{0} accessor error: {1} is of the wrong type")]
    WrongType(String, Value),
}

impl ScalePaths {
    /// Of a version's `subresources.scale`.
    #[must_use]
    pub fn read(declared: &Value) -> Option<Self> {
        let steps = |key: &str| {
            let path = declared[key].as_str().filter(|path| !path.is_empty())?;
            Some(path.strip_prefix('.').unwrap_or(path).split('.').map(str::to_owned).collect::<Vec<_>>())
        };
        Some(Self {
            spec_replicas: steps("specReplicasPath")?,
            status_replicas: steps("statusReplicasPath")?,
            selector: steps("labelSelectorPath"),
        })
    }

    /// An object's Scale.
    ///
    /// # Errors
    /// [`ScaleError`].
    pub fn scale_of(&self, object: &Value) -> Result<Value, ScaleError> {
        let replicas = number(object, &self.spec_replicas)?
            .ok_or_else(|| ScaleError::NoReplicas(dotted(&self.spec_replicas)))?;
        let current = number(object, &self.status_replicas)?.unwrap_or(0);
        let mut status = json!({"replicas": current});
        if let Some(path) = &self.selector
            && let Some(selector) = at(object, path)
        {
            let text = selector.as_str().ok_or_else(|| wrong_type(path, selector))?;
            if !text.is_empty() {
                status["selector"] = json!(text);
            }
        }
        let mut metadata = Map::new();
        for key in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
            if let Some(value) = object["metadata"].get(key) {
                metadata.insert(key.to_owned(), value.clone());
            }
        }
        Ok(json!({
            "kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": metadata,
            "spec": {"replicas": replicas}, "status": status,
        }))
    }

    /// Writes wanted replicas into an object, making what is missing on the way.
    pub fn set_replicas(&self, object: &mut Value, replicas: i64) {
        let mut place = object;
        for step in &self.spec_replicas {
            if !place.is_object() {
                *place = json!({});
            }
            place = &mut place[step.as_str()];
        }
        *place = json!(replicas);
    }

    /// What is wrong with the numbers of an object; `spec`: with the wanted ones too.
    #[must_use]
    pub fn violations(&self, object: &Value, spec: bool) -> Vec<FieldError> {
        let mut errors = Vec::new();
        let wanted = spec.then_some(&self.spec_replicas);
        for path in wanted.into_iter().chain([&self.status_replicas]) {
            let field = FieldPath::new(&format!(".{}", dotted(path)));
            match number(object, path) {
                Err(error) => errors.push(FieldError::invalid(&field, 0, error.to_string())),
                Ok(Some(number)) if number < 0 => {
                    errors.push(FieldError::invalid(&field, number, "should be a non-negative integer"));
                }
                Ok(Some(number)) if number > i64::from(i32::MAX) => {
                    let why = format!("should be less than or equal to {}", i32::MAX);
                    errors.push(FieldError::invalid(&field, number, why));
                }
                Ok(_) => {}
            }
        }
        if let Some(path) = &self.selector
            && let Some(selector) = at(object, path)
            && !selector.is_string()
        {
            let field = FieldPath::new(&format!(".{}", dotted(path)));
            errors.push(FieldError::invalid(&field, "", wrong_type(path, selector).to_string()));
        }
        errors
    }
}

fn dotted(path: &[String]) -> String {
    path.join(".")
}

fn at<'v>(object: &'v Value, path: &[String]) -> Option<&'v Value> {
    path.iter().try_fold(object, |value, step| value.get(step))
}

fn number(object: &Value, path: &[String]) -> Result<Option<i64>, ScaleError> {
    let Some(found) = at(object, path) else { return Ok(None) };
    found.as_i64().map(Some).ok_or_else(|| wrong_type(path, found))
}

fn wrong_type(path: &[String], found: &Value) -> ScaleError {
    ScaleError::WrongType(format!(".{}", dotted(path)), found.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replicas_are_read_and_written_where_the_definition_says() {
        let paths =
            ScalePaths::read(&json!({"specReplicasPath": ".spec.a.n", "statusReplicasPath": ".status.n",
            "labelSelectorPath": ".status.selector"}))
            .unwrap();
        let mut object = json!({"metadata": {"name": "x", "uid": "u", "labels": {}}});
        assert_eq!(
            paths.scale_of(&object).unwrap_err().to_string(),
            "the spec replicas field \"spec.a.n\" does not exist"
        );
        paths.set_replicas(&mut object, 3);
        object["status"] = json!({"n": 2, "selector": "a=b"});
        let scale = paths.scale_of(&object).unwrap();
        assert_eq!(
            (&scale["spec"], &scale["status"]),
            (&json!({"replicas": 3}), &json!({"replicas": 2, "selector": "a=b"}))
        );
        assert_eq!(scale["metadata"], json!({"name": "x", "uid": "u"}));
        paths.set_replicas(&mut object, -1);
        let told: Vec<String> = paths.violations(&object, true).iter().map(ToString::to_string).collect();
        assert_eq!(told, [".spec.a.n: Invalid value: -1: should be a non-negative integer"]);
        assert!(paths.violations(&object, false).is_empty());
        assert_eq!(ScalePaths::read(&json!({})), None);
    }
}
