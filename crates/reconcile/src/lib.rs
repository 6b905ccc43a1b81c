//! Queue, driver, backoff and per-task status of level-based reconcilers.
