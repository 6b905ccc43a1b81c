//! Projects: what each role may do with clusters of its project and of others, and which clusters a project's placements get.

use agent_protocol::{JoinToken, TokenGrant};
use fleet_objects::multicluster::{ClusterProfile, PlacementDecision};
use fleet_objects::project::{ANNOTATION_CLUSTER_SETS, LABEL_PROJECT, ROLES};
use fleet_objects::{Cluster, LABEL_CLUSTER_SET, Placement, Profile, cluster_proxy_path};
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, RoleBinding};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};

use crate::bench::{Bench, eventually};
use crate::{config_map, value};

const RBAC: &str = "rbac.authorization.k8s.io";

async fn project(hub: &Client, name: &str, sets: &str) {
    let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name,
        "labels": {LABEL_PROJECT: ""}, "annotations": {ANNOTATION_CLUSTER_SETS: sets}}});
    let api: Api<Namespace> = Api::all(hub.clone());
    api.patch(name, &PatchParams::apply("test"), &Patch::Apply(object)).await.unwrap();
}

fn binding(name: &str, role: &str, user: &str) -> Value {
    json!({"metadata": {"name": name}, "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": role},
        "subjects": [{"apiGroup": RBAC, "kind": "User", "name": user}]})
}

async fn grant(hub: &Client, project: &str, role: &str, user: &str) {
    let api: Api<RoleBinding> = Api::namespaced(hub.clone(), project);
    let object = serde_json::from_value(binding(&format!("{user}-{role}"), role, user)).unwrap();
    api.create(&PostParams::default(), &object).await.unwrap();
}

/// A thing of the fleet: resource, subresource, namespace, name.
type Thing = (&'static str, &'static str, &'static str, &'static str);

async fn may(hub: &Client, user: &str, verb: &str, group: &str, thing: Thing) -> bool {
    let (resource, subresource, namespace, name) = thing;
    let review = SubjectAccessReview {
        spec: SubjectAccessReviewSpec {
            user: Some(user.to_owned()),
            groups: Some(vec!["system:authenticated".to_owned()]),
            resource_attributes: Some(ResourceAttributes {
                group: Some(group.to_owned()),
                resource: Some(resource.to_owned()),
                subresource: Some(subresource.to_owned()),
                namespace: Some(namespace.to_owned()),
                name: Some(name.to_owned()),
                verb: Some(verb.to_owned()),
                ..ResourceAttributes::default()
            }),
            ..SubjectAccessReviewSpec::default()
        },
        ..SubjectAccessReview::default()
    };
    let api: Api<SubjectAccessReview> = Api::all(hub.clone());
    api.create(&PostParams::default(), &review).await.unwrap().status.unwrap().allowed
}

/// What somebody is told they may do, asked in a namespace as `kubectl auth can-i --list` does.
async fn rules(hub: &Client, user: &str, namespace: &str) -> Vec<Value> {
    let review = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectRulesReview", "spec": {"namespace": namespace}});
    let request = http::Request::post("/apis/authorization.k8s.io/v1/selfsubjectrulesreviews")
        .header("impersonate-user", user)
        .header("content-type", "application/json")
        .body(kube::client::Body::from(review.to_string().into_bytes()));
    let response = hub.send(request.unwrap()).await.unwrap();
    let answer: Value = serde_json::from_slice(&response.into_body().collect_bytes().await.unwrap()).unwrap();
    answer["status"]["resourceRules"].as_array().cloned().unwrap_or_default()
}

/// Writes as somebody; answers the code and what was said.
async fn write_as(hub: &Client, user: &str, method: &str, path: &str, object: &Value) -> (u16, String) {
    let kind = if method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
    let request = http::Request::builder()
        .method(method)
        .uri(path)
        .header("impersonate-user", user)
        .header("content-type", kind)
        .body(kube::client::Body::from(object.to_string().into_bytes()));
    let response = hub.send(request.unwrap()).await.unwrap();
    let code = response.status().as_u16();
    let body: Value = serde_json::from_slice(&response.into_body().collect_bytes().await.unwrap()).unwrap();
    (code, body["message"].as_str().unwrap_or_default().to_owned())
}

/// Binds rules to somebody on the whole hub, or in a project.
async fn allow(hub: &Client, user: &str, project: Option<&str>, rules: Value) {
    let name = format!("{user}-{}", project.unwrap_or("everywhere"));
    let roles: Api<ClusterRole> = Api::all(hub.clone());
    let role = json!({"metadata": {"name": name}, "rules": rules});
    roles.create(&PostParams::default(), &serde_json::from_value(role).unwrap()).await.unwrap();
    match project {
        Some(project) => grant(hub, project, &name, user).await,
        None => {
            let api: Api<ClusterRoleBinding> = Api::all(hub.clone());
            let object = serde_json::from_value(binding(&name, &name, user)).unwrap();
            api.create(&PostParams::default(), &object).await.unwrap();
        }
    }
}

/// What a role allows in its own project: the table that the documents give.
fn expected(role: &str, verb: &str, resource: &str, subresource: &str) -> bool {
    let reads = matches!(verb, "get" | "list" | "watch");
    let rank = ROLES.iter().position(|known| *known == role).unwrap();
    if reads {
        return true;
    }
    match (resource, subresource, verb) {
        ("clusters", "proxy", _) | ("placements" | "rollouts" | "testruns", "", _) => rank >= 1,
        ("assignments", "", "patch") => rank >= 1,
        ("profiles", "", _) => rank >= 2,
        _ => false,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_every_role_verb_and_set_people_may_what_their_project_gives_them() {
    let bench = Bench::start(&["dev", "prod"]).await;
    let hub = bench.hub_client();
    bench.label("dev", LABEL_CLUSTER_SET, "edge").await;
    bench.label("prod", LABEL_CLUSTER_SET, "shop").await;
    project(&hub, "edge-team", "edge,spare").await;
    project(&hub, "shop-team", "shop").await;
    for role in ROLES {
        grant(&hub, "edge-team", role, role).await;
    }
    // A namespace that is no project gives nobody a cluster, whatever is bound there.
    grant(&hub, "default", "fleet-admin", "local").await;
    eventually("roles are aggregated, and sets known", || async {
        may(&hub, "fleet-admin", "patch", fleet_objects::GROUP, ("clusters", "proxy", "", "dev")).await
            && may(&hub, "fleet-viewer", "get", fleet_objects::GROUP, ("clusters", "", "", "dev")).await
    })
    .await;
    let verbs = ["get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"];
    let things: [(Thing, Thing); 7] = [
        (("clusters", "", "", "dev"), ("clusters", "", "", "prod")),
        (("clusters", "proxy", "", "dev"), ("clusters", "proxy", "", "prod")),
        (("assignments", "", "cluster-dev", "x"), ("assignments", "", "cluster-prod", "x")),
        (("placements", "", "edge-team", "x"), ("placements", "", "shop-team", "x")),
        (("rollouts", "", "edge-team", "x"), ("rollouts", "", "shop-team", "x")),
        (("testruns", "", "edge-team", "x"), ("testruns", "", "default", "x")),
        (("profiles", "", "edge-team", "x"), ("profiles", "", "default", "x")),
    ];
    let mut wrong = Vec::new();
    for role in ROLES {
        for verb in verbs {
            for (own, other) in things {
                let wanted = expected(role, verb, own.0, own.1) && verb != "deletecollection";
                if may(&hub, role, verb, fleet_objects::GROUP, own).await != wanted {
                    wrong.push(format!("{role} {verb} {own:?}: not {wanted}"));
                }
                if may(&hub, role, verb, fleet_objects::GROUP, other).await {
                    wrong.push(format!("{role} {verb} {other:?}: of another project"));
                }
                for nobody in ["local", "stranger"] {
                    if own.2 != "default" && may(&hub, nobody, verb, fleet_objects::GROUP, own).await {
                        wrong.push(format!("{nobody} {verb} {own:?}"));
                    }
                }
            }
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
    // What lies beside the fleet's things in a partition is nobody's by a project; neither are names that only resemble.
    for (group, thing) in [
        ("", ("secrets", "", "cluster-dev", "x")),
        ("", ("configmaps", "", "cluster-dev", "x")),
        (fleet_objects::GROUP, ("clusters", "", "", "dev-2")),
        (fleet_objects::GROUP, ("clusters", "", "", "")),
        (fleet_objects::GROUP, ("assignments", "", "cluster-dev-2", "x")),
    ] {
        assert!(!may(&hub, "fleet-admin", "get", group, thing).await, "{thing:?}");
    }
    assert!(may(&hub, "fleet-viewer", "list", "", ("events", "", "cluster-dev", "")).await);
    // An admin gives the three roles in the project and no others, and reads its secrets.
    assert!(may(&hub, "fleet-admin", "create", "", ("secrets", "", "edge-team", "x")).await);
    assert!(!may(&hub, "fleet-operator", "get", "", ("secrets", "", "edge-team", "x")).await);
    let as_admin = |role: &'static str| {
        let (hub, object) = (hub.clone(), binding(&format!("by-admin-{role}"), role, "new"));
        async move {
            let path = format!("/apis/{RBAC}/v1/namespaces/edge-team/rolebindings");
            let request = http::Request::post(path)
                .header("impersonate-user", "fleet-admin")
                .header("content-type", "application/json")
                .body(kube::client::Body::from(object.to_string().into_bytes()));
            hub.send(request.unwrap()).await.unwrap().status().as_u16()
        }
    };
    assert_eq!((as_admin("fleet-operator").await, as_admin("cluster-admin").await), (201, 403));

    // As kubectl asks: with some namespace, which says nothing of a cluster; whose role is bound in it does not count.
    for namespace in ["default", "edge-team", "shop-team"] {
        let (own, other) =
            (("clusters", "proxy", namespace, "dev"), ("clusters", "proxy", namespace, "prod"));
        assert!(may(&hub, "fleet-viewer", "get", fleet_objects::GROUP, own).await, "{namespace}");
        assert!(!may(&hub, "fleet-viewer", "get", fleet_objects::GROUP, other).await, "{namespace}");
        for role in ["local", "stranger"] {
            assert!(!may(&hub, role, "get", fleet_objects::GROUP, own).await, "{role} {namespace}");
        }
    }
    let listed = rules(&hub, "fleet-operator", "default").await;
    let proxied = listed.iter().filter(|rule| {
        rule["resources"].as_array().is_some_and(|all| all.contains(&json!("clusters/proxy")))
    });
    let proxied: Vec<&Value> = proxied.collect();
    assert!(
        !proxied.is_empty() && proxied.iter().all(|rule| rule["resourceNames"] == json!(["dev"])),
        "{listed:?}"
    );
    assert!(
        proxied.iter().any(|rule| rule["verbs"].as_array().is_some_and(|all| all.contains(&json!("create"))))
    );
    let of_nobody = rules(&hub, "stranger", "default").await;
    assert!(!of_nobody.iter().any(|rule| rule.to_string().contains("clusters")), "{of_nobody:?}");

    // The set decides at once, in both directions.
    bench.label("prod", LABEL_CLUSTER_SET, "spare").await;
    eventually("prod is the project's", || async {
        may(&hub, "fleet-viewer", "get", fleet_objects::GROUP, ("clusters", "proxy", "", "prod")).await
    })
    .await;
    project(&hub, "edge-team", "edge").await;
    eventually("and is not any more", || async {
        !may(&hub, "fleet-viewer", "get", fleet_objects::GROUP, ("clusters", "proxy", "", "prod")).await
    })
    .await;

    // Through the hub, as a person: the cluster knows who asks.
    let cluster = bench.cluster_client("dev");
    let bindings: Api<ClusterRoleBinding> = Api::all(cluster);
    let view = serde_json::from_value(binding("viewer", "view", "cluster:hub:fleet-viewer")).unwrap();
    bindings.create(&PostParams::default(), &view).await.unwrap();
    let code = |path: String, method: &'static str| {
        let hub = hub.clone();
        async move {
            let request =
                http::Request::builder().method(method).uri(path).header("impersonate-user", "fleet-viewer");
            let response = hub.send(request.body(kube::client::Body::empty()).unwrap()).await.unwrap();
            response.status().as_u16()
        }
    };
    let pods = |cluster: &str| format!("{}/api/v1/namespaces/default/pods", cluster_proxy_path(cluster));
    assert_eq!(code(pods("dev"), "GET").await, 200);
    assert_eq!(code(pods("dev"), "POST").await, 403, "viewers look");
    assert_eq!(code(pods("prod"), "GET").await, 403);
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_projects_placements_choose_among_its_own_clusters() {
    let bench = Bench::start(&["dev", "prod"]).await;
    let hub = bench.hub_client();
    bench.label("dev", LABEL_CLUSTER_SET, "edge").await;
    bench.label("prod", LABEL_CLUSTER_SET, "shop").await;
    project(&hub, "edge-team", "edge").await;
    let version = format!("{}/{}", fleet_objects::GROUP, fleet_objects::VERSION);
    let profiles: Api<Profile> = Api::namespaced(hub.clone(), "edge-team");
    let profile = json!({"apiVersion": version, "kind": "Profile", "metadata": {"name": "app"},
        "spec": {"manifests": [config_map("mine", "1")]}});
    profiles.create(&PostParams::default(), &serde_json::from_value(profile).unwrap()).await.unwrap();
    let placements: Api<Placement> = Api::namespaced(hub.clone(), "edge-team");
    let place = |sets: Value| {
        json!({"apiVersion": version, "kind": "Placement", "metadata": {"name": "app"},
        "spec": {"profile": "app", "clusterSelector": {}, "clusterSets": sets}})
    };
    let apply = async |sets: Value| {
        let params = PatchParams::apply("test").force();
        placements.patch("app", &params, &Patch::Apply(place(sets))).await.unwrap();
    };
    apply(json!([])).await;
    bench.applied("dev", "edge-team.app").await;
    let decision = async |cluster: &str| {
        let status = placements.get("app").await.unwrap().status.unwrap_or_default();
        let found = status.decisions.into_iter().find(|one| one.cluster == cluster);
        found.map(|one| (one.selected, one.reason)).unwrap_or_default()
    };
    let (selected, why) = decision("prod").await;
    assert!(!selected && why.contains("shop, not in edge"), "{why}");
    // The project has an inventory of its own, which its decisions name.
    let names = async |namespace: &str| {
        let inventory: Api<ClusterProfile> = Api::namespaced(hub.clone(), namespace);
        let all = inventory.list(&ListParams::default()).await.unwrap().items;
        all.iter().map(ResourceExt::name_any).collect::<Vec<_>>()
    };
    eventually("each inventory is whole", || async {
        names("edge-team").await == ["dev"] && names("fairlead-system").await == ["dev", "prod"]
    })
    .await;
    let slices: Api<PlacementDecision> = Api::namespaced(hub.clone(), "edge-team");
    eventually("the decision names it", || async {
        let all = slices.list(&ListParams::default()).await.unwrap().items;
        let mut named = all.iter().flat_map(|slice| &slice.decisions).map(|one| &one.cluster_profile_ref);
        named.next().is_some_and(|one| (one.namespace.as_str(), one.name.as_str()) == ("edge-team", "dev"))
    })
    .await;
    // Asking for another's set gets nothing, and takes what was there away.
    apply(json!(["shop"])).await;
    eventually("nothing is chosen", || async {
        let (selected, why) = decision("prod").await;
        !selected && why.contains("none that its project has") && !decision("dev").await.0
    })
    .await;
    assert!(value(&bench.config_maps("prod"), "mine").await.is_none());
    // A namespace that is no project goes on having all.
    bench.profile("all", json!({"manifests": [config_map("all", "1")]})).await;
    bench.place("all", json!({}), json!({})).await;
    bench.applied("dev", "default.all").await;
    bench.applied("prod", "default.all").await;
    let clusters: Api<Cluster> = Api::all(hub.clone());
    assert!(clusters.get("prod").await.unwrap().metadata.deletion_timestamp.is_none());
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_of_a_new_kind_is_added_by_a_label() {
    let bench = Bench::start(&[]).await;
    let hub = bench.hub_client();
    project(&hub, "team", "edge").await;
    grant(&hub, "team", "fleet-viewer", "ada").await;
    let roles: Api<ClusterRole> = Api::all(hub.clone());
    let more = json!({"metadata": {"name": "widgets-view", "labels": {"fleet.fairlead.dev/aggregate-to-viewer": "true"}},
        "rules": [{"apiGroups": ["example.com"], "resources": ["widgets"], "verbs": ["get"]}]});
    roles.create(&PostParams::default(), &serde_json::from_value(more).unwrap()).await.unwrap();
    let thing = ("widgets", "", "team", "x");
    eventually("it counts", || async { may(&hub, "ada", "get", "example.com", thing).await }).await;
    roles.delete("widgets-view", &DeleteParams::default()).await.unwrap();
    eventually("and not any more", || async { !may(&hub, "ada", "get", "example.com", thing).await }).await;
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clusters_and_sets_move_by_the_rights_over_every_set_that_gains_or_loses() {
    let bench = Bench::start(&["dev"]).await;
    let hub = bench.hub_client();
    project(&hub, "edge-team", "edge").await;
    project(&hub, "shop-team", "shop").await;
    let clusters = json!({"apiGroups": [fleet_objects::GROUP], "resources": ["clusters"], "verbs": ["get", "patch", "create"]});
    let namespaces = json!({"apiGroups": [""], "resources": ["namespaces", "namespaces/finalize"], "verbs": ["get", "create", "update", "patch"]});
    let tokens = json!({"apiGroups": [""], "resources": ["secrets"], "verbs": ["create"]});
    let join = |names: Value| {
        let mut rule = json!({"apiGroups": [fleet_objects::GROUP], "resources": ["clustersets/join"], "verbs": ["create"]});
        rule["resourceNames"] = names;
        rule
    };
    let writes =
        |more: Vec<Value>| json!([vec![clusters.clone(), namespaces.clone(), tokens.clone()], more].concat());
    allow(&hub, "labeller", None, writes(vec![])).await;
    allow(&hub, "edger", None, writes(vec![join(json!(["edge"]))])).await;
    allow(&hub, "both", None, writes(vec![join(json!(["edge", "shop"]))])).await;
    allow(&hub, "all", None, writes(vec![join(json!([]))])).await;
    // By a role in each project, over the sets that these have.
    allow(&hub, "local", None, writes(vec![])).await;
    allow(&hub, "local", Some("edge-team"), json!([join(json!([]))])).await;
    grant(&hub, "shop-team", "local-edge-team", "local").await;
    let sets = |user: &str| match user {
        "edger" => vec!["edge"],
        "both" | "local" => vec!["edge", "shop"],
        "all" => vec!["edge", "shop", "spare", ""],
        _ => vec![],
    };
    let users = ["labeller", "edger", "both", "local", "all", "kubernetes-admin-to-be"];
    for user in &users[..5] {
        for set in sets(user) {
            let thing = ("clustersets", "join", "", set);
            eventually("the right is there", || may(&hub, user, "create", fleet_objects::GROUP, thing)).await;
        }
    }
    let path = format!("/apis/{}/{}/clusters/dev", fleet_objects::GROUP, fleet_objects::VERSION);
    let label = |set: Option<&str>| json!({"metadata": {"labels": {LABEL_CLUSTER_SET: set}}});
    let states = [None, Some("edge"), Some("shop"), Some("spare")];
    let mut wrong = Vec::new();
    for user in users {
        for from in states {
            for to in states {
                let api: Api<Cluster> = Api::all(hub.clone());
                api.patch("dev", &PatchParams::default(), &Patch::Merge(label(from))).await.unwrap();
                let (code, said) = write_as(&hub, user, "PATCH", &path, &label(to)).await;
                let mut moved = [from, to].into_iter().flatten().filter(|_| from != to);
                let lacking = moved.find(|set| !sets(user).contains(set));
                let good = match (user, lacking) {
                    // Who may not write the cluster at all.
                    ("kubernetes-admin-to-be", _) => code == 403,
                    (_, None) => code == 200,
                    (_, Some(set)) => {
                        let named =
                            format!("\"clustersets/join\" in API group \"fleet.fairlead.dev\" named {set:?}");
                        let begins = format!(
                            "clusters.fleet.fairlead.dev \"dev\" is forbidden: User {user:?} cannot "
                        );
                        code == 403 && said.starts_with(&begins) && said.ends_with(&named)
                    }
                };
                if !good {
                    wrong.push(format!("{user}: {from:?} to {to:?}: {code} {said}"));
                }
            }
        }
        // What else of a cluster may be written is not asked for.
        let other = json!({"metadata": {"labels": {"tier": user}}});
        let (code, said) = write_as(&hub, user, "PATCH", &path, &other).await;
        if (code == 200) == (user == "kubernetes-admin-to-be") {
            wrong.push(format!("{user}: another label: {code} {said}"));
        }
    }
    assert_eq!(wrong, Vec::<String>::new());

    // The other ways there: a cluster that is made, a project that takes a set or stops being one, a token.
    let made = json!({"apiVersion": format!("{}/{}", fleet_objects::GROUP, fleet_objects::VERSION), "kind": "Cluster",
        "metadata": {"name": "new", "labels": {LABEL_CLUSTER_SET: "shop"}}, "spec": {}});
    let grants = TokenGrant {
        labels: [(LABEL_CLUSTER_SET.to_owned(), "shop".to_owned())].into(),
        ..TokenGrant::default()
    };
    let token = JoinToken::generate().secret_object(&grants, jiff::Timestamp::now());
    let takes = json!({"metadata": {"annotations": {ANNOTATION_CLUSTER_SETS: "edge,shop"}}});
    let ceases = json!({"metadata": {"labels": {LABEL_PROJECT: null}}});
    let edge = "/api/v1/namespaces/edge-team";
    for (method, path, object, gets) in [
        ("POST", path.trim_end_matches("/dev"), &made, "both"),
        ("POST", "/api/v1/namespaces/fairlead-system/secrets", &token, "both"),
        ("PATCH", edge, &takes, "both"),
        ("PATCH", edge, &ceases, "all"),
    ] {
        for user in ["labeller", "edger", gets] {
            let (code, said) = write_as(&hub, user, method, path, object).await;
            let wanted =
                if user == gets { code < 300 } else { code == 403 && said.contains("clustersets/join") };
            assert!(wanted, "{user} {method} {path}: {code} {said}");
        }
    }
    bench.stop().await;
}
