//! The way from the API server to the node agents of the same process.

use std::collections::HashMap;

use apiserver::{LogOptions, LogStream, NodeConnection};
use async_trait::async_trait;
use kube_objects::Status;
use parking_lot::RwLock;

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
}

#[async_trait]
impl NodeConnection for LocalNodes {
    async fn logs(
        &self,
        node: &str,
        namespace: &str,
        pod: &str,
        uid: &str,
        container: &str,
        options: LogOptions,
    ) -> Result<LogStream, Status> {
        let agent = self.agents.read().get(node).map(|agent| agent.0.clone());
        let agent = agent.ok_or_else(|| Status::not_found("", "nodes", node))?;
        let options = node_agent::LogOptions {
            follow: options.follow,
            previous: options.previous,
            tail_lines: options.tail_lines,
            since_seconds: options.since_seconds,
            since_time: options.since_time,
            timestamps: options.timestamps,
            limit_bytes: options.limit_bytes,
        };
        agent.logs(namespace, pod, uid, container, &options).await
    }
}
