//! What agents tell people: Events in the hub, about their Cluster or one of their assignments.

use agent_protocol::{EventRecord, EventSeverity, Record};
use fleet_objects::{AgentIdentity, Assignment, GROUP, VERSION, partition_namespace};
use k8s_openapi::api::core::v1::Event;
use kube::api::PostParams;
use kube::{Api, ResourceExt};
use serde_json::json;

use super::{bounded, is_plain_name};
use crate::error::Error;
use crate::service::Shared;

/// Says that an agent tells what this hub does not understand; the record is in the inbox as it came.
pub(super) async fn take_unknown(
    shared: &Shared,
    from: &AgentIdentity,
    record: &Record,
) -> Result<(), Error> {
    let problem = record.body.problem().unwrap_or_default();
    tracing::warn!(cluster = %from.name, problem = bounded(&problem, 512), "a record is not understood");
    let message =
        format!("the hub does not understand what the agent tells; is it older than the agent? {problem}");
    let event = EventRecord {
        severity: EventSeverity::Warning,
        reason: "RecordNotUnderstood".to_owned(),
        message,
        assignment: None,
        object: None,
        refusal: None,
    };
    take(shared, from, record, &event).await
}

/// What an Event is about, with its uid, by which `kubectl describe` looks for Events; and the namespace that the Event
/// belongs in: those of objects without one are kept in `default`.
async fn subject(
    shared: &Shared,
    from: &AgentIdentity,
    event: &EventRecord,
) -> Result<(serde_json::Value, String), Error> {
    let api_version = format!("{GROUP}/{VERSION}");
    let Some(name) = &event.assignment else {
        let uid = shared.clusters.find("", &from.name).and_then(|cluster| cluster.uid());
        let cluster = json!({"apiVersion": api_version, "kind": "Cluster", "name": from.name, "uid": uid});
        return Ok((cluster, "default".to_owned()));
    };
    let namespace = partition_namespace(&from.name);
    let api: Api<Assignment> = Api::namespaced(shared.client.clone(), &namespace);
    // The name becomes part of a path.
    let found = if is_plain_name(name) { api.get_metadata_opt(name).await } else { Ok(None) };
    let found = found.map_err(Error::api(format!("read assignment {name} of {}", from.name)))?;
    let uid = found.and_then(|assignment| assignment.metadata.uid);
    let about = json!({
        "apiVersion": api_version, "kind": "Assignment", "namespace": namespace, "name": bounded(name, 253), "uid": uid,
    });
    Ok((about, namespace))
}

/// Tells what an agent tells people.
pub(super) async fn take(
    shared: &Shared,
    from: &AgentIdentity,
    record: &Record,
    event: &EventRecord,
) -> Result<(), Error> {
    let (about, namespace) = subject(shared, from, event).await?;
    // Agents draw their epochs themselves: with its cluster's name it can be no other agent's Event.
    let name = format!("{}.{}.{}", from.name, record.agent_epoch.simple(), record.sequence);
    let severity = match event.severity {
        EventSeverity::Normal => "Normal",
        EventSeverity::Warning => "Warning",
    };
    let time = jiff::Timestamp::from_second(record.time.as_second()).unwrap_or(record.time).to_string();
    let object = json!({
        "apiVersion": "v1", "kind": "Event",
        "metadata": {"name": name, "namespace": namespace},
        "involvedObject": about,
        "reason": bounded(&event.reason, 128), "message": bounded(&event.message, 1024), "type": severity,
        "source": {"component": "fairlead-agent", "host": from.name},
        "firstTimestamp": time, "lastTimestamp": time, "count": 1,
        "reportingComponent": "fairlead-agent", "reportingInstance": from.name,
    });
    let object: Event =
        serde_json::from_value(object).map_err(|error| Error::Invalid(format!("event: {error}")))?;
    let api: Api<Event> = Api::namespaced(shared.client.clone(), &namespace);
    match api.create(&PostParams::default(), &object).await {
        Ok(_) => Ok(()),
        Err(error) if api_client::error::is_already_exists(&error) => Ok(()),
        Err(error) => Err(Error::api(format!("write an event of {}", from.name))(error)),
    }
}
