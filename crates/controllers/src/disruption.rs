//! Keeps the status of PodDisruptionBudgets: how many of their pods may be evicted now.

mod plan;
mod reconciler;

pub(crate) use reconciler::{Budgets, queue};
