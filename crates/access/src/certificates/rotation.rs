//! Rotation of an authority in three steps, each after the last has reached everybody:
//!
//! 1. [`prepare`]: the next root is made and shown beside the present one; clients learn to trust both.
//! 2. [`switch`]: the next one signs; certificates of the previous one are still good.
//! 3. [`finish`]: the previous one is forgotten.
//!
//! All work on the files of a directory; who has the authority open sees them when it reads it again.

use std::path::Path;

use super::{
    CertificateAuthority, CertificateError, Pin, generate_key, pin_of_certificate, read, self_sign, write,
};
use crate::files::Visibility;

const NEXT: (&str, &str) = ("ca-next.crt", "ca-next.key");
const PREVIOUS: &str = "ca-previous.crt";

/// How far a rotation is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// The root that signs.
    pub current: Pin,
    /// The one that will, when it is prepared.
    pub next: Option<Pin>,
    /// The one that did, while its certificates are good.
    pub previous: Option<Pin>,
}

/// Why a step cannot be taken.
#[derive(Debug, thiserror::Error)]
pub enum RotationError {
    /// Something about the certificates themselves.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// The steps have an order.
    #[error("{0}")]
    Order(&'static str),
}

/// How far the rotation of a directory's authority is.
///
/// # Errors
/// When there is no authority, or its files cannot be read.
pub fn state(directory: &Path) -> Result<Rotation, RotationError> {
    settle(directory)?;
    let pin = |name: &str| {
        let path = directory.join(name);
        let Some(pem) = read(&path)? else { return Ok(None) };
        let unusable =
            |detail: String| CertificateError::Unusable { subject: path.display().to_string(), detail };
        let parsed = ::pem::parse(&pem).map_err(|error| unusable(error.to_string()))?;
        pin_of_certificate(parsed.contents()).map(Some)
    };
    let current = pin("ca.crt")?.ok_or(RotationError::Order("there is no authority to rotate"))?;
    Ok(Rotation { current, next: pin(NEXT.0)?, previous: pin(PREVIOUS)? })
}

/// Makes the next root.
///
/// # Errors
/// When a rotation is under way, or the files cannot be written.
pub fn prepare(directory: &Path, common_name: &str) -> Result<Rotation, RotationError> {
    let now = state(directory)?;
    if now.next.is_some() {
        return Err(RotationError::Order("the next authority is prepared already"));
    }
    if now.previous.is_some() {
        return Err(RotationError::Order("the previous authority is still good: finish that rotation first"));
    }
    let key = generate_key(common_name)?;
    // The certificate last: it is what says that the key is there.
    write(&directory.join(NEXT.1), key.serialize_pem().as_bytes(), Visibility::Private)?;
    write(&directory.join(NEXT.0), self_sign(common_name, &key)?.as_bytes(), Visibility::Public)?;
    state(directory)
}

/// Lets the next root sign from now on. The key of the previous one is gone afterwards.
///
/// # Errors
/// When no next root is prepared, or the files cannot be written.
pub fn switch(directory: &Path) -> Result<Rotation, RotationError> {
    if state(directory)?.next.is_none() {
        return Err(RotationError::Order("no next authority is prepared"));
    }
    if let Some(current) = read(&directory.join("ca.crt"))? {
        write(&directory.join(PREVIOUS), current.as_bytes(), Visibility::Public)?;
    }
    rename(directory, NEXT.1, "ca.key")?;
    // From here on `settle` goes on after a crash.
    settle(directory)?;
    state(directory)
}

/// Forgets the previous root: certificates that it signed are good no more.
///
/// # Errors
/// When there is none, or it cannot be removed.
pub fn finish(directory: &Path) -> Result<Rotation, RotationError> {
    if state(directory)?.previous.is_none() {
        return Err(RotationError::Order("there is no previous authority to forget"));
    }
    let path = directory.join(PREVIOUS);
    std::fs::remove_file(&path).map_err(|source| CertificateError::File {
        action: "remove",
        path,
        source,
    })?;
    state(directory)
}

/// Ends a [`switch`] that was cut short between the key and the certificate.
pub(super) fn settle(directory: &Path) -> Result<(), CertificateError> {
    if directory.join(NEXT.0).exists() && !directory.join(NEXT.1).exists() {
        rename(directory, NEXT.0, "ca.crt")?;
    }
    Ok(())
}

/// The certificates besides that of the root that signs.
pub(super) fn others(directory: &Path) -> Result<Vec<String>, CertificateError> {
    let next = read(&directory.join(NEXT.0))?;
    let previous = read(&directory.join(PREVIOUS))?;
    Ok(next.into_iter().chain(previous).collect())
}

fn rename(directory: &Path, from: &str, to: &str) -> Result<(), CertificateError> {
    let path = directory.join(from);
    let renamed =
        std::fs::rename(&path, directory.join(to)).and_then(|()| std::fs::File::open(directory)?.sync_all());
    renamed.map_err(|source| CertificateError::File { action: "rename", path, source })
}

impl CertificateAuthority {
    /// How many roots clients are told to trust: more than one during a rotation.
    #[must_use]
    pub fn root_count(&self) -> usize {
        self.roots().count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_step_trusts_what_the_last_one_signed_and_a_crash_between_files_is_mended() {
        let dir = tempfile::tempdir().expect("directory");
        let dir = dir.path();
        assert!(state(dir).is_err() && prepare(dir, "x").is_err());
        let open = || CertificateAuthority::open(dir, "x").expect("an authority");
        let first = open().pin().clone();
        assert!(switch(dir).is_err() && finish(dir).is_err());
        let prepared = prepare(dir, "x").expect("prepared");
        assert!(prepare(dir, "x").is_err(), "once");
        assert_eq!(
            (prepared.current.clone(), open().pin().clone(), open().root_count()),
            (first.clone(), first.clone(), 2)
        );
        let next = prepared.next.expect("a next one");
        // The crash: the key is in its place, the certificate not yet.
        let current = read(&dir.join("ca.crt")).expect("read").expect("there");
        write(&dir.join(PREVIOUS), current.as_bytes(), Visibility::Public).expect("write");
        rename(dir, NEXT.1, "ca.key").expect("rename");
        let switched = state(dir).expect("mended");
        assert_eq!((&switched.current, &switched.previous, &switched.next), (&next, &Some(first), &None));
        assert_eq!((open().pin(), open().root_count()), (&next, 2));
        assert!(prepare(dir, "x").is_err(), "one rotation after the other");
        assert_eq!(finish(dir).expect("finished").previous, None);
        assert_eq!(open().root_count(), 1);
        prepare(dir, "x").expect("again");
        assert_ne!(switch(dir).expect("switched").current, next);
    }
}
