use serde_json::json;

use super::super::fixture::Fixture;
use super::token::TOKEN_PATH;
use super::*;

fn fixture(account: Value) -> Fixture {
    Fixture::new().with("", "serviceaccounts", account)
}

fn account(more: Value) -> Value {
    let mut account = json!({"metadata": {"name": "robot", "namespace": "n"}});
    for (key, value) in more.as_object().into_iter().flatten() {
        if key == "annotations" {
            account["metadata"]["annotations"] = value.clone();
        } else {
            account[key] = value.clone();
        }
    }
    account
}

async fn create(account: Value, spec: Value) -> Result<Value, String> {
    let pod = json!({"metadata": {"name": "p", "namespace": "n"}, "spec": spec});
    let outcome = fixture(account).run(&ServiceAccount, Operation::Create, "", "pods", "n", pod).await;
    outcome.map_err(|refused| refused.message)
}

#[test]
fn every_container_gets_the_token_once() {
    let mut spec = json!({"containers": [{"name": "a"}, {"name": "b",
        "volumeMounts": [{"name": "own", "mountPath": TOKEN_PATH}]}], "initContainers": [{"name": "i"}]});
    token::mount(&mut spec);
    let once = spec.clone();
    token::mount(&mut spec);
    assert_eq!(once, spec);
    assert_eq!(spec["volumes"].as_array().unwrap().len(), 1);
    assert_eq!(spec["containers"][0]["volumeMounts"][0]["name"], spec["volumes"][0]["name"]);
    assert_eq!(spec["containers"][1]["volumeMounts"].as_array().unwrap().len(), 1);
    assert_eq!(spec["initContainers"][0]["volumeMounts"][0]["mountPath"], TOKEN_PATH);
}

#[tokio::test]
async fn the_pods_word_on_mounting_counts_before_its_accounts() {
    for (of_account, of_pod, mounted) in [
        (json!(null), json!(null), true),
        (json!(false), json!(null), false),
        (json!(false), json!(true), true),
        (json!(true), json!(false), false),
    ] {
        let mut spec = json!({"serviceAccountName": "robot", "containers": [{"name": "c"}]});
        spec["automountServiceAccountToken"] = of_pod;
        let pod = create(account(json!({"automountServiceAccountToken": of_account})), spec).await.unwrap();
        assert_eq!(!list(&pod["spec"], "volumes").is_empty(), mounted);
        assert_eq!(pod["spec"]["serviceAccount"], "robot");
    }
}

#[tokio::test]
async fn secrets_are_held_to_those_of_the_account_when_it_says_so() {
    let strict =
        || account(json!({"annotations": {ENFORCE_SECRETS: "true"}, "secrets": [{"name": "known"}]}));
    let spec = |more: Value| {
        let mut spec = json!({"serviceAccountName": "robot", "automountServiceAccountToken": false});
        for (key, value) in more.as_object().into_iter().flatten() {
            spec[key] = value.clone();
        }
        spec
    };
    let env =
        |secret: &str| json!([{"name": "V", "valueFrom": {"secretKeyRef": {"name": secret, "key": "k"}}}]);
    assert!(
        create(strict(), spec(json!({"containers": [{"name": "c", "env": env("known")}]}))).await.is_ok()
    );
    for (more, wanted) in [
        (
            json!({"volumes": [{"name": "v", "secret": {"secretName": "other"}}]}),
            "volume with secret.secretName=\"other\" is not allowed because service account robot does not reference that secret",
        ),
        (
            json!({"containers": [{"name": "c", "env": env("other")}]}),
            "container c with envVar V referencing secret.secretName=\"other\" is not allowed because service account robot does not reference that secret",
        ),
        (
            json!({"initContainers": [{"name": "i", "envFrom": [{"secretRef": {"name": "other"}}]}]}),
            "init container i with envFrom referencing secret.secretName=\"other\" is not allowed because service account robot does not reference that secret",
        ),
        (
            json!({"imagePullSecrets": [{"name": "other"}]}),
            "imagePullSecrets[0].name=\"other\" is not allowed because service account robot does not reference that imagePullSecret",
        ),
    ] {
        let refused = create(strict(), spec(more.clone())).await.unwrap_err();
        assert_eq!(refused, format!("pods \"p\" is forbidden: {wanted}"));
        assert!(create(account(json!({})), spec(more)).await.is_ok(), "only when asked for");
    }
}

#[tokio::test]
async fn accounts_that_are_not_there_refuse_and_mirrors_name_none() {
    let refused = create(account(json!({})), json!({"serviceAccountName": "nobody"})).await.unwrap_err();
    assert_eq!(
        refused,
        "pods \"p\" is forbidden: error looking up service account n/nobody: serviceaccount \"nobody\" not found"
    );
    let mirror = |spec: Value| json!({"metadata": {"name": "m", "annotations": {MIRROR: "x"}}, "spec": spec});
    for (spec, wanted) in [
        (json!({}), None),
        (json!({"serviceAccountName": "robot"}), Some("a mirror pod may not reference service accounts")),
        (
            json!({"volumes": [{"name": "v", "secret": {"secretName": "s"}}]}),
            Some("a mirror pod may not reference secrets"),
        ),
        (
            json!({"volumes": [{"name": "v", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}}]}),
            Some("a mirror pod may not use ServiceAccountToken volume projections"),
        ),
    ] {
        let outcome = fixture(account(json!({})))
            .run(&ServiceAccount, Operation::Create, "", "pods", "n", mirror(spec))
            .await;
        let wanted = wanted.map(|why| format!("pods \"m\" is forbidden: {why}"));
        assert_eq!(outcome.err().map(|refused| refused.message), wanted);
    }
}
