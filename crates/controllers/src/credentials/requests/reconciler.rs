//! Carries the plan out.

use std::{sync::Arc, time::Duration};

use api_client::{CacheOptions, ObjectCache, ObjectKey};
use foundation::clock::SharedClock;
use jiff::Timestamp;
use k8s_openapi::{
    ByteString,
    api::{
        authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec},
        certificates::v1::{CertificateSigningRequest, CertificateSigningRequestCondition},
    },
    apimachinery::pkg::apis::meta::v1::Time,
};
use kube::{
    Api, Client,
    api::{DeleteParams, PostParams, Preconditions},
};
use reconcile::{Action, Queue, Reconciler};

use super::plan;
use crate::{
    credentials::{CertificateSigner, Requested},
    error::{Doing, Error, Gone},
};

/// Approves, signs and removes CertificateSigningRequests.
pub(in crate::credentials) struct Requests {
    client: Client,
    signer: Arc<dyn CertificateSigner>,
    clock: SharedClock,
    requests: ObjectCache<CertificateSigningRequest>,
}

impl Requests {
    pub(in crate::credentials) fn start(
        client: Client,
        signer: Arc<dyn CertificateSigner>,
        clock: SharedClock,
    ) -> Self {
        let options = CacheOptions::new("certificatesigningrequests");
        let requests = ObjectCache::start(Api::all(client.clone()), options);
        Self { client, signer, clock, requests }
    }

    pub(in crate::credentials) async fn has_synced(&self) {
        self.requests.has_synced().await;
    }

    pub(in crate::credentials) fn queue(&self) -> Queue<ObjectKey> {
        let queue = Queue::new();
        let fed = queue.clone();
        self.requests.on_change(move |change| fed.add(change.key.clone()));
        queue
    }

    fn api(&self) -> Api<CertificateSigningRequest> {
        Api::all(self.client.clone())
    }

    /// Approves a node's own request if the requestor may have such; answers whether it did.
    async fn approve(
        &self,
        request: &CertificateSigningRequest,
        requested: &Requested,
    ) -> Result<bool, Error> {
        let name = request.metadata.name.as_deref().unwrap_or_default();
        let spec = &request.spec;
        let user = spec.username.as_deref().unwrap_or_default();
        let usages = spec.usages.as_deref().unwrap_or_default();
        for (subresource, message) in plan::approvals(user, &spec.signer_name, requested, usages) {
            if !self.may(request, subresource).await.doing("asking who may have", name)? {
                continue;
            }
            let mut approved = request.clone();
            add_condition(&mut approved, "Approved", "AutoApproved", message, self.clock.now());
            let path = format!("/apis/certificates.k8s.io/v1/certificatesigningrequests/{name}/approval");
            let body = serde_json::to_vec(&approved).map_err(kube::Error::SerdeError);
            let sent = async {
                let request = http::Request::put(path)
                    .header(http::header::CONTENT_TYPE, "application/json")
                    .body(body?)
                    .map_err(kube::Error::HttpError)?;
                self.client.request::<CertificateSigningRequest>(request).await
            };
            if let Some(written) = sent.await.unless_gone().doing("approving", name)? {
                self.requests.observe(&written);
            }
            return Ok(true);
        }
        Ok(false)
    }

    async fn may(&self, request: &CertificateSigningRequest, subresource: &str) -> kube::Result<bool> {
        let spec = &request.spec;
        let review = SubjectAccessReview {
            spec: SubjectAccessReviewSpec {
                user: spec.username.clone(),
                uid: spec.uid.clone(),
                groups: spec.groups.clone(),
                extra: spec.extra.clone(),
                resource_attributes: Some(ResourceAttributes {
                    group: Some("certificates.k8s.io".to_owned()),
                    resource: Some("certificatesigningrequests".to_owned()),
                    verb: Some("create".to_owned()),
                    subresource: Some(subresource.to_owned()),
                    ..ResourceAttributes::default()
                }),
                ..SubjectAccessReviewSpec::default()
            },
            ..SubjectAccessReview::default()
        };
        let api: Api<SubjectAccessReview> = Api::all(self.client.clone());
        let answer = api.create(&PostParams::default(), &review).await?;
        Ok(answer.status.is_some_and(|status| status.allowed))
    }

    async fn sign(&self, request: &CertificateSigningRequest) -> Result<(), Error> {
        let name = request.metadata.name.as_deref().unwrap_or_default();
        let spec = &request.spec;
        let usages = spec.usages.clone().unwrap_or_default();
        let pem = String::from_utf8_lossy(&spec.request.0).into_owned();
        let checked =
            self.signer.read(&pem).and_then(|requested| plan::check(&spec.signer_name, &requested, &usages));
        let (signer, validity) = (Arc::clone(&self.signer), plan::validity(spec.expiration_seconds));
        let signed = checked.and_then(|()| signer.sign(&pem, &usages, validity));
        let mut changed = request.clone();
        match signed {
            Ok(certificate) => {
                changed.status.get_or_insert_default().certificate =
                    Some(ByteString(certificate.into_bytes()));
            }
            Err(why) => {
                add_condition(&mut changed, "Failed", "SignerValidationFailure", &why, self.clock.now());
            }
        }
        let written = self.api().replace_status(name, &PostParams::default(), &changed).await;
        if let Some(written) = written.unless_gone().doing("signing", name)? {
            self.requests.observe(&written);
        }
        Ok(())
    }

    /// Removes a request whose time has come; answers when that of one that stays will.
    async fn clean(&self, request: &CertificateSigningRequest) -> Result<Action, Error> {
        let certificate = request.status.as_ref().and_then(|status| status.certificate.as_ref());
        let expires = certificate.and_then(|bytes| self.signer.expires(&String::from_utf8_lossy(&bytes.0)));
        let Some(end) = plan::ends(request, expires) else { return Ok(Action::Done) };
        let now = self.clock.now();
        if now < end {
            let left = Duration::try_from(end.duration_since(now)).unwrap_or_default();
            return Ok(Action::RequeueAfter(left + Duration::from_secs(1)));
        }
        let name = request.metadata.name.as_deref().unwrap_or_default();
        let this = Preconditions { uid: request.metadata.uid.clone(), resource_version: None };
        let params = DeleteParams { preconditions: Some(this), ..DeleteParams::default() };
        self.api().delete(name, &params).await.unless_gone().doing("removing the request", name)?;
        Ok(Action::Done)
    }
}

fn add_condition(
    request: &mut CertificateSigningRequest,
    kind: &str,
    reason: &str,
    message: &str,
    now: Timestamp,
) {
    let conditions = request.status.get_or_insert_default().conditions.get_or_insert_default();
    conditions.push(CertificateSigningRequestCondition {
        type_: kind.to_owned(),
        status: "True".to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        last_update_time: Some(Time(now)),
        last_transition_time: None,
    });
}

impl Reconciler for Requests {
    type Key = ObjectKey;
    type Error = Error;

    async fn reconcile(&self, key: ObjectKey) -> Result<Action, Error> {
        let Some(request) = self.requests.get(&key) else { return Ok(Action::Done) };
        let decided = ["Approved", "Denied"].iter().any(|kind| plan::condition(&request, kind).is_some());
        if !decided {
            let pem = String::from_utf8_lossy(&request.spec.request.0).into_owned();
            if let Ok(requested) = self.signer.read(&pem)
                && self.approve(&request, &requested).await?
            {
                // What was written comes back as a change.
                return Ok(Action::Done);
            }
        }
        let signed = request.status.as_ref().is_some_and(|status| status.certificate.is_some());
        let approved = plan::condition(&request, "Approved").is_some();
        let refused = ["Denied", "Failed"].iter().any(|kind| plan::condition(&request, kind).is_some());
        if approved && !refused && !signed && plan::is_ours(&request.spec.signer_name) {
            self.sign(&request).await?;
            return Ok(Action::Done);
        }
        self.clean(&request).await
    }

    fn retry_after(&self, error: &Error) -> Option<Duration> {
        error.retry_after()
    }
}
