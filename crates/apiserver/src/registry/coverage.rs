//! How far each built-in kind's rules go. `docs/reference/kinds.md` is made of this; nothing is promised elsewhere.

/// How far a kind's rules go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Coverage {
    /// Defaults, validation of creates, updates and status, and what a writer may change are upstream's.
    Complete,
    /// The same but for what the text names.
    Except(&'static str),
}

impl Coverage {
    /// As the reference says it.
    pub(crate) fn text(self) -> String {
        match self {
            Self::Complete => "complete".to_owned(),
            Self::Except(what) => format!("complete, except {what}"),
        }
    }
}

use Coverage::{Complete, Except};

const EXPRESSIONS: Coverage = Except("that expressions are compiled by the CEL engine where it is wired");

/// What is said of a kind; `None` for one that nobody has judged, which a test refuses.
pub(crate) fn of(group: &str, resource: &str) -> Option<Coverage> {
    Some(match (group, resource) {
        (
            "networking.k8s.io",
            "ingresses" | "ingressclasses" | "networkpolicies" | "ipaddresses" | "servicecidrs",
        )
        | ("discovery.k8s.io", "endpointslices")
        | (
            "storage.k8s.io",
            "storageclasses" | "csidrivers" | "csinodes" | "csistoragecapacities" | "volumeattributesclasses",
        )
        | ("coordination.k8s.io", "leases")
        | ("scheduling.k8s.io", "priorityclasses")
        | ("node.k8s.io", "runtimeclasses")
        | ("rbac.authorization.k8s.io", "roles" | "clusterroles" | "rolebindings" | "clusterrolebindings")
        | ("apiregistration.k8s.io", "apiservices")
        | ("flowcontrol.apiserver.k8s.io", "flowschemas" | "prioritylevelconfigurations")
        | ("" | "events.k8s.io", "events")
        | ("authentication.k8s.io", "selfsubjectreviews")
        | ("", "bindings") => Complete,
        ("storage.k8s.io", "volumeattachments") => {
            Except("the volume of inlineVolumeSpec, which is checked by schema")
        }
        ("certificates.k8s.io", "certificatesigningrequests") => {
            Except("wording of why a request or certificate does not parse")
        }
        (
            "admissionregistration.k8s.io",
            "mutatingwebhookconfigurations"
            | "validatingwebhookconfigurations"
            | "mutatingadmissionpolicies"
            | "validatingadmissionpolicies",
        ) => EXPRESSIONS,
        ("admissionregistration.k8s.io", _) => {
            Except("that a binding's author may read its parameters, which is not asked")
        }
        ("authentication.k8s.io", "tokenreviews") => Except("wording of why a token is refused"),
        (
            "authorization.k8s.io",
            "subjectaccessreviews" | "selfsubjectaccessreviews" | "localsubjectaccessreviews",
        ) => Except("field and label selectors, which are checked and do not narrow the decision"),
        ("authorization.k8s.io", "selfsubjectrulesreviews") => Complete,
        ("resource.k8s.io", "resourceslices") => {
            Except("the details of devices: attributes, capacities, counters, taints, node selectors")
        }
        ("resource.k8s.io", _) => Except("device selectors' expressions and the details of a claim's status"),
        ("apiextensions.k8s.io", "customresourcedefinitions") => Complete,
        ("" | "apps" | "batch" | "autoscaling" | "policy", resource) => workloads(resource),
        _ => return None,
    })
}

/// Core, apps, batch, autoscaling and policy.
fn workloads(resource: &str) -> Coverage {
    match resource {
        "componentstatuses" => Except(
            "how the parts are: their leases say it, or that they run in this process; nothing is asked over the network",
        ),
        "persistentvolumes" => Except("status.lastPhaseTransitionTime, which is stamped at creation only"),
        "pods" => Except("the wording where pod addresses do not parse"),
        "services" => Except("families of IPv6: the service network is IPv4"),
        "secrets" => Except("wording of why a value is no base64 or no JSON"),
        "serviceaccounts" => Except("the empty name of an image pull secret, which is kept"),
        _ => Complete,
    }
}
