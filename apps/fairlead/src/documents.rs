//! YAML and JSON documents, from files, directories and stdin.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::failure::{Code, Failure};

/// Bytes of a file: the most an API server takes in one request, several times over.
const MAX_FILE: u64 = 16 * 1024 * 1024;

/// A document with where it came from.
#[derive(Clone, Debug)]
pub(crate) struct Document {
    /// File and number of the document in it.
    pub(crate) origin: String,
    pub(crate) value: Value,
}

impl Document {
    pub(crate) fn kind(&self) -> &str {
        self.value["kind"].as_str().unwrap_or_default()
    }

    /// Reads the document as a kind.
    pub(crate) fn parse<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        serde_json::from_value(self.value.clone())
            .with_context(|| format!("{} is not a valid {}", self.origin, self.kind()))
            .map_err(|error| Failure::new(Code::Usage, error))
    }
}

/// Reads every document of a file, of a directory's `.yaml`, `.yml` and `.json` files, or, for `-`, of stdin.
pub(crate) fn read(path: &Path) -> Result<Vec<Document>, Failure> {
    let mut documents = Vec::new();
    for (name, text) in read_texts(path)? {
        documents.extend(parse(&name, &text)?);
    }
    Ok(documents)
}

/// Every file as text, with its path.
pub(crate) fn read_texts(path: &Path) -> Result<Vec<(String, String)>, Failure> {
    let usage = |error: anyhow::Error| Failure::new(Code::Usage, error);
    if path == Path::new("-") {
        let mut text = String::new();
        std::io::stdin()
            .take(MAX_FILE)
            .read_to_string(&mut text)
            .context("cannot read stdin")
            .map_err(usage)?;
        return Ok(vec![("stdin".to_owned(), text)]);
    }
    let mut files = Vec::new();
    walk(path, &mut files, 0).map_err(usage)?;
    if files.is_empty() {
        return Err(Failure::usage(format!("{} holds no .yaml, .yml or .json file", path.display())));
    }
    let read = |file: PathBuf| {
        let size = std::fs::metadata(&file).map(|metadata| metadata.len()).unwrap_or(0);
        anyhow::ensure!(size <= MAX_FILE, "{} is larger than {MAX_FILE} bytes", file.display());
        let text =
            std::fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        Ok((file.display().to_string(), text))
    };
    files.into_iter().map(|file| read(file).map_err(usage)).collect()
}

fn walk(path: &Path, files: &mut Vec<PathBuf>, depth: usize) -> anyhow::Result<()> {
    let metadata = std::fs::metadata(path).with_context(|| format!("cannot read {}", path.display()))?;
    if metadata.is_file() {
        files.push(path.to_owned());
        return Ok(());
    }
    let mut entries: Vec<_> = std::fs::read_dir(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .with_context(|| format!("cannot read {}", path.display()))?
        .into_iter()
        .map(|entry| entry.path())
        .collect();
    entries.sort();
    for entry in entries {
        let wanted = entry.extension().is_some_and(|kind| kind == "yaml" || kind == "yml" || kind == "json");
        if entry.is_dir() && depth < 16 {
            walk(&entry, files, depth + 1)?;
        } else if wanted {
            walk(&entry, files, depth)?;
        }
    }
    Ok(())
}

/// Reads the documents of a text; empty ones are left out.
pub(crate) fn parse(name: &str, text: &str) -> Result<Vec<Document>, Failure> {
    let values = fleet_planner::yaml::values(text)
        .map_err(|error| Failure::usage(format!("{name} is not YAML: {error}")))?;
    let several = values.len() > 1;
    let documents = values.into_iter().enumerate().filter(|(_, value)| !value.is_null());
    documents
        .map(|(index, value)| {
            let origin = if several { format!("{name}, document {}", index + 1) } else { name.to_owned() };
            object(origin, value)
        })
        .collect()
}

/// Every `v1` `List`, as `kubectl get -o yaml` prints one, becomes its items.
pub(crate) fn unfolded(documents: Vec<Document>) -> Result<Vec<Document>, Failure> {
    let mut all = Vec::with_capacity(documents.len());
    for document in documents {
        unfold(document, &mut all)?;
    }
    Ok(all)
}

fn unfold(mut document: Document, into: &mut Vec<Document>) -> Result<(), Failure> {
    if document.kind() != "List" || document.value["apiVersion"] != "v1" {
        into.push(document);
        return Ok(());
    }
    let origin = document.origin;
    let items = match document.value.get_mut("items").map(Value::take) {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Array(items)) => items,
        Some(_) => return Err(Failure::usage(format!("{origin} is a List whose items are no list"))),
    };
    for (index, value) in items.into_iter().enumerate() {
        unfold(object(format!("{origin}, item {}", index + 1), value)?, into)?;
    }
    Ok(())
}

fn object(origin: String, value: Value) -> Result<Document, Failure> {
    if value["kind"].is_string() {
        Ok(Document { origin, value })
    } else {
        Err(Failure::usage(format!("{origin} is not a Kubernetes object: it has no kind")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_its_items_and_tells_which_is_wrong() {
        let read = |text: &str| parse("x.yaml", text).and_then(unfolded);
        let text = "apiVersion: v1\nkind: List\nitems:\n- {kind: A}\n- apiVersion: v1\n  kind: List\n  items: [{kind: B}]\n---\n\
                    kind: C\n---\napiVersion: v1\nkind: List\n---\napiVersion: example.com/v1\nkind: List\nitems: [{}]\n";
        let found = read(text).expect("objects");
        let told: Vec<_> = found.iter().map(|own| (own.kind(), own.origin.as_str())).collect();
        assert_eq!(
            told,
            [
                ("A", "x.yaml, document 1, item 1"),
                ("B", "x.yaml, document 1, item 2, item 1"),
                ("C", "x.yaml, document 2"),
                ("List", "x.yaml, document 4"),
            ]
        );
        for (items, part) in [
            ("{}", "x.yaml is a List whose items are no list"),
            ("[{kind: A}, {}]", "x.yaml, item 2 is not a Kubernetes object: it has no kind"),
            ("[7]", "x.yaml, item 1 is not a Kubernetes object"),
        ] {
            let failure = read(&format!("apiVersion: v1\nkind: List\nitems: {items}\n")).expect_err(items);
            let said = crate::failure::render(&failure);
            assert!(said.contains(part), "{said}");
        }
    }

    #[test]
    fn numbers_read_as_kubectl_reads_them() {
        let documents = parse("x", "kind: A\nmode: 0644\n---\n---\nkind: B\n").expect("YAML");
        assert_eq!(documents.len(), 2);
        assert_eq!(documents[0].value["mode"], 420);
        assert_eq!(documents[1].kind(), "B");
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        let message = |text| crate::failure::render(&parse("wf.yaml", text).expect_err("must fail"));
        assert!(message("a: [").starts_with("error: wf.yaml is not YAML: "));
        insta::assert_snapshot!(message("kind: A\n---\nname: x\n"));
    }
}
