//! Two streams make a connection: one for data, one for errors, found by their request's number.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::spdy::Headers;

/// What a stream is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Purpose {
    pub(super) port: u16,
    pub(super) is_data: bool,
    pub(super) request: String,
}

impl Purpose {
    /// Reads a stream's headers.
    pub(super) fn of(id: u32, headers: &Headers) -> Result<Self, String> {
        let port = headers.get("port").ok_or("\"port\" header is required")?;
        let port = match port.parse::<u16>() {
            Ok(0) => return Err(format!("port {port:?} must be > 0")),
            Ok(port) => port,
            Err(_) => return Err(format!("unable to parse {port:?} as a port")),
        };
        let is_data = match headers.get("streamtype") {
            None => return Err("\"streamType\" header is required".to_owned()),
            Some("data") => true,
            Some("error") => false,
            Some(other) => return Err(format!("invalid stream type {other:?}")),
        };
        // Clients before 1.0 number no requests: their error stream comes first, the data stream is the next.
        let request = match headers.get("requestid") {
            Some(request) if !request.is_empty() => request.to_owned(),
            _ if is_data => id.saturating_sub(2).to_string(),
            _ => id.to_string(),
        };
        Ok(Self { port, is_data, request })
    }
}

struct Half<S> {
    stream: S,
    is_data: bool,
    since: Instant,
}

/// First streams that wait for their second.
pub(super) struct Pairs<S> {
    waiting: HashMap<String, Half<S>>,
}

impl<S> Default for Pairs<S> {
    fn default() -> Self {
        Self { waiting: HashMap::new() }
    }
}

impl<S> Pairs<S> {
    /// Takes a stream; data and error stream once both are there. The stream comes back when its place is taken.
    pub(super) fn add(&mut self, purpose: &Purpose, stream: S) -> Result<Option<(S, S)>, S> {
        let Some(half) = self.waiting.remove(&purpose.request) else {
            let half = Half { stream, is_data: purpose.is_data, since: Instant::now() };
            self.waiting.insert(purpose.request.clone(), half);
            return Ok(None);
        };
        match (half.is_data, purpose.is_data) {
            (true, false) => Ok(Some((half.stream, stream))),
            (false, true) => Ok(Some((stream, half.stream))),
            _ => {
                self.waiting.insert(purpose.request.clone(), half);
                Err(stream)
            }
        }
    }

    /// Returns when a stream has waited for `limit`; never when none waits.
    pub(super) async fn expired(&self, limit: Duration) {
        match self.waiting.values().map(|half| half.since).min() {
            Some(since) => tokio::time::sleep_until(since + limit).await,
            None => std::future::pending().await,
        }
    }

    /// Takes out what has waited for `limit`.
    pub(super) fn take_expired(&mut self, limit: Duration) -> Vec<S> {
        let now = Instant::now();
        let late: Vec<String> = self
            .waiting
            .iter()
            .filter(|(_, half)| half.since + limit <= now)
            .map(|(request, _)| request.clone())
            .collect();
        late.iter().filter_map(|request| self.waiting.remove(request)).map(|half| half.stream).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn purpose(id: u32, kind: &str, request: Option<&str>) -> Purpose {
        let mut headers = vec![("streamType", kind), ("port", "80")];
        headers.extend(request.map(|request| ("requestID", request)));
        Purpose::of(id, &Headers::of(&headers)).expect("a purpose")
    }

    #[test]
    fn streams_find_one_another() {
        let mut pairs = Pairs::default();
        assert_eq!(pairs.add(&purpose(1, "error", Some("0")), 'e'), Ok(None));
        assert_eq!(pairs.add(&purpose(3, "error", Some("1")), 'E'), Ok(None));
        assert_eq!(pairs.add(&purpose(5, "error", Some("1")), 'x'), Err('x'));
        assert_eq!(pairs.add(&purpose(7, "data", Some("1")), 'D'), Ok(Some(('D', 'E'))));
        assert_eq!(pairs.add(&purpose(9, "data", Some("0")), 'd'), Ok(Some(('d', 'e'))));
        // Without numbers.
        assert_eq!(pairs.add(&purpose(11, "error", None), 'e'), Ok(None));
        assert_eq!(pairs.add(&purpose(13, "data", None), 'd'), Ok(Some(('d', 'e'))));
    }

    #[test]
    fn streams_for_no_port_are_told_why() {
        let of = |pairs: &[(&str, &str)]| Purpose::of(1, &Headers::of(pairs)).expect_err("no purpose");
        assert_eq!(of(&[("streamType", "data")]), "\"port\" header is required");
        assert_eq!(of(&[("port", "0"), ("streamType", "data")]), "port \"0\" must be > 0");
        assert_eq!(of(&[("port", "x"), ("streamType", "data")]), "unable to parse \"x\" as a port");
        assert_eq!(of(&[("port", "70000"), ("streamType", "data")]), "unable to parse \"70000\" as a port");
        assert_eq!(of(&[("port", "1")]), "\"streamType\" header is required");
        assert_eq!(of(&[("port", "1"), ("streamType", "y")]), "invalid stream type \"y\"");
    }
}
