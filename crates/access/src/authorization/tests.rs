use serde_json::json;

use super::*;

fn role(name: &str, rules: Value) -> Value {
    json!({"kind": "ClusterRole", "metadata": {"name": name}, "rules": rules})
}

fn bind(name: &str, role: &str, subject: Value) -> Value {
    json!({"kind": "ClusterRoleBinding", "metadata": {"name": name},
        "roleRef": {"kind": "ClusterRole", "name": role}, "subjects": [subject]})
}

fn authorizer(objects: &[Value]) -> Authorizer {
    let authorizer = Authorizer::new();
    authorizer.apply_all(objects).unwrap();
    authorizer
}

fn pods(verbs: &[&str]) -> Value {
    json!([{"apiGroups": [""], "resources": ["pods", "pods/log"], "verbs": verbs}])
}

fn ask(verb: &str, namespace: &str) -> Attributes {
    Attributes::resource(verb, "", "pods", namespace, "a")
}

#[test]
fn nobody_may_do_anything_but_masters() {
    let authorizer = Authorizer::new();
    assert!(
        !authorizer.authorize(&UserInfo::new("ada", &["system:authenticated"]), &ask("get", "n")).allowed
    );
    assert!(authorizer.authorize(&UserInfo::new("x", &[MASTERS]), &ask("get", "n")).allowed);
}

#[test]
fn the_reason_names_binding_role_and_subject() {
    let group = json!({"kind": "Group", "name": "dev"});
    let authorizer = authorizer(&[role("reader", pods(&["get"])), bind("readers", "reader", group)]);
    let ada = UserInfo::new("ada", &["dev"]);
    let decision = authorizer.authorize(&ada, &ask("get", "n"));
    assert_eq!(
        decision.reason,
        "RBAC: allowed by ClusterRoleBinding \"readers\" of ClusterRole \"reader\" to Group \"dev\""
    );
    assert!(!authorizer.authorize(&ada, &ask("delete", "n")).allowed);
    assert!(authorizer.authorize(&ada, &ask("get", "n").with_subresource("log")).allowed);
    assert!(!authorizer.authorize(&ada, &ask("get", "n").with_subresource("exec")).allowed);
}

#[test]
fn a_role_binding_reaches_its_namespace_only() {
    let objects = [
        role("reader", pods(&["get"])),
        json!({"kind": "RoleBinding", "metadata": {"name": "b", "namespace": "n"},
            "roleRef": {"kind": "ClusterRole", "name": "reader"},
            "subjects": [{"kind": "ServiceAccount", "name": "sa"}]}),
    ];
    let authorizer = authorizer(&objects);
    let account = UserInfo::new("system:serviceaccount:n:sa", &[]);
    let decision = authorizer.authorize(&account, &ask("get", "n"));
    assert_eq!(
        decision.reason,
        "RBAC: allowed by RoleBinding \"b/n\" of ClusterRole \"reader\" to ServiceAccount \"sa/n\""
    );
    assert!(!authorizer.authorize(&account, &ask("get", "m")).allowed);
    assert!(!authorizer.authorize(&account, &ask("get", "")).allowed);
    authorizer.remove(RbacKind::RoleBinding, "n", "b");
    assert!(!authorizer.authorize(&account, &ask("get", "n")).allowed);
}

#[test]
fn resource_names_subresource_stars_and_paths() {
    let rules = json!([
        {"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["one"], "verbs": ["get"]},
        {"apiGroups": ["*"], "resources": ["*/scale"], "verbs": ["update"]},
        {"nonResourceURLs": ["/healthz", "/metrics*"], "verbs": ["get"]},
    ]);
    let authorizer = authorizer(&[role("r", rules), bind("b", "r", json!({"kind": "User", "name": "u"}))]);
    let user = UserInfo::new("u", &[]);
    let allowed = |attributes: Attributes| authorizer.authorize(&user, &attributes).allowed;
    assert!(allowed(Attributes::resource("get", "", "secrets", "n", "one")));
    assert!(!allowed(Attributes::resource("get", "", "secrets", "n", "two")));
    assert!(!allowed(Attributes::resource("get", "", "secrets", "n", "")));
    let deployments = Attributes::resource("update", "apps", "deployments", "n", "d");
    assert!(allowed(deployments.clone().with_subresource("scale")));
    assert!(!allowed(deployments.clone().with_subresource("status")));
    assert!(!allowed(deployments));
    assert!(allowed(Attributes::path("get", "/metrics/cadvisor")));
    assert!(allowed(Attributes::path("get", "/healthz")));
    assert!(!allowed(Attributes::path("get", "/healthz/etcd")));
    assert!(!allowed(Attributes::path("post", "/healthz")));
}

#[test]
fn aggregation_follows_labels_through_other_aggregations() {
    let aggregating = |name: &str, selects: &str, labels: Value| {
        json!({"kind": "ClusterRole", "metadata": {"name": name, "labels": labels}, "rules": null,
            "aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {selects: "true"}}]}})
    };
    let mut leaf = role("leaf", pods(&["get"]));
    leaf["metadata"]["labels"] = json!({"to-edit": "true"});
    let authorizer = authorizer(&[
        aggregating("admin", "to-admin", json!({})),
        aggregating("edit", "to-edit", json!({"to-admin": "true"})),
        leaf,
        bind("b", "admin", json!({"kind": "User", "name": "u"})),
    ]);
    let user = UserInfo::new("u", &[]);
    assert!(authorizer.authorize(&user, &ask("get", "n")).allowed);
    authorizer.remove(RbacKind::ClusterRole, "", "leaf");
    assert!(!authorizer.authorize(&user, &ask("get", "n")).allowed);
}

#[test]
fn a_missing_role_is_told() {
    let authorizer = authorizer(&[bind("b", "gone", json!({"kind": "User", "name": "u"}))]);
    let decision = authorizer.authorize(&UserInfo::new("u", &[]), &ask("get", "n"));
    assert_eq!(decision.reason, "RBAC: clusterrole.rbac.authorization.k8s.io \"gone\" not found");
}

#[test]
fn nobody_grants_what_they_do_not_hold() {
    let authorizer = authorizer(&[
        role("reader", pods(&["get", "list"])),
        role("admin", pods(&["*"])),
        bind("b", "reader", json!({"kind": "User", "name": "u"})),
    ]);
    let user = UserInfo::new("u", &["g"]);
    let reference = |name: &str| RoleReference { kind: "ClusterRole".into(), name: name.into() };
    let rules = |value: Value| serde_json::from_value::<Vec<PolicyRule>>(value).unwrap();
    let check =
        |wanted: Value| authorizer.check_escalation(&user, &reference("r"), "", &rules(wanted), false);
    assert!(check(pods(&["get"])).is_ok());
    let refused = check(pods(&["get", "delete", "update"])).unwrap_err();
    assert_eq!(refused.code, 403);
    assert_eq!(
        refused.message,
        "clusterroles.rbac.authorization.k8s.io \"r\" is forbidden: user \"u\" (groups=[\"g\"]) is attempting to \
         grant RBAC permissions not currently held:\n\
         {APIGroups:[\"\"], Resources:[\"pods\"], Verbs:[\"delete\" \"update\"]}\n\
         {APIGroups:[\"\"], Resources:[\"pods/log\"], Verbs:[\"delete\" \"update\"]}"
    );
    assert!(authorizer.check_bind(&user, &reference("reader"), "n", "x").is_ok());
    assert_eq!(authorizer.check_bind(&user, &reference("admin"), "n", "x").unwrap_err().code, 403);
    assert_eq!(authorizer.check_bind(&user, &reference("none"), "n", "x").unwrap_err().code, 404);
    assert!(
        authorizer.check_escalation(&user, &reference("r"), "", &[], true).is_err(),
        "aggregation needs all"
    );
}

#[test]
fn escalate_and_bind_verbs_lift_the_checks() {
    let rules = json!([{"apiGroups": [GROUP], "resources": ["clusterroles"], "verbs": ["bind", "escalate"]}]);
    let authorizer = authorizer(&[
        role("granter", rules),
        role("admin", pods(&["*"])),
        bind("b", "granter", json!({"kind": "User", "name": "u"})),
    ]);
    let user = UserInfo::new("u", &[]);
    let reference = RoleReference { kind: "ClusterRole".into(), name: "admin".into() };
    assert!(authorizer.check_bind(&user, &reference, "n", "x").is_ok());
    assert!(authorizer.check_escalation(&user, &reference, "", &PolicyRule::everything(), true).is_ok());
}

#[test]
fn forbidden_is_worded_as_upstream() {
    let user = UserInfo::new("u", &[]);
    assert_eq!(
        ask("get", "n").forbidden(&user, "").message,
        "pods \"a\" is forbidden: User \"u\" cannot get resource \"pods\" in API group \"\" in the namespace \"n\""
    );
    assert_eq!(
        Attributes::resource("list", "apps", "deployments", "", "").forbidden(&user, "why").message,
        "deployments.apps is forbidden: User \"u\" cannot list resource \"deployments\" in API group \"apps\" at the \
         cluster scope: why"
    );
    assert_eq!(
        Attributes::path("get", "/x").forbidden(&user, "").message,
        "forbidden: User \"u\" cannot get path \"/x\""
    );
}
