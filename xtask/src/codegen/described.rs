//! The list of Rust types whose descriptions the server publishes: every kind of the table that is no list.

/// A Rust file that makes a schema generator visit each kind's type, and with it every type it refers to.
pub(super) fn roots(kinds: &str) -> String {
    let mut types: Vec<String> = kinds
        .lines()
        .filter_map(|line| line.split_once(' '))
        .filter(|(kind, name)| !kind.ends_with("List") && !name.contains(".apimachinery."))
        .filter_map(|(_, name)| rust_type(name))
        .collect();
    types.sort();
    types.dedup();
    let mut out = String::from(
        "//! Written by `cargo xtask codegen`.\n\nuse schemars::SchemaGenerator;\n\n\
         /// Makes `generator` define every built-in kind, and all that they refer to.\n\
         #[rustfmt::skip]\n\
         pub(super) fn visit(generator: &mut SchemaGenerator) {\n",
    );
    for name in types {
        out.push_str(&format!("    generator.subschema_for::<{name}>();\n"));
    }
    out.push_str("}\n");
    out
}

/// `io.k8s.api.core.v1.Pod` is `k8s_openapi::api::core::v1::Pod`.
fn rust_type(name: &str) -> Option<String> {
    let path = name.strip_prefix("io.k8s.")?.replace('-', "_").replace('.', "::");
    Some(format!("k8s_openapi::{path}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_become_types() {
        let kinds = "/v1/Pod io.k8s.api.core.v1.Pod\n/v1/PodList io.k8s.api.core.v1.PodList\n\
                     x/v1/APIService io.k8s.kube-aggregator.pkg.apis.apiregistration.v1.APIService\n";
        let file = roots(kinds);
        assert!(file.contains("<k8s_openapi::api::core::v1::Pod>"), "{file}");
        assert!(
            file.contains("<k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::APIService>"),
            "{file}"
        );
        assert!(!file.contains("PodList"), "{file}");
    }
}
