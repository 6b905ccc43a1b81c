//! Turns the published Kubernetes documents (OpenAPI v3, discovery, RBAC bootstrap) into the small tables that are
//! committed. The documents themselves are not: they hold descriptions that we do not want to carry.
//!
//! The output depends on the input alone (sorted, no time, no paths), so that `--check` can compare bytes.

mod described;
mod protobuf;
mod rbac;
mod resources;
mod types;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

/// One generated file: its path from the repository's root, and what it holds.
pub(crate) struct Table {
    /// From the repository's root.
    pub(crate) path: &'static str,
    /// The whole file.
    pub(crate) content: String,
}

/// Where the documents are: `--from`, else `$FAIRLEAD_SHARED_DATA/kubernetes-1.36`, else beside the repository.
pub(crate) fn source(root: &Path, from: Option<&Path>) -> PathBuf {
    if let Some(from) = from {
        return from.to_path_buf();
    }
    let shared =
        std::env::var_os("FAIRLEAD_SHARED_DATA").map_or_else(|| root.join("../shared/data"), PathBuf::from);
    shared.join("kubernetes-1.36")
}

/// Generates all tables from the documents in `from`.
pub(crate) fn generate(from: &Path) -> anyhow::Result<Vec<Table>> {
    let types = types::read(&from.join("openapi-v3"))?;
    let kinds = types::kinds(&types);
    Ok(vec![
        Table {
            path: "crates/apiserver/src/openapi/descriptions/roots.rs",
            content: described::roots(&kinds),
        },
        Table { path: "crates/api-machinery/tables/types.txt", content: types::lines(&types) },
        Table { path: "crates/api-machinery/tables/kinds.txt", content: kinds },
        Table {
            path: "crates/api-machinery/tables/resources.json",
            content: resources::generate(&from.join("discovery"))?,
        },
        Table {
            path: "crates/access/tables/rbac_bootstrap.json",
            content: rbac::table(&from.join("rbac-bootstrap"))?,
        },
    ])
}

/// Writes the tables, or with `check` names those that differ from what is committed.
pub(crate) fn run(root: &Path, from: Option<&Path>, check: bool) -> anyhow::Result<()> {
    let from = source(root, from);
    if !from.is_dir() {
        bail!("no Kubernetes documents in {}: name their directory with --from", from.display());
    }
    write(root, &generate(&from)?, check)
}

/// Writes the table of protobuf messages, or with `check` compares it. The table of kinds must be there: it says which
/// messages are needed.
pub(crate) fn protobuf_table(root: &Path, directory: &Path, check: bool) -> anyhow::Result<()> {
    let kinds = root.join("crates/api-machinery/tables/kinds.txt");
    let kinds = std::fs::read_to_string(&kinds).with_context(|| format!("reading {}", kinds.display()))?;
    let content = protobuf::table(directory, &kinds)?;
    write(root, &[Table { path: "crates/api-machinery/tables/protobuf.txt", content }], check)
}

fn write(root: &Path, tables: &[Table], check: bool) -> anyhow::Result<()> {
    if check {
        let stale = stale(root, tables);
        if !stale.is_empty() {
            bail!(
                "these tables are not what codegen writes now: {}; run `cargo xtask codegen`",
                stale.join(", ")
            );
        }
        return Ok(());
    }
    for table in tables {
        let path = root.join(table.path);
        if let Some(directory) = path.parent() {
            std::fs::create_dir_all(directory).with_context(|| format!("making {}", directory.display()))?;
        }
        std::fs::write(&path, &table.content).with_context(|| format!("writing {}", path.display()))?;
        println!("{} ({} bytes)", table.path, table.content.len());
    }
    Ok(())
}

fn stale(root: &Path, tables: &[Table]) -> Vec<&'static str> {
    let differs = |table: &&Table| {
        std::fs::read_to_string(root.join(table.path)).map_or(true, |committed| committed != table.content)
    };
    tables.iter().filter(differs).map(|table| table.path).collect()
}

/// Reads a JSON document.
pub(crate) fn read_json(path: &Path) -> anyhow::Result<serde_json::Value> {
    let text = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("parsing {}", path.display()))
}

/// The files of `directory` whose names end in `.suffix`, sorted.
pub(crate) fn files(directory: &Path, suffix: &str) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).with_context(|| format!("listing {}", directory.display()))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == suffix) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn committed_tables_are_what_codegen_writes() {
        let root = crate::repository_root();
        let from = source(&root, None);
        if !from.is_dir() {
            eprintln!("skipped: no Kubernetes documents in {}", from.display());
            return;
        }
        let tables = generate(&from).unwrap();
        assert_eq!(stale(&root, &tables), Vec::<&str>::new());
        assert!(tables.iter().map(|table| table.content.len()).sum::<usize>() < 700_000);
    }

    #[test]
    fn a_changed_table_is_noticed() {
        let root = tempfile::tempdir().unwrap();
        let table = Table { path: "a.txt", content: "new".into() };
        std::fs::write(root.path().join("a.txt"), "old").unwrap();
        assert_eq!(stale(root.path(), &[table]), vec!["a.txt"]);
    }
}
