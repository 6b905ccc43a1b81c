//! The ceiling over what a hub may bring about here: read from a file of the cluster's owner, and asked before every
//! write. The file may change at any time; one that cannot be read loosens nothing.

mod guarded;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use fleet_objects::ObjectReference;
use fleet_planner::ceiling::{Ceiling, Identity, PROFILES_NAMESPACE, PodSecurity, Verb};
use kube::Client;
use kube::client::Body;
use serde_json::Value;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::error::Error;

/// How often the file is read. It is small, and a mounted ConfigMap is minutes late anyhow.
const LOOK: Duration = Duration::from_secs(1);
/// Bytes of a ceiling at most; what a ConfigMap can hold.
const MAX_BYTES: usize = 1 << 20;

/// Judges pods by the Pod Security Standards. Pure: the same pod has the same answer.
pub trait PodStandards: Send + Sync + 'static {
    /// What a pod of this metadata and spec does that the level (`baseline` or `restricted`) forbids; `None`: nothing.
    fn violations(&self, level: &str, metadata: &Value, spec: &Value) -> Option<String>;
}

/// The ceiling as it is at the moment. Clones share it.
#[derive(Clone)]
pub(crate) struct Ceilings {
    path: PathBuf,
    pods: Option<Arc<dyn PodStandards>>,
    current: watch::Sender<Arc<Ceiling>>,
}

impl Ceilings {
    /// Reads the file; without one the built-in ceiling holds.
    ///
    /// # Errors
    /// When the file is there and is no ceiling: an agent that does not know its bounds must not begin.
    pub(crate) fn open(path: PathBuf, pods: Option<Arc<dyn PodStandards>>) -> Result<Self, Error> {
        let ceiling = match read(&path)? {
            Some(ceiling) => ceiling,
            // Nobody asked for a standard that this agent has no means to judge by.
            None if pods.is_none() => Ceiling { pod_security: PodSecurity::Privileged, ..Ceiling::builtin() },
            None => Ceiling::builtin(),
        };
        let (current, _) = watch::channel(Arc::new(ceiling));
        Ok(Self { path, pods, current })
    }

    /// Follows the file until `shutdown`.
    pub(crate) async fn run(self, shutdown: CancellationToken) {
        let mut said = None;
        while shutdown.run_until_cancelled(tokio::time::sleep(LOOK)).await.is_some() {
            let problem = self.look().await;
            if problem != said {
                if let Some(error) = &problem {
                    tracing::error!(%error, "the ceiling cannot be used; the one before holds on");
                }
                said = problem;
            }
        }
    }

    /// Reads the file once more. Answers why what it says cannot be used.
    async fn look(&self) -> Option<String> {
        let path = self.path.clone();
        let found = tokio::task::spawn_blocking(move || read(&path)).await;
        match found {
            Ok(Ok(Some(ceiling))) => {
                let changed = self.current.send_if_modified(|current| {
                    let changed = **current != ceiling;
                    if changed {
                        *current = Arc::new(ceiling);
                    }
                    changed
                });
                if changed {
                    tracing::info!(path = %self.path.display(), "another ceiling holds from now on");
                }
                None
            }
            // Gone, or never there: what held goes on holding.
            Ok(Ok(None)) | Err(_) => None,
            Ok(Err(error)) => Some(error.chain()),
        }
    }

    /// The ceiling at the moment.
    pub(crate) fn current(&self) -> Arc<Ceiling> {
        self.current.borrow().clone()
    }

    /// Told when it changes.
    pub(crate) fn changes(&self) -> watch::Receiver<Arc<Ceiling>> {
        self.current.subscribe()
    }

    /// Whether an object may be applied; its namespace is known.
    ///
    /// # Errors
    /// Why not, for people.
    pub(crate) fn check_apply(&self, reference: &ObjectReference, object: &Value) -> Result<(), String> {
        let ceiling = self.current();
        ceiling.check(reference, Verb::Apply)?;
        if ceiling.pod_security == PodSecurity::Privileged {
            return Ok(());
        }
        let Some((metadata, spec)) = pod(reference, object) else { return Ok(()) };
        let level = ceiling.pod_security.name();
        let Some(pods) = &self.pods else {
            return Err(format!("the ceiling asks for pods of level {level}, which this agent cannot judge"));
        };
        match pods.violations(level, metadata, spec) {
            None => Ok(()),
            Some(problem) => Err(format!("the ceiling lets in pods of level {level}: {problem}")),
        }
    }

    /// Whether an object may be deleted.
    ///
    /// # Errors
    /// Why not, for people.
    pub(crate) fn check_delete(&self, reference: &ObjectReference) -> Result<(), String> {
        self.current().check(reference, Verb::Delete)
    }

    /// A client with the rights of an assignment's profile.
    pub(crate) fn client_for(&self, agent: &Client, assignment: &str) -> Client {
        match self.current().identity {
            Identity::Agent => agent.clone(),
            Identity::PerProfile => impersonating(agent.clone(), &profile_user(assignment)),
        }
    }
}

/// The user as whom the objects of an assignment are applied.
fn profile_user(assignment: &str) -> String {
    format!("system:serviceaccount:{PROFILES_NAMESPACE}:{assignment}")
}

/// Without groups: for a service account the API server fills in those it always has.
fn impersonating(client: Client, user: &str) -> Client {
    let user = http::HeaderValue::from_str(user);
    let service = tower::service_fn(move |mut request: http::Request<Body>| {
        let (client, user) = (client.clone(), user.as_ref().ok().cloned());
        async move {
            let Some(user) = user else {
                return Err(tower::BoxError::from("the assignment's name makes no user name"));
            };
            request.headers_mut().insert("impersonate-user", user);
            client.send(request).await.map_err(tower::BoxError::from)
        }
    });
    Client::new(service, "default")
}

fn read(path: &Path) -> Result<Option<Ceiling>, Error> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::file("read the ceiling", path)(error)),
    };
    if text.len() > MAX_BYTES {
        return Err(Error::Invalid(format!(
            "the ceiling `{}` is larger than {MAX_BYTES} bytes",
            path.display()
        )));
    }
    let parsed = Ceiling::parse(&text);
    parsed.map(Some).map_err(|error| Error::Invalid(format!("the ceiling `{}`: {error}", path.display())))
}

/// Metadata and spec of the pods that an object of a built-in kind is or makes.
fn pod<'a>(reference: &ObjectReference, object: &'a Value) -> Option<(&'a Value, &'a Value)> {
    let group = reference.api_version.split_once('/').map_or("", |(group, _)| group);
    let pod = match (group, reference.kind.as_str()) {
        ("", "Pod") => object,
        ("", "PodTemplate") => &object["template"],
        ("", "ReplicationController")
        | ("apps", "Deployment" | "ReplicaSet" | "StatefulSet" | "DaemonSet")
        | ("batch", "Job") => &object["spec"]["template"],
        ("batch", "CronJob") => &object["spec"]["jobTemplate"]["spec"]["template"],
        _ => return None,
    };
    Some((&pod["metadata"], &pod["spec"]))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    struct NoHost;

    impl PodStandards for NoHost {
        fn violations(&self, _: &str, _: &Value, spec: &Value) -> Option<String> {
            (spec["hostNetwork"] == true).then(|| "host namespaces".to_owned())
        }
    }

    fn reference(api_version: &str, kind: &str) -> ObjectReference {
        ObjectReference {
            api_version: api_version.to_owned(),
            kind: kind.to_owned(),
            namespace: Some("default".to_owned()),
            name: "x".to_owned(),
        }
    }

    #[test]
    fn pods_are_found_in_whatever_makes_them() {
        let dir = tempfile::tempdir().unwrap();
        let ceilings = Ceilings::open(dir.path().join("none"), Some(Arc::new(NoHost))).unwrap();
        let bad = json!({"hostNetwork": true});
        for (api_version, kind, object) in [
            ("v1", "Pod", json!({"spec": bad})),
            ("apps/v1", "DaemonSet", json!({"spec": {"template": {"spec": bad}}})),
            ("batch/v1", "CronJob", json!({"spec": {"jobTemplate": {"spec": {"template": {"spec": bad}}}}})),
            ("v1", "PodTemplate", json!({"template": {"spec": bad}})),
        ] {
            let problem = ceilings.check_apply(&reference(api_version, kind), &object).unwrap_err();
            assert!(problem.contains("baseline: host namespaces"), "{kind}: {problem}");
        }
        assert!(ceilings.check_apply(&reference("v1", "ConfigMap"), &json!({"spec": bad})).is_ok());
    }

    #[tokio::test]
    async fn a_file_that_cannot_be_read_loosens_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ceiling.yaml");
        let head = "apiVersion: fleet.fairlead.dev/v1alpha1\nkind: Ceiling\n";
        std::fs::write(&path, "nonsense").unwrap();
        assert!(
            Ceilings::open(path.clone(), None).is_err(),
            "an agent does not begin without knowing its bounds"
        );
        std::fs::write(&path, format!("{head}deny: [{{kinds: [ConfigMap]}}]\npodSecurity: privileged\n"))
            .unwrap();
        let ceilings = Ceilings::open(path.clone(), None).unwrap();
        let (map, secret) = (reference("v1", "ConfigMap"), reference("v1", "Secret"));
        assert!(ceilings.check_apply(&map, &Value::Null).is_err());
        std::fs::write(&path, "nonsense").unwrap();
        assert!(ceilings.look().await.unwrap().contains("not a ceiling"));
        assert!(ceilings.check_apply(&map, &Value::Null).is_err(), "the one before holds on");
        std::fs::remove_file(&path).unwrap();
        assert_eq!(ceilings.look().await, None);
        assert!(ceilings.check_apply(&map, &Value::Null).is_err(), "absence loosens nothing");
        std::fs::write(&path, format!("{head}deny: [{{kinds: [Secret]}}]\n")).unwrap();
        let changes = ceilings.changes();
        assert_eq!(ceilings.look().await, None);
        assert!(changes.has_changed().unwrap());
        assert!(ceilings.check_apply(&map, &Value::Null).is_ok());
        assert!(ceilings.check_delete(&secret).is_err());
    }
}
