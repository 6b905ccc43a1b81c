//! Names and amounts of resources, requests and limits of containers and pods, claims.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;

use api_machinery::quantity::Quantity;
use serde_json::Value;

use super::os::is_windows;
use super::validation::Scope;
use crate::json::{entries, given, list, text};
use crate::names;
use crate::path::Path;
use crate::problems::{NOT_NEGATIVE, Problems};

const HUGE_PAGES: &str = "hugepages-";
const STANDARD_FOR_CONTAINERS: [&str; 3] = ["cpu", "memory", "ephemeral-storage"];
const QUOTA_STANDARD: [&str; 19] = [
    "cpu",
    "memory",
    "ephemeral-storage",
    "requests.cpu",
    "requests.memory",
    "requests.storage",
    "requests.ephemeral-storage",
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
    "pods",
    "resourcequotas",
    "services",
    "replicationcontrollers",
    "secrets",
    "persistentvolumeclaims",
    "configmaps",
    "services.nodeports",
    "services.loadbalancers",
];
const WHOLE: [&str; 9] = [
    "pods",
    "resourcequotas",
    "services",
    "replicationcontrollers",
    "secrets",
    "configmaps",
    "persistentvolumeclaims",
    "services.nodeports",
    "services.loadbalancers",
];

/// A quantity as a field holds it: text or number; `None` when it is neither.
#[must_use]
pub fn amount(value: &Value) -> Option<Quantity> {
    match value {
        Value::String(text) => text.parse().ok(),
        Value::Number(number) => number.to_string().parse().ok(),
        _ => None,
    }
}

/// A quantity as upstream writes it.
#[must_use]
pub fn canonical(value: &Value) -> String {
    amount(value).map_or_else(|| value.to_string(), |quantity| quantity.to_string())
}

/// `hugepages-2Mi`.
#[must_use]
pub fn is_huge_page(name: &str) -> bool {
    name.starts_with(HUGE_PAGES)
}

/// A name without a domain, or in Kubernetes' own.
#[must_use]
pub fn is_native(name: &str) -> bool {
    !name.contains('/') || name.contains("kubernetes.io/")
}

/// A resource of somebody's own: `example.com/gpu`.
#[must_use]
pub fn is_extended(name: &str) -> bool {
    !is_native(name) && !name.starts_with("requests.") && names::is_qualified(&format!("requests.{name}"))
}

/// Whether requests may stay below limits.
#[must_use]
pub fn is_overcommit_allowed(name: &str) -> bool {
    is_native(name) && !is_huge_page(name)
}

/// What a quota may count.
#[must_use]
pub fn is_quota_standard(name: &str) -> bool {
    QUOTA_STANDARD.contains(&name) || is_huge_page(name) || name.starts_with("requests.hugepages-")
}

/// Any resource that Kubernetes names itself.
#[must_use]
pub fn is_standard(name: &str) -> bool {
    name == "storage" || is_quota_standard(name)
}

/// What comes in whole pieces.
#[must_use]
pub fn is_integer(name: &str) -> bool {
    WHOLE.contains(&name) || is_extended(name)
}

/// A quantity that must not be less than nothing.
pub fn non_negative(problems: &mut Problems, at: impl Display, value: &Value) {
    if amount(value).is_some_and(|quantity| quantity.is_negative()) {
        problems.invalid(at, canonical(value), NOT_NEGATIVE);
    }
}

/// An amount of a named resource (upstream's `ValidateResourceQuantityValue`).
pub fn quantity_value(problems: &mut Problems, at: impl Display, name: &str, value: &Value) {
    non_negative(problems, &at, value);
    if is_integer(name) && amount(value).is_some_and(|quantity| quantity.millis() % 1000 != 0) {
        problems.invalid(at, canonical(value), "must be an integer");
    }
}

/// Every amount of a map, by [`quantity_value`] with names by [`qualified_resource`].
pub fn resource_list(problems: &mut Problems, at: &Path<'_>, holder: &Value, key: &str) {
    let at = at.field(key);
    for (name, value) in entries(holder, key) {
        let at = at.key(name);
        qualified_resource(problems, at, name);
        quantity_value(problems, at, name, value);
    }
}

/// A resource's name (upstream's `validateResourceName`); answers whether it is one.
pub fn qualified_resource(problems: &mut Problems, at: impl Display, name: &str) -> bool {
    let before = problems.len();
    problems.check(&at, name, names::qualified_name);
    if problems.len() == before && !name.contains('/') && !is_standard(name) {
        problems.invalid(at, name, "must be a standard resource type or fully qualified");
    }
    problems.len() == before
}

/// A name of a resource that containers may ask for.
pub fn container_resource(problems: &mut Problems, at: impl Display, name: &str) {
    qualified_resource(problems, &at, name);
    if !name.contains('/') {
        if !STANDARD_FOR_CONTAINERS.contains(&name) && !is_huge_page(name) {
            problems.invalid(at, name, "must be a standard resource for containers");
        }
    } else if !is_native(name) && !is_extended(name) {
        problems.invalid(at, name, "doesn't follow extended resource name standard");
    }
}

fn pod_resource(problems: &mut Problems, at: impl Display, name: &str) {
    if qualified_resource(problems, &at, name) && !is_pod_level(name) {
        problems.unsupported(at, name, &["cpu", HUGE_PAGES, "memory"]);
    }
}

fn is_pod_level(name: &str) -> bool {
    matches!(name, "cpu" | "memory") || is_huge_page(name)
}

/// Huge pages come in whole pages.
fn huge_pages(problems: &mut Problems, at: impl Display, name: &str, value: &Value) {
    let Some(quantity) = amount(value) else { return };
    let page = name.strip_prefix(HUGE_PAGES).and_then(|size| size.parse::<Quantity>().ok());
    let divisible = page.is_some_and(|page| {
        page.units() > 0 && page.millis() % 1000 == 0 && quantity.units() % page.units() == 0
    });
    if !divisible {
        let why = format!("{quantity} is not positive integer multiple of {name}");
        problems.invalid(at, quantity.to_string(), &why);
    }
}

/// A container's `resources`.
pub(super) fn container(problems: &mut Problems, at: &Path<'_>, resources: &Value, claims: &BTreeSet<&str>) {
    if resources.is_object() {
        requirements(problems, at, resources, claims, |problems, at, name| {
            container_resource(problems, at, name)
        });
    }
}

/// `overhead`: checked as limits.
pub(super) fn overhead(problems: &mut Problems, at: &Path<'_>, overhead: &Value) {
    let wrapped = serde_json::json!({"limits": overhead});
    container(problems, at, &wrapped, &BTreeSet::new());
}

fn requirements(
    problems: &mut Problems,
    at: &Path<'_>,
    resources: &Value,
    claims: &BTreeSet<&str>,
    name_rule: impl Fn(&mut Problems, &Path<'_>, &str),
) {
    let (mut compute, mut huge) = (false, false);
    let limits = at.field("limits");
    for (name, value) in entries(resources, "limits") {
        let at = limits.key(name);
        name_rule(problems, &at, name);
        quantity_value(problems, at, name, value);
        if is_huge_page(name) {
            huge = true;
            huge_pages(problems, at, name, value);
        }
        compute |= matches!(name.as_str(), "cpu" | "memory");
    }
    let requests = at.field("requests");
    for (name, value) in entries(resources, "requests") {
        let at = requests.key(name);
        name_rule(problems, &at, name);
        quantity_value(problems, at, name, value);
        match resources["limits"].get(name) {
            Some(limit) => within_limit(problems, &requests, name, value, limit),
            None if !is_overcommit_allowed(name) => {
                problems.required(limits, "Limit must be set for non overcommitable resources");
            }
            None => {}
        }
        if is_huge_page(name) {
            huge = true;
            huge_pages(problems, at, name, value);
        }
        compute |= matches!(name.as_str(), "cpu" | "memory");
    }
    if huge && !compute {
        problems.forbidden(at, "HugePages require cpu or memory");
    }
    claim_names(problems, &at.field("claims"), list(resources, "claims"), claims);
}

fn within_limit(problems: &mut Problems, at: &Path<'_>, name: &str, request: &Value, limit: &Value) {
    let (Some(wanted), Some(most)) = (amount(request), amount(limit)) else { return };
    if wanted != most && !is_overcommit_allowed(name) {
        problems.invalid(at, wanted.to_string(), &format!("must be equal to {name} limit of {most}"));
    } else if wanted > most {
        let why = format!("must be less than or equal to {name} limit of {most}");
        problems.invalid(at, wanted.to_string(), &why);
    }
}

fn claim_names(problems: &mut Problems, at: &Path<'_>, claims: &[Value], of_pod: &BTreeSet<&str>) {
    let mut seen: BTreeSet<String> = BTreeSet::new();
    for (index, claim) in claims.iter().enumerate() {
        let at = at.index(index);
        let (name, request) = (text(claim, "name"), text(claim, "request"));
        if name.is_empty() {
            problems.required(at, "");
            continue;
        }
        if seen.contains(name) {
            problems.duplicate(at, name);
        } else {
            let key = if request.is_empty() { name.to_owned() } else { format!("{name}/{request}") };
            problems.check_optional(at.field("request"), request, names::dns1123_label);
            if seen.contains(&key) {
                problems.duplicate(at, &key);
            } else if request.is_empty() {
                for _ in seen.iter().filter(|other| other.split_once('/').is_some_and(|(own, _)| own == name))
                {
                    problems.duplicate(at, name);
                }
            }
            seen.insert(key);
        }
        if !of_pod.contains(name) {
            let known: Vec<&str> = of_pod.iter().copied().collect();
            let which = if known.is_empty() {
                " which is empty".to_owned()
            } else {
                format!(": {}", known.join(", "))
            };
            let why = format!("must be one of the names in pod.spec.resourceClaims{which}");
            problems.not_found_because(at, name, &why);
        }
    }
}

/// `spec.resourceClaims`.
pub(super) fn pod_claims(problems: &mut Problems, at: &Path<'_>, spec: &Value, scope: Scope<'_>) {
    let mirror = scope
        .metadata
        .is_some_and(|metadata| given(&metadata["annotations"], "kubernetes.io/config.mirror").is_some());
    let mut seen = BTreeSet::new();
    for (index, claim) in list(spec, "resourceClaims").iter().enumerate() {
        if mirror {
            problems.forbidden("", "static pods do not support resource claims");
            continue;
        }
        let at = at.index(index);
        let name = text(claim, "name");
        if name.is_empty() {
            problems.required(at.field("name"), "");
        } else if seen.contains(name) {
            problems.duplicate(at.field("name"), name);
        } else {
            problems.check(at.field("name"), name, names::dns1123_label);
            seen.insert(name);
        }
        let (direct, template) =
            (given(claim, "resourceClaimName"), given(claim, "resourceClaimTemplateName"));
        if direct.is_some() == template.is_some() {
            let shown = serde_json::json!({"Name": name, "ResourceClaimName": direct, "ResourceClaimTemplateName": template});
            let why = if direct.is_some() {
                "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified"
            } else {
                "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`"
            };
            problems.invalid(at, &shown, why);
        }
        for (key, value) in [("resourceClaimName", direct), ("resourceClaimTemplateName", template)] {
            if let Some(value) = value {
                problems.check(at.field(key), value.as_str().unwrap_or_default(), names::dns1123_subdomain);
            }
        }
    }
}

/// `spec.resources`: what the containers share.
pub(super) fn pod_level(problems: &mut Problems, at: &Path<'_>, spec: &Value, claims: &BTreeSet<&str>) {
    let Some(resources) = given(spec, "resources") else { return };
    let at = at.field("resources");
    if is_windows(spec) {
        return problems.forbidden(at, "may not be set for a windows pod");
    }
    if given(resources, "claims").is_some() {
        problems.forbidden(at.field("claims"), "claims may not be set for Resources at pod-level");
    }
    requirements(problems, &at, resources, claims, |problems, at, name| pod_resource(problems, at, name));
    consistent(problems, &at, spec, resources);
}

fn consistent(problems: &mut Problems, at: &Path<'_>, spec: &Value, resources: &Value) {
    let requests = at.field("requests");
    for (name, sum) in aggregate(spec, "requests") {
        let Some(own) = resources["requests"].get(&name).and_then(amount) else { continue };
        if sum > own {
            let why = format!("must be greater than or equal to aggregate container requests of {sum}");
            problems.invalid(requests.key(&name), own.to_string(), &why);
        }
    }
    for (name, sum) in aggregate(spec, "limits") {
        let Some(own) = resources["limits"].get(&name).and_then(amount) else { continue };
        if is_huge_page(&name) && sum > own {
            let why = format!("must be greater than or equal to aggregate container limits of {sum}");
            problems.invalid(at.field("limits").key(&name), own.to_string(), &why);
        }
    }
    let containers = at.field("containers");
    for (index, container) in list(spec, "containers").iter().enumerate() {
        for (name, limit) in entries(&container["resources"], "limits") {
            let own = resources["limits"].get(name).and_then(amount);
            if let (Some(limit), Some(own)) = (amount(limit), own)
                && limit > own
            {
                let why = format!("must be less than or equal to pod limits of {own}");
                let at = containers.index(index);
                let at = at.key(name);
                problems.invalid(at.field("limits"), limit.to_string(), &why);
            }
        }
    }
}

type Amounts = BTreeMap<String, Quantity>;

/// What all containers need together: ordinary ones and sidecars at once, or the greediest init container with the
/// sidecars before it (component-helpers `AggregateContainerRequests`).
pub(super) fn aggregate(spec: &Value, kind: &str) -> Amounts {
    let of = |container: &Value| -> Amounts {
        entries(&container["resources"], kind)
            .filter_map(|(name, value)| Some((name.clone(), amount(value)?)))
            .collect()
    };
    let mut running = Amounts::new();
    for container in list(spec, "containers") {
        add(&mut running, &of(container));
    }
    let (mut sidecars, mut initial) = (Amounts::new(), Amounts::new());
    for container in list(spec, "initContainers") {
        let mut own = of(container);
        if text(container, "restartPolicy") == "Always" {
            add(&mut running, &own);
            add(&mut sidecars, &own);
            own.clone_from(&sidecars);
        } else {
            add(&mut own, &sidecars);
        }
        maximum(&mut initial, &own);
    }
    maximum(&mut running, &initial);
    running
}

fn add(sum: &mut Amounts, more: &Amounts) {
    for (name, value) in more {
        let total = sum.get(name).map_or(*value, |own| own.plus(value));
        sum.insert(name.clone(), total);
    }
}

fn maximum(most: &mut Amounts, other: &Amounts) {
    for (name, value) in other {
        if most.get(name).is_none_or(|own| value > own) {
            most.insert(name.clone(), *value);
        }
    }
}

/// Whether pod-level resources may be of that name; for defaults.
pub(super) fn is_pod_level_resource(name: &str) -> bool {
    is_pod_level(name)
}
