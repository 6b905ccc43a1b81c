//! The fairlead binary: reads arguments, starts what they ask for, turns the end into an exit code.
//!
//! Data goes to stdout, progress and errors to stderr. Exit codes: 0 done, 1 a negative result, 2 wrong usage, 3 the hub
//! cannot be reached or does not know who asks, 4 done in part, 5 out of time, 130 interrupted.

mod arguments;
mod commands;
mod connection;
mod documents;
mod failure;
mod footprint;
mod output;
mod serving;
mod signals;
mod store_choice;
mod telemetry;

use std::process::ExitCode;

use clap::Parser;

use crate::arguments::Arguments;
use crate::failure::Failure;

/// A server makes and drops trees of JSON all day on all its threads. The allocator of glibc keeps what a burst took (three
/// times the peak was seen); this one gives it back within moments.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Threads that run tasks. What Fairlead does waits for disk and network most of the time, and many of its processes may
/// share a machine.
const WORKERS: usize = 2;

fn main() -> ExitCode {
    if let Some(code) = tool() {
        return code;
    }
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(WORKERS).enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return failure::report(&Failure::new(failure::Code::Negative, error.into())),
    };
    let takes_signals = arguments.command.takes_signals();
    if takes_signals {
        // A server: it stays.
        runtime.spawn(footprint::keep_small());
    }
    let result = runtime.block_on(async {
        tokio::select! {
            result = Box::pin(commands::run(arguments)) => result,
            _ = tokio::signal::ctrl_c(), if !takes_signals => Err(Failure::interrupted()),
        }
    });
    // A task that reads stdin or waits for a server must not hold the end up.
    runtime.shutdown_background();
    match result {
        Ok(code) => ExitCode::from(code as u8),
        Err(failure) => failure::report(&failure),
    }
}

/// Carries out `fairlead tool …`, which containers run. It comes before everything else: a container may have little
/// memory and few threads, and the tool blocks signals before there are any.
fn tool() -> Option<ExitCode> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    // Started in the place of a loader, in a container of some image: see the step runner's installation.
    let words =
        if words.first().is_some_and(|word| word == "--library-path") { words.get(3..)? } else { &words[..] };
    let (first, rest) = words.split_first()?;
    if first != "tool" {
        return None;
    }
    Some(match tool_image::ToolCommand::from_words(rest) {
        Ok(command) => container_images::tool::run(&command),
        Err(message) => {
            eprintln!("{}", message.trim_end());
            ExitCode::from(failure::Code::Usage as u8)
        }
    })
}
