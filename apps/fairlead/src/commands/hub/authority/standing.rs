//! How far a cluster is in a rotation of the hub's authority, by what the hub knows of it: whom its agent said it trusts, and
//! who signed its newest certificate. Pure.

use assembly::authority::Rotation;
use fleet_objects::{Cluster, condition_is_true};
use jiff::Timestamp;
use kube::ResourceExt;
use serde::Serialize;

use crate::output::Columns;

/// Clusters that a refusal names.
const NAMED: usize = 10;

/// A step that leaves behind who is not so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The next authority signs: who does not trust it does not come back.
    Switch,
    /// What the previous one signed is good no more: who shows such a certificate is cut off, and comes back by its key.
    Finish,
}

impl Step {
    /// The step that comes now.
    pub(super) fn of(rotation: &Rotation) -> Self {
        if rotation.previous.is_some() { Self::Finish } else { Self::Switch }
    }

    pub(super) fn is_next(self, rotation: &Rotation) -> bool {
        match self {
            Self::Switch => rotation.next.is_some(),
            Self::Finish => rotation.previous.is_some(),
        }
    }
}

/// What the hub knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Answer {
    Yes,
    No,
    NotKnown,
}

impl Answer {
    fn text(self) -> &'static str {
        match self {
            Self::Yes => "yes",
            Self::No => "no",
            Self::NotKnown => "not known",
        }
    }
}

/// How far a cluster is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Standing {
    pub(super) cluster: String,
    connected: bool,
    /// Whether its agent trusts the authority that will sign, or that signs when none is prepared.
    trusts_it: Answer,
    /// Whether that authority signed the agent's newest certificate.
    signed_by_it: Answer,
    /// When that certificate ends.
    certificate_ends: String,
}

pub(super) const COLUMNS: Columns<'_> =
    Columns { always: &["CLUSTER", "CONNECTED", "TRUSTS-IT", "SIGNED-BY-IT"], wide: &["CERTIFICATE-ENDS"] };

pub(super) fn row(one: &Standing) -> Vec<String> {
    vec![
        one.cluster.clone(),
        if one.connected { "True" } else { "False" }.to_owned(),
        one.trusts_it.text().to_owned(),
        one.signed_by_it.text().to_owned(),
        one.certificate_ends.clone(),
    ]
}

impl Standing {
    /// None: nothing is lost with it, for it has not joined or is revoked.
    pub(super) fn of(cluster: &Cluster, rotation: &Rotation) -> Option<Self> {
        let status = cluster.status.as_ref()?;
        let registration = status.registration.as_ref().filter(|_| !cluster.spec.revoked)?;
        let coming = rotation.next.as_ref().unwrap_or(&rotation.current);
        let trusts_it = match status.trusted_authorities.as_slice() {
            [] => Answer::NotKnown,
            all if all.contains(coming) => Answer::Yes,
            _ => Answer::No,
        };
        let signed_by_it = match &registration.authority {
            None => Answer::NotKnown,
            Some(signer) if signer == coming => Answer::Yes,
            Some(_) => Answer::No,
        };
        Some(Self {
            cluster: cluster.name_any(),
            connected: condition_is_true(&status.conditions, "Connected"),
            trusts_it,
            signed_by_it,
            certificate_ends: registration.not_after.clone(),
        })
    }

    /// What is missing before a step; none: it may be taken.
    fn lacks(&self, step: Step, now: Timestamp) -> Option<&'static str> {
        let over = self.certificate_ends.parse::<Timestamp>().is_ok_and(|ends| ends <= now);
        match (self.trusts_it, self.signed_by_it) {
            (Answer::No, _) => Some("does not trust it"),
            (Answer::NotKnown, _) => Some("it is not known whether it trusts it"),
            // What is good no more is not lost.
            (Answer::Yes, Answer::No | Answer::NotKnown) if step == Step::Finish && !over => {
                Some("has a certificate of the previous one")
            }
            (Answer::Yes, _) => None,
        }
    }
}

/// Who is not so far, in a sentence; none: everybody is.
pub(super) fn behind(standings: &[Standing], step: Step, now: Timestamp) -> Option<String> {
    let behind: Vec<String> = standings
        .iter()
        .filter_map(|one| {
            let why = one.lacks(step, now)?;
            let away = if one.connected { "" } else { ", and it is away" };
            Some(format!("{} ({why}{away})", one.cluster))
        })
        .collect();
    let more = match behind.len().checked_sub(NAMED) {
        None | Some(0) => String::new(),
        Some(more) => format!(" and {more} more"),
    };
    let named = behind.iter().take(NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
    let (clusters, have) = if behind.len() == 1 { ("cluster", "has") } else { ("clusters", "have") };
    let told = format!("{} {clusters} {have} not taken the authority: {named}{more}", behind.len());
    (!behind.is_empty()).then_some(told)
}

#[cfg(test)]
mod tests {
    use fleet_objects::{ClusterSpec, ClusterStatus, Registration};

    use super::*;

    fn rotation(next: Option<&str>, previous: Option<&str>) -> Rotation {
        let owned = |pin: Option<&str>| pin.map(str::to_owned);
        Rotation { current: "now".to_owned(), next: owned(next), previous: owned(previous) }
    }

    fn cluster(name: &str, trusted: &[&str], signer: Option<&str>) -> Cluster {
        let registration = Registration {
            public_key_sha256: String::new(),
            not_after: "1970-01-02T00:00:00Z".to_owned(),
            authority: signer.map(str::to_owned),
        };
        let status = ClusterStatus {
            registration: Some(registration),
            trusted_authorities: trusted.iter().map(|&pin| pin.to_owned()).collect(),
            ..ClusterStatus::default()
        };
        Cluster { status: Some(status), ..Cluster::new(name, ClusterSpec::default()) }
    }

    fn told(clusters: &[Cluster], rotation: &Rotation, at: i64) -> Option<String> {
        let standings: Vec<Standing> =
            clusters.iter().filter_map(|one| Standing::of(one, rotation)).collect();
        behind(&standings, Step::of(rotation), Timestamp::from_second(at).expect("a time"))
    }

    #[test]
    fn nobody_is_left_behind_unnamed_at_a_switch() {
        let prepared = rotation(Some("next"), None);
        let both = cluster("both", &["next", "now"], Some("now"));
        assert_eq!(told(std::slice::from_ref(&both), &prepared, 0), None, "it need not be signed by it yet");
        let behind = [both, cluster("late", &["now"], Some("now")), cluster("older", &[], None)];
        let expected = "2 clusters have not taken the authority: late (does not trust it, and it is away), \
                        older (it is not known whether it trusts it, and it is away)";
        assert_eq!(told(&behind, &prepared, 0).as_deref(), Some(expected));
        let many: Vec<Cluster> = (0..25).map(|number| cluster(&format!("c{number}"), &[], None)).collect();
        let told = told(&many, &prepared, 0).expect("some");
        assert!(told.starts_with("25 clusters") && told.ends_with(" and 15 more"), "{told}");
    }

    #[test]
    fn at_the_end_certificates_count_that_are_good_still() {
        let switched = rotation(None, Some("before"));
        let renewed = cluster("renewed", &["before", "now"], Some("now"));
        assert_eq!(told(&[renewed], &switched, 0), None);
        for signer in [Some("before"), None] {
            let waits = cluster("waits", &["before", "now"], signer);
            assert!(
                told(std::slice::from_ref(&waits), &switched, 0)
                    .is_some_and(|told| told.contains("waits (has"))
            );
            assert_eq!(told(&[waits], &switched, 100_000), None, "it has ended and is renewed by the key");
        }
    }

    #[test]
    fn with_whom_nothing_is_lost_is_not_waited_for() {
        let prepared = rotation(Some("next"), None);
        let mut revoked = cluster("revoked", &[], None);
        revoked.spec.revoked = true;
        let never = Cluster::new("never", ClusterSpec::default());
        assert_eq!(told(&[revoked, never], &prepared, 0), None);
        assert!(Step::Switch.is_next(&prepared) && !Step::Finish.is_next(&prepared));
    }
}
