//! Certificates and keys that others put into files: read again when a file changes ([`crate::followed`]), without a restart.
//! Each for itself: one that cannot be used holds up none of the others.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use access::Secret;
use access::oidc::AuthenticationConfiguration;
use access::tls::ClientIdentity;
use access::tokens::KeyDirectory;
use parking_lot::Mutex;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use tokio_util::sync::CancellationToken;

use super::Identity;
use crate::error::{AssemblyError, Cause};
use crate::followed::{Followed, LOOK, Seen};

/// What an authority consists of on the disk, a rotation of it included.
const AUTHORITY: [&str; 4] = ["ca.crt", "ca.key", "ca-next.crt", "ca-previous.crt"];

/// Where the administrator's kubeconfig is written, the server's name, and its address.
pub(crate) type Kubeconfig = (PathBuf, String, SocketAddr);

/// Files that are given to a server, by the flags of kube-apiserver.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GivenFiles {
    /// The serving certificate, with its chain, and its key, in the place of those the server issues to itself.
    pub serving: Option<(PathBuf, PathBuf)>,
    /// Authorities whose client certificates are good, besides the server's own.
    pub client_authorities: Option<PathBuf>,
    /// An `AuthenticationConfiguration`: whose tokens people may show.
    pub authentication: Option<PathBuf>,
}

/// What is looked at, and how it was when it was read last.
#[derive(Debug)]
pub(super) struct Files {
    given: GivenFiles,
    /// Where the server's own are.
    pki: Option<PathBuf>,
    followed: Mutex<Followed>,
}

impl Files {
    pub(super) fn new(given: &GivenFiles, pki: Option<PathBuf>) -> Self {
        let followed = Followed::new(Seen::default());
        let files = Self { given: given.clone(), pki, followed: Mutex::new(followed) };
        *files.followed.lock() = Followed::new(files.now());
        files
    }

    pub(super) fn give_certificate(&self) -> bool {
        self.given.serving.is_some()
    }

    fn now(&self) -> Seen {
        let (certificate, key) = self.given.serving.as_ref().map(|(own, key)| (own, key)).unzip();
        let own = ["service-account.key", "service-account-keys"].into_iter().chain(AUTHORITY);
        let own = self.pki.iter().flat_map(|pki| own.clone().map(|name| pki.join(name)));
        let given =
            [certificate, key, self.given.client_authorities.as_ref(), self.given.authentication.as_ref()];
        Seen::now(given.into_iter().flatten().cloned().chain(own))
    }
}

impl Identity {
    /// Reads all that is given in files; answers what of it cannot be used, which leaves what was.
    pub(super) fn load_given(&self) -> Vec<AssemblyError> {
        // The roots of clients are those of the authority, too.
        let loaded = [
            self.load_authority(),
            self.load_certificate(),
            self.load_client_roots(),
            self.load_issuers(),
            self.load_token_keys(),
        ];
        loaded.into_iter().filter_map(Result::err).collect()
    }

    fn load_authority(&self) -> Result<(), AssemblyError> {
        let Some(pki) = &self.files.pki else { return Ok(()) };
        self.authority.follow(pki).map_err(|error| unusable(pki, error.into()))
    }

    fn load_certificate(&self) -> Result<(), AssemblyError> {
        let Some((certificate, key)) = &self.files.given.serving else { return Ok(()) };
        let given = ClientIdentity { certificate_pem: read(certificate)?, key_pem: Secret::new(read(key)?) };
        self.certificate.replace_pem(&given).map_err(|error| unusable(certificate, error.into()))
    }

    fn load_issuers(&self) -> Result<(), AssemblyError> {
        if let Some(path) = &self.files.given.authentication {
            let AuthenticationConfiguration { issuers, anonymous } = crate::oidc::read(path)?;
            // As upstream: what was said at the start counts until the end.
            if *self.anonymous.get_or_init(|| anonymous.clone()) != anonymous {
                let why = "anonymous: Forbidden: changed from initial configuration file";
                return Err(unusable(path, why.into()));
            }
            self.issuers.replace(issuers);
        }
        Ok(())
    }

    fn load_token_keys(&self) -> Result<(), AssemblyError> {
        let Some(pki) = &self.files.pki else { return Ok(()) };
        let keys = KeyDirectory::new(pki).open().map_err(|error| unusable(pki, error.into()))?;
        self.token_keys.replace(&keys);
        Ok(())
    }

    /// Whose client certificates are good: the authority's own, those of a rotation under way, and those that are given.
    fn load_client_roots(&self) -> Result<(), AssemblyError> {
        let mut given = Vec::new();
        let path = self.files.given.client_authorities.as_deref();
        if let Some(path) = path {
            let text = read(path)?;
            let parsed = CertificateDer::pem_slice_iter(text.as_bytes()).collect::<Result<Vec<_>, _>>();
            given = parsed.map_err(|_| unusable(path, "it is not PEM".into()))?;
            if given.is_empty() {
                return Err(unusable(path, "it holds no certificate".into()));
            }
        }
        let authority = self.authority.now();
        let replaced = self.client_roots.replace(given.iter().chain(authority.roots()));
        replaced.map_err(|error| unusable(path.unwrap_or(Path::new("the authority")), error.into()))
    }

    /// Reads them again whenever one changes, until `shutdown`. What cannot be used is said in the log, and tried again
    /// with every look. Under another authority the serving certificate and the administrator's in `kubeconfig` are
    /// issued anew.
    pub(crate) async fn follow_files(
        self: Arc<Self>,
        kubeconfig: Option<Kubeconfig>,
        shutdown: CancellationToken,
    ) {
        while shutdown.run_until_cancelled(tokio::time::sleep(LOOK)).await.is_some() {
            let (fresh, kubeconfig) = (Arc::clone(&self), kubeconfig.clone());
            let looked = tokio::task::spawn_blocking(move || fresh.look(kubeconfig.as_ref())).await;
            if let Err(panic) = looked {
                tracing::error!(%panic, "failed to look at the files of certificates and keys");
            }
        }
    }

    fn look(&self, kubeconfig: Option<&Kubeconfig>) {
        if !self.files.followed.lock().is_due(self.files.now()) {
            return;
        }
        let before = self.authority.now();
        let unusable = self.load_given();
        let authority = self.authority.now();
        if !Arc::ptr_eq(&before, &authority) {
            tracing::info!(pin = %authority.pin(), roots = authority.root_count(), "the authority was rotated");
            if let Err(error) = self.renew(kubeconfig) {
                tracing::error!(%error, "no certificates were issued by the rotated authority");
            }
        }
        let mut followed = self.files.followed.lock();
        if unusable.is_empty() {
            followed.took();
            tracing::info!("certificates and keys were read again");
        } else {
            let why: Vec<String> = unusable.iter().map(|error| foundation::causes::in_line(error)).collect();
            let why = why.join("; ");
            if followed.failed(why.clone()) {
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
    use std::time::Duration;

    use access::authentication::Anonymous;
    use access::certificates::{ClientSubject, ServerNames, rotation};
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
            authentication: Some(at("authentication.yaml")),
        };
        let trust = |url: &str| {
            let text = format!(
                "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthenticationConfiguration\njwt:\n- issuer: {{url: \"{url}\", \
                 audiences: [a]}}\n  claimMappings: {{username: {{claim: sub, prefix: \"\"}}}}\n"
            );
            std::fs::write(at("authentication.yaml"), text).unwrap();
        };
        trust("https://one.example.com");
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
        let own = identity.authority.now();
        assert!(accepts(&elsewhere) && accepts(&own) && !accepts(&next));

        let issuer = TokenIssuer::new(identity.token_keys.clone(), "https://a", vec![]);
        let keys = || issuer.key_set()["keys"].as_array().unwrap().len();
        assert_eq!(keys(), 1);
        write(&next);
        KeyDirectory::new(&state.join("pki")).rotate().unwrap();
        // A file system may not tell two moments apart.
        let look = || {
            identity.files.followed.lock().failed(String::new());
            identity.look(None);
            identity.look(None);
        };
        trust("https://two.example.com");
        look();
        assert!(!accepts(&elsewhere) && accepts(&own) && accepts(&next));
        assert_eq!(keys(), 2);
        let trusted = || format!("{:?}", identity.issuers);
        assert!(trusted().contains("two") && !trusted().contains("one"), "{}", trusted());

        std::fs::write(at("clients.crt"), "nonsense").unwrap();
        trust("https://three.example.com");
        look();
        assert!(accepts(&next), "what cannot be used leaves what was");
        assert!(trusted().contains("three"), "what is beside it is taken over: {}", trusted());
        // A certificate without its key, and who is let in from now on.
        write(&elsewhere);
        std::fs::write(at("tls.key"), "nonsense").unwrap();
        std::fs::write(at("authentication.yaml"), "jwt: nonsense").unwrap();
        look();
        assert!(accepts(&elsewhere) && !accepts(&next));
        assert!(trusted().contains("three"), "{}", trusted());
        // Expressions are part of it: one that does not compile is named, and takes the rest of the file with it.
        trust("https://four.example.com");
        let text = std::fs::read_to_string(at("authentication.yaml")).unwrap();
        let text = text.replace("{claim: sub, prefix: \"\"}", "{expression: claim.sub}");
        std::fs::write(at("authentication.yaml"), &text).unwrap();
        let unusable: Vec<String> = identity.load_given().iter().map(ToString::to_string).collect();
        let named =
            "jwt[0].claimMappings.username.expression: Invalid value: \"claim.sub\": compilation failed";
        assert!(unusable.iter().any(|why| why.contains(named)), "{unusable:?}");
        assert!(trusted().contains("three"), "{}", trusted());
        std::fs::write(at("authentication.yaml"), text.replace("claim.sub", "claims.sub")).unwrap();
        look();
        assert!(trusted().contains("four"), "{}", trusted());
        // Whether anybody needs credentials is said once.
        assert_eq!(identity.anonymous(), None);
        trust("https://five.example.com");
        let text = std::fs::read_to_string(at("authentication.yaml")).unwrap();
        std::fs::write(at("authentication.yaml"), format!("{text}anonymous: {{enabled: false}}\n")).unwrap();
        let unusable: Vec<String> =
            identity.load_given().iter().map(|error| foundation::causes::in_line(error)).collect();
        assert!(
            unusable.iter().any(|why| why.contains("changed from initial configuration file")),
            "{unusable:?}"
        );
        assert!(trusted().contains("four"), "{}", trusted());
        let given = GivenFiles { authentication: given.authentication, ..GivenFiles::default() };
        let anew = Identity::open(Some(&state), "c", ServerNames::default(), &given).unwrap();
        assert_eq!(anew.anonymous(), Some(&Anonymous::default()));
    }

    #[test]
    fn a_rotation_is_followed_step_by_step() {
        let home = tempfile::tempdir().unwrap();
        let pki = home.path().join("pki");
        let open = |given| Identity::open(Some(home.path()), "c", ServerNames::default(), given).unwrap();
        let identity = open(&GivenFiles::default());
        let kubeconfig = home.path().join("admin.kubeconfig");
        let place = (kubeconfig.clone(), "c".to_owned(), "127.0.0.1:1".parse().unwrap());
        let look = || {
            identity.files.followed.lock().failed(String::new());
            identity.look(Some(&place));
            identity.look(Some(&place));
        };
        let accepts = |authority: &CertificateAuthority| {
            let subject = ClientSubject { user: "u".into(), groups: Vec::new() };
            let client = authority.issue_client(&subject, HOUR).unwrap();
            let authenticator = Authenticator::new(false).with_client_roots(identity.client_roots.clone());
            authenticator.verify_peer(&[client.certificate().clone()]).is_ok()
        };
        let first = identity.authority.now();
        look();
        assert!(Arc::ptr_eq(&first, &identity.authority.now()) && !kubeconfig.exists(), "nothing happened");
        let prepared = rotation::prepare(&pki, "c").unwrap();
        look();
        assert_eq!(identity.authority.now().pin(), first.pin());
        assert_eq!(identity.authority.now().root_count(), 2);
        rotation::switch(&pki).unwrap();
        look();
        let second = identity.authority.now();
        assert_eq!(Some(second.pin()), prepared.next.as_ref());
        assert!(accepts(&first) && accepts(&second));
        let told = std::fs::read_to_string(&kubeconfig).unwrap();
        // What is half done is not used; the next step of whoever does it is seen.
        std::fs::rename(pki.join("ca.key"), pki.join("aside")).unwrap();
        look();
        assert!(accepts(&second), "what cannot be used leaves what was");
        std::fs::rename(pki.join("aside"), pki.join("ca.key")).unwrap();
        rotation::finish(&pki).unwrap();
        look();
        assert!(!accepts(&first) && accepts(&second));
        assert_ne!(std::fs::read_to_string(&kubeconfig).unwrap(), told);
    }
}
