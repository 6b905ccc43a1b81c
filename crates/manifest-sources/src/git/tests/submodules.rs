//! Submodules, over real servers.

use super::*;
use crate::fixture::{Asked, serve_git};

/// Repositories of one server.
struct Server {
    directory: TempDir,
    url: String,
    asked: Asked,
}

impl Server {
    /// Nothing where there is no git.
    async fn start(closed: bool) -> Option<Self> {
        if find("git").is_none() {
            eprintln!("skipped: there is no git");
            return None;
        }
        let directory = tempfile::tempdir().unwrap();
        let (address, asked) = serve_git(directory.path(), closed).await;
        Some(Self { directory, url: format!("http://{address}"), asked })
    }

    /// A repository with a file of its name, which holds its name; answers its first commit.
    fn repository(&self, name: &str) -> String {
        let path = self.path(name);
        std::fs::create_dir_all(&path).unwrap();
        git(&path, &["init", "--quiet"]);
        git(&path, &["config", "uploadpack.allowAnySHA1InWant", "true"]);
        commit(&path, name)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Puts a submodule into a repository, as anybody may write one down; answers the commit.
    fn link(&self, name: &str, at: &str, url: &str, commit_of_it: &str) -> String {
        let path = self.path(name);
        let entry = format!("[submodule \"{at}\"]\n\tpath = {at}\n\turl = {url}\n");
        let modules = std::fs::read_to_string(path.join(".gitmodules")).unwrap_or_default();
        std::fs::write(path.join(".gitmodules"), modules + &entry).unwrap();
        git(&path, &["add", ".gitmodules"]);
        git(&path, &["update-index", "--add", "--cacheinfo", &format!("160000,{commit_of_it},{at}")]);
        git(&path, &["-c", "commit.gpgsign=false", "commit", "--quiet", "-m", at]);
        git(&path, &["rev-parse", "HEAD"])
    }

    fn of(&self, name: &str) -> Repository {
        let basic = Some(("bot".to_owned(), "s3cret".to_owned()));
        Repository {
            url: format!("{}/{name}", self.url.replace("//", "//me@")),
            credentials: Credentials { basic, ssh: None },
            submodules: true,
            ..Repository::default()
        }
    }
}

/// As the hub checks out.
async fn isolated(repository: &Repository) -> Result<TempDir, String> {
    let (into, scratch) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let surroundings = Surroundings::Isolated { home: scratch.path().to_owned() };
    let done = repository.check_out(into.path(), &surroundings, scratch.path()).await;
    done.map(|_| into).map_err(|error| error.chain())
}

#[tokio::test]
async fn submodules_are_fetched_with_theirs_and_credentials_stay_with_their_server() {
    let (Some(own), Some(other)) = (Server::start(true).await, Server::start(false).await) else { return };
    let old = own.repository("org/base");
    commit(&own.path("org/base"), "newer");
    own.repository("org/lib");
    let lib = own.link("org/lib", "deep/base", "../base", &old);
    let foreign = other.repository("foreign");
    // Back from elsewhere: it is the other server's word that leads there.
    own.repository("shop");
    own.link("shop", "vendor/lib", "../org/lib", &lib);
    own.link("shop", "foreign", &format!("{}/foreign", other.url), &foreign);
    let into = isolated(&own.of("shop")).await.unwrap();
    for (path, content) in [
        ("map.yaml", "shop"),
        ("vendor/lib/map.yaml", "org/lib"),
        ("vendor/lib/deep/base/map.yaml", "org/base"),
        ("foreign/map.yaml", "foreign"),
    ] {
        assert_eq!(std::fs::read_to_string(into.path().join(path)).unwrap(), content);
    }
    let known = Some("Basic Ym90OnMzY3JldA==".to_owned());
    assert!(own.asked.lock().unwrap().contains(&("/org/base/git-upload-pack".to_owned(), known)));
    let elsewhere = other.asked.lock().unwrap().clone();
    assert!(!elsewhere.is_empty() && elsewhere.iter().all(|(_, known)| known.is_none()), "{elsewhere:?}");
}

#[tokio::test]
async fn credentials_do_not_come_back_by_the_word_of_another_server() {
    let (Some(own), Some(other)) = (Server::start(true).await, Server::start(false).await) else { return };
    let secret = own.repository("secret");
    other.repository("foreign");
    let foreign = other.link("foreign", "secret", &format!("{}/secret", own.url), &secret);
    own.repository("shop");
    own.link("shop", "foreign", &format!("{}/foreign", other.url), &foreign);
    let said = isolated(&own.of("shop")).await.unwrap_err();
    assert!(
        said.starts_with("cannot fetch the submodule foreign: cannot fetch the submodule secret"),
        "{said}"
    );
    let asked = own.asked.lock().unwrap().clone();
    assert!(asked.iter().all(|(path, known)| !path.starts_with("/secret") || known.is_none()), "{asked:?}");
}

#[tokio::test]
async fn what_a_repository_says_of_its_submodules_leads_nowhere_else() {
    let Some(server) = Server::start(true).await else { return };
    let local = server.repository("local");
    let path = server.path("local").display().to_string();
    for (index, (url, part)) in [
        (path.as_str(), "is not an https, ssh, git or http URL"),
        (&format!("file://{path}"), "is not an https, ssh, git or http URL"),
        ("ext::sh", "is not an https, ssh, git or http URL"),
        ("--upload-pack=touch", "is no address"),
        ("../../local", "leads out of the server"),
        ("https://bot:word@x.example/y", "holds a password"),
        ("git@x.example:y", "where the source's credentials do not go"),
        (&format!("{}/shop-7", server.url), "lies in itself"),
        ("../missing", "not found"),
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("shop-{index}");
        server.repository(&name);
        server.link(&name, "vendor/lib", url, &local);
        let said = isolated(&server.of(&name)).await.unwrap_err();
        assert!(said.starts_with("cannot fetch the submodule vendor/lib: ") && said.contains(part), "{said}");
    }
    // One that is not written down at all.
    server.repository("bare");
    git(&server.path("bare"), &["update-index", "--add", "--cacheinfo", &format!("160000,{local},lib")]);
    git(&server.path("bare"), &["-c", "commit.gpgsign=false", "commit", "--quiet", "-m", "x"]);
    let said = isolated(&server.of("bare")).await.unwrap_err();
    assert!(said.contains(".gitmodules does not say where it is kept"), "{said}");
}

#[tokio::test]
async fn submodules_are_counted_and_lie_only_so_deep_in_one_another() {
    let Some(server) = Server::start(true).await else { return };
    let mut last = server.repository("deep-9");
    for depth in (0..9).rev() {
        let name = format!("deep-{depth}");
        server.repository(&name);
        last = server.link(&name, "lib", &format!("../deep-{}", depth + 1), &last);
    }
    let said = isolated(&server.of("deep-0")).await.unwrap_err();
    assert!(said.ends_with("more than 8 deep"), "{said}");
    assert!(isolated(&server.of("deep-1")).await.is_ok());
    let small = server.repository("small");
    server.repository("wide");
    for index in 0..65 {
        server.link("wide", &format!("lib-{index:02}"), "../small", &small);
    }
    let said = isolated(&server.of("wide")).await.unwrap_err();
    assert!(said.ends_with("there are more than 64 submodules"), "{said}");
}

#[tokio::test]
async fn a_submodule_that_a_kustomization_builds_on_is_missed() {
    let Some(server) = Server::start(false).await else { return };
    let lib = server.repository("lib");
    server.repository("shop");
    let path = server.path("shop");
    std::fs::create_dir_all(path.join("overlays/prod")).unwrap();
    std::fs::write(path.join("overlays/prod/kustomization.yaml"), "resources: [../../vendor/lib/base]\n")
        .unwrap();
    commit(&path, "kustomized");
    server.link("shop", "vendor/lib", "../lib", &lib);
    let using = |path: &str| Repository { submodules: false, paths: vec![path.into()], ..server.of("shop") };
    let said = isolated(&using("overlays/prod")).await.unwrap_err();
    assert!(said.starts_with("vendor/lib is a submodule"), "{said}");
    assert!(isolated(&using("map.yaml")).await.is_ok());
}
