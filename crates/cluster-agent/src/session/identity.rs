//! Getting and keeping the certificate.

use agent_protocol::{JoinRequest, PROTOCOL, ReattestRequest, RenewRequest, RenewResponse};
use jiff::Timestamp;

use super::Session;
use crate::connector::{HubConnector, Trust, pinned};
use crate::credentials::{Credentials, Identity};
use crate::error::Error;
use crate::hub_client::HubClient;

impl Session {
    /// The identity to talk with: the one on disk, a new one by token, or a re-attested one.
    pub(super) async fn ensure_identity(&self) -> Result<Identity, Error> {
        let known = self.credentials.identity()?;
        let fresh_token = self.join.as_ref().filter(|join| {
            known
                .as_ref()
                .is_none_or(|known| known.joined_with.as_deref() != Some(join.token_digest().as_str()))
        });
        if let Some(known) = &known {
            if known.cluster_uid != self.cluster_uid {
                return Err(Error::Invalid(format!(
                    "this state directory belongs to the cluster with uid {}, but the cluster reached has uid {}; \
                     use another directory for another cluster",
                    known.cluster_uid, self.cluster_uid
                )));
            }
            if fresh_token.is_none() {
                return if known.not_after > Timestamp::now() {
                    Ok(known.clone())
                } else {
                    self.reattest(known).await
                };
            }
        }
        match self.join_hub().await {
            Ok(identity) => Ok(identity),
            // A token that is used up must not keep out an agent that joined with it before.
            Err(error) => match known {
                Some(known) if known.not_after > Timestamp::now() => {
                    tracing::warn!(error = %error.chain(), "joining anew failed; going on with the certificate there is");
                    Ok(known)
                }
                Some(known) => self.reattest(&known).await.map_err(|_| error),
                None => Err(error),
            },
        }
    }

    async fn join_hub(&self) -> Result<Identity, Error> {
        let Some(join) = &self.join else {
            return Err(Error::Invalid(
                "this agent has not joined a hub and was given no join token".to_owned(),
            ));
        };
        let ca = self.trusted_ca().await?;
        let hub = HubClient::new(self.connector.anonymous(Some(&ca)).await?);
        let request = JoinRequest {
            protocol: PROTOCOL,
            cluster_uid: self.cluster_uid.clone(),
            name: join.name.clone(),
            csr_pem: self.credentials.signing_request()?,
            labels: join.labels.clone(),
            agent_version: self.version.clone(),
        };
        let answer = hub.join(&join.token, &request).await?;
        let identity = Identity {
            name: answer.name,
            cluster_uid: self.cluster_uid.clone(),
            issued: Timestamp::now(),
            not_after: parse_time(&answer.not_after)?,
            joined_with: Some(join.token_digest()),
        };
        self.credentials.save(&identity, &answer.certificate_pem, &answer.ca_pem)?;
        tracing::info!(cluster = %identity.name, "joined the hub");
        Ok(identity)
    }

    /// The authority to join under. With a pin, it is fetched from whoever answers and must have the pinned key.
    async fn trusted_ca(&self) -> Result<String, Error> {
        match &self.trust {
            Some(Trust::Ca(pem)) => Ok(pem.clone()),
            Some(Trust::Pin(pin)) => {
                let hub = HubClient::new(self.connector.anonymous(None).await?);
                pinned(&hub.ca().await?.ca_pem, pin)
            }
            None => Err(Error::Invalid("joining needs the hub's CA pin or CA certificate".to_owned())),
        }
    }

    pub(super) async fn renew(&self, hub: &HubClient, identity: &Identity) -> Result<Identity, Error> {
        let request = RenewRequest { csr_pem: self.credentials.signing_request()? };
        let answer = hub.renew(&request).await?;
        let renewed = self.keep(identity, &answer)?;
        tracing::info!(cluster = %identity.name, not_after = %answer.not_after, "certificate renewed");
        Ok(renewed)
    }

    pub(super) async fn reattest(&self, identity: &Identity) -> Result<Identity, Error> {
        let ca = self
            .credentials
            .ca()?
            .ok_or_else(|| Error::Invalid("the hub's authority is not known".to_owned()))?;
        let renewed = reattest(&*self.connector, &self.credentials, identity, &ca).await?;
        tracing::info!(cluster = %identity.name, "re-attested with the registered key");
        Ok(renewed)
    }

    fn keep(&self, identity: &Identity, answer: &RenewResponse) -> Result<Identity, Error> {
        keep(&self.credentials, identity, answer)
    }
}

/// Gets a new certificate by the registered key from a hub of the authority `ca`, and keeps it.
pub(crate) async fn reattest(
    connector: &dyn HubConnector,
    credentials: &Credentials,
    identity: &Identity,
    ca: &str,
) -> Result<Identity, Error> {
    let hub = HubClient::new(connector.anonymous(Some(ca)).await?);
    let request = ReattestRequest {
        name: identity.name.clone(),
        cluster_uid: identity.cluster_uid.clone(),
        csr_pem: credentials.signing_request()?,
    };
    keep(credentials, identity, &hub.reattest(&request).await?)
}

fn keep(credentials: &Credentials, identity: &Identity, answer: &RenewResponse) -> Result<Identity, Error> {
    let renewed =
        Identity { issued: Timestamp::now(), not_after: parse_time(&answer.not_after)?, ..identity.clone() };
    credentials.save(&renewed, &answer.certificate_pem, &answer.ca_pem)?;
    Ok(renewed)
}

fn parse_time(text: &str) -> Result<Timestamp, Error> {
    text.parse().map_err(|error| Error::Invalid(format!("hub: the certificate's end {text:?}: {error}")))
}
