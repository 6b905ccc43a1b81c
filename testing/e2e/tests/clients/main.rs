//! Unmodified clients against an embedded cluster with simulated nodes, over the network: kubectl's streaming commands,
//! the Python and the JavaScript client from their registries, kube-rs.

mod kube_rs;
mod kubectl;
mod languages;
