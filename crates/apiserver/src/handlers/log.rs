//! `pods/log`: from the node that runs the pod.

use bytes::Bytes;
use futures::StreamExt;
use http::Response;
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use kube_objects::{Reason, Status};
use serde_json::Value;

use super::{Call, get};
use crate::extension::{Body, BoxError};
use crate::http::response;
use crate::node_connection::LogOptions;

/// Serves it.
pub(crate) async fn serve(call: &Call) -> Result<Response<Body>, Status> {
    let pod = get::find(call).await?.encoded.to_value();
    let container = container(call, &pod)?;
    let options = options(call)?;
    let node = pod["spec"]["nodeName"].as_str().unwrap_or_default();
    if node.is_empty() {
        // Upstream answers an empty log for a pod that has no node yet.
        return Ok(response::plain(200, "text/plain", Bytes::new()));
    }
    let nodes = call.server.nodes.as_ref().ok_or_else(|| {
        Status::new(
            Reason::ServiceUnavailable,
            "this server has no connection to its nodes: logs are not available",
        )
    })?;
    let uid = pod["metadata"]["uid"].as_str().unwrap_or_default();
    let stream = nodes.logs(node, call.namespace(), &call.path.name, uid, &container, options).await?;
    let stop = call.server.shutdown.clone().cancelled_owned();
    let frames = stream.take_until(stop).map(|chunk| chunk.map(Frame::data).map_err(BoxError::from));
    let mut answer = response::plain(200, "text/plain", Bytes::new());
    *answer.body_mut() = StreamBody::new(frames).boxed_unsync();
    Ok(answer)
}

fn container(call: &Call, pod: &Value) -> Result<String, Status> {
    let name = &call.path.name;
    let names = |key: &str| -> Vec<String> {
        let list = pod["spec"][key].as_array().into_iter().flatten();
        list.filter_map(|container| container["name"].as_str().map(str::to_owned)).collect()
    };
    let main = names("containers");
    let bad = |message: String| Status::new(Reason::BadRequest, message);
    match call.query.text("container") {
        None if main.len() == 1 => Ok(main.concat()),
        None => {
            let init = names("initContainers");
            let init = if init.is_empty() {
                String::new()
            } else {
                format!(" or one of the init containers: [{}]", init.join(" "))
            };
            Err(bad(format!(
                "a container name must be specified for pod {name}, choose one of: [{}]{init}",
                main.join(" ")
            )))
        }
        Some(wanted) => {
            let all = [main, names("initContainers"), names("ephemeralContainers")].concat();
            if all.iter().any(|own| own == wanted) {
                Ok(wanted.to_owned())
            } else {
                Err(bad(format!("container {wanted} is not valid for pod {name}")))
            }
        }
    }
}

fn options(call: &Call) -> Result<LogOptions, Status> {
    let query = &call.query;
    let since_time = match query.text("sinceTime") {
        None => None,
        Some(text) => Some(text.parse().map_err(|_| {
            Status::new(Reason::BadRequest, format!("invalid value {text:?} of parameter sinceTime"))
        })?),
    };
    Ok(LogOptions {
        follow: query.flag("follow"),
        previous: query.flag("previous"),
        tail_lines: query.number("tailLines")?,
        since_seconds: query.number("sinceSeconds")?,
        since_time,
        timestamps: query.flag("timestamps"),
        limit_bytes: query.number("limitBytes")?,
    })
}
