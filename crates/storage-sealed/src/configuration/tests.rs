//! What a configuration says, and what is refused.

use super::*;

fn secret(byte: u8) -> String {
    STANDARD.encode([byte; KEY_BYTES])
}

fn document(resources: &str, providers: &str) -> String {
    format!(
        "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n- resources: {resources}\n  providers: {providers}\n"
    )
}

#[test]
fn the_first_entry_that_names_a_resource_counts_and_its_first_provider_writes() {
    let text = format!(
        "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n\
         - resources: [events]\n  providers: [{{identity: {{}}}}]\n\
         - resources: [secrets, pandas.awesome.bears.example]\n  providers:\n  - aesgcm: {{keys: [{{name: new, secret: {}}}, {{name: old, secret: {}}}]}}\n  - identity: {{}}\n\
         - resources: ['*.apps']\n  providers: [{{identity: {{}}}}, {{aesgcm: {{keys: [{{name: old, secret: {}}}]}}}}]\n\
         - resources: ['*.']\n  providers: [{{aesgcm: {{keys: [{{name: new, secret: {}}}]}}}}]\n",
        secret(1),
        secret(2),
        secret(2),
        secret(1)
    );
    let read = Configuration::parse(&text).expect("it is one");
    let cases = [
        ("/registry/core/secrets/a/b", Wanted::Sealed(0)),
        ("/registry/awesome.bears.example/pandas/x", Wanted::Sealed(0)),
        ("/registry/core/events/a/b", Wanted::Plain),
        ("/registry/core/configmaps/a/b", Wanted::Sealed(0)),
        ("/registry/apps/deployments/a/b", Wanted::Plain),
        ("/registry/batch/jobs/a/b", Wanted::Unnamed),
        ("/elsewhere", Wanted::Unnamed),
        ("/registry/core/secrets", Wanted::Unnamed),
    ];
    for (key, wanted) in cases {
        assert_eq!(read.wanted(key.as_bytes()), wanted, "{key}");
    }
    assert_eq!(read.keys.iter().map(|key| key.name.as_str()).collect::<Vec<_>>(), ["new", "old"]);
    assert_eq!(read.prefixes(), ["/registry/"], "a pattern of a group may be anywhere");
    let one = document("[secrets]", &format!("[{{aesgcm: {{keys: [{{name: a, secret: {}}}]}}}}]", secret(1)));
    assert_eq!(Configuration::parse(&one).expect("valid").prefixes(), ["/registry/core/secrets/"]);
}

#[test]
fn what_is_refused_is_named_and_no_key_is_shown() {
    let good = secret(7);
    let key =
        |name: &str, secret: &str| format!("[{{aesgcm: {{keys: [{{name: {name}, secret: {secret}}}]}}}}]");
    let cases = [
        (document("[secrets]", "[{secretbox: {keys: []}}]"), "secretbox is not supported"),
        (document("[secrets]", "[{kms: {name: x}}]"), "kms is not supported"),
        (document("[secrets]", "[{rot13: {}}]"), "is no provider"),
        (document("[secrets]", "[]"), "providers: Required value"),
        (document("[secrets]", "[{aesgcm: {keys: []}}]"), "aesgcm.keys: Required value"),
        (document("[secrets]", &key("a", "c2hvcnQ=")), "must be of 32 bytes"),
        (document("[secrets]", &key("a", "'?'")), "is not base64"),
        (document("['*.*.*']", &key("a", &good)), "names no resource"),
        (document("[Secrets]", &key("a", &good)), "names no resource"),
        (
            document(
                "[secrets]",
                &format!(
                    "[{{aesgcm: {{keys: [{{name: a, secret: {good}}}, {{name: a, secret: {}}}]}}}}]",
                    secret(8)
                ),
            ),
            "twice with different secrets",
        ),
        ("kind: ConfigMap".to_owned(), "it is no EncryptionConfiguration"),
    ];
    for (text, wanted) in cases {
        let error = Configuration::parse(&text).expect_err(wanted).to_string();
        assert!(error.contains(wanted), "{error}");
        assert!(!error.contains(&good), "{error}");
    }
    let read = Configuration::parse(&document("[secrets]", &key("a", &good))).expect("valid");
    assert!(!format!("{read:?}").contains("7, 7"), "{read:?}");
}

#[test]
fn a_configuration_is_made_once_for_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path().join("encryption.yaml");
    let made = Configuration::open_or_make(&path, &["secrets", "profiles.fleet.fairlead.dev"]).expect("made");
    let again = Configuration::open_or_make(&path, &["secrets"]).expect("found");
    assert!(again.keys[0].is(&made.keys[0].bytes), "it is the same key");
    assert_eq!(again.wanted(b"/registry/fleet.fairlead.dev/profiles/a/b"), Wanted::Sealed(0));
    assert_eq!(std::fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
    std::fs::write(&path, "{").expect("written");
    assert!(Configuration::open_or_make(&path, &["secrets"]).is_err(), "a damaged one is not replaced");
}
