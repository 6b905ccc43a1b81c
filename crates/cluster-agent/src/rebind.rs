//! An agent is told by a person that its hub has another authority, another place, or both: for what it could not learn
//! because it was away. The key it registered is its proof; no token is needed, and nothing it holds is touched.

use std::path::Path;

use crate::connector::{HubConnector as _, Places, TlsConnector, pinned};
use crate::credentials::{Credentials, Identity};
use crate::error::Error;
use crate::hub_client::HubClient;
use crate::session::identity::reattest;

/// Binds the agent of a state directory to the hub at `url` whose authority has the key `pin`. A running agent goes on
/// with what was written here when it connects the next time. Nothing is changed unless that hub knows the agent's key.
///
/// # Errors
/// When the agent has not joined, the hub does not answer, has another key, or does not know the agent.
pub async fn rebind(directory: &Path, url: &str, pin: &str) -> Result<Identity, Error> {
    let credentials = Credentials::open(directory.join("credentials"))?;
    let identity = credentials
        .identity()?
        .ok_or_else(|| Error::Invalid("this agent has not joined a hub; it needs a join token".to_owned()))?;
    let connector = TlsConnector::new(url)?;
    let shown = HubClient::new(connector.anonymous(None).await?).ca().await?;
    let ca = pinned(&shown.ca_pem, pin)?;
    let renewed = reattest(&connector, &credentials, &identity, &ca).await?;
    Places { rebound: Some(url.to_owned()), announced: None }.write(directory)?;
    Ok(renewed)
}
