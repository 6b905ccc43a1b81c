//! The Kubernetes API server library: a resource catalogue over a [`storage::Store`].
//!
//! The hub and every embedded cluster are this one server with different catalogues. It speaks Kubernetes' HTTP API
//! to the standard of kube-apiserver: discovery, lists, watches, patches, server-side apply, admission.
//!
//! * [`service`]: [`Options`] in, [`Service`] to run, [`Handle`] to reach it in process.
//! * [`catalogue`]: which kinds are served; built-in and custom kinds go through one engine.
//! * [`registry`]: what one kind does beyond the engine ([`Strategy`]), and objects over the store.
//! * [`aggregation`]: other API servers behind this one.
//! * [`audit`]: what is recorded of requests.
//! * [`metrics`]: what is counted.
//! * [`extension`], [`node_connection`]: what assemblies plug in.
//!
//! It must never know a controller, a node agent or the hub: those are its clients. Objects at rest are encoded
//! bytes, never trees of values.

mod admission;
pub mod aggregation;
pub mod audit;
pub mod catalogue;
mod discovery;
mod engine;
pub mod extension;
mod handlers;
mod http;
pub mod metrics;
pub mod node_connection;
mod openapi;
pub mod registry;
mod request_info;
mod selector;
mod served;
mod server;
pub mod service;
mod service_resolver;
mod watch_cache;
mod webhook_client;

pub use admission::object_rules::ObjectRules;
pub use admission::pod_security::PodSecurityConfiguration;
pub use admission::write_rights::{Keeper, Kept, NeededRight, WriteRights};
pub use catalogue::{Catalogue, Definition, Ownership, Resource, Subresource};
pub use extension::{Body, BoxError, Extension, ExtensionService};
pub use node_connection::{LogOptions, LogStream, NodeConnection, PodReference};
pub use registry::fence::Fence;
pub use registry::strategy::{Objects, RequestContext, Strategy};
pub use server::connectors::{Connected, Connector, Right};
pub use server::limiter::Limits;
pub use service::{Handle, Options, Service, ServiceError};
