//! Makes Jobs by the clock.

mod plan;
mod reconciler;

pub(crate) use reconciler::{CronJobs, queue};
