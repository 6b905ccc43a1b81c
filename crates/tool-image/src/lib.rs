//! What the command lines of the tool image mean, apart from the machine they run on.
//!
//! The tool image is a container image that Fairlead builds from its own executable, so that containers run where there
//! is no registry. Two machines carry out its command lines: a real process in a container, and the simulated runtime,
//! which has a file system in memory and a clock that jumps. Both implement [`Host`]; what a command line does is
//! written once, in [`execute`].
//!
//! No I/O and no clock of its own: everything goes through the host.

pub mod archive;
pub mod command;
pub mod duration;
pub mod execute;
pub mod frames;
pub mod junit;
pub mod pack;
pub mod step;

pub use command::ToolCommand;
pub use execute::{Ending, Host, execute};

/// The reference of the tool image.
pub const TOOL_IMAGE: &str = "fairlead.dev/tool:latest";
/// Where the executable lies in the image.
pub const EXECUTABLE: &str = "/fairlead";
