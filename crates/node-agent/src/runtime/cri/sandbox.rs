//! What the runtime is told of a pod and its containers.

use std::collections::HashMap;

use k8s_openapi::api::core::v1::{Container, Pod, PodSecurityContext, SecurityContext};

use super::{
    CALL, CONTAINER_NAME, CriOptions, IMAGE, Inner, OWNER, POD_NAME, POD_NAMESPACE, POD_UID, log_dir,
    termination, v1,
};
use crate::inputs::fields::parse_quantity;
use crate::pod::{facts, status};
use crate::runtime::{Launch, Mount, RuntimeError};

/// One CPU in shares, and the smallest there are, as upstream reckons.
const SHARES_PER_CPU: f64 = 1024.0;
const MIN_SHARES: f64 = 2.0;
/// The scheduling period of CPU limits in microseconds, and the smallest quota the kernel takes.
const PERIOD: f64 = 100_000.0;
const MIN_QUOTA: f64 = 1_000.0;
/// What the kernel hides from containers that aren't privileged, as runtimes usually have it.
const MASKED: &[&str] = &[
    "/proc/asound",
    "/proc/acpi",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];
const READ_ONLY: &[&str] = &["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

fn labels(pod: &Pod, options: &CriOptions) -> HashMap<String, String> {
    let meta = &pod.metadata;
    HashMap::from([
        (OWNER.to_owned(), options.owner.clone()),
        (POD_UID.to_owned(), facts::uid(pod).to_owned()),
        (POD_NAME.to_owned(), meta.name.clone().unwrap_or_default()),
        (POD_NAMESPACE.to_owned(), meta.namespace.clone().unwrap_or_default()),
    ])
}

fn on_host_network(pod: &Pod, options: &CriOptions) -> bool {
    facts::spec(pod).host_network == Some(true) || options.network_problem.is_some()
}

/// A container sees its own processes alone.
const OWN_PID: i32 = 1;
/// A container sees another container's processes.
const TARGET_PID: i32 = 3;
/// CRI's state of a container that runs.
const RUNNING: i32 = 1;

/// 0 is the pod's own, 1 the container's own, 2 the machine's.
fn namespaces(pod: &Pod, options: &CriOptions) -> v1::NamespaceOption {
    let spec = facts::spec(pod);
    let pid = match (spec.host_pid, spec.share_process_namespace) {
        (Some(true), _) => 2,
        (_, Some(true)) => 0,
        _ => 1,
    };
    v1::NamespaceOption {
        network: if on_host_network(pod, options) { 2 } else { 0 },
        pid,
        ipc: if spec.host_ipc == Some(true) { 2 } else { 0 },
        target_id: String::new(),
    }
}

/// The sandbox of a pod.
pub(super) fn config(pod: &Pod, options: &CriOptions, attempt: u32) -> v1::PodSandboxConfig {
    let spec = facts::spec(pod);
    let meta = &pod.metadata;
    let uid = facts::uid(pod).to_owned();
    let privileged = facts::containers(pod).any(|(_, container)| {
        container.security_context.as_ref().is_some_and(|context| context.privileged == Some(true))
    });
    let context = spec.security_context.clone().unwrap_or_default();
    let host_network = on_host_network(pod, options);
    let hostname = spec.hostname.clone().or_else(|| meta.name.clone()).unwrap_or_default();
    v1::PodSandboxConfig {
        metadata: Some(v1::PodSandboxMetadata {
            name: meta.name.clone().unwrap_or_default(),
            namespace: meta.namespace.clone().unwrap_or_default(),
            uid: uid.clone(),
            attempt,
        }),
        // A name that belongs to the machine is not for a pod to change.
        hostname: if host_network { String::new() } else { hostname.chars().take(63).collect() },
        log_directory: log_dir(options, pod).display().to_string(),
        dns_config: dns(pod, options),
        port_mappings: if host_network { Vec::new() } else { ports(pod) },
        labels: labels(pod, options),
        annotations: HashMap::new(),
        linux: Some(v1::LinuxPodSandboxConfig {
            cgroup_parent: format!(
                "{}/{}/{uid}",
                options.cgroup_parent,
                status::qos_class(pod).to_lowercase()
            ),
            security_context: Some(v1::LinuxSandboxSecurityContext {
                namespace_options: Some(namespaces(pod, options)),
                privileged,
                supplemental_groups: groups(&context),
                seccomp: Some(seccomp(None, &context)),
                ..Default::default()
            }),
            sysctls: context.sysctls.iter().flatten().map(|s| (s.name.clone(), s.value.clone())).collect(),
        }),
    }
}

fn groups(context: &PodSecurityContext) -> Vec<i64> {
    context.supplemental_groups.iter().flatten().chain(context.fs_group.iter()).copied().collect()
}

fn ports(pod: &Pod) -> Vec<v1::PortMapping> {
    let ports = facts::containers(pod).flat_map(|(_, container)| container.ports.iter().flatten());
    ports
        .filter_map(|port| {
            let host_port = port.host_port.filter(|host_port| *host_port > 0)?;
            let protocol = match port.protocol.as_deref() {
                Some("UDP") => 1,
                Some("SCTP") => 2,
                _ => 0,
            };
            let host_ip = port.host_ip.clone().unwrap_or_default();
            Some(v1::PortMapping { protocol, container_port: port.container_port, host_port, host_ip })
        })
        .collect()
}

/// `None` leaves the machine's own resolver configuration.
fn dns(pod: &Pod, options: &CriOptions) -> Option<v1::DnsConfig> {
    let spec = facts::spec(pod);
    let policy = spec.dns_policy.as_deref().unwrap_or("ClusterFirst");
    let cluster =
        policy == "ClusterFirstWithHostNet" || (policy == "ClusterFirst" && spec.host_network != Some(true));
    let mut dns = v1::DnsConfig::default();
    let mut any = policy == "None";
    if cluster && !options.cluster_dns.is_empty() {
        any = true;
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let domain = &options.cluster_domain;
        dns.servers.clone_from(&options.cluster_dns);
        dns.searches = vec![format!("{namespace}.svc.{domain}"), format!("svc.{domain}"), domain.clone()];
        dns.options = vec!["ndots:5".to_owned()];
    }
    if let Some(own) = &spec.dns_config {
        any = true;
        dns.servers.extend(own.nameservers.iter().flatten().cloned());
        dns.searches.extend(own.searches.iter().flatten().cloned());
        dns.options.extend(own.options.iter().flatten().map(|option| {
            let name = option.name.clone().unwrap_or_default();
            option.value.as_ref().map_or(name.clone(), |value| format!("{name}:{value}"))
        }));
    }
    any.then_some(dns)
}

/// Starts a sandbox.
pub(super) async fn start(inner: &Inner, pod: &Pod, attempt: u32) -> Result<(), RuntimeError> {
    let path = log_dir(&inner.options, pod);
    let file = |source| RuntimeError::File { operation: "create log directory", path: path.clone(), source };
    tokio::fs::create_dir_all(&path).await.map_err(file)?;
    // One that was left half-made by an interrupted start keeps its name reserved.
    for old in inner.sandbox_ids(facts::uid(pod)).await? {
        if old.metadata.as_ref().is_some_and(|metadata| metadata.attempt == attempt) {
            let request = v1::PodSandboxId { pod_sandbox_id: old.id };
            inner.call("remove a sandbox", CALL, inner.runtime().remove_pod_sandbox(request)).await?;
        }
    }
    let config = Some(config(pod, &inner.options, attempt));
    let request = v1::RunPodSandboxRequest { config, runtime_handler: String::new() };
    inner.call("run sandbox", CALL, inner.runtime().run_pod_sandbox(request)).await.map(drop)
}

/// Creates and starts one attempt of a container in its pod's ready sandbox.
pub(super) async fn start_container(inner: &Inner, launch: &Launch) -> Result<(), RuntimeError> {
    let pod = &*launch.pod;
    let sandboxes = inner.sandbox_ids(facts::uid(pod)).await?;
    let sandbox =
        sandboxes.iter().filter(|sandbox| sandbox.state == 0).max_by_key(|sandbox| sandbox.created_at);
    let sandbox = sandbox.ok_or_else(|| RuntimeError::NotFound("the pod's sandbox".to_owned()))?;
    let log_path = format!("{}_{}.log", launch.container.name, launch.attempt);
    let attempt = sandbox.metadata.as_ref().map_or(0, |metadata| metadata.attempt);
    let log = log_dir(&inner.options, pod).join(&log_path);
    let mut own = container_config(launch, &inner.options, log_path);
    own.mounts.extend(termination::mount(&log, launch.container.termination_message_path.as_deref()).await);
    if let Some(target) = target(inner, launch).await?
        && let Some(linux) = &mut own.linux
        && let Some(security) = &mut linux.security_context
        && let Some(namespaces) = &mut security.namespace_options
        && namespaces.pid == OWN_PID
    {
        namespaces.pid = TARGET_PID;
        namespaces.target_id = target;
    }
    let request = v1::CreateContainerRequest {
        pod_sandbox_id: sandbox.id.clone(),
        config: Some(own),
        sandbox_config: Some(config(pod, &inner.options, attempt)),
    };
    let mut runtime = inner.runtime();
    let asked = inner.call("create container", CALL, runtime.create_container(request));
    let created = Box::pin(asked).await?;
    let id = v1::ContainerId { container_id: created.container_id };
    match inner.call("start container", CALL, inner.runtime().start_container(id.clone())).await {
        Ok(_) => Ok(()),
        Err(error) => {
            // One that never ran has no log and no exit code worth keeping; its name must be free for the next try.
            let _ = inner.call("remove container", CALL, inner.runtime().remove_container(id)).await;
            Err(error)
        }
    }
}

/// The running container whose processes an ephemeral container shall see.
async fn target(inner: &Inner, launch: &Launch) -> Result<Option<String>, RuntimeError> {
    let own = facts::ephemeral(&launch.pod).find(|own| own.name == launch.container.name);
    let Some(name) = own.and_then(|own| own.target_container_name.as_deref()).filter(|name| !name.is_empty())
    else {
        return Ok(None);
    };
    let (_, containers) = inner.lists(Some(facts::uid(&launch.pod))).await?;
    let running = containers.into_iter().filter(|container| {
        container.state == RUNNING && container.labels.get(CONTAINER_NAME).is_some_and(|own| own == name)
    });
    let newest = running.max_by_key(|container| container.created_at);
    newest
        .map(|container| Some(container.id))
        .ok_or_else(|| RuntimeError::NotFound(format!("unable to find target container \"{name}\"")))
}

fn container_config(launch: &Launch, options: &CriOptions, log_path: String) -> v1::ContainerConfig {
    let container = &launch.container;
    let mut labels = labels(&launch.pod, options);
    labels.insert(CONTAINER_NAME.to_owned(), container.name.clone());
    let envs = launch.environment.iter();
    let named = container.image.clone().unwrap_or_default();
    v1::ContainerConfig {
        metadata: Some(v1::ContainerMetadata { name: container.name.clone(), attempt: launch.attempt }),
        image: Some(v1::ImageSpec { image: launch.image.clone(), ..Default::default() }),
        command: container.command.clone().unwrap_or_default(),
        args: container.args.clone().unwrap_or_default(),
        working_dir: container.working_dir.clone().unwrap_or_default(),
        envs: envs
            .map(|(key, value)| v1::KeyValue { key: key.clone(), value: value.clone().into_bytes() })
            .collect(),
        mounts: launch.mounts.iter().map(mount).collect(),
        labels,
        annotations: HashMap::from([(IMAGE.to_owned(), named)]),
        log_path,
        stdin: container.stdin == Some(true),
        stdin_once: container.stdin_once == Some(true),
        tty: container.tty == Some(true),
        linux: Some(v1::LinuxContainerConfig {
            resources: Some(resources(&launch.pod, container)),
            security_context: Some(security(&launch.pod, container, options)),
        }),
    }
}

fn mount(mount: &Mount) -> v1::Mount {
    v1::Mount {
        container_path: mount.container_path.clone(),
        host_path: mount.host_path.display().to_string(),
        readonly: mount.read_only,
        propagation: match mount.propagation.as_deref() {
            Some("HostToContainer") => 1,
            Some("Bidirectional") => 2,
            _ => 0,
        },
    }
}

#[expect(clippy::cast_possible_truncation, reason = "shares and quotas are far below 2^53")]
fn resources(pod: &Pod, container: &Container) -> v1::LinuxContainerResources {
    let resources = container.resources.clone().unwrap_or_default();
    let amount = |list: &Option<std::collections::BTreeMap<String, _>>, name: &str| {
        let list: Option<&k8s_openapi::apimachinery::pkg::api::resource::Quantity> =
            list.as_ref().and_then(|list| list.get(name));
        list.map(|quantity| parse_quantity(&quantity.0))
    };
    let limit = amount(&resources.limits, "cpu");
    let request = amount(&resources.requests, "cpu").or(limit).unwrap_or(0.0);
    let memory = amount(&resources.limits, "memory").unwrap_or(0.0);
    let quota = limit.map_or(0.0, |limit| (limit * PERIOD).max(MIN_QUOTA));
    v1::LinuxContainerResources {
        cpu_period: if quota > 0.0 { PERIOD as i64 } else { 0 },
        cpu_quota: quota as i64,
        cpu_shares: (request * SHARES_PER_CPU).max(MIN_SHARES) as i64,
        memory_limit_in_bytes: memory as i64,
        oom_score_adj: match status::qos_class(pod) {
            "Guaranteed" => -997,
            "BestEffort" => 1000,
            _ => 500,
        },
    }
}

fn security(pod: &Pod, container: &Container, options: &CriOptions) -> v1::LinuxContainerSecurityContext {
    let whole = facts::spec(pod).security_context.clone().unwrap_or_default();
    let own = container.security_context.clone().unwrap_or_default();
    let privileged = own.privileged == Some(true);
    let capabilities = own.capabilities.clone().unwrap_or_default();
    let paths = |list: &[&str]| {
        if privileged { Vec::new() } else { list.iter().map(|path| (*path).to_owned()).collect() }
    };
    v1::LinuxContainerSecurityContext {
        capabilities: Some(v1::Capability {
            add_capabilities: capabilities.add.unwrap_or_default(),
            drop_capabilities: capabilities.drop.unwrap_or_default(),
        }),
        privileged,
        namespace_options: Some(namespaces(pod, options)),
        run_as_user: own.run_as_user.or(whole.run_as_user).map(|value| v1::Int64Value { value }),
        run_as_group: own.run_as_group.or(whole.run_as_group).map(|value| v1::Int64Value { value }),
        readonly_rootfs: own.read_only_root_filesystem == Some(true),
        supplemental_groups: groups(&whole),
        no_new_privs: own.allow_privilege_escalation == Some(false),
        masked_paths: paths(MASKED),
        readonly_paths: paths(READ_ONLY),
        seccomp: Some(seccomp(Some(&own), &whole)),
    }
}

/// 0 is the runtime's own profile, 1 none, 2 a file of the machine. Upstream's default is none.
fn seccomp(own: Option<&SecurityContext>, whole: &PodSecurityContext) -> v1::SecurityProfile {
    let profile = own.and_then(|own| own.seccomp_profile.as_ref()).or(whole.seccomp_profile.as_ref());
    let profile_type = match profile.map(|profile| profile.type_.as_str()) {
        Some("RuntimeDefault") => 0,
        Some("Localhost") => 2,
        _ => 1,
    };
    let localhost_ref = profile.and_then(|profile| profile.localhost_profile.clone()).unwrap_or_default();
    v1::SecurityProfile { profile_type, localhost_ref }
}
