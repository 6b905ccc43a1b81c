//! Subjects with more than one organization. The certificate library keeps one value per attribute type, so a certificate is
//! made without the subject's groups, given its subject in DER (X.690), and signed again.

use rcgen::{KeyPair, SigningKey as _};
use rustls_pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{CertificateError, ClientSubject};

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const OBJECT_IDENTIFIER: u8 = 0x06;
const UTF8_STRING: u8 = 0x0c;
const BIT_STRING: u8 = 0x03;
/// `id-at-organizationName` and `id-at-commonName` (RFC 5280, appendix A.1) as they are encoded.
const ORGANIZATION: [u8; 3] = [0x55, 0x04, 0x0a];
const COMMON_NAME: [u8; 3] = [0x55, 0x04, 0x03];

/// The same certificate for `subject`, signed with `key`, which signed the one given.
pub(super) fn with_subject(
    certificate: &CertificateDer<'_>,
    subject: &ClientSubject,
    key: &KeyPair,
) -> Result<CertificateDer<'static>, CertificateError> {
    let unusable = |detail: &str| CertificateError::Unusable {
        subject: format!("the certificate of {:?}", subject.user),
        detail: detail.to_owned(),
    };
    let (_, parsed) = X509Certificate::from_der(certificate).map_err(|error| unusable(&error.to_string()))?;
    let to_be_signed = parsed.tbs_certificate.as_ref();
    let old = parsed.tbs_certificate.subject.as_raw();
    // Both are parts of the same bytes; the subject lies within.
    let before = (old.as_ptr() as usize).checked_sub(to_be_signed.as_ptr() as usize);
    let parts = before.and_then(|before| {
        let (head, rest) = to_be_signed.split_at_checked(before)?;
        Some((head.get(header(to_be_signed)?..)?, rest.get(old.len()..)?))
    });
    let (head, tail) = parts.ok_or_else(|| unusable("its parts are not in order"))?;
    let signed = element(SEQUENCE, &[head, name(subject).as_slice(), tail].concat());
    let signature = key
        .sign(&signed)
        .map_err(|source| CertificateError::Sign { subject: subject.user.clone(), source })?;
    // The algorithm stands between what is signed and the signature.
    let algorithm = header(certificate)
        .and_then(|header| certificate.get(header + to_be_signed.len()..))
        .and_then(|rest| rest.get(..whole(rest)?))
        .ok_or_else(|| unusable("it names no algorithm"))?;
    let signature = element(BIT_STRING, &[&[0_u8][..], signature.as_slice()].concat());
    Ok(CertificateDer::from(element(
        SEQUENCE,
        &[signed.as_slice(), algorithm, signature.as_slice()].concat(),
    )))
}

/// Groups first, as upstream's tools write them.
fn name(subject: &ClientSubject) -> Vec<u8> {
    let attribute = |kind: &[u8], value: &str| {
        let pair = [element(OBJECT_IDENTIFIER, kind), element(UTF8_STRING, value.as_bytes())].concat();
        element(SET, &element(SEQUENCE, &pair))
    };
    let mut all: Vec<u8> = subject.groups.iter().flat_map(|group| attribute(&ORGANIZATION, group)).collect();
    all.extend(attribute(&COMMON_NAME, &subject.user));
    element(SEQUENCE, &all)
}

/// A tag, a length, and the content.
fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    let length = content.len();
    if let Ok(short) = u8::try_from(length)
        && short < 0x80
    {
        out.push(short);
    } else {
        let bytes = length.to_be_bytes();
        let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
        let bytes = bytes.get(zeros..).unwrap_or_default();
        // A length has eight bytes at most.
        out.push(0x80 | u8::try_from(bytes.len()).unwrap_or(8));
        out.extend_from_slice(bytes);
    }
    out.extend_from_slice(content);
    out
}

/// How long the tag and the length of an element are.
fn header(element: &[u8]) -> Option<usize> {
    let first = *element.get(1)?;
    Some(if first < 0x80 { 2 } else { 2 + usize::from(first & 0x7f) })
}

/// How long an element is.
fn whole(element: &[u8]) -> Option<usize> {
    let header = header(element)?;
    let first = *element.get(1)?;
    let length = if first < 0x80 {
        usize::from(first)
    } else {
        let bytes = element.get(2..header)?;
        bytes.iter().fold(0_usize, |sum, byte| sum << 8 | usize::from(*byte))
    };
    header.checked_add(length)
}
