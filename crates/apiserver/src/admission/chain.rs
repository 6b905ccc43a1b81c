//! The plug-ins in Kubernetes' order.

use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use kube_objects::Status;
use serde_json::Value;

use super::durations::{Durations, Phase};
use super::pod_security::{PodSecurity, PodSecurityConfiguration};
use super::{
    Attributes, certificates, claim_resize, default_classes, lifecycle, limit_ranger, node_restriction,
    node_taints, object_rules, policy, priority, resource_quota, runtime_class, service_account,
    storage_protection, tolerations, topology_labels, webhook, write_rights,
};
use crate::metrics::text::Text;
use crate::registry::objects::ObjectAccess;
use crate::webhook_client::WebhookClient;

/// One admission plug-in. The object is null on DELETE; on CONNECT it is the connection's options.
#[async_trait]
pub(crate) trait Plugin: Send + Sync + 'static {
    /// Upstream's name of it.
    fn name(&self) -> &'static str;

    /// Whether it has anything to say about such a request. Cheap: asked for every plug-in of every write, so that the
    /// others cost nothing.
    fn handles(&self, attributes: &Attributes<'_>) -> bool;

    /// Changes or refuses the object before its strategy sees it. May run twice ([`super::attributes::Reinvocation`]),
    /// so it must leave alone what it has already filled in.
    ///
    /// # Errors
    /// What the client is answered.
    async fn mutate(&self, _attributes: &Attributes<'_>, _object: &mut Value) -> Result<(), Status> {
        Ok(())
    }

    /// Refuses the object as it would be written.
    ///
    /// # Errors
    /// What the client is answered.
    async fn validate(&self, _attributes: &Attributes<'_>, _object: &Value) -> Result<(), Status> {
        Ok(())
    }
}

/// The plug-ins of a server.
pub(crate) struct Chain {
    plugins: Vec<Arc<dyn Plugin>>,
    /// How long each plug-in took, in their order.
    durations: Vec<Durations>,
}

impl Chain {
    /// All built-in plug-ins, in the order of upstream's `AllOrderedPlugins`. `objects` is what they read from the cache
    /// between requests (webhook configurations, policies, quotas); `rights` and `rules`, which upstream has not, say what writes
    /// need besides and what custom kinds keep to.
    pub(crate) fn new(
        objects: &Arc<ObjectAccess>,
        webhooks: &Arc<WebhookClient>,
        pod_security: PodSecurityConfiguration,
        rights: Option<Arc<dyn write_rights::WriteRights>>,
        rules: Option<Arc<dyn object_rules::ObjectRules>>,
    ) -> Self {
        let mut plugins: Vec<Arc<dyn Plugin>> = vec![
            Arc::new(lifecycle::NamespaceLifecycle),
            Arc::new(limit_ranger::LimitRanger),
            Arc::new(service_account::ServiceAccount),
            Arc::new(node_restriction::NodeRestriction),
            Arc::new(node_taints::TaintNodesByCondition),
            Arc::new(PodSecurity::new(pod_security)),
            Arc::new(priority::Priority),
            Arc::new(tolerations::DefaultTolerationSeconds),
            Arc::new(default_classes::DefaultStorageClass),
            Arc::new(storage_protection::StorageObjectInUseProtection),
            Arc::new(claim_resize::PersistentVolumeClaimResize),
            Arc::new(runtime_class::RuntimeClass),
            Arc::new(certificates::CertificateApproval),
            Arc::new(certificates::CertificateSigning),
            Arc::new(certificates::ClusterTrustBundleAttest),
            Arc::new(certificates::CertificateSubjectRestriction),
            Arc::new(default_classes::DefaultIngressClass),
            Arc::new(topology_labels::PodTopologyLabels),
            Arc::new(policy::MutatingPolicies::new(objects)),
            Arc::new(webhook::MutatingWebhooks::new(objects, webhooks)),
            Arc::new(policy::ValidatingPolicies::new(objects)),
            Arc::new(webhook::ValidatingWebhooks::new(objects, webhooks)),
            Arc::new(resource_quota::ResourceQuota),
        ];
        if let Some(rights) = rights {
            plugins.push(Arc::new(write_rights::FurtherRights(rights)));
        }
        if let Some(rules) = rules {
            plugins.push(Arc::new(object_rules::OwnRules(rules)));
        }
        let durations = plugins.iter().map(|_| Durations::default()).collect();
        Self { plugins, durations }
    }

    /// Appends what is counted of the plug-ins.
    pub(crate) fn write_metrics(&self, text: &mut Text) {
        let name = "apiserver_admission_controller_admission_duration_seconds";
        text.family(name, "histogram", "How long each admission plug-in took, in seconds.");
        for (plugin, durations) in self.plugins.iter().zip(&self.durations) {
            durations.write(text, name, plugin.name());
        }
    }

    /// The mutating phase.
    ///
    /// # Errors
    /// The first refusal.
    pub(crate) async fn mutate(&self, attributes: &Attributes<'_>, object: &mut Value) -> Result<(), Status> {
        self.mutate_once(attributes, object).await?;
        if attributes.reinvocation.begin_second() {
            self.mutate_once(attributes, object).await?;
        }
        Ok(())
    }

    async fn mutate_once(&self, attributes: &Attributes<'_>, object: &mut Value) -> Result<(), Status> {
        for (plugin, durations) in self.plugins.iter().zip(&self.durations) {
            if plugin.handles(attributes) {
                let since = Instant::now();
                let outcome = plugin.mutate(attributes, object).await;
                durations.observe(Phase::Admit, attributes.operation, outcome.is_err(), since.elapsed());
                outcome.inspect_err(|refused| report(plugin.as_ref(), refused))?;
            }
        }
        Ok(())
    }

    /// The validating phase.
    ///
    /// # Errors
    /// The first refusal.
    pub(crate) async fn validate(&self, attributes: &Attributes<'_>, object: &Value) -> Result<(), Status> {
        for (plugin, durations) in self.plugins.iter().zip(&self.durations) {
            if plugin.handles(attributes) {
                let since = Instant::now();
                let outcome = plugin.validate(attributes, object).await;
                durations.observe(Phase::Validate, attributes.operation, outcome.is_err(), since.elapsed());
                outcome.inspect_err(|refused| report(plugin.as_ref(), refused))?;
            }
        }
        Ok(())
    }
}

fn report(plugin: &dyn Plugin, refused: &Status) {
    tracing::debug!(plugin = plugin.name(), %refused, "admission refused a request");
}
