//! Publishes the addresses of each Service's pods as EndpointSlices, and as Endpoints for older clients.

mod legacy;
mod plan;
mod reconciler;

pub(crate) use reconciler::{EndpointSlices, queue};
