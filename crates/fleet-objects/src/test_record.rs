//! What an agent tells the hub about test executions, record by record.
//!
//! A record may arrive more than once (after a crash between the agent's outbox and its own notes); every record
//! therefore says exactly what it is about, so that whoever folds it can see that it is already there.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::test_run::{ClusterResult, RunReference, StepResult};

/// One piece of news about a test execution.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TestRecord {
    /// The run on the hub.
    pub run: RunReference,
    /// Uid of the `TestExecution`.
    pub execution_uid: String,
    /// Name of the `TestExecution`, in the cluster's partition.
    pub execution: String,
    /// What happened.
    pub news: TestNews,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum TestNews {
    /// A piece of a step's log.
    Log {
        /// The step.
        step: String,
        /// 1 for the first.
        attempt: u32,
        /// Where in the attempt's log `text` begins, in bytes as the container wrote them. A piece whose end is not
        /// above what is already known is a repetition; one that begins above it follows a gap.
        offset: u64,
        /// How many bytes of the container's log this piece stands for; `text` may be longer or shorter, since what is
        /// not UTF-8 is replaced.
        length: u64,
        /// At most 32 KiB.
        text: String,
    },
    /// It waits for a place in the cluster; no news once it has begun.
    Queued {
        /// Since when.
        at: Time,
        /// For what, for people.
        message: String,
    },
    /// It has a place and begins.
    Started {
        /// When.
        at: Time,
    },
    /// A step ended, with all its attempts; for each step the first such record counts.
    Step {
        /// What came of it.
        result: StepResult,
    },
    /// The execution ended; holds everything that came of it.
    Finished {
        /// The whole result.
        result: ClusterResult,
    },
    /// A file that its result names will not come; the one thing that follows the end.
    Lost {
        /// Which, by the digest of its content.
        sha256: String,
        /// Why, for people.
        reason: String,
    },
}
