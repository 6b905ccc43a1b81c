//! How an object is, from the object alone: a profile's own rules, the kstatus rules for built-in kinds, conditions for the
//! rest. Pure.

use fleet_objects::{Health, HealthRule};
use fleet_planner::health::ObjectExpressions;
use serde_json::Value;

/// A verdict and, when not healthy, why.
pub(crate) type Verdict = (Health, String);

fn healthy() -> Verdict {
    (Health::Healthy, String::new())
}

fn progressing(why: impl Into<String>) -> Verdict {
    (Health::Progressing, why.into())
}

fn failed(why: impl Into<String>) -> Verdict {
    (Health::Failed, why.into())
}

/// Judges an object as the API server shows it, by the built-in rules.
pub(crate) fn judge(object: &Value) -> Verdict {
    not_yet(object).unwrap_or_else(|| by_kind(object))
}

/// Judges an object by a profile's rule, and by the built-in ones where that says nothing.
pub(crate) fn judge_by(rule: &HealthRule, object: &Value, expressions: &dyn ObjectExpressions) -> Verdict {
    let ruled = || fleet_planner::health::judge(rule, object, expressions);
    not_yet(object).or_else(ruled).unwrap_or_else(|| by_kind(object))
}

/// What holds for every object: it is being deleted, or its controller has not seen the newest generation.
fn not_yet(object: &Value) -> Option<Verdict> {
    if !object["metadata"]["deletionTimestamp"].is_null() {
        return Some((Health::Terminating, "being deleted".to_owned()));
    }
    let observed = object["status"]["observedGeneration"].as_i64()?;
    let generation = object["metadata"]["generation"].as_i64()?;
    (observed < generation)
        .then(|| progressing(format!("generation {generation} is not observed yet (at {observed})")))
}

fn by_kind(object: &Value) -> Verdict {
    let group = object["apiVersion"]
        .as_str()
        .and_then(|version| version.split_once('/'))
        .map_or("", |(group, _)| group);
    match (group, object["kind"].as_str().unwrap_or_default()) {
        ("apps", "Deployment") => deployment(object),
        ("apps", "StatefulSet") => stateful_set(object),
        ("apps", "DaemonSet") => daemon_set(object),
        ("apps", "ReplicaSet") | ("", "ReplicationController") => replicas(object),
        ("batch", "Job") => job(object),
        ("", "Pod") => pod(object),
        ("", "PersistentVolumeClaim") => phase(object, "Bound"),
        ("", "Service") => service(object),
        ("apiextensions.k8s.io", "CustomResourceDefinition") => definition(object),
        ("policy" | "autoscaling" | "rbac.authorization.k8s.io", _)
        | ("", "ConfigMap" | "Secret" | "Namespace" | "ServiceAccount" | "Event" | "Endpoints") => healthy(),
        _ => generic(object),
    }
}

fn number(value: &Value, default: i64) -> i64 {
    value.as_i64().unwrap_or(default)
}

fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    object["status"]["conditions"].as_array()?.iter().find(|condition| condition["type"] == kind)
}

fn says(condition: Option<&Value>, status: &str) -> bool {
    condition.is_some_and(|condition| condition["status"] == status)
}

fn message(condition: Option<&Value>) -> String {
    let text = |field: &str| condition.and_then(|condition| condition[field].as_str()).unwrap_or_default();
    let (reason, message) = (text("reason"), text("message"));
    if message.is_empty() { reason.to_owned() } else { message.to_owned() }
}

fn not_observed(object: &Value) -> bool {
    object["status"]["observedGeneration"].is_null()
}

fn deployment(object: &Value) -> Verdict {
    let status = &object["status"];
    let progress = condition(object, "Progressing");
    if progress.is_some_and(|progress| progress["reason"] == "ProgressDeadlineExceeded") {
        return failed(message(progress));
    }
    if not_observed(object) {
        return progressing("not observed yet");
    }
    let wanted = number(&object["spec"]["replicas"], 1);
    let (updated, total) = (number(&status["updatedReplicas"], 0), number(&status["replicas"], 0));
    let (available, ready) = (number(&status["availableReplicas"], 0), number(&status["readyReplicas"], 0));
    if updated < wanted {
        return progressing(format!("{updated} of {wanted} replicas updated"));
    }
    if total > updated {
        return progressing(format!("{} old replicas to go", total - updated));
    }
    if available < wanted || ready < wanted {
        return progressing(format!("{available} of {wanted} replicas available"));
    }
    healthy()
}

fn stateful_set(object: &Value) -> Verdict {
    let (spec, status) = (&object["spec"], &object["status"]);
    if spec["updateStrategy"]["type"] == "OnDelete" {
        return healthy();
    }
    if not_observed(object) {
        return progressing("not observed yet");
    }
    let wanted = number(&spec["replicas"], 1);
    let ready = number(&status["readyReplicas"], 0);
    if ready < wanted {
        return progressing(format!("{ready} of {wanted} replicas ready"));
    }
    let partition = number(&spec["updateStrategy"]["rollingUpdate"]["partition"], 0);
    let updated = number(&status["updatedReplicas"], 0);
    if updated < wanted - partition {
        return progressing(format!("{updated} of {} replicas updated", wanted - partition));
    }
    if number(&status["replicas"], 0) > wanted {
        return progressing("replicas to go");
    }
    healthy()
}

fn daemon_set(object: &Value) -> Verdict {
    let status = &object["status"];
    if not_observed(object) {
        return progressing("not observed yet");
    }
    let wanted = number(&status["desiredNumberScheduled"], 0);
    if object["spec"]["updateStrategy"]["type"] != "OnDelete" {
        let updated = number(&status["updatedNumberScheduled"], 0);
        if updated < wanted {
            return progressing(format!("{updated} of {wanted} pods updated"));
        }
    }
    let available = number(&status["numberAvailable"], 0);
    if available < wanted {
        return progressing(format!("{available} of {wanted} pods available"));
    }
    healthy()
}

fn replicas(object: &Value) -> Verdict {
    let failure = condition(object, "ReplicaFailure");
    if says(failure, "True") {
        return failed(message(failure));
    }
    if not_observed(object) {
        return progressing("not observed yet");
    }
    let wanted = number(&object["spec"]["replicas"], 1);
    let status = &object["status"];
    let available = number(&status["availableReplicas"], 0);
    if available < wanted {
        return progressing(format!("{available} of {wanted} replicas available"));
    }
    if number(&status["replicas"], 0) > wanted {
        return progressing("replicas to go");
    }
    healthy()
}

fn job(object: &Value) -> Verdict {
    let failure = condition(object, "Failed");
    if says(failure, "True") {
        return failed(message(failure));
    }
    if says(condition(object, "Complete"), "True") || says(condition(object, "Suspended"), "True") {
        return healthy();
    }
    let status = &object["status"];
    let done = number(&status["succeeded"], 0);
    progressing(format!("{done} of {} pods succeeded", number(&object["spec"]["completions"], 1)))
}

fn pod(object: &Value) -> Verdict {
    let status = &object["status"];
    match status["phase"].as_str().unwrap_or_default() {
        "Succeeded" => healthy(),
        "Failed" => failed(status["message"].as_str().unwrap_or("the pod failed")),
        "Running" if says(condition(object, "Ready"), "True") => healthy(),
        phase => {
            let statuses = status["containerStatuses"].as_array().into_iter().flatten();
            let waiting =
                statuses.filter_map(|container| container["state"]["waiting"]["reason"].as_str()).next();
            match waiting {
                Some(
                    reason @ ("CrashLoopBackOff"
                    | "ImagePullBackOff"
                    | "ErrImagePull"
                    | "CreateContainerConfigError"),
                ) => failed(reason),
                Some(reason) => progressing(reason),
                None if says(condition(object, "PodScheduled"), "False") => {
                    progressing(message(condition(object, "PodScheduled")))
                }
                None => progressing(format!("phase {phase}")),
            }
        }
    }
}

fn phase(object: &Value, wanted: &str) -> Verdict {
    match object["status"]["phase"].as_str() {
        Some(phase) if phase == wanted => healthy(),
        Some("Lost") => failed("phase Lost"),
        phase => progressing(format!("phase {}", phase.unwrap_or("unknown"))),
    }
}

/// As kstatus has it: a load balancer's service is there once it has its cluster address. Whether anybody provides load
/// balancers is the cluster's own matter, and a cluster without a provider would never become healthy.
fn service(object: &Value) -> Verdict {
    let address = object["spec"]["clusterIP"].as_str().unwrap_or_default();
    if object["spec"]["type"] == "LoadBalancer" && address.is_empty() {
        return progressing("no cluster address yet");
    }
    healthy()
}

fn definition(object: &Value) -> Verdict {
    let refused = condition(object, "NamesAccepted");
    if says(refused, "False") {
        return failed(message(refused));
    }
    if says(condition(object, "Established"), "True") {
        healthy()
    } else {
        progressing("not established yet")
    }
}

/// Kinds without a rule: `Stalled`, `Reconciling` and `Ready` where they are, else healthy because it is there.
fn generic(object: &Value) -> Verdict {
    let stalled = condition(object, "Stalled");
    if says(stalled, "True") {
        return failed(message(stalled));
    }
    let reconciling = condition(object, "Reconciling");
    if says(reconciling, "True") {
        return progressing(message(reconciling));
    }
    let ready = condition(object, "Ready");
    match ready.map(|ready| ready["status"].as_str().unwrap_or_default()) {
        Some("False" | "Unknown") => progressing(message(ready)),
        _ => healthy(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn rules_by_kind() {
        let deployment = |status: Value| {
            judge(&json!({"apiVersion":"apps/v1","kind":"Deployment","metadata":{"generation":2},"spec":{"replicas":2},"status":status})).0
        };
        assert_eq!(deployment(json!({})), Health::Progressing);
        assert_eq!(
            deployment(
                json!({"observedGeneration":1,"replicas":2,"updatedReplicas":2,"availableReplicas":2,"readyReplicas":2})
            ),
            Health::Progressing
        );
        let done = json!({"observedGeneration":2,"replicas":2,"updatedReplicas":2,"availableReplicas":2,"readyReplicas":2});
        assert_eq!(deployment(done), Health::Healthy);
        let stuck = json!({"observedGeneration":2,"conditions":[{"type":"Progressing","status":"False","reason":"ProgressDeadlineExceeded"}]});
        assert_eq!(deployment(stuck), Health::Failed);
        for (object, wanted) in [
            (json!({"apiVersion":"v1","kind":"ConfigMap","metadata":{}}), Health::Healthy),
            (
                json!({"apiVersion":"v1","kind":"ConfigMap","metadata":{"deletionTimestamp":"x"}}),
                Health::Terminating,
            ),
            (
                json!({"apiVersion":"batch/v1","kind":"Job","status":{"conditions":[{"type":"Failed","status":"True"}]}}),
                Health::Failed,
            ),
            (
                json!({"apiVersion":"batch/v1","kind":"Job","status":{"conditions":[{"type":"Complete","status":"True"}]}}),
                Health::Healthy,
            ),
            (json!({"apiVersion":"v1","kind":"Pod","status":{"phase":"Running"}}), Health::Progressing),
            (
                json!({"apiVersion":"v1","kind":"Pod","status":{"phase":"Pending","containerStatuses":[{"state":{"waiting":{"reason":"ImagePullBackOff"}}}]}}),
                Health::Failed,
            ),
            (
                json!({"apiVersion":"v1","kind":"PersistentVolumeClaim","status":{"phase":"Bound"}}),
                Health::Healthy,
            ),
            (json!({"apiVersion":"v1","kind":"Service","spec":{"type":"LoadBalancer"}}), Health::Progressing),
            (
                json!({"apiVersion":"apiextensions.k8s.io/v1","kind":"CustomResourceDefinition"}),
                Health::Progressing,
            ),
            (json!({"apiVersion":"x.dev/v1","kind":"Thing"}), Health::Healthy),
            (
                json!({"apiVersion":"x.dev/v1","kind":"Thing","status":{"conditions":[{"type":"Ready","status":"False"}]}}),
                Health::Progressing,
            ),
            (
                json!({"apiVersion":"x.dev/v1","kind":"Thing","status":{"conditions":[{"type":"Stalled","status":"True"}]}}),
                Health::Failed,
            ),
        ] {
            assert_eq!(judge(&object).0, wanted, "{object}");
        }
    }

    proptest! {
        #[test]
        fn any_object_gets_a_verdict(kind in "(Deployment|Job|Pod|DaemonSet|StatefulSet|Thing)", text in "\\PC{0,40}", n in any::<i64>()) {
            for version in ["apps/v1", "v1", "batch/v1", "x"] {
                judge(&json!({"apiVersion":version,"kind":kind,"metadata":text,"spec":{"replicas":n},"status":{"observedGeneration":text,"replicas":n,"updatedReplicas":-1,"conditions":text,"phase":text}}));
            }
        }
    }
}
