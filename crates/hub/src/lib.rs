//! The management plane: registration, placement, rollouts, inbox, content, presence and test runs.
//!
//! The hub is passive: it holds what people intend, shows what agents report and hands out numbered assignments. It
//! never reaches into a cluster, and nothing in any cluster waits for it. It reaches objects through a client of its own
//! API server only; what people name as sources of profiles it fetches from Git and OCI registries. An agent's identity comes from the authenticated connection and is compared exactly.

pub mod access;
mod alerts;
mod cluster_profiles;
mod cluster_status;
mod compliance;
mod content;
mod endpoints;
mod error;
mod former;
pub mod guard;
mod inbox;
mod issuer;
mod known_secrets;
mod materialise;
mod outbound;
mod placement;
mod presence;
mod projects;
mod quota;
mod record_key;
mod registration;
pub mod replicas;
mod service;
mod source;
mod sources;
pub mod test_runs;
pub mod validation;

pub use content::{ContentSealer, ContentStore};
pub use endpoints::{Body, Endpoints};
pub use error::Error;
pub use inbox::{Inbox, Received};
pub use issuer::{CertificateIssuer, CertificateSubject, IssueError, IssuedCertificate};
pub use materialise::RecordHandler;
pub use projects::{ProjectScopes, lies_in_no_namespace, set_rights};
pub use quota::Quota;
pub use record_key::RecordKey;
pub use service::{Handle, LeaderTask, Options, Service};
pub use source::read_source;
