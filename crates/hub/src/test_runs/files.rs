//! The files that runs keep: which there are and how much of each has come, reading them (from any byte on), and taking in
//! those that agents send piece by piece.

use agent_protocol::ArtifactState;
use bytes::Bytes;
use fleet_objects::partition_namespace;
use fleet_objects::test_run::{Artifact, TestExecution, TestRun};
use futures::StreamExt as _;
use http::{HeaderMap, Response, StatusCode, header};
use http_body_util::{BodyExt as _, StreamBody};
use kube::{Api, ResourceExt as _};
use kube_objects::{Reason, Status};
use sealing::Input;
use serde::Serialize;
use tower::BoxError;

use super::artifacts::{Chunk, Place};
use super::endpoints::{Body, Endpoints, empty, internal, respond};
use super::fired;

/// Bytes of a file that are read at once for one reader.
const PIECE: usize = 256 << 10;

/// A file of a run, as the list of them tells it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct File {
    cluster: String,
    step: String,
    attempt: u32,
    #[serde(flatten)]
    artifact: Artifact,
    /// Bytes that have come.
    received: u64,
    state: State,
    /// Why it does not come.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
enum State {
    /// It can be read.
    Stored,
    /// It is on its way, or at an agent that is away.
    Pending,
    /// The run may not keep it.
    Refused,
    /// It will not come.
    Lost,
}

/// Where a reader wants to begin: `Range: bytes=N-`, the one form that goes on with what broke off. Others are answered
/// whole, as RFC 9110 lets a server do.
pub(super) fn from(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::RANGE)?.to_str().ok()?.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok()
}

impl Endpoints {
    /// Every file of a run, with how much of it there is.
    pub(super) async fn files(&self, run: &TestRun) -> Result<Vec<File>, Status> {
        let uid = run.uid().unwrap_or_default();
        let mut all = Vec::new();
        for result in run.status.iter().flat_map(|status| &status.clusters) {
            for step in &result.steps {
                for attempt in &step.attempts {
                    for artifact in &attempt.artifacts {
                        let known = self.artifacts.known(&uid, &artifact.sha256, &result.cluster).await;
                        let here = known.whole
                            || self.content.has(&artifact.sha256).await.map_err(|error| internal(&error))?;
                        let state = match &known.refused {
                            _ if here => State::Stored,
                            Some(_) => State::Refused,
                            None if !artifact.lost.is_empty() => State::Lost,
                            None => State::Pending,
                        };
                        let lost = Some(artifact.lost.clone()).filter(|why| !here && !why.is_empty());
                        all.push(File {
                            cluster: result.cluster.clone(),
                            step: step.name.clone(),
                            attempt: attempt.attempt,
                            artifact: artifact.clone(),
                            received: if here { artifact.size } else { known.received },
                            state,
                            reason: known.refused.or(lost),
                        });
                    }
                }
            }
        }
        Ok(all)
    }

    /// Reads a file of `(cluster, step, attempt)`.
    pub(super) async fn artifact(
        &self,
        run: &TestRun,
        (cluster, step, attempt): (&str, &str, &str),
        path: &str,
        from: Option<u64>,
    ) -> Result<Response<Body>, Status> {
        let missing = |what: &str| Status::new(Reason::NotFound, what);
        let found = run
            .status
            .iter()
            .flat_map(|status| &status.clusters)
            .filter(|result| result.cluster == cluster)
            .flat_map(|result| &result.steps)
            .filter(|result| result.name == step)
            .flat_map(|result| &result.attempts)
            .filter(|result| result.attempt.to_string() == attempt)
            .flat_map(|result| &result.artifacts)
            .find(|artifact| artifact.path == path)
            .ok_or_else(|| missing(&format!("the run kept no {path} of {cluster}/{step}/{attempt}")))?;
        let uid = run.uid().unwrap_or_default();
        if let Some((file, size)) = self.artifacts.open_whole(&uid, &found.sha256).await {
            return stream(file, size, from).await;
        }
        let content = self.content.content(&found.sha256).await.map_err(|error| internal(&error))?;
        if let Some(content) = content {
            return Ok(respond(StatusCode::OK, "application/octet-stream", content));
        }
        let known = self.artifacts.known(&uid, &found.sha256, cluster).await;
        Err(missing(&match known.refused {
            Some(why) => format!("{path} of cluster {cluster} was not kept: {why}"),
            None if !found.lost.is_empty() => format!("{path} of cluster {cluster} is lost: {}", found.lost),
            None => format!(
                "{path} is pending: {} of {} bytes have arrived from cluster {cluster}; try again later",
                known.received, found.size
            ),
        }))
    }

    /// How much there is of a file that `cluster` sends.
    pub(crate) async fn upload_state(
        &self,
        cluster: &str,
        (execution, uid, sha256): (&str, &str, &str),
    ) -> Result<ArtifactState, Status> {
        let run_uid = &self.run_of(cluster, execution, uid).await?;
        self.artifacts.state(Place { run_uid, cluster, sha256 }).await
    }

    /// Takes in a chunk that `cluster` sends.
    pub(crate) async fn upload(
        &self,
        cluster: &str,
        (execution, uid, sha256): (&str, &str, &str),
        chunk: Chunk,
    ) -> Result<ArtifactState, Status> {
        let run_uid = &self.run_of(cluster, execution, uid).await?;
        self.artifacts.append(Place { run_uid, cluster, sha256 }, chunk).await
    }

    /// The run follows from the execution as the hub knows it, in the partition of who asks; never from what is claimed.
    async fn run_of(&self, cluster: &str, execution: &str, uid: &str) -> Result<String, Status> {
        let executions: Api<TestExecution> =
            Api::namespaced(self.client.clone(), &partition_namespace(cluster));
        let found = executions.get_opt(execution).await.map_err(|error| internal(&error))?;
        let found = found.filter(|found| fired::is_about(found, uid));
        let found = found.ok_or_else(|| {
            Status::new(
                Reason::NotFound,
                format!("cluster {cluster} has no execution {execution} with this uid"),
            )
        })?;
        Ok(found.spec.run.uid)
    }
}

/// A file from one of its bytes on, as its reader takes it.
async fn stream(mut file: Input, size: u64, from: Option<u64>) -> Result<Response<Body>, Status> {
    let begin = from.unwrap_or(0);
    let mut answer = Response::builder()
        .header(header::CONTENT_TYPE, "application/octet-stream")
        .header(header::ACCEPT_RANGES, "bytes");
    if from.is_some() && begin >= size {
        let answer = answer.status(StatusCode::RANGE_NOT_SATISFIABLE);
        let answer = answer.header(header::CONTENT_RANGE, format!("bytes */{size}")).body(empty());
        return answer.map_err(Status::internal);
    }
    if from.is_some() {
        file.seek(begin).map_err(|error| internal(&error))?;
        let range = format!("bytes {begin}-{}/{size}", size - 1);
        answer = answer.status(StatusCode::PARTIAL_CONTENT).header(header::CONTENT_RANGE, range);
    }
    let frames = pieces(file).map(|piece: std::io::Result<Bytes>| {
        piece.map(http_body::Frame::data).map_err(|error| Box::new(error) as BoxError)
    });
    let answer = answer.header(header::CONTENT_LENGTH, size - begin);
    answer.body(StreamBody::new(frames).boxed_unsync()).map_err(Status::internal)
}

/// What is left of a file, piece by piece; it ends with the first that cannot be read.
fn pieces(file: Input) -> impl futures::Stream<Item = std::io::Result<Bytes>> + Send {
    futures::stream::unfold(Some(file), |file| async {
        let mut file = file?;
        let read = tokio::task::spawn_blocking(move || file.next(PIECE).map(|piece| (piece, file))).await;
        match read.map_err(std::io::Error::other).and_then(|read| read) {
            Ok((piece, _)) if piece.is_empty() => None,
            Ok((piece, file)) => Some((Ok(Bytes::from(piece)), Some(file))),
            Err(error) => Some((Err(error), None)),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_on_says_where() {
        let of = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::RANGE, text.parse().expect("a value"));
            from(&headers)
        };
        assert_eq!(of("bytes=0-"), Some(0));
        assert_eq!(of("bytes=1048576-"), Some(1_048_576));
        for other in ["bytes=1-2", "bytes=-5", "bytes=1-,5-", "lines=1-", "bytes=99999999999999999999-"] {
            assert_eq!(of(other), None, "{other}");
        }
        assert_eq!(from(&HeaderMap::new()), None);
    }
}
