//! Publishes the addresses of each Service's pods as EndpointSlices.

mod plan;
mod reconciler;

pub(crate) use reconciler::{EndpointSlices, queue};
