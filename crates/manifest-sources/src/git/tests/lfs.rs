//! Git LFS, with a server that speaks its API beside the repositories.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use serde_json::{Value, json};

use super::*;
use crate::fixture::{Asked, serve_git_and};

/// What a server answers for an object, in place of what it should.
type Odd = Arc<Mutex<Option<Value>>>;

/// Repositories with their objects.
struct Server {
    directory: TempDir,
    url: String,
    asked: Asked,
    odd: Odd,
}

const MAP: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: large}\n";

fn pointer(content: &str) -> String {
    let (oid, size) = (fleet_planner::digest(content.as_bytes()), content.len());
    format!("version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {size}\n")
}

/// The batch API, and the objects themselves at `/objects/OID`.
fn answer(request: &http::request::Parts, body: &Bytes, odd: &Odd) -> Option<Response<Full<Bytes>>> {
    let of = |body: String| Some(Response::new(Full::new(Bytes::from(body))));
    if request.uri.path().starts_with("/objects/") {
        return of(MAP.to_owned());
    }
    request.uri.path().strip_suffix(".git/info/lfs/objects/batch")?;
    let header = |name: &str| request.headers.get(name).unwrap().to_str().unwrap();
    assert_eq!((request.method.as_str(), header("accept")), ("POST", "application/vnd.git-lfs+json"));
    assert_eq!(header("content-type"), "application/vnd.git-lfs+json");
    let asked: Value = serde_json::from_slice(body).unwrap();
    assert_eq!((&asked["operation"], &asked["transfers"]), (&json!("download"), &json!(["basic"])));
    let objects = asked["objects"].as_array().unwrap().iter().map(|object| {
        let oid = object["oid"].as_str().unwrap();
        let href = format!("http://{}/objects/{oid}?signed=1", header("host"));
        let mut answer = json!({"oid": oid, "size": object["size"], "actions": {"download": {"href": href}}});
        if let Some(odd) = odd.lock().unwrap().clone() {
            answer.as_object_mut().unwrap().extend(odd.as_object().unwrap().clone());
        }
        answer
    });
    of(json!({"transfer": "basic", "objects": objects.collect::<Vec<_>>()}).to_string())
}

impl Server {
    /// Nothing where there is no git.
    async fn start(closed: bool) -> Option<Self> {
        if find("git").is_none() {
            eprintln!("skipped: there is no git");
            return None;
        }
        let (directory, odd) = (tempfile::tempdir().unwrap(), Odd::default());
        let own = Arc::clone(&odd);
        let hook = Arc::new(move |request: &http::request::Parts, body: &Bytes| answer(request, body, &own));
        let (address, asked) = serve_git_and(directory.path(), closed, hook).await;
        Some(Self { directory, url: format!("http://{address}"), asked, odd })
    }

    /// A repository of these files; answers its commit.
    fn repository(&self, name: &str, files: &[(&str, &str)]) -> String {
        let path = self.directory.path().join(name);
        std::fs::create_dir_all(&path).unwrap();
        git(&path, &["init", "--quiet"]);
        for (file, content) in files {
            std::fs::create_dir_all(path.join(file).parent().unwrap()).unwrap();
            std::fs::write(path.join(file), content).unwrap();
        }
        git(&path, &["add", "--all"]);
        git(&path, &["-c", "commit.gpgsign=false", "commit", "--quiet", "-m", name]);
        git(&path, &["rev-parse", "HEAD"])
    }

    fn of(&self, name: &str, paths: &[&str]) -> Repository {
        let basic = Some(("bot".to_owned(), "s3cret".to_owned()));
        Repository {
            url: format!("{}/{name}", self.url),
            credentials: Credentials { basic, ssh: None },
            paths: paths.iter().map(PathBuf::from).collect(),
            lfs: true,
            ..Repository::default()
        }
    }

    fn asked_for(&self, begins: &str) -> Vec<(String, Option<String>)> {
        let asked = self.asked.lock().unwrap();
        asked.iter().filter(|(path, _)| path.starts_with(begins)).cloned().collect()
    }
}

/// As the hub checks out; what then lies at a path.
async fn isolated(repository: &Repository, path: &str) -> Result<String, String> {
    let (into, scratch) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let surroundings = Surroundings::Isolated { home: scratch.path().to_owned() };
    let done = repository.check_out(into.path(), &surroundings, scratch.path()).await;
    done.map(|_| std::fs::read_to_string(into.path().join(path)).unwrap()).map_err(|error| error.chain())
}

#[tokio::test]
async fn what_pointers_point_to_comes_into_their_place() {
    let Some(server) = Server::start(true).await else { return };
    let files = [
        ("deploy/large.yaml", pointer(MAP)),
        ("base/large.yaml", pointer(MAP)),
        ("overlay/kustomization.yaml", "resources: [../base]\n".to_owned()),
        ("base/kustomization.yaml", "resources: [large.yaml]\n".to_owned()),
        ("pictures/a.png", pointer("a picture")),
    ];
    let files: Vec<(&str, &str)> = files.iter().map(|(name, content)| (*name, content.as_str())).collect();
    server.repository("shop", &files);
    let known = Some("Basic Ym90OnMzY3JldA==".to_owned());
    let oid = fleet_planner::digest(MAP.as_bytes());
    for (paths, at) in [(["deploy"], "deploy/large.yaml"), (["overlay"], "base/large.yaml")] {
        assert_eq!(isolated(&server.of("shop", &paths), at).await.unwrap(), MAP);
    }
    assert_eq!(
        server.asked_for("/objects/")[0],
        (format!("/objects/{oid}"), known),
        "its own server knows us"
    );
    // What becomes no manifest is not asked for.
    let kept = isolated(&server.of("shop", &["deploy"]), "pictures/a.png").await.unwrap();
    assert!(kept.starts_with("version "), "{kept}");
}

#[tokio::test]
async fn a_pointer_is_refused_where_it_would_be_taken_for_a_manifest() {
    let Some(server) = Server::start(true).await else { return };
    server.repository("shop", &[("deploy/large.yaml", &pointer(MAP)), ("small.yaml", "kind: A\n")]);
    let off = |path: &str| Repository { lfs: false, ..server.of("shop", &[path]) };
    let said = isolated(&off("deploy"), "small.yaml").await.unwrap_err();
    assert!(
        said.starts_with("deploy/large.yaml is a pointer of Git LFS, and this source does not"),
        "{said}"
    );
    assert_eq!(isolated(&off("small.yaml"), "small.yaml").await.unwrap(), "kind: A\n");
}

#[tokio::test]
async fn content_may_lie_elsewhere_and_credentials_stay() {
    let (Some(server), Some(other)) = (Server::start(true).await, Server::start(false).await) else { return };
    server.repository("shop", &[("a.yaml", &pointer(MAP))]);
    let at = |href: String, header: Value| json!({"actions": {"download": {"href": href, "header": header}}});
    let elsewhere = format!("{}/objects/x", other.url);
    *server.odd.lock().unwrap() =
        Some(at(elsewhere, json!({"Authorization": "Given token", "Host": "evil"})));
    assert_eq!(isolated(&server.of("shop", &[]), "a.yaml").await.unwrap(), MAP);
    *server.odd.lock().unwrap() = Some(at(format!("{}/objects/x", other.url), Value::Null));
    assert_eq!(isolated(&server.of("shop", &[]), "a.yaml").await.unwrap(), MAP);
    let asked: Vec<Option<String>> =
        other.asked_for("/objects/").into_iter().map(|(_, known)| known).collect();
    assert_eq!(asked, [Some("Given token".to_owned()), None], "never the source's password");
    // At its own server, what the answer says lets us in, and not both.
    let given = json!({"Authorization": "Given token"});
    *server.odd.lock().unwrap() = Some(at(format!("{}/objects/x", server.url), given));
    assert_eq!(isolated(&server.of("shop", &[]), "a.yaml").await.unwrap(), MAP);
    assert_eq!(server.asked_for("/objects/x"), [("/objects/x".to_owned(), Some("Given token".to_owned()))]);
    *server.odd.lock().unwrap() = Some(at(format!("{}/objects/x", other.url), Value::Null));
    // A server that the repository names, too.
    let config = format!("[lfs]\n\turl = {}/lfs.git/info/lfs\n", other.url);
    server.repository("named", &[("a.yaml", &pointer(MAP)), (".lfsconfig", &config)]);
    assert_eq!(isolated(&server.of("named", &[]), "a.yaml").await.unwrap(), MAP);
    assert!(other.asked_for("/lfs.git").iter().all(|(_, known)| known.is_none()));
    assert!(server.asked_for("/named.git").is_empty());
}

#[tokio::test]
async fn pointers_in_submodules_are_asked_for_at_the_submodules_server() {
    let (Some(server), Some(other)) = (Server::start(true).await, Server::start(false).await) else { return };
    let lib = other.repository("lib", &[("a.yaml", &pointer(MAP))]);
    let modules = format!("[submodule \"lib\"]\n\tpath = lib\n\turl = {}/lib\n", other.url);
    server.repository("shop", &[("small.yaml", "kind: A\n"), (".gitmodules", &modules)]);
    let path = server.directory.path().join("shop");
    git(&path, &["update-index", "--add", "--cacheinfo", &format!("160000,{lib},lib")]);
    git(&path, &["-c", "commit.gpgsign=false", "commit", "--quiet", "-m", "lib"]);
    let repository = Repository { submodules: true, ..server.of("shop", &["lib"]) };
    assert_eq!(isolated(&repository, "lib/a.yaml").await.unwrap(), MAP);
    assert!(server.asked_for("/shop.git").is_empty());
    assert_eq!(other.asked_for("/lib.git/info"), [("/lib.git/info/lfs/objects/batch".to_owned(), None)]);
}

#[tokio::test]
async fn content_that_is_not_what_was_committed_is_refused() {
    let Some(server) = Server::start(true).await else { return };
    server.repository("shop", &[("a.yaml", &pointer(MAP))]);
    server.repository("other", &[("a.yaml", &pointer("something else"))]);
    server.repository("swapped", &[("a.yaml", &pointer(&MAP.replace("large", "small")))]);
    server.repository("longer", &[("a.yaml", &pointer(MAP).replace("size ", "size 1"))]);
    server.repository("large", &[("a.yaml", &pointer(MAP).replace("size ", "size 999999"))]);
    server.repository("broken", &[("a.yaml", "version https://git-lfs.github.com/spec/v1\n")]);
    server.repository("file", &[("a.yaml", &pointer(MAP)), (".lfsconfig", "[lfs]\n\turl = file:///etc\n")]);
    let href = |href: &str| json!({"actions": {"download": {"href": href}}});
    for (name, odd, part) in [
        ("other", None, "cannot GET /objects/"),
        ("swapped", None, &format!("came as {}", fleet_planner::digest(MAP.as_bytes()))),
        ("longer", None, "bytes of 1"),
        ("large", None, "lead to more than"),
        ("broken", None, "a.yaml is a pointer of Git LFS that cannot be read"),
        ("file", None, "is no https URL of a server"),
        ("shop", Some(json!({"actions": null, "error": {"code": 404, "message": "gone"}})), "404 \"gone\""),
        ("shop", Some(json!({"actions": {}})), "is nowhere"),
        ("shop", Some(json!({"oid": "other"})), "is not in the answer"),
        ("shop", Some(href("file:///etc/passwd")), "is no https URL"),
        ("shop", Some(href("https://evil.example?@x/")), "is no https URL"),
    ] {
        server.odd.lock().unwrap().clone_from(&odd);
        let said = isolated(&server.of(name, &[]), "a.yaml").await.unwrap_err();
        assert!(said.contains(part), "{name} {odd:?}: {said}");
    }
}
