//! Kill -9 tests: a child process writes with many tasks and prints what was acknowledged; the parent kills it at a random
//! moment, opens what is left, and checks it against the printed lines.
//!
//! * [`load`]: what the child does, computed from a seed, so that the parent knows it, too.
//! * [`child`]: the process that is killed.
//! * [`store_check`], [`log_check`]: the checkers.
//! * [`campaign`]: cycles, lanes, seeds.
//!
//! A checker that cannot fail proves nothing: [`load::Plant`] makes the child acknowledge before the commit, and a test
//! demands that this is caught.

pub mod campaign;
pub mod child;
pub mod load;
pub mod log_check;
pub mod store_check;
