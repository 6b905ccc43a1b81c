//! CertificateSigningRequests: auto-approval of nodes' own, signing by the four built-in signers, cleaning up.

mod plan;
mod reconciler;

pub(super) use reconciler::Requests;
