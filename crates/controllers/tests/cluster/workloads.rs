//! Workloads whose pods are claimed, counted, recorded, budgeted and preempted.

use k8s_openapi::api::{
    apps::v1::{ControllerRevision, DaemonSet, Deployment, ReplicaSet, StatefulSet},
    batch::v1::Job,
    core::v1::{Endpoints, Pod, ReplicationController, ResourceQuota, Service},
    discovery::v1::EndpointSlice,
    policy::v1::PodDisruptionBudget,
    scheduling::v1::PriorityClass,
};
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, PropagationPolicy},
};
use serde_json::{Value, json};

use super::{Cluster, start, template, until, workload};

fn controller(name: &str, replicas: i32) -> Value {
    json!({"metadata": {"name": name}, "spec": {"replicas": replicas, "selector": {"app": name},
        "template": template(json!({"app": name}))}})
}

async fn pods(cluster: &Cluster, selector: &str) -> Vec<Pod> {
    cluster.api::<Pod>().list(&ListParams::default().labels(selector)).await.unwrap().items
}

fn owner(pod: &Pod) -> Option<String> {
    pod.owner_references().iter().find(|own| own.controller == Some(true)).map(|own| own.name.clone())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replication_controller_keeps_adopts_releases_and_says_what_fails() {
    let cluster = start().await;
    let mut orphan = template(json!({"app": "rc"}));
    orphan["metadata"]["name"] = "orphan".into();
    cluster.create::<Pod>(orphan).await;
    // A controller that has not heard of it yet makes two pods, and one of the three goes.
    until("the orphan runs", async || {
        let orphan = cluster.api::<Pod>().get("orphan").await.unwrap();
        orphan.status.unwrap_or_default().phase.as_deref() == Some("Running")
    })
    .await;
    cluster.create::<ReplicationController>(controller("rc", 2)).await;
    let status =
        async || cluster.api::<ReplicationController>().get("rc").await.unwrap().status.unwrap_or_default();
    until("two are ready", async || status().await.ready_replicas == Some(2)).await;
    let adopted = cluster.api::<Pod>().get("orphan").await.unwrap();
    assert_eq!((owner(&adopted).as_deref(), pods(&cluster, "app=rc").await.len()), (Some("rc"), 2));
    let relabel = json!({"metadata": {"labels": {"app": "other"}}});
    cluster.api::<Pod>().patch("orphan", &PatchParams::default(), &Patch::Merge(relabel)).await.unwrap();
    until("it is let go and replaced", async || {
        let let_go = cluster.api::<Pod>().get("orphan").await.unwrap();
        owner(&let_go).is_none() && pods(&cluster, "app=rc").await.len() == 2
    })
    .await;
    let quota = json!({"metadata": {"name": "q"}, "spec": {"hard": {"pods": "3"}}});
    cluster.create::<ResourceQuota>(quota).await;
    until("the quota counts", async || {
        let quota = cluster.api::<ResourceQuota>().get("q").await.unwrap();
        quota.status.unwrap_or_default().used.is_some_and(|used| used["pods"].0 == "3")
    })
    .await;
    let size = async |replicas: i32| {
        let patch = json!({"spec": {"replicas": replicas}});
        let api = cluster.api::<ReplicationController>();
        api.patch("rc", &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    };
    let failing = async || {
        let conditions = status().await.conditions.unwrap_or_default();
        conditions.into_iter().find(|own| own.type_ == "ReplicaFailure")
    };
    size(3).await;
    until("the failure is told", async || failing().await.is_some()).await;
    let failure = failing().await.unwrap();
    assert_eq!(failure.reason.as_deref(), Some("FailedCreate"));
    assert!(failure.message.unwrap_or_default().contains("exceeded quota: q"), "in the server's words");
    size(2).await;
    until("it is over", async || failing().await.is_none()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deployments_and_jobs_take_what_matches_and_let_go_of_what_does_not() {
    let cluster = start().await;
    let mut old = workload("web", json!({"replicas": 1}));
    old["metadata"] = json!({"name": "by-hand", "labels": {"app": "web"},
        "annotations": {"deployment.kubernetes.io/revision": "41"}});
    cluster.create::<ReplicaSet>(old).await;
    let mut new = workload("web", json!({"replicas": 1}));
    new["spec"]["template"]["spec"]["containers"][0]["image"] = "image:2".into();
    cluster.create::<Deployment>(new).await;
    until("the set is adopted and rolled away", async || {
        let set = cluster.api::<ReplicaSet>().get("by-hand").await.unwrap();
        let owned = set.owner_references().iter().any(|own| own.kind == "Deployment");
        owned && set.spec.unwrap().replicas == Some(0) && cluster.available("web").await == 1
    })
    .await;
    let deployment = cluster.api::<Deployment>().get("web").await.unwrap();
    assert_eq!(deployment.annotations()["deployment.kubernetes.io/revision"], "42");

    let mut work = template(json!({}));
    work["spec"]["restartPolicy"] = "Never".into();
    let job =
        json!({"metadata": {"name": "work"}, "spec": {"parallelism": 1, "completions": 2, "template": work}});
    cluster.create::<Job>(job).await;
    let of_job = "batch.kubernetes.io/job-name=work";
    until("a pod works", async || pods(&cluster, of_job).await.len() == 1).await;
    let name = pods(&cluster, of_job).await[0].name_any();
    let api = cluster.api::<Pod>();
    let orphaned = json!({"metadata": {"ownerReferences": []}});
    api.patch(&name, &PatchParams::default(), &Patch::Merge(orphaned)).await.unwrap();
    until("it is taken back", async || owner(&api.get(&name).await.unwrap()).as_deref() == Some("work"))
        .await;
    let bare = json!({"metadata": {"labels": null}});
    api.patch(&name, &PatchParams::default(), &Patch::Merge(bare)).await.unwrap();
    until("it is let go for good", async || {
        let pod = api.get(&name).await.unwrap();
        owner(&pod).is_none() && pod.finalizers().is_empty()
    })
    .await;
    until("another takes its place", async || pods(&cluster, of_job).await.len() == 1).await;
    let gone =
        DeleteParams { propagation_policy: Some(PropagationPolicy::Background), ..DeleteParams::default() };
    cluster.api::<Job>().delete("work", &gone).await.unwrap();
    until("nothing holds the pods of a Job that is gone", async || pods(&cluster, of_job).await.is_empty())
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_has_endpoints_and_written_endpoints_are_mirrored() {
    let cluster = start().await;
    cluster.create::<ReplicaSet>(workload("web", json!({"replicas": 2}))).await;
    let web =
        json!({"metadata": {"name": "web"}, "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]}});
    cluster.create::<Service>(web).await;
    let endpoints = cluster.api::<Endpoints>();
    until("both pods are endpoints", async || {
        let found =
            endpoints.get_opt("web").await.unwrap().and_then(|found| found.subsets).unwrap_or_default();
        found.iter().flat_map(|subset| subset.addresses.iter().flatten()).count() == 2
    })
    .await;
    cluster.api::<Service>().delete("web", &DeleteParams::default()).await.unwrap();
    until("they go with the Service", async || endpoints.get_opt("web").await.unwrap().is_none()).await;

    let db = json!({"metadata": {"name": "db"}, "spec": {"ports": [{"port": 80}]}});
    cluster.create::<Service>(db).await;
    let written = json!({"metadata": {"name": "db"},
        "subsets": [{"addresses": [{"ip": "10.1.2.3"}], "ports": [{"port": 80}]}]});
    cluster.create::<Endpoints>(written).await;
    let mirrored = async || {
        let slices = cluster.api::<EndpointSlice>();
        let list = slices.list(&ListParams::default().labels("kubernetes.io/service-name=db")).await.unwrap();
        let all = list.items.into_iter().flat_map(|slice| slice.endpoints.unwrap_or_default());
        all.flat_map(|endpoint| endpoint.addresses).collect::<Vec<_>>()
    };
    until("they are mirrored", async || mirrored().await == ["10.1.2.3"]).await;
    let moved = json!({"subsets": [{"addresses": [{"ip": "10.2.3.4"}], "ports": [{"port": 80}]}]});
    endpoints.patch("db", &PatchParams::default(), &Patch::Merge(moved)).await.unwrap();
    until("a change is mirrored", async || mirrored().await == ["10.2.3.4"]).await;
    endpoints.delete("db", &DeleteParams::default()).await.unwrap();
    until("the mirror goes", async || mirrored().await.is_empty()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn templates_are_recorded_and_a_partition_keeps_the_old_one() {
    let cluster = start().await;
    cluster.create::<DaemonSet>(workload("agent", json!({}))).await;
    let revisions = async |app: &str| {
        let list = ListParams::default().labels(&format!("app={app}"));
        let mut all = cluster.api::<ControllerRevision>().list(&list).await.unwrap().items;
        all.sort_by_key(|own| own.revision);
        all
    };
    until("the daemons run", async || pods(&cluster, "app=agent").await.len() == 2).await;
    let first = revisions("agent").await;
    let hash = first[0].labels()["controller-revision-hash"].clone();
    assert!(
        pods(&cluster, "app=agent").await.iter().all(|pod| pod.labels()["controller-revision-hash"] == hash)
    );
    let image = |image: &str| json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": image}]}}}});
    let sets = cluster.api::<DaemonSet>();
    sets.patch("agent", &PatchParams::default(), &Patch::Strategic(image("image:2"))).await.unwrap();
    until("the second is recorded", async || revisions("agent").await.len() == 2).await;
    sets.patch("agent", &PatchParams::default(), &Patch::Strategic(image("image:1"))).await.unwrap();
    until("the first is the newest again", async || {
        revisions("agent")
            .await
            .last()
            .is_some_and(|own| own.name_any() == first[0].name_any() && own.revision == 3)
    })
    .await;

    let rolling = json!({"replicas": 2, "serviceName": "db",
        "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 1}}});
    cluster.create::<StatefulSet>(workload("db", rolling)).await;
    let db = cluster.api::<StatefulSet>();
    let status = async || db.get("db").await.unwrap().status.unwrap_or_default();
    until("both are ready", async || status().await.ready_replicas == Some(2)).await;
    db.patch("db", &PatchParams::default(), &Patch::Strategic(image("image:2"))).await.unwrap();
    let pod = async |name: &str| cluster.api::<Pod>().get_opt(name).await.unwrap();
    let runs = async |name: &str, image: &str| {
        let ready = status().await.ready_replicas == Some(2);
        ready
            && pod(name)
                .await
                .is_some_and(|pod| pod.spec.unwrap().containers[0].image.as_deref() == Some(image))
    };
    until("the second is updated", async || runs("db-1", "image:2").await).await;
    let before = pod("db-0").await.unwrap().uid();
    cluster.api::<Pod>().delete("db-0", &DeleteParams::default()).await.unwrap();
    until("the first comes back as it was", async || {
        pod("db-0").await.is_some_and(|pod| pod.uid() != before) && runs("db-0", "image:1").await
    })
    .await;
    let status = status().await;
    assert_ne!(status.current_revision, status.update_revision);
    assert_eq!(
        pod("db-0").await.unwrap().labels().get("controller-revision-hash"),
        status.current_revision.as_ref()
    );
    assert_eq!(
        pod("db-1").await.unwrap().labels().get("controller-revision-hash"),
        status.update_revision.as_ref()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_budget_counts_its_pods_by_what_their_controllers_want() {
    let cluster = start().await;
    cluster.create::<Deployment>(workload("web", json!({"replicas": 4}))).await;
    until("four are available", async || cluster.available("web").await == 4).await;
    let budget = json!({"metadata": {"name": "b"}, "spec": {"maxUnavailable": "25%",
        "selector": {"matchLabels": {"app": "web"}}}});
    cluster.create::<PodDisruptionBudget>(budget).await;
    let api = cluster.api::<PodDisruptionBudget>();
    let counts = async || {
        let status = api.get("b").await.unwrap().status.unwrap_or_default();
        [status.expected_pods, status.desired_healthy, status.current_healthy, status.disruptions_allowed]
            .map(Option::unwrap_or_default)
    };
    until("one may go", async || counts().await == [4, 3, 4, 1]).await;
    let patch = json!({"spec": {"minAvailable": 4, "maxUnavailable": null}});
    api.patch("b", &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    until("none may go", async || counts().await == [4, 4, 4, 0]).await;
    let conditions = api.get("b").await.unwrap().status.unwrap().conditions.unwrap_or_default();
    assert_eq!(conditions[0].reason, "InsufficientPods");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_more_important_pod_takes_the_place_of_the_least_important() {
    let cluster = start().await;
    let classes: Api<PriorityClass> = Api::all(cluster.client.clone());
    for (name, value) in [("low", 1), ("high", 100)] {
        let class = serde_json::from_value(json!({"metadata": {"name": name}, "value": value})).unwrap();
        classes.create(&PostParams::default(), &class).await.unwrap();
    }
    let pod = |name: &str, class: &str, node: &str| {
        let mut pod = template(json!({"app": "p"}));
        pod["metadata"]["name"] = name.into();
        pod["spec"]["priorityClassName"] = class.into();
        pod["spec"]["nodeSelector"] = json!({"kubernetes.io/hostname": node});
        pod["spec"]["containers"][0]["resources"] = json!({"requests": {"cpu": "6"}});
        pod
    };
    let placed = async |name: &str| {
        let pod = cluster.api::<Pod>().get_opt(name).await.unwrap();
        pod.and_then(|pod| pod.spec.unwrap().node_name)
    };
    cluster.create::<Pod>(pod("small", "low", "node-a")).await;
    until("the first is placed", async || placed("small").await.is_some()).await;
    cluster.create::<Pod>(pod("great", "high", "node-a")).await;
    until("the great one has its place", async || placed("great").await.as_deref() == Some("node-a")).await;
    assert!(cluster.api::<Pod>().get_opt("small").await.unwrap().is_none(), "the small one went");
    cluster.create::<Pod>(pod("equal", "high", "node-a")).await;
    until("an equal one waits", async || {
        let pod = cluster.api::<Pod>().get("equal").await.unwrap();
        pod.status
            .iter()
            .flat_map(|status| status.conditions.iter().flatten())
            .any(|own| own.status == "False")
    })
    .await;
    assert!(placed("great").await.is_some());
}
