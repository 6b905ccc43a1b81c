//! Makes Jobs by the clock.

mod plan;
mod reconciler;
mod schedule;

pub(crate) use reconciler::{CronJobs, queue};
