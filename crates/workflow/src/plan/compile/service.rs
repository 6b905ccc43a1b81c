//! Services: containers that run beside the steps.

use std::collections::BTreeMap;

use fleet_objects::test_workflow::{ContainerDefaults, EnvironmentVariable, Service, TestStep};
use serde_json::Value;

use super::super::names::Names;
use super::super::spread::{self, Reading};
use super::super::{ExecutionPlan, Found, Lists, PlanScope, PlannedService, PlannedStep, files};
use super::{Compiler, Inside};
use crate::expression::{Lookup, Scope, Template};
use crate::templates::merged;

impl Compiler<'_> {
    /// Whether a service needs what steps leave: it starts when they have.
    pub(super) fn is_late(&self, service: &Service) -> bool {
        let lists = Lists::of_service(service, String::new());
        !service.transfer.is_empty() || matches!(lists.read(self.scope), Ok(Reading::Later(_)))
    }

    /// The services that are there from the start.
    pub(super) fn services(&mut self, services: &BTreeMap<String, Service>, inside: &Inside, at: &str) {
        for (name, service) in
            services.iter().filter(|(_, service)| !self.is_late(service)).collect::<Vec<_>>()
        {
            let at = format!("{at}.services.{name}");
            let read = Lists::of_service(service, String::new()).read(self.scope);
            let found = match read {
                Ok(Reading::Known(found)) => found,
                // It is late, then.
                Ok(Reading::Later(_)) => continue,
                Err((field, message)) => {
                    self.fail(&format!("{at}.{field}"), message);
                    continue;
                }
            };
            let made = self.instances((name, service), &found, inside, &at);
            self.out.services.extend(made);
        }
    }

    /// The step that starts those that need files or lists of them.
    pub(super) fn late_services(&mut self, services: &BTreeMap<String, Service>, inside: &Inside, at: &str) {
        let late: Vec<_> = services.iter().filter(|(_, service)| self.is_late(service)).collect();
        if late.is_empty() {
            return;
        }
        let step = TestStep { title: Some("Start services".to_owned()), ..TestStep::default() };
        self.leaf(&step, inside, "Start services", String::new(), at);
        let Some(mut planned) = self.out.steps.pop() else { return };
        let mut starts = Vec::new();
        for (name, service) in late {
            let at = format!("{at}.services.{name}");
            let lists = Lists::of_service(service, format!("{}.{name}", planned.name));
            let found = match lists.read(self.scope) {
                Ok(Reading::Known(found)) => Some(found),
                Ok(Reading::Later(open)) => {
                    let found = self.scope.found(&open.name);
                    planned.waits_for.extend(found.is_none().then(|| open.name.clone()));
                    self.find(open, &planned);
                    found
                }
                Err((field, message)) => {
                    self.fail(&format!("{at}.{field}"), message);
                    continue;
                }
            };
            let trial = self.scope.trial();
            match found {
                Some(found) => starts.extend(self.instances((name, service), &found, inside, &at)),
                // What is wrong with it is told before anything runs.
                None => drop(self.instance((name, service), &trial, 0, inside, &at)),
            }
            if !service.transfer.is_empty() {
                files::keep_workspace(&mut self.out, self.prefix, &self.workspace);
            }
        }
        planned.starts = Some(starts);
        self.out.steps.push(planned);
    }

    fn instances(
        &mut self,
        service: (&String, &Service),
        found: &Found,
        inside: &Inside,
        at: &str,
    ) -> Vec<PlannedService> {
        match spread::instances(found) {
            Ok(instances) => {
                let made = instances.into_iter().map(|instance| {
                    let scope = self.scope.with(instance.names());
                    self.instance(service, &scope, instance.index, inside, at)
                });
                made.collect()
            }
            Err((field, message)) => {
                self.fail(&format!("{at}.{field}"), message);
                Vec::new()
            }
        }
    }

    fn instance(
        &mut self,
        (name, service): (&String, &Service),
        scope: &PlanScope,
        index: usize,
        inside: &Inside,
        at: &str,
    ) -> PlannedService {
        let mut inner = Compiler {
            scope,
            execution: self.execution,
            prefix: self.prefix,
            workspace: self.workspace.clone(),
            variables: self.variables.clone(),
            out: ExecutionPlan::default(),
            names: Names::default(),
            errors: Vec::new(),
        };
        let mut planned = inner.service(name, service, index, inside, at);
        planned.receives = inner.transfers(&service.transfer, scope, self.prefix, &self.workspace, at);
        // The same mistake in every instance is told once.
        let known = &mut self.errors;
        inner.errors.into_iter().for_each(|error| {
            if !known.contains(&error) {
                known.push(error);
            }
        });
        planned
    }

    fn service(
        &mut self,
        name: &str,
        service: &Service,
        index: usize,
        inside: &Inside,
        at: &str,
    ) -> PlannedService {
        let global = inside.container.env.iter().filter(|variable| variable.global).cloned().collect();
        let container = ContainerDefaults {
            image: inside.container.image.clone(),
            env: global,
            env_from: service.env_from.clone(),
            image_pull_policy: service.image_pull_policy.clone(),
            working_dir: service.working_dir.clone(),
            resources: self.value(service.resources.as_ref(), &format!("{at}.resources")),
            security_context: merged(
                inside.container.security_context.clone(),
                self.value(service.security_context.as_ref(), &format!("{at}.securityContext")),
            ),
            volume_mounts: service.volume_mounts.clone(),
            ..ContainerDefaults::default()
        };
        let step = TestStep {
            image: service.image.clone(),
            command: service.command.clone(),
            args: service.args.clone(),
            shell: service.shell.clone(),
            env: service.env.clone(),
            timeout: Some(service.timeout.clone().unwrap_or_else(|| "5m".to_owned())),
            ..TestStep::default()
        };
        let inside = Inside { group: None, container };
        self.leaf(&step, &inside, &format!("{name} {index}"), String::new(), at);
        let mut container = self.out.steps.pop().unwrap_or_default();
        self.settle(&mut container, at);
        PlannedService {
            name: name.to_owned(),
            index,
            container,
            readiness_probe: self.value(service.readiness_probe.as_ref(), &format!("{at}.readinessProbe")),
            restart_policy: service.restart_policy.clone().unwrap_or_else(|| "Never".to_owned()),
            logs: self.expression(service.logs.as_deref(), &format!("{at}.logs")),
            pod: self.value(service.pod.as_ref(), &format!("{at}.pod")),
            receives: Vec::new(),
        }
    }

    /// No runner stands around a service: what its texts ask of the environment must be known now.
    fn settle(&mut self, container: &mut PlannedStep, at: &str) {
        if self.scope.is_trial() {
            return;
        }
        for index in 0..container.env.len() {
            let names = StaticEnvironment(container.env[..index].to_vec());
            let text = container.env[index].value.clone();
            container.env[index].value = self.settled(&text, &names, at);
        }
        let names = StaticEnvironment(container.env.clone());
        for word in container.command.iter_mut().chain(&mut container.args) {
            *word = self.settled(word, &names, at);
        }
    }

    fn settled(&mut self, text: &str, names: &StaticEnvironment, at: &str) -> String {
        if !text.contains("{{") {
            return text.to_owned();
        }
        match Template::parse(text).and_then(|template| template.evaluate(names)) {
            // Kubernetes puts in variables that only the cluster knows.
            Ok(text) => text,
            Err(error) => {
                self.fail(at, error.to_string());
                text.to_owned()
            }
        }
    }
}

/// `env` of variables whose values stand in the workflow; of others the reference that Kubernetes replaces.
struct StaticEnvironment(Vec<EnvironmentVariable>);

impl Scope for StaticEnvironment {
    fn name(&self, name: &str) -> Lookup {
        if name != "env" {
            return Lookup::Unknown;
        }
        let values = self.0.iter().map(|own| {
            let value = if own.value_from.is_some() { format!("$({})", own.name) } else { own.value.clone() };
            (own.name.clone(), Value::from(value))
        });
        Lookup::Known(Value::Object(values.collect()))
    }

    fn missing(&self, _: &str, _: &str) -> Option<Value> {
        Some(Value::from(""))
    }
}
