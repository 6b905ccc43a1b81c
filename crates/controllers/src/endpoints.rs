//! Keeps a Service's EndpointSlices, and the Endpoints object that they have replaced, equal to the pods it selects; the
//! Endpoints that somebody else writes for a Service without selector are mirrored into slices.

mod mirror;
mod object;
mod plan;
mod reconciler;

pub(crate) use reconciler::{EndpointSlices, queue};
