//! What is there while steps run: services and volume claims.

use std::sync::Arc;
use std::time::Duration;

use fleet_objects::test_run::Outcome;
use futures::StreamExt;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::Api;
use kube::api::{DeleteParams, PostParams};
use kube::runtime::watcher::watch_object;
use serde_json::{Map, Value, json};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::warn;
use workflow::plan::{self, ExecutionPlan, PlannedService};
use workflow::{observe, pod};

use super::log_follow::{Followed, Progress};
use super::pods;
use super::run::Execution;

/// How long the log of a service may take to be read.
const LOG: Duration = Duration::from_secs(30);

type NotThere = (&'static str, String);

impl Execution {
    /// Starts services at once and waits until all are ready; the plan with their addresses, `None` when there are none.
    /// `from`: the step at whose beginning they are there. Doing so again finds those that are there.
    pub(super) async fn start_services(
        &self,
        plan: &ExecutionPlan,
        part: &str,
        services: &[PlannedService],
        from: usize,
    ) -> Result<Option<ExecutionPlan>, NotThere> {
        if services.is_empty() {
            return Ok(None);
        }
        self.started.lock().entry(part.to_owned()).or_default().extend(services.iter().cloned());
        let mut starts = Vec::new();
        for service in services {
            starts.push(self.start_service(plan, part, service));
        }
        let mut by_name: Map<String, Value> = Map::new();
        for (service, started) in services.iter().zip(futures::future::join_all(starts).await) {
            let told = |why: String| {
                ("ServiceNotReady", format!("service {} {}: {why}", service.name, service.index))
            };
            let ip = started.map_err(told)?;
            let list = by_name.entry(service.name.clone()).or_insert_with(|| json!([]));
            if let Some(list) = list.as_array_mut() {
                list.push(json!({ "ip": ip, "index": service.index, "name": service.name }));
            }
        }
        let with = plan::with_services(plan, &Value::Object(by_name), from);
        with.map(Some).map_err(|invalid| ("InvalidWorkflow", invalid.to_string()))
    }

    async fn start_service(
        &self,
        plan: &ExecutionPlan,
        part: &str,
        service: &plan::PlannedService,
    ) -> Result<String, String> {
        let options = self.options(part);
        let wanted = pod::service(&options, plan, service).map_err(|error| error.to_string())?;
        let readable = self.read_secrets().await;
        readable.map_err(|(reason, message)| format!("{reason}: {message}"))?;
        self.ensure_pod(&wanted).await.map_err(|(reason, message)| format!("{reason}: {message}"))?;
        let name = pod::service_name(&options, service);
        let deadline = Instant::now() + service.container.timeout;
        let mut events = std::pin::pin!(watch_object(self.pods(), &name));
        let mut last = String::from("it did not become ready in time");
        let mut given = service.receives.is_empty();
        while let Ok(event) = timeout_at(deadline, events.next()).await {
            match event {
                Some(Ok(Some(pod))) => {
                    if let Some(ip) = observe::ready(&pod)? {
                        return Ok(ip);
                    }
                    let state = observe::steps(&pod);
                    if !given
                        && state.current.as_ref().is_some_and(|(own, runs)| own == pod::RECEIVE && *runs)
                    {
                        self.give(&name, &service.receives).await?;
                        given = true;
                    }
                    if let Some(stuck) = state.stuck {
                        last = format!("{}: {}", stuck.reason, stuck.message);
                        if stuck.forever {
                            break;
                        }
                    }
                }
                Some(Ok(None)) => {}
                Some(Err(_)) => tokio::time::sleep(pods::RETRY).await,
                None => break,
            }
        }
        Err(last)
    }

    /// Ends them, once what is wanted of their logs is told. `outcome` is that of the steps; `None`: they did not end.
    pub(super) async fn stop_services(
        self: &Arc<Self>,
        plan: &ExecutionPlan,
        part: &str,
        outcome: Option<Outcome>,
    ) {
        let options = self.options(part);
        let mut services = self.started.lock().remove(part).unwrap_or_default();
        services.extend(plan.all_services().cloned());
        services.sort_by(|left, right| (&left.name, left.index).cmp(&(&right.name, right.index)));
        services.dedup_by(|left, right| (&left.name, left.index) == (&right.name, right.index));
        for service in &services {
            match service.keeps_log(outcome) {
                Ok(true) => self.keep_log(pod::service_name(&options, service), service.log_name()).await,
                Ok(false) => {}
                Err(error) => warn!(%error, service = %service.name, "its `logs` is not understood"),
            }
        }
        let names: Vec<String> =
            services.iter().map(|service| pod::service_name(&options, service)).collect();
        let mut removals = Vec::new();
        for name in &names {
            removals.push(self.remove_pod(name));
        }
        futures::future::join_all(removals).await;
    }

    async fn keep_log(self: &Arc<Self>, pod: String, step: String) {
        let followed = Followed {
            execution: Arc::clone(self),
            pods: self.pods(),
            pod,
            step,
            container: pod::SERVICE.to_owned(),
            // What was told before an agent was started anew is known to the hub by its offsets.
            progress: Arc::new(Progress::from(0)),
            stop: CancellationToken::new(),
        };
        let _ = tokio::time::timeout(LOG, followed.take()).await;
    }

    fn claim_api(&self) -> Api<PersistentVolumeClaim> {
        Api::namespaced(self.shared.cluster.clone(), &self.shared.options.namespace)
    }

    /// Makes the volume claims of the execution; those of its parts are the same.
    pub(super) async fn claims(&self, plan: &ExecutionPlan, part: &str) -> Result<(), NotThere> {
        if !part.is_empty() {
            return Ok(());
        }
        for (name, claim) in &plan.pvcs {
            let told = |why: String| ("ClaimRejected", format!("volume claim {name}: {why}"));
            let document = json!({
                "metadata": { "name": self.claim_name(name), "labels": { (pod::EXECUTION_UID_LABEL): self.uid } },
                "spec": claim,
            });
            let claim = serde_json::from_value(document).map_err(|error| told(error.to_string()))?;
            self.ensure_namespace().await.map_err(|error| told(error.to_string()))?;
            match self.claim_api().create(&PostParams::default(), &claim).await {
                Ok(_) => {}
                Err(kube::Error::Api(status)) if status.code == 409 => {}
                Err(error) => return Err(told(error.to_string())),
            }
        }
        Ok(())
    }

    pub(super) async fn release_claims(&self, plan: &ExecutionPlan, part: &str) {
        if !part.is_empty() {
            return;
        }
        for name in plan.pvcs.keys() {
            let deadline = Instant::now() + Duration::from_secs(30);
            while let Err(error) =
                self.claim_api().delete(&self.claim_name(name), &DeleteParams::default()).await
            {
                let gone = matches!(&error, kube::Error::Api(status) if status.code == 404);
                if gone || Instant::now() >= deadline {
                    break;
                }
                tokio::time::sleep(pods::RETRY).await;
            }
        }
    }

    fn claim_name(&self, name: &str) -> String {
        plan::claim_name(&self.options("").run, name)
    }
}
