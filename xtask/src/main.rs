//! Repository chores: `codegen` writes the committed tables from the published Kubernetes documents, `tidy` checks the
//! house rules that no compiler checks. Run as `cargo xtask NAME`.
//!
//! Must never be a dependency of the product.

mod codegen;
mod kinds;
mod tidy;

use std::path::{Path, PathBuf};

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "xtask", about = "Repository chores")]
struct Arguments {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Writes the tables of types, resources and bootstrap roles.
    Codegen {
        /// The directory that holds openapi-v3/, discovery/ and rbac-bootstrap/.
        #[arg(long)]
        from: Option<PathBuf>,
        /// Writes the table of protobuf messages instead, from the generated.proto files under this directory and the
        /// Go types beside them.
        #[arg(long)]
        protos: Option<PathBuf>,
        /// Compares with what is committed and writes nothing.
        #[arg(long)]
        check: bool,
    },
    /// Writes docs/reference/kinds.md from the API server's catalogue.
    Kinds {
        /// Compares with what is committed and writes nothing.
        #[arg(long)]
        check: bool,
    },
    /// Checks layers, effects in pure files, file lengths, lints and names.
    Tidy,
}

fn main() -> anyhow::Result<()> {
    let root = repository_root();
    match Arguments::parse().chore {
        Chore::Codegen { protos: Some(directory), check, .. } => {
            codegen::protobuf_table(&root, &directory, check)
        }
        Chore::Codegen { from, check, .. } => codegen::run(&root, from.as_deref(), check),
        Chore::Kinds { check } => kinds::run(&root, check),
        Chore::Tidy => tidy::run(&root),
    }
}

/// The repository is the parent of this crate's directory.
fn repository_root() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.parent().unwrap_or(own).to_path_buf()
}
