//! What a pod's annotations ask of the simulation.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use tool_image::duration::{self, Span};

use super::exec::Scripts;

/// What the annotations begin with.
const PREFIX: &str = "simulation.fairlead.dev/";

/// The script of one container. Values that cannot be read count as absent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Script {
    pub(super) exit_code: Option<i32>,
    pub(super) exit_after: Option<Duration>,
    pub(super) pull_error: Option<String>,
    pub(super) never_ready: bool,
    pub(super) ready_after: Duration,
    pub(super) start_delay: Duration,
    pub(super) log: Option<String>,
    pub(super) ignore_term: bool,
    /// A port it answers HTTP on, with what.
    pub(super) http: Option<(u16, String)>,
    pub(super) exec: Scripts,
}

impl Script {
    pub(super) fn of(pod: &Pod, container: &str) -> Self {
        let Some(annotations) = pod.metadata.annotations.as_ref() else { return Self::default() };
        let value = |what: &str| annotations.get(&format!("{PREFIX}{container}.{what}"));
        let time = |what: &str| match value(what).map(|text| duration::parse(text)) {
            Some(Ok(Span::For(time))) => Some(time),
            _ => None,
        };
        Self {
            exit_code: value("exit-code").and_then(|text| text.parse().ok()),
            exit_after: time("exit-after"),
            pull_error: value("pull-error").cloned(),
            never_ready: value("never-ready").is_some_and(|text| text == "true"),
            ready_after: time("ready-after").unwrap_or_default(),
            start_delay: time("start-delay").unwrap_or_default(),
            log: value("log").cloned(),
            ignore_term: value("ignore-term").is_some_and(|text| text == "true"),
            http: value("http").and_then(|text| {
                let (port, text) = text.split_once('=')?;
                Some((port.trim().parse().ok()?, text.to_owned()))
            }),
            exec: value("exec").and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default(),
        }
    }
}
