//! `Impersonate-*` headers: acting as somebody else, for those who may.

use access::Attributes;
use access::authentication::AUTHENTICATED;
use http::HeaderMap;
use kube_objects::{Reason, Status, UserInfo};

use super::Server;

impl Server {
    /// The user a request acts as; each impersonated part is authorized for the real one.
    pub(super) fn impersonate(&self, user: UserInfo, headers: &HeaderMap) -> Result<UserInfo, Status> {
        let values = |name: &str| -> Vec<String> {
            headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).map(str::to_owned).collect()
        };
        let (names, groups, uids) =
            (values("impersonate-user"), values("impersonate-group"), values("impersonate-uid"));
        let Some(name) = names.first().filter(|name| !name.is_empty()) else {
            if groups.is_empty() && uids.is_empty() {
                return Ok(user);
            }
            return Err(Status::new(
                Reason::BadRequest,
                "requested groups or uid without impersonating a user",
            ));
        };
        let account = name.strip_prefix("system:serviceaccount:").and_then(|rest| rest.split_once(':'));
        let attributes = match account {
            Some((namespace, name)) => {
                Attributes::resource("impersonate", "", "serviceaccounts", namespace, name)
            }
            None => Attributes::resource("impersonate", "", "users", "", name),
        };
        self.authorize(&user, &attributes)?;
        for group in &groups {
            self.authorize(&user, &Attributes::resource("impersonate", "", "groups", "", group))?;
        }
        for uid in &uids {
            let attributes = Attributes::resource("impersonate", "authentication.k8s.io", "uids", "", uid);
            self.authorize(&user, &attributes)?;
        }
        let mut acting = UserInfo { username: name.clone(), groups, ..UserInfo::default() };
        acting.uid = uids.into_iter().next().unwrap_or_default();
        if let Some((namespace, _)) = account {
            acting.groups.push("system:serviceaccounts".to_owned());
            acting.groups.push(format!("system:serviceaccounts:{namespace}"));
        }
        if name != access::authentication::ANONYMOUS && !acting.in_group(AUTHENTICATED) {
            acting.groups.push(AUTHENTICATED.to_owned());
        }
        Ok(acting)
    }
}
