//! Amounts of resources by name, and what a pod asks for in all.

use std::collections::BTreeMap;

use api_machinery::quantity::Quantity;
use serde_json::{Map, Value};

use crate::json::{entries, list, text};

/// Amounts by resource name, in the order of names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResourceList(pub BTreeMap<String, Quantity>);

impl ResourceList {
    /// Of a map of quantities; what is no quantity is left out.
    #[must_use]
    pub fn of(map: &Value) -> Self {
        let all = map.as_object().into_iter().flatten();
        Self(all.filter_map(|(name, value)| Some((name.clone(), amount(value)?))).collect())
    }

    /// One of something.
    #[must_use]
    pub fn count(name: impl Into<String>, count: i64) -> Self {
        let amount = Quantity::from_units(count, api_machinery::quantity::Format::DecimalSi);
        Self([(name.into(), amount)].into())
    }

    /// Adds the other's amounts.
    pub fn add(&mut self, other: &Self) {
        for (name, amount) in &other.0 {
            let sum = self.0.get(name).map_or_else(|| *amount, |own| own.plus(amount));
            self.0.insert(name.clone(), sum);
        }
    }

    /// Takes the larger amount of each name.
    pub fn raise(&mut self, other: &Self) {
        for (name, amount) in &other.0 {
            if self.0.get(name).is_none_or(|own| amount > own) {
                self.0.insert(name.clone(), *amount);
            }
        }
    }

    /// What is more here than there, of each name that is here; never less than nothing.
    #[must_use]
    pub fn beyond(&self, other: &Self) -> Self {
        let rest = |(name, amount): (&String, &Quantity)| {
            let left = other.0.get(name).map_or_else(|| *amount, |theirs| amount.minus(theirs));
            (!left.is_negative() && !left.is_zero()).then(|| (name.clone(), left))
        };
        Self(self.0.iter().filter_map(rest).collect())
    }

    /// Only the names that `keep` wants.
    #[must_use]
    pub fn only(&self, keep: impl Fn(&str) -> bool) -> Self {
        let kept = self.0.iter().filter(|(name, _)| keep(name));
        Self(kept.map(|(name, amount)| (name.clone(), *amount)).collect())
    }

    /// As a document.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let all = self.0.iter().map(|(name, amount)| (name.clone(), Value::String(amount.to_string())));
        Value::Object(all.collect::<Map<_, _>>())
    }

    /// `cpu=1,memory=2Gi`.
    #[must_use]
    pub fn shown(&self) -> String {
        let each: Vec<String> = self.0.iter().map(|(name, amount)| format!("{name}={amount}")).collect();
        each.join(",")
    }
}

/// A quantity as text or number.
#[must_use]
pub fn amount(value: &Value) -> Option<Quantity> {
    match value {
        Value::String(text) => text.parse().ok(),
        Value::Number(number) => number.to_string().parse().ok(),
        _ => None,
    }
}

/// Requests or limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// `requests`.
    Requests,
    /// `limits`.
    Limits,
}

impl Side {
    fn key(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Limits => "limits",
        }
    }
}

/// What a pod asks for in all: its containers together, or more where an init container alone needs more beside the
/// sidecars started before it; what the pod itself says about cpu and memory counts before that (component-helpers
/// `resource.PodRequests`). Without overhead.
#[must_use]
pub fn pod_total(pod: &Value, side: Side, with_status: bool) -> ResourceList {
    let spec = &pod["spec"];
    let of = |container: &Value, statuses: &str| {
        let mut own = ResourceList::of(&container["resources"][side.key()]);
        if with_status {
            own.raise(&actual(&pod["status"], statuses, text(container, "name"), side));
        }
        own
    };
    let mut total = ResourceList::default();
    for container in list(spec, "containers") {
        total.add(&of(container, "containerStatuses"));
    }
    let (mut sidecars, mut starting) = (ResourceList::default(), ResourceList::default());
    for container in list(spec, "initContainers") {
        let mut own = of(container, "initContainerStatuses");
        if text(container, "restartPolicy") == "Always" {
            total.add(&own);
            sidecars.add(&own);
            starting.raise(&sidecars);
        } else {
            own.add(&sidecars);
            starting.raise(&own);
        }
    }
    total.raise(&starting);
    for (name, value) in entries(&spec["resources"], side.key()) {
        let known = name == "cpu" || name == "memory" || name.starts_with("hugepages-");
        if let Some(amount) = amount(value).filter(|_| known) {
            total.0.insert(name.clone(), amount);
        }
    }
    total
}

/// What a running container was given, which may still be more than its spec says after a resize.
fn actual(status: &Value, key: &str, name: &str, side: Side) -> ResourceList {
    let own = list(status, key).iter().find(|status| text(status, "name") == name);
    let Some(own) = own else { return ResourceList::default() };
    let mut given = ResourceList::of(&own["resources"][side.key()]);
    if side == Side::Requests {
        given.raise(&ResourceList::of(&own["allocatedResources"]));
    }
    given
}

/// What running the pod costs besides its containers; limits only of what is limited anyway.
pub fn add_overhead(pod: &Value, side: Side, total: &mut ResourceList) {
    let overhead = ResourceList::of(&pod["spec"]["overhead"]);
    match side {
        Side::Requests => total.add(&overhead),
        Side::Limits => {
            let limited = overhead.only(|name| total.0.get(name).is_some_and(|limit| !limit.is_zero()));
            total.add(&limited);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn init_containers_and_sidecars_count_as_they_run() {
        let needs = |cpu: &str| json!({"requests": {"cpu": cpu}});
        let pod = json!({"spec": {
            "containers": [{"name": "a", "resources": needs("1")}, {"name": "b", "resources": needs("500m")}],
            "initContainers": [
                {"name": "first", "resources": needs("2")},
                {"name": "sidecar", "restartPolicy": "Always", "resources": needs("1")},
                {"name": "second", "resources": needs("2")},
            ],
            "overhead": {"cpu": "100m", "memory": "1Mi"},
        }});
        let mut total = pod_total(&pod, Side::Requests, false);
        assert_eq!(total.shown(), "cpu=3", "the second init container runs beside the sidecar");
        add_overhead(&pod, Side::Requests, &mut total);
        assert_eq!(total.shown(), "cpu=3100m,memory=1Mi");
        let mut own = pod.clone();
        own["spec"]["resources"] = json!({"requests": {"cpu": "7"}});
        assert_eq!(pod_total(&own, Side::Requests, false).shown(), "cpu=7");
        let mut resized = pod;
        resized["status"] = json!({"containerStatuses": [{"name": "a", "allocatedResources": {"cpu": "4"}}]});
        assert_eq!(pod_total(&resized, Side::Requests, true).shown(), "cpu=5500m");
    }

    #[test]
    fn what_is_beyond_is_never_less_than_nothing() {
        let of = |value: Value| ResourceList::of(&value);
        let now = of(json!({"cpu": "2", "memory": "1Gi", "pods": "1"}));
        assert_eq!(now.beyond(&of(json!({"cpu": "500m", "memory": "2Gi", "pods": 1}))).shown(), "cpu=1500m");
    }
}
