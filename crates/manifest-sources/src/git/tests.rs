mod lfs;
mod submodules;

use std::process::Command;

use http_body_util::Full;
use hyper::Response;
use tempfile::TempDir;

use super::*;
use crate::fixture::{serve, serve_git};

fn git(directory: &Path, arguments: &[&str]) -> String {
    let mut command = Command::new("git");
    command.current_dir(directory).env("GIT_CONFIG_GLOBAL", "/dev/null");
    command.args(["-c", "user.name=test", "-c", "user.email=test@example.com"]);
    command.args(["-c", "init.defaultBranch=main"]).args(arguments);
    let output = command.output().unwrap();
    assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn commit(repository: &Path, value: &str) -> String {
    std::fs::write(repository.join("map.yaml"), value).unwrap();
    git(repository, &["add", "--all"]);
    git(repository, &["-c", "commit.gpgsign=false", "commit", "--quiet", "-m", value]);
    git(repository, &["rev-parse", "HEAD"])
}

/// A repository, or nothing where there is no git.
fn repository() -> Option<TempDir> {
    if find("git").is_none() {
        eprintln!("skipped: there is no git");
        return None;
    }
    let repository = tempfile::tempdir().unwrap();
    git(repository.path(), &["init", "--quiet"]);
    Some(repository)
}

fn of(repository: &Path, reference: Reference) -> Repository {
    Repository { url: repository.display().to_string(), reference, ..Repository::default() }
}

async fn check_out(repository: &Repository) -> Result<(String, String), Error> {
    let (into, scratch) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let commit = repository.check_out(into.path(), &Surroundings::Own, scratch.path()).await?;
    Ok((commit, std::fs::read_to_string(into.path().join("map.yaml")).unwrap()))
}

#[tokio::test]
async fn branches_tags_and_commits_lead_to_their_commit() {
    let Some(repository) = repository() else { return };
    let path = repository.path();
    let first = commit(path, "one");
    git(path, &["tag", "-a", "v1", "-m", "v1"]);
    let second = commit(path, "two");
    let scratch = tempfile::tempdir().unwrap();
    for (reference, expected, content) in [
        (Reference::Head, &second, "two"),
        (Reference::Branch("main".into()), &second, "two"),
        (Reference::Tag("v1".into()), &first, "one"),
        (Reference::Name("v1".into()), &first, "one"),
        (Reference::Commit(second.clone()), &second, "two"),
    ] {
        let wanted = of(path, reference);
        let found = wanted.resolve(&Surroundings::Own, scratch.path()).await.unwrap();
        assert_eq!(&found, expected, "{wanted:?}");
        let got = check_out(&wanted).await.unwrap();
        assert_eq!(got, (expected.clone(), content.to_owned()), "{wanted:?}");
    }
    let missing = of(path, Reference::Branch("nope".into()));
    let said = missing.resolve(&Surroundings::Own, scratch.path()).await.unwrap_err().to_string();
    assert!(said.ends_with("has no refs/heads/nope"), "{said}");
}

#[tokio::test]
async fn what_could_be_an_option_or_a_program_is_refused() {
    let own = Surroundings::Own;
    let isolated = Surroundings::Isolated { home: "/nowhere".into() };
    let scratch = Path::new("/nowhere");
    let named =
        |url: &str, reference: Reference| Repository { url: url.into(), reference, ..Default::default() };
    for (repository, surroundings, part) in [
        (named("--upload-pack=touch", Reference::Head), &own, "dash"),
        (named("https://x/y", Reference::Branch("-x".into())), &own, "dash"),
        (named("https://x/y", Reference::Branch("a b".into())), &own, "no name of a branch"),
        (named("https://x/y", Reference::Tag("a..b".into())), &own, "no name of a branch"),
        (named("https://x/y", Reference::Commit("abc".into())), &own, "40 hexadecimal"),
        (named("ext::sh -c touch", Reference::Head), &isolated, "https, ssh, git or http"),
        (named("file:///etc", Reference::Head), &isolated, "https, ssh, git or http"),
        (named("https://bot:word@x/y", Reference::Head), &isolated, "belongs into a Secret"),
        (named("/srv/git", Reference::Head), &isolated, "https, ssh, git or http"),
    ] {
        let said = repository.resolve(surroundings, scratch).await.unwrap_err().to_string();
        assert!(said.contains(part), "{said}");
    }
}

/// The file of a new private key, and its line among allowed signers.
fn key(directory: &Path, name: &str) -> (String, String) {
    let file = directory.join(name);
    let mut keygen = Command::new("ssh-keygen");
    keygen.args(["-q", "-t", "ed25519", "-N", "", "-C", name, "-f"]).arg(&file);
    assert!(keygen.status().unwrap().success());
    let public = std::fs::read_to_string(file.with_extension("pub")).unwrap();
    (file.display().to_string(), format!("{name}@example.com {}", public.trim()))
}

#[tokio::test]
async fn only_allowed_signers_pass() {
    let (Some(repository), Some(_)) = (repository(), find("ssh-keygen")) else {
        eprintln!("skipped: there is no ssh-keygen");
        return;
    };
    let path = repository.path();
    let keys = tempfile::tempdir().unwrap();
    let ((own, allowed), (_, other)) = (key(keys.path(), "own"), key(keys.path(), "other"));
    commit(path, "unsigned");
    let verify = |signers: &str| Repository {
        verify: Verify::AllowedSigners { signers: signers.to_owned(), signed: Signed::Commit },
        ..of(path, Reference::Branch("main".into()))
    };
    let said = check_out(&verify(&allowed)).await.unwrap_err().to_string();
    assert!(said.contains("has no signature of an allowed signer"), "{said}");
    std::fs::write(path.join("map.yaml"), "signed").unwrap();
    git(path, &["add", "--all"]);
    let with = format!("user.signingkey={own}");
    git(path, &["-c", "gpg.format=ssh", "-c", &with, "commit", "--quiet", "-S", "-m", "signed"]);
    assert_eq!(check_out(&verify(&allowed)).await.unwrap().1, "signed");
    let said = check_out(&verify(&other)).await.unwrap_err().to_string();
    assert!(
        said.contains("has no signature of an allowed signer"),
        "a good signature of somebody else: {said}"
    );
}

#[tokio::test]
async fn a_signed_tag_counts_under_its_own_name_alone() {
    let (Some(repository), Some(_)) = (repository(), find("ssh-keygen")) else {
        eprintln!("skipped: there is no ssh-keygen");
        return;
    };
    let path = repository.path();
    let keys = tempfile::tempdir().unwrap();
    let ((own, allowed), (_, other)) = (key(keys.path(), "own"), key(keys.path(), "other"));
    commit(path, "one");
    git(path, &["tag", "-a", "v0", "-m", "unsigned"]);
    git(path, &["tag", "light"]);
    let with = format!("user.signingkey={own}");
    git(path, &["-c", "gpg.format=ssh", "-c", &with, "tag", "-s", "v1", "-m", "signed"]);
    // Somebody hands the signed tag out as a newer one.
    git(path, &["update-ref", "refs/tags/v2", "refs/tags/v1"]);
    let verify = |tag: &str, signers: &str, signed: Signed| Repository {
        verify: Verify::AllowedSigners { signers: signers.to_owned(), signed },
        ..of(path, Reference::Tag(tag.into()))
    };
    assert_eq!(check_out(&verify("v1", &allowed, Signed::Tag)).await.unwrap().1, "one");
    for (tag, signers, signed, part) in [
        ("v0", &allowed, Signed::Tag, "tag v0 has no signature of an allowed signer"),
        ("light", &allowed, Signed::Tag, "cannot be signed"),
        ("v1", &other, Signed::Tag, "tag v1 has no signature of an allowed signer"),
        ("v2", &allowed, Signed::Tag, "it was made as \"v1\""),
        ("v1", &allowed, Signed::TagAndCommit, "commit "),
    ] {
        let said = check_out(&verify(tag, signers, signed)).await.unwrap_err().to_string();
        assert!(said.contains(part), "{tag} {signed:?}: {said}");
    }
    let branch =
        Repository { reference: Reference::Branch("main".into()), ..verify("v1", &allowed, Signed::Tag) };
    assert!(matches!(check_out(&branch).await, Err(Error::Invalid(_))));
}

#[tokio::test]
async fn submodules_are_refused_where_they_would_be_missed() {
    let Some(repository) = repository() else { return };
    let path = repository.path();
    let first = commit(path, "one");
    git(path, &["update-index", "--add", "--cacheinfo", &format!("160000,{first},vendor/lib")]);
    git(path, &["-c", "commit.gpgsign=false", "commit", "--quiet", "-m", "with a submodule"]);
    let using = |paths: &[&str]| Repository {
        paths: paths.iter().map(PathBuf::from).collect(),
        ..of(path, Reference::Head)
    };
    for paths in [&[][..], &["."], &["vendor"], &["./vendor/lib/deploy"], &["deploy", "vendor/lib"]] {
        let said = check_out(&using(paths)).await.unwrap_err().to_string();
        assert!(said.starts_with("vendor/lib is a submodule"), "{paths:?}: {said}");
    }
    assert_eq!(check_out(&using(&["map.yaml"])).await.unwrap().1, "one");
}

#[test]
fn passwords_go_to_their_server_and_into_no_argument() {
    let credentials = Credentials { basic: Some(("bot@x".into(), "s3c/ret".into())), ssh: None };
    let scratch = tempfile::tempdir().unwrap();
    let environment =
        credentials.environment("https://me@git.example.com:8443/a.git", scratch.path()).unwrap();
    assert!(!format!("{environment:?} {credentials:?}").contains("s3c"));
    let kept = std::fs::read_to_string(scratch.path().join("credentials")).unwrap();
    assert_eq!(kept, "https://bot%40x:s3c%2Fret@git.example.com:8443\n");
    let ssh = Credentials { basic: None, ssh: Some(("KEY".into(), "host ssh-ed25519 AAAA".into())) };
    let environment = ssh.environment("git@example.com:a.git", scratch.path()).unwrap();
    let command = environment[0].1.to_string_lossy().into_owned();
    assert!(command.contains("StrictHostKeyChecking=yes") && !command.contains("KEY"), "{command}");
    assert_eq!(std::fs::read_to_string(scratch.path().join("identity")).unwrap(), "KEY\n");
}

#[tokio::test]
async fn a_password_is_not_sent_to_where_its_server_redirects() {
    let Some(repository) = repository() else { return };
    commit(repository.path(), "one");
    let (elsewhere, asked) = serve_git(repository.path(), false).await;
    for asks in [true, false] {
        let to = elsewhere.clone();
        let redirect = move |request: http::Request<hyper::body::Incoming>| {
            let response = Response::builder();
            let path = request.uri().path_and_query().unwrap().as_str();
            let response = match request.headers().get("authorization") {
                None if asks => response.status(401).header("www-authenticate", "Basic"),
                _ => response.status(302).header("location", format!("http://{to}{path}")),
            };
            response.body(Full::default()).unwrap()
        };
        let address = serve(|_| redirect).await;
        let scratch = tempfile::tempdir().unwrap();
        let basic = Some(("bot".to_owned(), "s3cret".to_owned()));
        let repository = Repository {
            url: format!("http://me@{address}/.git"),
            credentials: Credentials { basic, ssh: None },
            ..Repository::default()
        };
        let isolated = Surroundings::Isolated { home: scratch.path().to_owned() };
        // Whether it is found there is git's to say.
        let _ = repository.resolve(&isolated, scratch.path()).await;
    }
    let asked = asked.lock().unwrap().clone();
    assert!(!asked.is_empty() && asked.iter().all(|(_, known)| known.is_none()), "{asked:?}");
}
