//! Seams for clock and randomness, typed ids, bounded queues, backoff.

pub mod clock;
