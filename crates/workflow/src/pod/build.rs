//! Builds pods as documents, so that what a workflow says about its pods lies over what they have anyway.

use std::collections::BTreeMap;

use fleet_objects::test_run::RUN_UID_LABEL;
use fleet_objects::test_workflow::EnvironmentVariable;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Map, Value, json};

use super::{
    BIN_DIR, CLUSTER_DIR, COLLECTOR, CONTROL_ANNOTATION, EXECUTION_UID_LABEL, FILES_DIR, GRACE_SECONDS,
    INSTALL, KUBECONFIG_KEY, MANAGED_BY, OUTPUTS_DIRS, PLAN_VARIABLE, PROGRESS_VARIABLE, PodOptions, RECEIVE,
    SERVICE, START, START_NUMBER, STATE_DIR, USER, name, service_name,
};
use crate::collect::RECORD;
use crate::plan::{ExecutionPlan, PlannedService, PlannedStep, Receive};
use crate::progress::Progress;
use crate::templates::merged;

/// Bytes of a text in one variable: Linux allows 128 KiB per variable with its name.
const PIECE: usize = 100_000;

/// What volumes are called for files that are given to directories beside the workspace.
const GIVEN: &str = "fairlead-given-";

/// Why a workflow's settings do not make a pod.
#[derive(Debug, thiserror::Error)]
#[error("the settings of pod and containers make no pod")]
pub struct BuildError(#[from] serde_json::Error);

/// The pod with the number `number` of the steps `from` up to but not with `end`.
///
/// # Errors
/// When the workflow's settings do not fit the types of a pod.
pub fn steps(
    options: &PodOptions,
    plan: &ExecutionPlan,
    progress: &Progress,
    (from, end): (usize, usize),
    number: u32,
) -> Result<Pod, BuildError> {
    let mut init = vec![install(options, plan, progress)?];
    let received = plan.received(&options.part, from, number);
    let given = outside(&plan.workspace, &received);
    if !received.is_empty() {
        init.push(waiting(options, plan, RECEIVE, 0, received.len()));
    }
    for (index, step) in plan.steps.iter().enumerate().take(end).skip(from) {
        if plan.starts_together == Some(index) {
            init.push(waiting(options, plan, START, START_NUMBER, 1));
        }
        let guards = index + 1 < end && plan.steps[index + 1].is_bare();
        init.push(step_container(options, plan, step, index, guards));
    }
    let own = |container: &Value| ![INSTALL, START].iter().any(|name| container["name"] == *name);
    init.iter_mut().filter(|container| own(container)).for_each(|container| mount_given(container, &given));
    let mut spec = json!({
        "initContainers": init,
        "containers": [collector(options, plan)?],
        "restartPolicy": "Never",
        "volumes": [
            { "name": "workspace", "emptyDir": {} },
            { "name": "fairlead-bin", "emptyDir": {} },
            { "name": "fairlead-state", "emptyDir": {} },
            { "name": "fairlead-outputs", "emptyDir": {} },
            { "name": "fairlead-control", "downwardAPI": { "items": [{
                "path": "control",
                "fieldRef": { "fieldPath": format!("metadata.annotations['{CONTROL_ANNOTATION}']") },
            }] } },
        ],
    });
    add_volumes(&mut spec, &given);
    pod(options, name(options, number), spec, plan.pod.as_ref())
}

/// The pod of a service.
///
/// # Errors
/// When the workflow's settings do not fit the types of a pod.
pub fn service(
    options: &PodOptions,
    plan: &ExecutionPlan,
    service: &PlannedService,
) -> Result<Pod, BuildError> {
    let step = &service.container;
    let mut container = container(options, plan, step, SERVICE);
    container["command"] = words(&step.command);
    container["args"] = words(&step.args);
    container["volumeMounts"] = mounts(&[("workspace", plan.workspace.as_str(), false)], step);
    if let Some(probe) = &service.readiness_probe {
        container["readinessProbe"] = probe.clone();
    }
    let given = outside(&plan.workspace, &service.receives);
    let mut volumes = vec![json!({ "name": "workspace", "emptyDir": {} })];
    let mut init = Vec::new();
    if !service.receives.is_empty() {
        let mut waiting = waiting(options, plan, RECEIVE, 0, service.receives.len());
        volumes.push(json!({ "name": "fairlead-state", "emptyDir": {} }));
        [&mut waiting, &mut container].into_iter().for_each(|container| mount_given(container, &given));
        init.push(waiting);
    }
    let mut spec = json!({
        "initContainers": init,
        "containers": [container],
        "restartPolicy": service.restart_policy,
        "volumes": volumes,
    });
    add_volumes(&mut spec, &given);
    let settings = merged(plan.pod.clone(), service.pod.clone());
    pod(options, service_name(options, service), spec, settings.as_ref())
}

/// Directories beside the workspace to which files are given, none within another.
fn outside(workspace: &str, receives: &[Receive]) -> Vec<String> {
    let within = |path: &str, dir: &str| {
        path.strip_prefix(dir).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let places = receives.iter().map(|receive| receive.to.trim_end_matches('/').to_owned());
    let mut places: Vec<_> = places.filter(|to| !within(to, workspace.trim_end_matches('/'))).collect();
    places.sort();
    places.dedup();
    let inner = |place: &String| places.iter().any(|other| other != place && within(place, other));
    places.iter().filter(|place| !inner(place)).cloned().collect()
}

/// Volumes for those directories.
fn add_volumes(spec: &mut Value, given: &[String]) {
    let volumes =
        (0..given.len()).map(|number| json!({ "name": format!("{GIVEN}{number}"), "emptyDir": {} }));
    if let Some(all) = spec["volumes"].as_array_mut() {
        all.extend(volumes);
    }
}

/// Those volumes in a container; a mount of its own at the same place wins.
fn mount_given(container: &mut Value, given: &[String]) {
    let Some(mounts) = container["volumeMounts"].as_array_mut() else { return };
    for (number, place) in given.iter().enumerate() {
        if mounts.iter().all(|mount| mount["mountPath"] != json!(place)) {
            mounts.push(json!({ "name": format!("{GIVEN}{number}"), "mountPath": place }));
        }
    }
}

fn pod(options: &PodOptions, name: String, spec: Value, settings: Option<&Value>) -> Result<Pod, BuildError> {
    let mut spec = spec;
    if let Some(secret) = &options.kubeconfig {
        give_cluster(&mut spec, secret);
    }
    let mut settings = settings.cloned().unwrap_or_else(|| json!({}));
    let mut take = |key: &str| settings.as_object_mut().and_then(|own| own.remove(key));
    let (labels, annotations) = (take("labels"), take("annotations"));
    let base = json!({
        "automountServiceAccountToken": false,
        "enableServiceLinks": false,
        "terminationGracePeriodSeconds": GRACE_SECONDS,
        "securityContext": {
            "runAsNonRoot": true, "runAsUser": USER, "runAsGroup": USER, "fsGroup": USER,
            "seccompProfile": { "type": "RuntimeDefault" },
        },
    });
    let base = merged(Some(base), Some(spec));
    let mut spec = merged(base, Some(settings)).unwrap_or_default();
    allow_root(&mut spec["securityContext"]);
    let own = json!({
        (MANAGED_BY.0): MANAGED_BY.1,
        (RUN_UID_LABEL): options.run.uid,
        (EXECUTION_UID_LABEL): options.execution_uid,
    });
    let about =
        json!({ "fleet.fairlead.dev/test-run": format!("{}/{}", options.run.namespace, options.run.name) });
    let metadata = json!({
        "name": name,
        "namespace": options.namespace,
        "labels": merged(labels, Some(own)),
        "annotations": merged(annotations, Some(about)),
    });
    Ok(serde_json::from_value(json!({ "metadata": metadata, "spec": spec }))?)
}

/// Leads every container but ours to the execution's own cluster.
fn give_cluster(spec: &mut Value, secret: &str) {
    let volume =
        json!({ "name": "fairlead-cluster", "secret": { "secretName": secret, "defaultMode": 0o440 } });
    let mount = json!({ "name": "fairlead-cluster", "mountPath": CLUSTER_DIR, "readOnly": true });
    let variable = json!({ "name": "KUBECONFIG", "value": format!("{CLUSTER_DIR}/{KUBECONFIG_KEY}") });
    let add = |list: &mut Value, item: &Value| match list.as_array_mut() {
        Some(items) => items.push(item.clone()),
        None => *list = json!([item]),
    };
    add(&mut spec["volumes"], &volume);
    for list in ["initContainers", "containers"] {
        for container in spec[list].as_array_mut().into_iter().flatten() {
            if [INSTALL, RECEIVE, START, COLLECTOR].iter().any(|own| container["name"] == *own) {
                continue;
            }
            add(&mut container["volumeMounts"], &mount);
            let own = container["env"]
                .as_array()
                .is_some_and(|env| env.iter().any(|own| own["name"] == "KUBECONFIG"));
            if !own {
                add(&mut container["env"], &variable);
            }
        }
    }
}

/// Whoever asks for the user root cannot mean `runAsNonRoot` as well.
fn allow_root(context: &mut Value) {
    if context["runAsUser"] == 0 {
        context["runAsNonRoot"] = json!(false);
    }
}

fn no_rights() -> Value {
    json!({ "allowPrivilegeEscalation": false, "capabilities": { "drop": ["ALL"] } })
}

fn install(options: &PodOptions, plan: &ExecutionPlan, progress: &Progress) -> Result<Value, BuildError> {
    let mut env = pieces(PLAN_VARIABLE, serde_json::to_string(&for_pod(plan))?);
    // What lists came to is in the plan.
    let progress = Progress { lists: BTreeMap::new(), ..progress.clone() };
    if progress != Progress::default() {
        env.extend(pieces(PROGRESS_VARIABLE, serde_json::to_string(&progress)?));
    }
    Ok(json!({
        "name": INSTALL,
        "image": options.tool_image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["/fairlead", "tool", "install", BIN_DIR],
        "env": env,
        "volumeMounts": [
            { "name": "fairlead-bin", "mountPath": BIN_DIR },
            { "name": "fairlead-state", "mountPath": STATE_DIR },
        ],
        "securityContext": no_rights(),
        "resources": { "requests": { "cpu": "1m", "memory": "16Mi" } },
    }))
}

/// The plan without what runs in pods of its own.
fn for_pod(plan: &ExecutionPlan) -> ExecutionPlan {
    let mut plan = plan.clone();
    for parallel in plan.steps.iter_mut().filter_map(|step| step.parallel.as_mut()) {
        (parallel.instances, parallel.fetches) = Default::default();
    }
    plan
}

/// A text in as many variables as it needs.
fn pieces(name: &str, text: String) -> Vec<Value> {
    let (mut env, mut rest) = (Vec::new(), text);
    while !rest.is_empty() {
        let tail = rest.split_off(rest.floor_char_boundary(PIECE));
        env.push(json!({ "name": format!("{name}{}", env.len()), "value": plain(&rest) }));
        rest = tail;
    }
    env
}

/// Kubernetes replaces `$(NAME)` in values; a doubled dollar is one.
fn plain(text: &str) -> String {
    text.replace('$', "$$")
}

fn step_container(
    options: &PodOptions,
    plan: &ExecutionPlan,
    step: &PlannedStep,
    index: usize,
    guards: bool,
) -> Value {
    let mut own = container(options, plan, step, &step.name);
    if step.is_bare() {
        if !step.args.is_empty() {
            own["args"] = words(&step.args);
        }
        own["volumeMounts"] = mounts(&[("workspace", plan.workspace.as_str(), false)], step);
        return own;
    }
    let loader = format!("{BIN_DIR}/lib/loader");
    let (library, program) = (format!("{BIN_DIR}/lib"), format!("{BIN_DIR}/fairlead"));
    let index = index.to_string();
    let mut command = vec![loader.as_str(), "--library-path", &library, &program, "tool", "step", &index];
    if guards {
        command.push("--guard");
    }
    own["command"] = json!(command);
    let shared = [
        ("workspace", plan.workspace.as_str(), false),
        ("fairlead-bin", BIN_DIR, true),
        ("fairlead-state", STATE_DIR, false),
        ("fairlead-outputs", OUTPUTS_DIRS[0], false),
        ("fairlead-outputs", OUTPUTS_DIRS[1], false),
        ("fairlead-control", "/.fairlead/control", true),
    ];
    own["volumeMounts"] = mounts(&shared, step);
    own
}

fn container(options: &PodOptions, plan: &ExecutionPlan, step: &PlannedStep, name: &str) -> Value {
    let tool = step.image.is_empty();
    let mut context = merged(Some(no_rights()), step.security_context.clone()).unwrap_or_default();
    allow_root(&mut context);
    let mut own = json!({
        "name": name,
        "image": if tool { &options.tool_image } else { &step.image },
        "imagePullPolicy": step.image_pull_policy.as_deref().unwrap_or("IfNotPresent"),
        "env": environment(&step.env),
        "securityContext": context,
    });
    // The runner goes there itself and makes the directory when it is not there.
    if step.is_bare() || name == SERVICE && step.working_dir != plan.workspace {
        own["workingDir"] = json!(step.working_dir);
    }
    if !step.env_from.is_empty() {
        own["envFrom"] = json!(step.env_from);
    }
    if let Some(resources) = &step.resources {
        own["resources"] = resources.clone();
    }
    own
}

fn environment(variables: &[EnvironmentVariable]) -> Value {
    let own = variables.iter().filter_map(|variable| match &variable.value_from {
        Some(from) => Some(json!({ "name": variable.name, "valueFrom": optional(from) })),
        // The runner works it out where it is known.
        None if variable.value.contains("{{") => None,
        None => Some(json!({ "name": variable.name, "value": variable.value })),
    });
    own.collect()
}

/// What a variable is taken from may be absent unless the workflow says that it must not.
fn optional(from: &Value) -> Value {
    let mut from = from.clone();
    for key in ["secretKeyRef", "configMapKeyRef"] {
        if let Some(reference) = from.get_mut(key).and_then(Value::as_object_mut) {
            reference.entry("optional").or_insert(json!(true));
        }
    }
    from
}

fn words(words: &[String]) -> Value {
    if words.is_empty() { Value::Null } else { json!(words) }
}

fn mounts(shared: &[(&str, &str, bool)], step: &PlannedStep) -> Value {
    let shared = shared.iter().map(|(name, path, read_only)| {
        let mut mount =
            Map::from_iter([("name".to_owned(), json!(name)), ("mountPath".to_owned(), json!(path))]);
        if *read_only {
            mount.insert("readOnly".to_owned(), json!(true));
        }
        Value::Object(mount)
    });
    let own: Vec<&str> = step.volume_mounts.iter().filter_map(|mount| mount["mountPath"].as_str()).collect();
    // A mount of the workflow's own at the same place wins.
    let shared = shared.filter(|mount| !own.contains(&mount["mountPath"].as_str().unwrap_or_default()));
    shared.chain(step.volume_mounts.iter().cloned()).collect()
}

/// Waits for the agent: until it has put the files of other pods into the workspace, or lets all instances begin.
fn waiting(options: &PodOptions, plan: &ExecutionPlan, name: &str, first: usize, count: usize) -> Value {
    let (first, count) = (first.to_string(), count.to_string());
    json!({
        "name": name,
        "image": options.tool_image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["/fairlead", "tool", "receive", "--first", first, count],
        "volumeMounts": [
            { "name": "workspace", "mountPath": plan.workspace },
            { "name": "fairlead-state", "mountPath": STATE_DIR },
        ],
        "securityContext": no_rights(),
        "resources": { "requests": { "cpu": "1m", "memory": "8Mi" } },
    })
}

fn collector(options: &PodOptions, plan: &ExecutionPlan) -> Result<Value, BuildError> {
    let mut command: Vec<String> = [
        "/fairlead",
        "tool",
        "collect",
        "--now",
        "--dir",
        FILES_DIR,
        "--artifact=file/**",
        "--junit=junit/**",
    ]
    .map(str::to_owned)
    .to_vec();
    command.push(format!("--artifact={RECORD}"));
    for pack in &plan.packs {
        command.push(format!("--pack={}", plain(&serde_json::to_string(pack)?)));
    }
    let packs = !plan.packs.is_empty();
    let mut mounts = vec![json!({ "name": "fairlead-state", "mountPath": STATE_DIR, "readOnly": !packs })];
    if packs {
        mounts.push(json!({ "name": "workspace", "mountPath": plan.workspace, "readOnly": true }));
    }
    Ok(json!({
        "name": COLLECTOR,
        "image": options.tool_image,
        "imagePullPolicy": "IfNotPresent",
        "command": command,
        "volumeMounts": mounts,
        "securityContext": {
            "allowPrivilegeEscalation": false, "capabilities": { "drop": ["ALL"] }, "readOnlyRootFilesystem": true,
        },
        "resources": {
            "requests": { "cpu": "1m", "memory": "8Mi" }, "limits": { "cpu": "500m", "memory": "64Mi" },
        },
    }))
}

#[cfg(test)]
mod tests;
