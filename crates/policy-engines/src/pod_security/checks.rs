//! The checks with their version history. A check that changed has an entry per edition; one of the restricted level may
//! stand in for one of the baseline.

use serde_json::Value;

use super::policy::{Level, LevelVersion, Version};

mod baseline;
mod pod;
mod profiles;
mod restricted;

use pod::Pod;

/// The newest edition in which any check changed (upstream's registry: later versions are held to it).
const NEWEST: u32 = 35;

/// Something a pod may not do at its level.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// A few words: `host namespaces`.
    pub reason: &'static str,
    /// Which containers, volumes or fields.
    pub detail: String,
}

impl Violation {
    fn of(reason: &'static str, detail: impl Into<String>) -> Option<Self> {
        Some(Self { reason, detail: detail.into() })
    }
}

type Run = fn(&Pod<'_>) -> Option<Violation>;

struct Check {
    id: &'static str,
    level: Level,
    /// Since which edition it is how; ascending.
    editions: &'static [(u32, Run)],
    /// The baseline check that this one includes.
    overrides: Option<&'static str>,
}

const fn check(id: &'static str, level: Level, editions: &'static [(u32, Run)]) -> Check {
    Check { id, level, editions, overrides: None }
}

impl Check {
    const fn instead_of(self, id: &'static str) -> Self {
        Self { overrides: Some(id), ..self }
    }

    fn at(&self, minor: u32) -> Option<Run> {
        self.editions.iter().rev().find(|(since, _)| *since <= minor).map(|(_, run)| *run)
    }
}

use Level::{Baseline, Restricted};

/// In upstream's order of results: baseline before restricted, each by id.
const CHECKS: &[Check] = &[
    check("appArmorProfile", Baseline, &[(0, profiles::app_armor)]),
    check("capabilities_baseline", Baseline, &[(0, baseline::capabilities)]),
    check("hostNamespaces", Baseline, &[(0, baseline::host_namespaces)]),
    check("hostPathVolumes", Baseline, &[(0, baseline::host_path)]),
    check("hostPorts", Baseline, &[(0, baseline::host_ports)]),
    check("hostProbesAndHostLifecycle", Baseline, &[(34, baseline::host_probes)]),
    check("privileged", Baseline, &[(0, baseline::privileged)]),
    check("procMount", Baseline, &[(0, baseline::proc_mount), (35, baseline::proc_mount_1_35)]),
    check("seLinuxOptions", Baseline, &[(0, profiles::selinux_1_0), (31, profiles::selinux_1_31)]),
    check(
        "seccompProfile_baseline",
        Baseline,
        &[(0, profiles::seccomp_annotations), (19, profiles::seccomp_baseline)],
    ),
    check(
        "sysctls",
        Baseline,
        &[
            (0, baseline::sysctls_1_0),
            (27, baseline::sysctls_1_27),
            (29, baseline::sysctls_1_29),
            (32, baseline::sysctls_1_32),
        ],
    ),
    check("windowsHostProcess", Baseline, &[(0, baseline::windows_host_process)]),
    check(
        "allowPrivilegeEscalation",
        Restricted,
        &[(8, restricted::privilege_escalation), (25, restricted::privilege_escalation_1_25)],
    ),
    check(
        "capabilities_restricted",
        Restricted,
        &[(22, restricted::capabilities), (25, restricted::capabilities_1_25)],
    )
    .instead_of("capabilities_baseline"),
    check("procMount_restricted", Restricted, &[(35, baseline::proc_mount)]).instead_of("procMount"),
    check("restrictedVolumes", Restricted, &[(0, restricted::volumes)]).instead_of("hostPathVolumes"),
    check(
        "runAsNonRoot",
        Restricted,
        &[(0, restricted::run_as_non_root), (35, restricted::run_as_non_root_1_35)],
    ),
    check("runAsUser", Restricted, &[(23, restricted::run_as_user), (35, restricted::run_as_user_1_35)]),
    check(
        "seccompProfile_restricted",
        Restricted,
        &[(19, profiles::seccomp_restricted), (25, profiles::seccomp_restricted_1_25)],
    )
    .instead_of("seccompProfile_baseline"),
];

/// What a pod of this metadata and spec does that the level forbids.
#[must_use]
pub fn evaluate(standard: LevelVersion, metadata: &Value, spec: &Value) -> Vec<Violation> {
    if standard.level == Level::Privileged {
        return Vec::new();
    }
    let minor = match standard.version {
        Version::Minor(minor) => minor.min(NEWEST),
        Version::Latest => NEWEST,
    };
    let pod = Pod { metadata, spec };
    let applies = |check: &&Check| check.level <= standard.level && check.at(minor).is_some();
    let overridden: Vec<&str> = CHECKS.iter().filter(applies).filter_map(|check| check.overrides).collect();
    CHECKS
        .iter()
        .filter(applies)
        .filter(|check| !overridden.contains(&check.id))
        .filter_map(|check| check.at(minor).and_then(|run| run(&pod)))
        .collect()
}

/// All violations in one line: `host namespaces (hostPID=true), hostPort (…)`.
#[must_use]
pub fn details(violations: &[Violation]) -> String {
    let each = violations.iter().map(|violation| {
        if violation.detail.is_empty() {
            violation.reason.to_owned()
        } else {
            format!("{} ({})", violation.reason, violation.detail)
        }
    });
    each.collect::<Vec<_>>().join(", ")
}

/// The reasons alone: `host namespaces, hostPort`.
#[must_use]
pub fn reasons(violations: &[Violation]) -> String {
    violations.iter().map(|violation| violation.reason).collect::<Vec<_>>().join(", ")
}
