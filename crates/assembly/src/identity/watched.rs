//! Certificates and keys that others put into files: read again when a file changes, without a restart.
//!
//! Files are looked at by time, as upstream's server does: what replaces them (a Secret's volume, a certificate's renewal)
//! swaps links and directories, which notifications of single files miss.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use access::Secret;
use access::tls::ClientIdentity;
use access::tokens::KeyDirectory;
use parking_lot::Mutex;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use tokio_util::sync::CancellationToken;

use super::Identity;
use crate::error::{AssemblyError, Cause};

/// Between two looks. A look costs a few system calls; a rotated key must be verified before its tokens come around.
const LOOK: Duration = Duration::from_secs(5);

/// Files that are given to a server, by the flags of kube-apiserver.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GivenFiles {
    /// The serving certificate, with its chain, and its key, in the place of those the server issues to itself.
    pub serving: Option<(PathBuf, PathBuf)>,
    /// Authorities whose client certificates are good, besides the server's own.
    pub client_authorities: Option<PathBuf>,
}

/// What is looked at, and how it was when it was read last.
#[derive(Debug)]
pub(super) struct Files {
    given: GivenFiles,
    keys: Option<PathBuf>,
    seen: Mutex<Vec<Option<SystemTime>>>,
}

impl Files {
    pub(super) fn new(given: &GivenFiles, keys: Option<PathBuf>) -> Self {
        let files = Self { given: given.clone(), keys, seen: Mutex::default() };
        *files.seen.lock() = files.times();
        files
    }

    pub(super) fn give_certificate(&self) -> bool {
        self.given.serving.is_some()
    }

    /// When each was changed last; `None` for one that is not there. A directory changes with what is in it.
    fn times(&self) -> Vec<Option<SystemTime>> {
        let (certificate, key) = self.given.serving.as_ref().map(|(own, key)| (own, key)).unzip();
        let keys = self
            .keys
            .iter()
            .flat_map(|pki| [pki.join("service-account.key"), pki.join("service-account-keys")]);
        let given = [certificate, key, self.given.client_authorities.as_ref()];
        let all = given.into_iter().flatten().cloned().chain(keys);
        all.map(|path| std::fs::metadata(path).and_then(|metadata| metadata.modified()).ok()).collect()
    }

    /// Whether something changed since the last call.
    fn changed(&self) -> bool {
        let now = self.times();
        let mut seen = self.seen.lock();
        std::mem::replace(&mut *seen, now.clone()) != now
    }
}

impl Identity {
    /// Reads all that is given in files. What cannot be used leaves what was.
    pub(super) fn load_given(&self) -> Result<(), AssemblyError> {
        if let Some((certificate, key)) = &self.files.given.serving {
            let given =
                ClientIdentity { certificate_pem: read(certificate)?, key_pem: Secret::new(read(key)?) };
            self.certificate.replace_pem(&given).map_err(|error| unusable(certificate, error.into()))?;
        }
        if let Some(path) = &self.files.given.client_authorities {
            let text = read(path)?;
            let given = CertificateDer::pem_slice_iter(text.as_bytes()).collect::<Result<Vec<_>, _>>();
            let given = given.map_err(|_| unusable(path, "it is not PEM".into()))?;
            if given.is_empty() {
                return Err(unusable(path, "it holds no certificate".into()));
            }
            let all = given.iter().chain(self.authority.roots());
            self.client_roots.replace(all).map_err(|error| unusable(path, error.into()))?;
        }
        if let Some(pki) = &self.files.keys {
            let keys = KeyDirectory::new(pki).open().map_err(|error| unusable(pki, error.into()))?;
            self.token_keys.replace(&keys);
        }
        Ok(())
    }

    /// Reads them again whenever one changes, until `shutdown`. What cannot be used is said in the log, and tried again
    /// with the next change.
    pub(crate) async fn follow_files(self: Arc<Self>, shutdown: CancellationToken) {
        while shutdown.run_until_cancelled(tokio::time::sleep(LOOK)).await.is_some() {
            let fresh = Arc::clone(&self);
            let looked = tokio::task::spawn_blocking(move || fresh.look()).await;
            if let Err(panic) = looked {
                tracing::error!(%panic, "failed to look at the files of certificates and keys");
            }
        }
    }

    fn look(&self) {
        if !self.files.changed() {
            return;
        }
        match self.load_given() {
            Ok(()) => tracing::info!("certificates and keys were read again"),
            Err(error) => {
                let why: &dyn std::error::Error = &error;
                tracing::warn!(error = why, "a changed certificate or key cannot be used; the old one stays");
            }
        }
    }
}

fn read(path: &Path) -> Result<String, AssemblyError> {
    std::fs::read_to_string(path).map_err(|error| unusable(path, error.into()))
}

fn unusable(path: &Path, cause: Cause) -> AssemblyError {
    AssemblyError::new(format!("failed to use `{}`", path.display()), cause)
}

#[cfg(test)]
mod tests {
    use access::certificates::{ClientSubject, ServerNames};
    use access::tokens::TokenIssuer;
    use access::{Authenticator, CertificateAuthority};

    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn given_files_are_read_at_start_and_after_each_change() {
        let home = tempfile::tempdir().unwrap();
        let at = |name: &str| home.path().join(name);
        let elsewhere = CertificateAuthority::ephemeral("elsewhere").unwrap();
        let write = |authority: &CertificateAuthority| {
            let issued = authority.issue_server("given", &ServerNames::default(), HOUR).unwrap();
            std::fs::write(at("tls.crt"), &issued.certificate_pem).unwrap();
            std::fs::write(at("tls.key"), issued.key_pem.reveal()).unwrap();
            std::fs::write(at("clients.crt"), authority.bundle_pem()).unwrap();
        };
        write(&elsewhere);
        let given = GivenFiles {
            serving: Some((at("tls.crt"), at("tls.key"))),
            client_authorities: Some(at("clients.crt")),
        };
        let state = at("state");
        let identity = Identity::open(Some(&state), "c", ServerNames::default(), &given).unwrap();
        let accepts = |authority: &CertificateAuthority| {
            let subject =
                ClientSubject { user: "u".into(), groups: vec!["a".into(), "b".into(), "c".into()] };
            let client = authority.issue_client(&subject, HOUR).unwrap();
            let authenticator = Authenticator::new(false).with_client_roots(identity.client_roots.clone());
            authenticator.verify_peer(&[client.certificate().clone()]).is_ok()
        };
        let next = CertificateAuthority::ephemeral("next").unwrap();
        assert!(accepts(&elsewhere) && accepts(&identity.authority) && !accepts(&next));

        let issuer = TokenIssuer::new(identity.token_keys.clone(), "https://a", vec![]);
        let keys = || issuer.key_set()["keys"].as_array().unwrap().len();
        assert_eq!(keys(), 1);
        write(&next);
        KeyDirectory::new(&state.join("pki")).rotate().unwrap();
        // A file system may not tell two moments apart.
        identity.files.seen.lock().clear();
        identity.look();
        assert!(!accepts(&elsewhere) && accepts(&identity.authority) && accepts(&next));
        assert_eq!(keys(), 2);

        std::fs::write(at("clients.crt"), "nonsense").unwrap();
        identity.files.seen.lock().clear();
        identity.look();
        assert!(accepts(&next), "what cannot be used leaves what was");
    }
}
