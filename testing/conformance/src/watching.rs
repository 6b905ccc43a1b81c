//! A watch read frame by frame.

use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use bytes::BytesMut;
use http_body_util::BodyExt as _;
use kube::client::Body;
use serde_json::Value;

/// How long an event may take to come.
const WITHIN: Duration = Duration::from_secs(20);

/// A running watch.
pub struct Watch {
    body: Body,
    buffer: BytesMut,
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watch").field("buffered_bytes", &self.buffer.len()).finish_non_exhaustive()
    }
}

/// An event: its type and object.
pub type Event = (String, Value);

impl Watch {
    pub(crate) fn new(body: Body) -> Self {
        Self { body, buffer: BytesMut::new() }
    }

    /// The next event, bookmarks too; `None` when the server ends the watch.
    ///
    /// # Errors
    /// When none comes in time, or what comes is no event.
    pub async fn next(&mut self) -> anyhow::Result<Option<Event>> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line = self.buffer.split_to(end + 1);
                let event: Value = serde_json::from_slice(&line).context("a watch's line is no JSON")?;
                let kind = event["type"].as_str().unwrap_or_default().to_owned();
                return Ok(Some((kind, event["object"].clone())));
            }
            let frame = tokio::time::timeout(WITHIN, self.body.frame()).await;
            match frame.context("no event came in time")? {
                None => return Ok(None),
                Some(frame) => {
                    if let Ok(data) = frame?.into_data() {
                        self.buffer.extend_from_slice(&data);
                    }
                }
            }
        }
    }

    /// The next event if it has this type and name.
    ///
    /// # Errors
    /// Any other.
    pub async fn expect(&mut self, kind: &str, name: &str) -> anyhow::Result<Value> {
        let Some((got, object)) = self.next().await? else {
            bail!("the watch ended before {kind} of {name}")
        };
        ensure!(
            got == kind && object["metadata"]["name"] == name,
            "{kind} of {name} expected, not {got}: {object}"
        );
        Ok(object)
    }

    /// The next event of this type, skipping others.
    ///
    /// # Errors
    /// When the watch ends or none comes in time.
    pub async fn find(&mut self, kind: &str) -> anyhow::Result<Value> {
        loop {
            let Some((got, object)) = self.next().await? else { bail!("the watch ended before any {kind}") };
            if got == kind {
                return Ok(object);
            }
        }
    }
}
