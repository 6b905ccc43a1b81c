use std::time::Duration;

use rustls_pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::*;
use crate::certificates::{CertificateAuthority, ClientSubject, Pin, ServerNames};

const HOUR: Duration = Duration::from_secs(3600);

fn names() -> ServerNames {
    ServerNames { dns: vec!["hub.test".into()], addresses: vec!["127.0.0.1".parse().unwrap()] }
}

/// Shakes hands over memory; answers how many certificates the client showed.
async fn handshake(
    server: Arc<rustls::ServerConfig>,
    client: rustls::ClientConfig,
) -> Result<usize, std::io::Error> {
    let (near, far) = duplex(64 * 1024);
    let serving = tokio::spawn(async move {
        let mut stream = TlsAcceptor::from(server).accept(far).await?;
        let shown = stream.get_ref().1.peer_certificates().map_or(0, <[_]>::len);
        stream.write_all(&[u8::try_from(shown).unwrap_or(u8::MAX)]).await?;
        stream.flush().await?;
        Ok::<(), std::io::Error>(())
    });
    let name = ServerName::try_from("hub.test").unwrap();
    let mut stream = TlsConnector::from(Arc::new(client)).connect(name, near).await?;
    let shown = stream.read_u8().await?;
    serving.await.unwrap()?;
    Ok(usize::from(shown))
}

#[tokio::test]
async fn client_certificates_are_optional_and_foreign_ones_get_through_to_the_authenticator() {
    let authority = CertificateAuthority::ephemeral("ca").unwrap();
    let other = CertificateAuthority::ephemeral("other").unwrap();
    let certificate = ServerCertificate::new(&authority.issue_server("s", &names(), HOUR).unwrap()).unwrap();
    let server = server_config(&certificate).unwrap();
    let without = client_config(authority.bundle_pem(), None).unwrap();
    assert_eq!(handshake(server.clone(), without).await.unwrap(), 0);
    let foreign = other.issue_client(&ClientSubject { user: "x".into(), groups: vec![] }, HOUR).unwrap();
    let identity = ClientIdentity { certificate_pem: foreign.certificate_pem, key_pem: foreign.key_pem };
    let with = client_config(authority.bundle_pem(), Some(&identity)).unwrap();
    assert_eq!(handshake(server.clone(), with).await.unwrap(), 1);
    let distrusting = client_config(other.bundle_pem(), None).unwrap();
    assert!(handshake(server, distrusting).await.is_err());
}

#[tokio::test]
async fn the_pin_decides_on_first_contact() {
    let authority = CertificateAuthority::ephemeral("ca").unwrap();
    let certificate = ServerCertificate::new(&authority.issue_server("s", &names(), HOUR).unwrap()).unwrap();
    let server = server_config(&certificate).unwrap();
    let right = pinned_client_config(authority.pin()).unwrap();
    assert!(handshake(server.clone(), right).await.is_ok());
    let wrong = pinned_client_config(&Pin::of_public_key(b"another")).unwrap();
    assert!(handshake(server, wrong).await.is_err());
}

#[tokio::test]
async fn a_chain_that_only_carries_the_pinned_root_proves_nothing() {
    let authority = CertificateAuthority::ephemeral("ca").unwrap();
    let attacker = CertificateAuthority::ephemeral("ca").unwrap();
    let issued = attacker.issue_server("s", &names(), HOUR).unwrap();
    // The attacker's own leaf, with the victim's public root beside it.
    let chain = vec![issued.certificate().clone(), authority.certificate().clone()];
    let server = rustls::ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, issued.private_key())
        .unwrap();
    let client = pinned_client_config(authority.pin()).unwrap();
    assert!(handshake(Arc::new(server), client).await.is_err());
}

#[tokio::test]
async fn a_replaced_certificate_is_shown_without_a_restart() {
    let first = CertificateAuthority::ephemeral("first").unwrap();
    let second = CertificateAuthority::ephemeral("second").unwrap();
    let certificate = ServerCertificate::new(&first.issue_server("s", &names(), HOUR).unwrap()).unwrap();
    let server = server_config(&certificate).unwrap();
    certificate.replace(&second.issue_server("s", &names(), HOUR).unwrap()).unwrap();
    let client = client_config(second.bundle_pem(), None).unwrap();
    assert!(handshake(server, client).await.is_ok());
}
