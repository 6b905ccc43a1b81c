//! `apps/v1.StatefulSet`.

use serde_json::{Value, json};

use crate::columns::{Column, age};
use crate::core::persistent_volume_claim;
use crate::json::{child, default, default_text, existing, given, list, list_mut, number, remove, set, text};
use crate::names::{NameRule, dns1123_label};
use crate::path::Path;
use crate::pod_spec::{self, Template, validate_template};
use crate::problems::{Problems, Verbatim, go_form, quoted};
use crate::rules::{KindRules, container_cells, number as cell};
use crate::workload::{self, at_most, at_most_all, count_of, counts, int_or_percent};

/// What Kubernetes demands of stateful sets.
pub const RULES: KindRules = KindRules {
    defaults: |object| workload::in_spec(object, default_spec),
    names: NameRule::DnsLabel,
    prepare_create: |object| {
        workload::prepare_counted(object, &["replicas", "availableReplicas"]);
        drop_disabled(object, &Value::Null);
    },
    prepare_update: |object, old| {
        workload::prepare_update(object, old);
        drop_disabled(object, old);
    },
    validate: |problems, object| validate_spec(problems, &object["spec"], None),
    validates_updates: false,
    validate_update,
    validate_status: |problems, object, old| {
        let status = &object["status"];
        let keys = [
            "replicas",
            "readyReplicas",
            "currentReplicas",
            "updatedReplicas",
            "availableReplicas",
            "observedGeneration",
            "collisionCount",
        ];
        counts(problems, &Path::new("status"), status, &keys);
        let parts = ["readyReplicas", "currentReplicas", "updatedReplicas", "availableReplicas"];
        at_most(problems, status, &parts, "replicas", "cannot be greater than status.replicas");
        let why = "cannot be greater than status.readyReplicas";
        at_most(problems, status, &["availableReplicas"], "readyReplicas", why);
        workload::not_decremented(problems, object, old);
    },
    warnings: |object, old| {
        let mut found = workload::warnings(object, old, false);
        for (index, claim) in list(&object["spec"], "volumeClaimTemplates").iter().enumerate() {
            let at = Path::new("spec.volumeClaimTemplates");
            let at = at.index(index);
            // Upstream's own spelling of the path on updates.
            let spec = at.field("Spec");
            let at = if old.is_some() { &spec } else { &at };
            pod_spec::claim_warnings(&mut found, at, &claim["spec"]);
        }
        if number(&object["spec"], "revisionHistoryLimit").is_some_and(|limit| limit < 0) {
            found.push("spec.revisionHistoryLimit: a negative value retains all historical revisions; a value >= 0 is recommended".to_owned());
        }
        found
    },
    columns: || {
        let ready = Column::new("Ready").saying("Number of the pod with ready state");
        let mut columns = vec![Column::object_name(), ready, Column::age()];
        columns.extend(workload::container_columns());
        columns
    },
    cells: |object, now| {
        let (spec, status) = (&object["spec"], &object["status"]);
        let [names, images] = container_cells(&spec["template"]);
        let ready = format!("{}/{}", cell(status, "readyReplicas"), cell(spec, "replicas"));
        vec![ready.into(), age(object, now), names, images]
    },
    ..KindRules::NEW
};

fn default_spec(spec: &mut Value) {
    default(spec, "replicas", 1);
    default(spec, "revisionHistoryLimit", 10);
    default_text(spec, "podManagementPolicy", "OrderedReady");
    if let Some(strategy) = child(spec, "updateStrategy") {
        if text(strategy, "type").is_empty() {
            set(strategy, "type", "RollingUpdate");
            default(strategy, "rollingUpdate", json!({}));
        }
        if text(strategy, "type") == "RollingUpdate"
            && let Some(rolling) = existing(strategy, "rollingUpdate")
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
        (persistent_volume_claim::RULES.defaults)(claim);
    }
}

/// `maxUnavailable` waits for its feature.
fn drop_disabled(object: &mut Value, old: &Value) {
    let rolling = &old["spec"]["updateStrategy"]["rollingUpdate"];
    let strategy = existing(object, "spec").and_then(|spec| existing(spec, "updateStrategy"));
    if let Some(own) = strategy.and_then(|strategy| existing(strategy, "rollingUpdate")) {
        workload::drop_unless_used(own, rolling, "maxUnavailable");
    }
}

fn validate_spec(problems: &mut Problems, spec: &Value, old: Option<&Value>) {
    let at = Path::new("spec");
    match text(spec, "podManagementPolicy") {
        "" => problems.required(at.field("podManagementPolicy"), ""),
        "OrderedReady" | "Parallel" => {}
        policy => {
            let why = "must be 'OrderedReady' or 'Parallel'";
            problems.invalid(at.field("podManagementPolicy"), policy, why);
        }
    }
    strategy(problems, &at.field("updateStrategy"), &spec["updateStrategy"]);
    if let Some(policy) = given(spec, "persistentVolumeClaimRetentionPolicy") {
        let at = at.field("persistentVolumeClaimRetentionPolicy");
        for key in ["whenDeleted", "whenScaled"] {
            let when = text(policy, key);
            if !matches!(when, "Retain" | "Delete") {
                problems.unsupported_of(at.field(key), when, &["Retain", "Delete"]);
            }
        }
    }
    if old.is_none() {
        let at = at.field("volumeClaimTemplates");
        for (index, claim) in list(spec, "volumeClaimTemplates").iter().enumerate() {
            let at = at.index(index);
            persistent_volume_claim::validate_spec(problems, &at.field("spec"), &claim["spec"], &Value::Null);
        }
    }
    counts(problems, &at, spec, &["replicas", "minReadySeconds"]);
    if let Some(ordinals) = given(spec, "ordinals") {
        counts(problems, &at.field("ordinals"), ordinals, &["start"]);
    }
    if old.is_none() {
        problems.check_optional(at.field("serviceName"), text(spec, "serviceName"), dns1123_label);
    }
    workload::selector(problems, spec, "statefulset");
    if workload::is_usable(&spec["selector"]) {
        template(problems, &at.field("template"), spec, old);
    } else {
        problems.invalid(at.field("selector"), &spec["selector"], "");
    }
    let at = at.field("template");
    Template::restart_policy(problems, &at, &spec["template"], &["Always"]);
    Template::no_deadline(problems, &at, &spec["template"], "StatefulSet");
}

/// The template as its pods will have it: with the claims' volumes, and names that each pod gets its own of.
fn template(problems: &mut Problems, at: &Path<'_>, spec: &Value, old: Option<&Value>) {
    let claims = list(spec, "volumeClaimTemplates");
    let own = &spec["template"];
    workload::selected(problems, at, &spec["selector"], own);
    let named = ["subdomain", "hostname"].iter().any(|key| !text(&own["spec"], key).is_empty());
    let old = old.map(|old| &old["template"]);
    if claims.is_empty() && !named {
        return validate_template(problems, at, own, Template { old });
    }
    let mut template = own.clone();
    if let Some(spec) = existing(&mut template, "spec") {
        remove(spec, "subdomain");
        remove(spec, "hostname");
        let name = |claim: &Value| text(&claim["metadata"], "name").to_owned();
        let mut volumes: Vec<Value> = claims
            .iter()
            .map(|claim| json!({"name": name(claim), "persistentVolumeClaim": {"claimName": name(claim)}}))
            .collect();
        volumes.dedup_by(|one, other| one["name"] == other["name"]);
        let taken: Vec<String> = claims.iter().map(name).collect();
        volumes.extend(
            list(spec, "volumes")
                .iter()
                .filter(|volume| !taken.iter().any(|own| own == text(volume, "name")))
                .cloned(),
        );
        set(spec, "volumes", volumes);
    }
    validate_template(problems, at, &template, Template { old });
}

fn strategy(problems: &mut Problems, at: &Path<'_>, strategy: &Value) {
    let rolling = given(strategy, "rollingUpdate");
    match text(strategy, "type") {
        "" => problems.required(at, ""),
        "OnDelete" => {
            if let Some(rolling) = rolling {
                let fields = [("partition", "Partition", "0"), ("maxUnavailable", "MaxUnavailable", "null")];
                let shown = go_form(rolling, &fields);
                let why = "only allowed for updateStrategy 'RollingUpdate'";
                problems.invalid(at.field("rollingUpdate"), Verbatim(&shown), why);
            }
        }
        "RollingUpdate" => {
            let Some(rolling) = rolling else { return };
            let at = at.field("rollingUpdate");
            counts(problems, &at, rolling, &["partition"]);
            if let Some(most) = given(rolling, "maxUnavailable") {
                let at = at.field("maxUnavailable");
                int_or_percent(problems, at, most);
                if count_of(most) == 0 {
                    problems.invalid(at, most, "cannot be 0");
                }
                at_most_all(problems, at, most);
            }
        }
        kind => {
            let rolling = rolling.map_or_else(|| "null".to_owned(), Value::to_string);
            let shown = format!("{{\"Type\":{},\"RollingUpdate\":{rolling}}}", quoted(kind));
            problems.invalid(at, Verbatim(&shown), "must be 'RollingUpdate' or 'OnDelete'");
        }
    }
}

fn validate_update(problems: &mut Problems, object: &Value, old: &Value) {
    const CHANGEABLE: [&str; 7] = [
        "replicas",
        "template",
        "updateStrategy",
        "minReadySeconds",
        "ordinals",
        "revisionHistoryLimit",
        "persistentVolumeClaimRetentionPolicy",
    ];
    validate_spec(problems, &object["spec"], Some(&old["spec"]));
    let keys = |object: &Value| -> Vec<String> {
        object["spec"].as_object().into_iter().flat_map(|map| map.keys().cloned()).collect()
    };
    let all = keys(object).into_iter().chain(keys(old));
    let changed = all
        .filter(|key| !CHANGEABLE.contains(&key.as_str()))
        .any(|key| !crate::json::same_field(&object["spec"], &old["spec"], &key));
    if changed {
        problems.forbidden(
            "spec",
            "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden",
        );
    }
}
