//! `certificates.k8s.io`.

mod signing_request;

pub use signing_request::{
    CERTIFICATE_SIGNING_REQUEST, Part, populate_condition_times, preserve_decisions, validate_update,
};
