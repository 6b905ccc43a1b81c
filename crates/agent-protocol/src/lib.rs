//! Messages between hub and agent beyond plain API objects, protocol version [`PROTOCOL`].
//!
//! Skew rule: a reader ignores fields it does not know and keeps records of a kind it does not know (they are stored,
//! counted and listed like any other, only not acted upon). New fields are optional. Nothing here does I/O.

pub mod access;
mod messages;
mod record;
mod token;

pub use messages::{
    ARTIFACT_CHUNK, AgentRefusal, ArtifactState, CHUNK_SHA256, CaBundle, JoinRequest, JoinResponse,
    OutboxAck, OutboxBatch, PROTOCOL, PingReport, ReattestRequest, RecordPage, RenewRequest, RenewResponse,
    StoredRecord, StreamMessage, endpoint,
};
pub use record::{
    AssignmentReport, ClusterFacts, EventRecord, EventSeverity, HeldReport, Record, RecordBody,
};
pub use token::{Approval, JoinToken, KeptToken, MAX_USES, TOKEN_SECRET_TYPE, TokenError, TokenGrant};
