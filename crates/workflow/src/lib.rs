//! The test-workflow language: what is a valid workflow, what it becomes in a cluster, and what its results mean.
//!
//! Tasks: read expressions ([`expression`]) and typed parameters ([`config`]); put templates around workflows
//! ([`templates`]); check a workflow and say what is wrong with it field by field ([`validate`]); expand it into a flat
//! plan ([`plan`]), say what runs next ([`progress`]) and build the pods ([`pod`]); read what a pod's status says
//! ([`observe`]); take files out of a pod over its log ([`collect`]); read and write JUnit ([`junit`]); hide secrets ([`mask`]); fold results ([`fold`]) and print them
//! ([`report`]); say what webhooks tell ([`webhook`]) and what tracing systems read ([`otlp`]).
//!
//! Pure: no I/O, no async, no clock. Whoever calls passes the time in.

pub mod collect;
pub mod config;
pub mod duration;
pub mod expression;
pub mod fold;
pub mod import;
pub mod junit;
pub mod mask;
pub mod observe;
pub mod otlp;
pub mod plan;
pub mod pod;
pub mod progress;
pub mod read;
pub mod report;
pub mod templates;
pub mod trigger;
pub mod validate;
pub mod webhook;
pub mod words;
