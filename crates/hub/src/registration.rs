//! How a cluster becomes a member, and keeps its certificate.

use std::collections::BTreeMap;
use std::time::Duration;

use agent_protocol::{
    Approval, JoinRequest, JoinResponse, JoinToken, KeptToken, PROTOCOL, ReattestRequest, RenewRequest,
    RenewResponse, TOKEN_SECRET_TYPE,
};
use fleet_objects::{
    AGENT_GROUP, AgentIdentity, Cluster, ClusterSpec, ConditionChange, LABEL_CLUSTER_SET, Registration,
    SYSTEM_NAMESPACE, check_cluster_name, partition_namespace, set_condition,
};
use k8s_openapi::api::core::v1::{Namespace, Secret};
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::api::{ListParams, ObjectMeta, PostParams};
use kube::{Api, Client, ResourceExt};
use kube_objects::{Reason, Status};
use serde_json::json;

use crate::cluster_status;
use crate::error::Error;
use crate::guard::Standing;
use crate::issuer::{CertificateSubject, IssuedCertificate};
use crate::service::Shared;

const MANAGER: &str = "fairlead-hub";
/// The Role of an agent in its partition, and its binding.
pub(crate) const AGENT_RIGHTS: &str = "fairlead-agent";

/// Why a request is turned away, as a `Status`; the words are for the person who runs the agent.
fn forbidden(message: impl Into<String>) -> Status {
    Status::new(Reason::Forbidden, message)
}

fn unauthorized() -> Status {
    // One answer for every wrong token, so that trying tokens teaches nothing.
    Status::new(Reason::Unauthorized, "the join token is unknown, expired or already used; ask for a new one")
}

fn conflict(message: impl Into<String>) -> Status {
    let mut status = Status::new(Reason::AlreadyExists, message);
    status.code = 409;
    status
}

/// Whose a cluster is says the token alone: an agent that named its own set would choose whose secrets it is given.
fn admits_to_set(asked: &BTreeMap<String, String>, granted: &BTreeMap<String, String>) -> Result<(), Status> {
    match asked.get(LABEL_CLUSTER_SET) {
        Some(set) if granted.get(LABEL_CLUSTER_SET) != Some(set) => Err(forbidden(format!(
            "the join token does not let clusters into the cluster set {set:?}; one made with --cluster-set {set} does"
        ))),
        _ => Ok(()),
    }
}

/// A token found good, not used up yet.
struct Grant {
    secret: Secret,
    cluster: Option<String>,
    labels: BTreeMap<String, String>,
    approval: Approval,
}

impl Shared {
    /// Lets a cluster join.
    pub(crate) async fn join(&self, token: &str, request: JoinRequest) -> Result<JoinResponse, Status> {
        if request.protocol > PROTOCOL {
            let message = format!(
                "the agent speaks protocol {}, this hub {PROTOCOL}: upgrade the hub first",
                request.protocol
            );
            return Err(Status::new(Reason::BadRequest, message));
        }
        if !AgentIdentity::is_valid_uid(&request.cluster_uid) {
            return Err(Status::new(Reason::BadRequest, "clusterUid is not a uid"));
        }
        let token = JoinToken::parse(token).map_err(|_| unauthorized())?;
        let key =
            self.issuer.requested_key(&request.csr_pem).map_err(|error| Status::from(Error::from(error)))?;
        let claim = format!("{} {key}", request.cluster_uid);
        let grant = self.find_token(&token, &claim).await?;
        let (name, existing) = self.choose_name(&request, &grant, &key).await?;
        if existing.is_none() {
            admits_to_set(&request.labels, &grant.labels)?;
        }
        let pending = existing.as_ref().map_or(!grant.approval.covers(&name), |there| there.spec.pending);
        let identity = AgentIdentity { name: name.clone(), uid: request.cluster_uid.clone() };
        // Signed before the token is used up: a request that cannot be signed must not cost a token.
        let issued = self.sign(&request.csr_pem, &identity)?;
        self.consume_token(grant.secret, &claim).await?;
        self.write_cluster(&identity, existing, &request, grant.labels, pending).await?;
        self.register(&identity, &key, &issued).await?;
        self.partition_is_free(&name).await?;
        write_partition(&self.client, &identity).await?;
        if !pending {
            self.await_known(&identity).await;
        }
        tracing::info!(cluster = %name, uid = %identity.uid, pending, "a cluster joined");
        Ok(JoinResponse {
            name,
            certificate_pem: issued.certificate_pem,
            not_after: issued.not_after,
            ca_pem: self.issuer.ca_bundle(),
            hub_epoch: self.epoch.clone(),
        })
    }

    /// Of a former cluster of that name things may still be on their way out.
    async fn partition_is_free(&self, name: &str) -> Result<(), Status> {
        let api: Api<Namespace> = Api::all(self.client.clone());
        let found =
            api.get_opt(&partition_namespace(name)).await.map_err(Error::api("look up a partition"))?;
        if found.is_some_and(|namespace| namespace.metadata.deletion_timestamp.is_some()) {
            let message = format!("what is left of the former cluster {name:?} is being removed; try again");
            return Err(Status::new(Reason::ServiceUnavailable, message));
        }
        Ok(())
    }

    async fn find_token(&self, token: &JoinToken, claim: &str) -> Result<Grant, Status> {
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), SYSTEM_NAMESPACE);
        let found =
            secrets.get_opt(&token.secret_name()).await.map_err(Error::api("look up a join token"))?;
        let secret = found
            .filter(|secret| secret.type_.as_deref() == Some(TOKEN_SECRET_TYPE))
            .ok_or_else(unauthorized)?;
        let text = |key: &str| {
            let bytes = secret.data.as_ref().and_then(|data| data.get(key));
            bytes.and_then(|bytes| String::from_utf8(bytes.0.clone()).ok())
        };
        let kept = KeptToken::read(token.id(), text);
        if !token.matches(&kept.hash) || kept.ended(jiff::Timestamp::now()) {
            return Err(unauthorized());
        }
        // The same agent with the same key may ask again: the first answer may have been lost on the way.
        if kept.used_by.iter().all(|one| one != claim) && kept.used_by.len() >= kept.uses {
            return Err(unauthorized());
        }
        let KeptToken { cluster, labels, approval, .. } = kept;
        Ok(Grant { cluster, labels, approval, secret })
    }

    /// Notes a use by compare-and-set: of two agents with the last use of one token, one gets in.
    async fn consume_token(&self, mut secret: Secret, claim: &str) -> Result<(), Status> {
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), SYSTEM_NAMESPACE);
        let data = secret.data.get_or_insert_default();
        let used = data.get("usedBy").map(|used| String::from_utf8_lossy(&used.0).into_owned());
        let used = used.unwrap_or_default();
        if used.lines().any(|one| one == claim) {
            return Ok(());
        }
        let used = if used.is_empty() { claim.to_owned() } else { format!("{used}\n{claim}") };
        data.insert("usedBy".to_owned(), k8s_openapi::ByteString(used.into_bytes()));
        match secrets.replace(&secret.name_any(), &PostParams::default(), &secret).await {
            Ok(_) => Ok(()),
            // Somebody else used it at the same moment; the agent asks again, and is let in when there is a use left.
            Err(error) if api_client::error::is_conflict(&error) => {
                Err(Status::new(Reason::ServiceUnavailable, "the join token is being used; try again"))
            }
            Err(error) if api_client::error::is_not_found(&error) => Err(unauthorized()),
            Err(error) => Err(Error::api("use up a join token")(error).into()),
        }
    }

    async fn choose_name(
        &self,
        request: &JoinRequest,
        grant: &Grant,
        key: &str,
    ) -> Result<(String, Option<Cluster>), Status> {
        // Of the uid the cache decides, so that a thousand joins do not read a thousand clusters each; of the name the store.
        let all = self.clusters.list();
        let uid_of =
            |cluster: &Cluster| cluster.status.as_ref().and_then(|status| status.kube_system_uid.clone());
        let same =
            all.iter().find(|cluster| uid_of(cluster).as_deref() == Some(request.cluster_uid.as_str()));
        let name = same.map_or_else(|| request.name.clone(), |cluster| cluster.name_any());
        check_cluster_name(&name).map_err(|error| Status::new(Reason::BadRequest, error.to_string()))?;
        if let Some(only) = grant.cluster.as_ref().filter(|only| **only != name) {
            return Err(forbidden(format!(
                "the join token is good for cluster {only:?} only, not for {name:?}"
            )));
        }
        let api: Api<Cluster> = Api::all(self.client.clone());
        let existing = api.get_opt(&name).await.map_err(Error::api("look up a cluster"))?;
        if let Some(cluster) = &existing {
            if cluster.spec.revoked {
                return Err(forbidden(format!("cluster {name:?} is revoked")));
            }
            if uid_of(cluster).is_some_and(|uid| uid != request.cluster_uid) {
                self.note_refused_join(
                    &name,
                    "another cluster, with another uid, asked to join under this name",
                )
                .await;
                return Err(conflict(format!(
                    "another cluster is called {name:?} already; join under another name"
                )));
            }
            let registered = cluster.status.as_ref().and_then(|status| status.registration.as_ref());
            if registered.is_some_and(|registered| registered.public_key_sha256 != key)
                && self.presence.is_connected(&name)
            {
                let told = "an agent with another key asked to join as this cluster while its own was connected: a copy of \
                            the cluster, or of its agent's place";
                self.note_refused_join(&name, told).await;
                return Err(conflict(format!(
                    "cluster {name:?} is connected with another key; stop its agent before joining it anew"
                )));
            }
        }
        Ok((name, existing))
    }

    /// Shows at a Cluster that somebody else claimed to be it. Best effort: the refusal itself does not wait for it.
    async fn note_refused_join(&self, name: &str, message: &str) {
        let noted = cluster_status::update(&self.client, name, |status| {
            let change = ConditionChange {
                kind: "JoinRefused",
                status: Some(true),
                reason: "IdentityClaimed",
                message: message.to_owned(),
                observed_generation: None,
            };
            set_condition(&mut status.conditions, change, &cluster_status::now());
        });
        if let Err(error) = noted.await {
            tracing::warn!(
                cluster = name,
                error = &error as &dyn std::error::Error,
                "a refused join is not shown"
            );
        }
    }

    async fn write_cluster(
        &self,
        identity: &AgentIdentity,
        existing: Option<Cluster>,
        request: &JoinRequest,
        granted: BTreeMap<String, String>,
        pending: bool,
    ) -> Result<(), Status> {
        if existing.is_some() {
            return Ok(());
        }
        let mut labels = request.labels.clone();
        labels.extend(granted);
        let mut cluster = Cluster::new(&identity.name, ClusterSpec { pending, ..ClusterSpec::default() });
        cluster.metadata.labels = Some(labels);
        let api: Api<Cluster> = Api::all(self.client.clone());
        match api
            .create(
                &PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() },
                &cluster,
            )
            .await
        {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 422 || status.code == 400 => {
                Err(Status::new(Reason::BadRequest, status.message.clone()))
            }
            Err(error) => Err(Error::api(format!("create cluster {}", identity.name))(error).into()),
        }
    }

    async fn register(
        &self,
        identity: &AgentIdentity,
        key: &str,
        issued: &IssuedCertificate,
    ) -> Result<(), Status> {
        let registration = Registration {
            public_key_sha256: key.to_owned(),
            not_after: issued.not_after.clone(),
            authority: Some(issued.authority.clone()),
        };
        let mut taken = false;
        let written = cluster_status::update(&self.client, &identity.name, |status| {
            // Two joins under one name at once: the first to write its uid has it.
            taken = status.kube_system_uid.as_ref().is_some_and(|uid| *uid != identity.uid);
            if !taken {
                status.kube_system_uid = Some(identity.uid.clone());
                status.registration = Some(registration.clone());
                status.conditions.retain(|condition| condition.type_ != "JoinRefused");
            }
        })
        .await?;
        match written {
            Some(_) if taken => {
                Err(conflict(format!("another cluster is called {:?} already", identity.name)))
            }
            Some(_) => Ok(()),
            None => Err(conflict(format!("cluster {:?} was deleted meanwhile", identity.name))),
        }
    }

    /// Waits until the cache knows the member, so that its first request is not turned away; within reason.
    async fn await_known(&self, identity: &AgentIdentity) {
        let known = async {
            while self.standing(identity) == Standing::Bad {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        if tokio::time::timeout(Duration::from_secs(2), known).await.is_err() {
            tracing::debug!(cluster = %identity.name, "the cache is late; the agent will ask again");
        }
    }

    /// A new certificate over a working connection.
    pub(crate) async fn renew(
        &self,
        identity: &AgentIdentity,
        request: RenewRequest,
    ) -> Result<RenewResponse, Status> {
        let key =
            self.issuer.requested_key(&request.csr_pem).map_err(|error| Status::from(Error::from(error)))?;
        self.reissue(identity, &key, &request.csr_pem).await
    }

    /// A new certificate for an agent that was away longer than its certificate lasted.
    pub(crate) async fn reattest(&self, request: ReattestRequest) -> Result<RenewResponse, Status> {
        let key =
            self.issuer.requested_key(&request.csr_pem).map_err(|error| Status::from(Error::from(error)))?;
        // The name becomes part of a path.
        check_cluster_name(&request.name)
            .map_err(|error| Status::new(Reason::BadRequest, error.to_string()))?;
        let identity = AgentIdentity { name: request.name, uid: request.cluster_uid };
        let cluster = self.member(&identity).await?;
        let registered = cluster.status.and_then(|status| status.registration);
        if registered.is_none_or(|registered| registered.public_key_sha256 != key) {
            return Err(forbidden(
                "the key is not the one this cluster registered; join again with a new token",
            ));
        }
        self.reissue(&identity, &key, &request.csr_pem).await
    }

    async fn reissue(
        &self,
        identity: &AgentIdentity,
        key: &str,
        csr_pem: &str,
    ) -> Result<RenewResponse, Status> {
        let issued = self.sign(csr_pem, identity)?;
        self.register(identity, key, &issued).await?;
        Ok(RenewResponse {
            certificate_pem: issued.certificate_pem,
            not_after: issued.not_after,
            ca_pem: self.issuer.ca_bundle(),
        })
    }

    fn sign(&self, csr_pem: &str, identity: &AgentIdentity) -> Result<IssuedCertificate, Status> {
        let subject =
            CertificateSubject { common_name: identity.username(), organization: AGENT_GROUP.to_owned() };
        self.issuer.issue(csr_pem, &subject, self.certificate_ttl).map_err(|error| Error::from(error).into())
    }

    /// The Cluster of an identity, when it is a member in good standing. The uid is compared exactly.
    pub(crate) async fn member(&self, identity: &AgentIdentity) -> Result<Cluster, Status> {
        let cached = self.clusters.find("", &identity.name);
        if let Some(cluster) = cached.filter(|cluster| is_member(cluster, identity)) {
            return Ok((*cluster).clone());
        }
        // The cache may lag behind a join of this very moment.
        let api: Api<Cluster> = Api::all(self.client.clone());
        let found = api.get_opt(&identity.name).await.map_err(Error::api("look up a cluster"))?;
        let waits = found.as_ref().is_some_and(|cluster| cluster.spec.pending && is_known(cluster, identity));
        found.filter(|cluster| is_member(cluster, identity)).ok_or_else(|| {
            let name = &identity.name;
            forbidden(if waits {
                format!("cluster {name:?} has joined and waits for approval: fairlead cluster approve {name}")
            } else {
                format!("this hub knows no cluster {name:?} with this uid, or it is revoked")
            })
        })
    }

    /// As [`Self::member`], for whoever needs no more than the answer: asked at every ping, so nothing is copied.
    pub(crate) async fn check_member(&self, identity: &AgentIdentity) -> Result<(), Status> {
        let cached = self.clusters.find("", &identity.name);
        if cached.is_some_and(|cluster| is_member(&cluster, identity)) {
            return Ok(());
        }
        self.member(identity).await.map(drop)
    }

    /// Removes join tokens that ended.
    pub(crate) async fn sweep_tokens(&self) -> Result<(), Error> {
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), SYSTEM_NAMESPACE);
        let all = secrets.list(&ListParams::default()).await.map_err(Error::api("list join tokens"))?;
        let now = jiff::Timestamp::now();
        for secret in all.items.iter().filter(|secret| secret.type_.as_deref() == Some(TOKEN_SECRET_TYPE)) {
            let ends = secret.data.as_ref().and_then(|data| data.get("expiration"));
            let ends =
                ends.and_then(|bytes| std::str::from_utf8(&bytes.0).ok()?.parse::<jiff::Timestamp>().ok());
            if ends.is_none_or(|ends| ends <= now) {
                let deleted = secrets.delete(&secret.name_any(), &kube::api::DeleteParams::default()).await;
                if let Err(error) = deleted.map(drop) {
                    tracing::debug!(%error, "an ended join token stays for now");
                }
            }
        }
        Ok(())
    }
}

/// Whether an identity is a cluster's in good standing. The uid is compared exactly.
pub(crate) fn is_member(cluster: &Cluster, identity: &AgentIdentity) -> bool {
    is_known(cluster, identity) && !cluster.spec.revoked && !cluster.spec.pending
}

fn is_known(cluster: &Cluster, identity: &AgentIdentity) -> bool {
    let uid = cluster.status.as_ref().and_then(|status| status.kube_system_uid.as_deref());
    uid == Some(identity.uid.as_str()) && cluster.metadata.deletion_timestamp.is_none()
}

/// How long certificates last by default: a day, as service meshes have it; agents renew after two thirds.
pub(crate) const DEFAULT_CERTIFICATE_TTL: Duration = Duration::from_secs(24 * 3600);

/// A namespace, unless it is there.
pub(crate) async fn ensure_namespace(client: &Client, name: &str) -> Result<(), Error> {
    let api: Api<Namespace> = Api::all(client.clone());
    let namespace = Namespace {
        metadata: ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() },
        ..Namespace::default()
    };
    match api.create(&PostParams::default(), &namespace).await {
        Ok(_) => Ok(()),
        Err(error) if api_client::error::is_already_exists(&error) => Ok(()),
        Err(error) => Err(Error::api(format!("create namespace {name}"))(error)),
    }
}

/// The partition of a cluster: its namespace, and the right of its agent to read what is in it, and nothing else.
pub(crate) async fn write_partition(client: &Client, identity: &AgentIdentity) -> Result<(), Error> {
    let namespace = partition_namespace(&identity.name);
    ensure_namespace(client, &namespace).await?;
    let role: Role = fixed(json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
        "metadata": {"name": AGENT_RIGHTS, "namespace": namespace},
        "rules": [{
            "apiGroups": [fleet_objects::GROUP],
            "resources": ["assignments", "testexecutions", "testtriggerassignments"],
            "verbs": ["get", "list", "watch"],
        }],
    }));
    let binding: RoleBinding = fixed(json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
        "metadata": {"name": AGENT_RIGHTS, "namespace": namespace},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": AGENT_RIGHTS},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": identity.username()}],
    }));
    let failed = || Error::api(format!("write the rights of cluster {}", identity.name));
    let roles: Api<Role> = Api::namespaced(client.clone(), &namespace);
    api_client::apply::apply(&roles, AGENT_RIGHTS, MANAGER, true, &role).await.map_err(failed())?;
    let bindings: Api<RoleBinding> = Api::namespaced(client.clone(), &namespace);
    api_client::apply::apply(&bindings, AGENT_RIGHTS, MANAGER, true, &binding).await.map_err(failed())?;
    Ok(())
}

fn fixed<T: serde::de::DeserializeOwned>(value: serde_json::Value) -> T {
    serde_json::from_value(value).expect("a document written in this file, of the kind it names")
}
