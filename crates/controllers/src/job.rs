//! Runs pods until enough of them have succeeded.

mod plan;
mod reconciler;

pub(crate) use reconciler::{Jobs, queue};
