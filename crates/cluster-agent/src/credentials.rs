//! The agent's identity on disk: key, certificate, authorities, and which cluster they are for. The key never leaves
//! the machine.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use rcgen::{CertificateParams, DistinguishedName, KeyPair};
use serde::{Deserialize, Serialize};

use crate::error::Error;

/// How long an agent whose clock is ahead of its certificate's end waits before it asks for another.
const AHEAD: jiff::SignedDuration = jiff::SignedDuration::from_mins(10);

/// What is known of the agent's certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Identity {
    /// The Cluster's name on the hub.
    pub name: String,
    /// The cluster's uid.
    pub cluster_uid: String,
    /// When the certificate was issued, by this machine's clock.
    pub issued: Timestamp,
    /// When it ends.
    pub not_after: Timestamp,
    /// SHA-256 of the join token, so that a new token means joining anew.
    #[serde(default)]
    pub joined_with: Option<String>,
}

impl Identity {
    /// When to renew: after two thirds of the certificate's life.
    #[must_use]
    pub fn renew_at(&self) -> Timestamp {
        let life = self.not_after.as_millisecond().saturating_sub(self.issued.as_millisecond());
        if life <= 0 {
            // This machine's clock is past the end of what the hub has just issued: asking again at once gives no other.
            return self.issued.saturating_add(AHEAD).unwrap_or(self.not_after);
        }
        Timestamp::from_millisecond(self.issued.as_millisecond() + life / 3 * 2).unwrap_or(self.not_after)
    }
}

/// The directory of credentials.
#[derive(Clone, Debug)]
pub struct Credentials {
    dir: PathBuf,
}

impl Credentials {
    /// Opens or makes the directory, readable by its owner alone.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn open(dir: PathBuf) -> Result<Self, Error> {
        use std::os::unix::fs::DirBuilderExt as _;
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir);
        made.map_err(Error::file("create", &dir))?;
        Ok(Self { dir })
    }

    /// The private key, PEM.
    #[must_use]
    pub fn key_path(&self) -> PathBuf {
        self.dir.join("agent.key")
    }

    /// The certificate, PEM.
    #[must_use]
    pub fn certificate_path(&self) -> PathBuf {
        self.dir.join("agent.crt")
    }

    /// The hub's authorities, PEM.
    #[must_use]
    pub fn ca_path(&self) -> PathBuf {
        self.dir.join("hub-ca.crt")
    }

    /// The identity, when the agent has joined.
    ///
    /// # Errors
    /// When the file is there and cannot be read.
    pub fn identity(&self) -> Result<Option<Identity>, Error> {
        let path = self.dir.join("identity.json");
        match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|error| {
                Error::Invalid(format!("`{}`: {error}; join again with a new token", path.display()))
            }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::file("read", path)(error)),
        }
    }

    /// The authorities to trust, when they are known.
    ///
    /// # Errors
    /// When the file is there and cannot be read.
    pub fn ca(&self) -> Result<Option<String>, Error> {
        match std::fs::read_to_string(self.ca_path()) {
            Ok(pem) => Ok(Some(pem)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::file("read", self.ca_path())(error)),
        }
    }

    /// By what the hub is recognised, as it is kept; none when that is not known or cannot be read.
    pub(crate) fn pins(&self) -> Option<Vec<String>> {
        self.ca().ok().flatten().and_then(|bundle| crate::connector::pins(&bundle).ok())
    }

    /// A signing request by the agent's key; the key is made when there is none.
    ///
    /// # Errors
    /// When the key cannot be made, read or written.
    pub fn signing_request(&self) -> Result<String, Error> {
        let invalid = |error: rcgen::Error| Error::Invalid(format!("the agent's key: {error}"));
        let path = self.key_path();
        let key = match std::fs::read_to_string(&path) {
            Ok(pem) => KeyPair::from_pem(&pem).map_err(invalid)?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let key = KeyPair::generate().map_err(invalid)?;
                write(&path, key.serialize_pem().as_bytes(), 0o600)?;
                key
            }
            Err(error) => return Err(Error::file("read", path)(error)),
        };
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.serialize_request(&key).and_then(|request| request.pem()).map_err(invalid)
    }

    /// Keeps authorities that the hub showed over a connection that it had proved itself on. True when they are others
    /// than before.
    ///
    /// # Errors
    /// When they are no certificates, or the disk refuses.
    pub(crate) fn learn_ca(&self, ca_pem: &str) -> Result<bool, Error> {
        if self.ca()?.as_deref() == Some(ca_pem) {
            return Ok(false);
        }
        crate::connector::certificates(ca_pem)?;
        write(&self.ca_path(), ca_pem.as_bytes(), 0o600)?;
        Ok(true)
    }

    /// Keeps a new certificate. The identity is written last: it is what says that the rest is there.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn save(&self, identity: &Identity, certificate_pem: &str, ca_pem: &str) -> Result<(), Error> {
        write(&self.certificate_path(), certificate_pem.as_bytes(), 0o600)?;
        write(&self.ca_path(), ca_pem.as_bytes(), 0o600)?;
        let text = serde_json::to_vec_pretty(identity).map_err(|error| Error::Invalid(error.to_string()))?;
        write(&self.dir.join("identity.json"), &text, 0o600)
    }
}

/// Writes a file whole or not at all.
pub(crate) fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<(), Error> {
    let temporary = path.with_extension("new");
    let written = (|| {
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(mode)
            .open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)?;
        match path.parent() {
            Some(dir) => std::fs::File::open(dir)?.sync_all(),
            None => Ok(()),
        }
    })();
    written.map_err(Error::file("write", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_kept_and_renewal_comes_at_two_thirds() {
        let dir = tempfile::tempdir().unwrap();
        let credentials = Credentials::open(dir.path().join("c")).unwrap();
        assert!(credentials.identity().unwrap().is_none());
        assert!(credentials.signing_request().unwrap().contains("CERTIFICATE REQUEST"));
        let key = std::fs::read(credentials.key_path()).unwrap();
        credentials.signing_request().unwrap();
        assert_eq!(std::fs::read(credentials.key_path()).unwrap(), key);
        let identity = Identity {
            name: "dev".into(),
            cluster_uid: "1".into(),
            issued: Timestamp::UNIX_EPOCH,
            not_after: Timestamp::from_second(90).unwrap(),
            joined_with: None,
        };
        credentials.save(&identity, "cert", "ca").unwrap();
        assert_eq!(credentials.identity().unwrap().unwrap(), identity);
        assert_eq!(identity.renew_at().as_second(), 60);
        let ahead = Identity { issued: Timestamp::from_second(1000).unwrap(), ..identity.clone() };
        assert_eq!(ahead.renew_at().as_second(), 1600, "a clock that is ahead makes no hot loop");
        std::fs::write(dir.path().join("c/identity.json"), b"{").unwrap();
        assert!(credentials.identity().unwrap_err().to_string().contains("join again"));
    }
}
