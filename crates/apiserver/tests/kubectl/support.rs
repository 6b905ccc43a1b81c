//! A server on a loopback port, with certificates, tokens and roles, and a kubeconfig for it.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use access::certificates::{ClientSubject, ServerNames};
use access::tls::{ServerCertificate, server_config};
use access::tokens::SigningKey;
use access::{Authenticator, Authorizer, CertificateAuthority, TokenIssuer};
use apiserver::{Catalogue, Handle, Options, Service};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use storage::model::MemoryStore;
use tokio_util::sync::{CancellationToken, DropGuard};

/// A running server; it ends with this.
pub(crate) struct Running {
    pub(crate) handle: Handle,
    pub(crate) kubeconfig: PathBuf,
    _directory: tempfile::TempDir,
    _stop: DropGuard,
}

const DAY: Duration = Duration::from_secs(86_400);

/// Starts one with an administrator's kubeconfig.
pub(crate) async fn start(catalogue: Catalogue) -> Running {
    let authority = CertificateAuthority::ephemeral("test authority").unwrap();
    let names =
        ServerNames { dns: vec!["localhost".to_owned()], addresses: vec!["127.0.0.1".parse().unwrap()] };
    let serving = authority.issue_server("test server", &names, DAY).unwrap();
    let admin = ClientSubject { user: "admin".to_owned(), groups: vec!["system:masters".to_owned()] };
    let admin = authority.issue_client(&admin, DAY).unwrap();
    let authenticator = Authenticator::new(true).with_certificates(&authority).unwrap();
    let issuer = "https://kubernetes.default.svc.cluster.local".to_owned();
    let tokens = TokenIssuer::new(SigningKey::ephemeral().unwrap(), issuer.clone(), vec![issuer]);
    let mut options = Options::new(Arc::new(MemoryStore::default()), catalogue);
    options.authenticator = Some(authenticator);
    options.authorizer = Some(Arc::new(Authorizer::new()));
    options.token_issuer = Some(tokens);
    options.tls = Some(server_config(&ServerCertificate::new(&serving).unwrap()).unwrap());
    options.bind = Some("127.0.0.1:0".parse().unwrap());
    options.facts.service_cidr = Some("10.96.0.0/16".to_owned());
    options.facts.certificate_authority = authority.bundle_pem().to_owned();
    let service = Service::new(options).await.unwrap();
    let handle = service.handle();
    let stop = CancellationToken::new();
    let running = tokio::spawn(Box::pin(service.run(stop.clone())));
    if !handle.ready().await {
        panic!("the server did not become ready: {:?}", running.await);
    }
    let directory = tempfile::tempdir().unwrap();
    let kubeconfig = directory.path().join("kubeconfig");
    let text = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: test\ncontexts:\n- name: test\n  context: {{cluster: test, user: \
         admin}}\nclusters:\n- name: test\n  cluster:\n    server: https://{}\n    certificate-authority-data: {}\n\
         users:\n- name: admin\n  user:\n    client-certificate-data: {}\n    client-key-data: {}\n",
        handle.address().unwrap(),
        STANDARD.encode(authority.bundle_pem()),
        STANDARD.encode(&admin.certificate_pem),
        STANDARD.encode(admin.key_pem.reveal()),
    );
    std::fs::write(&kubeconfig, text).unwrap();
    Running { handle, kubeconfig, _directory: directory, _stop: stop.drop_guard() }
}
