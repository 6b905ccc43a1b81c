//! How the agent reaches its hub: always outbound, always to authorities it pinned when it joined.

mod shared_connection;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use kube::config::AuthInfo;
use kube::{Client, Config};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use x509_parser::certificate::X509Certificate;
use x509_parser::pem::Pem;

use crate::credentials::Credentials;
use crate::error::Error;

/// What the agent trusts before it has joined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trust {
    /// `sha256:<hex>` of the public key (SubjectPublicKeyInfo) of the hub's authority.
    Pin(String),
    /// The authorities themselves, PEM.
    Ca(String),
}

/// Makes clients of the hub.
#[async_trait]
pub trait HubConnector: fmt::Debug + Send + Sync + 'static {
    /// A client without credentials that trusts `ca_pem` and nothing else; with `None` one that trusts whoever answers,
    /// which is used for nothing but fetching the authorities, to be compared with the pin.
    ///
    /// # Errors
    /// When no client can be made of these.
    async fn anonymous(&self, ca_pem: Option<&str>) -> Result<Client, Error>;

    /// A client with the agent's certificate.
    ///
    /// # Errors
    /// When no client can be made of these.
    async fn authenticated(&self, credentials: &Credentials) -> Result<Client, Error>;

    /// The same over HTTP/1.1, whose connections can be upgraded: for a tunnel, which has a connection of its own.
    ///
    /// # Errors
    /// When no client can be made of these.
    async fn upgradable(&self, credentials: &Credentials) -> Result<Client, Error>;

    /// The hub was not reached: where there is another place it may be, that is tried next.
    fn unreached(&self) {}

    /// The hub says where it is reached from now on.
    ///
    /// # Errors
    /// When that cannot be kept.
    fn announced(&self, _url: Option<&str>) -> Result<(), Error> {
        Ok(())
    }
}

/// Over TLS to a URL.
#[derive(Clone, Debug)]
pub struct TlsConnector {
    url: http::Uri,
    places: Option<PathBuf>,
    turn: Arc<AtomicUsize>,
}

/// Where a hub is besides the URL that the agent was started with; a file in the agent's directory. None of these is
/// trusted more than the first: whoever answers must have a certificate of the authority that the agent pinned.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Places {
    /// Said by a person; comes before the URL the agent was started with.
    #[serde(default)]
    pub(crate) rebound: Option<String>,
    /// Said by the hub; tried when the first does not answer.
    #[serde(default)]
    pub(crate) announced: Option<String>,
}

impl Places {
    pub(crate) fn read(directory: &Path) -> Self {
        let read = std::fs::read(directory.join(PLACES)).ok();
        read.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
    }

    pub(crate) fn write(&self, directory: &Path) -> Result<(), Error> {
        let text = serde_json::to_vec(self).map_err(|error| Error::Invalid(error.to_string()))?;
        crate::credentials::write(&directory.join(PLACES), &text, 0o600)
    }
}

/// The file of [`Places`].
const PLACES: &str = "hub-places.json";

impl TlsConnector {
    /// To a hub at `https://host:port`.
    ///
    /// # Errors
    /// When `url` is not an https URL.
    pub fn new(url: &str) -> Result<Self, Error> {
        Ok(Self { url: parse(url)?, places: None, turn: Arc::default() })
    }

    /// Also where a file in the agent's directory says, which a person or the hub may write.
    #[must_use]
    pub fn with_places(self, directory: &Path) -> Self {
        Self { places: Some(directory.to_owned()), ..self }
    }

    /// Where to go this time. What cannot be read as a URL is passed over.
    fn target(&self) -> http::Uri {
        let places = self.places.as_deref().map(Places::read).unwrap_or_default();
        let first = places.rebound.and_then(|url| parse(&url).ok()).unwrap_or_else(|| self.url.clone());
        let second = places.announced.and_then(|url| parse(&url).ok()).filter(|second| *second != first);
        match second {
            Some(second) if self.turn.load(Ordering::Relaxed) % 2 == 1 => second,
            _ => first,
        }
    }

    fn config(&self, ca_pem: Option<&str>) -> Result<Config, Error> {
        let mut config = Config::new(self.target());
        config.default_namespace = "default".to_owned();
        config.connect_timeout = Some(std::time::Duration::from_secs(10));
        match ca_pem {
            Some(pem) => config.root_cert = Some(certificates(pem)?),
            None => config.accept_invalid_certs = true,
        }
        Ok(config)
    }

    fn with_certificate(&self, credentials: &Credentials) -> Result<Config, Error> {
        let ca =
            credentials.ca()?.ok_or_else(|| Error::Invalid("the hub's authority is not known".to_owned()))?;
        let mut config = self.config(Some(&ca))?;
        let path = |path: std::path::PathBuf| Some(path.to_string_lossy().into_owned());
        config.auth_info = AuthInfo {
            client_certificate: path(credentials.certificate_path()),
            client_key: path(credentials.key_path()),
            ..AuthInfo::default()
        };
        Ok(config)
    }
}

#[async_trait]
impl HubConnector for TlsConnector {
    async fn anonymous(&self, ca_pem: Option<&str>) -> Result<Client, Error> {
        Client::try_from(self.config(ca_pem)?).map_err(Error::hub("make a client"))
    }

    async fn authenticated(&self, credentials: &Credentials) -> Result<Client, Error> {
        shared_connection::client(&self.with_certificate(credentials)?)
    }

    async fn upgradable(&self, credentials: &Credentials) -> Result<Client, Error> {
        Client::try_from(self.with_certificate(credentials)?).map_err(Error::hub("make a client"))
    }

    fn unreached(&self) {
        self.turn.fetch_add(1, Ordering::Relaxed);
    }

    fn announced(&self, url: Option<&str>) -> Result<(), Error> {
        let Some(directory) = &self.places else { return Ok(()) };
        let url = url.map(|url| parse(url).map(|_| url.to_owned())).transpose()?;
        let known = Places::read(directory);
        if known.announced == url {
            return Ok(());
        }
        Places { announced: url, ..known }.write(directory)
    }
}

fn parse(url: &str) -> Result<http::Uri, Error> {
    let parsed: http::Uri =
        url.parse().map_err(|error| Error::Invalid(format!("hub URL {url:?}: {error}")))?;
    if parsed.scheme_str() != Some("https") {
        return Err(Error::Invalid(format!("hub URL {url:?}: must begin with https://")));
    }
    Ok(parsed)
}

/// The DER certificates of a PEM text.
pub(crate) fn certificates(pem: &str) -> Result<Vec<Vec<u8>>, Error> {
    let all: Result<Vec<_>, _> =
        Pem::iter_from_buffer(pem.as_bytes()).map(|block| block.map(|block| block.contents)).collect();
    match all {
        Ok(all) if !all.is_empty() => Ok(all),
        Ok(_) => Err(Error::Invalid("the hub's authority: no certificate in the PEM text".to_owned())),
        Err(error) => Err(Error::Invalid(format!("the hub's authority: {error}"))),
    }
}

/// The certificate of `bundle` whose public key has the pin, as PEM.
pub(crate) fn pinned(bundle: &str, pin: &str) -> Result<String, Error> {
    let wanted = pin.strip_prefix("sha256:").unwrap_or(pin).to_ascii_lowercase();
    for block in Pem::iter_from_buffer(bundle.as_bytes()) {
        let block = block.map_err(|error| Error::Invalid(format!("the hub's authority: {error}")))?;
        let certificate =
            block.parse_x509().map_err(|error| Error::Invalid(format!("the hub's authority: {error}")))?;
        if key_digest(&certificate) == wanted {
            return Ok(block_text(&block));
        }
    }
    Err(Error::Invalid(format!(
        "the hub's authority does not have the pinned key {pin}: this is another hub, or somebody in between"
    )))
}

/// By what the authorities of a bundle are recognised: `sha256:…` of the key of each, sorted.
pub(crate) fn pins(bundle: &str) -> Result<Vec<String>, Error> {
    let mut pins = Vec::new();
    for certificate in certificates(bundle)? {
        let parsed = x509_parser::parse_x509_certificate(&certificate);
        let (_, parsed) = parsed.map_err(|error| Error::Invalid(format!("the hub's authority: {error}")))?;
        pins.push(format!("sha256:{}", key_digest(&parsed)));
    }
    pins.sort();
    Ok(pins)
}

fn key_digest(certificate: &X509Certificate<'_>) -> String {
    hex::encode(Sha256::digest(certificate.public_key().raw))
}

fn block_text(block: &Pem) -> String {
    use std::fmt::Write as _;
    let encoded = k8s_openapi::ByteString(block.contents.clone());
    let json = serde_json::to_value(encoded).unwrap_or_default();
    let mut text = String::from("-----BEGIN CERTIFICATE-----\n");
    for line in json.as_str().unwrap_or_default().as_bytes().chunks(64) {
        let _ = writeln!(text, "{}", String::from_utf8_lossy(line));
    }
    text.push_str("-----END CERTIFICATE-----\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pin_chooses_its_certificate_and_refuses_others() {
        let authority = || {
            let key = rcgen::KeyPair::generate().unwrap();
            let certificate = rcgen::CertificateParams::default().self_signed(&key).unwrap();
            (
                certificate.pem(),
                hex::encode(Sha256::digest(rcgen::PublicKeyData::subject_public_key_info(&key))),
            )
        };
        let ((first, _), (second, pin)) = (authority(), authority());
        let chosen = pinned(&format!("{first}{second}"), &format!("sha256:{pin}")).unwrap();
        assert_eq!(certificates(&chosen).unwrap(), certificates(&second).unwrap());
        assert!(pinned(&first, &pin).unwrap_err().to_string().contains("another hub"));
        assert!(TlsConnector::new("http://x").is_err());
    }

    #[test]
    fn a_person_comes_first_and_what_the_hub_announced_is_tried_in_turn() {
        let dir = tempfile::tempdir().unwrap();
        let connector = TlsConnector::new("https://first:1").unwrap().with_places(dir.path());
        let at = |connector: &TlsConnector| connector.target().host().unwrap().to_owned();
        connector.unreached();
        assert_eq!(at(&connector), "first", "there is nowhere else");
        connector.announced(Some("https://second:1")).unwrap();
        assert_eq!(at(&connector), "second");
        connector.unreached();
        assert_eq!(at(&connector), "first");
        assert!(connector.announced(Some("http://plain:1")).is_err());
        let places = Places { rebound: Some("https://third:1".to_owned()), ..Places::read(dir.path()) };
        places.write(dir.path()).unwrap();
        assert_eq!(at(&connector), "third");
        connector.unreached();
        assert_eq!(at(&connector), "second");
        connector.announced(None).unwrap();
        assert_eq!(at(&connector), "third");
        std::fs::write(dir.path().join(PLACES), b"{").unwrap();
        assert_eq!(at(&connector), "first");
    }
}
