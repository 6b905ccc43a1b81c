//! Services: containers that run beside the steps.

use std::collections::BTreeMap;

use fleet_objects::test_workflow::{ContainerDefaults, EnvironmentVariable, Service, TestStep};
use serde_json::Value;

use super::super::names::Names;
use super::super::spread::{self, Spread};
use super::super::{ExecutionPlan, PlannedService, PlannedStep};
use super::{Compiler, Inside};
use crate::expression::{Lookup, Scope, Template};
use crate::templates::merged;

impl Compiler<'_> {
    pub(super) fn services(&mut self, services: &BTreeMap<String, Service>, inside: &Inside, at: &str) {
        for (name, service) in services {
            let at = format!("{at}.services.{name}");
            let spread = Spread {
                count: service.count.as_ref(),
                max_count: None,
                matrix: &service.matrix,
                shards: &service.shards,
            };
            let instances = match spread::instances(&spread, self.scope) {
                Ok(instances) => instances,
                Err((field, message)) => {
                    self.fail(&format!("{at}.{field}"), message);
                    continue;
                }
            };
            for instance in instances {
                let scope = self.scope.with(instance.names());
                let mut inner = Compiler {
                    scope: &scope,
                    execution: self.execution,
                    prefix: self.prefix,
                    workspace: self.workspace.clone(),
                    variables: self.variables.clone(),
                    out: ExecutionPlan::default(),
                    names: Names::default(),
                    errors: Vec::new(),
                };
                let planned = inner.service(name, service, instance.index, inside, &at);
                let errors = std::mem::take(&mut inner.errors);
                self.out.services.push(planned);
                self.errors.extend(errors);
            }
        }
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
        }
    }

    /// No runner stands around a service: what its texts ask of the environment must be known now.
    fn settle(&mut self, container: &mut PlannedStep, at: &str) {
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
