//! The fairlead binary: reads arguments, starts what they ask for, turns the end into an exit code.
//!
//! Data goes to stdout, progress and errors to stderr. Exit codes: 0 done, 1 a negative result, 2 wrong usage, 3 the hub
//! cannot be reached or does not know who asks, 4 done in part, 5 out of time, 130 interrupted.

mod arguments;
mod commands;
mod connection;
mod documents;
mod failure;
mod output;

use std::process::ExitCode;

use clap::Parser;

use crate::arguments::Arguments;
use crate::failure::Failure;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failure::report(&Failure::new(failure::Code::Negative, error.into())),
    };
    let result = runtime.block_on(async {
        tokio::select! {
            result = commands::run(arguments) => result,
            _ = tokio::signal::ctrl_c() => Err(Failure::interrupted()),
        }
    });
    // A task that reads stdin or waits for a server must not hold the end up.
    runtime.shutdown_background();
    match result {
        Ok(code) => ExitCode::from(code as u8),
        Err(failure) => failure::report(&failure),
    }
}
