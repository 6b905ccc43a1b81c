//! Seams for clock and randomness, typed ids, bounded queues, backoff, schedules in cron's notation, errors in one line.
//!
//! Production code takes time and chance from here, so that tests and the simulator can put their own in place.
//! Nothing here does I/O.

pub mod backoff;
pub mod causes;
pub mod clock;
pub mod cron;
pub mod random;
