use fleet_planner::expressions::Expressions;
use fleet_planner::health::ObjectExpressions;
use serde_json::json;

use super::*;

/// Stands for a language: every expression is right but `odd`.
#[derive(Debug)]
struct Odd;

impl Expressions for Odd {
    fn check_condition(&self, expression: &str) -> Result<(), String> {
        if expression == "odd" { Err("odd".to_owned()) } else { Ok(()) }
    }

    fn holds(&self, _: &str, _: &Value) -> Result<bool, String> {
        Err(String::new())
    }

    fn score(&self, _: &str, _: &Value) -> Result<i64, String> {
        Err(String::new())
    }

    fn value(&self, _: &str, _: &Value) -> Result<Value, String> {
        Err(String::new())
    }
}

impl ObjectExpressions for Odd {
    fn check(&self, _: &str, _: bool) -> Result<(), String> {
        Ok(())
    }

    fn holds(&self, _: &str, _: &Value) -> Result<bool, String> {
        Err(String::new())
    }

    fn text(&self, _: &str, _: &Value) -> Result<String, String> {
        Err(String::new())
    }
}

const LANGUAGES: Languages<'static> = Languages { clusters: &Odd, objects: &Odd };

fn written(resource: &str, old: Option<&Value>, new: &Value) -> Vec<String> {
    let write = Write { group: GROUP, resource, namespace: "default", old, new };
    let found = of_write(&write, LANGUAGES);
    found.into_iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect()
}

fn receiver(spec: Value) -> Vec<String> {
    written("alertreceivers", None, &json!({"metadata": {"name": "r"}, "spec": spec}))
}

const NOTHING: [String; 0] = [];

#[test]
fn receivers_that_nothing_could_be_sent_to_are_told_field_by_field() {
    let webhook = |url: &str| json!({"webhook": {"url": url}});
    for (spec, wanted) in [
        (json!({}), "spec: Required value: exactly one of"),
        (
            json!({"webhook": {"url": "http://a"}, "alertmanager": {"url": "http://b"}}),
            "spec: Invalid value: exactly one of webhook, alertmanager and email may be given",
        ),
        (webhook("ftp://a/b"), "spec.webhook.url: Invalid value: ftp://a/b is not http:// or https://"),
        (webhook("hooks.example.com"), "spec.webhook.url: Invalid value: hooks.example.com is not http"),
        (webhook("http://user:secret@host/"), "spec.webhook.url: Invalid value: user names in URLs"),
        (
            webhook("http://169.254.169.254/latest"),
            "spec.webhook.url: Invalid value: 169.254.169.254 is a link-local",
        ),
        (
            json!({"webhook": {"url": "http://a", "headers": {"a b": "c"}}}),
            "spec.webhook.headers[a b]: Invalid value: a header's name",
        ),
        (
            json!({"webhook": {"url": "http://a", "headers": {"authorization": "s3cret\n"}}}),
            "spec.webhook.headers[authorization]: Invalid value: the value of header authorization cannot be sent",
        ),
        (
            json!({"webhook": {"url": "https://a", "caBundle": "x", "secret": {"name": "", "key": "k"}}}),
            "spec.webhook.caBundle: Invalid value: ",
        ),
        (
            json!({"alertmanager": {"url": "alertmanager:9093"}}),
            "spec.alertmanager.url: Invalid value: alertmanager:9093 is not http",
        ),
    ] {
        let found = receiver(spec.clone());
        assert!(found.first().is_some_and(|told| told.starts_with(wanted)), "{spec}: {found:?}");
        assert!(!found.concat().contains("s3cret") && !found.concat().contains("user:secret"), "{found:?}");
    }
    let twice = receiver(
        json!({"webhook": {"url": "https://a", "caBundle": "x", "secret": {"name": "", "key": "k"}}}),
    );
    assert_eq!(twice[1..], ["spec.webhook.secret.name: Required value"]);
    for good in [
        json!({"webhook": {"url": "https://hooks.example.com/fleet?x=1", "headers": {"x-team": "platform"},
            "secret": {"name": "comes-later", "key": "key"}}}),
        json!({"alertmanager": {"url": "http://alertmanager:9093",
            "caBundle": "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"}}),
    ] {
        assert_eq!(receiver(good), NOTHING);
    }
}

#[test]
fn mail_goes_from_somebody_to_somebody_by_a_server_with_a_port() {
    let wrong = receiver(
        json!({"email": {"server": "mail.example.com", "from": "fleet", "to": [], "username": "u"}}),
    );
    let wanted = [
        "spec.email.server: Invalid value: email.server is HOST:PORT, not \"mail.example.com\"",
        "spec.email.from: Invalid value: \"fleet\" is no mail address",
        "spec.email.to: Invalid value: a mail goes to one to 50 recipients",
        "spec.email.password: Required value",
    ];
    assert_eq!(wrong.len(), wanted.len(), "{wrong:?}");
    for (told, wanted) in wrong.iter().zip(wanted) {
        assert!(told.starts_with(wanted), "{told}");
    }
    let email = |more: Value| {
        let mut email =
            json!({"server": "mail:587", "from": "Fleet <fleet@example.com>", "to": ["ops@example.com"]});
        email.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        receiver(json!({"email": email}))
    };
    assert_eq!(email(json!({})), NOTHING);
    assert_eq!(email(json!({"username": "u", "password": {"name": "mail", "key": "p"}})), NOTHING);
    for (more, wanted) in [
        (
            json!({"to": ["ops@example.com", "ops"]}),
            "spec.email.to[1]: Invalid value: \"ops\" is no mail address",
        ),
        (
            json!({"tls": "None", "username": "u", "password": {"name": "m", "key": "p"}}),
            "spec.email.username",
        ),
        (json!({"caBundle": "x"}), "spec.email.caBundle: Invalid value: email.caBundle holds no certificate"),
        (json!({"server": "[fe80::1]:25"}), "spec.email.server: Invalid value: fe80::1 is a link-local"),
    ] {
        let found = email(more);
        assert!(found.len() == 1 && found[0].starts_with(wanted), "{found:?}");
    }
}

#[test]
fn what_was_taken_once_stays_writable_in_everything_else() {
    let rollout = |paused: bool, gates: Value| json!({"metadata": {"name": "r"}, "spec": {"paused": paused, "strategy": {"waves": [{"gates": gates}]}}});
    let gate = |expression: &str| json!({"type": "Expression", "expression": expression});
    let odd = "spec.strategy.waves[0].gates[0].expression: Invalid value: \"odd\": odd";
    let known = rollout(false, json!([gate("odd")]));
    assert_eq!(written("rollouts", None, &known), [odd]);
    let mut labelled = known.clone();
    labelled["metadata"]["finalizers"] = json!(["a"]);
    assert_eq!(written("rollouts", Some(&known), &labelled), NOTHING);
    // A person stops it; what was wrong before is no news.
    let paused = rollout(true, json!([gate("odd")]));
    assert_eq!(written("rollouts", Some(&known), &paused), NOTHING);
    let worse = rollout(true, json!([gate("odd"), {"type": "TestRun"}]));
    assert_eq!(
        written("rollouts", Some(&known), &worse),
        ["spec.strategy.waves[0].gates[1]: Required value: a TestRun needs `workflow`"]
    );
    // Put right once, it is not broken again.
    let right = rollout(false, json!([gate("fine")]));
    assert_eq!(written("rollouts", Some(&known), &right), NOTHING);
    assert_eq!(written("rollouts", Some(&right), &known), [odd]);
}

#[test]
fn a_source_that_a_hub_holds_can_be_stopped_whatever_is_wrong_with_it() {
    let source = |suspend: bool, commit: &str| {
        let git = json!({"url": "https://git.example.com/shop.git", "commit": commit});
        json!({"metadata": {"name": "s"}, "spec": {"profile": "shop", "git": git, "suspend": suspend}})
    };
    let wrong = "spec.git.commit: Invalid value: \"abc\" is no commit: 40 hexadecimal digits are";
    assert_eq!(written("sources", None, &source(false, "abc")), [wrong]);
    assert_eq!(written("sources", Some(&source(false, "abc")), &source(true, "abc")), NOTHING);
    assert_eq!(written("sources", Some(&source(true, "abc")), &source(true, "abd")).len(), 1);
    let document = json!({"kind": "Source", "spec": source(false, "abc")["spec"]});
    assert_eq!(of_document(&document, LANGUAGES).len(), 1);
}

#[test]
fn layers_of_a_source_wait_for_what_goes_with_them() {
    let profile = |manager: &str| {
        json!({"metadata": {"name": "p", "managedFields": [
                {"manager": "kubectl", "fieldsV1": {"f:spec": {"f:variables": {}}}},
                {"manager": manager, "fieldsV1": {"f:spec": {"f:layers": {}}}}]},
            "spec": {"layers": [{"name": "l", "manifests": [{"apiVersion": "v1", "kind": "ConfigMap",
                "metadata": {"name": "a"}, "data": {"key": "${var.later}"}}]}]}})
    };
    assert_eq!(written("profiles", None, &profile("fairlead-source")), NOTHING);
    assert_eq!(written("profiles", None, &profile("fairlead-cli")).len(), 1);
}

#[test]
fn what_is_no_document_of_its_kind_and_other_kinds_are_not_judged_here() {
    assert!(concerns(GROUP, "profiles") && !concerns(GROUP, "clusters") && !concerns("apps", "profiles"));
    assert_eq!(written("profiles", None, &json!({"spec": {"manifests": 7}})), NOTHING);
    assert_eq!(written("clusters", None, &json!({"spec": {}})), NOTHING);
    let many: Vec<Value> = (0..200).map(|_| json!({"type": "TestRun"})).collect();
    let rollout = json!({"spec": {"strategy": {"waves": [{"gates": many}]}}});
    assert_eq!(written("rollouts", None, &rollout).len(), MAX_TOLD);
}
