use fleet_objects::source::Source;
use fleet_planner::yaml;
use serde_json::{Value, json};

use super::*;

const SSH: &str =
    "me@example.com ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIB8ffaz9Ywm5WXzWQ3pqYwVgqF6Oe3eU2Sl5QmPdF1Jm";
const PEM: &str = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAHx99rP1jCblZfNZDempjBWCoXo57d5TZKXlCY90XUmY=\n-----END PUBLIC KEY-----";
const PGP: &str = include_str!("../../../../manifest-sources/src/provenance/vectors/ed25519.asc");

fn parsed(spec: Value) -> SourceSpec {
    serde_json::from_value(spec).unwrap()
}

fn told(spec: Value) -> Vec<String> {
    problems(&parsed(spec)).iter().map(ToString::to_string).collect()
}

/// What is said of a source that has this beside its profile.
fn with(more: Value) -> Vec<String> {
    let mut spec = json!({"profile": "shop"});
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    told(spec)
}

fn git(more: Value) -> Value {
    let mut git = json!({"url": "https://x.com/a.git"});
    git.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({"git": git})
}

fn oci(more: Value) -> Value {
    let mut oci = json!({"url": "oci://x.com/a"});
    oci.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({"oci": oci})
}

fn chart(more: Value) -> Value {
    let mut chart = json!({"repository": "https://x.com/charts", "name": "web"});
    chart.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({"chart": chart})
}

/// A source whose parts are in one repository, and more.
fn parts(more: Value) -> Value {
    let mut spec = git(json!({}));
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    spec
}

const NOTHING: [String; 0] = [];

#[test]
fn each_mistake_is_told_at_its_field() {
    let digest = format!("sha256:{}", "0".repeat(64));
    for (spec, wanted) in [
        (json!({}), "spec: Required value: exactly one of git, oci and chart must be given"),
        (
            json!({"git": {"url": "https://x.com/a"}, "chart": {"repository": "https://x.com", "name": "a"}}),
            "spec: Invalid value: exactly one of git, oci and chart must be given",
        ),
        (
            json!({"git": {"url": "https://x.com/a"}, "profile": ""}),
            "spec.profile: Required value: the name of a profile",
        ),
        (
            json!({"git": {"url": "https://x.com/a"}, "profile": "A b"}),
            "spec.profile: Invalid value: \"A b\" is no name of a profile: a lowercase",
        ),
        (
            git(json!({"url": "file:///etc"})),
            "spec.git.url: Invalid value: the repository must be given by an https",
        ),
        (
            git(json!({"url": "/srv/git"})),
            "spec.git.url: Invalid value: the repository must be given by an https",
        ),
        (
            git(json!({"url": "ext::sh -c id"})),
            "spec.git.url: Invalid value: the repository must be given by an https",
        ),
        (git(json!({"url": "-x"})), "spec.git.url: Invalid value: -x may not begin with a dash"),
        (
            git(json!({"url": "https://me:s3cret@x.com/a"})),
            "spec.git.url: Invalid value: the repository's URL holds a password",
        ),
        (
            git(json!({"branch": "a", "tag": "b"})),
            "spec.git: Invalid value: of branch, tag and commit only one",
        ),
        (git(json!({"branch": "a b"})), "spec.git.branch: Invalid value: \"a b\" is no name of a branch"),
        (git(json!({"branch": ""})), "spec.git.branch: Invalid value: \"\" is no name of a branch"),
        (git(json!({"tag": "a..b"})), "spec.git.tag: Invalid value: \"a..b\" is no name of a branch"),
        (git(json!({"commit": "abc"})), "spec.git.commit: Invalid value: \"abc\" is no commit: 40"),
        (
            git(json!({"secretRef": {"name": ""}})),
            "spec.git.secretRef.name: Required value: the name of a secret",
        ),
        (
            git(json!({"secretRef": {"name": "a/b"}})),
            "spec.git.secretRef.name: Invalid value: \"a/b\" is no name of a secret",
        ),
        (
            git(json!({"verify": {"allowedSigners": ""}})),
            "spec.git.verify.allowedSigners: Invalid value: the allowed signers: there is none",
        ),
        (
            git(json!({"verify": {"allowedSigners": format!("{SSH}\nssh-ed25519 AAAA")}})),
            "spec.git.verify.allowedSigners: Invalid value: the allowed signers: line 2 does not hold a principal",
        ),
        (
            git(json!({"branch": "main", "verify": {"allowedSigners": SSH, "signed": "Tag"}})),
            "spec.git.verify.signed: Invalid value: a signed tag is asked for, and no tag is named",
        ),
        (
            git(json!({"verify": {"allowedSigners": SSH, "signed": "TagAndCommit"}})),
            "spec.git.verify.signed: Invalid value: a signed tag is asked for",
        ),
        (
            oci(json!({"url": "https://x.com/a"})),
            "spec.oci.url: Invalid value: https://x.com/a is no oci://registry/repository",
        ),
        (oci(json!({"url": "oci://x.com"})), "spec.oci.url: Invalid value: oci://x.com is no oci://"),
        (
            oci(json!({"url": "oci://me:s3cret@x.com/a"})),
            "spec.oci.url: Invalid value: oci://…@x.com/a is no oci://",
        ),
        (
            oci(json!({"tag": "a", "digest": digest})),
            "spec.oci: Invalid value: of tag and digest only one may be given",
        ),
        (oci(json!({"tag": "a/b"})), "spec.oci.tag: Invalid value: \"a/b\" is no tag and no sha256 digest"),
        (oci(json!({"digest": "sha256:abc"})), "spec.oci.digest: Invalid value: \"sha256:abc\" is no tag"),
        (
            oci(json!({"verify": {}})),
            "spec.oci.verify: Required value: verify says neither publicKeys nor pgpKeys",
        ),
        (
            oci(json!({"verify": {"publicKeys": "x"}})),
            "spec.oci.verify.publicKeys: Invalid value: the public keys of signers: there is none",
        ),
        (
            oci(json!({"verify": {"publicKeys": PGP}})),
            "spec.oci.verify.publicKeys: Invalid value: the public keys of signers: only PUBLIC KEY",
        ),
        (
            oci(json!({"verify": {"pgpKeys": PEM}})),
            "spec.oci.verify.pgpKeys: Invalid value: the OpenPGP keys of signers: only PGP",
        ),
        (
            chart(json!({"repository": "ftp://x.com"})),
            "spec.chart.repository: Invalid value: ftp://x.com is no https:// address",
        ),
        (
            chart(json!({"repository": "http://x.com"})),
            "spec.chart.repository: Invalid value: http://x.com has no TLS, which plainHttp allows",
        ),
        (
            chart(json!({"repository": "oci://x.com/a"})),
            "spec.chart.repository: Invalid value: oci://x.com/a is a registry's",
        ),
        (
            chart(json!({"repository": "https://me:s3cret@x.com"})),
            "spec.chart.repository: Invalid value: https://…@x.com names a user",
        ),
        (
            chart(json!({"repository": "https://x.com/?key=s3cret", "plainHttp": true, "digest": "x"})),
            "spec.chart.digest: Invalid value: digest must be sha256:",
        ),
        (chart(json!({"name": ""})), "spec.chart.name: Required value: the name of a chart"),
        (
            chart(json!({"version": "1 - "})),
            "spec.chart.version: Invalid value: \"1 - \" is no version and no range",
        ),
        (
            chart(json!({"version": "latest version"})),
            "spec.chart.version: Invalid value: \"latest version\" is no version",
        ),
        (
            chart(json!({"verify": {"pgpKeys": "x"}})),
            "spec.chart.verify.pgpKeys: Invalid value: the OpenPGP keys of signers: there is none",
        ),
        (parts(json!({"path": "../x"})), "spec.path: Invalid value: ../x is no path in what was fetched"),
        (parts(json!({"path": "/etc"})), "spec.path: Invalid value: /etc is no path in what was fetched"),
        (
            parts(json!({"helm": {"valuesFiles": ["a", "b/../../c"]}})),
            "spec.helm.valuesFiles[1]: Invalid value: b/../../c is no path",
        ),
        (
            parts(json!({"helm": {"release": "-x"}})),
            "spec.helm.release: Invalid value: \"-x\" is no name of a release",
        ),
        (parts(json!({"helm": {"values": [1]}})), "spec.helm.values: Invalid value: values are an object"),
        (
            parts(json!({"render": "Kustomize", "helm": {"release": "a"}})),
            "spec.helm: Invalid value: Helm is told this, and render says Kustomize",
        ),
        (parts(json!({"intervalSeconds": 9})), "spec.intervalSeconds: Invalid value: from 10 to 86400"),
        (parts(json!({"intervalSeconds": 86401})), "spec.intervalSeconds: Invalid value: from 10 to 86400"),
        (
            json!({"layers": [{"name": "db"}]}),
            "spec.layers[0]: Required value: it does not say where it is kept",
        ),
        (
            parts(json!({"layers": [{"name": ""}]})),
            "spec.layers[0].name: Required value: layers are told apart",
        ),
        (
            parts(json!({"layers": [{"name": "a"}, {"name": "a"}]})),
            "spec.layers[1].name: Invalid value: two layers are called a",
        ),
        (
            parts(json!({"layers": [{"name": "a", "path": "/x"}]})),
            "spec.layers[0].path: Invalid value: /x is no path",
        ),
        (
            parts(
                json!({"layers": [{"name": "a"}, {"name": "b", "git": {"url": "https://x.com/b", "commit": "1"}}]}),
            ),
            "spec.layers[1].git.commit: Invalid value: \"1\" is no commit",
        ),
        (
            parts(json!({"layers": [{"name": "a", "render": "Plain", "helm": {}}]})),
            "spec.layers[0].helm: Invalid value: Helm is told this, and render says Plain",
        ),
    ] {
        let found = with(spec.clone());
        assert!(found.len() == 1 && found[0].starts_with(wanted), "{spec}: {found:?}\nnot {wanted}");
        assert!(!found[0].contains("s3cret"), "{found:?}");
    }
}

#[test]
fn layers_and_their_places_are_counted() {
    let layer = |number: usize, host: usize| json!({"name": format!("l{number}"), "git": {"url": format!("https://x{host}.com/a")}});
    let of = |layers: Vec<Value>| with(parts(json!({"layers": layers})));
    assert_eq!(of((0..64).map(|number| layer(number, number % 15)).collect()), NOTHING);
    let found = of((0..65).map(|number| layer(number, number % 15)).collect());
    assert_eq!(found, ["spec.layers: Invalid value: there are more than 64 layers"]);
    let found = of((0..16).map(|number| layer(number, number)).collect());
    assert_eq!(found, ["spec.layers: Invalid value: its parts are kept at more than 16 places"]);
}

#[test]
fn what_can_be_followed_is_not_wrong() {
    let commit = "0123456789abcdef0123456789abcdef01234567";
    let signed = json!({"tag": "v1", "verify": {"allowedSigners": SSH, "signed": "TagAndCommit"}});
    for spec in [
        git(json!({})),
        git(json!({"url": "git@x.com:a.git", "commit": commit, "submodules": true, "lfs": true})),
        git(json!({"url": "ssh://git@x.com:2222/a", "branch": "release/1.x"})),
        git(json!({"url": "https://token@x.com/a", "secretRef": {"name": "comes-later"}})),
        git(signed),
        oci(json!({"url": "oci://localhost:5000/a/b", "tag": "v1_2.3", "plainHttp": true})),
        oci(
            json!({"digest": format!("sha256:{}", "a".repeat(64)), "verify": {"publicKeys": PEM, "pgpKeys": PGP}}),
        ),
        chart(json!({"version": ">=1.2, <2 || 4.x", "verify": {"pgpKeys": PGP}})),
        chart(json!({"repository": "http://x.com/charts/", "plainHttp": true, "version": "nightly"})),
        parts(
            json!({"path": "./deploy", "intervalSeconds": 10, "helm": {"valuesFiles": ["prod.yaml"], "values": {}}}),
        ),
        json!({"layers": [{"name": "a", "git": {"url": "https://x.com/a"}}]}),
    ] {
        assert_eq!(with(spec.clone()), NOTHING, "{spec}");
    }
}

#[test]
fn what_is_not_followed_hinders_no_source_that_a_hub_holds() {
    let said = |more: Value| {
        let mut spec = json!({"profile": "shop"});
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        hindrance(&parsed(spec)).err().map(|failure| (failure.reason, failure.message))
    };
    let odd = json!({"intervalSeconds": 1, "render": "Plain", "helm": {"release": "a"}, "git": {
        "url": "https://x.com/a", "verify": {"allowedSigners": format!("{SSH}\nodd")}}});
    assert_eq!(with(odd.clone()).len(), 3);
    assert_eq!(said(odd), None);
    for (spec, words) in [
        (json!({}), "exactly one of git, oci and chart must be given"),
        (parts(json!({"intervalSeconds": 1, "path": "/etc"})), "/etc is no path in what was fetched"),
        (json!({"layers": [{"name": "db"}]}), "layer db: it does not say where it is kept"),
        (
            parts(
                json!({"layers": [{"name": "db", "git": {"url": "https://a.com/b"}, "oci": {"url": "oci://a/b"}}]}),
            ),
            "layer db: exactly one of git, oci and chart",
        ),
        (parts(json!({"layers": [{"name": "a"}, {"name": "a"}]})), "two layers are called a"),
        (oci(json!({"verify": {}})), "verify says neither publicKeys nor pgpKeys"),
    ] {
        let (reason, message) = said(spec.clone()).unwrap_or_default();
        assert!(reason == "Invalid" && message.starts_with(words), "{spec}: {message}");
    }
}

/// Documents leave out what a reader would not read.
fn completed(text: &str) -> String {
    let escaped = |key: &str| key.replace('\n', "\\n");
    text.replace("release@example.com ssh-ed25519 AAAA…", SSH)
        .replace("-----BEGIN PGP PUBLIC KEY BLOCK-----…", &escaped(PGP))
        .replace("-----BEGIN PUBLIC KEY-----…", &escaped(PEM))
}

#[test]
fn every_source_of_the_documents_passes() {
    let mut open = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs")];
    let mut judged = 0;
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        for block in text.split("```yaml\n").skip(1).filter(|block| block.contains("kind: Source\n")) {
            let block = completed(block.split("```").next().unwrap());
            for document in yaml::documents(&block, "example").unwrap() {
                if document["kind"] == "Source" {
                    let source: Source = serde_json::from_value(document).unwrap();
                    let found = problems(&source.spec);
                    assert_eq!(found, [], "{}: {found:?}", path.display());
                    judged += 1;
                }
            }
        }
    }
    assert!(judged > 0, "the guide has one");
}
