//! A namespace, a server that answers webhooks, and configurations that are waited for.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{bail, ensure};
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::answers;
use crate::case::skip;
use crate::extension::{Call, Extension, Handler};
use crate::subject::{Answer, Namespace, Subject};

const CONFIGURATIONS: &str = "/apis/admissionregistration.k8s.io/v1";
/// The label of config maps made only to see whether a configuration is in effect.
const MARKER: &str = "conformance-marker";

/// Both sorts of configuration.
pub(super) const BOTH: [Sort; 2] = [Sort::Validating, Sort::Mutating];

/// A sort of configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sort {
    Validating,
    Mutating,
}

impl Sort {
    /// Where they are.
    pub(super) fn path(self) -> String {
        let resource = match self {
            Self::Validating => "validatingwebhookconfigurations",
            Self::Mutating => "mutatingwebhookconfigurations",
        };
        format!("{CONFIGURATIONS}/{resource}")
    }

    fn kind(self) -> &'static str {
        match self {
            Self::Validating => "ValidatingWebhookConfiguration",
            Self::Mutating => "MutatingWebhookConfiguration",
        }
    }
}

/// The calls of each path.
type Calls = Arc<Mutex<BTreeMap<String, Vec<Call>>>>;

/// What a case plays on.
pub(super) struct Stage<'a> {
    pub(super) subject: &'a Subject,
    pub(super) space: Namespace<'a>,
    extension: Extension,
    calls: Calls,
    made: Mutex<Vec<String>>,
}

impl<'a> Stage<'a> {
    pub(super) async fn new(subject: &'a Subject) -> anyhow::Result<Self> {
        let calls = Calls::default();
        let seen = Arc::clone(&calls);
        let handler: Handler = Arc::new(move |call| {
            seen.lock().entry(call.path.clone()).or_default().push(call.clone());
            Box::pin(answers::answer(call))
        });
        let extension = Extension::start(subject, &[], handler).await?;
        let space = subject.namespace("webhooks").await?;
        Ok(Self { subject, space, extension, calls, made: Mutex::default() })
    }

    /// Takes the configurations and the namespace away, whatever came of the case.
    pub(super) async fn end(&self, outcome: anyhow::Result<()>) -> anyhow::Result<()> {
        let made = self.made.lock().clone();
        for path in made {
            let gone = self.subject.delete(&path).await?;
            ensure!(matches!(gone.code, 200 | 404), "deleting {path}: {}", gone.json);
        }
        outcome?;
        self.space.clone().end().await
    }

    /// The calls of a path so far.
    pub(super) fn calls(&self, path: &str) -> Vec<Call> {
        self.calls.lock().get(path).cloned().unwrap_or_default()
    }

    /// A webhook at this path for what is done in the stage's namespace.
    pub(super) fn hook(&self, path: &str, operations: &[&str], group: &str, resources: &[&str]) -> Value {
        json!({
            "name": format!("{}.example.com", path.trim_start_matches('/')),
            "clientConfig": {"url": self.extension.url(path), "caBundle": self.extension.authority()},
            "rules": [{"operations": operations, "apiGroups": [group], "apiVersions": ["*"], "resources": resources}],
            "sideEffects": "None", "admissionReviewVersions": ["v1"], "timeoutSeconds": 10,
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": self.space.name}},
            "objectSelector": {"matchExpressions": [{"key": MARKER, "operator": "DoesNotExist"}]},
        })
    }

    /// A webhook for creations of objects without a namespace that have the stage's label.
    pub(super) fn hook_of_cluster(
        &self,
        path: &str,
        operations: &[&str],
        group: &str,
        resources: &[&str],
    ) -> Value {
        let mut hook = self.hook(path, operations, group, resources);
        hook["namespaceSelector"] = json!({});
        hook["objectSelector"] = json!({"matchLabels": self.label()});
        hook
    }

    /// A label that only objects of this stage have.
    pub(super) fn label(&self) -> Value {
        json!({"conformance": self.space.name})
    }

    /// A configuration of these webhooks and of one for markers, not created.
    pub(super) fn configuration(&self, sort: Sort, end: &str, mut hooks: Vec<Value>) -> Value {
        let name = format!("{}-{end}", self.space.name);
        let mut marker = self.hook(&marker_path(&name), &["CREATE"], "", &["configmaps"]);
        marker["name"] = json!("marker.example.com");
        marker["objectSelector"] = json!({"matchLabels": {MARKER: "yes"}});
        hooks.push(marker);
        json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": sort.kind(),
            "metadata": {"name": name, "labels": self.label()}, "webhooks": hooks,
        })
    }

    /// Creates one and answers its path; in effect when this returns.
    pub(super) async fn configure(&self, sort: Sort, end: &str, hooks: Vec<Value>) -> anyhow::Result<String> {
        let configuration = self.configuration(sort, end, hooks);
        let path = self.create(sort, &configuration).await?;
        self.in_effect(&configuration).await?;
        Ok(path)
    }

    /// Creates one and answers its path.
    pub(super) async fn create(&self, sort: Sort, configuration: &Value) -> anyhow::Result<String> {
        let created = self.subject.post(&sort.path(), configuration).await?.expect(201)?;
        let name = crate::subject::text(&created, "/metadata/name")?;
        let path = format!("{}/{name}", sort.path());
        self.made.lock().push(path.clone());
        Ok(path)
    }

    /// Makes markers in vain until the configuration's webhook was asked about one.
    pub(super) async fn in_effect(&self, configuration: &Value) -> anyhow::Result<()> {
        let name = crate::subject::text(configuration, "/metadata/name")?;
        let path = marker_path(name);
        let marker = json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"generateName": "marker-", "labels": {MARKER: "yes"}},
        });
        loop {
            let answer = self.subject.post(&self.space.core("configmaps?dryRun=All"), &marker).await?;
            if !self.calls(&path).is_empty() {
                return Ok(());
            }
            if answer.code != 201 && !self.extension.was_reached() {
                return Err(skip(format!(
                    "the subject does not reach {}: {}",
                    self.extension.address(),
                    answer.message()
                )));
            }
            ensure!(answer.code == 201, "a marker for {name}: {} {}", answer.code, answer.json);
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }

    /// A config map of the stage's namespace.
    pub(super) async fn config_map(&self, name: &str, data: Value) -> anyhow::Result<Answer> {
        let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data});
        self.subject.post(&self.space.core("configmaps"), &map).await
    }

    /// Tries config maps of these data, without keeping any, until `wanted`.
    pub(super) async fn until(&self, data: Value, wanted: impl Fn(&Answer) -> bool) -> anyhow::Result<()> {
        let map =
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "tried"}, "data": data});
        loop {
            let answer = self.subject.post(&self.space.core("configmaps?dryRun=All"), &map).await?;
            if wanted(&answer) {
                return Ok(());
            }
            if answer.code != 201 && !answer.message().contains("denied the request") {
                bail!("neither admitted nor denied: {} {}", answer.code, answer.json);
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }
}

fn marker_path(configuration: &str) -> String {
    format!("/marker/{configuration}")
}

/// A denial by this webhook with this message.
pub(super) fn denied(answer: &Answer, hook: &str, message: &str) -> anyhow::Result<()> {
    let wanted = format!("admission webhook \"{hook}.example.com\" denied the request: {message}");
    ensure!(
        answer.code == 400 && answer.message() == wanted,
        "400 {wanted:?} expected, not {}: {}",
        answer.code,
        answer.json
    );
    Ok(())
}
