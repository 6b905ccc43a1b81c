//! What a server is known by: its certificate authority, serving certificate, token key, and the administrator's
//! credentials.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use access::authentication::{Anonymous, ClientRoots};
use access::certificates::{ClientSubject, ServerNames, not_after, read_request};
use access::oidc::Issuers;
use access::tls::{ClientIdentity, ServerCertificate, server_config};
use access::tokens::{KeyDirectory, KeyRing, SigningKey};
use access::{CertificateAuthority, CertificateError, Issued};
use apiserver::aggregation::{FRONT_PROXY_NAME, FrontProxy};
use arc_swap::ArcSwap;
use controllers::credentials::{CertificateSigner, Requested};
use tokio_util::sync::CancellationToken;

use crate::error::{AssemblyError, Cause};

/// How long serving certificates hold. Renewal is automatic, so this bounds only how long a stolen one is of use.
const SERVER_VALIDITY: Duration = Duration::from_secs(30 * 24 * 3600);

/// How often the serving certificate is renewed: well before two thirds of its life have passed.
const SERVER_RENEWAL: Duration = Duration::from_secs(7 * 24 * 3600);

/// How long to wait after a renewal failed.
const RETRY: Duration = Duration::from_secs(3600);

/// How long the administrator's certificate in a kubeconfig holds; a new one is written at every start and renewal.
const ADMIN_VALIDITY: Duration = Duration::from_secs(365 * 24 * 3600);

/// The authority, keys and serving certificate of one API server.
#[derive(Debug)]
pub struct Identity {
    /// Signs everything the server's clients trust.
    pub authority: Authority,
    /// Sign and verify service-account tokens.
    pub token_keys: KeyRing,
    /// Whose client certificates are good.
    pub client_roots: ClientRoots,
    /// Whose tokens people may show; nobody's where no file says.
    pub(crate) issuers: Arc<Issuers>,
    /// Where nobody needs credentials, as the file said at the start.
    anonymous: OnceLock<Option<Anonymous>>,
    certificate: ServerCertificate,
    files: watched::Files,
    front_proxy: FrontProxyIdentity,
    names: ServerNames,
    common_name: String,
    lifetimes: Lifetimes,
}

/// The authority as it is now: one that is rotated on the disk is another from then on. Clones share it.
#[derive(Clone, Debug)]
pub struct Authority(Arc<ArcSwap<CertificateAuthority>>);

impl Authority {
    fn new(authority: CertificateAuthority) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(authority)))
    }

    /// As it is now. Whoever keeps this keeps an authority that may have been followed by another.
    #[must_use]
    pub fn now(&self) -> Arc<CertificateAuthority> {
        self.0.load_full()
    }

    /// Takes over what lies in a directory, when that is another authority or one in another company.
    fn follow(&self, directory: &Path) -> Result<(), CertificateError> {
        let kept = CertificateAuthority::read(directory)?;
        if kept.bundle_pem() != self.now().bundle_pem() {
            self.0.store(Arc::new(kept));
        }
        Ok(())
    }
}

/// How long issued certificates hold, and when they are renewed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lifetimes {
    /// Of the serving certificate and that of the front proxy.
    pub(crate) server: Duration,
    /// Between renewals; well before two thirds of a life have passed.
    pub(crate) renewal: Duration,
    /// After a renewal that failed.
    pub(crate) retry: Duration,
}

impl Default for Lifetimes {
    fn default() -> Self {
        Self { server: SERVER_VALIDITY, renewal: SERVER_RENEWAL, retry: RETRY }
    }
}

/// By what aggregated API servers know this one: an authority of its own, so that no client certificate is mistaken
/// for it, and the present certificate.
struct FrontProxyIdentity {
    authority: CertificateAuthority,
    shown: Arc<ArcSwap<ClientIdentity>>,
}

impl std::fmt::Debug for FrontProxyIdentity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FrontProxyIdentity").field("authority", &self.authority).finish_non_exhaustive()
    }
}

impl FrontProxyIdentity {
    fn new(authority: CertificateAuthority, validity: Duration) -> Result<Self, CertificateError> {
        let shown = Arc::new(ArcSwap::from_pointee(Self::issue(&authority, validity)?));
        Ok(Self { authority, shown })
    }

    fn renew(&self, validity: Duration) -> Result<(), CertificateError> {
        self.shown.store(Arc::new(Self::issue(&self.authority, validity)?));
        Ok(())
    }

    fn issue(
        authority: &CertificateAuthority,
        validity: Duration,
    ) -> Result<ClientIdentity, CertificateError> {
        let subject = ClientSubject { user: FRONT_PROXY_NAME.to_owned(), groups: Vec::new() };
        let issued = authority.issue_client(&subject, validity)?;
        Ok(ClientIdentity { certificate_pem: issued.certificate_pem, key_pem: issued.key_pem })
    }
}

impl Identity {
    /// Kept in `directory/pki`, made on first use; without a directory in memory only. `names` are added to the names of
    /// this machine by which the server is reached. What is `given` in files is used in the place of, or besides, its own.
    ///
    /// # Errors
    /// When a file cannot be read or written, or holds no usable key.
    pub fn open(
        directory: Option<&Path>,
        common_name: &str,
        names: ServerNames,
        given: &GivenFiles,
    ) -> Result<Self, AssemblyError> {
        let failed = |source: Cause| {
            AssemblyError::new(format!("failed to prepare the identity of {common_name}"), source)
        };
        let authority_name = format!("{common_name}-ca");
        let front_name = format!("{common_name}-front-proxy-ca");
        let (authority, front, token_keys) = match directory.map(|directory| directory.join("pki")) {
            Some(pki) => (
                CertificateAuthority::open(&pki, &authority_name).map_err(|error| failed(error.into()))?,
                CertificateAuthority::open(&pki.join("front-proxy"), &front_name)
                    .map_err(|error| failed(error.into()))?,
                KeyDirectory::new(&pki).open().map_err(|error| failed(error.into()))?,
            ),
            None => (
                CertificateAuthority::ephemeral(&authority_name).map_err(|error| failed(error.into()))?,
                CertificateAuthority::ephemeral(&front_name).map_err(|error| failed(error.into()))?,
                SigningKey::ephemeral().map_err(|error| failed(error.into()))?.into(),
            ),
        };
        let names = with_local_names(names);
        let lifetimes = Lifetimes::default();
        let front_proxy =
            FrontProxyIdentity::new(front, lifetimes.server).map_err(|error| failed(error.into()))?;
        let issued = authority
            .issue_server(common_name, &names, lifetimes.server)
            .map_err(|error| failed(error.into()))?;
        let certificate = ServerCertificate::new(&issued).map_err(|error| failed(error.into()))?;
        let client_roots = ClientRoots::new(authority.roots()).map_err(|error| failed(error.into()))?;
        let files = watched::Files::new(given, directory.map(|directory| directory.join("pki")));
        let identity = Self {
            authority: Authority::new(authority),
            token_keys,
            client_roots,
            issuers: crate::oidc::issuers(),
            anonymous: OnceLock::new(),
            certificate,
            files,
            front_proxy,
            names,
            common_name: common_name.to_owned(),
            lifetimes,
        };
        match identity.load_given().into_iter().next() {
            Some(error) => Err(failed(error.into())),
            None => Ok(identity),
        }
    }

    /// What the server listens with.
    ///
    /// # Errors
    /// When the crypto provider offers nothing usable.
    pub fn tls(&self) -> Result<Arc<rustls::ServerConfig>, AssemblyError> {
        server_config(&self.certificate).map_err(|error| {
            AssemblyError::new(format!("failed to configure TLS for {}", self.common_name), error.into())
        })
    }

    /// Where nobody needs credentials, if a file says.
    #[must_use]
    pub fn anonymous(&self) -> Option<&Anonymous> {
        self.anonymous.get()?.as_ref()
    }

    /// How aggregated API servers recognise this one. What is renewed later is shown from then on.
    #[must_use]
    pub fn front_proxy(&self) -> FrontProxy {
        FrontProxy {
            authority_pem: self.front_proxy.authority.bundle_pem().to_owned(),
            identity: Arc::clone(&self.front_proxy.shown),
        }
    }

    /// Renews the serving certificate, the front proxy's and the administrator's in the kubeconfig that `kubeconfig`
    /// names (path, cluster's name, address), until `shutdown` and without a restart. A failed renewal is logged and
    /// tried again an hour later: the old certificates still hold for weeks.
    pub async fn keep_fresh(self: Arc<Self>, kubeconfig: Option<Kubeconfig>, shutdown: CancellationToken) {
        let mut pause = self.lifetimes.renewal;
        while shutdown.run_until_cancelled(tokio::time::sleep(pause)).await.is_some() {
            let (fresh, kubeconfig) = (Arc::clone(&self), kubeconfig.clone());
            // Signing is computing, and the kubeconfig is synced to disk.
            let renewed = tokio::task::spawn_blocking(move || fresh.renew(kubeconfig.as_ref())).await;
            let renewed = renewed.map_err(|panic| panic.to_string()).and_then(|renewed| renewed);
            pause = match renewed {
                Ok(()) => self.lifetimes.renewal,
                Err(error) => {
                    tracing::warn!(%error, "failed to renew a certificate; trying again later");
                    self.lifetimes.retry
                }
            };
        }
    }

    fn renew(&self, kubeconfig: Option<&Kubeconfig>) -> Result<(), String> {
        let validity = self.lifetimes.server;
        if !self.files.give_certificate() {
            let issued = self.authority.now().issue_server(&self.common_name, &self.names, validity);
            let issued = issued.map_err(|error| error.to_string())?;
            self.certificate.replace(&issued).map_err(|error| error.to_string())?;
        }
        self.front_proxy.renew(validity).map_err(|error| error.to_string())?;
        if let Some((path, name, server)) = kubeconfig {
            self.write_kubeconfig(path, name, *server).map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    /// A certificate of the group `system:masters`.
    ///
    /// # Errors
    /// When signing fails.
    pub fn administrator(&self) -> Result<Issued, AssemblyError> {
        let subject =
            ClientSubject { user: "kubernetes-admin".to_owned(), groups: vec!["system:masters".to_owned()] };
        self.authority.now().issue_client(&subject, ADMIN_VALIDITY).map_err(|error| {
            AssemblyError::new(
                format!("failed to issue the administrator's certificate of {}", self.common_name),
                error.into(),
            )
        })
    }

    /// Writes the administrator's kubeconfig (readable by its owner only), complete or not at all.
    ///
    /// # Errors
    /// When the certificate cannot be issued or the file not written.
    pub fn write_kubeconfig(&self, path: &Path, name: &str, server: SocketAddr) -> Result<(), AssemblyError> {
        let text = self.kubeconfig(name, server)?;
        write_private(path, &text).map_err(|source| {
            AssemblyError::new(format!("failed to write the kubeconfig `{}`", path.display()), source.into())
        })
    }

    /// The administrator's kubeconfig as text; JSON, which is YAML.
    ///
    /// # Errors
    /// When the certificate cannot be issued.
    pub fn kubeconfig(&self, name: &str, server: SocketAddr) -> Result<String, AssemblyError> {
        let admin = self.administrator()?;
        let encode = |text: &str| base64::Engine::encode(&base64::engine::general_purpose::STANDARD, text);
        Ok(format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: {name}\nclusters:\n- name: {name}\n  cluster:\n    \
             server: https://{server}\n    certificate-authority-data: {ca}\ncontexts:\n- name: {name}\n  context:\n    \
             cluster: {name}\n    user: {name}-admin\nusers:\n- name: {name}-admin\n  user:\n    \
             client-certificate-data: {certificate}\n    client-key-data: {key}\n",
            ca = encode(self.authority.now().bundle_pem()),
            certificate = encode(&admin.certificate_pem),
            key = encode(admin.key_pem.reveal()),
        ))
    }
}

/// Signs for the controllers with an authority.
#[derive(Debug)]
pub(crate) struct Signer(pub(crate) Authority);

impl CertificateSigner for Signer {
    fn read(&self, request_pem: &str) -> Result<Requested, String> {
        let found = read_request(request_pem).map_err(|error| error.to_string())?;
        Ok(Requested {
            common_name: found.common_name,
            organizations: found.organizations,
            dns: found.dns,
            addresses: found.addresses,
            emails: found.emails,
            uris: found.uris,
        })
    }

    fn sign(&self, request_pem: &str, usages: &[String], validity: Duration) -> Result<String, String> {
        self.0.now().sign_request(request_pem, usages, validity).map_err(|error| error.to_string())
    }

    fn expires(&self, certificate_pem: &str) -> Option<jiff::Timestamp> {
        not_after(certificate_pem)
    }
}

/// `sha256:…` of the public key of an authority's certificate (DER): by what agents recognise a hub.
///
/// # Errors
/// When it is no certificate.
pub fn pin(authority: &[u8]) -> Result<String, AssemblyError> {
    let pin = access::certificates::pin_of_certificate(authority);
    pin.map(|pin| pin.to_string())
        .map_err(|error| AssemblyError::new("failed to read an authority's certificate", error.into()))
}

fn with_local_names(mut names: ServerNames) -> ServerNames {
    names.dns.extend(["localhost".to_owned(), "kubernetes".to_owned(), "kubernetes.default".to_owned()]);
    names
        .dns
        .extend(["kubernetes.default.svc".to_owned(), "kubernetes.default.svc.cluster.local".to_owned()]);
    names.addresses.push(IpAddr::V4(Ipv4Addr::LOCALHOST));
    names
}

/// Replaces `path` by a file only its owner can read; a crash leaves the old one or the new one.
pub(crate) fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let mut next = PathBuf::from(path);
    next.set_extension("tmp");
    // A crash may have left one, possibly with other permissions.
    match std::fs::remove_file(&next) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = std::fs::File::options().write(true).create_new(true).mode(0o600).open(&next)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&next, path)
}

mod watched;

pub use watched::GivenFiles;
pub(crate) use watched::Kubeconfig;

#[cfg(test)]
mod tests;
