//! Rotation of a hub's authority, on the files of its directory. A running hub looks at them every few seconds and follows.

use std::path::Path;

use access::certificates::rotation::{self, RotationError};

use serde::Serialize;

use crate::error::AssemblyError;

/// By what agents recognise a hub: `sha256:…` of the keys of its authorities.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Rotation {
    /// The one that signs.
    pub current: String,
    /// The one that will.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    /// The one that did, while what it signed is good.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub previous: Option<String>,
}

/// How far a rotation is.
///
/// # Errors
/// When there is no authority, or its files cannot be read.
pub fn show(directory: &Path) -> Result<Rotation, AssemblyError> {
    told(directory, rotation::state(&directory.join("pki")))
}

/// Makes the next authority; agents learn to trust both.
///
/// # Errors
/// When a rotation is under way, or the files cannot be written.
pub fn prepare(directory: &Path) -> Result<Rotation, AssemblyError> {
    told(directory, rotation::prepare(&directory.join("pki"), "hub-ca"))
}

/// Lets the next authority sign.
///
/// # Errors
/// When none is prepared, or the files cannot be written.
pub fn switch(directory: &Path) -> Result<Rotation, AssemblyError> {
    told(directory, rotation::switch(&directory.join("pki")))
}

/// Forgets the previous authority.
///
/// # Errors
/// When there is none, or it cannot be removed.
pub fn finish(directory: &Path) -> Result<Rotation, AssemblyError> {
    told(directory, rotation::finish(&directory.join("pki")))
}

fn told(
    directory: &Path,
    state: Result<rotation::Rotation, RotationError>,
) -> Result<Rotation, AssemblyError> {
    let failed = |error: RotationError| {
        let what = format!("failed to rotate the authority in `{}`", directory.display());
        AssemblyError::new(what, error.into())
    };
    let rotation::Rotation { current, next, previous } = state.map_err(failed)?;
    Ok(Rotation {
        current: current.to_string(),
        next: next.map(|pin| pin.to_string()),
        previous: previous.map(|pin| pin.to_string()),
    })
}
