//! Calls to the hub's endpoints. Every answer is bounded in time; refusals keep the hub's words.

use std::time::Duration;

use agent_protocol::{
    ArtifactState, CHUNK_SHA256, CaBundle, JoinRequest, JoinResponse, OutboxAck, OutboxBatch, PingReport,
    ReattestRequest, RenewRequest, RenewResponse, endpoint,
};
use futures::AsyncBufRead;
use kube::Client;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::Error;

/// How long one call may take; content of 64 MiB passes within it at 1 MiB/s.
const TIMEOUT: Duration = Duration::from_secs(90);

/// The hub's endpoints over a client.
#[derive(Clone)]
pub(crate) struct HubClient {
    client: Client,
}

impl HubClient {
    pub(crate) fn new(client: Client) -> Self {
        Self { client }
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    pub(crate) async fn ca(&self) -> Result<CaBundle, Error> {
        decode("fetch its authority", self.send("fetch its authority", get(endpoint::CA)?).await?)
    }

    pub(crate) async fn join(&self, token: &str, body: &JoinRequest) -> Result<JoinResponse, Error> {
        let mut request = post(endpoint::JOIN, body)?;
        let header = http::HeaderValue::from_str(&format!("Bearer {}", token.trim()));
        let mut header = header.map_err(|_| Error::Invalid("the join token is not a token".to_owned()))?;
        header.set_sensitive(true);
        request.headers_mut().insert(http::header::AUTHORIZATION, header);
        decode("join", self.send("join", request).await?)
    }

    pub(crate) async fn renew(&self, body: &RenewRequest) -> Result<RenewResponse, Error> {
        decode("renew", self.send("renew", post(endpoint::RENEW, body)?).await?)
    }

    pub(crate) async fn reattest(&self, body: &ReattestRequest) -> Result<RenewResponse, Error> {
        decode("re-attest", self.send("re-attest", post(endpoint::REATTEST, body)?).await?)
    }

    pub(crate) async fn ping(&self, report: &PingReport) -> Result<(), Error> {
        self.send("ping", post(endpoint::PING, report)?).await.map(drop)
    }

    pub(crate) async fn outbox(&self, batch: &OutboxBatch) -> Result<OutboxAck, Error> {
        decode("send records", self.send("send records", post(endpoint::OUTBOX, batch)?).await?)
    }

    pub(crate) async fn stream(&self) -> Result<impl AsyncBufRead + use<>, Error> {
        let request = get(endpoint::STREAM)?;
        let opened = tokio::time::timeout(TIMEOUT, self.client.request_stream(request)).await;
        opened.map_err(|_| timed_out("open the stream"))?.map_err(refused("open the stream"))
    }

    pub(crate) async fn content(&self, digest: &str) -> Result<Vec<u8>, Error> {
        let bytes = self.send("fetch content", get(&format!("{}/{digest}", endpoint::CONTENT))?).await?;
        let found = fleet_planner::digest(&bytes);
        if found != digest {
            return Err(Error::Invalid(format!("the hub sent content {found} for {digest}")));
        }
        Ok(bytes)
    }

    /// The value of a secret variable, by its place on the hub.
    pub(crate) async fn value(&self, place: &str) -> Result<Vec<u8>, Error> {
        self.send("fetch a value", get(&format!("{}/{place}", endpoint::VALUES))?).await
    }

    pub(crate) async fn put_content(&self, digest: &str, bytes: Vec<u8>) -> Result<(), Error> {
        let request =
            http::Request::put(format!("{}/{digest}", endpoint::CONTENT)).body(bytes).map_err(unbuildable)?;
        self.send("store content", request).await.map(drop)
    }

    /// How much the hub has of a test's file; `place` is `<execution>/<uid>/<sha256>`.
    pub(crate) async fn artifact(&self, place: &str) -> Result<ArtifactState, Error> {
        let operation = "ask for a test's file";
        decode(operation, self.send(operation, get(&format!("{}/{place}", endpoint::ARTIFACTS))?).await?)
    }

    /// Adds a chunk to a test's file of `size` bytes.
    pub(crate) async fn put_artifact(
        &self,
        place: &str,
        offset: u64,
        size: u64,
        chunk: Vec<u8>,
    ) -> Result<ArtifactState, Error> {
        let operation = "store a test's file";
        let request =
            http::Request::put(format!("{}/{place}?offset={offset}&size={size}", endpoint::ARTIFACTS))
                .header(CHUNK_SHA256, fleet_planner::digest(&chunk))
                .body(chunk)
                .map_err(unbuildable)?;
        decode(operation, self.send(operation, request).await?)
    }

    async fn send(&self, operation: &'static str, request: http::Request<Vec<u8>>) -> Result<Vec<u8>, Error> {
        let answer = async {
            let (parts, body) = request.into_parts();
            let request = http::Request::from_parts(parts, kube::client::Body::from(body));
            let response = self.client.send(request).await.map_err(refused(operation))?;
            let status = response.status();
            let body = http_body_util::BodyExt::collect(response.into_body()).await;
            let bytes = body.map_err(refused(operation))?.to_bytes().to_vec();
            if status.is_success() { Ok(bytes) } else { Err(refusal(operation, status.as_u16(), &bytes)) }
        };
        tokio::time::timeout(TIMEOUT, answer).await.unwrap_or_else(|_| Err(timed_out(operation)))
    }
}

fn timed_out(operation: &'static str) -> Error {
    Error::Refused { operation, code: 504, message: "no answer in time".to_owned() }
}

fn refusal(operation: &'static str, code: u16, body: &[u8]) -> Error {
    let parsed: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    let message = parsed["message"].as_str().map_or_else(|| format!("HTTP status {code}"), str::to_owned);
    Error::Refused { operation, code, message }
}

fn refused(operation: &'static str) -> impl FnOnce(kube::Error) -> Error {
    move |error| match error {
        kube::Error::Api(status) => {
            Error::Refused { operation, code: status.code, message: status.message.clone() }
        }
        source => Error::Hub { operation, source: Box::new(source) },
    }
}

fn unbuildable(error: http::Error) -> Error {
    Error::Invalid(format!("cannot build a request: {error}"))
}

fn get(path: &str) -> Result<http::Request<Vec<u8>>, Error> {
    http::Request::get(path).body(Vec::new()).map_err(unbuildable)
}

fn post(path: &str, body: &impl Serialize) -> Result<http::Request<Vec<u8>>, Error> {
    let bytes = serde_json::to_vec(body).map_err(|error| Error::Invalid(error.to_string()))?;
    let request = http::Request::post(path).header(http::header::CONTENT_TYPE, "application/json");
    request.body(bytes).map_err(unbuildable)
}

fn decode<T: DeserializeOwned>(operation: &'static str, bytes: Vec<u8>) -> Result<T, Error> {
    serde_json::from_slice(&bytes)
        .map_err(|error| Error::Invalid(format!("hub: the answer to {operation}: {error}")))
}
