//! From the interface's messages to what workers see.

use jiff::Timestamp;

use super::{CONTAINER_NAME, IMAGE, v1};
use crate::runtime::{ContainerObservation, ContainerState, SandboxObservation};

pub(super) fn sandbox(status: v1::PodSandboxStatus) -> SandboxObservation {
    let network = status.network.unwrap_or_default();
    let first = Some(network.ip).filter(|ip| !ip.is_empty());
    let further = network.additional_ips.into_iter().map(|ip| ip.ip);
    SandboxObservation {
        id: status.id,
        ready: status.state == 0,
        ips: first.into_iter().chain(further).collect(),
        attempt: status.metadata.map_or(0, |metadata| metadata.attempt),
    }
}

pub(super) fn container(status: v1::ContainerStatus) -> ContainerObservation {
    let metadata = status.metadata.unwrap_or_default();
    let state = match status.state {
        0 => ContainerState::Created,
        1 => ContainerState::Running { started_at: time(status.started_at) },
        // A state the runtime does not know is an end as far as anyone can tell.
        _ => ContainerState::Exited {
            started_at: time(if status.started_at > 0 { status.started_at } else { status.created_at }),
            finished_at: time(status.finished_at),
            exit_code: if status.state == 2 { status.exit_code } else { 255 },
            reason: match (status.reason.as_str(), status.exit_code) {
                ("", 0) => "Completed".to_owned(),
                ("", _) => "Error".to_owned(),
                (reason, _) => reason.to_owned(),
            },
            message: status.message,
        },
    };
    let named = status.annotations.get(IMAGE).cloned();
    ContainerObservation {
        id: status.id,
        name: status.labels.get(CONTAINER_NAME).cloned().unwrap_or(metadata.name),
        attempt: metadata.attempt,
        image: named.unwrap_or_else(|| status.image.map(|image| image.image).unwrap_or_default()),
        image_id: status.image_ref,
        state,
        modelled_ready: None,
    }
}

fn time(nanoseconds: i64) -> Timestamp {
    Timestamp::from_nanosecond(i128::from(nanoseconds)).unwrap_or(Timestamp::UNIX_EPOCH)
}
