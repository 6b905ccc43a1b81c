//! Signing requests whose subject counts: what `CertificateSigningRequest` objects carry (upstream
//! `pkg/controller/certificates/authority`).

use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use rcgen::{ExtendedKeyUsagePurpose, KeyUsagePurpose, SanType};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::issue::{ClientSubject, certificate_pem, leaf, requested_public_key};
use super::{CertificateAuthority, CertificateError};

/// What a signing request asks to certify. Nothing here has been checked but the request's own signature.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Requested {
    /// CN.
    pub common_name: String,
    /// Every O.
    pub organizations: Vec<String>,
    /// DNS names.
    pub dns: Vec<String>,
    /// Addresses.
    pub addresses: Vec<std::net::IpAddr>,
    /// E-mail addresses.
    pub emails: Vec<String>,
    /// URIs.
    pub uris: Vec<String>,
}

fn unusable(detail: impl ToString) -> CertificateError {
    CertificateError::Unusable { subject: "the signing request".to_owned(), detail: detail.to_string() }
}

/// Reads a PEM signing request and checks its signature.
///
/// # Errors
/// [`CertificateError::Unusable`].
pub fn read_request(request_pem: &str) -> Result<Requested, CertificateError> {
    requested_public_key(request_pem)?;
    let document = ::pem::parse(request_pem).map_err(unusable)?;
    if document.tag() != "CERTIFICATE REQUEST" {
        return Err(unusable("PEM block type must be CERTIFICATE REQUEST"));
    }
    let (_, request) = X509CertificationRequest::from_der(document.contents()).map_err(unusable)?;
    let subject = &request.certification_request_info.subject;
    let text = |value: &x509_parser::x509::AttributeTypeAndValue<'_>| {
        value.as_str().map(str::to_owned).map_err(|_| unusable("its subject is not text"))
    };
    let mut requested = Requested {
        common_name: subject.iter_common_name().last().map(text).transpose()?.unwrap_or_default(),
        organizations: subject.iter_organization().map(text).collect::<Result<_, _>>()?,
        ..Requested::default()
    };
    for extension in request.requested_extensions().into_iter().flatten() {
        let ParsedExtension::SubjectAlternativeName(names) = extension else { continue };
        for name in &names.general_names {
            add_name(&mut requested, name)?;
        }
    }
    Ok(requested)
}

fn add_name(requested: &mut Requested, name: &GeneralName<'_>) -> Result<(), CertificateError> {
    match name {
        GeneralName::DNSName(name) => requested.dns.push((*name).to_owned()),
        GeneralName::RFC822Name(name) => requested.emails.push((*name).to_owned()),
        GeneralName::URI(name) => requested.uris.push((*name).to_owned()),
        GeneralName::IPAddress(bytes) => {
            let address = match bytes.len() {
                4 => <[u8; 4]>::try_from(*bytes).ok().map(std::net::IpAddr::from),
                16 => <[u8; 16]>::try_from(*bytes).ok().map(std::net::IpAddr::from),
                _ => None,
            };
            requested.addresses.push(address.ok_or_else(|| unusable("an address is neither IPv4 nor IPv6"))?);
        }
        // Other forms of names go into no certificate of ours, as with Go's parser.
        _ => {}
    }
    Ok(())
}

/// When a PEM certificate ends; `None` when it is none.
#[must_use]
pub fn not_after(certificate_pem: &str) -> Option<Timestamp> {
    let document = ::pem::parse(certificate_pem).ok()?;
    let (_, certificate) = X509Certificate::from_der(document.contents()).ok()?;
    Timestamp::from_second(certificate.validity().not_after.timestamp()).ok()
}

impl CertificateAuthority {
    /// Certifies what a request asks for: its subject and names, its public key, with `usages` (as in
    /// `spec.usages` of a CertificateSigningRequest), for `validity` or as long as this authority lasts. The caller has
    /// decided that the request may have all that.
    ///
    /// # Errors
    /// [`CertificateError::Unusable`] for a request that cannot be read or a usage that is none,
    /// [`CertificateError::Sign`].
    pub fn sign_request(
        &self,
        request_pem: &str,
        usages: &[String],
        validity: Duration,
    ) -> Result<String, CertificateError> {
        let key = requested_public_key(request_pem)?;
        let requested = read_request(request_pem)?;
        let validity = validity.min(self.left()?);
        let mut params = leaf(&requested.common_name, ExtendedKeyUsagePurpose::ClientAuth, validity)?;
        params.key_usages.clear();
        params.extended_key_usages.clear();
        for usage in usages {
            match (key_usage(usage), extended_usage(usage)) {
                (Some(usage), _) if !params.key_usages.contains(&usage) => params.key_usages.push(usage),
                (_, Some(usage)) if !params.extended_key_usages.contains(&usage) => {
                    params.extended_key_usages.push(usage);
                }
                (None, None) => return Err(unusable(format!("unrecognized usage {usage:?}"))),
                _ => {}
            }
        }
        let text =
            |name: &String| name.clone().try_into().map_err(|_| unusable(format!("{name:?} is not ASCII")));
        for name in &requested.dns {
            params.subject_alt_names.push(SanType::DnsName(text(name)?));
        }
        for name in &requested.emails {
            params.subject_alt_names.push(SanType::Rfc822Name(text(name)?));
        }
        for name in &requested.uris {
            params.subject_alt_names.push(SanType::URI(text(name)?));
        }
        params.subject_alt_names.extend(requested.addresses.iter().copied().map(SanType::IpAddress));
        let subject = ClientSubject { user: requested.common_name, groups: requested.organizations };
        Ok(certificate_pem(&self.sign(&subject, &params, &key)?))
    }

    /// How long this authority's own certificate still lasts.
    fn left(&self) -> Result<Duration, CertificateError> {
        let (_, own) = X509Certificate::from_der(&self.certificate).map_err(unusable)?;
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let end = u64::try_from(own.validity().not_after.timestamp()).unwrap_or(0);
        Ok(Duration::from_secs(end).saturating_sub(now))
    }
}

fn key_usage(name: &str) -> Option<KeyUsagePurpose> {
    Some(match name {
        "signing" | "digital signature" => KeyUsagePurpose::DigitalSignature,
        "content commitment" => KeyUsagePurpose::ContentCommitment,
        "key encipherment" => KeyUsagePurpose::KeyEncipherment,
        "key agreement" => KeyUsagePurpose::KeyAgreement,
        "data encipherment" => KeyUsagePurpose::DataEncipherment,
        "cert sign" => KeyUsagePurpose::KeyCertSign,
        "crl sign" => KeyUsagePurpose::CrlSign,
        "encipher only" => KeyUsagePurpose::EncipherOnly,
        "decipher only" => KeyUsagePurpose::DecipherOnly,
        _ => return None,
    })
}

fn extended_usage(name: &str) -> Option<ExtendedKeyUsagePurpose> {
    let other = |last: &[u64]| ExtendedKeyUsagePurpose::Other(last.to_vec());
    Some(match name {
        "any" => ExtendedKeyUsagePurpose::Any,
        "server auth" => ExtendedKeyUsagePurpose::ServerAuth,
        "client auth" => ExtendedKeyUsagePurpose::ClientAuth,
        "code signing" => ExtendedKeyUsagePurpose::CodeSigning,
        "email protection" | "s/mime" => ExtendedKeyUsagePurpose::EmailProtection,
        "timestamping" => ExtendedKeyUsagePurpose::TimeStamping,
        "ocsp signing" => ExtendedKeyUsagePurpose::OcspSigning,
        "ipsec end system" => other(&[1, 3, 6, 1, 5, 5, 7, 3, 5]),
        "ipsec tunnel" => other(&[1, 3, 6, 1, 5, 5, 7, 3, 6]),
        "ipsec user" => other(&[1, 3, 6, 1, 5, 5, 7, 3, 7]),
        "microsoft sgc" => other(&[1, 3, 6, 1, 4, 1, 311, 10, 3, 3]),
        "netscape sgc" => other(&[2, 16, 840, 1, 113_730, 4, 1]),
        _ => return None,
    })
}
