use proptest::prelude::*;

use super::*;

fn object(api_version: &str, kind: &str, namespace: Option<&str>, name: &str) -> ObjectReference {
    ObjectReference {
        api_version: api_version.to_owned(),
        kind: kind.to_owned(),
        namespace: namespace.map(str::to_owned),
        name: name.to_owned(),
    }
}

const HEAD: &str = "apiVersion: fleet.fairlead.dev/v1alpha1\nkind: Ceiling\n";

fn parse(text: &str) -> Result<Ceiling, CeilingError> {
    Ceiling::parse(&format!("{HEAD}{text}"))
}

#[test]
fn rules_match_by_group_kind_namespace_name_and_verb() {
    let ceiling = parse(
        "allow:\n- apiGroups: ['', apps]\n  namespaces: [shop, team-*]\n- kinds: [PriorityClass]\n\
         deny:\n- kinds: [Secret]\n  names: [root-*]\n- verbs: [Delete]\n  kinds: [Deployment]\n",
    )
    .unwrap();
    for (object, verb, allowed) in [
        (object("v1", "ConfigMap", Some("shop"), "a"), Verb::Apply, true),
        (object("v1", "ConfigMap", Some("team-a"), "a"), Verb::Delete, true),
        (object("v1", "ConfigMap", Some("shopping"), "a"), Verb::Apply, false),
        (object("v1", "Namespace", None, "shop"), Verb::Apply, true),
        (object("v1", "Namespace", None, "other"), Verb::Apply, false),
        (object("v1", "Node", None, "shop"), Verb::Apply, false),
        (object("batch/v1", "Job", Some("shop"), "a"), Verb::Apply, false),
        (object("scheduling.k8s.io/v1", "PriorityClass", None, "high"), Verb::Apply, true),
        (object("v1", "Secret", Some("shop"), "root-ca"), Verb::Apply, false),
        (object("v1", "Secret", Some("shop"), "own"), Verb::Apply, true),
        (object("apps/v1", "Deployment", Some("shop"), "a"), Verb::Apply, true),
        (object("apps/v1", "Deployment", Some("shop"), "a"), Verb::Delete, false),
    ] {
        assert_eq!(ceiling.check(&object, verb).is_ok(), allowed, "{object:?} {verb:?}");
    }
}

#[test]
fn the_builtin_ceiling_makes_nobody_an_administrator() {
    let builtin = Ceiling::builtin();
    let text = serde_json::to_string(&builtin).unwrap();
    assert_eq!(Ceiling::parse(&text).unwrap(), builtin, "it can be written down and read back");
    for forbidden in [
        object("rbac.authorization.k8s.io/v1", "ClusterRoleBinding", None, "x"),
        object("admissionregistration.k8s.io/v1", "MutatingWebhookConfiguration", None, "x"),
        object("apiregistration.k8s.io/v1", "APIService", None, "v1.apps"),
        object("v1", "Secret", Some("kube-system"), "x"),
        object("v1", "Namespace", None, "kube-system"),
        object("v1", "ConfigMap", Some("fairlead-system"), "fairlead-ceiling"),
        object("v1", "ServiceAccount", Some("fairlead-profiles"), "x"),
    ] {
        assert!(builtin.check(&forbidden, Verb::Apply).is_err(), "{forbidden:?}");
        assert!(builtin.check(&forbidden, Verb::Delete).is_err(), "{forbidden:?}");
    }
    assert!(builtin.check(&object("v1", "ConfigMap", Some("default"), "x"), Verb::Apply).is_ok());
}

#[test]
fn what_is_half_understood_is_refused() {
    for bad in [
        "alow: []",
        "allow: [{kind: Secret}]",
        "allow: [{namespaces: ['a*b']}]",
        "podSecurity: relaxed",
        "deletions: {maxPercent: 200}",
        "releases: {threshold: 1}",
        "releases: {threshold: 3, keys: [{name: a, publicKey: nonsense}]}",
        "identity: Root",
    ] {
        assert!(parse(bad).is_err(), "{bad}");
    }
    assert!(Ceiling::parse("").is_err() && Ceiling::parse("apiVersion: v1\nkind: Ceiling\n").is_err());
    let plain = parse("").unwrap();
    assert_eq!((plain.identity, plain.pod_security), (Identity::PerProfile, PodSecurity::Baseline));
}

#[test]
fn deletions_are_confirmed_by_whom_the_owner_named() {
    let local = parse("deletions: {confirm: Local, confirmed: [default.app@7]}").unwrap().deletions;
    assert!(local.is_confirmed("default.app", 7, false));
    assert!(!local.is_confirmed("default.app", 8, true));
    assert!(Deletions::default().is_confirmed("default.app", 8, true));
}

proptest! {
    /// No document, whatever it allows, opens the namespaces that the agent's own safety rests on.
    #[test]
    fn protected_namespaces_stay_closed(kind in "[A-Z][a-z]{1,8}", name in "[a-z]{1,8}", at in 0usize..2, delete: bool) {
        let open = parse("allow: [{}]\npodSecurity: privileged\nidentity: Agent\n").unwrap();
        let verb = if delete { Verb::Delete } else { Verb::Apply };
        let inside = object("v1", &kind, Some(PROTECTED_NAMESPACES[at]), &name);
        prop_assert!(open.check(&inside, verb).is_err());
        prop_assert!(open.check(&object("v1", &kind, Some("other"), &name), verb).is_ok());
    }

    /// However the clock jumps, no hour by the clock of the budget holds more than was noted, and what was noted last
    /// counts.
    #[test]
    fn a_clock_that_jumps_opens_no_budget(steps in prop::collection::vec((-7200i64..7200, 1u32..5), 1..50)) {
        let (mut spent, mut now) = (Spent::default(), 1_000_000_i64);
        for (step, count) in steps {
            now += step;
            let now = jiff::Timestamp::from_second(now).unwrap();
            let before = spent.within_hour(now);
            spent.note(now, count);
            prop_assert!(spent.within_hour(now) >= before.min(u32::MAX - count).max(count));
        }
    }
}
