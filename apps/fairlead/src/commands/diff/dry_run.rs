//! What each cluster's own API server says against a change, asked by a dry run through the hub: conflicts with who owns a
//! field, admission, quotas, kinds that it does not serve. Nothing is written.

use std::collections::{BTreeMap, BTreeSet};

use fleet_objects::{ObjectReference, ProfileReference, assignment_name, cluster_proxy_path, field_manager};
use fleet_planner::compare::Action;
use fleet_planner::preview::{ClusterChange, Input, Wanted, wanted};
use fleet_planner::render::Rendered;
use futures::{StreamExt as _, stream};
use http::{Request, header};
use kube::Client;
use kube::client::Body;
use serde_json::Value;

use crate::commands::get::{fetch, kinds};
use crate::failure::{Failure, render};

/// Clusters asked at once, and objects of one of them.
const CLUSTERS: usize = 16;
const OBJECTS: usize = 8;

type Changes = BTreeMap<String, Vec<ClusterChange>>;

/// Asks every cluster that would change, and adds what it says to the changes' notes.
pub(super) async fn run(
    client: &Client,
    input: &Input<'_>,
    profiles: &BTreeSet<ProfileReference>,
    changes: &mut Changes,
) {
    for profile in profiles {
        let own = format!("{}/{}", profile.namespace, profile.name);
        let names: BTreeSet<&str> = changes.keys().map(String::as_str).collect();
        let wanted = wanted(input, profile, &names);
        let mut questions = Vec::new();
        for (cluster, wanted) in wanted {
            let of_cluster = changes.get(&cluster).into_iter().flatten();
            let change =
                of_cluster.into_iter().find(|change| change.profile == own && change.problem.is_none());
            if let Some(change) = change {
                questions.push(ask(client, cluster, profile, wanted, change.clone()));
            }
        }
        let mut answers = stream::iter(questions).buffer_unordered(CLUSTERS);
        let mut told = Vec::new();
        while let Some(answer) = answers.next().await {
            told.push(answer);
        }
        drop(answers);
        for (cluster, notes) in told {
            let of_cluster = changes.get_mut(&cluster).into_iter().flatten();
            of_cluster
                .filter(|change| change.profile == own)
                .for_each(|change| change.notes.extend(notes.clone()));
        }
    }
}

/// What one cluster says against one profile's change.
async fn ask(
    client: &Client,
    cluster: String,
    profile: &ProfileReference,
    wanted: Wanted,
    change: ClusterChange,
) -> (String, Vec<String>) {
    let documents = match fetch::discovery(client, &cluster).await {
        Ok(documents) => documents,
        Err(failure) => return (cluster, vec![format!("the cluster was not asked: {}", said(&failure))]),
    };
    let manager = field_manager(&assignment_name(&profile.namespace, &profile.name));
    let touched = |object: &Rendered| {
        let is = |one: &ObjectReference| {
            one.api_version == object.reference.api_version
                && one.kind == object.reference.kind
                && one.name == object.reference.name
        };
        change.objects.iter().any(|own| own.action != Action::Remove && is(&own.object))
    };
    let brings =
        |kind: &str| change.objects.iter().any(|own| own.action == Action::Add && own.object.kind == kind);
    let (brings_kinds, brings_namespaces) = (brings("CustomResourceDefinition"), brings("Namespace"));
    let questions: Vec<_> = wanted
        .objects
        .into_iter()
        .filter(touched)
        .map(|object| {
            let (documents, target) = (&documents, wanted.target_namespace.as_deref());
            let (cluster, manager) = (cluster.as_str(), manager.as_str());
            async move {
                let name = format!("{} {}", object.reference.kind, object.reference.name);
                let request = request(cluster, documents, object, target, manager);
                let Some(request) = request else {
                    return (!brings_kinds).then(|| format!("{name}: the cluster does not serve this kind"));
                };
                let failure = fetch::send(client, request).await.err()?;
                let said = said(&failure);
                // What the change itself brings is not there in a dry run.
                let comes = brings_namespaces && said.contains("namespaces \"") && said.contains("not found");
                (!comes).then(|| format!("{name}: {said}"))
            }
        })
        .collect();
    let answers: Vec<Option<String>> = stream::iter(questions).buffered(OBJECTS).collect().await;
    (cluster, answers.into_iter().flatten().collect())
}

/// A server-side apply as the agent makes it, as a dry run; `None`: the kind is not served.
fn request(
    cluster: &str,
    documents: &[Value],
    mut object: Rendered,
    target_namespace: Option<&str>,
    manager: &str,
) -> Option<Request<Body>> {
    let ObjectReference { api_version, kind, namespace, name } = &object.reference;
    let (group, root) = match api_version.split_once('/') {
        Some((group, _)) => (format!(".{group}"), format!("/apis/{api_version}")),
        None => (String::new(), format!("/api/{api_version}")),
    };
    let served = kinds::find(documents, &format!("{kind}{group}"))?;
    let place = if served.namespaced {
        let namespace = namespace.as_deref().or(target_namespace).unwrap_or("default").to_owned();
        object.object["metadata"]["namespace"] = Value::from(namespace.as_str());
        format!("/namespaces/{}", fetch::escape(&namespace))
    } else {
        String::new()
    };
    let path = format!(
        "{}{root}{place}/{}/{}?dryRun=All&fieldManager={}",
        cluster_proxy_path(cluster),
        served.plural,
        fetch::escape(name),
        fetch::escape(manager)
    );
    let request = Request::patch(path).header(header::CONTENT_TYPE, "application/apply-patch+yaml");
    request
        .header(header::ACCEPT, "application/json")
        .body(Body::from(object.object.to_string().into_bytes()))
        .ok()
}

/// What went wrong, in one line.
fn said(failure: &Failure) -> String {
    let text = render(failure);
    let first: Vec<&str> = text.lines().map(str::trim).collect();
    first.join(" ").trim_start_matches("error: ").to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_dry_run_goes_where_the_agents_apply_goes() {
        let documents =
            [json!({"items": [{"metadata": {"name": "apps"}, "versions": [{"version": "v1", "resources": [
            {"resource": "deployments", "singularResource": "deployment", "scope": "Namespaced",
                "responseKind": {"kind": "Deployment"}}]}]}]})];
        let object = |kind: &str| Rendered {
            reference: ObjectReference {
                api_version: "apps/v1".into(),
                kind: kind.into(),
                namespace: None,
                name: "web".into(),
            },
            phase: 4,
            object: json!({"kind": kind, "metadata": {"name": "web"}}),
            health: None,
        };
        let made =
            request("dev", &documents, object("Deployment"), Some("shop"), "fairlead/default.app").unwrap();
        assert_eq!(
            made.uri().to_string(),
            "/apis/fleet.fairlead.dev/v1alpha1/clusters/dev/proxy/apis/apps/v1/namespaces/shop/deployments/web\
             ?dryRun=All&fieldManager=fairlead%2Fdefault.app"
        );
        assert!(request("dev", &documents, object("Unicorn"), None, "m").is_none());
    }
}
