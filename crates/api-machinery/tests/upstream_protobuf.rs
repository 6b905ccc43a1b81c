//! Every object of the upstream API test data reads the same from protobuf as from JSON, and is written to the same
//! bytes.

use api_machinery::protobuf;
use serde_json::Value;

/// Where two values differ.
fn difference(left: &Value, right: &Value, place: &str, out: &mut Vec<String>) {
    match (left, right) {
        (Value::Object(a), Value::Object(b)) => {
            for key in a.keys().chain(b.keys().filter(|key| !a.contains_key(*key))) {
                let null = Value::Null;
                let (a, b) = (a.get(key).unwrap_or(&null), b.get(key).unwrap_or(&null));
                difference(a, b, &format!("{place}.{key}"), out);
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            a.iter().zip(b).for_each(|(a, b)| difference(a, b, place, out));
        }
        _ if left == right => {}
        _ => out.push(format!("{place}: {left} is not {right}")),
    }
}

#[test]
fn protobuf_and_json_say_the_same() {
    let Some(directory) = fixtures::samples::find("kubernetes-1.36/api-testdata") else { return };
    let entries = std::fs::read_dir(directory).unwrap();
    let (mut count, mut problems) = (0, Vec::new());
    for path in
        entries.map(|entry| entry.unwrap().path()).filter(|path| path.extension().is_some_and(|e| e == "pb"))
    {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let json: Value =
            serde_json::from_slice(&std::fs::read(path.with_extension("json")).unwrap()).unwrap();
        let text = |key: &str| json[key].as_str().unwrap_or_default();
        // Versions that no server offers by default have no place in the table.
        if !protobuf::has_form(text("apiVersion"), text("kind")) {
            continue;
        }
        let bytes = std::fs::read(&path).unwrap();
        match protobuf::decode(&bytes) {
            Ok(decoded) => difference(&decoded.value, &json, &name, &mut problems),
            Err(error) => problems.push(format!("{name}: {error}")),
        }
        match protobuf::encode(&json) {
            Ok(encoded) if encoded == bytes => {}
            Ok(encoded) => {
                let at = encoded.iter().zip(&bytes).position(|(a, b)| a != b);
                problems.push(format!(
                    "{name}: {} bytes, not {}; first at {at:?}",
                    encoded.len(),
                    bytes.len()
                ));
            }
            Err(error) => problems.push(format!("{name}: {error}")),
        }
        count += 1;
    }
    assert!(problems.is_empty(), "{} of {count}:\n{}", problems.len(), problems.join("\n"));
    assert!(count > 50, "{count}");
}
