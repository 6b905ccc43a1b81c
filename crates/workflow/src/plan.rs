//! Expands a workflow into a flat plan of one execution: groups, steps in the order they run, every default filled in
//! and every bound known. What a container alone can know stays an expression in the plan.
//!
//! Repeated groups are written out, iteration by iteration, since the containers of a pod run once. Content becomes steps
//! of its own; `parallel` becomes a plan per instance.

mod compile;
mod content;
mod files;
mod names;
mod scope;
mod spread;

use std::collections::BTreeMap;
use std::time::Duration;

use fleet_objects::test_run::{Outcome, RunReference, TestExecutionSpec};
use fleet_objects::test_workflow::{ConcurrencyMode, EnvironmentVariable};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::config::Names;
use crate::expression::{Expression, ExpressionError, truthy};
use crate::progress;
use crate::validate::{self, FieldError, Invalid};

pub(crate) use scope::PlanScope;
pub(crate) use spread::OPEN;
pub use spread::{Found, Lists};

/// How long an attempt may take when the step does not say.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(600);
/// How long an execution may take when the workflow does not say.
pub const DEFAULT_TOTAL: Duration = Duration::from_secs(24 * 3600);
/// Instances of one `parallel`: each has its results in the run's status.
pub const MAX_INSTANCES: usize = 256;
/// Steps of one plan, iterations written out: each is a container of one pod.
pub const MAX_PLANNED: usize = 128;

/// The Kubernetes version of ephemeral clusters.
pub const EPHEMERAL_VERSION: &str = "1.36";
/// Nodes of an ephemeral cluster.
pub const MAX_EPHEMERAL_NODES: u32 = 100;

/// Reason of an attempt that was ended because the run was cancelled.
pub const CANCELLED: &str = "Cancelled";

/// What one execution does.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExecutionPlan {
    /// In the order they run.
    pub steps: Vec<PlannedStep>,
    /// What steps are parts of; a group comes after the one it is in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<Group>,
    /// Pods that are there meanwhile.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub services: Vec<PlannedService>,
    /// Where the shared volume is mounted.
    pub workspace: String,
    /// Bound of everything together.
    pub timeout: Duration,
    /// Settings of the pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<Value>,
    /// Executions of a group, at most so many at once in a cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<PlannedConcurrency>,
    /// A cluster of the execution's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ephemeral_cluster: Option<PlannedCluster>,
    /// Volume claims by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub pvcs: BTreeMap<String, Value>,
    /// What its first pod is given before its first step.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub receives: Vec<Receive>,
    /// Instances of the same `parallel` wait for each other before this step: what comes before it only fetches content.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub starts_together: Option<usize>,
    /// What its pods leave for others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub packs: Vec<Pack>,
    /// The services whose addresses were put in, in this order: what is planned later gets them as well.
    #[serde(skip)]
    pub addresses: Vec<Value>,
}

/// Files of a pod that outlive it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pack {
    /// Unique in the execution.
    pub name: String,
    /// The directory, in the workspace.
    pub from: String,
    /// Globs of its files; all when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<String>,
}

/// Files that a pod is given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receive {
    /// Which [`Pack`].
    pub pack: String,
    /// The part of it that is wanted, relative to what was packed; all when empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub from: String,
    /// Globs of files of that part; all when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<String>,
    /// Where to: absolute.
    pub to: String,
    /// There may be no such pack.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub optional: bool,
}

/// The group whose members wait for each other.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PlannedConcurrency {
    /// Its name.
    pub group: String,
    /// At least 1.
    pub max: u32,
    /// What becomes of one for which there is no place.
    pub mode: ConcurrencyMode,
}

/// A cluster that is there for one execution.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PlannedCluster {
    /// Simulated nodes.
    pub nodes: usize,
    /// Objects it holds from the start.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub seed: Vec<Value>,
}

/// Steps that belong together.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Group {
    /// Unique among groups and steps.
    pub name: String,
    /// For people; empty when the name says it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub title: String,
    /// The group it is in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<usize>,
    /// Whether its steps run; `passed` when empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub condition: String,
    /// It is wrong when it passes.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub negative: bool,
    /// Its failure does not count.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub optional: bool,
    /// Its parts are iterations: one follows another until this is true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    /// Bound of all its steps together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Duration>,
}

/// A step with everything decided.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PlannedStep {
    /// Unique in the plan; the name of its container.
    pub name: String,
    /// For people; empty when the name says it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub title: String,
    /// What expressions call it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub id: String,
    /// The group it is in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<usize>,
    /// The container image; empty: the tool image, which only writes and collects files.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub image: String,
    /// When the image is pulled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_pull_policy: Option<String>,
    /// Entry point; empty: the image's, which runs by itself, without the step runner.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// Its arguments.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// Variables, then the step's own, then Fairlead's, without repetitions: later ones may refer to earlier ones.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<EnvironmentVariable>,
    /// As in a container.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub env_from: Vec<Value>,
    /// Absolute.
    pub working_dir: String,
    /// Files written before the command, path and content.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<PlannedFile>,
    /// Whether it runs; `passed` when empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub condition: String,
    /// Waits this long before each execution of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay: Option<Duration>,
    /// Waits until the run is let go on.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub paused: bool,
    /// Bound of one attempt.
    pub timeout: Duration,
    /// At least 1.
    pub attempts: u32,
    /// Attempts go on until this is true; `self.passed` when empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub until: String,
    /// It is wrong when it passes.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub negative: bool,
    /// A failure does not fail the execution.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub optional: bool,
    /// Globs of files to keep.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub artifacts: Vec<String>,
    /// Globs of JUnit reports.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub junit: Vec<String>,
    /// Where globs that are not absolute begin.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub artifacts_dir: String,
    /// Name of the archive that the kept files become; empty: they stay as they are.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub archive: String,
    /// As in a container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Value>,
    /// As in a container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub security_context: Option<Value>,
    /// As in a container.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub volume_mounts: Vec<Value>,
    /// Finds out what the instances of a later step are told by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lists: Option<Lists>,
    /// Lists that steps before it find, by their names; until then its instances are not known ([`expanded`]).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waits_for: Vec<String>,
    /// It is the first of its pod: where it fails, that pod ends with everything in it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub begins_pod: bool,
    /// Starts services that need what steps before it left, instead of a container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub starts: Option<Vec<PlannedService>>,
    /// Runs plans of their own instead of a container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parallel: Option<Box<PlannedParallel>>,
}

/// A file as it stands.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PlannedFile {
    /// Absolute.
    pub path: String,
    /// Template.
    pub content: String,
    /// Permission bits.
    pub mode: u32,
}

/// Plans that run at once.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PlannedParallel {
    /// One per instance; names in them begin with the step's and the number of the instance.
    pub instances: Vec<ExecutionPlan>,
    /// How many run at once.
    pub parallelism: usize,
    /// The first failure ends the others.
    pub fail_fast: bool,
    /// What later pods of the part get of the instances.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fetches: Vec<Receive>,
}

/// A pod that is there while steps run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PlannedService {
    /// As in the workflow.
    pub name: String,
    /// Which of its instances.
    pub index: usize,
    /// Its container: image, command, environment, settings.
    pub container: PlannedStep,
    /// As in a container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub readiness_probe: Option<Value>,
    /// `OnFailure` or `Never`.
    pub restart_policy: String,
    /// Expression: whether its log is kept; not when empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub logs: String,
    /// Settings of the pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<Value>,
    /// What it is given before it starts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub receives: Vec<Receive>,
}

impl ExecutionPlan {
    /// Its services: those that are there from the start, and those that steps start.
    pub fn all_services(&self) -> impl Iterator<Item = &PlannedService> {
        self.services.iter().chain(self.steps.iter().flat_map(|step| step.starts.iter().flatten()))
    }

    /// Whether this step, one behind it or one within those has services of its own.
    fn has_services(&self, from: usize) -> bool {
        let within = |plan: &Self| !plan.services.is_empty() || plan.has_services(0);
        self.steps.iter().skip(from).any(|step| {
            step.starts.is_some()
                || step.parallel.as_ref().is_some_and(|parallel| parallel.instances.iter().any(within))
        })
    }

    /// What runs within it has the same services.
    fn hand_on_addresses(&mut self) {
        for step in &mut self.steps {
            for instance in step.parallel.iter_mut().flat_map(|parallel| &mut parallel.instances) {
                instance.addresses.clone_from(&self.addresses);
            }
        }
    }

    /// What the pod with the number `number` of the part, whose first step is `from`, is given before it: what its first pod
    /// was to have, or what the pod before it left, and what instances of `parallel` brought meanwhile.
    #[must_use]
    pub fn received(&self, part: &str, from: usize, number: u32) -> Vec<Receive> {
        if self.packs.is_empty() && self.receives.is_empty() {
            return Vec::new();
        }
        let own = files::workspace(part);
        let mut all = match number {
            0 | 1 => self.receives.clone(),
            _ if self.packs.iter().any(|pack| pack.name == own) => {
                vec![Receive { pack: own, to: self.workspace.clone(), ..Receive::default() }]
            }
            _ => Vec::new(),
        };
        let before = self.steps.iter().take(from).filter_map(|step| step.parallel.as_ref());
        all.extend(before.flat_map(|parallel| parallel.fetches.iter().cloned()));
        all
    }
}

impl PlannedService {
    /// What its log is called among those of steps, whose names have no dots.
    #[must_use]
    pub fn log_name(&self) -> String {
        format!("services.{}.{}", self.name, self.index)
    }

    /// Whether its log is kept of steps that came to this; `None`: they did not end.
    ///
    /// # Errors
    /// When the expression cannot be evaluated.
    pub fn keeps_log(&self, outcome: Option<Outcome>) -> Result<bool, ExpressionError> {
        if self.logs.is_empty() {
            return Ok(false);
        }
        let failed = outcome.is_none_or(progress::is_failure);
        let names = Names::new([
            ("always", Value::Bool(true)),
            ("never", Value::Bool(false)),
            ("failed", Value::Bool(failed)),
            ("passed", Value::Bool(!failed)),
        ]);
        Expression::parse(&self.logs)?.evaluate(&names).map(|value| truthy(&value))
    }
}

impl PlannedStep {
    /// Whether files are taken out of its pod.
    #[must_use]
    pub fn collects(&self) -> bool {
        !self.artifacts.is_empty() || !self.junit.is_empty()
    }

    /// Whether it is carried out by the agent, not in the pod of the steps around it.
    #[must_use]
    pub fn is_apart(&self) -> bool {
        self.parallel.is_some() || self.starts.is_some()
    }

    /// Whether the image's own entry point runs, which nothing can stand around.
    #[must_use]
    pub fn is_bare(&self) -> bool {
        !self.image.is_empty() && self.command.is_empty()
    }
}

/// Plans an execution whose templates are applied. Services are not there yet; what asks for them stays open.
///
/// # Errors
/// When the workflow, its variables or its parameters are not valid; the agent reports that as "could not run".
pub fn execution(spec: &TestExecutionSpec) -> Result<ExecutionPlan, Invalid> {
    with_found(spec, BTreeMap::new())
}

fn with_found(spec: &TestExecutionSpec, found: BTreeMap<String, Found>) -> Result<ExecutionPlan, Invalid> {
    validate::workflow(&spec.workflow, "spec.workflow")?;
    if let Some(name) = crate::templates::names(&spec.workflow).first() {
        let message = format!("the template {name} was not put in; a hub does that when it makes the run");
        return Err(Invalid(vec![FieldError { field: "spec.workflow.use".to_owned(), message }]));
    }
    validate::variables(&spec.workflow, &spec.variables)?;
    let values =
        crate::config::values(&spec.workflow.config, &spec.config, "spec.config").map_err(Invalid)?;
    let mut workflow = spec.workflow.clone();
    workflow.variables.extend(spec.variables.clone());
    let scope = PlanScope::of_execution(spec, values).with_found(found);
    compile::plan(&workflow, &scope, "spec.workflow", spec, "")
}

/// The plan `plan` of a part of an execution, with the instances of its step at `index`, which wait for what containers
/// `found` (by the name of the list, those of steps around it as well).
///
/// # Errors
/// When there are too many, or one of them is not valid.
pub fn expanded(
    spec: &TestExecutionSpec,
    found: BTreeMap<String, Found>,
    plan: &ExecutionPlan,
    index: usize,
) -> Result<ExecutionPlan, Invalid> {
    let whole = with_found(spec, found)?;
    let name = &plan.steps[index].name;
    let found = step_called(&whole, name).filter(|step| step.waits_for.is_empty());
    let Some(mut step) = found.cloned() else {
        let message = "what its instances are told by is not known".to_owned();
        return Err(Invalid(vec![FieldError { field: name.clone(), message }]));
    };
    // What is asked of others is put in with those.
    for services in &plan.addresses {
        step = with_addresses(&step, services, true)?;
    }
    let mut plan = plan.clone();
    plan.steps[index] = step;
    plan.hand_on_addresses();
    Ok(plan)
}

fn step_called<'a>(plan: &'a ExecutionPlan, name: &str) -> Option<&'a PlannedStep> {
    plan.steps.iter().find_map(|step| {
        if step.name == name {
            return Some(step);
        }
        let instances = step.parallel.iter().flat_map(|parallel| &parallel.instances);
        instances.into_iter().find_map(|instance| step_called(instance, name))
    })
}

/// Puts addresses of services into a plan: `services.<name>.<index>.ip`. `from`: the step at whose beginning they are there;
/// services that steps behind it start are not known yet.
///
/// # Errors
/// When the plan's texts cannot be resolved with them.
pub fn with_services(plan: &ExecutionPlan, services: &Value, from: usize) -> Result<ExecutionPlan, Invalid> {
    let mut with = with_addresses(plan, services, plan.has_services(from))?;
    with.addresses = plan.addresses.iter().chain([services]).cloned().collect();
    with.hand_on_addresses();
    Ok(with)
}

/// `more`: there will be other services, whose addresses stay open.
fn with_addresses<T: Serialize + DeserializeOwned>(
    of: &T,
    services: &Value,
    more: bool,
) -> Result<T, Invalid> {
    let value = serde_json::to_value(of).map_err(|error| unreadable(&error))?;
    let names = Names::new([("services", services.clone())]).open(more);
    let mut errors = Vec::new();
    let resolved = crate::templates::resolve_document(&value, &names, "plan", &mut errors);
    if !errors.is_empty() {
        return Err(Invalid(errors));
    }
    serde_json::from_value(resolved).map_err(|error| unreadable(&error))
}

/// Name of the pack with the workspace of a part.
#[must_use]
pub fn workspace_pack(part: &str) -> String {
    files::workspace(part)
}

/// Name of the volume claim that a run makes for one of its `pvcs`. A run that an agent begins by itself has no uid.
#[must_use]
pub fn claim_name(run: &RunReference, name: &str) -> String {
    let whole = format!("{}/{}/{}", run.namespace, run.name, run.uid);
    format!("t-{}-{}", &crate::collect::digest(whole.as_bytes())[..12], names::slug(name))
}

fn unreadable(error: &serde_json::Error) -> Invalid {
    Invalid(vec![FieldError { field: "plan".to_owned(), message: error.to_string() }])
}

#[cfg(test)]
mod tests;
