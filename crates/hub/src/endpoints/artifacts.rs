//! Files of tests, as agents send them: piece by piece.

use agent_protocol::{ARTIFACT_CHUNK, CHUNK_SHA256};
use fleet_objects::AgentIdentity;
use http::{Method, Request, Response};
use kube_objects::{Reason, Status};

use super::{Body, Router, collect, json, query};
use crate::test_runs::Chunk;

impl Router {
    pub(super) async fn artifact(
        &self,
        agent: &AgentIdentity,
        method: &Method,
        file: (&str, &str, &str),
        request: Request<Body>,
    ) -> Result<Response<Body>, Status> {
        let endpoints = &self.shared.test_endpoints;
        match *method {
            Method::GET => json(&endpoints.upload_state(&agent.name, file).await?),
            Method::PUT => {
                let given = query(request.uri().query().unwrap_or_default());
                let number = |name: &str| {
                    let value = given.get(name).and_then(|value| value.parse().ok());
                    value.ok_or_else(|| {
                        Status::new(Reason::BadRequest, format!("{name} must be a whole number"))
                    })
                };
                let (offset, size) = (number("offset")?, number("size")?);
                let sha256 = request.headers().get(CHUNK_SHA256).and_then(|value| value.to_str().ok());
                let sha256 = sha256.unwrap_or_default().to_owned();
                let bytes = collect(request, ARTIFACT_CHUNK).await?;
                json(&endpoints.upload(&agent.name, file, Chunk { offset, size, sha256, bytes }).await?)
            }
            _ => Err(Status::new(Reason::MethodNotAllowed, "only GET and PUT are answered here")),
        }
    }
}
