//! Rotating the keys of service-account tokens in a state directory, whether a server runs on it or not: it reads them
//! again when they change.

use std::path::Path;

pub use access::tokens::KeptKey;
use access::tokens::KeyDirectory;

use crate::error::AssemblyError;

fn keys_of(directory: &Path) -> Result<KeyDirectory, AssemblyError> {
    let pki = directory.join("pki");
    // A key of a directory that no server made would be made here, and be nobody's.
    if !pki.join("service-account.key").exists() {
        let cause = "no server has kept its state there".into();
        return Err(AssemblyError::new(
            format!("failed to find the keys in `{}`", directory.display()),
            cause,
        ));
    }
    Ok(KeyDirectory::new(&pki))
}

fn failed(action: &str, directory: &Path, error: access::TokenError) -> AssemblyError {
    AssemblyError::new(format!("failed to {action} the keys in `{}`", directory.display()), error.into())
}

/// The keys, the one that signs first.
///
/// # Errors
/// When the directory has none or cannot be read.
pub fn list(directory: &Path) -> Result<Vec<KeptKey>, AssemblyError> {
    keys_of(directory)?.list().map_err(|error| failed("read", directory, error))
}

/// Signs with a new key from now on, whose id is answered; the one before goes on verifying until [`retire`].
///
/// # Errors
/// When the directory has no key, cannot be written, or holds too many keys already.
pub fn rotate(directory: &Path) -> Result<String, AssemblyError> {
    keys_of(directory)?.rotate().map_err(|error| failed("rotate", directory, error))
}

/// Tokens of the key `id` count no more.
///
/// # Errors
/// When there is no such key, or it is the one that signs.
pub fn retire(directory: &Path, id: &str) -> Result<(), AssemblyError> {
    let gone = keys_of(directory)?.retire(id).map_err(|error| failed("retire", directory, error))?;
    if gone {
        return Ok(());
    }
    let cause = "there is no such key, or it is the one that signs: rotate first".into();
    Err(AssemblyError::new(format!("failed to retire the key {id}"), cause))
}
