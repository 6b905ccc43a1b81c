//! What a long-running command says about itself: tracing on stderr.

use std::io::IsTerminal as _;

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use tracing_subscriber::EnvFilter;

use crate::failure::Failure;

/// What is logged without `RUST_LOG`.
const DEFAULT_FILTER: &str = "info,kube=warn,hyper=warn,tower=warn,rustls=warn";

/// How a long-running command logs.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct LogArguments {
    /// How to log to stderr; what to log is in $RUST_LOG
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    pub(crate) log_format: LogFormat,
}

/// The shape of a log line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people
    #[default]
    Text,
    /// One JSON object a line
    Json,
}

impl LogFormat {
    /// As it is typed.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Json => "json",
        }
    }
}

/// Starts logging.
pub(crate) fn start(format: LogFormat) -> Result<(), Failure> {
    start_with(format, DEFAULT_FILTER)
}

/// Starts logging; `default` is what is logged without `RUST_LOG`.
pub(crate) fn start_with(format: LogFormat, default: &str) -> Result<(), Failure> {
    let filter = match std::env::var("RUST_LOG") {
        Ok(text) if !text.is_empty() => EnvFilter::try_new(&text)
            .map_err(|error| Failure::usage(format!("RUST_LOG={text:?} cannot be read: {error}")))?,
        _ => EnvFilter::new(default),
    };
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let colours =
        std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
    let started = match format {
        LogFormat::Text => builder.with_ansi(colours).try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
    started.map_err(|error| anyhow::anyhow!(error)).context("cannot start logging")?;
    Ok(())
}
