//! Real processes under test: the `fairlead` binary, as a user starts it, and an unmodified `kubectl`.
//!
//! * [`clock`]: a wall clock that jumps, for one process.
//! * [`process`]: a child that is killed when its owner goes, with its output kept in a file for the failure message.
//! * [`fleet`]: a hub, clusters and agents, each its own process, each to be killed and started again on its directory.
//! * [`kubectl`]: the client on PATH.
//! * [`wait`]: waiting for conditions.
//!
//! Nothing here links to the code under test: what a test sees is what a user sees.

pub mod clock;
pub mod fleet;
pub mod kubectl;
pub mod process;
pub mod wait;
