//! All controllers and the scheduler against the real API server, in process, with a kubelet that only pretends.

#![expect(clippy::unwrap_used, reason = "in a test a failed expectation should break off")]

#[path = "cluster/credentials.rs"]
mod credentials;
#[path = "cluster/volumes.rs"]
mod volumes;
#[path = "cluster/watched.rs"]
mod watched;
#[path = "cluster/workloads.rs"]
mod workloads;

use std::{
    fmt::Debug,
    sync::Arc,
    time::{Duration, Instant},
};

use api_client::{CacheOptions, ObjectCache, ObjectKey};
use apiserver::Catalogue;
use k8s_openapi::{
    NamespaceResourceScope,
    api::{
        apps::v1::{DaemonSet, Deployment, ReplicaSet, StatefulSet},
        batch::v1::Job,
        core::v1::{ConfigMap, Namespace, Node, Pod, ResourceQuota, Service, ServiceAccount},
        discovery::v1::EndpointSlice,
    },
};
use kube::{
    Api, Client, Resource,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use kube_objects::UserInfo;
use reconcile::{Action, Driver, DriverOptions, Queue, Reconciler};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use storage::model::MemoryStore;
use tokio_util::sync::{CancellationToken, DropGuard};

/// Marks assigned pods as running and ready (or as ended, where a label says how), and lets deleted ones go.
struct Kubelet {
    client: Client,
    pods: ObjectCache<Pod>,
}

impl Reconciler for Kubelet {
    type Key = ObjectKey;
    type Error = kube::Error;

    async fn reconcile(&self, key: ObjectKey) -> Result<Action, kube::Error> {
        let Some(pod) = self.pods.get(&key) else { return Ok(Action::Done) };
        if pod.spec.as_ref().unwrap().node_name.is_none() {
            return Ok(Action::Done);
        }
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &key.namespace);
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or("Pending");
        let outcome = pod.metadata.labels.as_ref().and_then(|labels| labels.get("outcome"));
        if pod.metadata.deletion_timestamp.is_some() {
            let _ = api
                .delete(&key.name, &DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() })
                .await;
            return Ok(Action::Done);
        }
        let wanted = outcome.map_or("Running", String::as_str);
        if phase == wanted {
            return Ok(Action::Done);
        }
        let ready = if wanted == "Running" { "True" } else { "False" };
        let ip = format!(
            "10.1.{}.{}",
            key.name.len(),
            key.name.bytes().fold(7_u8, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte))
        );
        let status = json!({"status": {"phase": wanted, "podIP": ip, "podIPs": [{"ip": ip}],
            "conditions": [{"type": "Ready", "status": ready, "lastTransitionTime": "2026-01-01T00:00:00Z"}]}});
        api.patch_status(&key.name, &PatchParams::default(), &Patch::Strategic(status)).await?;
        Ok(Action::Done)
    }
}

struct Cluster {
    client: Client,
    handle: controllers::Handle,
    _stop: DropGuard,
}

async fn start() -> Cluster {
    let mut options = apiserver::Options::new(Arc::new(MemoryStore::default()), Catalogue::cluster());
    options.authorizer = Some(Arc::default());
    let service = apiserver::Service::new(options).await.unwrap();
    let server = service.handle();
    let stop = CancellationToken::new();
    tokio::spawn(Box::pin(service.run(stop.clone())));
    assert!(server.ready().await);
    let client = server.client(UserInfo::new("tester", &["system:masters"]));
    let component = |name: &str| watched::client(&server, UserInfo::component(name));
    let mut options = controllers::Options::new(component("system:kube-controller-manager"));
    options.identities = watched::controllers(&server);
    options.root_certificate = Some("certificate".to_owned());
    let service = controllers::Service::new(options);
    let handle = service.handle();
    tokio::spawn(service.run(stop.clone()));
    let scheduler = scheduler::Service::new(scheduler::Options::new(component("system:kube-scheduler")));
    tokio::spawn(scheduler.run(stop.clone()));
    let pods = ObjectCache::<Pod>::start(Api::all(client.clone()), CacheOptions::new("kubelet"));
    let queue = Queue::new();
    let own = queue.clone();
    pods.on_change(move |change| own.add(change.key.clone()));
    let kubelet = Arc::new(Kubelet { client: client.clone(), pods });
    tokio::spawn(
        Driver::new(kubelet, queue, DriverOptions::new("kubelet").concurrency(16)).run(stop.clone()),
    );
    let cluster = Cluster { client, handle, _stop: stop.drop_guard() };
    for name in ["node-a", "node-b"] {
        cluster.add_node(name).await;
    }
    let accounts: Api<ServiceAccount> = Api::default_namespaced(cluster.client.clone());
    until("the default service account is there", async || {
        accounts.get_opt("default").await.unwrap().is_some()
    })
    .await;
    cluster
}

impl Cluster {
    fn api<K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>>(&self) -> Api<K> {
        Api::default_namespaced(self.client.clone())
    }

    async fn add_node(&self, name: &str) {
        let nodes: Api<Node> = Api::all(self.client.clone());
        let node = json!({"metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}}});
        nodes.create(&PostParams::default(), &serde_json::from_value(node).unwrap()).await.unwrap();
        let status = json!({"status": {"allocatable": {"cpu": "8", "memory": "8Gi", "pods": "110"},
            "capacity": {"cpu": "8", "memory": "8Gi", "pods": "110"},
            "conditions": [{"type": "Ready", "status": "True", "lastHeartbeatTime": "2026-01-01T00:00:00Z"}]}});
        nodes.patch_status(name, &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
    }

    async fn create<K>(&self, object: Value) -> K
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + Debug
            + Serialize
            + DeserializeOwned,
    {
        self.api::<K>()
            .create(&PostParams::default(), &serde_json::from_value(object).unwrap())
            .await
            .unwrap()
    }

    async fn count<K>(&self) -> usize
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug + DeserializeOwned,
    {
        self.api::<K>().list(&ListParams::default()).await.unwrap().items.len()
    }

    async fn available(&self, name: &str) -> i32 {
        let deployment = self.api::<Deployment>().get(name).await.unwrap();
        let status = deployment.status.unwrap_or_default();
        if status.observed_generation != deployment.metadata.generation
            || status.updated_replicas != status.replicas
        {
            return 0;
        }
        status.available_replicas.unwrap_or(0)
    }
}

async fn until(what: &str, holds: impl AsyncFn() -> bool) -> Duration {
    let begun = Instant::now();
    while !holds().await {
        assert!(begun.elapsed() < Duration::from_secs(15), "in vain: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    begun.elapsed()
}

fn template(labels: Value) -> Value {
    json!({"metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": "image:1",
        "ports": [{"containerPort": 80}]}]}})
}

fn workload(name: &str, spec: Value) -> Value {
    let labels = json!({"app": name});
    let mut object = json!({"metadata": {"name": name}, "spec": {"selector": {"matchLabels": labels},
        "template": template(labels)}});
    for (key, value) in spec.as_object().unwrap() {
        object["spec"][key] = value.clone();
    }
    object
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deployment_runs_repairs_itself_rolls_out_and_goes() {
    let cluster = start().await;
    cluster.create::<Service>(json!({"metadata": {"name": "web"}, "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]}})).await;
    cluster.create::<Deployment>(workload("web", json!({"replicas": 3}))).await;
    let took = until("three pods are available", async || cluster.available("web").await == 3).await;
    println!("available after {took:?}");
    let slices = cluster.api::<EndpointSlice>();
    let ready = async || {
        let slices =
            slices.list(&ListParams::default().labels("kubernetes.io/service-name=web")).await.unwrap();
        let endpoints = slices.items.into_iter().flat_map(|slice| slice.endpoints.unwrap_or_default());
        endpoints.filter(|endpoint| endpoint.conditions.as_ref().unwrap().ready == Some(true)).count()
    };
    until("three endpoints are published", async || ready().await == 3).await;

    let pods = cluster.api::<Pod>();
    let victim = pods.list(&ListParams::default()).await.unwrap().items.remove(0).metadata;
    pods.delete(
        victim.name.as_deref().unwrap(),
        &DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() },
    )
    .await
    .unwrap();
    let took = until("a new pod takes the place of the deleted one", async || {
        let pods = pods.list(&ListParams::default()).await.unwrap().items;
        pods.len() == 3 && pods.iter().all(|pod| pod.metadata.uid != victim.uid)
    })
    .await;
    println!("repaired after {took:?}");

    let patch = json!({"spec": {"replicas": 5, "template": {"spec": {"containers": [{"name": "c", "image": "image:2"}]}}}});
    cluster
        .api::<Deployment>()
        .patch("web", &PatchParams::default(), &Patch::Strategic(patch))
        .await
        .unwrap();
    let took = until("all five run the new image", async || {
        let pods = pods.list(&ListParams::default()).await.unwrap().items;
        let image = |pod: &Pod| pod.spec.as_ref().unwrap().containers[0].image.clone();
        cluster.available("web").await == 5
            && pods.len() == 5
            && pods.iter().all(|pod| image(pod).as_deref() == Some("image:2"))
    })
    .await;
    println!("rolled out after {took:?}");
    let deployment = cluster.api::<Deployment>().get("web").await.unwrap();
    assert_eq!(deployment.metadata.annotations.unwrap()["deployment.kubernetes.io/revision"], "2");
    until("the rollout is said to be done", async || {
        let status = cluster.api::<Deployment>().get("web").await.unwrap().status.unwrap();
        status.conditions.iter().flatten().any(|own| own.reason.as_deref() == Some("NewReplicaSetAvailable"))
    })
    .await;

    cluster.api::<Deployment>().delete("web", &DeleteParams::background()).await.unwrap();
    let took = until("its ReplicaSets and pods go with it", async || {
        cluster.count::<ReplicaSet>().await == 0 && cluster.count::<Pod>().await == 0
    })
    .await;
    println!("collected after {took:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deletion_in_the_foreground_waits_and_orphaning_leaves_dependents() {
    let cluster = start().await;
    cluster.create::<ReplicaSet>(workload("first", json!({"replicas": 2}))).await;
    cluster.create::<ReplicaSet>(workload("other", json!({"replicas": 2}))).await;
    until("four pods are there", async || cluster.count::<Pod>().await == 4).await;
    cluster.api::<ReplicaSet>().delete("first", &DeleteParams::foreground()).await.unwrap();
    until("the set and its pods are gone", async || {
        cluster.count::<Pod>().await == 2
            && cluster.api::<ReplicaSet>().get_opt("first").await.unwrap().is_none()
    })
    .await;
    cluster.api::<ReplicaSet>().delete("other", &DeleteParams::orphan()).await.unwrap();
    until("the set is gone", async || cluster.api::<ReplicaSet>().get_opt("other").await.unwrap().is_none())
        .await;
    let pods = cluster.api::<Pod>().list(&ListParams::default()).await.unwrap().items;
    assert_eq!(pods.len(), 2);
    assert!(pods.iter().all(|pod| pod.metadata.owner_references.as_ref().is_none_or(Vec::is_empty)));

    let mut uids = Vec::new();
    for name in ["a", "b", "c"] {
        let map: ConfigMap = cluster.create(json!({"metadata": {"name": name}})).await;
        uids.push((name, map.metadata.uid.unwrap()));
    }
    let maps = cluster.api::<ConfigMap>();
    for (place, name) in ["a", "b", "c"].iter().enumerate() {
        let (owner, uid) = &uids[(place + 2) % 3];
        let owner = json!({"apiVersion": "v1", "kind": "ConfigMap", "name": owner, "uid": uid,
            "controller": true, "blockOwnerDeletion": true});
        let patch = json!({"metadata": {"ownerReferences": [owner]}});
        maps.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    }
    maps.delete("a", &DeleteParams::foreground()).await.unwrap();
    until("a circle of owners goes", async || {
        let mut left = Vec::new();
        for name in ["a", "b", "c"] {
            left.extend(maps.get_opt(name).await.unwrap());
        }
        left.is_empty()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_complete_and_fail() {
    let cluster = start().await;
    let job = |name: &str, outcome: &str, more: Value| {
        let mut pod = template(json!({"outcome": outcome}));
        pod["spec"]["restartPolicy"] = "Never".into();
        let mut job = json!({"metadata": {"name": name}, "spec": {"template": pod, "backoffLimit": 0}});
        for (key, value) in more.as_object().unwrap() {
            job["spec"][key] = value.clone();
        }
        job
    };
    cluster.create::<Job>(job("good", "Succeeded", json!({"completions": 4, "parallelism": 2}))).await;
    cluster.create::<Job>(job("bad", "Failed", json!({}))).await;
    cluster
        .create::<Job>(job(
            "indexed",
            "Succeeded",
            json!({"completions": 3, "parallelism": 3, "completionMode": "Indexed"}),
        ))
        .await;
    for (name, condition) in [("good", "Complete"), ("bad", "Failed"), ("indexed", "Complete")] {
        let took = until(&format!("{name} ends as {condition}"), async || {
            let status = cluster.api::<Job>().get(name).await.unwrap().status.unwrap_or_default();
            status.conditions.iter().flatten().any(|own| own.type_ == condition && own.status == "True")
        })
        .await;
        println!("{name} ended after {took:?}");
    }
    let status = cluster.api::<Job>().get("good").await.unwrap().status.unwrap();
    assert_eq!((status.succeeded, status.active.unwrap_or(0)), (Some(4), 0));
    let status = cluster.api::<Job>().get("indexed").await.unwrap().status.unwrap();
    assert_eq!(status.completed_indexes.as_deref(), Some("0-2"));
    let pods = cluster.api::<Pod>().list(&ListParams::default()).await.unwrap().items;
    assert!(
        pods.iter().all(|pod| pod.metadata.finalizers.as_ref().is_none_or(Vec::is_empty)),
        "every end is counted"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_namespace_gets_its_contents_and_goes_with_them() {
    let cluster = start().await;
    let namespaces: Api<Namespace> = Api::all(cluster.client.clone());
    let namespace = serde_json::from_value(json!({"metadata": {"name": "team"}})).unwrap();
    namespaces.create(&PostParams::default(), &namespace).await.unwrap();
    let maps: Api<ConfigMap> = Api::namespaced(cluster.client.clone(), "team");
    until("the root certificate is published", async || {
        maps.get_opt("kube-root-ca.crt").await.unwrap().is_some()
    })
    .await;
    let accounts: Api<ServiceAccount> = Api::namespaced(cluster.client.clone(), "team");
    until("the service account is there", async || accounts.get_opt("default").await.unwrap().is_some())
        .await;
    let deployments: Api<Deployment> = Api::namespaced(cluster.client.clone(), "team");
    let deployment = serde_json::from_value(workload("web", json!({"replicas": 2}))).unwrap();
    deployments.create(&PostParams::default(), &deployment).await.unwrap();
    let pods: Api<Pod> = Api::namespaced(cluster.client.clone(), "team");
    until("its pods run", async || pods.list(&ListParams::default()).await.unwrap().items.len() == 2).await;
    // What pods may still need stays until the last of them is gone.
    let held = json!({"metadata": {"name": "held", "finalizers": ["example.com/hold"]}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    pods.create(&PostParams::default(), &serde_json::from_value(held).unwrap()).await.unwrap();
    namespaces.delete("team", &DeleteParams::default()).await.unwrap();
    until("the other pods are gone", async || {
        let left = pods.list(&ListParams::default()).await.unwrap().items;
        left.len() == 1 && left[0].metadata.deletion_timestamp.is_some()
    })
    .await;
    assert!(maps.get_opt("kube-root-ca.crt").await.unwrap().is_some());
    let release = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    pods.patch("held", &PatchParams::default(), &release).await.unwrap();
    let took =
        until("the namespace is gone", async || namespaces.get_opt("team").await.unwrap().is_none()).await;
    println!("gone after {took:?}");
    assert!(pods.list(&ListParams::default()).await.unwrap().items.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn daemons_run_on_every_node_and_stateful_pods_in_order() {
    let cluster = start().await;
    cluster.create::<DaemonSet>(workload("agent", json!({}))).await;
    let daemons = async || {
        let pods = cluster.api::<Pod>().list(&ListParams::default().labels("app=agent")).await.unwrap().items;
        let mut nodes: Vec<_> = pods.into_iter().filter_map(|pod| pod.spec.unwrap().node_name).collect();
        nodes.sort();
        nodes
    };
    until("one runs on each node", async || daemons().await == ["node-a", "node-b"]).await;
    cluster.add_node("node-c").await;
    until("the new node gets one", async || daemons().await == ["node-a", "node-b", "node-c"]).await;
    cluster.create::<StatefulSet>(workload("db", json!({"replicas": 3, "serviceName": "db"}))).await;
    until("three stateful pods are ready", async || {
        let status = cluster.api::<StatefulSet>().get("db").await.unwrap().status.unwrap_or_default();
        status.ready_replicas == Some(3)
    })
    .await;
    let pods = cluster.api::<Pod>().list(&ListParams::default().labels("app=db")).await.unwrap().items;
    let mut names: Vec<_> = pods.into_iter().filter_map(|pod| pod.metadata.name).collect();
    names.sort();
    assert_eq!(names, ["db-0", "db-1", "db-2"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_that_fits_nowhere_says_why_and_a_cluster_at_rest_does_nothing() {
    let cluster = start().await;
    let mut big = template(json!({}));
    big["metadata"] = json!({"name": "big"});
    big["spec"]["containers"][0]["resources"] = json!({"requests": {"cpu": "100"}});
    cluster.create::<Pod>(big).await;
    until("it says why it waits", async || {
        let pod = cluster.api::<Pod>().get("big").await.unwrap();
        pod.status.iter().flat_map(|status| status.conditions.iter().flatten()).any(|own| {
            own.reason.as_deref() == Some("Unschedulable")
                && own.message.as_deref() == Some("0/2 nodes are available: 2 Insufficient cpu.")
        })
    })
    .await;
    cluster.create::<Deployment>(workload("web", json!({"replicas": 3}))).await;
    until("the deployment is available", async || cluster.available("web").await == 3).await;
    let work = || {
        cluster.handle.statuses().iter().map(|(_, status)| status.successes + status.failures).sum::<u64>()
    };
    // Rest is when nothing happens for a while; a loop would never let it come.
    until("the controllers come to rest", async || {
        let before = work();
        tokio::time::sleep(Duration::from_secs(1)).await;
        work() == before
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quota_counts_what_is_there_and_gives_back_what_is_gone() {
    let cluster = start().await;
    let quotas: Api<ResourceQuota> = cluster.api();
    let hard =
        json!({"pods": "2", "requests.cpu": "1", "count/configmaps": "5", "count/deployments.apps": "1"});
    cluster.create::<ResourceQuota>(json!({"metadata": {"name": "q"}, "spec": {"hard": hard}})).await;
    let used = async |name: &str| {
        let status = quotas.get("q").await.unwrap().status.unwrap_or_default();
        status.used.and_then(|used| used.get(name).map(|amount| amount.0.clone()))
    };
    until("the quota counts the root certificate", async || {
        used("count/configmaps").await == Some("1".to_owned())
    })
    .await;
    let pod = |name: &str, cpu: &str| {
        json!({"metadata": {"name": name}, "spec": {"containers": [{"name": "c", "image": "i",
            "resources": {"requests": {"cpu": cpu}}}]}})
    };
    cluster.create::<Pod>(pod("a", "600m")).await;
    assert_eq!(used("requests.cpu").await.as_deref(), Some("600m"), "taken before the pod is there");
    let pods: Api<Pod> = cluster.api();
    let too_much = serde_json::from_value(pod("b", "500m")).unwrap();
    let refused = pods.create(&PostParams::default(), &too_much).await.unwrap_err().to_string();
    let told =
        "exceeded quota: q, requested: requests.cpu=500m, used: requests.cpu=600m, limited: requests.cpu=1";
    assert!(refused.contains(told), "{refused}");
    pods.delete("a", &DeleteParams::default()).await.unwrap();
    until("the pod's share is given back", async || used("requests.cpu").await == Some("0".to_owned())).await;
    assert_eq!(used("pods").await.as_deref(), Some("0"));
    let patch = Patch::Merge(json!({"spec": {"hard": {"pods": "0"}}}));
    quotas.patch("q", &PatchParams::default(), &patch).await.unwrap();
    until("the new limit holds", async || {
        let hard = quotas.get("q").await.unwrap().status.unwrap_or_default().hard.unwrap_or_default();
        hard["pods"].0 == "0"
    })
    .await;
}
