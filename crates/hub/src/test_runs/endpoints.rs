//! `GET /fleet/v1/testruns/<namespace>/<name>/log`, `…/artifacts` and `…/artifacts/<cluster>/<step>/<attempt>/<path>`.
//!
//! Whoever may `get` the sub-resource `testruns/log` or `testruns/artifacts` in the run's namespace may read them.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fleet_objects::test_run::TestRun;
use futures::{Stream, StreamExt, stream};
use http::{Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use kube::api::PostParams;
use kube::{Api, Client, ResourceExt};
use kube_objects::{Reason, Status, UserInfo};
use percent_encoding::percent_decode_str;
use tower::BoxError;

use super::{ArtifactStore, ContentSource, LogStore, files};

/// The body of an answer.
pub type Body = UnsyncBoxBody<Bytes, BoxError>;

/// How often a follower looks whether the run has ended.
const POLL: Duration = Duration::from_secs(1);

/// Answers requests; cheap to clone.
#[derive(Clone)]
pub struct Endpoints {
    pub(super) client: Client,
    logs: Arc<LogStore>,
    pub(super) artifacts: Arc<ArtifactStore>,
    pub(super) content: Arc<dyn ContentSource>,
}

impl Endpoints {
    pub(super) fn new(
        client: Client,
        logs: Arc<LogStore>,
        artifacts: Arc<ArtifactStore>,
        content: Arc<dyn ContentSource>,
    ) -> Self {
        Self { client, logs, artifacts, content }
    }

    /// Answers one request; `user` is who the server found out it comes from.
    pub async fn answer<B>(&self, user: &UserInfo, request: &Request<B>) -> Response<Body> {
        match self.route(user, request).await {
            Ok(response) => response,
            Err(status) => {
                let code = StatusCode::from_u16(status.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
                let body = serde_json::to_vec(&status.to_json()).unwrap_or_default();
                respond(code, "application/json", body.into())
            }
        }
    }

    async fn route<B>(&self, user: &UserInfo, request: &Request<B>) -> Result<Response<Body>, Status> {
        let path = request.uri().path();
        let parts: Vec<String> =
            path.split('/').skip_while(|part| *part != "testruns").skip(1).map(decoded).collect();
        if request.method() != http::Method::GET {
            return Err(Status::new(Reason::MethodNotAllowed, "only GET is answered here"));
        }
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        match parts.as_slice() {
            [namespace, name, "log"] => {
                let run = self.run(user, namespace, name, "log").await?;
                let query = query(request.uri().query().unwrap_or_default());
                Ok(self.log(run, &query))
            }
            [namespace, name, "artifacts"] => {
                let run = self.run(user, namespace, name, "artifacts").await?;
                let found = self.files(&run).await?;
                let body = serde_json::to_vec(&found).map_err(Status::internal)?;
                Ok(respond(StatusCode::OK, "application/json", body.into()))
            }
            [namespace, name, "artifacts", cluster, step, attempt, path @ ..] if !path.is_empty() => {
                let run = self.run(user, namespace, name, "artifacts").await?;
                let from = files::from(request.headers());
                self.artifact(&run, (*cluster, *step, *attempt), &path.join("/"), from).await
            }
            _ => Err(Status::new(Reason::NotFound, format!("there is nothing at {path}"))),
        }
    }

    async fn run(&self, user: &UserInfo, namespace: &str, name: &str, part: &str) -> Result<TestRun, Status> {
        let attributes = ResourceAttributes {
            group: Some("fleet.fairlead.dev".to_owned()),
            resource: Some("testruns".to_owned()),
            subresource: Some(part.to_owned()),
            verb: Some("get".to_owned()),
            namespace: Some(namespace.to_owned()),
            name: Some(name.to_owned()),
            ..ResourceAttributes::default()
        };
        let spec = SubjectAccessReviewSpec {
            user: Some(user.username.clone()),
            groups: Some(user.groups.clone()),
            resource_attributes: Some(attributes),
            ..SubjectAccessReviewSpec::default()
        };
        let reviews: Api<SubjectAccessReview> = Api::all(self.client.clone());
        let review = SubjectAccessReview { spec, ..SubjectAccessReview::default() };
        let review =
            reviews.create(&PostParams::default(), &review).await.map_err(|error| internal(&error))?;
        if !review.status.is_some_and(|status| status.allowed) {
            let message = format!(
                "user {:?} may not get testruns/{part} {name:?} in namespace {namespace:?}",
                user.username
            );
            return Err(Status::new(Reason::Forbidden, message));
        }
        let runs: Api<TestRun> = Api::namespaced(self.client.clone(), namespace);
        let found = runs.get_opt(name).await.map_err(|error| internal(&error))?;
        found.ok_or_else(|| {
            Status::new(Reason::NotFound, format!("there is no TestRun {name} in {namespace}"))
        })
    }

    fn log(&self, run: TestRun, query: &HashMap<String, String>) -> Response<Body> {
        let follow = query.get("follow").is_some_and(|value| value != "false");
        let state = Follow {
            only: query.get("cluster").cloned(),
            step: query.get("step").cloned(),
            follow,
            positions: HashMap::new(),
            endpoints: self.clone(),
            changes: self.logs.changes(),
            run,
            ended: false,
        };
        let frames = state.stream().map(|chunk| chunk.map(http_body::Frame::data));
        let body = StreamBody::new(frames).boxed_unsync();
        Response::builder()
            .header(http::header::CONTENT_TYPE, "application/x-ndjson")
            .body(body)
            .unwrap_or_else(|_| Response::new(empty()))
    }
}

/// A reader of a log.
struct Follow {
    endpoints: Endpoints,
    run: TestRun,
    only: Option<String>,
    step: Option<String>,
    follow: bool,
    positions: HashMap<String, u64>,
    changes: tokio::sync::watch::Receiver<u64>,
    ended: bool,
}

impl Follow {
    fn stream(self) -> impl Stream<Item = Result<Bytes, BoxError>> {
        stream::try_unfold(self, |mut this| async move {
            loop {
                let chunk = this.pass().await?;
                if !chunk.is_empty() {
                    return Ok(Some((Bytes::from(chunk), this)));
                }
                if this.ended || !this.follow {
                    return Ok(None);
                }
                let _ = tokio::time::timeout(POLL, this.changes.changed()).await;
                // The end is looked for before the last pass, so that nothing between the two is missed.
                this.refresh().await?;
            }
        })
    }

    /// Everything new in every cluster, as JSON lines.
    async fn pass(&mut self) -> Result<Vec<u8>, BoxError> {
        let mut out = Vec::new();
        let uid = self.run.uid().unwrap_or_default();
        let clusters = self.run.status.as_ref().map(|status| status.clusters.clone()).unwrap_or_default();
        for cluster in clusters.iter().filter(|c| self.only.as_ref().is_none_or(|only| *only == c.cluster)) {
            let position = self.positions.entry(cluster.cluster.clone()).or_default();
            let (pieces, end) = self.endpoints.logs.read(&uid, &cluster.cluster, *position).await?;
            *position = end;
            for piece in pieces.iter().filter(|p| self.step.as_ref().is_none_or(|step| *step == p.step)) {
                serde_json::to_writer(&mut out, piece)?;
                out.push(b'\n');
            }
        }
        Ok(out)
    }

    async fn refresh(&mut self) -> Result<(), BoxError> {
        let namespace = self.run.namespace().unwrap_or_default();
        let runs: Api<TestRun> = Api::namespaced(self.endpoints.client.clone(), &namespace);
        let Some(run) = runs.get_opt(&self.run.name_any()).await? else {
            self.ended = true;
            return Ok(());
        };
        self.ended = run.uid() != self.run.uid() || has_ended(&run);
        if !self.ended || run.uid() == self.run.uid() {
            self.run = run;
        }
        Ok(())
    }
}

fn has_ended(run: &TestRun) -> bool {
    let conditions = run.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    conditions.iter().any(|condition| condition.type_ == "Succeeded" && condition.status != "Unknown")
}

fn query(text: &str) -> HashMap<String, String> {
    let pairs = text.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decoded(name), decoded(value))
        })
        .collect()
}

fn decoded(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

pub(super) fn internal(error: &dyn std::error::Error) -> Status {
    Status::internal(error)
}

pub(super) fn respond(code: StatusCode, kind: &'static str, content: Bytes) -> Response<Body> {
    let body = Full::new(content).map_err(|never: Infallible| match never {}).boxed_unsync();
    Response::builder()
        .status(code)
        .header(http::header::CONTENT_TYPE, kind)
        .body(body)
        .unwrap_or_else(|_| Response::new(empty()))
}

pub(super) fn empty() -> Body {
    Full::new(Bytes::new()).map_err(|never: Infallible| match never {}).boxed_unsync()
}
