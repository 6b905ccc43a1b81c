use std::time::Duration;

use x509_parser::prelude::{FromDer, X509Certificate};

use super::*;

const HOUR: Duration = Duration::from_secs(3600);

fn subject(user: &str, groups: &[&str]) -> ClientSubject {
    ClientSubject { user: user.to_owned(), groups: groups.iter().map(|g| (*g).to_owned()).collect() }
}

#[test]
fn the_authority_survives_reopening_with_the_same_pin() {
    let directory = tempfile::tempdir().unwrap();
    let first = CertificateAuthority::open(directory.path(), "fairlead-ca").unwrap();
    let second = CertificateAuthority::open(directory.path(), "fairlead-ca").unwrap();
    assert_eq!(first.pin(), second.pin());
    assert_eq!(first.bundle_pem(), second.bundle_pem());
    let parsed: Pin = first.pin().to_string().parse().unwrap();
    assert_eq!(&parsed, first.pin());
}

#[cfg(unix)]
#[test]
fn the_key_file_is_its_owners_alone() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    CertificateAuthority::open(directory.path(), "ca").unwrap();
    let mode = std::fs::metadata(directory.path().join("ca.key")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_certificate_without_its_key_is_refused_and_a_key_alone_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let first = CertificateAuthority::open(directory.path(), "ca").unwrap();
    std::fs::remove_file(directory.path().join("ca.crt")).unwrap();
    let second = CertificateAuthority::open(directory.path(), "ca").unwrap();
    assert_eq!(first.pin(), second.pin(), "the key decides the pin");
    std::fs::remove_file(directory.path().join("ca.key")).unwrap();
    assert!(matches!(
        CertificateAuthority::open(directory.path(), "ca"),
        Err(CertificateError::KeyMissing { .. })
    ));
}

#[test]
fn a_foreign_key_is_noticed() {
    let directory = tempfile::tempdir().unwrap();
    CertificateAuthority::open(directory.path(), "ca").unwrap();
    let other = rcgen::KeyPair::generate().unwrap().serialize_pem();
    std::fs::write(directory.path().join("ca.key"), other).unwrap();
    assert!(matches!(
        CertificateAuthority::open(directory.path(), "ca"),
        Err(CertificateError::Unusable { .. })
    ));
}

#[test]
fn the_signer_chooses_the_subject_of_a_request() {
    let authority = CertificateAuthority::ephemeral("ca").unwrap();
    let (request, key) = signing_request("system:admin").unwrap();
    let pem = authority
        .sign_client_request(&request, &subject("fairlead:cluster:a:1", &["fairlead:clusters"]), HOUR)
        .unwrap();
    let der = ::pem::parse(&pem).unwrap().into_contents();
    let (_, certificate) = X509Certificate::from_der(&der).unwrap();
    let names: Vec<_> =
        certificate.subject().iter_common_name().filter_map(|name| name.as_str().ok()).collect();
    assert_eq!(names, ["fairlead:cluster:a:1"]);
    assert_eq!(
        rcgen::PublicKeyData::subject_public_key_info(&rcgen::KeyPair::from_pem(key.reveal()).unwrap()),
        certificate.public_key().raw
    );
}

#[test]
fn a_request_with_a_broken_signature_is_refused() {
    let authority = CertificateAuthority::ephemeral("ca").unwrap();
    let (request, _) = signing_request("a").unwrap();
    let mut document = ::pem::parse(&request).unwrap().into_contents();
    let last = document.len() - 1;
    document[last] ^= 1;
    let request = ::pem::encode(&::pem::Pem::new("CERTIFICATE REQUEST", document));
    assert!(matches!(
        authority.sign_client_request(&request, &subject("a", &[]), HOUR),
        Err(CertificateError::Unusable { .. })
    ));
}

fn request(names: &[&str], organizations: &[&str]) -> String {
    let key = rcgen::KeyPair::generate().unwrap();
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = rcgen::CertificateParams::new(names).unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(rcgen::DnType::CommonName, "system:node:n1");
    for organization in organizations {
        params.distinguished_name.push(rcgen::DnType::OrganizationName, *organization);
    }
    params.serialize_request(&key).unwrap().pem().unwrap()
}

#[test]
fn an_approved_request_is_signed_as_it_asks_with_its_usages() {
    let authority = CertificateAuthority::ephemeral("ca").unwrap();
    let pem = request(&["n1.example.org", "192.0.2.1"], &["system:nodes"]);
    let requested = read_request(&pem).unwrap();
    assert_eq!(requested.common_name, "system:node:n1");
    assert_eq!(requested.organizations, ["system:nodes"]);
    assert_eq!(requested.dns, ["n1.example.org"]);
    assert_eq!(requested.addresses, ["192.0.2.1".parse::<std::net::IpAddr>().unwrap()]);
    let usages = ["digital signature".to_owned(), "server auth".to_owned()];
    let signed = authority.sign_request(&pem, &usages, HOUR).unwrap();
    let der = ::pem::parse(&signed).unwrap().into_contents();
    let (_, certificate) = X509Certificate::from_der(&der).unwrap();
    let extended = certificate.extended_key_usage().unwrap().unwrap().value;
    assert!(extended.server_auth && !extended.client_auth);
    assert_eq!(certificate.subject_alternative_name().unwrap().unwrap().value.general_names.len(), 2);
    let left = not_after(&signed).unwrap().as_second() - jiff::Timestamp::now().as_second();
    assert!((3500..=3600).contains(&left), "{left}");
    let strange = ["world domination".to_owned()];
    assert!(authority.sign_request(&pem, &strange, HOUR).is_err());
    let long = authority.sign_request(&pem, &usages, ROOT_VALIDITY * 2).unwrap();
    assert!(not_after(&long).unwrap() <= not_after(authority.bundle_pem()).unwrap());
}

#[test]
fn a_servers_certificate_is_good_since_its_authority_began() {
    let authority = CertificateAuthority::ephemeral("ca").unwrap();
    let issued = authority.issue_server("hub", &ServerNames::default(), HOUR).unwrap();
    let (_, own) = X509Certificate::from_der(issued.certificate()).unwrap();
    let (_, root) = X509Certificate::from_der(&authority.certificate).unwrap();
    assert_eq!(own.validity().not_before, root.validity().not_before);
    assert!(own.validity().not_after < root.validity().not_after);
}

#[test]
fn a_certificate_carries_as_many_groups_as_are_wanted() {
    let authority = CertificateAuthority::ephemeral("ca").unwrap();
    for count in [0, 1, 2, 3, 40] {
        let groups: Vec<String> = (0..count).map(|index| format!("group-{index}-\u{e9}")).collect();
        let subject = ClientSubject { user: "ada".to_owned(), groups: groups.clone() };
        let issued = authority.issue_client(&subject, std::time::Duration::from_secs(3600)).unwrap();
        let authenticator = crate::Authenticator::new(false).with_certificates(&authority).unwrap();
        assert!(authenticator.verify_peer(&[issued.certificate().clone()]).is_ok(), "{count}");
        let (_, read) = X509Certificate::from_der(issued.certificate()).unwrap();
        let found: Vec<&str> = read.subject().iter_organization().map(|own| own.as_str().unwrap()).collect();
        assert_eq!(found, groups);
        assert_eq!(read.subject().iter_common_name().next().unwrap().as_str().unwrap(), "ada");
    }
}
