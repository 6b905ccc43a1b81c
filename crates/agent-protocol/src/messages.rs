//! Requests and answers of the hub's `/fleet/v1` endpoints.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::record::Record;

/// The protocol's version. A hub serves the present one and the two before.
pub const PROTOCOL: u32 = 1;

/// Paths of the endpoints.
pub mod endpoint {
    /// Prefix of all.
    pub const PREFIX: &str = "/fleet/v1/";
    /// `GET`, anonymous: [`super::CaBundle`]. The caller checks it against its pin.
    pub const CA: &str = "/fleet/v1/ca";
    /// `POST`, anonymous, `Authorization: Bearer <join token>`: [`super::JoinRequest`].
    pub const JOIN: &str = "/fleet/v1/join";
    /// `POST`, anonymous: [`super::ReattestRequest`]; the signing request proves possession of the registered key.
    pub const REATTEST: &str = "/fleet/v1/reattest";
    /// `POST`, as the agent: [`super::RenewRequest`].
    pub const RENEW: &str = "/fleet/v1/renew";
    /// `GET`, as the agent: lines of [`super::StreamMessage`] until either side leaves.
    pub const STREAM: &str = "/fleet/v1/agent/stream";
    /// `POST`, as the agent: [`super::PingReport`]; keeps presence alive.
    pub const PING: &str = "/fleet/v1/agent/ping";
    /// `POST`, as the agent: [`super::OutboxBatch`], answered by [`super::OutboxAck`].
    pub const OUTBOX: &str = "/fleet/v1/agent/outbox";
    /// `GET` with `Upgrade:` [`crate::access::PROTOCOL`], as the agent: what people ask of the cluster comes back over it.
    pub const TUNNEL: &str = "/fleet/v1/agent/tunnel";
    /// `GET` and `PUT`, followed by `/<sha256>`.
    pub const CONTENT: &str = "/fleet/v1/content";
    /// `GET` and `PUT` of a test's file of any size, as the agent: followed by `/<execution>/<uid>/<sha256>`. `GET` answers
    /// [`super::ArtifactState`]; `PUT` with `?offset=<bytes>&size=<bytes of all>` and [`super::CHUNK_SHA256`] adds a chunk
    /// of at most [`super::ARTIFACT_CHUNK`] bytes and answers the state after it: 409 when `offset` is not what the hub
    /// has, 400 when the chunk does not have its digest, 422 when the whole does not (the hub has nothing of it then), 413
    /// when the run may not keep it.
    pub const ARTIFACTS: &str = "/fleet/v1/artifacts";
    /// Values of secret variables that the hub keeps: `/NAMESPACE/NAME/KEY` of a Secret below this.
    pub const VALUES: &str = "/fleet/v1/values";
    /// `GET`, followed by `/<name>/records?from=<sequence>`.
    pub const CLUSTERS: &str = "/fleet/v1/clusters";
}

/// Header of a chunk of a file: its SHA-256, lower-case hexadecimal.
pub const CHUNK_SHA256: &str = "x-fairlead-chunk-sha256";
/// Bytes of a chunk, at most: what is held in memory of a file, by agent and hub.
pub const ARTIFACT_CHUNK: usize = 4 << 20;

/// How much of a test's file the hub has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ArtifactState {
    /// Bytes from its beginning on.
    pub received: u64,
    /// It is there, checked and durable.
    #[serde(default)]
    pub whole: bool,
    /// Why the hub does not take it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
}

/// The hub's certificate authorities.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CaBundle {
    /// PEM, one or more certificates: more than one while an authority is rotated.
    pub ca_pem: String,
    /// Where agents reach the hub from now on, if it says so; besides where they were told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hub_url: Option<String>,
}

/// Asks to become a cluster of the fleet.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JoinRequest {
    /// [`PROTOCOL`] of the agent.
    pub protocol: u32,
    /// The uid of the cluster's kube-system namespace.
    pub cluster_uid: String,
    /// The name wished for. A cluster that joined before keeps the name it has.
    pub name: String,
    /// Certificate signing request, PEM. Its subject is ignored: the hub sets it.
    pub csr_pem: String,
    /// Labels for a new Cluster; those of the token win.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// The agent's release.
    #[serde(default)]
    pub agent_version: String,
}

/// The agent's new identity.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JoinResponse {
    /// The Cluster's name.
    pub name: String,
    /// The client certificate, PEM.
    pub certificate_pem: String,
    /// When it ends, RFC 3339.
    pub not_after: String,
    /// The authorities to trust from now on, PEM.
    pub ca_pem: String,
    /// The hub's epoch.
    pub hub_epoch: String,
}

/// Asks for a new certificate over a working connection.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RenewRequest {
    /// Certificate signing request, PEM. A new key becomes the registered one.
    pub csr_pem: String,
}

/// A new certificate.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RenewResponse {
    /// The client certificate, PEM.
    pub certificate_pem: String,
    /// When it ends, RFC 3339.
    pub not_after: String,
    /// The authorities to trust, PEM.
    pub ca_pem: String,
}

/// Asks for a new certificate after the old one ended. The signing request must be by the registered key; replaying it
/// yields only a certificate that is useless without that key.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReattestRequest {
    /// The Cluster's name.
    pub name: String,
    /// The cluster's uid.
    pub cluster_uid: String,
    /// Certificate signing request by the registered key, PEM.
    pub csr_pem: String,
}

/// Why the hub turned an agent away; the body of every answer that is not a success.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AgentRefusal {
    /// One CamelCase word for programs.
    pub reason: String,
    /// A sentence for people.
    pub message: String,
}

/// A line of the presence stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase")]
pub enum StreamMessage {
    /// The first line.
    #[serde(rename_all = "camelCase")]
    Hello {
        /// The hub's protocol version.
        protocol: u32,
        /// The hub's epoch.
        hub_epoch: String,
        /// The hub's release.
        hub_version: String,
        /// How often the agent should ping, milliseconds.
        ping_millis: u64,
    },
    /// The hub is there.
    Ping,
    /// Somebody wants to reach the cluster: dial [`endpoint::TUNNEL`].
    OpenTunnel,
    /// The hub's authorities are others than before: ask [`endpoint::CA`] again.
    Authority,
    /// A line of a newer hub.
    #[serde(other)]
    Unknown,
}

/// What an agent says with its pings: what could not be said through the outbox, because it is about the
/// outbox, and whom the agent trusts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PingReport {
    /// Why the outbox takes no more records, while it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outbox_problem: Option<String>,
    /// Records dropped over the life of the outbox.
    #[serde(default)]
    pub dropped: u64,
    /// By what the agent recognises its hub, as it is kept on its disk: `sha256:…` of the key of each authority, sorted. Said by
    /// the first ping on a stream, and when it is something else; none: as said before on this stream, and of an agent that
    /// has said nothing on it, that it is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authorities: Option<Vec<String>>,
}

/// Records in the order of their sequence.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OutboxBatch {
    /// The life of the outbox. A new one starts at sequence 1.
    pub agent_epoch: Uuid,
    /// Consecutive records.
    pub records: Vec<Record>,
}

/// What the hub has made durable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OutboxAck {
    /// Every record of this epoch up to here is durable at the hub.
    pub through: u64,
    /// How many of the batch were there before.
    pub duplicates: u64,
}

/// A record as the hub keeps it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StoredRecord {
    /// Its place in the hub's inbox; what `from` counts in.
    pub position: u64,
    /// The record.
    pub record: Record,
}

/// Records of one cluster.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RecordPage {
    /// How many the hub keeps of this cluster.
    pub total: u64,
    /// In the order they came.
    pub records: Vec<StoredRecord>,
    /// Where to go on; none at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<u64>,
}
