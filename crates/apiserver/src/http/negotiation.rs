//! What a client accepts (upstream `endpoints/handlers/negotiation`). Pure.

use kube_objects::{Reason, Status};

/// What objects are shown as.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) enum View {
    /// Themselves.
    #[default]
    Object,
    /// `meta.k8s.io/v1 Table`.
    Table,
    /// `meta.k8s.io/v1 PartialObjectMetadata(List)`.
    Metadata,
}

/// What an answer is written in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Format {
    #[default]
    Json,
    Yaml,
}

/// Both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Accepted {
    pub(crate) view: View,
    pub(crate) format: Format,
}

/// One clause of an Accept header.
#[derive(Clone, Debug)]
pub(crate) struct Clause<'a> {
    /// `application/json`, lower case.
    pub(crate) media: String,
    /// `as` → `Table`.
    parameters: Vec<(&'a str, &'a str)>,
}

impl<'a> Clause<'a> {
    /// A parameter's value.
    pub(crate) fn parameter(&self, key: &str) -> Option<&'a str> {
        self.parameters.iter().find(|(own, _)| *own == key).map(|(_, value)| *value)
    }

    fn quality(&self) -> f32 {
        self.parameter("q").and_then(|text| text.parse().ok()).unwrap_or(1.0)
    }
}

/// The clauses of an Accept header, best first.
pub(crate) fn clauses(accept: &str) -> Vec<Clause<'_>> {
    let mut clauses: Vec<Clause<'_>> = accept
        .split(',')
        .map(|clause| {
            let mut parts = clause.split(';').map(str::trim);
            let media = parts.next().unwrap_or_default().to_ascii_lowercase();
            let parameters = parts.filter_map(|part| part.split_once('=')).collect();
            Clause { media, parameters }
        })
        .collect();
    clauses.sort_by(|a, b| b.quality().total_cmp(&a.quality()));
    clauses
}

/// Picks the best that can be served. `views`: whether Table and metadata can be.
///
/// # Errors
/// 406.
pub(crate) fn negotiate(accept: Option<&str>, views: bool) -> Result<Accepted, Status> {
    let accept = accept.unwrap_or("*/*");
    for clause in clauses(if accept.trim().is_empty() { "*/*" } else { accept }) {
        let format = match clause.media.as_str() {
            "application/json" | "*/*" | "application/*" => Format::Json,
            "application/yaml" => Format::Yaml,
            _ => continue,
        };
        let group = clause.parameter("g").unwrap_or("meta.k8s.io") == "meta.k8s.io";
        let version = clause.parameter("v").unwrap_or("v1") == "v1";
        let view = match clause.parameter("as") {
            None => View::Object,
            Some("Table") if views && group && version => View::Table,
            Some("PartialObjectMetadata" | "PartialObjectMetadataList") if views && group && version => {
                View::Metadata
            }
            Some(_) => continue,
        };
        return Ok(Accepted { view, format });
    }
    Err(Status::new(
        Reason::NotAcceptable,
        "only the following media types are accepted: application/json, application/yaml",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kubectl_gets_tables_and_falls_back() {
        let kubectl = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";
        assert_eq!(negotiate(Some(kubectl), true).expect("table").view, View::Table);
        assert_eq!(negotiate(Some(kubectl), false).expect("object").view, View::Object);
        let protobuf_first = "application/vnd.kubernetes.protobuf,application/json";
        assert_eq!(negotiate(Some(protobuf_first), true).expect("json").format, Format::Json);
        assert_eq!(negotiate(Some("image/png"), true).expect_err("none").code, 406);
        assert_eq!(negotiate(None, true).expect("default"), Accepted::default());
    }
}
