//! The scopes of a quota.

use serde_json::Value;

use super::Evaluator;
use crate::json::{list, present, text};
use crate::resource_list::ResourceList;

/// One condition on objects.
pub(super) struct Scope<'a> {
    pub(super) name: &'a str,
    pub(super) operator: &'a str,
    pub(super) values: &'a [Value],
}

impl<'a> Scope<'a> {
    pub(super) fn of(expression: &'a Value) -> Self {
        Self {
            name: text(expression, "scopeName"),
            operator: text(expression, "operator"),
            values: list(expression, "values"),
        }
    }

    /// Whether the object is in it; objects without such scopes are in none.
    pub(super) fn holds(&self, evaluator: &Evaluator, object: &Value) -> bool {
        let spec = &object["spec"];
        match evaluator {
            Evaluator::Pods => match self.name {
                "Terminating" => terminates(spec),
                "NotTerminating" => !terminates(spec),
                "BestEffort" => is_best_effort(spec),
                "NotBestEffort" => !is_best_effort(spec),
                "PriorityClass" => self.selects(&[text(spec, "priorityClassName")]),
                "CrossNamespacePodAffinity" => crosses_namespaces(&spec["affinity"]),
                _ => false,
            },
            Evaluator::Claims if self.name == "VolumeAttributesClass" => {
                let status = &object["status"];
                self.selects(&[
                    text(spec, "volumeAttributesClassName"),
                    text(status, "currentVolumeAttributesClassName"),
                    text(&status["modifyVolumeStatus"], "targetVolumeAttributesClassName"),
                ])
            }
            _ => false,
        }
    }

    /// A label selector's requirement over names, of which "" are none.
    fn selects(&self, names: &[&str]) -> bool {
        let names: Vec<&str> = names.iter().copied().filter(|name| !name.is_empty()).collect();
        let listed = |name: &&str| self.values.iter().any(|value| value == *name);
        match self.operator {
            "Exists" => !names.is_empty(),
            "DoesNotExist" => names.is_empty(),
            "In" => names.iter().any(listed),
            "NotIn" => names.is_empty() || names.iter().any(|name| !listed(name)),
            _ => false,
        }
    }
}

/// Whether a pod is to end by itself.
pub(super) fn terminates(spec: &Value) -> bool {
    spec["activeDeadlineSeconds"].as_i64().is_some_and(|seconds| seconds >= 0)
}

/// Whether neither the pod nor a container asks for cpu or memory.
fn is_best_effort(spec: &Value) -> bool {
    let asks = |owner: &Value| {
        ["requests", "limits"].iter().any(|side| {
            let amounts = ResourceList::of(&owner["resources"][*side]);
            ["cpu", "memory"].iter().any(|name| amounts.0.get(*name).is_some_and(|amount| !amount.is_zero()))
        })
    };
    let containers = list(spec, "containers").iter().chain(list(spec, "initContainers"));
    !asks(spec) && !containers.into_iter().any(asks)
}

fn crosses_namespaces(affinity: &Value) -> bool {
    let crosses = |term: &Value| !list(term, "namespaces").is_empty() || present(term, "namespaceSelector");
    ["podAffinity", "podAntiAffinity"].iter().any(|kind| {
        let own = &affinity[*kind];
        list(own, "requiredDuringSchedulingIgnoredDuringExecution").iter().any(crosses)
            || list(own, "preferredDuringSchedulingIgnoredDuringExecution")
                .iter()
                .any(|weighted| crosses(&weighted["podAffinityTerm"]))
    })
}
