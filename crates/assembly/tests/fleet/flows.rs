//! The language of test workflows, carried out in a cluster of one process on simulated nodes.

use std::time::Duration;

use assembly::cluster;
use assembly::ephemeral::{Options, TestBed};
use fleet_objects::test_run::{Outcome, StepResult, TestRun};
use futures::AsyncReadExt as _;
use k8s_openapi::api::core::v1::{ConfigMap, Node, Pod, Secret};
use kube::Api;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::bench::eventually;

pub(crate) const TOOL: &str = "fairlead.dev/tool:latest";

pub(crate) struct Flow {
    pub(crate) bed: TestBed,
    _directory: tempfile::TempDir,
}

impl Flow {
    pub(crate) async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let options = Options {
            cluster: cluster::Options::ephemeral("ci"),
            directory: directory.path().to_owned(),
            access: false,
        };
        Self { bed: TestBed::start(options).await.unwrap(), _directory: directory }
    }

    pub(crate) fn runs(&self) -> Api<TestRun> {
        Api::namespaced(self.bed.hub(), "default")
    }

    pub(crate) async fn begin(&self, name: &str, workflow: Value) {
        let run = json!({
            "apiVersion": "fleet.fairlead.dev/v1alpha1", "kind": "TestRun", "metadata": {"name": name},
            "spec": {"targets": {"all": true}, "workflow": workflow},
        });
        self.runs().create(&PostParams::default(), &serde_json::from_value(run).unwrap()).await.unwrap();
    }

    /// How the run ended, and its steps by name.
    pub(crate) async fn end(&self, name: &str) -> (Outcome, Vec<StepResult>) {
        let ended = || async {
            let status = self.runs().get(name).await.unwrap().status.unwrap_or_default();
            let told = status.conditions.iter().any(|own| own.status != "Unknown");
            assert!(!told || !status.clusters.is_empty(), "{:?}", status.conditions);
            status.clusters.iter().any(|cluster| cluster.outcome.is_some())
        };
        eventually("the run ends", ended).await;
        let cluster = self.runs().get(name).await.unwrap().status.unwrap().clusters.remove(0);
        (cluster.outcome.unwrap(), cluster.steps)
    }

    pub(crate) async fn run(&self, name: &str, workflow: Value) -> (Outcome, Vec<StepResult>) {
        self.begin(name, workflow).await;
        self.end(name).await
    }
}

fn told(steps: &[StepResult]) -> Vec<String> {
    let mut told: Vec<_> = steps
        .iter()
        .map(|step| format!("{} {:?} {}", step.name, step.outcome.unwrap(), step.attempts.len()))
        .collect();
    told.sort();
    told
}

fn shell(name: &str, script: &str) -> Value {
    json!({"name": name, "shell": script})
}

#[tokio::test(flavor = "multi_thread")]
async fn steps_of_every_sort_end_as_they_should() {
    let flow = Flow::start().await;
    let workflow = json!({
        "container": {"image": TOOL},
        "config": {"who": {"default": "world"}},
        "content": {"files": [{"path": "greeting.txt", "content": "hello {{ config.who }} from {{ env.FAIRLEAD_CLUSTER }}"}]},
        "steps": [
            {"name": "read", "id": "read", "command": ["/fairlead", "tool", "cat", "/workspace/greeting.txt"], "artifacts": ["*.txt"]},
            {"name": "archive", "shell": "true", "artifacts": ["/workspace/*.txt"], "artifactOptions": {"archive": "{{ config.who }}.tgz"}},
            {"name": "leave", "command": ["/fairlead", "tool", "write", "/.fairlead/outputs/token", "secret-42"]},
            {"name": "take", "command": ["/fairlead", "tool", "print", "token={{ step.leave.outputs.token }}"],
             "condition": "step.leave.outputs.token == 'secret-42' && passed"},
            {"name": "wrong", "shell": "exit 3", "negative": true},
            {"name": "maybe", "shell": "exit 4", "optional": true, "retry": {"count": 2}},
            {"name": "slow", "command": ["/fairlead", "tool", "sleep", "1h"], "timeout": "1s", "optional": true},
            {"name": "all", "steps": [shell("one", "true"), {"name": "two", "shell": "exit 1"}, shell("three", "true")]},
            shell("never", "true"),
        ],
        "after": [shell("clean", "true")],
    });
    let (outcome, steps) = flow.run("sorts", workflow).await;
    assert_eq!(outcome, Outcome::Failed);
    assert_eq!(
        told(&steps),
        [
            "all Failed 0",
            "archive Passed 1",
            "clean Passed 1",
            "leave Passed 1",
            "maybe Failed 3",
            "never Skipped 0",
            "one Passed 1",
            "read Passed 1",
            "slow TimedOut 1",
            "take Passed 1",
            "three Skipped 0",
            "two Failed 1",
            "write-files Passed 1",
            "wrong Passed 1",
        ]
    );
    let read = steps.iter().find(|step| step.name == "read").unwrap();
    assert_eq!(read.attempts[0].artifacts[0].path, "greeting.txt");
    let archive = steps.iter().find(|step| step.name == "archive").unwrap();
    assert_eq!(archive.attempts[0].artifacts[0].path, "world.tgz");
    let two = steps.iter().find(|step| step.name == "two").unwrap();
    assert_eq!((two.parent.as_str(), two.attempts[0].exit_code), ("all", Some(1)));
    let pods: Api<Pod> = Api::namespaced(flow.bed.cluster().client(), "fairlead-tests");
    eventually("the pods are gone", || async {
        pods.list(&ListParams::default()).await.unwrap().items.is_empty()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_matrix_runs_with_a_service_and_a_pause() {
    let flow = Flow::start().await;
    let workflow = json!({
        "container": {"image": TOOL},
        "services": {
            "db": {"image": TOOL, "command": ["/fairlead", "tool", "serve"], "logs": "always"},
            "quiet": {"image": TOOL, "command": ["/fairlead", "tool", "serve"], "logs": "failed"},
        },
        "steps": [
            {"name": "ask", "command": ["/fairlead", "tool", "print", "db at {{ services.db.0.ip }}"]},
            {"name": "grid", "parallel": {
                "matrix": {"a": [1, 2, 3], "b": ["w", "x", "y", "z"]},
                "steps": [{"name": "cell", "shell": "exit {{ matrix.a == 2 && matrix.b == 'y' ? 1 : 0 }}"}],
            }, "optional": true},
            {"name": "go", "shell": "true", "paused": true},
        ],
    });
    flow.begin("grid", workflow).await;
    let limit = tokio::time::Instant::now() + Duration::from_secs(25);
    loop {
        let status = flow.runs().get("grid").await.unwrap().status.unwrap_or_default();
        let steps = status.clusters.iter().flat_map(|cluster| &cluster.steps);
        if steps.filter(|step| step.outcome.is_some()).count() == 14 {
            break;
        }
        assert!(tokio::time::Instant::now() < limit, "the cells do not end: {status:#?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let patch = Patch::Merge(json!({"spec": {"pause": false}}));
    flow.runs().patch("grid", &PatchParams::default(), &patch).await.unwrap();
    let (outcome, steps) = flow.end("grid").await;
    assert_eq!(outcome, Outcome::Passed, "{steps:#?}");
    let cells: Vec<_> = steps.iter().filter(|step| step.parent == "grid").collect();
    let failed: Vec<_> = cells.iter().filter(|step| step.outcome == Some(Outcome::Failed)).collect();
    assert_eq!((cells.len(), failed.len(), failed[0].name.as_str()), (12, 1, "grid-6-cell"));
    let grid = steps.iter().find(|step| step.name == "grid").unwrap();
    assert_eq!(grid.attempts[0].message, "1 of 12 instances failed");
    let request = http::Request::get("/fleet/v1/testruns/default/grid/log").body(vec![]).unwrap();
    let mut log = String::new();
    let stream = flow.bed.hub().request_stream(request).await.unwrap();
    std::pin::pin!(stream).read_to_string(&mut log).await.unwrap();
    let of = |name: &str| log.lines().any(|line| line.contains(&format!("\"step\":\"{name}\"")));
    assert!(of("services.db.0") && log.contains("listening on port 8080"), "{log}");
    assert!(!of("services.quiet.0"), "nothing failed: {log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn files_go_to_parallel_pods_and_come_back() {
    let flow = Flow::start().await;
    let workflow = json!({
        "container": {"image": TOOL},
        "steps": [
            tool("make", &["write /workspace/repo/a.txt one", "write /workspace/repo/b.md two", "write /workspace/keep kept"]),
            {"name": "spread", "parallel": {
                "count": 2,
                "transfer": [{"from": "repo", "to": "/workspace/got", "files": ["*.txt"]}],
                "fetch": [{"from": "out", "to": "/workspace/back/{{ index }}"}],
                "steps": [
                    tool("use", &["cat /workspace/got/a.txt", "write /workspace/out/r.txt from-{{ index }}"]),
                    {"name": "not", "negative": true, "command": ["/fairlead", "tool", "cat", "/workspace/got/b.md"]},
                    {"name": "other", "negative": true, "command": ["/fairlead", "tool", "cat", "/workspace/keep"]},
                ],
            }},
            tool("look", &["cat /workspace/keep", "cat /workspace/back/0/r.txt", "cat /workspace/back/1/r.txt"]),
            {"name": "again", "parallel": {
                "count": 1, "transfer": [{"from": "/workspace/back"}],
                "steps": [tool("see", &["cat /workspace/back/1/r.txt"])],
            }},
        ],
    });
    let (outcome, steps) = flow.run("files", workflow).await;
    assert_eq!(outcome, Outcome::Passed, "{steps:#?}");
    // What was to be there and is not fails the instance, and says so.
    let workflow = json!({
        "container": {"image": TOOL},
        "steps": [{"name": "first", "parallel": {"count": 1, "transfer": [{"from": "repo"}], "steps": [tool("use", &["exit 0"])]}}],
    });
    let (outcome, steps) = flow.run("none", workflow).await;
    assert_eq!(outcome, Outcome::NotRun, "{steps:#?}");
    let told = format!("{steps:?}");
    assert!(told.contains("FilesLost") && told.contains("left none"), "{told}");
}

fn tool(name: &str, lines: &[&str]) -> Value {
    let command: Vec<&str> = ["/fairlead", "tool", "do"].iter().chain(lines).copied().collect();
    json!({"name": name, "command": command})
}

#[tokio::test(flavor = "multi_thread")]
async fn instances_are_told_by_the_files_of_a_checkout() {
    let flow = Flow::start().await;
    let files = ["tests/a.spec.js", "tests/b.spec.js", "tests/deep/c.spec.js", "tests/helper.js"];
    let mut files: Vec<_> = files.iter().map(|path| json!({"path": path, "content": path})).collect();
    files.push(json!({"path": "ci.json", "content": "{\"browsers\": [{\"name\": \"x\", \"on\": true}, {\"name\": \"y\"}]}"}));
    let workflow = json!({
        "container": {"image": TOOL},
        "content": {"files": files},
        "steps": [
            tool("leave", &["write /.fairlead/outputs/areas [\\\"north\\\",\\\"south\\\"]"]),
            {"name": "spread", "parallel": {
                "matrix": {"browser": "jq(json(file(\"ci.json\")), \".browsers[] | select(.on) | .name\")"},
                "shards": {"spec": "glob(\"tests/**/*.spec.js\")"}, "maxCount": 2,
                "transfer": [{"from": "tests"}],
                "fetch": [{"from": "out", "to": "/workspace/back/{{ index }}"}],
                "steps": [tool("run", &[
                    "cat /workspace/{{ shard.spec.0 }}",
                    "write /workspace/out/said {{ matrix.browser }}:{{ join(shard.spec, '+') }}:{{ index }}/{{ count }}",
                ])],
            }},
            tool("first", &["cat /workspace/back/0/said"]),
            {"name": "said", "command": ["/fairlead", "tool", "exit", "{{ file('/workspace/back/1/said') == 'x:tests/b.spec.js+tests/deep/c.spec.js:1/2' ? 0 : 1 }}"]},
            // What a step of an earlier pod left.
            {"name": "areas", "parallel": {
                "matrix": {"area": "json(step.leave.outputs.areas)"},
                "steps": [tool("go", &["print {{ matrix.area }}"])],
            }},
            {"name": "none", "parallel": {"shards": {"spec": "glob(\"nothing/*\")"}, "steps": [tool("go", &["exit 1"])]}},
            {"name": "many", "optional": true, "parallel": {"count": "len(range(300))  + len(glob(\"ci.json\"))", "steps": [tool("go", &["exit 0"])]}},
            {"name": "wrong", "optional": true, "parallel": {"shards": {"spec": "split(file(\"absent\"))"}, "steps": [tool("go", &["exit 0"])]}},
        ],
    });
    let (outcome, steps) = flow.run("spread", workflow).await;
    let of = |name: &str| {
        steps.iter().find(|step| step.name == name).unwrap_or_else(|| panic!("no {name}: {steps:#?}"))
    };
    assert_eq!(outcome, Outcome::Passed, "{steps:#?}");
    let children = |parent: &str| steps.iter().filter(|step| step.parent == parent).count();
    assert_eq!((children("spread"), children("areas"), children("none")), (2, 2, 0), "{steps:#?}");
    assert_eq!(of("spread-instances").title, "Instances of spread");
    assert!(of("none").attempts[0].warnings[0].contains("no instances"), "{steps:#?}");
    let many = &of("many").attempts[0];
    assert!(many.message.contains("parallel.count: 301 instances; at most 256"), "{many:?}");
    let wrong = &of("wrong-instances").attempts[0];
    assert!(wrong.message.contains("shards.spec: /workspace/absent: "), "{wrong:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_s_own_entry_point_is_tried_again_with_the_files_from_before_it() {
    let flow = Flow::start().await;
    let own = |name: &str, args: &[&str], more: Value| {
        let mut step = json!({"name": name, "image": TOOL, "args": args});
        step.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        step
    };
    let workflow = json!({
        "pod": {"annotations": {"simulation.fairlead.dev/own-run.exit-code": "7"}},
        "container": {"image": TOOL},
        "steps": [
            tool("make", &["write /workspace/in.txt hello"]),
            own("own", &["do", "cat /workspace/in.txt", "write /workspace/out.txt done"],
                json!({"retry": {"count": 2}, "artifacts": ["*.txt"]})),
            tool("see", &["cat /workspace/out.txt"]),
            own("hopeless", &["do", "write /workspace/trace x", "exit 3"], json!({"retry": {"count": 1}, "optional": true})),
            tool("after", &["cat /workspace/in.txt", "cat /workspace/out.txt", "exit {{ len(glob('trace')) }}"]),
            own("expected", &["exit", "1"], json!({"retry": {"count": 1}, "negative": true})),
            own("slow", &["sleep", "inf"], json!({"timeout": "1s", "retry": {"count": 1}, "optional": true})),
            own("once", &["write", "/workspace/report.xml", "<testsuite><testcase name='a'/></testsuite>"], json!({"junit": ["*.xml"]})),
        ],
    });
    let (outcome, steps) = flow.run("own", workflow).await;
    assert_eq!(outcome, Outcome::Passed, "{steps:#?}");
    let ended = |name: &str| {
        let found = steps.iter().find(|step| step.name == name);
        found.unwrap_or_else(|| panic!("no {name}: {steps:#?}")).outcome.unwrap()
    };
    for (names, outcomes) in [
        (["own-run", "own-run-2", "own-run-3"], [Outcome::Failed, Outcome::Passed, Outcome::Skipped]),
        (
            ["keep-files", "keep-files-2", "keep-files-3"],
            [Outcome::Skipped, Outcome::Passed, Outcome::Skipped],
        ),
        (["own", "see", "hopeless"], [Outcome::Passed, Outcome::Passed, Outcome::Failed]),
        (["hopeless-run", "hopeless-run-2", "after"], [Outcome::Failed, Outcome::Failed, Outcome::Passed]),
        (
            ["expected", "expected-run", "expected-run-2"],
            [Outcome::Passed, Outcome::Passed, Outcome::Skipped],
        ),
        (["slow", "slow-run", "slow-run-2"], [Outcome::TimedOut, Outcome::TimedOut, Outcome::TimedOut]),
        (["once", "once-run", "keep-files-4"], [Outcome::Passed; 3]),
    ] {
        assert_eq!(names.map(ended), outcomes, "{names:?}: {steps:#?}");
    }
    let attempt = |name: &str| &steps.iter().find(|step| step.name == name).unwrap().attempts[0];
    let kept: Vec<_> = attempt("keep-files-2").artifacts.iter().map(|own| own.path.as_str()).collect();
    assert_eq!(kept, ["in.txt", "out.txt"]);
    assert_eq!(attempt("keep-files-4").junit.as_ref().unwrap().counts.passed, 1);
    assert_eq!(attempt("own-run").exit_code, Some(7));
}

#[tokio::test(flavor = "multi_thread")]
async fn services_are_given_files_and_told_by_them() {
    let flow = Flow::start().await;
    let serve = |lines: &[&str]| {
        json!(["/fairlead", "tool", "do"].iter().chain(lines).chain(&["serve"]).collect::<Vec<_>>())
    };
    let workflow = json!({
        "container": {"image": TOOL},
        "services": {
            "web": {"image": TOOL, "command": serve(&["cat /srv/site/index.html", "cat /workspace/more"]), "logs": "always",
                    "transfer": [{"from": "site", "to": "/srv/site"}, {"from": "/workspace", "files": ["more"]}]},
            "plain": {"image": TOOL, "command": ["/fairlead", "tool", "serve"]},
            "mock": {"image": TOOL, "command": serve(&["print I am {{ matrix.name }}"]), "logs": "always",
                     "matrix": {"name": "glob(\"mocks/*\")"}},
        },
        "content": {"files": [
            {"path": "site/index.html", "content": "hello"}, {"path": "more", "content": "and more"},
            {"path": "mocks/bank", "content": ""}, {"path": "mocks/shop", "content": ""},
        ]},
        "steps": [
            tool("ask", &["print {{ services.web.0.ip }} {{ services.plain.0.ip }} {{ services.mock.1.ip }}", "cat /workspace/more"]),
        ],
    });
    let (outcome, steps) = flow.run("given", workflow).await;
    assert_eq!(outcome, Outcome::Passed, "{steps:#?}");
    let request = http::Request::get("/fleet/v1/testruns/default/given/log").body(vec![]).unwrap();
    let mut log = String::new();
    let stream = flow.bed.hub().request_stream(request).await.unwrap();
    std::pin::pin!(stream).read_to_string(&mut log).await.unwrap();
    for (step, text) in [
        ("services.web.0", "hello"),
        ("services.web.0", "and more"),
        ("services.mock.0", "I am mocks/bank"),
        ("services.mock.1", "I am mocks/shop"),
    ] {
        let said =
            log.lines().any(|line| line.contains(&format!("\"step\":\"{step}\"")) && line.contains(text));
        assert!(said, "{step} does not say {text}: {log}");
    }
    let pods: Api<Pod> = Api::namespaced(flow.bed.cluster().client(), "fairlead-tests");
    eventually("the pods are gone", || async {
        pods.list(&ListParams::default()).await.unwrap().items.is_empty()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn instances_begin_together_however_long_each_takes_to_come_so_far() {
    let flow = Flow::start().await;
    let workflow = json!({
        "container": {"image": TOOL},
        "steps": [{"name": "load", "parallel": {
            "count": 3, "together": true,
            "pod": {"annotations": {"simulation.fairlead.dev/fairlead-install.start-delay": "{{ index * 2 }}s"}},
            "content": {"files": [{"path": "go.txt", "content": "{{ index }}"}]},
            "steps": [{"name": "fire", "command": ["/fairlead", "tool", "cat", "/workspace/go.txt"]}],
        }}],
    });
    let (outcome, steps) = flow.run("together", workflow).await;
    assert_eq!(outcome, Outcome::Passed, "{steps:#?}");
    let began = |end: &str| {
        let own = steps.iter().filter(|step| step.name.ends_with(end));
        let times = own.filter_map(|step| Some(step.attempts.first()?.started_at.as_ref()?.0));
        let times: Vec<_> = times.collect();
        assert_eq!(times.len(), 3, "{steps:#?}");
        times.iter().max().unwrap().duration_since(*times.iter().min().unwrap()).as_secs()
    };
    assert!(began("-write-files") >= 3, "they are not equally far: {steps:#?}");
    assert!(began("-fire") <= 1, "one began before another was there: {steps:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_run_leaves_nothing() {
    let flow = Flow::start().await;
    let forever = json!({"name": "wait", "image": TOOL, "command": ["/fairlead", "tool", "sleep", "inf"], "timeout": "1h"});
    flow.begin("cancel", json!({"steps": [forever, {"name": "next", "image": TOOL, "shell": "true"}]})).await;
    let pods: Api<Pod> = Api::namespaced(flow.bed.cluster().client(), "fairlead-tests");
    let there = || async { !pods.list(&ListParams::default()).await.unwrap().items.is_empty() };
    eventually("the pod is there", there).await;
    let patch = Patch::Merge(json!({"spec": {"cancel": true}}));
    flow.runs().patch("cancel", &PatchParams::default(), &patch).await.unwrap();
    let (outcome, steps) = flow.end("cancel").await;
    assert_eq!(outcome, Outcome::NotRun);
    assert_eq!(told(&steps), ["next Skipped 0", "wait NotRun 1"]);
    assert_eq!(steps.iter().find(|step| step.name == "wait").unwrap().attempts[0].reason, "Cancelled");
    eventually("the pods are gone", || async {
        pods.list(&ListParams::default()).await.unwrap().items.is_empty()
    })
    .await;
    tokio::time::timeout(Duration::from_secs(20), flow.bed.stop()).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_has_a_cluster_of_its_own_while_it_goes_on() {
    let flow = Flow::start().await;
    let workflow = json!({
        "ephemeralCluster": {"version": "1.36", "nodes": 2, "seed": [
            {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "seeded"}, "data": {"by": "{{ cluster.name }}"}},
        ]},
        "container": {"image": TOOL},
        "steps": [
            {"name": "look", "command": ["/fairlead", "tool", "print", "config at $(KUBECONFIG)"]},
            {"name": "hold", "shell": "true", "paused": true},
            {"name": "read", "command": ["/fairlead", "tool", "env", "KUBECONFIG"]},
        ],
    });
    flow.begin("own", workflow).await;
    let secrets: Api<Secret> = Api::namespaced(flow.bed.cluster().client(), "fairlead-tests");
    let held = || async {
        let status = flow.runs().get("own").await.unwrap().status.unwrap_or_default();
        status
            .clusters
            .iter()
            .flat_map(|cluster| &cluster.steps)
            .any(|step| step.name == "look" && step.outcome.is_some())
    };
    eventually("the first step ends", held).await;
    // What the pod is given leads to a cluster that is not the one it runs in.
    let found = secrets.list(&ListParams::default()).await.unwrap().items;
    let secret =
        found.iter().find(|own| own.metadata.name.as_ref().unwrap().ends_with("-kubeconfig")).unwrap();
    let kubeconfig = String::from_utf8(secret.data.as_ref().unwrap()["kubeconfig"].0.clone()).unwrap();
    let kubeconfig = kube::config::Kubeconfig::from_yaml(&kubeconfig).unwrap();
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &Default::default()).await.unwrap();
    let own = kube::Client::try_from(config).unwrap();
    let map = Api::<ConfigMap>::namespaced(own.clone(), "default").get("seeded").await.unwrap();
    assert_eq!(map.data.unwrap()["by"], "ci");
    let nodes = Api::<Node>::all(own.clone()).list(&ListParams::default()).await.unwrap().items;
    assert_eq!(nodes.len(), 2);
    let patch = Patch::Merge(json!({"spec": {"pause": false}}));
    flow.runs().patch("own", &PatchParams::default(), &patch).await.unwrap();
    let (outcome, steps) = flow.end("own").await;
    assert_eq!(outcome, Outcome::Passed, "{steps:#?}");
    eventually("its cluster is gone", || async {
        Api::<Node>::all(own.clone()).list(&ListParams::default()).await.is_err()
    })
    .await;
    let left = secrets.list(&ListParams::default()).await.unwrap().items;
    assert!(left.iter().all(|own| !own.metadata.name.as_ref().unwrap().ends_with("-kubeconfig")));
}
