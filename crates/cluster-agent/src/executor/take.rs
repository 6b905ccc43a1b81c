//! Files that are too large for a log: taken from the pod's collector by `exec`, onto the agent's disk. What breaks off goes
//! on where it was, also when the agent was started anew meanwhile.

use std::time::Duration;

use fleet_objects::test_run::Artifact;
use http_body_util::BodyExt as _;
use hyper_util::rt::TokioIo;
use kube::client::Body;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use streams::output::{self, CommandOutput, Output};
use tracing::{info, warn};
use uuid::Uuid;
use workflow::collect::{PACKS, Skipped};
use workflow::fold::Collection;
use workflow::pod;

use super::content::{Incoming, Owner};
use super::run::Execution;

/// Tries without a byte more than before.
const TRIES: u32 = 8;
/// Between two tries.
const RETRY: Duration = Duration::from_secs(1);
/// How long nothing may come.
const SILENCE: Duration = Duration::from_secs(60);
/// Bytes of an API server's refusal that are read.
const MAX_REFUSAL: usize = 64 << 10;

/// What a query carries as it is (RFC 3986).
const QUERY: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');

/// Why a file did not come whole.
pub(super) enum Trouble {
    /// It may come at the next try.
    Broken(String),
    /// It will not.
    Final(String),
}

impl Execution {
    /// Takes what a pod's collector holds. What does not come is left out, with why.
    pub(super) async fn take_held(&self, pod: &str, collection: Collection) -> Collection {
        let (files, mut skipped) = collection?;
        let mut kept = Vec::with_capacity(files.len());
        for mut file in files {
            if let Some(name) = file.artifact.path.strip_prefix(PACKS) {
                // Who was to have it finds that it is not there.
                if let Err(reason) = self.take_pack(pod, &file.artifact, name).await {
                    warn!(pod, pack = name, %reason, "files for another pod were not taken");
                }
                continue;
            }
            if file.held {
                match self.take(pod, &file.artifact).await {
                    Ok((sha256, size)) => (file.artifact.sha256, file.artifact.size) = (sha256, size),
                    Err(reason) => {
                        warn!(pod, size = file.artifact.size, %reason, "a large file is not kept");
                        skipped.push(Skipped { path: file.artifact.path, reason });
                        continue;
                    }
                }
            }
            kept.push(file);
        }
        Ok((kept, skipped))
    }

    /// Digest and size of what was kept: values of secrets are not in it any more.
    async fn take(&self, pod: &str, artifact: &Artifact) -> Result<(String, u64), String> {
        if let Some(taken) = self.shared.spool.taken(pod, artifact).await {
            return Ok(taken);
        }
        let incoming = self.whole(pod, artifact).await?;
        self.shared.spool.arrived(incoming, &self.owner(), artifact, self.secrets.mask()).await
    }

    /// A pack stays in the cluster as it is.
    async fn take_pack(&self, pod: &str, artifact: &Artifact, name: &str) -> Result<(), String> {
        let incoming = self.whole(pod, artifact).await?;
        self.shared.spool.keep_pack(incoming, &self.owner(), name).await
    }

    pub(super) fn owner(&self) -> Owner {
        Owner { execution: self.execution_name().to_owned(), uid: self.uid.clone() }
    }

    /// Takes all of a file.
    async fn whole(&self, pod: &str, artifact: &Artifact) -> Result<Incoming, String> {
        let mut incoming = self.shared.spool.begin(pod, artifact).await?;
        info!(pod, size = artifact.size, from = incoming.length(), "takes a large file");
        let (mut tries, mut anew) = (0, false);
        loop {
            let before = incoming.length();
            let broken = match self.stream(pod, artifact, &mut incoming).await {
                Ok(()) => "the command ended early".to_owned(),
                Err(Trouble::Broken(why)) => why,
                Err(Trouble::Final(why)) => return Err(why),
            };
            incoming.pause().await?;
            if incoming.length() == artifact.size {
                if incoming.digest() == artifact.sha256 {
                    return Ok(incoming);
                }
                if anew {
                    return Err("its content does not have the digest that the collector gave".to_owned());
                }
                anew = true;
                incoming.restart().await?;
                continue;
            }
            tries = if incoming.length() > before { 0 } else { tries + 1 };
            if tries >= TRIES {
                let (length, size) = (incoming.length(), artifact.size);
                return Err(format!("it broke off after {length} of {size} bytes: {broken}"));
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    /// Writes down what comes, until the file is whole or nothing comes any more.
    async fn stream(&self, pod: &str, artifact: &Artifact, incoming: &mut Incoming) -> Result<(), Trouble> {
        let broken = |error: &dyn std::fmt::Display| Trouble::Broken(error.to_string());
        let (file, from) = (format!("{}/{}", pod::FILES_DIR, artifact.path), incoming.length().to_string());
        let command = ["take", "--from", from.as_str(), file.as_str()];
        let mut output = self.exec(pod, pod::COLLECTOR, &command, false).await?;
        let (mut ended, mut said) = (Ok(()), String::new());
        while incoming.length() < artifact.size {
            let next = tokio::select! {
                next = tokio::time::timeout(SILENCE, output.next()) => next,
                () = self.cancel.cancelled() => return Err(Trouble::Final("the run was cancelled".to_owned())),
            };
            let next = next.map_err(|_| Trouble::Broken("nothing came for too long".to_owned()))?;
            match next.map_err(|error| broken(&error))? {
                Some(Output::Stdout(bytes)) => {
                    if incoming.length() + bytes.len() as u64 > artifact.size {
                        return Err(Trouble::Final("it is larger than the collector said".to_owned()));
                    }
                    incoming.write(&bytes).await.map_err(Trouble::Final)?;
                }
                Some(Output::Stderr(bytes)) if said.len() < MAX_REFUSAL => {
                    said.push_str(&String::from_utf8_lossy(&bytes));
                }
                Some(Output::Stderr(_)) => {}
                Some(Output::Ended(how)) => ended = how,
                None => break,
            }
        }
        ended.map_err(|why| Trouble::Broken(if said.is_empty() { why } else { said.trim().to_owned() }))
    }

    /// Runs a command line of the tool in a container of the tool image.
    pub(super) async fn exec(
        &self,
        pod: &str,
        container: &str,
        command: &[&str],
        stdin: bool,
    ) -> Result<CommandOutput<TokioIo<hyper::upgrade::Upgraded>>, Trouble> {
        let broken = |error: &dyn std::fmt::Display| Trouble::Broken(error.to_string());
        let mut path = format!(
            "/api/v1/namespaces/{}/pods/{pod}/exec?container={container}&stdin={stdin}&stdout=true&stderr=true",
            self.shared.options.namespace,
        );
        for word in ["/fairlead", "tool"].iter().chain(command) {
            path.push_str("&command=");
            path.extend(utf8_percent_encode(word, QUERY));
        }
        let key = *Uuid::new_v4().as_bytes();
        let request = output::request(&path, key).body(Body::empty());
        let request = request.map_err(|error| Trouble::Final(error.to_string()))?;
        let answer = self.shared.cluster.send(request).await.map_err(|error| broken(&error))?;
        let status = answer.status();
        if status != http::StatusCode::SWITCHING_PROTOCOLS {
            let body = http_body_util::Limited::new(answer.into_body(), MAX_REFUSAL).collect().await;
            let body = body.map(|body| body.to_bytes()).unwrap_or_default();
            let told: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
            let why = told["message"].as_str().map_or_else(|| format!("HTTP status {status}"), str::to_owned);
            let why = format!("the cluster does not let it be taken: {why}");
            let may_pass = status.is_server_error() || matches!(status.as_u16(), 408 | 409 | 429);
            return Err(if may_pass { Trouble::Broken(why) } else { Trouble::Final(why) });
        }
        output::check(answer.headers(), key).map_err(|error| broken(&error))?;
        let connection = hyper::upgrade::on(answer).await.map_err(|error| broken(&error))?;
        Ok(CommandOutput::new(TokioIo::new(connection)).await)
    }
}
