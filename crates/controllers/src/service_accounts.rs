//! Gives every namespace what its pods take for granted: the service account `default` and the cluster's root
//! certificate in the config map `kube-root-ca.crt`.

use std::{sync::Arc, time::Duration};

use api_client::{
    ObjectKey,
    error::{is_already_exists, is_namespace_terminating},
};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, ServiceAccount};
use kube::api::PostParams;
use reconcile::{Action, Queue, Reconciler};
use serde_json::json;

use crate::{
    context::Context,
    error::{Doing, Error, Gone},
};

const ACCOUNT: &str = "default";
const CERTIFICATE: &str = "kube-root-ca.crt";

pub(crate) struct NamespaceContents {
    pub(crate) context: Context,
    /// The same caches for who publishes certificates.
    pub(crate) publisher: Context,
    /// PEM of the certificates with which the API server can be verified.
    pub(crate) root_certificate: Option<Arc<str>>,
}

/// Fed by changes of namespaces and of what each should have.
pub(crate) fn queue(context: &Context) -> Queue<ObjectKey> {
    let queue = Queue::new();
    let namespaces = queue.clone();
    context.namespaces.on_change(move |change| namespaces.add(change.key.clone()));
    let accounts = queue.clone();
    context.service_accounts.on_change(move |change| {
        if change.new.is_none() {
            accounts.add(ObjectKey::new("", change.key.namespace.clone()));
        }
    });
    let certificates = queue.clone();
    context.root_certificates.on_change(move |change| {
        certificates.add(ObjectKey::new("", change.key.namespace.clone()));
    });
    queue
}

fn is_active(namespace: &Namespace) -> bool {
    namespace.metadata.deletion_timestamp.is_none()
}

impl Reconciler for NamespaceContents {
    type Key = ObjectKey;
    type Error = Error;

    async fn reconcile(&self, key: ObjectKey) -> Result<Action, Error> {
        let active = self.context.namespaces.get(&key).is_some_and(|namespace| is_active(&namespace));
        if active {
            self.ensure_account(&key.name).await?;
            self.ensure_certificate(&key.name).await?;
        }
        Ok(Action::Done)
    }

    fn retry_after(&self, error: &Error) -> Option<Duration> {
        error.retry_after()
    }
}

impl NamespaceContents {
    async fn ensure_account(&self, namespace: &str) -> Result<(), Error> {
        if self.context.service_accounts.find(namespace, ACCOUNT).is_some() {
            return Ok(());
        }
        let mut account = ServiceAccount::default();
        account.metadata.name = Some(ACCOUNT.to_owned());
        account.metadata.namespace = Some(namespace.to_owned());
        let api = self.context.api::<ServiceAccount>(namespace);
        match api.create(&PostParams::default(), &account).await {
            Ok(account) => self.context.service_accounts.observe(&account),
            Err(error) if is_already_exists(&error) || is_namespace_terminating(&error) => {}
            Err(error) => return Err(error).doing("creating the default service account of", namespace),
        }
        Ok(())
    }

    async fn ensure_certificate(&self, namespace: &str) -> Result<(), Error> {
        let Some(certificate) = &self.root_certificate else { return Ok(()) };
        let api = self.publisher.api::<ConfigMap>(namespace);
        let data = json!({"ca.crt": &**certificate});
        if let Some(present) = self.context.root_certificates.find(namespace, CERTIFICATE) {
            if json!(present.data) == data {
                return Ok(());
            }
            // `null` would leave other keys; a replacement of the whole map takes them out.
            let mut wanted = (*present).clone();
            wanted.data = Some([("ca.crt".to_owned(), certificate.to_string())].into());
            wanted.metadata.resource_version = None;
            let written = api.replace(CERTIFICATE, &PostParams::default(), &wanted).await;
            if let Some(map) = written.unless_gone().doing("renewing the root certificate of", namespace)? {
                self.context.root_certificates.observe(&map);
            }
            return Ok(());
        }
        let mut map = ConfigMap::default();
        map.metadata.name = Some(CERTIFICATE.to_owned());
        map.metadata.namespace = Some(namespace.to_owned());
        map.metadata.annotations = Some(
            [("kubernetes.io/description".to_owned(), "Verifies connections to the API server.".to_owned())]
                .into(),
        );
        map.data = Some([("ca.crt".to_owned(), certificate.to_string())].into());
        match api.create(&PostParams::default(), &map).await {
            Ok(map) => self.context.root_certificates.observe(&map),
            Err(error) if is_already_exists(&error) || is_namespace_terminating(&error) => {}
            Err(error) => return Err(error).doing("publishing the root certificate in", namespace),
        }
        Ok(())
    }
}
