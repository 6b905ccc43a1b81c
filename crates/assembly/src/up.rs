//! `fairlead up`: a hub, clusters and their agents on one machine, each its own process of this executable.
//!
//! [`start`] brings everything up in parallel, waiting on readiness and never on time, and [`Up::run`] keeps it up:
//! whoever crashes is started again. What is to be started is decided in `plan`, who we are and what we left behind is
//! in `directory` and `process`. [`stop`] ends what a directory runs, [`status`] tells of it.
//!
//! It must never touch a process that it cannot prove to be of this directory, nor delete state.

mod child;
mod detach;
mod directory;
mod error;
mod event;
mod fleet;
mod plan;
mod process;
mod readiness;
mod sample;
mod start;
mod status;
mod stop;

pub use detach::detach;
pub use error::UpError;
pub use event::{Event, Report};
pub use plan::{Clusters, RuntimeChoice, RuntimeKind};
pub use start::{Options, Summary, Up, start};
pub use status::{ProcessStatus, Status, status};
pub use stop::{Stopped, stop};
