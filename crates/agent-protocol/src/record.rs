//! What an agent has to tell, in the order it happened.

use std::collections::BTreeMap;

use fleet_objects::compliance::ComplianceState;
use fleet_objects::test_record::TestRecord;
use fleet_objects::test_trigger::{HeldTrigger, TriggerNews};
use fleet_objects::{AssignmentStatus, HeldAssignment, NodeCount, ObjectReference, Refusal};
use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use uuid::Uuid;

/// One thing an agent has to tell. `(cluster uid, agent epoch, sequence)` names it for ever.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// Counts from 1 within the epoch, without gaps.
    pub sequence: u64,
    /// The life of the agent's outbox.
    pub agent_epoch: Uuid,
    /// When it happened, by the agent's clock.
    pub time: Timestamp,
    /// What happened.
    #[serde(flatten)]
    pub body: RecordBody,
}

/// What a record says: `{"kind": …, "data": …}` on the wire.
#[derive(Clone, Debug, PartialEq)]
pub enum RecordBody {
    /// What the cluster is; sent when it changes.
    ClusterFacts(ClusterFacts),
    /// What the agent holds on disk; sent when it changes and on every connection to another hub epoch.
    Held(HeldReport),
    /// How an assignment is; sent when it changes.
    Assignment(Box<AssignmentReport>),
    /// Something worth an Event on the hub.
    Event(EventRecord),
    /// Records that a full outbox had no room for, over the life of the outbox.
    Dropped {
        /// How many.
        count: u64,
    },
    /// News of a test execution.
    Test(Box<TestRecord>),
    /// News of a test trigger that the agent judges.
    Trigger(Box<TriggerNews>),
    /// Test triggers that the agent holds and the hub does not list, all of them; sent when that changes.
    OrphanedTriggers(Vec<HeldTrigger>),
    /// What policies say of the cluster's objects; the whole state, sent when it changes.
    Compliance(Box<ComplianceState>),
    /// What this release does not know, a kind or something within it; kept as it came. An agent may be newer than its
    /// hub, and one such record must not hold up those behind it.
    Unknown {
        /// Its kind.
        kind: String,
        /// Its content.
        data: Value,
    },
}

/// What the cluster is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterFacts {
    /// The API server's `gitVersion`.
    pub kubernetes_version: String,
    /// Nodes.
    pub nodes: NodeCount,
    /// The agent's release.
    pub agent_version: String,
    /// What kind of cluster it is, by property.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub properties: BTreeMap<String, String>,
    /// What the API server serves besides the core group, `group/version`, sorted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub api_groups: Vec<String>,
    /// Why the cluster's owner lets no change in, while that is so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold: Option<String>,
}

/// What the agent holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HeldReport {
    /// All of it, tombstones' numbers included.
    pub held: Vec<HeldAssignment>,
    /// Held assignments the hub does not list.
    #[serde(default)]
    pub absent: Vec<String>,
    /// The epoch of the hub this was compared with.
    #[serde(default)]
    pub hub_epoch: String,
}

/// How an assignment is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AssignmentReport {
    /// The Assignment's name.
    pub name: String,
    /// The whole status.
    pub status: AssignmentStatus,
}

/// Something worth an Event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EventRecord {
    /// Normal or Warning.
    pub severity: EventSeverity,
    /// One CamelCase word.
    pub reason: String,
    /// A sentence.
    pub message: String,
    /// The Assignment it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assignment: Option<String>,
    /// The object in the cluster it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object: Option<ObjectReference>,
    /// The refusal, when it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refusal: Option<Refusal>,
}

/// How grave an event is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EventSeverity {
    /// For the record.
    Normal,
    /// Somebody should look.
    Warning,
}

#[derive(Serialize, Deserialize)]
struct Wire {
    kind: String,
    #[serde(default)]
    data: Value,
}

#[derive(Serialize, Deserialize)]
struct DroppedData {
    count: u64,
}

impl RecordBody {
    /// The kind's name on the wire.
    #[must_use]
    pub fn kind(&self) -> &str {
        match self {
            Self::ClusterFacts(_) => "ClusterFacts",
            Self::Held(_) => "Held",
            Self::Assignment(_) => "Assignment",
            Self::Event(_) => "Event",
            Self::Dropped { .. } => "Dropped",
            Self::Test(_) => "Test",
            Self::Trigger(_) => "Trigger",
            Self::OrphanedTriggers(_) => "OrphanedTriggers",
            Self::Compliance(_) => "Compliance",
            Self::Unknown { kind, .. } => kind,
        }
    }
}

impl Serialize for RecordBody {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let data = match self {
            Self::ClusterFacts(data) => serde_json::to_value(data),
            Self::Held(data) => serde_json::to_value(data),
            Self::Assignment(data) => serde_json::to_value(data),
            Self::Event(data) => serde_json::to_value(data),
            Self::Dropped { count } => serde_json::to_value(DroppedData { count: *count }),
            Self::Test(data) => serde_json::to_value(data),
            Self::Trigger(data) => serde_json::to_value(data),
            Self::OrphanedTriggers(data) => serde_json::to_value(data),
            Self::Compliance(data) => serde_json::to_value(data),
            Self::Unknown { data, .. } => Ok(data.clone()),
        };
        let data = data.map_err(serde::ser::Error::custom)?;
        Wire { kind: self.kind().to_owned(), data }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for RecordBody {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Wire { kind, data } = Wire::deserialize(deserializer)?;
        Ok(Self::read(&kind, &data).unwrap_or(Self::Unknown { kind, data }))
    }
}

impl RecordBody {
    fn read(kind: &str, data: &Value) -> Result<Self, serde_json::Error> {
        Ok(match kind {
            "ClusterFacts" => Self::ClusterFacts(Deserialize::deserialize(data)?),
            "Held" => Self::Held(Deserialize::deserialize(data)?),
            "Assignment" => Self::Assignment(Deserialize::deserialize(data)?),
            "Event" => Self::Event(Deserialize::deserialize(data)?),
            "Dropped" => Self::Dropped { count: DroppedData::deserialize(data)?.count },
            "Test" => Self::Test(Deserialize::deserialize(data)?),
            "Trigger" => Self::Trigger(Deserialize::deserialize(data)?),
            "OrphanedTriggers" => Self::OrphanedTriggers(Deserialize::deserialize(data)?),
            "Compliance" => Self::Compliance(Deserialize::deserialize(data)?),
            _ => return Err(serde::de::Error::custom("no such kind")),
        })
    }

    /// Why a record is [`Unknown`](Self::Unknown), for people; nothing for one that is understood.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        let Self::Unknown { kind, data } = self else { return None };
        Self::read(kind, data).err().map(|error| format!("record of kind {kind:?}: {error}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(body: RecordBody) -> Record {
        Record { sequence: 7, agent_epoch: Uuid::nil(), time: Timestamp::UNIX_EPOCH, body }
    }

    #[test]
    fn records_survive_the_wire() {
        for body in [
            RecordBody::Dropped { count: 3 },
            RecordBody::ClusterFacts(ClusterFacts {
                kubernetes_version: "v1.36.2".into(),
                ..ClusterFacts::default()
            }),
            RecordBody::Held(HeldReport::default()),
            RecordBody::OrphanedTriggers(vec![HeldTrigger { name: "default.nightly".into(), revision: 7 }]),
        ] {
            let record = record(body);
            let text = serde_json::to_string(&record).unwrap();
            assert_eq!(serde_json::from_str::<Record>(&text).unwrap(), record, "{text}");
        }
    }

    #[test]
    fn what_is_new_within_a_known_kind_is_kept_too() {
        let text = r#"{"sequence":1,"agentEpoch":"00000000-0000-0000-0000-000000000000","time":"1970-01-01T00:00:00Z",
            "kind":"Dropped","data":{"count":"many"}}"#;
        let record: Record = serde_json::from_str(text).unwrap();
        assert!(matches!(&record.body, RecordBody::Unknown { kind, .. } if kind == "Dropped"));
        let problem = record.body.problem().unwrap();
        assert!(problem.contains("\"Dropped\"") && problem.contains("\"many\""), "{problem}");
        let again: Record = serde_json::from_str(&serde_json::to_string(&record).unwrap()).unwrap();
        assert_eq!(again, record);
    }

    #[test]
    fn unknown_kinds_are_kept_and_unknown_fields_ignored() {
        let text = r#"{"sequence":1,"agentEpoch":"00000000-0000-0000-0000-000000000000","time":"1970-01-01T00:00:00Z",
            "kind":"FromTheFuture","data":{"a":[1]},"more":true}"#;
        let record: Record = serde_json::from_str(text).unwrap();
        let RecordBody::Unknown { kind, data } = &record.body else { panic!("{record:?}") };
        assert_eq!((kind.as_str(), &data["a"][0]), ("FromTheFuture", &Value::from(1)));
        let again: Record = serde_json::from_str(&serde_json::to_string(&record).unwrap()).unwrap();
        assert_eq!(again, record);
    }
}
