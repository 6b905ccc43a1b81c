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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) enum Format {
    #[default]
    Json,
    Yaml,
    /// Kubernetes' own: an envelope behind a magic; streams have the length before each event.
    Protobuf,
}

impl Format {
    /// As it stands in Content-Type headers.
    pub(crate) fn media_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Yaml => "application/yaml",
            Self::Protobuf => api_machinery::protobuf::MEDIA_TYPE,
        }
    }
}

/// What a resource can be shown as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Offer {
    /// Table and metadata; errors and reviews have only themselves.
    pub(crate) views: bool,
    /// Whether the objects themselves have a protobuf form; their metadata always has one, a Table never.
    pub(crate) protobuf: bool,
    /// A watch: there is no YAML form of a stream.
    pub(crate) stream: bool,
}

impl Offer {
    /// Documents that only exist as JSON and YAML.
    pub(crate) const DOCUMENT: Self = Self { views: false, protobuf: false, stream: false };

    fn takes(self, format: Format, view: View) -> bool {
        match (format, view) {
            (Format::Yaml, _) => !self.stream,
            (Format::Protobuf, View::Object) => self.protobuf,
            (Format::Protobuf, View::Table) => false,
            _ => true,
        }
    }

    fn refusal(self) -> Status {
        let mut media = vec!["application/json"];
        if !self.stream {
            media.push("application/yaml");
        }
        if self.protobuf {
            media.push(if self.stream {
                "application/vnd.kubernetes.protobuf;stream=watch"
            } else {
                api_machinery::protobuf::MEDIA_TYPE
            });
        }
        Status::new(
            Reason::NotAcceptable,
            format!("only the following media types are accepted: {}", media.join(", ")),
        )
    }
}

/// Both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
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

/// Picks the best that can be served.
///
/// # Errors
/// 406.
pub(crate) fn negotiate(accept: Option<&str>, offer: Offer) -> Result<Accepted, Status> {
    let accept = accept.unwrap_or("*/*");
    for clause in clauses(if accept.trim().is_empty() { "*/*" } else { accept }) {
        let format = match clause.media.as_str() {
            "application/json" | "*/*" | "application/*" => Format::Json,
            "application/yaml" => Format::Yaml,
            api_machinery::protobuf::MEDIA_TYPE => Format::Protobuf,
            _ => continue,
        };
        let group = clause.parameter("g").unwrap_or("meta.k8s.io") == "meta.k8s.io";
        let version = clause.parameter("v").unwrap_or("v1") == "v1";
        let view = match clause.parameter("as") {
            None => View::Object,
            Some("Table") if offer.views && group && version => View::Table,
            Some("PartialObjectMetadata" | "PartialObjectMetadataList")
                if offer.views && group && version =>
            {
                View::Metadata
            }
            Some(_) => continue,
        };
        if offer.takes(format, view) {
            return Ok(Accepted { view, format });
        }
    }
    Err(offer.refusal())
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUILT_IN: Offer = Offer { views: true, protobuf: true, stream: false };
    const CUSTOM: Offer = Offer { protobuf: false, ..BUILT_IN };

    #[test]
    fn kubectl_gets_tables_and_falls_back() {
        let kubectl = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";
        assert_eq!(negotiate(Some(kubectl), BUILT_IN).expect("table").view, View::Table);
        assert_eq!(negotiate(Some(kubectl), Offer::DOCUMENT).expect("object").view, View::Object);
        assert_eq!(negotiate(None, BUILT_IN).expect("default"), Accepted::default());
    }

    #[test]
    fn protobuf_is_for_what_has_a_form() {
        let first = Some("application/vnd.kubernetes.protobuf,application/json");
        assert_eq!(negotiate(first, BUILT_IN).expect("protobuf").format, Format::Protobuf);
        assert_eq!(negotiate(first, CUSTOM).expect("json").format, Format::Json);
        let metadata =
            Some("application/vnd.kubernetes.protobuf;as=PartialObjectMetadata;g=meta.k8s.io;v=v1");
        let accepted = negotiate(metadata, CUSTOM).expect("metadata of anything");
        assert_eq!(accepted, Accepted { view: View::Metadata, format: Format::Protobuf });
        let table = Some("application/vnd.kubernetes.protobuf;as=Table;g=meta.k8s.io;v=v1");
        assert_eq!(negotiate(table, BUILT_IN).expect_err("no form").code, 406);
    }

    #[test]
    fn refusals_name_what_there_is() {
        let refused = negotiate(Some("image/png"), BUILT_IN).expect_err("none");
        assert_eq!(refused.code, 406);
        assert_eq!(
            refused.message,
            "only the following media types are accepted: application/json, application/yaml, application/vnd.kubernetes.protobuf"
        );
        let stream = Offer { stream: true, ..BUILT_IN };
        let refused = negotiate(Some("application/yaml"), stream).expect_err("no YAML streams");
        assert_eq!(
            refused.message,
            "only the following media types are accepted: application/json, application/vnd.kubernetes.protobuf;stream=watch"
        );
    }
}
