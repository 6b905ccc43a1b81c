//! Documents that nobody could follow are refused as they are written, with fields, over the hub's own API; what a hub holds
//! already stays writable.

use fleet_objects::alert::AlertReceiver;
use fleet_objects::source::Source;
use fleet_objects::{Profile, condition};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::bench::{Bench, eventually};
use crate::config_map;

#[tokio::test(flavor = "multi_thread")]
async fn documents_that_nobody_could_follow_are_refused_with_their_fields() {
    let bench = Bench::start(&[]).await;
    for (plural, kind, spec, wanted) in [
        (
            "profiles",
            "Profile",
            json!({"variables": [{"name": "colour", "type": "int", "default": "blue"}],
                "layers": [{"name": "late", "manifests": [config_map("a", "${var.color}")]}]}),
            vec![
                "spec.variables[0].default: Invalid value: variable \"colour\" takes a whole number, not \"blue\"",
                "spec.layers[0].manifests[0]: Invalid value: layer late: ConfigMap a.data.key: unknown variable ${var.color}; did you mean ${var.colour}?",
            ],
        ),
        (
            "placements",
            "Placement",
            json!({"profile": "app", "clusterSelector": {"celExpressions": ["cluster.nodes.ready >=", "1 + 2"],
                "matchFields": [{"key": "kubernetsVersion", "operator": "Exists"}]}}),
            vec![
                "spec.clusterSelector.matchFields[0]: Invalid value: there is no field \"kubernetsVersion\"",
                "spec.clusterSelector.celExpressions[0]: Invalid value: \"cluster.nodes.ready >=\": compilation failed: ERROR",
                "spec.clusterSelector.celExpressions[1]: Invalid value: \"1 + 2\": must evaluate to bool",
            ],
        ),
        (
            "rollouts",
            "Rollout",
            json!({"strategy": {"waves": [{"gates": [{"type": "Expression", "expression": "clusters.ready"}]}],
                "maintenanceWindows": [{"start": "25:00", "durationMinutes": 60}]}}),
            vec![
                "spec.strategy.waves[0].gates[0].expression: Invalid value: \"clusters.ready\": compilation failed: ERROR",
                "spec.strategy.maintenanceWindows[0]: Invalid value: start \"25:00\"",
            ],
        ),
        (
            "sources",
            "Source",
            json!({"profile": "app", "intervalSeconds": 1, "git": {"url": "https://bot:s3cret@git.example.com/app"},
                "oci": {"url": "oci://registry.example.com/app", "verify": {"publicKeys": "none"}},
                "layers": [{"name": "web", "path": "../web", "chart": {"repository": "http://charts.example.com",
                    "name": "web", "version": "latest version"}}, {"name": "web", "git": {"url": "git@git.example.com:a",
                    "tag": "v1", "commit": "abc"}}]}),
            vec![
                "spec: Invalid value: exactly one of git, oci and chart must be given",
                "spec.git.url: Invalid value: the repository's URL holds a password, which belongs into a Secret",
                "spec.oci.verify.publicKeys: Invalid value: the public keys of signers: there is none",
                "spec.layers[0].chart.repository: Invalid value: http://charts.example.com has no TLS",
                "spec.layers[0].chart.version: Invalid value: \"latest version\" is no version",
                "spec.layers[0].path: Invalid value: ../web is no path in what was fetched",
                "spec.layers[1].name: Invalid value: two layers are called web",
                "spec.layers[1].git: Invalid value: of branch, tag and commit only one may be given",
                "spec.intervalSeconds: Invalid value: from 10 to 86400",
            ],
        ),
    ] {
        let causes = bench.refused(plural, kind, "app", spec).await;
        assert_eq!(causes.len(), wanted.len(), "{causes:?}");
        for (cause, wanted) in causes.iter().zip(wanted) {
            assert!(cause.starts_with(wanted) && !cause.contains("s3cret"), "{cause}\nnot {wanted}");
        }
    }
    let receivers: Api<AlertReceiver> = Api::all(bench.hub_client());
    let receiver = |url: &str| -> AlertReceiver {
        let spec = json!({"webhook": {"url": url}});
        let object = json!({"apiVersion": "fleet.fairlead.dev/v1alpha1", "kind": "AlertReceiver", "metadata": {"name": "r"}, "spec": spec});
        serde_json::from_value(object).unwrap()
    };
    let params = PostParams { dry_run: true, ..PostParams::default() };
    let refused = receivers.create(&params, &receiver("hooks.example.com")).await.unwrap_err().to_string();
    assert!(refused.contains("spec.webhook.url: Invalid value: hooks.example.com is not http"), "{refused}");
    receivers.create(&PostParams::default(), &receiver("http://hooks.example.com")).await.unwrap();
    let sources: Api<Source> = Api::namespaced(bench.hub_client(), "default");
    let spec = json!({"profile": "app", "git": {"url": "/srv/git/app"}});
    let source = Source::new("app", serde_json::from_value(spec).unwrap());
    let refused = sources.create(&PostParams::default(), &source).await.unwrap_err().to_string();
    assert!(
        refused.contains("spec.git.url: Invalid value: the repository must be given by an https"),
        "{refused}"
    );
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_hub_holds_already_stays_writable() {
    let bench = Bench::start(&[]).await;
    let profiles: Api<Profile> = Api::namespaced(bench.hub_client(), "default");
    let ready = || async {
        let status = profiles.get("app").await.unwrap().status.unwrap_or_default();
        condition(&status.conditions, "Ready").map(|ready| ready.message.clone()).unwrap_or_default()
    };
    // What a Source brings is told in statuses, for what goes with it may come later.
    let layers = json!({"layers": [{"name": "l", "manifests": [config_map("a", "${var.nope}")]}]});
    bench.brought("app", layers.clone()).await;
    eventually("its status is written", || async { ready().await.contains("nope") }).await;
    bench.profile("app", json!({"variables": [{"name": "nope", "default": "x"}]})).await;
    eventually("what goes with it came later", || async { ready().await == "1 objects" }).await;
    // Taken over with the mistake, it is as a hub from before the rule holds it.
    bench.profile("app", layers).await;
    bench.brought("app", json!({})).await;
    eventually("it stays", || async { ready().await.contains("nope") }).await;
    let merge = |patch: Value| {
        let profiles = profiles.clone();
        async move { profiles.patch("app", &PatchParams::default(), &Patch::Merge(patch)).await }
    };
    merge(json!({"metadata": {"labels": {"a": "b"}, "finalizers": ["example.com/hold"]}})).await.unwrap();
    merge(json!({"spec": {"description": "as it was"}})).await.unwrap();
    let worse = merge(json!({"spec": {"manifests": [config_map("b", "${var.gone}")]}}))
        .await
        .unwrap_err()
        .to_string();
    assert!(worse.contains("spec.manifests[0]") && !worse.contains("nope"), "what is new alone: {worse}");
    profiles.delete("app", &DeleteParams::default()).await.unwrap();
    merge(json!({"metadata": {"finalizers": null}})).await.unwrap();
    eventually("it goes", || async { profiles.get_opt("app").await.unwrap().is_none() }).await;
    drop(profiles);
    bench.stop().await;
}
