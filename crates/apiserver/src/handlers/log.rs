//! `pods/log`: from the node that runs the pod.

use bytes::Bytes;
use futures::StreamExt;
use http::Response;
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use kube_objects::{Reason, Status, StatusCause};

use super::{Call, pods};
use crate::extension::{Body, BoxError};
use crate::http::response;
use crate::node_connection::{LogOptions, LogStream};

/// Serves it.
pub(crate) async fn serve(call: &Call) -> Result<Response<Body>, Status> {
    // Upstream has nothing to answer for a pod that has no node yet.
    let Some(stream) = open(call).await? else {
        return Ok(response::plain(204, "text/plain", Bytes::new()));
    };
    let stop = call.server.shutdown.clone().cancelled_owned();
    let frames = stream.take_until(stop).map(|chunk| chunk.map(Frame::data).map_err(BoxError::from));
    let mut answer = response::plain(200, "text/plain", Bytes::new());
    *answer.body_mut() = StreamBody::new(frames).boxed_unsync();
    Ok(answer)
}

/// The log that is asked for; `None` for a pod without a node.
pub(super) async fn open(call: &Call) -> Result<Option<LogStream>, Status> {
    let options = options(call)?;
    let target = pods::Target::of(call).await?;
    let container = target.container(call.query.text("container"))?;
    if target.reference.node.is_empty() {
        return Ok(None);
    }
    let previous = options.previous;
    let opened = call.nodes()?.logs(&target.reference, &container, options).await;
    opened.map(Some).map_err(|mut status| {
        // The node knows that there is nothing yet, the pod's status why.
        if status.reason == Some(Reason::BadRequest) && !previous {
            status.message = not_started(&target, &container);
        }
        status
    })
}

/// Why a container has no log yet (upstream `validateContainerLogStatus`).
fn not_started(target: &pods::Target, container: &str) -> String {
    let pod = &target.reference.name;
    let why = match target.waiting(container) {
        Some("ErrImagePull") => "image can't be pulled",
        Some("ImagePullBackOff") => "trying and failing to pull image",
        Some(reason) => reason,
        None => return format!("container \"{container}\" in pod \"{pod}\" is not available"),
    };
    format!("container \"{container}\" in pod \"{pod}\" is waiting to start: {why}")
}

/// Reads and checks the parameters (upstream `ValidatePodLogOptions`).
fn options(call: &Call) -> Result<LogOptions, Status> {
    let query = &call.query;
    let since_time = match query.text("sinceTime") {
        None => None,
        Some(text) => Some(text.parse().map_err(|_| {
            Status::new(Reason::BadRequest, format!("invalid value {text:?} of parameter sinceTime"))
        })?),
    };
    let mut causes = Vec::new();
    let mut cause = |reason: &str, field: &str, message: String| {
        causes.push(StatusCause { reason: reason.to_owned(), field: field.to_owned(), message });
    };
    let mut number = |key: &str, least: i64, why: &str| -> Result<Option<u64>, Status> {
        let Some(value) = query.number::<i64>(key)? else { return Ok(None) };
        if value < least {
            cause("FieldValueInvalid", key, format!("Invalid value: {value}: {why}"));
        }
        Ok(u64::try_from(value).ok())
    };
    let tail_lines = number("tailLines", 0, "must be greater than or equal to 0")?;
    let limit_bytes = number("limitBytes", 1, "must be greater than 0")?;
    let least = if since_time.is_some() { i64::MIN } else { 1 };
    let since_seconds = number("sinceSeconds", least, "must be greater than 0")?;
    if since_time.is_some() && query.text("sinceSeconds").is_some() {
        let why = "Forbidden: at most one of `sinceTime` or `sinceSeconds` may be specified";
        // Upstream's field path of nothing.
        cause("FieldValueForbidden", "[]", why.to_owned());
    }
    if query.text("stream").is_some() {
        // Upstream's feature PodLogsQuerySplitStreams is off by default.
        cause("FieldValueForbidden", "stream", "Forbidden: may not be specified".to_owned());
    }
    if !causes.is_empty() {
        return Err(Status::invalid("", "PodLogOptions", &call.path.name, causes));
    }
    Ok(LogOptions {
        follow: query.flag("follow"),
        previous: query.flag("previous"),
        tail_lines,
        since_seconds,
        since_time,
        timestamps: query.flag("timestamps"),
        limit_bytes,
    })
}
