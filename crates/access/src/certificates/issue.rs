//! Signing: server certificates, client certificates, signing requests.

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
    PublicKeyData, SanType, SubjectPublicKeyInfo,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use x509_parser::certificate::X509Certificate;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::FromDer;

use super::subject::with_subject;
use super::{CLOCK_TOLERANCE, CertificateAuthority, CertificateError, generate_key};
use crate::secret::Secret;

/// What a server is reached by.
#[derive(Clone, Debug, Default)]
pub struct ServerNames {
    /// DNS names.
    pub dns: Vec<String>,
    /// Addresses.
    pub addresses: Vec<IpAddr>,
}

/// Whom a client certificate speaks for. This, never a signing request's subject, becomes the certificate's subject.
#[derive(Clone, Debug)]
pub struct ClientSubject {
    /// The user name: CN.
    pub user: String,
    /// The groups: one O each.
    pub groups: Vec<String>,
}

/// A certificate with its key.
#[derive(Clone, Debug)]
pub struct Issued {
    /// The certificate as PEM.
    pub certificate_pem: String,
    /// Its key as PKCS #8 PEM.
    pub key_pem: Secret,
    der: CertificateDer<'static>,
    root: CertificateDer<'static>,
    key_der: KeyDer,
}

/// DER of a private key that does not print.
#[derive(Clone)]
struct KeyDer(Vec<u8>);

impl std::fmt::Debug for KeyDer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KeyDer(…)")
    }
}

impl Issued {
    /// The certificate in DER.
    #[must_use]
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.der
    }

    /// The certificate and its root: what a server shows, so that a client which knows only the root's pin can verify.
    #[must_use]
    pub fn chain(&self) -> Vec<CertificateDer<'static>> {
        vec![self.der.clone(), self.root.clone()]
    }

    /// The key as rustls takes it.
    #[must_use]
    pub fn private_key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.key_der.0.clone()))
    }
}

impl CertificateAuthority {
    /// A serving certificate for `names`, valid for `validity` from now, and since the authority began: a server that was
    /// started with a clock that was ahead is not shut to everybody whose clock is right, and needs no restart when its own
    /// is set right. (From when a server's own certificate is good protects nobody.)
    ///
    /// # Errors
    /// [`CertificateError::Unusable`] for a name that is no DNS name, [`CertificateError::Sign`].
    pub fn issue_server(
        &self,
        common_name: &str,
        names: &ServerNames,
        validity: Duration,
    ) -> Result<Issued, CertificateError> {
        let mut params = leaf(common_name, ExtendedKeyUsagePurpose::ServerAuth, validity)?;
        if let Some(began) = self.began() {
            params.not_before = params.not_before.min(began.into());
        }
        for name in &names.dns {
            let name = name.clone().try_into().map_err(|_| CertificateError::Unusable {
                subject: format!("the server name {name:?}"),
                detail: "it is no DNS name".to_owned(),
            })?;
            params.subject_alt_names.push(SanType::DnsName(name));
        }
        params.subject_alt_names.extend(names.addresses.iter().copied().map(SanType::IpAddress));
        let subject = ClientSubject { user: common_name.to_owned(), groups: Vec::new() };
        self.issue(&subject, &params)
    }

    /// A client certificate for `subject` with a fresh key.
    ///
    /// # Errors
    /// [`CertificateError::Sign`].
    pub fn issue_client(
        &self,
        subject: &ClientSubject,
        validity: Duration,
    ) -> Result<Issued, CertificateError> {
        let params = leaf(&subject.user, ExtendedKeyUsagePurpose::ClientAuth, validity)?;
        self.issue(subject, &params)
    }

    /// Signs the public key of a PEM signing request for client use as `subject`. The request's own subject, names and
    /// usages are ignored; its signature (proof of possession) is checked. Answers the certificate as PEM.
    ///
    /// # Errors
    /// [`CertificateError::Unusable`] for a request that does not parse or whose signature is wrong.
    pub fn sign_client_request(
        &self,
        request_pem: &str,
        subject: &ClientSubject,
        validity: Duration,
    ) -> Result<String, CertificateError> {
        let public_key = requested_public_key(request_pem)?;
        let params = leaf(&subject.user, ExtendedKeyUsagePurpose::ClientAuth, validity)?;
        Ok(certificate_pem(&self.sign(subject, &params, &public_key)?))
    }

    /// From when the authority's own certificate is good.
    fn began(&self) -> Option<SystemTime> {
        let (_, certificate) = X509Certificate::from_der(&self.certificate).ok()?;
        let seconds = u64::try_from(certificate.validity().not_before.timestamp()).ok()?;
        SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
    }

    fn issue(&self, subject: &ClientSubject, params: &CertificateParams) -> Result<Issued, CertificateError> {
        let key = generate_key(&subject.user)?;
        let certificate = self.sign(subject, params, &key)?;
        Ok(Issued {
            certificate_pem: certificate_pem(&certificate),
            key_pem: Secret::new(key.serialize_pem()),
            der: certificate,
            root: self.certificate.clone(),
            key_der: KeyDer(key.serialize_der()),
        })
    }

    /// Signs what `params` say, for `subject`.
    pub(super) fn sign(
        &self,
        subject: &ClientSubject,
        params: &CertificateParams,
        key: &impl PublicKeyData,
    ) -> Result<CertificateDer<'static>, CertificateError> {
        let signed = params
            .signed_by(key, &self.issuer)
            .map_err(|source| CertificateError::Sign { subject: subject.user.clone(), source })?;
        if subject.groups.is_empty() {
            return Ok(signed.der().clone());
        }
        with_subject(signed.der(), subject, self.issuer.key())
    }
}

/// A certificate as PEM.
pub(super) fn certificate_pem(certificate: &CertificateDer<'_>) -> String {
    ::pem::encode(&::pem::Pem::new("CERTIFICATE", certificate.to_vec()))
}

/// A signing request with a fresh key, for whoever joins: the PEM request and the key as PKCS #8 PEM. The subject is a
/// courtesy to the reader of the request; the signer chooses its own.
///
/// # Errors
/// [`CertificateError::Sign`].
pub fn signing_request(common_name: &str) -> Result<(String, Secret), CertificateError> {
    let sign = |source| CertificateError::Sign { subject: common_name.to_owned(), source };
    let key: KeyPair = generate_key(common_name)?;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    let request = params.serialize_request(&key).map_err(sign)?.pem().map_err(sign)?;
    Ok((request, Secret::new(key.serialize_pem())))
}

/// The pin of the key that a PEM signing request asks to certify, after checking the request's own signature.
///
/// # Errors
/// [`CertificateError::Unusable`] for a request that does not parse or whose signature is wrong.
pub fn requested_pin(request_pem: &str) -> Result<super::Pin, CertificateError> {
    Ok(super::Pin::of_public_key(&requested_public_key(request_pem)?.subject_public_key_info()))
}

/// The public key of a signing request whose signature proves that the sender holds the private key.
pub(super) fn requested_public_key(request_pem: &str) -> Result<SubjectPublicKeyInfo, CertificateError> {
    let unusable =
        |detail: String| CertificateError::Unusable { subject: "the signing request".to_owned(), detail };
    let document = ::pem::parse(request_pem).map_err(|error| unusable(error.to_string()))?;
    let (rest, request) = X509CertificationRequest::from_der(document.contents())
        .map_err(|error| unusable(error.to_string()))?;
    if !rest.is_empty() {
        return Err(unusable("bytes follow the request".to_owned()));
    }
    request.verify_signature().map_err(|_| unusable("its signature does not match its key".to_owned()))?;
    SubjectPublicKeyInfo::from_der(request.certification_request_info.subject_pki.raw)
        .map_err(|error| unusable(error.to_string()))
}

pub(super) fn leaf(
    common_name: &str,
    usage: ExtendedKeyUsagePurpose,
    validity: Duration,
) -> Result<CertificateParams, CertificateError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.is_ca = IsCa::NoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![usage];
    params.use_authority_key_identifier_extension = true;
    set_validity(&mut params, validity, CLOCK_TOLERANCE);
    Ok(params)
}

/// Valid from `tolerance` before now until `validity` after it.
pub(super) fn set_validity(params: &mut CertificateParams, validity: Duration, tolerance: Duration) {
    let now = SystemTime::now();
    params.not_before = (now - tolerance).into();
    params.not_after = (now + validity).into();
}
