use std::cell::RefCell;

use access::authorization::MASTERS;
use http::{HeaderName, HeaderValue};

use super::*;

/// Allows what it lists, as `verb group/resource[/subresource] [namespace/]name`, and notes what it was asked.
struct Allowing {
    allowed: Vec<&'static str>,
    asked: RefCell<Vec<String>>,
}

impl Allowing {
    fn new(allowed: &[&'static str]) -> Self {
        Self { allowed: allowed.to_vec(), asked: RefCell::default() }
    }
}

impl Authority for Allowing {
    fn check(&self, user: &UserInfo, a: &Attributes) -> Result<(), Status> {
        let subresource =
            if a.subresource.is_empty() { String::new() } else { format!("/{}", a.subresource) };
        let namespace = if a.namespace.is_empty() { String::new() } else { format!("{}/", a.namespace) };
        let asked = format!("{} {}/{}{subresource} {namespace}{}", a.verb, a.group, a.resource, a.name);
        let allowed = self.allowed.contains(&asked.as_str());
        self.asked.borrow_mut().push(asked);
        if allowed { Ok(()) } else { Err(a.forbidden(user, "")) }
    }
}

fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    headers
}

fn list_pods() -> Attributes {
    Attributes::resource("list", "", "pods", "n", "")
}

fn run(
    allowed: &[&'static str],
    pairs: &[(&'static str, &'static str)],
) -> Result<Option<Impersonated>, Status> {
    let mut headers = headers(pairs);
    let requestor = UserInfo::new("ada", &[AUTHENTICATED]);
    let Some(wanted) = wanted(&mut headers)? else { return Ok(None) };
    assert!(headers.is_empty(), "the headers are taken away: {headers:?}");
    impersonated(&Allowing::new(allowed), &requestor, &wanted, &list_pods()).map(Some)
}

#[test]
fn every_part_is_authorized_the_old_way() {
    let found = run(
        &[
            "impersonate /users bob",
            "impersonate /groups dev",
            "impersonate authentication.k8s.io/uids 7",
            "impersonate authentication.k8s.io/userextras/example.org/scopes view",
        ],
        &[
            ("impersonate-user", "bob"),
            ("impersonate-group", "dev"),
            ("impersonate-uid", "7"),
            ("impersonate-extra-example.org%2fscopes", "view"),
        ],
    );
    let Impersonated { user, constraint } = found.unwrap().unwrap();
    assert_eq!(constraint, "");
    assert_eq!(user.groups, ["dev", AUTHENTICATED]);
    assert_eq!(user.uid, "7");
    assert_eq!(user.extra["example.org/scopes"], ["view"]);
}

#[test]
fn a_service_account_gets_its_groups_and_anonymous_stays_unknown() {
    let account = ("impersonate-user", "system:serviceaccount:n:a");
    let found = run(&["impersonate /serviceaccounts n/a"], &[account]).unwrap().unwrap();
    assert_eq!(found.user.groups, ["system:serviceaccounts", "system:serviceaccounts:n", AUTHENTICATED]);
    let anonymous = ("impersonate-user", ANONYMOUS);
    let found = run(&["impersonate /users system:anonymous"], &[anonymous]).unwrap().unwrap();
    assert_eq!(found.user.groups, [UNAUTHENTICATED]);
}

#[test]
fn the_constrained_way_needs_the_request_too_and_gives_nodes_their_group() {
    let node = ("impersonate-user", "system:node:n1");
    let both = [
        "impersonate-on:arbitrary-node:list /pods n/",
        "impersonate:arbitrary-node authentication.k8s.io/nodes n1",
    ];
    let found = run(&both, &[node]).unwrap().unwrap();
    assert_eq!(found.constraint, "impersonate:arbitrary-node");
    assert_eq!(found.user.groups, ["system:nodes", AUTHENTICATED]);
    let refused = run(&both[1..], &[node]).unwrap_err();
    assert_eq!(
        refused.message,
        "pods is forbidden: User \"ada\" cannot impersonate-on:arbitrary-node:list resource \"pods\" in API group \
         \"\" in the namespace \"n\""
    );
}

#[test]
fn masters_are_out_of_reach_of_the_constrained_way() {
    let allowed =
        ["impersonate-on:user-info:list /pods n/", "impersonate:user-info authentication.k8s.io/users bob"];
    let refused = run(&allowed, &[("impersonate-user", "bob"), ("impersonate-group", MASTERS)]).unwrap_err();
    assert_eq!(refused.code, 403);
    assert!(refused.message.contains("impersonating the system:masters group is not allowed"), "{refused}");
}

#[test]
fn parts_without_a_user_are_a_bad_request() {
    assert_eq!(run(&[], &[("impersonate-group", "dev")]).unwrap_err().code, 400);
    assert_eq!(run(&[], &[]).unwrap(), None);
}
