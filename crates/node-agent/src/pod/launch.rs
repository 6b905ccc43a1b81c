//! Starting one attempt of a container: image, environment, volumes, then the runtime.

use std::path::Path;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Container, Pod};

use crate::events::{Recorder, Severity};
use crate::inputs::{InputError, Inputs, environment, expand, volumes};
use crate::pod::facts;
use crate::pod::plan::Waiting;
use crate::runtime::{ImageError, Launch, PodRuntime, PullPolicy, RuntimeError};

/// Why an attempt was not started.
pub enum Failure {
    /// A waiting reason to show, and whether an event was recorded already.
    Waiting(Waiting),
    /// Volumes aren't ready: shown by an event alone, as upstream does.
    Volumes(InputError),
}

/// Everything starting needs.
pub struct Starter<'a> {
    /// The runtime.
    pub runtime: &'a dyn PodRuntime,
    /// What containers are given.
    pub inputs: &'a Inputs,
    /// Where to tell.
    pub events: &'a Recorder,
    /// The pod's own directory.
    pub dir: &'a Path,
    /// The pod's addresses.
    pub ips: &'a [String],
}

impl Starter<'_> {
    /// Starts attempt `attempt` of a container.
    ///
    /// # Errors
    /// What to show for it.
    pub async fn start(&self, pod: &Arc<Pod>, container: &Container, attempt: u32) -> Result<(), Failure> {
        let name = container.name.as_str();
        let image = self.image(pod, container).await.map_err(Failure::Waiting)?;
        if let Some(why) = root_refused(pod, container) {
            return Err(Failure::Waiting(Waiting {
                reason: "CreateContainerConfigError".to_owned(),
                message: why,
            }));
        }
        let variables = self.inputs.environment(pod, container, self.ips).await.map_err(|error| {
            let message = error.to_string();
            self.events.pod(pod, Some(name), Severity::Warning, "Failed", format!("Error: {message}"));
            Failure::Waiting(Waiting { reason: "CreateContainerConfigError".to_owned(), message })
        })?;
        let mounts = self.mounts(pod, container, &variables).await.map_err(Failure::Volumes)?;
        let files = self.files(pod, container).await.map_err(Failure::Volumes)?;
        let mut container = container.clone();
        for list in [&mut container.command, &mut container.args] {
            for word in list.iter_mut().flatten() {
                *word = expand::expand(word, |name| environment::find(&variables, name));
            }
        }
        let environment = variables;
        let launch = Launch { pod: pod.clone(), container, attempt, image, environment, mounts, files };
        match self.runtime.start_container(&launch).await {
            Ok(()) => {
                self.events.pod(
                    pod,
                    Some(name),
                    Severity::Normal,
                    "Created",
                    format!("Created container: {name}"),
                );
                self.events.pod(
                    pod,
                    Some(name),
                    Severity::Normal,
                    "Started",
                    format!("Started container {name}"),
                );
                Ok(())
            }
            Err(error) => Err(Failure::Waiting(self.refused(pod, name, &error))),
        }
    }

    fn refused(&self, pod: &Pod, name: &str, error: &RuntimeError) -> Waiting {
        let reason = match error {
            RuntimeError::Refused { operation: "start container", .. } => "RunContainerError",
            _ => "CreateContainerError",
        };
        let message = error.to_string();
        self.events.pod(pod, Some(name), Severity::Warning, "Failed", format!("Error: {message}"));
        Waiting { reason: reason.to_owned(), message }
    }

    async fn image(&self, pod: &Pod, container: &Container) -> Result<String, Waiting> {
        let image = container.image.as_deref().unwrap_or_default();
        let name = Some(container.name.as_str());
        match self.runtime.ensure_image(pod, image, PullPolicy::of(container)).await {
            Ok(found) => {
                let message = if found.pulled {
                    format!("Successfully pulled image \"{image}\"")
                } else {
                    format!("Container image \"{image}\" already present on machine")
                };
                self.events.pod(pod, name, Severity::Normal, "Pulled", message);
                Ok(found.reference)
            }
            Err(error) => {
                if let ImageError::Pull { why, .. } = &error {
                    let message = format!("Failed to pull image \"{image}\": {why}");
                    self.events.pod(pod, name, Severity::Warning, "Failed", message);
                }
                self.events.pod(pod, name, Severity::Warning, "Failed", format!("Error: {}", error.reason()));
                Err(Waiting { reason: error.reason().to_owned(), message: error.to_string() })
            }
        }
    }

    /// What a container without mounts sees of its Secrets and ConfigMaps. Only where it has a command of its own: nobody
    /// else looks, and thousands of simulated pods would hold it for nothing.
    async fn files(
        &self,
        pod: &Pod,
        container: &Container,
    ) -> Result<Vec<(String, String, Vec<u8>)>, InputError> {
        let asks = container.command.as_ref().is_some_and(|command| !command.is_empty())
            || container.args.as_ref().is_some_and(|args| !args.is_empty());
        if self.runtime.mounts_volumes() || !asks {
            return Ok(Vec::new());
        }
        self.inputs.files(pod, container, self.ips).await
    }

    async fn mounts(
        &self,
        pod: &Pod,
        container: &Container,
        variables: &[(String, String)],
    ) -> Result<Vec<crate::runtime::Mount>, InputError> {
        if !self.runtime.mounts_volumes() {
            return Ok(Vec::new());
        }
        let paths = self.inputs.volumes(pod, self.dir, self.ips).await?;
        let (container, variables) = (container.clone(), variables.to_vec());
        let made = tokio::task::spawn_blocking(move || {
            let look_up = |text: &str| expand::expand(text, |name| environment::find(&variables, name));
            volumes::mounts(&container, &paths, look_up)
        });
        made.await.unwrap_or_else(|error| Err(InputError::Mount(error.to_string())))
    }
}

/// `runAsNonRoot` with a user that is root. Whether the image's own user is root is the runtime's to know.
fn root_refused(pod: &Pod, container: &Container) -> Option<String> {
    let own = container.security_context.as_ref();
    let whole = facts::spec(pod).security_context.as_ref();
    let must = own
        .and_then(|context| context.run_as_non_root)
        .or(whole.and_then(|context| context.run_as_non_root))
        .unwrap_or(false);
    let user = own.and_then(|context| context.run_as_user).or(whole.and_then(|context| context.run_as_user));
    (must && user == Some(0)).then(|| {
        format!(
            "container's runAsUser breaks non-root policy (pod: \"{}\", container: {})",
            pod.metadata.name.as_deref().unwrap_or_default(),
            container.name
        )
    })
}
