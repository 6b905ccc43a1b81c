//! The built-in types, read lazily from the committed tables.
//!
//! The tables are text, one row a line, sorted: finding a row is a binary search over the offsets of lines, parsing one
//! type is a few microseconds, and a server that never sees a kind never pays for it.

use std::sync::OnceLock;

use kube_objects::GroupVersionKind;

use super::{Schema, SchemaRef, parse};

static TYPES: &str = include_str!("../../tables/types.txt");
static KINDS: &str = include_str!("../../tables/kinds.txt");

struct Table {
    names: Vec<&'static str>,
    rows: Vec<&'static str>,
    parsed: Vec<OnceLock<Schema>>,
}

fn table() -> &'static Table {
    static TABLE: OnceLock<Table> = OnceLock::new();
    TABLE.get_or_init(|| {
        let (names, rows): (Vec<_>, Vec<_>) = TYPES.lines().filter_map(|line| line.split_once(' ')).unzip();
        let parsed = names.iter().map(|_| OnceLock::new()).collect();
        Table { names, rows, parsed }
    })
}

pub(super) fn index_of(name: &str) -> Option<usize> {
    table().names.binary_search(&name).ok()
}

pub(super) fn name_at(index: usize) -> &'static str {
    table().names.get(index).copied().unwrap_or_default()
}

/// The parsed type. An index only ever comes from [`index_of`]; a row that did not parse would be an opaque type,
/// and a test parses all rows.
pub(super) fn type_at(index: usize) -> &'static Schema {
    static UNKNOWN: OnceLock<Schema> = OnceLock::new();
    let table = table();
    let (Some(slot), Some(row)) = (table.parsed.get(index), table.rows.get(index)) else {
        return UNKNOWN.get_or_init(Schema::default);
    };
    slot.get_or_init(|| parse::builtin_row(name_at(index), row).unwrap_or_default())
}

/// A built-in type's OpenAPI v3 schema as JSON text, without descriptions; references are
/// `#/components/schemas/NAME`.
#[must_use]
pub fn builtin_type_json(name: &str) -> Option<&'static str> {
    table().rows.get(index_of(name)?).copied()
}

/// The built-in kinds.
#[derive(Clone, Copy, Debug)]
pub struct SchemaSet(());

impl SchemaSet {
    /// All types of Kubernetes 1.36. Costs nothing until a type is asked for.
    #[must_use]
    pub fn builtin() -> Self {
        Self(())
    }

    /// The schema of a kind.
    #[must_use]
    pub fn for_kind(self, kind: &GroupVersionKind) -> Option<SchemaRef> {
        SchemaRef::builtin(self.type_name(kind)?)
    }

    /// The type of a kind: `io.k8s.api.apps.v1.Deployment`.
    #[must_use]
    pub fn type_name(self, kind: &GroupVersionKind) -> Option<&'static str> {
        static ROWS: OnceLock<Vec<(&'static str, &'static str)>> = OnceLock::new();
        let rows = ROWS.get_or_init(|| KINDS.lines().filter_map(|line| line.split_once(' ')).collect());
        let wanted = format!("{}/{}/{}", kind.group, kind.version, kind.kind);
        let index = rows.binary_search_by_key(&wanted.as_str(), |(kind, _)| kind).ok()?;
        rows.get(index).map(|(_, name)| *name)
    }

    /// A type by name.
    #[must_use]
    pub fn type_named(self, name: &str) -> Option<SchemaRef> {
        SchemaRef::builtin(name)
    }

    /// All type names, sorted.
    #[must_use]
    pub fn type_names(self) -> &'static [&'static str] {
        &table().names
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::{ListType, ValueType};

    #[test]
    fn every_row_parses_and_every_reference_resolves() {
        for (name, row) in table().names.iter().zip(&table().rows) {
            parse::builtin_row(name, row).unwrap_or_else(|error| panic!("{name}: {error}"));
        }
        assert!(table().names.is_sorted());
        assert!(table().names.len() > 700);
    }

    #[test]
    fn a_service_merges_its_ports_by_port_and_protocol() {
        let kind = GroupVersionKind::new("", "v1", "Service");
        let service = SchemaSet::builtin().for_kind(&kind).unwrap();
        let ports = service.properties["spec"].properties["ports"].clone();
        assert_eq!(ports.list_type, ListType::Map);
        assert_eq!(ports.list_map_keys, ["port".into(), "protocol".into()]);
        assert_eq!(ports.patch_merge_key.as_deref(), Some("port"));
        assert!(ports.patch_strategy().merge);
        let protocol = ports.items.as_ref().unwrap().properties["protocol"].clone();
        assert_eq!(protocol.default_value(), Some(&serde_json::json!("TCP")));
        let target = ports.items.as_ref().unwrap().properties["targetPort"].clone();
        assert_eq!(target.value_type, ValueType::IntOrString);
        assert!(service.properties["spec"].properties["selector"].is_atomic_map());
    }

    #[test]
    fn what_the_place_says_goes_with_the_reference() {
        let kind = GroupVersionKind::new("apps", "v1", "Deployment");
        let deployment = SchemaSet::builtin().for_kind(&kind).unwrap();
        let strategy = &deployment.properties["spec"].properties["strategy"];
        assert!(strategy.patch_strategy().retain_keys);
        assert_eq!(strategy.default_value(), Some(&serde_json::json!({})));
    }
}
