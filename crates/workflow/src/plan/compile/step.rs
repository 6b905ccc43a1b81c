//! Steps: groups written out with their iterations, and the containers in them.

use std::collections::BTreeMap;

use fleet_objects::test_workflow::{ContainerDefaults, Content, EnvironmentVariable, TestStep};

use super::super::{DEFAULT_TIMEOUT, Group, Lists, PlannedFile, PlannedStep, content, files};
use super::{Compiler, Inside};
use crate::expression::absolute;
use crate::templates::{containers, variables};

impl Compiler<'_> {
    pub(super) fn step(&mut self, step: &TestStep, inside: &Inside, at: &str, after: bool) {
        let mut own = step.container.clone().unwrap_or_default();
        self.defaults(&mut own, &format!("{at}.container"));
        let mut container = containers(Some(inside.container.clone()), Some(own)).unwrap_or_default();
        if step.working_dir.is_some() {
            container.working_dir.clone_from(&step.working_dir);
        }
        let late = step.services.values().any(|service| self.is_late(service));
        if !step.services.is_empty() {
            let inside = Inside { group: inside.group, container: container.clone() };
            self.services(&step.services, &inside, at);
        }
        let runs = step.runs_a_container() || step.parallel.is_some() || step.execute.is_some();
        let several = !step.setup.is_empty()
            || !step.steps.is_empty()
            || late
            || (step.content.is_some() && runs)
            || usize::from(step.runs_a_container()) + usize::from(step.parallel.is_some()) > 1;
        let iterations = 1 + step.retry.as_ref().map_or(0, |retry| retry.count);
        // No runner stands around an image's own entry point: what a runner does beside it becomes steps and iterations.
        let bare = runs_own_entry_point(step, &container)
            && (iterations > 1 || step.keeps_files() || step.delay.is_some());
        let grouped = several || bare;
        let always = if after || step.always { Some("always") } else { None };
        let condition = self.expression(step.condition.as_deref().or(always), &format!("{at}.condition"));
        let title =
            step.title.as_deref().map(|title| self.text(title, &format!("{at}.title"))).unwrap_or_default();
        if !grouped {
            let inside = Inside { group: inside.group, container };
            self.leaf(step, &inside, &title, condition, at);
            return;
        }
        let single = bare && !several;
        let around = if single {
            // They are each attempt's.
            TestStep { negative: false, timeout: None, ..step.clone() }
        } else {
            step.clone()
        };
        let (group, first) = (self.group(&around, inside, &title, condition, at), self.out.steps.len());
        for iteration in 0..iterations {
            let inner = if iterations == 1 {
                group
            } else {
                let name = format!("{}-{}", self.out.groups[group].name, iteration + 1);
                let name = self.names.give("", &name);
                self.out.groups.push(Group { name, parent: Some(group), ..Group::default() });
                self.out.groups.len() - 1
            };
            let inside = Inside { group: Some(inner), container: container.clone() };
            self.parts(step, &inside, &title, at, single);
        }
        if iterations > 1 && self.out.steps[first..].iter().any(PlannedStep::is_bare) {
            // Where it fails its pod ends with the files in it: the next attempt begins with what there was before.
            let parts = self.out.steps[first..].iter_mut();
            parts.filter(|part| part.is_bare()).for_each(|part| part.begins_pod = true);
            files::keep_workspace(&mut self.out, self.prefix, &self.workspace);
        }
    }

    /// A name of its own for a step: its own one, else made of its title.
    fn named(&mut self, step: &TestStep, title: &str) -> String {
        self.names.give(self.prefix, if step.name.is_empty() { title } else { &step.name })
    }

    pub(super) fn group(
        &mut self,
        step: &TestStep,
        inside: &Inside,
        title: &str,
        condition: String,
        at: &str,
    ) -> usize {
        let name = self.named(step, title);
        let until = step.retry.as_ref().filter(|retry| retry.count > 0).map(|retry| {
            let until = self.expression(retry.until.as_deref(), &format!("{at}.retry.until"));
            if until.is_empty() { "self.passed".to_owned() } else { until }
        });
        let group = Group {
            title: if title == name { String::new() } else { title.to_owned() },
            name,
            parent: inside.group,
            condition,
            negative: step.negative,
            optional: step.optional,
            until,
            timeout: self.duration(step.timeout.as_deref(), &format!("{at}.timeout")),
        };
        self.out.groups.push(group);
        self.out.groups.len() - 1
    }

    /// What stands in a step, in the order it runs. `single`: it is the entry point of an image, and what belongs to that alone.
    pub(super) fn parts(&mut self, step: &TestStep, inside: &Inside, title: &str, at: &str, single: bool) {
        if let Some(content) = &step.content {
            self.content(content, inside, &format!("{at}.content"));
        }
        self.late_services(&step.services, inside, at);
        for (index, part) in step.setup.iter().enumerate() {
            self.step(part, inside, &format!("{at}.setup[{index}]"), false);
        }
        let mut own = TestStep {
            name: String::new(),
            retry: None,
            negative: single && step.negative,
            optional: false,
            timeout: step.timeout.clone().filter(|_| single),
            content: None,
            services: BTreeMap::new(),
            ..step.clone()
        };
        let bare = runs_own_entry_point(step, &inside.container);
        if bare && own.delay.is_some() {
            let wait =
                TestStep { title: Some("Wait".to_owned()), delay: own.delay.take(), ..TestStep::default() };
            self.leaf(&wait, inside, "Wait", String::new(), at);
        }
        // Files are kept when everything in the step has ended.
        let keeps = (!step.steps.is_empty() || bare) && step.keeps_files();
        let files = TestStep {
            title: Some("Keep files".to_owned()),
            artifacts: if keeps { std::mem::take(&mut own.artifacts) } else { Vec::new() },
            junit: if keeps { std::mem::take(&mut own.junit) } else { Vec::new() },
            artifact_options: step.artifact_options.clone(),
            ..TestStep::default()
        };
        let has_own = step.runs_a_container()
            || step.parallel.is_some()
            || step.execute.is_some()
            || step.paused
            || step.delay.is_some();
        if has_own || own.keeps_files() {
            let name = if step.name.is_empty() { title } else { &step.name };
            let title = if name.is_empty() { "run" } else { name };
            self.leaf(&own, inside, &format!("{title} run"), String::new(), at);
        }
        for (index, part) in step.steps.iter().enumerate() {
            self.step(part, inside, &format!("{at}.steps[{index}]"), false);
        }
        if keeps {
            // Of an entry point that failed nothing is left.
            let condition = if single { "passed" } else { "always" };
            self.leaf(&files, inside, "Keep files", condition.to_owned(), at);
        }
    }

    pub(super) fn leaf(
        &mut self,
        step: &TestStep,
        inside: &Inside,
        title: &str,
        condition: String,
        at: &str,
    ) {
        let name = self.named(step, title);
        let base = &inside.container;
        let runs = step.runs_a_container();
        let image = if !runs {
            String::new()
        } else if step.image.is_empty() {
            base.image.clone()
        } else {
            self.known(&step.image, &format!("{at}.image"))
        };
        let image = if runs && image.is_empty() {
            // A script needs some shell; upstream uses busybox as well.
            if step.shell.is_some() || !step.command.is_empty() { "busybox:1.37".to_owned() } else { image }
        } else {
            image
        };
        if runs && image.is_empty() {
            self.fail(&format!("{at}.image"), "an image is required, here or in container");
        }
        let (command, args) = self.command(step, base, at);
        let retry = step.retry.clone().unwrap_or_default();
        let working_dir = self.directory(base.working_dir.as_deref(), at);
        let options = step.artifact_options.clone().unwrap_or_default();
        let artifacts_dir = match &options.working_dir {
            Some(dir) => {
                absolute(&self.known(dir, &format!("{at}.artifactOptions.workingDir")), &working_dir)
            }
            None if step.artifacts.is_empty() && step.junit.is_empty() => String::new(),
            None => working_dir.clone(),
        };
        let mut env = self.environment(step, base, &name, at);
        let artifacts = self.list(&step.artifacts, &format!("{at}.artifacts"));
        let (mut parallel, mut lists, mut waits_for) = (None, None, Vec::new());
        if let Some(instances) = self.parallel(step, inside, &name, at) {
            waits_for.extend(instances.later.then(|| name.clone()));
            (parallel, lists) = (Some(instances.parallel), instances.lists);
        }
        let secrets = self.scope.take_secrets();
        env = variables(&secrets, &env);
        let planned = PlannedStep {
            id: step.id.clone().unwrap_or_else(|| step.name.clone()),
            title: if title == name { String::new() } else { title.to_owned() },
            group: inside.group,
            image_pull_policy: base.image_pull_policy.clone(),
            command,
            args,
            env,
            env_from: base.env_from.clone(),
            working_dir,
            files: Vec::new(),
            condition,
            delay: self.duration(step.delay.as_deref(), &format!("{at}.delay")),
            paused: step.paused,
            timeout: self
                .duration(step.timeout.as_deref(), &format!("{at}.timeout"))
                .unwrap_or(DEFAULT_TIMEOUT),
            attempts: 1 + retry.count,
            until: self.expression(retry.until.as_deref(), &format!("{at}.retry.until")),
            negative: step.negative,
            optional: step.optional,
            artifacts,
            junit: step.junit.clone(),
            artifacts_dir,
            archive: match &options.archive {
                Some(name) => self.text(name, &format!("{at}.artifactOptions.archive")),
                None => String::new(),
            },
            resources: base.resources.clone(),
            security_context: base.security_context.clone(),
            volume_mounts: base.volume_mounts.clone(),
            lists: None,
            waits_for,
            begins_pod: false,
            starts: None,
            parallel,
            image,
            name,
        };
        if let Some(lists) = lists {
            self.find(lists, &planned);
        }
        self.out.steps.push(planned);
    }

    /// The step that finds out what the instances of the step `of` are told by: where that stands, with what it has.
    pub(super) fn find(&mut self, lists: Lists, of: &PlannedStep) {
        let name = self.names.give("", &format!("{}-instances", of.name));
        // A step before that ended its pod would have left nothing to look at.
        if self.out.steps.iter().any(|step| step.is_apart() || step.paused) {
            files::keep_workspace(&mut self.out, self.prefix, &self.workspace);
        }
        let title = if of.title.is_empty() { &of.name } else { &of.title };
        self.out.steps.push(PlannedStep {
            title: format!("Instances of {title}"),
            id: name.clone(),
            name,
            group: of.group,
            env: of.env.clone(),
            env_from: of.env_from.clone(),
            working_dir: of.working_dir.clone(),
            condition: of.condition.clone(),
            timeout: DEFAULT_TIMEOUT,
            attempts: 1,
            optional: of.optional,
            security_context: of.security_context.clone(),
            volume_mounts: of.volume_mounts.clone(),
            lists: Some(lists),
            ..PlannedStep::default()
        });
    }

    pub(super) fn directory(&mut self, dir: Option<&str>, at: &str) -> String {
        let workspace = self.workspace.clone();
        dir.map_or(workspace.clone(), |dir| {
            absolute(&self.known(dir, &format!("{at}.workingDir")), &workspace)
        })
    }

    pub(super) fn command(
        &mut self,
        step: &TestStep,
        base: &ContainerDefaults,
        at: &str,
    ) -> (Vec<String>, Vec<String>) {
        if let Some(script) = &step.shell {
            let script = self.text(script, &format!("{at}.shell"));
            return (["/bin/sh", "-ec"].map(str::to_owned).to_vec(), vec![script]);
        }
        let command = self.list(&step.command, &format!("{at}.command"));
        let args = self.list(&step.args, &format!("{at}.args"));
        // What an image, a command or arguments of its own say goes before what is inherited.
        let inherits = step.image.is_empty() && command.is_empty();
        let command = if inherits { base.command.clone() } else { command };
        let args = if inherits && args.is_empty() { base.args.clone() } else { args };
        (command, args)
    }

    /// Later ones may refer to earlier ones: the workflow's, the container's, the step's, Fairlead's.
    pub(super) fn environment(
        &mut self,
        step: &TestStep,
        base: &ContainerDefaults,
        name: &str,
        at: &str,
    ) -> Vec<EnvironmentVariable> {
        let pair = |name: &str, value: &str| EnvironmentVariable {
            name: name.to_owned(),
            value: value.to_owned(),
            ..EnvironmentVariable::default()
        };
        let shared: Vec<_> = self.variables.iter().map(|(name, value)| pair(name, value)).collect();
        let mut own = step.env.clone();
        for (index, variable) in own.iter_mut().enumerate() {
            variable.value = self.text(&variable.value, &format!("{at}.env[{index}].value"));
        }
        let fairlead = [
            pair("FAIRLEAD_CLUSTER", &self.execution.cluster),
            pair("FAIRLEAD_RUN", &self.execution.run.name),
            pair("FAIRLEAD_STEP", name),
        ];
        variables(&variables(&variables(&shared, &base.env), &own), &fairlead)
    }

    pub(super) fn content(&mut self, content: &Content, inside: &Inside, at: &str) {
        let workspace = self.workspace.clone();
        let content::Files(files) = content::files(content);
        if !files.is_empty() {
            let step = TestStep {
                title: Some("Write files".to_owned()),
                env: files.iter().filter_map(|(.., from)| from.clone()).collect(),
                ..TestStep::default()
            };
            self.leaf(&step, inside, "Write files", String::new(), at);
            let files: Vec<_> = files
                .into_iter()
                .map(|(path, text, mode, _)| PlannedFile {
                    path: absolute(&self.known(&path, at), &workspace),
                    content: self.text(&text, at),
                    mode,
                })
                .collect();
            if let Some(step) = self.out.steps.last_mut() {
                step.files = files;
            }
        }
        let sources = content.git.iter().map(|git| content::git(git, &workspace));
        let archives = content.tarball.iter().map(|tarball| content::tarball(tarball, &workspace));
        for step in sources.chain(archives) {
            let container =
                ContainerDefaults { env: inside.container.env.clone(), ..ContainerDefaults::default() };
            let inside = Inside { group: inside.group, container };
            let title = step.title.clone().unwrap_or_default();
            self.leaf(&step, &inside, &title, String::new(), at);
        }
    }
}

/// Whether a step runs what its image says, not what the workflow says.
fn runs_own_entry_point(step: &TestStep, container: &ContainerDefaults) -> bool {
    let inherits = step.image.is_empty() && !container.command.is_empty();
    step.runs_a_container() && step.shell.is_none() && step.command.is_empty() && !inherits
}
