//! The way from the API server to the node agents of the same process.

use std::collections::HashMap;

use apiserver::{LogOptions, LogStream, NodeConnection, PodReference};
use async_trait::async_trait;
use kube_objects::Status;
use parking_lot::RwLock;
use streams::{Duplex, RemoteCommand, Streams};

/// The node agents of this process by node name. The API server is made before them, so they come in later.
#[derive(Debug, Default)]
pub(crate) struct LocalNodes {
    agents: RwLock<HashMap<String, AgentHandle>>,
}

struct AgentHandle(node_agent::Handle);

impl std::fmt::Debug for AgentHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0.node_name())
    }
}

impl LocalNodes {
    pub(crate) fn add(&self, agent: node_agent::Handle) {
        self.agents.write().insert(agent.node_name().to_owned(), AgentHandle(agent));
    }

    fn agent(&self, node: &str) -> Result<node_agent::Handle, Status> {
        let agent = self.agents.read().get(node).map(|agent| agent.0.clone());
        agent.ok_or_else(|| Status::not_found("", "nodes", node))
    }
}

#[async_trait]
impl NodeConnection for LocalNodes {
    async fn logs(
        &self,
        pod: &PodReference,
        container: &str,
        options: LogOptions,
    ) -> Result<LogStream, Status> {
        let options = node_agent::LogOptions {
            follow: options.follow,
            previous: options.previous,
            tail_lines: options.tail_lines,
            since_seconds: options.since_seconds,
            since_time: options.since_time,
            timestamps: options.timestamps,
            limit_bytes: options.limit_bytes,
        };
        self.agent(&pod.node)?.logs(&pod.namespace, &pod.name, &pod.uid, container, &options).await
    }

    async fn exec(
        &self,
        pod: &PodReference,
        container: &str,
        command: &[String],
        streams: Streams,
    ) -> Result<RemoteCommand, Status> {
        self.agent(&pod.node)?.exec(&pod.uid, container, command, streams).await
    }

    async fn attach(
        &self,
        pod: &PodReference,
        container: &str,
        streams: Streams,
    ) -> Result<RemoteCommand, Status> {
        self.agent(&pod.node)?.attach(&pod.uid, container, streams).await
    }

    async fn port_forward(&self, pod: &PodReference, port: u16) -> Result<Duplex, Status> {
        self.agent(&pod.node)?.port_forward(&pod.uid, port).await
    }

    async fn connect(&self, pod: &PodReference, port: u16) -> Result<Duplex, Status> {
        self.agent(&pod.node)?.connect(&pod.uid, port).await
    }

    async fn is_healthy(&self, node: &str) -> Result<bool, Status> {
        Ok(self.agent(node)?.is_running())
    }
}
