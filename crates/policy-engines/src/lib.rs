//! Policy languages of the API server: CEL as Kubernetes speaks it, what is written in it, and the Pod Security Standards.
//!
//! Tasks: custom resources' validation rules ([`crd_rules`]), admission policies, conditions of webhooks, the standards'
//! checks ([`pod_security`]), Gatekeeper's templates and constraints ([`gatekeeper`]) in Rego ([`rego`]) and CEL, existing objects
//! judged by all of them ([`audit`]), expressions about tokens and users ([`authentication`]), single expressions about other
//! data ([`expression`]). Rules and policies are compiled once
//! and evaluated over borrowed objects.
//!
//! Must never: do I/O or wait; panic, overflow the stack or run without a bound, whatever users write; decide on a
//! policy that it could not evaluate as if it had.

pub mod admission_policy;
pub mod audit;
pub mod authentication;
pub mod cel;
pub mod crd_rules;
pub mod expression;
pub mod gatekeeper;
pub mod pod_security;
mod problems;
pub mod rego;
