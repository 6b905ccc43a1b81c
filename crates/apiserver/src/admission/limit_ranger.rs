//! LimitRanger: fills in what a namespace's limit ranges give containers by default, and holds pods and claims to them.

use async_trait::async_trait;
use kind_rules::json::{child, list, list_mut, present, set, text};
use kind_rules::resource_list::{ResourceList, Side, pod_total};
use kube_objects::Status;
use serde_json::{Value, json};

use super::{Attributes, Operation, Plugin};

mod constraints;

const ANNOTATION: &str = "kubernetes.io/limit-ranger";

/// The plug-in.
pub(super) struct LimitRanger;

#[async_trait]
impl Plugin for LimitRanger {
    fn name(&self) -> &'static str {
        "LimitRanger"
    }

    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        let leaving = attributes.old.is_some_and(|old| present(&old["metadata"], "deletionTimestamp"));
        let wanted = match attributes.operation {
            Operation::Create => {
                attributes.is("", "pods", None) || attributes.is("", "persistentvolumeclaims", None)
            }
            Operation::Update => {
                attributes.is("", "pods", Some("resize")) || attributes.is("", "persistentvolumeclaims", None)
            }
            _ => false,
        };
        wanted && !leaving
    }

    async fn mutate(&self, attributes: &Attributes<'_>, object: &mut Value) -> Result<(), Status> {
        if attributes.cx.resource.gvr.resource != "pods" {
            return Ok(());
        }
        let cx = &attributes.cx;
        for range in cx.objects.list("", "limitranges", cx.namespace).await? {
            fill_in(&range, object);
        }
        Ok(())
    }

    async fn validate(&self, attributes: &Attributes<'_>, object: &Value) -> Result<(), Status> {
        let cx = &attributes.cx;
        for range in cx.objects.list("", "limitranges", cx.namespace).await? {
            let problems = problems(&range, object, cx.resource.gvr.resource == "pods");
            // As upstream joins errors: one stands alone, several in brackets, none twice.
            match problems.as_slice() {
                [] => {}
                [one] => return Err(attributes.forbidden(object, one)),
                several => return Err(attributes.forbidden(object, &format!("[{}]", several.join(", ")))),
            }
        }
        Ok(())
    }
}

/// Gives containers the defaults of a limit range for what they do not say, and notes it in an annotation.
fn fill_in(range: &Value, pod: &mut Value) {
    let (mut requests, mut limits) = (ResourceList::default(), ResourceList::default());
    for limit in list(&range["spec"], "limits").iter().filter(|limit| text(limit, "type") == "Container") {
        requests.0.extend(ResourceList::of(&limit["defaultRequest"]).0);
        limits.0.extend(ResourceList::of(&limit["default"]).0);
    }
    let mut notes = Vec::new();
    for (key, what) in [("containers", "container"), ("initContainers", "init container")] {
        for container in list_mut(&mut pod["spec"], key) {
            let name = text(container, "name").to_owned();
            for (side, word, defaults) in [("requests", "request", &requests), ("limits", "limit", &limits)] {
                let filled = fill_side(container, side, defaults);
                if !filled.is_empty() {
                    notes.push(format!("{} {word} for {what} {name}", filled.join(", ")));
                }
            }
        }
    }
    if !notes.is_empty()
        && let Some(annotations) = child(pod, "metadata").and_then(|metadata| child(metadata, "annotations"))
    {
        set(annotations, ANNOTATION, format!("LimitRanger plugin set: {}", notes.join("; ")));
    }
}

/// The names that were filled in.
fn fill_side(container: &mut Value, side: &str, defaults: &ResourceList) -> Vec<String> {
    let missing: Vec<(&String, String)> = defaults
        .0
        .iter()
        .filter(|(name, _)| !present(&container["resources"][side], name))
        .map(|(name, amount)| (name, amount.to_string()))
        .collect();
    if missing.is_empty() {
        return Vec::new();
    }
    let amounts = child(container, "resources").and_then(|resources| child(resources, side));
    let Some(amounts) = amounts else { return Vec::new() };
    for (name, amount) in &missing {
        set(amounts, name, json!(amount));
    }
    missing.into_iter().map(|(name, _)| name.clone()).collect()
}

/// What an object does beyond a limit range.
fn problems(range: &Value, object: &Value, is_pod: bool) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for limit in list(&range["spec"], "limits") {
        let kind = text(limit, "type");
        match kind {
            "Container" if is_pod => {
                for key in ["containers", "initContainers"] {
                    for container in list(&object["spec"], key) {
                        let resources = &container["resources"];
                        let requests = ResourceList::of(&resources["requests"]);
                        let limits = ResourceList::of(&resources["limits"]);
                        found.extend(constraints::both(limit, kind, &requests, &limits));
                    }
                }
            }
            "Pod" if is_pod => {
                let requests = pod_total(object, Side::Requests, false);
                let limits = pod_total(object, Side::Limits, false);
                found.extend(constraints::both(limit, kind, &requests, &limits));
            }
            "PersistentVolumeClaim" if !is_pod => {
                let requests = ResourceList::of(&object["spec"]["resources"]["requests"]);
                found.extend(constraints::requests(limit, kind, &requests));
            }
            _ => {}
        }
    }
    let mut seen = Vec::new();
    for problem in found {
        if !seen.contains(&problem) {
            seen.push(problem);
        }
    }
    seen
}

#[cfg(test)]
mod tests;
