//! YAML and JSON texts to objects, read as Kubernetes reads them.

use serde_json::{Number, Value};

/// A text that is not YAML.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{origin}: {message}")]
pub struct YamlError {
    /// Which text.
    pub origin: String,
    /// What is wrong, with its place.
    pub message: String,
}

/// Every document of `text` that is not empty. `origin` names the text in errors. A document of kind `List` is taken
/// apart. Aliases and depth are bounded by the parser's default budget.
///
/// # Errors
/// When the text is not YAML or a document is neither a map nor empty.
pub fn documents(text: &str, origin: &str) -> Result<Vec<Value>, YamlError> {
    let parsed = values(text).map_err(|message| YamlError { origin: origin.to_owned(), message })?;
    let mut objects = Vec::new();
    for (index, document) in parsed.into_iter().enumerate() {
        flatten(document, &format!("{origin}, document {}", index + 1), &mut objects)?;
    }
    Ok(objects)
}

/// Lines that are indented where a text is read leniently; each costs a reading of the whole.
const MAX_INDENTED: usize = 32;
/// What the reader says of a line that goes on with a quoted text and stands too far to the left.
const TOO_FAR_LEFT: &str = "invalid indentation in multiline quoted scalar";
/// Deeper than anything that such a line may belong to.
const DEEP: &str = "                                                                                ";

/// Every document of `text`, whatever it is. Quoted texts over several lines may stand further to the left than YAML 1.2 lets
/// them: Kubernetes' own reader takes them so, and what is before such a line is no part of the text.
///
/// # Errors
/// What is wrong, with its place.
pub fn values(text: &str) -> Result<Vec<Value>, String> {
    let read = |text: &str| {
        let options = serde_saphyr::options! { legacy_octal_numbers: true };
        serde_saphyr::from_multiple_with_options(text, options)
    };
    let mut indented: Option<String> = None;
    for _ in 0..MAX_INDENTED {
        let error = match read(indented.as_deref().unwrap_or(text)) {
            Ok(values) => return Ok(values),
            Err(error) => error,
        };
        let message = error.to_string();
        let line = error.location().and_then(|place| usize::try_from(place.line()).ok());
        let Some(line) = line.filter(|_| message.contains(TOO_FAR_LEFT)) else { return Err(message) };
        let mut lines: Vec<&str> = indented.as_deref().unwrap_or(text).split('\n').collect();
        let Some(wrong) = line.checked_sub(1).and_then(|index| lines.get_mut(index)) else {
            return Err(message);
        };
        if wrong.starts_with(DEEP) {
            return Err(message);
        }
        let deeper = format!("{DEEP}{wrong}");
        *wrong = &deeper;
        indented = Some(lines.join("\n"));
    }
    read(indented.as_deref().unwrap_or(text)).map_err(|error| error.to_string())
}

fn flatten(document: Value, origin: &str, into: &mut Vec<Value>) -> Result<(), YamlError> {
    match document {
        Value::Null => Ok(()),
        Value::Object(mut map)
            if map.get("kind").and_then(Value::as_str) == Some("List")
                && map.get("apiVersion").and_then(Value::as_str) == Some("v1") =>
        {
            if let Some(Value::Array(items)) = map.remove("items") {
                for item in items {
                    flatten(item, origin, into)?;
                }
            }
            Ok(())
        }
        Value::Object(_) => {
            into.push(integral(document));
            Ok(())
        }
        _ => Err(YamlError {
            origin: origin.to_owned(),
            message: "expected a map with apiVersion and kind".to_owned(),
        }),
    }
}

/// Floats that are whole become integers, as Kubernetes' own reading does.
fn integral(value: Value) -> Value {
    match value {
        Value::Number(number) => Value::Number(integral_number(number)),
        Value::Array(items) => Value::Array(items.into_iter().map(integral).collect()),
        Value::Object(map) => {
            Value::Object(map.into_iter().map(|(key, value)| (key, integral(value))).collect())
        }
        other => other,
    }
}

fn integral_number(number: Number) -> Number {
    let Some(float) = number.as_f64().filter(|_| number.is_f64()) else { return number };
    // 2^53: above it a float no longer says which integer it means.
    if float.fract() == 0.0 && float.abs() < 9_007_199_254_740_992.0 {
        #[expect(clippy::cast_possible_truncation, reason = "whole and within 53 bits")]
        return Number::from(float as i64);
    }
    number
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn octal_lists_and_empty_documents() {
        let all = documents(
            "---\n# nothing\n---\nkind: A\nmode: 0644\nn: 1.0\n---\napiVersion: v1\nkind: List\nitems:\n- kind: B\n- kind: C\n",
            "x",
        )
        .unwrap();
        assert_eq!(all.len(), 3);
        assert_eq!((all[0]["mode"].as_i64(), all[0]["n"].as_i64()), (Some(420), Some(1)));
        assert_eq!(all[2]["kind"], "C");
    }

    #[test]
    fn quoted_texts_may_stand_as_far_to_the_left_as_kubernetes_lets_them() {
        let text = "kind: A\nspec:\n  description: \"one\n  two\n three\"\n  next: 'x\n  y'\n---\nkind: B\n";
        let all = values(text).unwrap();
        assert_eq!(all[0]["spec"], serde_json::json!({"description": "one two three", "next": "x y"}));
        assert_eq!(all[1]["kind"], "B");
        assert!(values("kind: A\n b: c: d\n").is_err());
    }

    #[test]
    fn bad_text_names_its_origin() {
        assert!(documents("a: [", "file.yaml").unwrap_err().to_string().starts_with("file.yaml"));
        assert!(documents("- a\n", "x").unwrap_err().message.contains("map"));
    }
}
