//! What is asked of a conversion webhook, and what may be taken from its answer (upstream `webhook_converter.go`).

use serde_json::{Map, Value, json};

use crate::names;

/// Asks for objects in another version. `review` is the version of `ConversionReview`.
#[must_use]
pub fn review(review: &str, uid: &str, desired: &str, objects: &[Value]) -> Value {
    json!({
        "kind": "ConversionReview", "apiVersion": format!("apiextensions.k8s.io/{review}"),
        "request": {"uid": uid, "desiredAPIVersion": desired, "objects": objects},
    })
}

/// The converted objects of an answer, in the order of `originals`: same kind, name, namespace and uid; of the metadata
/// only labels and annotations come from the webhook.
///
/// # Errors
/// What is wrong with the answer, as it follows `conversion webhook for …`.
pub fn converted(
    answer: &Value,
    review: &str,
    uid: &str,
    desired: &str,
    originals: &[Value],
) -> Result<Vec<Value>, String> {
    let objects = objects_of(answer, review, uid).map_err(|why| format!(" failed: {why}"))?;
    if objects.len() != originals.len() {
        return Err(format!(" returned {} objects, expected {}", objects.len(), originals.len()));
    }
    if let ([object], [original]) = (objects, originals) {
        return Ok(vec![one(object, original, desired, &Place::Alone)?]);
    }
    let pairs = objects.iter().zip(originals).enumerate();
    pairs.map(|(index, (object, original))| one(object, original, desired, &Place::Listed(index))).collect()
}

fn objects_of<'v>(answer: &'v Value, review: &str, uid: &str) -> Result<&'v [Value], String> {
    let text = |value: &'v Value| value.as_str().unwrap_or_default();
    if review == "v1"
        && (answer["kind"] != "ConversionReview" || answer["apiVersion"] != "apiextensions.k8s.io/v1")
    {
        return Err(format!(
            "expected webhook response of apiextensions.k8s.io/v1, Kind=ConversionReview, got {}, Kind={}",
            text(&answer["apiVersion"]),
            text(&answer["kind"])
        ));
    }
    let Some(response) = answer.get("response").filter(|response| response.is_object()) else {
        return Err("no response provided".to_owned());
    };
    if review == "v1" && response["uid"] != uid {
        return Err(format!("expected response.uid={uid:?}, got {:?}", text(&response["uid"])));
    }
    let result = &response["result"];
    if result["status"] != "Success" {
        let message = text(&result["message"]);
        if !message.is_empty() {
            return Err(message.to_owned());
        }
        return Err(format!("response.result.status was '{}', not 'Success'", text(&result["status"])));
    }
    Ok(response["convertedObjects"].as_array().map_or(&[], Vec::as_slice))
}

/// Where a converted object stands, by which upstream chooses its words.
enum Place {
    /// One object was asked for.
    Alone,
    /// Its index among several.
    Listed(usize),
}

impl Place {
    fn wrong_type(&self, why: &str) -> String {
        match self {
            Self::Alone => format!(" returned invalid object at index 0: {why}"),
            Self::Listed(_) => self.unlike(why),
        }
    }

    fn unlike(&self, why: &str) -> String {
        match self {
            Self::Alone => format!(" returned invalid object: {why}"),
            Self::Listed(index) => format!(" returned invalid converted object at index {index}: {why}"),
        }
    }

    fn wrong_metadata(&self, why: &str) -> String {
        match self {
            Self::Alone => format!(" returned invalid metadata: {why}"),
            Self::Listed(index) => format!(" returned invalid metadata in object at index {index}: {why}"),
        }
    }
}

fn one(object: &Value, original: &Value, desired: &str, place: &Place) -> Result<Value, String> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    if object["apiVersion"] != desired {
        let received = text(&object["apiVersion"]);
        return Err(
            place.wrong_type(&format!("invalid groupVersion (expected {desired}, received {received})"))
        );
    }
    let (expected, received) = (text(&original["kind"]), text(&object["kind"]));
    if expected != received {
        return Err(place.wrong_type(&format!("invalid kind (expected {expected}, received {received})")));
    }
    for (key, what) in [("name", "name"), ("namespace", "namespace"), ("uid", "UID")] {
        let (before, after) = (text(&original["metadata"][key]), text(&object["metadata"][key]));
        if before != after {
            return Err(place.unlike(&format!("must have the same {what}: {before} != {after}")));
        }
    }
    let metadata = metadata(object, original).map_err(|why| place.wrong_metadata(&why))?;
    let mut object = object.clone();
    object["metadata"] = Value::Object(metadata);
    Ok(object)
}

fn metadata(object: &Value, original: &Value) -> Result<Map<String, Value>, String> {
    let own = match object.get("metadata") {
        None | Some(Value::Null) => return Err("missing metadata in converted object".to_owned()),
        Some(Value::Object(own)) => own,
        Some(_) => return Err("invalid metadata in converted object".to_owned()),
    };
    let mut metadata = original["metadata"].as_object().cloned().unwrap_or_default();
    for key in ["labels", "annotations"] {
        let entries = match own.get(key) {
            None | Some(Value::Null) => {
                metadata.remove(key);
                continue;
            }
            Some(Value::Object(entries)) => entries,
            Some(_) => return Err(format!("invalid metadata.{key} in converted object")),
        };
        if metadata.get(key).and_then(Value::as_object) != Some(entries) {
            check(key, entries)?;
        }
        metadata.insert(key.to_owned(), Value::Object(entries.clone()));
    }
    Ok(metadata)
}

/// What the webhook has changed has to be decent.
fn check(key: &str, entries: &Map<String, Value>) -> Result<(), String> {
    for (name, value) in entries {
        let Some(value) = value.as_str() else {
            return Err(format!("metadata.{key}[{name}] must be a string in converted object"));
        };
        let mut wrong = names::qualified_name(&name.to_lowercase());
        if key == "labels" {
            wrong.extend(names::label_value(value));
        }
        if let Some(why) = wrong.first() {
            return Err(format!("metadata.{key}: Invalid value: {name:?}: {why}"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn original() -> Value {
        json!({"apiVersion": "e.com/v1", "kind": "W", "metadata": {"name": "a", "uid": "u", "generation": 3, "labels": {"x": "y"}}})
    }

    fn answer(change: impl Fn(&mut Value)) -> Result<Vec<Value>, String> {
        let mut object = original();
        object["apiVersion"] = json!("e.com/v2");
        let mut answer = json!({"kind": "ConversionReview", "apiVersion": "apiextensions.k8s.io/v1",
            "response": {"uid": "7", "result": {"status": "Success"}, "convertedObjects": [object]}});
        change(&mut answer);
        converted(&answer, "v1", "7", "e.com/v2", &[original()])
    }

    #[test]
    fn only_labels_and_annotations_may_change() {
        let converted = answer(|answer| {
            let metadata = &mut answer["response"]["convertedObjects"][0]["metadata"];
            metadata["labels"] = json!({"x": "z"});
            metadata["annotations"] = json!({"n": "m"});
            metadata["generation"] = json!(9);
            metadata["finalizers"] = json!(["e.com/f"]);
        })
        .unwrap();
        assert_eq!(
            converted[0]["metadata"],
            json!({"name": "a", "uid": "u", "generation": 3, "labels": {"x": "z"}, "annotations": {"n": "m"}})
        );
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        type Case = (fn(&mut Value), &'static str);
        let cases: [Case; 10] = [
            (|own| own["response"]["uid"] = json!("8"), " failed: expected response.uid=\"7\", got \"8\""),
            (|own| own["response"] = Value::Null, " failed: no response provided"),
            (|own| own["response"]["result"] = json!({"status": "Failure", "message": "no"}), " failed: no"),
            (
                |own| own["response"]["result"] = json!({}),
                " failed: response.result.status was '', not 'Success'",
            ),
            (|own| own["response"]["convertedObjects"] = json!([]), " returned 0 objects, expected 1"),
            (
                |own| own["response"]["convertedObjects"][0]["apiVersion"] = json!("e.com/v1"),
                " returned invalid object at index 0: invalid groupVersion (expected e.com/v2, received e.com/v1)",
            ),
            (
                |own| own["response"]["convertedObjects"][0]["metadata"]["name"] = json!("b"),
                " returned invalid object: must have the same name: a != b",
            ),
            (
                |own| own["response"]["convertedObjects"][0]["kind"] = json!("X"),
                " returned invalid object at index 0: invalid kind (expected W, received X)",
            ),
            (
                |own| own["response"]["convertedObjects"][0]["metadata"]["labels"] = json!({"x": 1}),
                " returned invalid metadata: metadata.labels[x] must be a string in converted object",
            ),
            (
                |own| own["apiVersion"] = json!("v1"),
                " failed: expected webhook response of apiextensions.k8s.io/v1, Kind=ConversionReview, got v1, Kind=ConversionReview",
            ),
        ];
        for (change, wanted) in cases {
            assert_eq!(answer(change).unwrap_err(), wanted);
        }
    }
}
