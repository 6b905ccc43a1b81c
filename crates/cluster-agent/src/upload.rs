//! Files of tests, handed on to the hub.

use std::time::Duration;

use agent_protocol::ARTIFACT_CHUNK;
use tracing::{info, warn};

use crate::error::Error;
use crate::executor::{ContentUpload, DAMAGED, LargeFile, SinkError};
use crate::hub_client::HubClient;

/// How long to wait when the hub says that this cluster asks too much.
const SLOWER: Duration = Duration::from_secs(1);
/// How often a file whose digest the hub does not find is sent anew.
const ANEW: u32 = 2;

/// Over a client of the hub.
pub(crate) struct Upload(pub(crate) HubClient);

#[async_trait::async_trait]
impl ContentUpload for Upload {
    async fn put(&self, sha256: &str, content: Vec<u8>) -> Result<(), SinkError> {
        self.0.put_content(sha256, content).await.map_err(|error| SinkError::Unavailable(error.chain()))
    }

    async fn send(&self, file: &LargeFile) -> Result<(), SinkError> {
        let place = format!("{}/{}/{}", file.execution, file.uid, file.sha256);
        let mut state = self.0.artifact(&place).await.map_err(failed)?;
        let from = state.received;
        let mut anew = 0;
        while !state.whole {
            if let Some(why) = state.refused {
                return Err(SinkError::Refused(why));
            }
            let offset = state.received.min(file.size);
            let chunk = chunk(file, offset).await?;
            let told = self.0.put_artifact(&place, offset, file.size, chunk).await;
            state = match told {
                Ok(state) => state,
                Err(Error::Refused { code: 429, .. }) => {
                    tokio::time::sleep(SLOWER).await;
                    continue_from(offset)
                }
                // Somebody else of the run sends the same, or an answer was lost.
                Err(Error::Refused { code: 409, .. }) => self.0.artifact(&place).await.map_err(failed)?,
                Err(Error::Refused { code: 422, message, .. }) => {
                    anew += 1;
                    warn!(sha256 = %file.sha256, %message, "a large file did not arrive as it was sent");
                    if anew > ANEW {
                        return Err(SinkError::Refused(message));
                    }
                    self.0.artifact(&place).await.map_err(failed)?
                }
                Err(error) => return Err(failed(error)),
            };
        }
        info!(sha256 = %file.sha256, from, size = file.size, "a large file was sent");
        Ok(())
    }
}

fn continue_from(received: u64) -> agent_protocol::ArtifactState {
    agent_protocol::ArtifactState { received, ..Default::default() }
}

/// What stands in the file from `offset` on.
async fn chunk(file: &LargeFile, offset: u64) -> Result<Vec<u8>, SinkError> {
    let own = file.clone();
    let read = tokio::task::spawn_blocking(move || own.piece(offset, ARTIFACT_CHUNK)).await;
    read.map_err(|error| SinkError::Unavailable(error.to_string()))?.map_err(|error| match error.kind() {
        std::io::ErrorKind::InvalidData => SinkError::Refused(DAMAGED.to_owned()),
        _ => SinkError::Unavailable(error.to_string()),
    })
}

fn failed(error: Error) -> SinkError {
    match error {
        Error::Refused { code: 404, .. } => SinkError::Unknown,
        Error::Refused { code: 413, message, .. } => SinkError::Refused(message),
        error => SinkError::Unavailable(error.chain()),
    }
}
