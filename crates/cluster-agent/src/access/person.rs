//! By what names a person of the hub is known in this cluster. Pure.

use agent_protocol::access::MAX_GROUPS;
use http::{HeaderMap, HeaderName, HeaderValue};
use kube_objects::UserInfo;

use super::PREFIX;

/// Groups that the cluster's own API server gives, whoever asks.
const GIVEN: [&str; 2] = ["system:authenticated", "system:unauthenticated"];

/// The headers with which the agent acts as the person: every name under [`PREFIX`], so that no name of the hub is one of
/// the cluster's.
///
/// # Errors
/// What is wrong with it.
pub(super) fn impersonation(person: &UserInfo) -> Result<HeaderMap, String> {
    if person.username.is_empty() || person.username == "system:anonymous" {
        return Err("a person without a name may nothing here".to_owned());
    }
    if person.groups.len() > MAX_GROUPS {
        return Err(format!("a person of more than {MAX_GROUPS} groups may nothing here"));
    }
    let mut headers = HeaderMap::new();
    let value = |text: &str| {
        HeaderValue::from_bytes(text.as_bytes()).map_err(|_| "a name that no header can carry".to_owned())
    };
    headers.insert("impersonate-user", value(&format!("{PREFIX}{}", person.username))?);
    if !person.uid.is_empty() {
        headers.insert("impersonate-uid", value(&person.uid)?);
    }
    for group in person.groups.iter().filter(|group| !GIVEN.contains(&group.as_str())) {
        headers.append("impersonate-group", value(&format!("{PREFIX}{group}"))?);
    }
    for (key, values) in &person.extra {
        let name = format!("impersonate-extra-{}", kube_objects::extra_header_key(key).to_ascii_lowercase());
        let name: HeaderName = name.parse().map_err(|_| "a key that no header can carry".to_owned())?;
        for text in values {
            headers.append(name.clone(), value(text)?);
        }
    }
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn whoever_the_hub_names_is_nobody_of_this_cluster() {
        let users = [
            "root",
            "system:admin",
            "system:serviceaccount:kube-system:x",
            "system:node:n",
            " system:a",
            "cluster-admin",
        ];
        let groups = ["system:masters", "system:nodes", "admins", "", "system:serviceaccounts"];
        for user in users {
            let headers = impersonation(&UserInfo::new(user, &groups)).unwrap();
            for (name, value) in &headers {
                assert!(value.to_str().unwrap().starts_with(PREFIX), "{name}: {value:?}");
            }
            assert_eq!(headers.get_all("impersonate-group").iter().count(), groups.len());
        }
    }

    #[test]
    fn a_person_comes_with_uid_and_extra_and_without_what_the_server_gives() {
        let mut ada = UserInfo::new("ada", &["dev", "system:authenticated"]);
        ada.uid = "7".to_owned();
        ada.extra = BTreeMap::from([("example.org/scopes".to_owned(), vec!["a".to_owned(), "b".to_owned()])]);
        let headers = impersonation(&ada).unwrap();
        assert_eq!(headers["impersonate-user"], "cluster:hub:ada");
        assert_eq!(headers["impersonate-uid"], "7");
        assert_eq!(headers.get_all("impersonate-group").iter().collect::<Vec<_>>(), ["cluster:hub:dev"]);
        assert_eq!(headers.get_all("impersonate-extra-example.org%2fscopes").iter().count(), 2);
    }

    #[test]
    fn what_cannot_be_a_person_is_refused() {
        assert!(impersonation(&UserInfo::new("", &[])).is_err());
        assert!(impersonation(&UserInfo::new("system:anonymous", &["system:unauthenticated"])).is_err());
        assert!(impersonation(&UserInfo::new("ada\r\nx: y", &[])).is_err());
        assert!(impersonation(&UserInfo::new("ada", &["dev\n"])).is_err());
        assert!(impersonation(&UserInfo::new("ada", &["g"; MAX_GROUPS + 1])).is_err());
    }
}
