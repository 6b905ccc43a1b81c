//! Namespaces' own labels: what is wrong with them, and which running pods a stricter level would refuse.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use policy_engines::pod_security::{LabelProblem, reasons};

use super::{
    Attributes, Instant, Level, LevelVersion, MAX_PODS, MAX_TIME, Operation, PREFIX, PodSecurity, Policy,
    Status, StatusCause, Value, list, pod_security, present, text,
};

/// As a field error: `metadata.labels[…]: Invalid value: …`.
pub(super) fn shown(problem: &LabelProblem) -> String {
    let cause = cause(problem);
    format!("{}: {}", cause.field, cause.message)
}

fn cause(problem: &LabelProblem) -> StatusCause {
    StatusCause {
        reason: "FieldValueInvalid".to_owned(),
        field: format!("metadata.labels[{}]", problem.label),
        message: format!("Invalid value: {:?}: {}", problem.value, problem.detail),
    }
}

impl PodSecurity {
    pub(super) async fn namespace(&self, attributes: &Attributes<'_>, object: &Value) -> Result<(), Status> {
        let name = text(&object["metadata"], "name");
        let labels = &object["metadata"]["labels"];
        let defaults = &self.configuration.defaults;
        let (policy, problems) = Policy::of_labels(labels, defaults);
        let old = attributes.old.map(|old| Policy::of_labels(&old["metadata"]["labels"], defaults));
        let known = old.as_ref().is_some_and(|(_, old)| *old == problems);
        if !problems.is_empty() && !known {
            let causes = problems.iter().map(cause).collect();
            return Err(Status::invalid("", "Namespace", name, causes));
        }
        let exempt = self.configuration.exempt_namespaces.iter().any(|own| own == name);
        if attributes.operation == Operation::Create {
            if exempt {
                self.warn_exempt(attributes, name, &policy, labels);
            }
            return Ok(());
        }
        let Some((old, _)) = old else { return Ok(()) };
        let relaxed = policy.enforce == old.enforce
            || policy.enforce.level == Level::Privileged
            || policy.enforce.version == old.enforce.version && policy.enforce.level <= old.enforce.level;
        if relaxed {
            return Ok(());
        }
        if exempt {
            self.warn_exempt(attributes, name, &policy, labels);
            return Ok(());
        }
        let pods = attributes.cx.objects.list("", "pods", name).await?;
        for warning in self.judge_running(name, pods, policy.enforce) {
            attributes.warn(warning);
        }
        Ok(())
    }

    fn warn_exempt(&self, attributes: &Attributes<'_>, name: &str, policy: &Policy, labels: &Value) {
        if policy.is_privileged() || policy.equivalent(&self.configuration.defaults) {
            return;
        }
        let modes = [("enforce", policy.enforce), ("audit", policy.audit), ("warn", policy.warn)];
        let asked = modes.into_iter().filter(|(mode, standard)| {
            let labelled = present(labels, &format!("{PREFIX}{mode}"))
                || present(labels, &format!("{PREFIX}{mode}-version"));
            standard.level != Level::Privileged && labelled
        });
        let asked: Vec<String> = asked.map(|(mode, standard)| format!("{mode}={standard}")).collect();
        attributes.warn(format!(
            "namespace {name:?} is exempt from Pod Security, and the policy ({}) will be ignored",
            asked.join(", ")
        ));
    }

    /// What to tell whoever makes a namespace stricter than its pods are.
    fn judge_running(&self, namespace: &str, pods: Vec<Arc<Value>>, enforce: LevelVersion) -> Vec<String> {
        let pods = self.by_importance(pods);
        let total = pods.len();
        let until = Instant::now() + MAX_TIME;
        let mut checked = total.min(MAX_PODS);
        // By reason: the first pod's name and how many there are.
        let mut found: BTreeMap<String, (String, usize)> = BTreeMap::new();
        for (index, pod) in pods.iter().take(MAX_PODS).enumerate() {
            let violations = pod_security::evaluate(enforce, &pod["metadata"], &pod["spec"]);
            if !violations.is_empty() {
                let name = text(&pod["metadata"], "name");
                let seen = found.entry(reasons(&violations)).or_insert_with(|| (name.to_owned(), 0));
                if name < seen.0.as_str() {
                    name.clone_into(&mut seen.0);
                }
                seen.1 += 1;
            }
            if Instant::now() > until {
                checked = index + 1;
                break;
            }
        }
        let mut warnings = Vec::new();
        if checked < total {
            warnings.push(format!(
                "new PodSecurity enforce level only checked against the first {checked} of {total} existing pods"
            ));
        }
        if !found.is_empty() {
            warnings.push(format!(
                "existing pods in namespace {namespace:?} violate the new PodSecurity enforce level \"{enforce}\""
            ));
        }
        let mut each: Vec<String> = found
            .into_iter()
            .map(|(reason, (name, count))| match count {
                1 => format!("{name}: {reason}"),
                2 => format!("{name} (and 1 other pod): {reason}"),
                many => format!("{name} (and {} other pods): {reason}", many - 1),
            })
            .collect();
        each.sort();
        warnings.extend(each);
        warnings
    }

    /// One pod of each controller before the others of the same.
    fn by_importance(&self, pods: Vec<Arc<Value>>) -> Vec<Arc<Value>> {
        let mut seen = HashSet::new();
        let (mut first, mut others) = (Vec::new(), Vec::new());
        for pod in pods {
            if self.exempts_class(&pod) {
                continue;
            }
            let owners = list(&pod["metadata"], "ownerReferences");
            let controller = owners.iter().find(|owner| owner["controller"] == true);
            let controller = controller.map(|owner| text(owner, "uid").to_owned());
            if controller.is_some_and(|uid| !seen.insert(uid)) {
                others.push(pod);
            } else {
                first.push(pod);
            }
        }
        first.extend(others);
        first
    }
}
