//! One pod: what to do next ([`plan`]), what to tell about it ([`status`]), and who does both ([`worker`]).

pub mod facts;
pub mod launch;
pub mod plan;
pub mod probes;
pub mod report;
pub mod status;
pub mod worker;
