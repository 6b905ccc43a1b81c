//! Profiles that the hub pulls from where people keep them.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use fleet_objects::source::{Source, SourceStatus};
use fleet_objects::{ANNOTATION_SYNC, Profile, condition};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::json;
use tempfile::TempDir;

use crate::bench::{Bench, eventually};
use crate::{config_map, value};

/// Somebody who has signed nothing.
const SIGNER: &str =
    "me@example.com ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIB8ffaz9Ywm5WXzWQ3pqYwVgqF6Oe3eU2Sl5QmPdF1Jm";
/// An OpenPGP key.
const PGP: &str = include_str!("../../../manifest-sources/src/provenance/vectors/ed25519.asc");

/// A repository behind git's own server.
struct Server {
    directory: TempDir,
    daemon: Child,
    url: String,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

impl Server {
    /// Nothing where there is no git.
    fn start() -> Option<Self> {
        let Ok(programs) = Command::new("git").arg("--exec-path").output() else {
            eprintln!("skipped: there is no git");
            return None;
        };
        let directory = tempfile::tempdir().unwrap();
        let repository = directory.path().join("shop");
        std::fs::create_dir(&repository).unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        // Itself: `git daemon` starts it as a child, which would outlive the test.
        let programs = String::from_utf8(programs.stdout).unwrap();
        let mut daemon = Command::new(Path::new(programs.trim_end()).join("git-daemon"));
        daemon.args(["--reuseaddr", "--export-all", "--listen=127.0.0.1"]);
        daemon.arg(format!("--port={port}")).arg(format!("--base-path={}", directory.path().display()));
        let daemon = daemon.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let server = Self { directory, daemon, url: format!("git://127.0.0.1:{port}/shop") };
        server.git(&["init", "--quiet"]);
        Some(server)
    }

    /// A further repository behind the same server; answers its URL.
    fn another(&self, name: &str, path: &str, content: &str) -> String {
        let directory = self.directory.path().join(name);
        std::fs::create_dir(&directory).unwrap();
        self.git_in(&directory, &["init", "--quiet"]);
        std::fs::write(directory.join(path), content).unwrap();
        self.git_in(&directory, &["add", "--all"]);
        self.git_in(&directory, &["commit", "--quiet", "-m", "one"]);
        self.url.replace("/shop", &format!("/{name}"))
    }

    fn repository(&self) -> std::path::PathBuf {
        self.directory.path().join("shop")
    }

    fn git(&self, arguments: &[&str]) -> String {
        self.git_in(&self.repository(), arguments)
    }

    fn git_in(&self, directory: &Path, arguments: &[&str]) -> String {
        let mut command = Command::new("git");
        command.current_dir(directory).env("GIT_CONFIG_GLOBAL", "/dev/null");
        command.args(["-c", "user.name=test", "-c", "user.email=test@example.com"]);
        command.args(["-c", "init.defaultBranch=main", "-c", "commit.gpgsign=false"]).args(arguments);
        let output = command.output().unwrap();
        assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    fn commit(&self, path: &str, content: &str) -> String {
        let file = self.repository().join(path);
        std::fs::create_dir_all(file.parent().unwrap_or(Path::new("."))).unwrap();
        std::fs::write(file, content).unwrap();
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "-m", path]);
        self.git(&["rev-parse", "HEAD"])
    }
}

async fn status(bench: &Bench) -> SourceStatus {
    let api: Api<Source> = Api::namespaced(bench.hub_client(), "default");
    api.get("shop").await.unwrap().status.unwrap_or_default()
}

/// Has the hub look now, and waits until it has.
async fn sync(bench: &Bench, word: &str) -> SourceStatus {
    let api: Api<Source> = Api::namespaced(bench.hub_client(), "default");
    let patch = json!({"metadata": {"annotations": {ANNOTATION_SYNC: word}}});
    api.patch("shop", &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
    eventually("the hub has looked", || async { status(bench).await.synced.as_deref() == Some(word) }).await;
    status(bench).await
}

fn ready(status: &SourceStatus) -> (String, String, String) {
    let ready = condition(&status.conditions, "Ready").unwrap();
    (ready.status.clone(), ready.reason.clone(), ready.message.clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repository_becomes_a_profile_and_what_is_wrong_in_it_changes_nothing() {
    let Some(server) = Server::start() else { return };
    let bench = Bench::start(&["dev"]).await;
    let map = |name: &str, text: &str| config_map(name, text).to_string();
    server.commit("deploy/map.yaml", &map("shop", "1"));
    let first = server.commit("late/map.yaml", &map("late", "1"));
    let source = json!({"profile": "shop", "git": {"url": server.url, "branch": "main"}, "path": "deploy",
        "layers": [{"name": "late", "path": "late"}]});
    bench.put("sources", "Source", "shop", source.clone()).await;
    bench.place("shop", json!({}), json!({})).await;
    bench.applied("dev", "default.shop").await;
    let maps = bench.config_maps("dev");
    assert_eq!(value(&maps, "shop").await.as_deref(), Some("1"));
    assert_eq!(value(&maps, "late").await.as_deref(), Some("1"));
    assert_eq!(status(&bench).await.revision, Some(first));
    // What a person says of the profile besides stays theirs.
    let profiles: Api<Profile> = Api::namespaced(bench.hub_client(), "default");
    let variables = json!({"apiVersion": "fleet.fairlead.dev/v1alpha1", "kind": "Profile", "metadata": {"name": "shop"},
        "spec": {"variables": [{"name": "size", "default": "small"}]}});
    profiles.patch("shop", &PatchParams::apply("person"), &Patch::Apply(&variables)).await.unwrap();
    let second = server.commit("deploy/map.yaml", &map("shop", "${var.size}"));
    let told = sync(&bench, "1").await;
    assert_eq!((told.revision.clone(), ready(&told).0.as_str()), (Some(second.clone()), "True"));
    eventually("the new commit is there", || async {
        value(&maps, "shop").await.as_deref() == Some("small")
    })
    .await;
    // Broken content, a link out of the repository, a repository that is gone: told, and nothing changes.
    server.commit("deploy/map.yaml", "a: [");
    let (state, reason, message) = ready(&sync(&bench, "2").await);
    assert_eq!((state.as_str(), reason.as_str()), ("False", "Invalid"), "{message}");
    std::fs::remove_file(server.repository().join("deploy/map.yaml")).unwrap();
    std::os::unix::fs::symlink("/etc/hosts", server.repository().join("deploy/map.yaml")).unwrap();
    server.commit("README.md", "x");
    let (_, reason, message) = ready(&sync(&bench, "3").await);
    assert!(reason == "Invalid" && message.contains("the link deploy/map.yaml leads out"), "{message}");
    let unsigned = json!({"profile": "shop", "path": "late", "git": {"url": server.url, "branch": "main",
        "verify": {"allowedSigners": SIGNER}}});
    bench.put("sources", "Source", "shop", unsigned).await;
    let (_, reason, message) = ready(&sync(&bench, "4").await);
    assert_eq!(reason, "NotSigned", "{message}");
    let gone = json!({"profile": "shop", "git": {"url": format!("{}-gone", server.url)}});
    bench.put("sources", "Source", "shop", gone).await;
    let told = sync(&bench, "5").await;
    assert_eq!((ready(&told).1.as_str(), told.revision), ("PullFailed", Some(second)));
    let sources: Api<Source> = Api::namespaced(bench.hub_client(), "default");
    sources.delete("shop", &DeleteParams::default()).await.unwrap();
    maps.delete("shop", &DeleteParams::default()).await.unwrap();
    eventually("enforced on", || async { value(&maps, "shop").await.as_deref() == Some("small") }).await;
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn submodules_and_pointers_are_followed_when_a_source_says_so_and_else_refused() {
    let Some(server) = Server::start() else { return };
    let bench = Bench::start(&["dev"]).await;
    let map = |name: &str, text: &str| config_map(name, text).to_string();
    server.another("lib", "map.yaml", &map("lib", "1"));
    let lib = server.git_in(&server.directory.path().join("lib"), &["rev-parse", "HEAD"]);
    server.git(&["update-index", "--add", "--cacheinfo", &format!("160000,{lib},deploy/lib")]);
    std::fs::create_dir_all(server.repository().join("deploy/lib")).unwrap();
    server.commit(".gitmodules", "[submodule \"lib\"]\n\tpath = deploy/lib\n\turl = ../lib\n");
    server.commit("deploy/map.yaml", &map("shop", "1"));
    let with = |more: serde_json::Value| {
        let mut git = json!({"url": server.url, "branch": "main"});
        git.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({"profile": "shop", "git": git, "path": "deploy"})
    };
    bench.put("sources", "Source", "shop", with(json!({}))).await;
    let (_, reason, message) = ready(&sync(&bench, "1").await);
    assert!(reason == "Invalid" && message.starts_with("deploy/lib is a submodule"), "{message}");
    bench.put("sources", "Source", "shop", with(json!({"submodules": true}))).await;
    bench.place("shop", json!({}), json!({})).await;
    bench.applied("dev", "default.shop").await;
    let maps = bench.config_maps("dev");
    assert_eq!(value(&maps, "lib").await.as_deref(), Some("1"));
    let oid = "0".repeat(64);
    let pointer = format!("version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize 1\n");
    server.commit("deploy/large.yaml", &pointer);
    let (_, reason, message) = ready(&sync(&bench, "2").await);
    assert!(
        reason == "Invalid" && message.starts_with("deploy/large.yaml is a pointer of Git LFS"),
        "{message}"
    );
    bench.put("sources", "Source", "shop", with(json!({"submodules": true, "lfs": true}))).await;
    let (_, reason, message) = ready(&sync(&bench, "3").await);
    assert!(
        reason == "Invalid" && message.contains("is no https URL of a server"),
        "git:// has none: {message}"
    );
    // What is said of signers is kept as it is said.
    let chart = json!({"repository": "https://127.0.0.1:1", "name": "x", "verify": {"pgpKeys": PGP}});
    bench.put("sources", "Source", "shop", json!({"profile": "shop", "chart": chart})).await;
    let api: Api<Source> = Api::namespaced(bench.hub_client(), "default");
    let kept = api.get("shop").await.unwrap().spec.place.chart.unwrap().verify.unwrap();
    assert_eq!(kept.pgp_keys, PGP);
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_layer_may_be_kept_elsewhere_and_one_that_fails_changes_nothing() {
    let Some(server) = Server::start() else { return };
    let bench = Bench::start(&["dev"]).await;
    let map = |name: &str, text: &str| config_map(name, text).to_string();
    let first = server.commit("deploy/map.yaml", &map("shop", "1"));
    server.commit("late/map.yaml", &map("late", "1"));
    let database = server.another("database", "db.yaml", &map("db", "1"));
    let of = |database: &str| {
        json!({"profile": "shop", "git": {"url": server.url, "commit": first}, "path": "deploy", "layers": [
            {"name": "db", "git": {"url": database}},
            {"name": "late", "git": {"url": server.url, "branch": "main"}, "path": "late"}]})
    };
    bench.put("sources", "Source", "shop", of(&database)).await;
    bench.place("shop", json!({}), json!({})).await;
    bench.applied("dev", "default.shop").await;
    let maps = bench.config_maps("dev");
    for name in ["shop", "db", "late"] {
        assert_eq!(value(&maps, name).await.as_deref(), Some("1"), "{name}");
    }
    let told = status(&bench).await;
    let head = server.git(&["rev-parse", "HEAD"]);
    let layers: Vec<_> = told.layers.iter().map(|layer| (layer.name.as_str(), layer.url.as_str())).collect();
    assert_eq!(layers, [("db", database.as_str()), ("late", server.url.as_str())]);
    assert_eq!((told.revision.as_ref(), &told.layers[1].revision), (Some(&first), &head));
    // Each follows its own place.
    server.commit("late/map.yaml", &map("late", "2"));
    let again = sync(&bench, "1").await;
    assert_eq!((&again.revision, &again.layers[0]), (&told.revision, &told.layers[0]));
    eventually("the layer is followed", || async { value(&maps, "late").await.as_deref() == Some("2") })
        .await;
    // One of them cannot be had: nothing changes, and which it is is said.
    server.commit("late/map.yaml", &map("late", "3"));
    bench.put("sources", "Source", "shop", of(&format!("{database}-gone"))).await;
    let (state, reason, message) = ready(&sync(&bench, "2").await);
    assert_eq!((state.as_str(), reason.as_str()), ("False", "PullFailed"), "{message}");
    assert!(message.starts_with("layer db: "), "{message}");
    assert_eq!(value(&maps, "late").await.as_deref(), Some("2"));
    // Without a first part.
    let layers = json!({"profile": "other", "layers": [{"name": "db", "git": {"url": database}}]});
    bench.put("sources", "Source", "other", layers).await;
    let profiles: Api<Profile> = Api::namespaced(bench.hub_client(), "default");
    eventually("a profile of layers alone", || async {
        let found = profiles.get_opt("other").await.unwrap();
        found.is_some_and(|found| found.spec.source.is_none() && found.spec.layers.len() == 1)
    })
    .await;
    bench.stop().await;
}
