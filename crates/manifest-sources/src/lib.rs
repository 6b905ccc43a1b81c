//! Manifests from where people keep them: Git repositories, OCI registries and repositories of Helm charts, as they are or built
//! by Kustomize or Helm.
//!
//! What is well known is left to the well-known programs: `git`, `kustomize` (or `kubectl`), `helm`, `gpgv`. Each runs as a child
//! process without a shell, without a terminal, within bounds of time and output; one that is missing is named with where
//! it comes from. The hub and the command line use the same code; the hub's children see nothing of its environment.
//!
//! Never: writes outside the directory it is given, reads a path that leads out of what was fetched, or puts a secret into
//! an argument, a message or a URL.

mod archive;
pub mod charts;
mod client;
mod directory;
mod error;
#[cfg(test)]
mod fixture;
pub mod git;
pub mod oci;
mod process;
mod provenance;
mod reach;
mod shown;
mod tools;

pub use client::Login;
pub use directory::{check, check_path, inside};
pub use error::Error;
pub use process::Surroundings;
pub use provenance::check_keys as check_openpgp_keys;
pub use tools::{HelmOptions, Rendering, check_release, holds, render};
