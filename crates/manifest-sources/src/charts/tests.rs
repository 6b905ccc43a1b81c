use std::sync::{Arc, Mutex};

use http_body_util::Full;
use hyper::Response;

use super::*;
use crate::fixture::{packed, serve};
use crate::provenance::tests::{ARCHIVE, ED25519, RSA, has_gpgv, vector};

fn entry(version: &str) -> Entry {
    Entry { version: version.to_owned(), digest: None, urls: Vec::new() }
}

#[test]
fn the_newest_version_that_a_range_allows_is_taken() {
    let all = ["1.2.3", "v1.10.0", "1.9.9", "2.0.0-rc.1", "2.0.0", "2.1.0-beta", "0.3.1", "nightly"];
    for (range, expected) in [
        (None, Some("2.0.0")),
        (Some("1.2.3"), Some("1.2.3")),
        (Some("v1.2.3"), Some("1.2.3")),
        (Some("1.10.0"), Some("v1.10.0")),
        (Some("1.x"), Some("v1.10.0")),
        (Some("1"), Some("v1.10.0")),
        (Some("1.9"), Some("1.9.9")),
        (Some("~1.2.0"), Some("1.2.3")),
        (Some("^1.2"), Some("v1.10.0")),
        (Some(">= 1.2, < 1.10"), Some("1.9.9")),
        (Some(">=1.2 <1.3"), Some("1.2.3")),
        (Some("1.2.0 - 1.9.9"), Some("1.9.9")),
        (Some("0.3 || ^1.9"), Some("v1.10.0")),
        (Some(">=2.1.0-0"), Some("2.1.0-beta")),
        (Some("2.0.0-rc.1"), Some("2.0.0-rc.1")),
        (Some("nightly"), Some("nightly")),
        (Some("*"), Some("2.0.0")),
        (Some("3"), None),
    ] {
        let wanted = range.filter(|range| *range != "nightly").map(|range| ranges(range).unwrap());
        let entries = all.iter().map(|version| entry(version)).collect();
        let found = newest(entries, wanted.as_deref(), range);
        assert_eq!(found.map(|found| found.version).as_deref(), expected, "{range:?}");
    }
    for range in ["latest version", "1 - ", "!=1.2.3", ">"] {
        assert!(ranges(range).is_err(), "{range}");
    }
}

/// A repository that asks for a password, and whose archives may lie elsewhere; answers its address and who asked for what.
async fn repository(files: Vec<(&'static str, Vec<u8>)>) -> (String, Arc<Mutex<Vec<(String, bool)>>>) {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (log, files) = (Arc::clone(&seen), Arc::new(files));
    let answer = move |request: http::Request<hyper::body::Incoming>| {
        let path = request.uri().path().to_owned();
        let known = request.headers().get("authorization").is_some_and(|own| own == "Basic Ym90OnMzY3JldA==");
        log.lock().unwrap().push((path.clone(), known));
        let file = files.iter().find(|(own, _)| *own == path);
        let closed = path.starts_with("/charts") && !known;
        let (status, body) = match file {
            _ if closed => (401, Vec::new()),
            Some((_, body)) => (200, body.clone()),
            None => (404, Vec::new()),
        };
        let mut response = Response::builder().status(status);
        if closed {
            response = response.header("www-authenticate", "Basic realm=\"charts\"");
        }
        response.body(Full::new(Bytes::from(body))).unwrap()
    };
    (serve(|_| answer).await, seen)
}

fn archive() -> Vec<u8> {
    packed(&[("web/Chart.yaml", "name: web\nversion: 1.2.0\n"), ("web/templates/a.yaml", "kind: A\n")])
}

fn chart(address: &str) -> Chart {
    Chart {
        repository: format!("http://{address}/charts/"),
        name: "web".to_owned(),
        version: Some("1.x".to_owned()),
        credentials: Some(Login { user: "bot".to_owned(), password: "s3cret".to_owned() }),
        plain_http: true,
        ..Chart::default()
    }
}

#[tokio::test]
async fn a_chart_is_pulled_and_checked_and_its_password_stays_with_its_server() {
    let good = fleet_planner::digest(&archive());
    let (other, elsewhere) = repository(vec![("/web-1.3.0.tgz", archive())]).await;
    let index = format!(
        "apiVersion: v1\nentries:\n  web:\n  - {{version: 1.2.0, digest: {good}, urls: [web-1.2.0.tgz]}}\n  \
         - {{version: 1.1.0, digest: '{}', urls: [web-1.2.0.tgz]}}\n  \
         - {{version: 1.3.0, urls: ['http://{other}/web-1.3.0.tgz']}}\n  - {{version: 2.0.0, urls: []}}\n",
        "0".repeat(64)
    );
    let (address, _) =
        repository(vec![("/charts/index.yaml", index.into_bytes()), ("/charts/web-1.2.0.tgz", archive())])
            .await;
    let pull = async |version: &str, digest: Option<&str>| {
        let wanted =
            Chart { version: Some(version.to_owned()), digest: digest.map(str::to_owned), ..chart(&address) };
        let into = tempfile::tempdir().unwrap();
        let listed = wanted.resolve().await?;
        let (revision, root) = wanted.pull(&listed, into.path(), &Surroundings::Own, into.path()).await?;
        assert!(root.join("Chart.yaml").is_file());
        Ok::<_, Error>((listed.revision(), revision))
    };
    let exact = format!("1.2.0@sha256:{good}");
    assert_eq!(pull("~1.2", None).await.unwrap(), (exact.clone(), exact));
    // Whose digest the index does not say: what came is said.
    let newer = ("1.3.0".to_owned(), format!("1.3.0@sha256:{good}"));
    assert_eq!(pull("1.x", Some(&format!("sha256:{good}"))).await.unwrap(), newer);
    assert_eq!(*elsewhere.lock().unwrap(), [("/web-1.3.0.tgz".to_owned(), false)], "without the password");
    let said = pull("1.1.0", None).await.unwrap_err().to_string();
    assert!(said.contains(&format!("its archive is {good} and not 0000")), "{said}");
    let pinned = format!("sha256:{}", "1".repeat(64));
    assert!(pull("1.3.0", Some(&pinned)).await.unwrap_err().to_string().contains("and not 1111"));
    for (version, part) in
        [("3.x", "no version that is 3.x"), ("2.0.0", "has no archive"), ("x y", "no range")]
    {
        let said = pull(version, None).await.unwrap_err().to_string();
        assert!(said.contains(part), "{said}");
    }
    let missing = Chart { name: "db".to_owned(), ..chart(&address) };
    assert!(missing.resolve().await.unwrap_err().to_string().contains("no such chart"));
    for wrong in [
        Chart { plain_http: false, ..chart(&address) },
        Chart { repository: "file:///etc".to_owned(), ..chart(&address) },
        Chart { repository: format!("http://bot@{address}/charts"), ..chart(&address) },
        Chart { digest: Some("sha256:abc".to_owned()), ..chart(&address) },
    ] {
        assert!(matches!(wrong.resolve().await, Err(Error::Invalid(_))), "{wrong:?}");
    }
}

#[tokio::test]
async fn the_index_of_a_large_repository_is_read() {
    use std::fmt::Write as _;
    // As many versions as the largest public repositories have, with the fields that each has.
    let mut index = "apiVersion: v1\nentries:\n  other:\n".to_owned();
    for patch in 0..20_000 {
        write!(
            index,
            "  - apiVersion: v2\n    appVersion: 1.{patch}\n    description: d\n    digest: {patch:064}\n    \
             keywords: [a, b]\n    name: other\n    urls: [other-1.0.{patch}.tgz]\n    version: 1.0.{patch}\n"
        )
        .unwrap();
    }
    index.push_str("  web:\n  - {version: 1.2.0, urls: [web-1.2.0.tgz]}\n");
    let (address, _) = repository(vec![("/charts/index.yaml", index.into_bytes())]).await;
    assert_eq!(chart(&address).resolve().await.unwrap().version, "1.2.0");
}

#[tokio::test]
async fn a_chart_must_have_a_provenance_of_a_listed_key() {
    if !has_gpgv() {
        return;
    }
    let index = "entries:\n  web:\n  - {version: 1.2.0, urls: ['web-1.2.0.tgz?x=1']}\n  \
                 - {version: 1.1.0, urls: [moved.tgz]}\n  - {version: 1.0.0, urls: [bare.tgz]}\n";
    let good = vector!("ed25519.prov").to_vec();
    let (address, _) = repository(vec![
        ("/charts/index.yaml", index.as_bytes().to_vec()),
        ("/charts/web-1.2.0.tgz", ARCHIVE.to_vec()),
        ("/charts/web-1.2.0.tgz.prov", good.clone()),
        ("/charts/moved.tgz", ARCHIVE.to_vec()),
        ("/charts/moved.tgz.prov", good),
        ("/charts/bare.tgz", ARCHIVE.to_vec()),
    ])
    .await;
    let pull = async |version: &str, keys: &str| {
        let (version, signers) = (Some(version.to_owned()), Some(keys.to_owned()));
        let wanted = Chart { version, signers, ..chart(&address) };
        let (into, scratch) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let listed = wanted.resolve().await?;
        let isolated = Surroundings::Isolated { home: scratch.path().to_owned() };
        let pulled = wanted.pull(&listed, into.path(), &isolated, scratch.path()).await;
        if pulled.is_err() {
            assert_eq!(std::fs::read_dir(into.path()).unwrap().count(), 0, "nothing is unpacked");
        }
        pulled.map(|(revision, _)| revision)
    };
    let revision = format!("1.2.0@sha256:{}", fleet_planner::digest(ARCHIVE));
    assert_eq!(pull("1.2.0", ED25519).await.unwrap(), revision);
    for (version, keys, part) in [
        ("1.2.0", RSA, "No public key"),
        ("1.1.0", ED25519, "not of web-1.1.0.tgz but of [\"web-1.2.0.tgz\"]"),
        ("1.0.0", ED25519, "no provenance lies beside its archive (/charts/bare.tgz.prov)"),
    ] {
        let said = pull(version, keys).await.unwrap_err().to_string();
        let begins = said.starts_with(&format!("chart web {version} has no signature of an allowed signer"));
        assert!(begins && said.contains(part), "{said}");
    }
    assert!(matches!(pull("1.2.0", "").await, Err(Error::Invalid(_))), "no key is no permission");
}
