//! The hold of a cluster's owner: an annotation on the cluster's own namespace `kube-system`, in nobody's hands but theirs.
//! While it is there no change of a profile begins; what was enforced before stays enforced and repaired.

use std::collections::BTreeMap;

use fleet_objects::{ANNOTATION_HOLD, ANNOTATION_HOLD_ONE};
use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, Client};

use crate::error::Error;

/// Where it is said: the namespace by whose uid a cluster is known.
const NAMESPACE: &str = "kube-system";
/// Characters of a reason that are told.
const MAX_REASON: usize = 512;

/// What the owner holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Holds(BTreeMap<String, String>);

impl Holds {
    /// Asks the cluster.
    ///
    /// # Errors
    /// When it does not answer: then nothing is known, and nothing begins.
    pub(crate) async fn read(client: &Client) -> Result<Self, Error> {
        let api: Api<Namespace> = Api::all(client.clone());
        let found = api.get(NAMESPACE).await;
        let found =
            found.map_err(Error::cluster(format!("read the annotations of namespace {NAMESPACE}")))?;
        Ok(Self::of(found.metadata.annotations.unwrap_or_default()))
    }

    fn of(mut annotations: BTreeMap<String, String>) -> Self {
        annotations.retain(|key, _| key == ANNOTATION_HOLD || key.starts_with(ANNOTATION_HOLD_ONE));
        Self(annotations)
    }

    /// Why nothing may change, if so.
    pub(crate) fn everything(&self) -> Option<String> {
        self.0.get(ANNOTATION_HOLD).map(|reason| shortened(reason))
    }

    /// Why an assignment may not change, if so.
    pub(crate) fn of_assignment(&self, name: &str) -> Option<String> {
        let one = || self.0.get(&format!("{ANNOTATION_HOLD_ONE}{name}")).map(|reason| shortened(reason));
        self.everything().or_else(one)
    }
}

fn shortened(reason: &str) -> String {
    let reason: String = reason.trim().chars().take(MAX_REASON).collect();
    if reason.is_empty() { "no reason is given".to_owned() } else { reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_or_one_profile_is_held() {
        let of = |pairs: &[(&str, &str)]| {
            Holds::of(pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect())
        };
        let none = of(&[("other", "x"), ("fleet.fairlead.dev/holder", "x")]);
        assert_eq!((none.everything(), none.of_assignment("default.app")), (None, None));
        let one = of(&[("hold.fleet.fairlead.dev/default.app", " audit ")]);
        assert_eq!((one.everything(), one.of_assignment("default.app")), (None, Some("audit".to_owned())));
        assert_eq!(one.of_assignment("default.ap"), None);
        let all = of(&[("fleet.fairlead.dev/hold", "")]);
        assert_eq!(all.of_assignment("any.thing"), Some("no reason is given".to_owned()));
    }
}
