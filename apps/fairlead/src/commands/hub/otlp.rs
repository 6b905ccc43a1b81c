//! Where a hub sends traces and metrics of test runs.

use std::time::Duration;

use ::hub::test_runs::Telemetry;
use clap::Args;

use crate::arguments;
use crate::failure::Failure;

#[derive(Args, Debug)]
pub(super) struct OtlpArguments {
    /// OpenTelemetry collector that gets traces and metrics of test runs (OTLP/HTTP with JSON), like http://collector:4318
    #[arg(long, env = "OTEL_EXPORTER_OTLP_ENDPOINT", value_name = "URL", help_heading = "Test runs")]
    otlp_endpoint: Option<String>,
    /// Headers for the collector
    #[arg(
        long,
        env = "OTEL_EXPORTER_OTLP_HEADERS",
        hide_env_values = true,
        value_delimiter = ',',
        value_name = "NAME=VALUE,…",
        help_heading = "Test runs"
    )]
    otlp_headers: Vec<String>,
    /// How often metrics are sent
    #[arg(long, default_value = "60s", value_parser = arguments::duration, value_name = "DURATION", help_heading = "Test runs")]
    otlp_interval: Duration,
}

impl OtlpArguments {
    pub(super) fn resolve(self) -> Result<Option<Telemetry>, Failure> {
        let Some(endpoint) = self.otlp_endpoint.filter(|endpoint| !endpoint.is_empty()) else {
            return Ok(None);
        };
        if !endpoint.starts_with("http://") && !endpoint.starts_with("https://") {
            return Err(Failure::usage(format!("--otlp-endpoint {endpoint:?} is not http:// or https://")));
        }
        let mut headers = Vec::new();
        for header in self.otlp_headers.iter().filter(|header| !header.is_empty()) {
            // A value may be secret; it is not repeated.
            let (name, value) = header
                .split_once('=')
                .ok_or_else(|| Failure::usage("--otlp-headers wants NAME=VALUE,NAME=VALUE"))?;
            headers.push((name.trim().to_owned(), value.trim().to_owned()));
        }
        let interval = self.otlp_interval.max(Duration::from_secs(1));
        Ok(Some(Telemetry { endpoint: endpoint.trim_end_matches('/').to_owned(), headers, interval }))
    }
}
