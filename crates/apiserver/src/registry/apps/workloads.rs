//! Deployments, ReplicaSets, StatefulSets, DaemonSets, ReplicationControllers and ControllerRevisions. They share their
//! shape: a selector that never changes and a pod template whose labels it selects.

use serde_json::{Value, json};

use kind_rules::columns::{Column, age};
use kind_rules::json::{child, default, default_text, existing, list, list_mut, text};
use kind_rules::names;
use kind_rules::pod_spec::{default_template, validate_template};
use kind_rules::problems::Problems;
use kind_rules::rules::{KindRules, container_cells, number, or};

const ALWAYS: [&str; 1] = ["Always"];

fn wide_tail() -> [Column; 3] {
    [Column::wide("Containers"), Column::wide("Images"), Column::wide("Selector")]
}

fn columns(middle: Vec<Column>, tail: impl IntoIterator<Item = Column>) -> Vec<Column> {
    let mut all = vec![Column::object_name()];
    all.extend(middle);
    all.extend(tail);
    all
}

fn integer(name: &str) -> Column {
    Column::new(name).of("integer")
}

/// Defaults in `spec`.
fn in_spec(object: &mut Value, fill: impl FnOnce(&mut Value)) {
    if let Some(spec) = existing(object, "spec") {
        fill(spec);
        default_template(spec);
    }
}

/// Selector there, not empty, selecting the template's labels; counts not negative.
fn validate_common(problems: &mut Problems, object: &Value) {
    let spec = &object["spec"];
    let selector = &spec["selector"];
    if selector.is_null() {
        problems.required("spec.selector", "");
    } else {
        names::selector(problems, "spec.selector", selector);
        if names::is_empty_selector(selector) {
            problems.invalid("spec.selector", selector, "empty selector is invalid for deployment");
        }
    }
    for key in ["replicas", "minReadySeconds", "revisionHistoryLimit", "progressDeadlineSeconds"] {
        problems.not_negative(&format!("spec.{key}"), spec.get(key));
    }
    validate_template(problems, &spec["template"], Some(selector), &ALWAYS);
}

fn same_selector(problems: &mut Problems, object: &Value, old: &Value) {
    problems.immutable("spec.selector", object["spec"].get("selector"), old["spec"].get("selector"));
}

/// `apps/v1.Deployment`.
pub(crate) const DEPLOYMENT: KindRules = KindRules {
    defaults: |object| {
        in_spec(object, |spec| {
            default(spec, "replicas", 1);
            default(spec, "revisionHistoryLimit", 10);
            default(spec, "progressDeadlineSeconds", 600);
            let Some(strategy) = child(spec, "strategy") else { return };
            default_text(strategy, "type", "RollingUpdate");
            if text(strategy, "type") == "RollingUpdate"
                && let Some(rolling) = child(strategy, "rollingUpdate")
            {
                default(rolling, "maxUnavailable", "25%");
                default(rolling, "maxSurge", "25%");
            }
        });
    },
    validate: |problems, object| {
        validate_common(problems, object);
        let spec = &object["spec"];
        let strategy = &spec["strategy"];
        problems.choice("spec.strategy.type", strategy.get("type"), &["Recreate", "RollingUpdate"], false);
        if text(strategy, "type") == "Recreate" && strategy["rollingUpdate"].is_object() {
            problems.forbidden(
                "spec.strategy.rollingUpdate",
                "may not be specified when strategy `type` is 'Recreate'",
            );
        }
        validate_rolling(problems, "spec.strategy.rollingUpdate", &strategy["rollingUpdate"]);
        let seconds = |key: &str| spec[key].as_i64();
        if let (Some(progress), Some(ready)) =
            (seconds("progressDeadlineSeconds"), seconds("minReadySeconds"))
            && progress <= ready
        {
            problems.invalid(
                "spec.progressDeadlineSeconds",
                &spec["progressDeadlineSeconds"],
                "must be greater than minReadySeconds",
            );
        }
    },
    validate_update: same_selector,
    columns: || {
        let middle =
            vec![Column::new("Ready"), Column::new("Up-to-date"), Column::new("Available"), Column::age()];
        columns(middle, wide_tail())
    },
    cells: |object, now| {
        let (spec, status) = (&object["spec"], &object["status"]);
        let [names, images] = container_cells(&spec["template"]);
        let wanted = spec["replicas"].as_i64().unwrap_or_default();
        vec![
            format!("{}/{wanted}", number(status, "readyReplicas")).into(),
            number(status, "updatedReplicas"),
            number(status, "availableReplicas"),
            age(object, now),
            names,
            images,
            names::shown_selector(&spec["selector"]).into(),
        ]
    },
    ..KindRules::NEW
};

/// Numbers or percentages, not both zero.
fn validate_rolling(problems: &mut Problems, at: &str, rolling: &Value) {
    if !rolling.is_object() {
        return;
    }
    let mut zeros = 0;
    for key in ["maxUnavailable", "maxSurge"] {
        let value = &rolling[key];
        let amount = match value {
            Value::Number(number) => number.as_i64(),
            Value::String(text) => text.strip_suffix('%').and_then(|digits| digits.parse().ok()),
            _ => continue,
        };
        match amount {
            None => problems.invalid(
                &format!("{at}.{key}"),
                value,
                "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')",
            ),
            Some(amount) if amount < 0 => {
                problems.invalid(&format!("{at}.{key}"), value, "must be greater than or equal to 0");
            }
            Some(0) => zeros += 1,
            Some(_) => {}
        }
    }
    if zeros == 2 {
        problems.invalid(
            &format!("{at}.maxUnavailable"),
            &rolling["maxUnavailable"],
            "may not be 0 when `maxSurge` is 0",
        );
    }
}

fn replica_columns() -> Vec<Column> {
    let middle = vec![integer("Desired"), integer("Current"), integer("Ready"), Column::age()];
    columns(middle, wide_tail())
}

fn replica_cells(object: &Value, now: jiff::Timestamp, selector: String) -> Vec<Value> {
    let (spec, status) = (&object["spec"], &object["status"]);
    let [names, images] = container_cells(&spec["template"]);
    vec![
        number(spec, "replicas"),
        number(status, "replicas"),
        number(status, "readyReplicas"),
        age(object, now),
        names,
        images,
        selector.into(),
    ]
}

/// `apps/v1.ReplicaSet`.
pub(crate) const REPLICA_SET: KindRules = KindRules {
    defaults: |object| in_spec(object, |spec| default(spec, "replicas", 1)),
    validate: validate_common,
    validate_update: same_selector,
    columns: replica_columns,
    cells: |object, now| replica_cells(object, now, names::shown_selector(&object["spec"]["selector"])),
    selectable: &["status.replicas"],
    ..KindRules::NEW
};

/// `v1.ReplicationController`: its selector is a bare map and defaults to the template's labels.
pub(crate) const REPLICATION_CONTROLLER: KindRules = KindRules {
    defaults: |object| {
        let labels = object["spec"]["template"]["metadata"]["labels"].clone();
        in_spec(object, |spec| {
            default(spec, "replicas", 1);
            if labels.is_object() {
                default(spec, "selector", labels);
            }
        });
    },
    validate: |problems, object| {
        let spec = &object["spec"];
        let selector = json!({"matchLabels": spec["selector"]});
        if names::is_empty_selector(&selector) {
            problems.required("spec.selector", "");
        }
        problems.not_negative("spec.replicas", spec.get("replicas"));
        if spec["template"].is_null() {
            problems.required("spec.template", "");
        } else {
            validate_template(problems, &spec["template"], Some(&selector), &ALWAYS);
        }
    },
    columns: replica_columns,
    cells: |object, now| replica_cells(object, now, names::shown_labels(&object["spec"], "selector")),
    selectable: &["status.replicas"],
    ..KindRules::NEW
};

/// `apps/v1.StatefulSet`.
pub(crate) const STATEFUL_SET: KindRules = KindRules {
    defaults: |object| {
        in_spec(object, |spec| {
            default(spec, "replicas", 1);
            default(spec, "revisionHistoryLimit", 10);
            default_text(spec, "podManagementPolicy", "OrderedReady");
            if let Some(strategy) = child(spec, "updateStrategy") {
                default_text(strategy, "type", "RollingUpdate");
                if text(strategy, "type") == "RollingUpdate"
                    && let Some(rolling) = child(strategy, "rollingUpdate")
                {
                    default(rolling, "partition", 0);
                }
            }
            if let Some(policy) = child(spec, "persistentVolumeClaimRetentionPolicy") {
                default_text(policy, "whenDeleted", "Retain");
                default_text(policy, "whenScaled", "Retain");
            }
            for claim in list_mut(spec, "volumeClaimTemplates") {
                default_text(claim, "apiVersion", "v1");
                default_text(claim, "kind", "PersistentVolumeClaim");
                if let Some(spec) = existing(claim, "spec") {
                    default_text(spec, "volumeMode", "Filesystem");
                }
                if let Some(status) = child(claim, "status") {
                    default_text(status, "phase", "Pending");
                }
            }
        });
    },
    validate: |problems, object| {
        validate_common_with_claims(problems, object);
        let spec = &object["spec"];
        let policies = ["OrderedReady", "Parallel"];
        problems.choice("spec.podManagementPolicy", spec.get("podManagementPolicy"), &policies, false);
        let kinds = ["RollingUpdate", "OnDelete"];
        problems.choice("spec.updateStrategy.type", spec["updateStrategy"].get("type"), &kinds, false);
    },
    validate_update: |problems, object, old| {
        const CHANGEABLE: [&str; 7] = [
            "replicas",
            "ordinals",
            "template",
            "updateStrategy",
            "revisionHistoryLimit",
            "persistentVolumeClaimRetentionPolicy",
            "minReadySeconds",
        ];
        let rest = |object: &Value| {
            let mut spec = object["spec"].clone();
            if let Some(map) = spec.as_object_mut() {
                map.retain(|key, value| !CHANGEABLE.contains(&key.as_str()) && !value.is_null());
            }
            spec
        };
        if rest(object) != rest(old) {
            problems.forbidden(
                "spec",
                "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden",
            );
        }
    },
    columns: || {
        let middle = vec![Column::new("Ready"), Column::age()];
        columns(middle, [Column::wide("Containers"), Column::wide("Images")])
    },
    cells: |object, now| {
        let (spec, status) = (&object["spec"], &object["status"]);
        let [names, images] = container_cells(&spec["template"]);
        let wanted = spec["replicas"].as_i64().unwrap_or_default();
        let ready = format!("{}/{wanted}", number(status, "readyReplicas"));
        vec![ready.into(), age(object, now), names, images]
    },
    ..KindRules::NEW
};

/// A StatefulSet's pods also have the volumes of its claim templates.
fn validate_common_with_claims(problems: &mut Problems, object: &Value) {
    let mut object = object.clone();
    let claims: Vec<Value> = list(&object["spec"], "volumeClaimTemplates")
        .iter()
        .map(|claim| json!({"name": claim["metadata"]["name"], "emptyDir": {}}))
        .collect();
    if !claims.is_empty()
        && let Some(spec) = existing(&mut object, "spec")
            .and_then(|spec| existing(spec, "template"))
            .and_then(|t| existing(t, "spec"))
    {
        default(spec, "volumes", json!([]));
        if let Some(volumes) = spec["volumes"].as_array_mut() {
            volumes.retain(|volume| !claims.iter().any(|claim| claim["name"] == volume["name"]));
            volumes.extend(claims);
        }
    }
    validate_common(problems, &object);
}

/// `apps/v1.DaemonSet`.
pub(crate) const DAEMON_SET: KindRules = KindRules {
    defaults: |object| {
        in_spec(object, |spec| {
            default(spec, "revisionHistoryLimit", 10);
            let Some(strategy) = child(spec, "updateStrategy") else { return };
            default_text(strategy, "type", "RollingUpdate");
            if text(strategy, "type") == "RollingUpdate"
                && let Some(rolling) = child(strategy, "rollingUpdate")
            {
                default(rolling, "maxUnavailable", 1);
                default(rolling, "maxSurge", 0);
            }
        });
    },
    validate: |problems, object| {
        validate_common(problems, object);
        let strategy = &object["spec"]["updateStrategy"];
        problems.choice(
            "spec.updateStrategy.type",
            strategy.get("type"),
            &["RollingUpdate", "OnDelete"],
            false,
        );
        validate_rolling(problems, "spec.updateStrategy.rollingUpdate", &strategy["rollingUpdate"]);
    },
    validate_update: same_selector,
    columns: || {
        let middle = vec![
            integer("Desired"),
            integer("Current"),
            integer("Ready"),
            integer("Up-to-date"),
            integer("Available"),
            Column::new("Node Selector"),
            Column::age(),
        ];
        columns(middle, wide_tail())
    },
    cells: |object, now| {
        let (spec, status) = (&object["spec"], &object["status"]);
        let [names, images] = container_cells(&spec["template"]);
        vec![
            number(status, "desiredNumberScheduled"),
            number(status, "currentNumberScheduled"),
            number(status, "numberReady"),
            number(status, "updatedNumberScheduled"),
            number(status, "numberAvailable"),
            names::shown_labels(&spec["template"]["spec"], "nodeSelector").into(),
            age(object, now),
            names,
            images,
            names::shown_selector(&spec["selector"]).into(),
        ]
    },
    ..KindRules::NEW
};

/// `apps/v1.ControllerRevision`: its data never changes.
pub(crate) const CONTROLLER_REVISION: KindRules = KindRules {
    validate_update: |problems, object, old| problems.immutable("data", object.get("data"), old.get("data")),
    columns: || {
        columns(vec![Column::new("Controller"), Column::new("Revision").of("integer"), Column::age()], [])
    },
    cells: |object, now| {
        let owner =
            list(&object["metadata"], "ownerReferences").iter().find(|owner| owner["controller"] == true);
        let controller = owner.map(|owner| {
            let api = text(owner, "apiVersion");
            let group = api.split_once('/').map_or(String::new(), |(group, _)| format!(".{group}"));
            format!("{}{group}/{}", text(owner, "kind").to_lowercase(), text(owner, "name"))
        });
        vec![
            or(controller.as_deref().unwrap_or_default(), "<none>"),
            number(object, "revision"),
            age(object, now),
        ]
    },
    ..KindRules::NEW
};

#[cfg(test)]
mod tests {
    use super::*;

    fn deployment() -> Value {
        json!({"metadata": {"name": "d"}, "spec": {"selector": {"matchLabels": {"a": "b"}},
            "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i:1"}]}}}})
    }

    fn fields(kind: &KindRules, object: &Value) -> Vec<String> {
        let mut problems = Problems::default();
        (kind.validate)(&mut problems, object);
        problems.into_causes().into_iter().map(|cause| cause.field).collect()
    }

    #[test]
    fn a_deployment_is_completed_and_valid() {
        let mut object = deployment();
        (DEPLOYMENT.defaults)(&mut object);
        assert_eq!(object["spec"]["replicas"], 1);
        assert_eq!(
            object["spec"]["strategy"]["rollingUpdate"],
            json!({"maxUnavailable": "25%", "maxSurge": "25%"})
        );
        assert_eq!(object["spec"]["progressDeadlineSeconds"], 600);
        assert_eq!(object["spec"]["template"]["spec"]["restartPolicy"], "Always");
        assert_eq!(fields(&DEPLOYMENT, &object), Vec::<String>::new());
    }

    #[test]
    fn selector_and_template_have_to_agree() {
        let mut object = deployment();
        object["spec"]["template"]["metadata"]["labels"] = json!({"a": "c"});
        (DEPLOYMENT.defaults)(&mut object);
        assert_eq!(fields(&DEPLOYMENT, &object), ["spec.template.metadata.labels"]);
        object["spec"]["template"]["spec"]["restartPolicy"] = json!("Never");
        assert!(fields(&DEPLOYMENT, &object).contains(&"spec.template.spec.restartPolicy".to_owned()));
    }

    #[test]
    fn selectors_are_immutable() {
        let old = deployment();
        let mut new = old.clone();
        new["spec"]["selector"]["matchLabels"]["a"] = json!("z");
        let mut problems = Problems::default();
        (DEPLOYMENT.validate_update)(&mut problems, &new, &old);
        assert_eq!(
            problems.into_causes()[0].message,
            "Invalid value: {\"matchLabels\":{\"a\":\"z\"}}: field is immutable"
        );
    }

    #[test]
    fn statefulset_pods_may_mount_claims() {
        let mut object = deployment();
        object["spec"]["serviceName"] = json!("s");
        object["spec"]["volumeClaimTemplates"] = json!([{"metadata": {"name": "data"}, "spec": {}}]);
        object["spec"]["template"]["spec"]["containers"][0]["volumeMounts"] =
            json!([{"name": "data", "mountPath": "/data"}]);
        (STATEFUL_SET.defaults)(&mut object);
        assert_eq!(fields(&STATEFUL_SET, &object), Vec::<String>::new());
        assert_eq!(object["spec"]["volumeClaimTemplates"][0]["status"]["phase"], "Pending");
    }

    #[test]
    fn odd_shapes_do_not_panic() {
        for kind in [&DEPLOYMENT, &REPLICA_SET, &STATEFUL_SET, &DAEMON_SET, &REPLICATION_CONTROLLER] {
            for odd in [
                json!(null),
                json!({"spec": 1}),
                json!({"spec": {"template": []}}),
                json!({"spec": {"strategy": 1}}),
            ] {
                let mut object = odd;
                (kind.defaults)(&mut object);
                fields(kind, &object);
                (kind.cells)(&object, jiff::Timestamp::UNIX_EPOCH);
            }
        }
    }
}
