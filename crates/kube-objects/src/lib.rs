//! The Kubernetes vocabulary that servers and clients of this project share: names of kinds and resources, the
//! `Status` every error is answered with, and who a request comes from.
//!
//! Data only: no I/O, no async, no behaviour beyond conversions. Typed built-in kinds come from `k8s-openapi` and stay
//! out of here, so that the API server does not depend on them.

pub mod group_version;
pub mod status;
pub mod user;
pub mod write;

pub use group_version::{GroupVersion, GroupVersionKind, GroupVersionResource};
pub use status::{Reason, Status, StatusCause, StatusDetails};
pub use user::{UserInfo, extra_header_key};
pub use write::Write;
