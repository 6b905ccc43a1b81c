use serde_json::json;

use super::*;

#[test]
fn names_are_judged_as_upstream_judges_them() {
    assert!(is_label("a-1") && !is_label("-a") && !is_label("A") && !is_label("a.b") && !is_label(""));
    assert!(is_subdomain("a.b-c") && !is_subdomain("a..b") && !is_subdomain(".a"));
    assert!(is_qualified("example.com/My_name") && !is_qualified("/a") && !is_qualified("a/b/c"));
    assert!(is_port_name("http-1") && !is_port_name("1") && !is_port_name("a--b") && !is_port_name("http_1"));
    assert_eq!(port_name("").len(), 2);
    assert!(percent("5%").is_empty() && !percent("%").is_empty() && !percent("5").is_empty());
    assert!(wildcard_subdomain("*.a.b").is_empty() && !wildcard_subdomain("*a.b").is_empty());
    assert!(subdomain_with_underscore("_a.b_c").is_empty() && !subdomain_with_underscore("a_.b").is_empty());
    assert!(
        NameRule::DnsLabel.check("web-", true).is_empty()
            && !NameRule::DnsLabel.check("web-", false).is_empty()
    );
    assert_eq!(NameRule::DnsSubdomainUpTo(3).check("abcd", false), ["must be no more than 3 characters"]);
}

#[test]
fn selectors_match() {
    let selector = json!({"matchLabels": {"a": "1"},
        "matchExpressions": [{"key": "b", "operator": "In", "values": ["x"]}, {"key": "c", "operator": "DoesNotExist"}]});
    assert!(matches(&selector, &json!({"a": "1", "b": "x"})));
    assert!(!matches(&selector, &json!({"a": "1", "b": "y"})));
    assert!(!matches(&selector, &json!({"a": "1", "b": "x", "c": ""})));
    assert_eq!(shown_selector(&selector), "a=1,b in (x),!c");
}

#[test]
fn a_selectors_faults_have_their_paths() {
    let mut problems = Problems::default();
    let bad = json!({"matchLabels": {"a b": "c d"}, "matchExpressions": [
        {"key": "k", "operator": "In"}, {"key": "k", "operator": "Exists", "values": ["v"]}, {"key": "", "operator": "is"},
        {"key": "k", "operator": "In", "values": ["a b"]}]});
    selector(&mut problems, "spec.selector", &bad);
    let fields: Vec<String> = problems.into_causes().into_iter().map(|cause| cause.field).collect();
    assert_eq!(
        fields,
        [
            "spec.selector.matchLabels",
            "spec.selector.matchLabels",
            "spec.selector.matchExpressions[0].values",
            "spec.selector.matchExpressions[1].values",
            "spec.selector.matchExpressions[2].operator",
            "spec.selector.matchExpressions[2].key",
            "spec.selector.matchExpressions[2].key",
            "spec.selector.matchExpressions[3].values[0]",
        ]
    );
}
