//! Which kind has which strategy. One line here per kind.

use std::sync::Arc;

use super::admissionregistration as policies;
use super::core::{namespace::Namespace, pod::Pod, service::Service};
use super::plain::Plain;
use super::rbac::{Binding, Role};
use super::strategy::{Generic, Strategy};
use kind_rules::rules::KindRules;
use kind_rules::{
    admissionregistration, apps, autoscaling, batch, coordination, core, discovery, flowcontrol, networking,
    policy, rbac, scheduling,
};

/// The strategy of a built-in resource; [`Generic`] for one without anything special.
#[must_use]
pub fn strategy(group: &str, resource: &str) -> Arc<dyn Strategy> {
    match (group, resource) {
        ("", "pods") => Arc::new(Pod),
        ("", "services") => Arc::new(Service::default()),
        ("", "namespaces") => Arc::new(Namespace),
        ("", "events") => Arc::new(super::events::Event),
        ("rbac.authorization.k8s.io", "roles") => Arc::new(Role(&rbac::ROLE)),
        ("rbac.authorization.k8s.io", "clusterroles") => Arc::new(Role(&rbac::CLUSTER_ROLE)),
        ("rbac.authorization.k8s.io", "rolebindings") => Arc::new(Binding(&rbac::ROLE_BINDING)),
        ("rbac.authorization.k8s.io", "clusterrolebindings") => {
            Arc::new(Binding(&rbac::CLUSTER_ROLE_BINDING))
        }
        ("apiregistration.k8s.io", "apiservices") => Arc::new(super::apiregistration::ApiService),
        ("apiextensions.k8s.io", "customresourcedefinitions") => Arc::new(super::definitions::Definitions),
        ("certificates.k8s.io", "certificatesigningrequests") => {
            Arc::new(super::certificates::SigningRequest)
        }
        _ => match plain(group, resource) {
            Some(plain) => Arc::new(Plain(plain)),
            None => Arc::new(Generic),
        },
    }
}

fn plain(group: &str, resource: &str) -> Option<KindRules> {
    Some(match (group, resource) {
        ("", "componentstatuses") => core::component_status::RULES,
        ("", "configmaps") => core::config_map::RULES,
        ("", "secrets") => core::secret::RULES,
        ("", "nodes") => core::node::RULES,
        ("", "endpoints") => core::endpoints::RULES,
        ("", "resourcequotas") => core::resource_quota::RULES,
        ("", "podtemplates") => core::pod_template::RULES,
        ("", "replicationcontrollers") => core::replication_controller::RULES,
        ("", "persistentvolumeclaims") => core::persistent_volume_claim::RULES,
        ("", "persistentvolumes") => core::persistent_volume::RULES,
        ("apps", "deployments") => apps::deployment::RULES,
        ("apps", "replicasets") => apps::replica_set::RULES,
        ("apps", "statefulsets") => apps::stateful_set::RULES,
        ("apps", "daemonsets") => apps::daemon_set::RULES,
        ("apps", "controllerrevisions") => apps::controller_revision::RULES,
        ("batch", "jobs") => batch::job::RULES,
        ("batch", "cronjobs") => batch::cron_job::RULES,
        ("discovery.k8s.io", "endpointslices") => discovery::ENDPOINT_SLICE,
        ("networking.k8s.io", "ingresses") => networking::INGRESS,
        ("networking.k8s.io", "ingressclasses") => networking::INGRESS_CLASS,
        ("networking.k8s.io", "networkpolicies") => networking::NETWORK_POLICY,
        ("policy", "poddisruptionbudgets") => policy::pod_disruption_budget::RULES,
        ("autoscaling", "horizontalpodautoscalers") => autoscaling::horizontal_pod_autoscaler::RULES,
        ("networking.k8s.io", "ipaddresses") => networking::IP_ADDRESS,
        ("networking.k8s.io", "servicecidrs") => networking::SERVICE_CIDR,
        ("storage.k8s.io", "csidrivers") => kind_rules::storage::CSI_DRIVER,
        ("storage.k8s.io", "csinodes") => kind_rules::storage::CSI_NODE,
        ("storage.k8s.io", "csistoragecapacities") => kind_rules::storage::CSI_STORAGE_CAPACITY,
        ("storage.k8s.io", "volumeattachments") => kind_rules::storage::VOLUME_ATTACHMENT,
        ("storage.k8s.io", "volumeattributesclasses") => kind_rules::storage::VOLUME_ATTRIBUTES_CLASS,
        ("node.k8s.io", "runtimeclasses") => kind_rules::node::RUNTIME_CLASS,
        ("flowcontrol.apiserver.k8s.io", "flowschemas") => flowcontrol::FLOW_SCHEMA,
        ("flowcontrol.apiserver.k8s.io", "prioritylevelconfigurations") => {
            flowcontrol::PRIORITY_LEVEL_CONFIGURATION
        }
        ("admissionregistration.k8s.io", "mutatingwebhookconfigurations") => policies::MUTATING_WEBHOOKS,
        ("admissionregistration.k8s.io", "validatingwebhookconfigurations") => policies::VALIDATING_WEBHOOKS,
        ("admissionregistration.k8s.io", "mutatingadmissionpolicies") => policies::MUTATING_POLICY,
        ("admissionregistration.k8s.io", "validatingadmissionpolicies") => policies::VALIDATING_POLICY,
        ("admissionregistration.k8s.io", "mutatingadmissionpolicybindings") => {
            admissionregistration::MUTATING_ADMISSION_POLICY_BINDING
        }
        ("admissionregistration.k8s.io", "validatingadmissionpolicybindings") => {
            admissionregistration::VALIDATING_ADMISSION_POLICY_BINDING
        }
        // Upstream has no columns of its own for it.
        ("", "limitranges") => KindRules {
            columns: kind_rules::storage::CSI_STORAGE_CAPACITY.columns,
            cells: kind_rules::storage::CSI_STORAGE_CAPACITY.cells,
            ..core::limit_range::RULES
        },
        ("resource.k8s.io", "deviceclasses") => kind_rules::resource::DEVICE_CLASS,
        ("resource.k8s.io", "resourceclaims") => kind_rules::resource::RESOURCE_CLAIM,
        ("resource.k8s.io", "resourceclaimtemplates") => kind_rules::resource::RESOURCE_CLAIM_TEMPLATE,
        ("resource.k8s.io", "resourceslices") => kind_rules::resource::RESOURCE_SLICE,
        ("coordination.k8s.io", "leases") => coordination::LEASE,
        ("scheduling.k8s.io", "priorityclasses") => scheduling::PRIORITY_CLASS,
        ("storage.k8s.io", "storageclasses") => kind_rules::storage::STORAGE_CLASS,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    #[test]
    fn every_built_in_kind_has_as_many_cells_as_columns_whatever_the_object() {
        for resource in crate::catalogue::Catalogue::cluster().resources() {
            let strategy = &resource.strategy;
            for object in
                [json!({}), json!({"metadata": {"name": "a"}, "spec": {}, "status": {}}), json!({"spec": 1})]
            {
                let mut object = object;
                strategy.default_fields(&mut object);
                let cells = strategy.cells(&object, jiff::Timestamp::UNIX_EPOCH);
                assert_eq!(cells.len(), strategy.columns().len(), "{}", resource.kind);
            }
        }
    }
}
