//! What to do about one object whose owners may be gone, or which is on its way out itself. Pure.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

pub(super) const FOREGROUND: &str = "foregroundDeletion";
pub(super) const ORPHAN: &str = "orphan";

/// How an owner is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// There, and staying.
    Solid,
    /// Not there, confirmed by the server.
    Absent,
    /// On its way out, and waiting for its dependents to go first.
    Waiting,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing.
    Keep,
    /// Take out the references to these owners: others keep the object alive.
    Unreference(Vec<String>),
    /// Delete the object; in the foreground when it must itself wait for its dependents.
    Delete {
        /// Wait for dependents first.
        foreground: bool,
        /// Owners need not wait for it: one of its dependents waits itself, so that they may be each other's owners.
        unblock: bool,
    },
    /// Dependents go before the object does; let it go once none of them blocks it.
    DeleteDependents,
    /// Take the object out of its dependents' references, then let it go.
    OrphanDependents,
}

/// How an object's dependents are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Dependents {
    /// Some hold the object back.
    pub(super) block: bool,
    /// Some are on their way out and wait for their own dependents.
    pub(super) wait: bool,
}

/// `owners` say how each owner in `meta` is, in order.
pub(super) fn plan(meta: &ObjectMeta, owners: &[(&OwnerReference, Owner)], dependents: Dependents) -> Step {
    let finalizers = meta.finalizers.as_deref().unwrap_or_default();
    let has = |name: &str| finalizers.iter().any(|own| own == name);
    if meta.deletion_timestamp.is_some() {
        return if has(ORPHAN) {
            Step::OrphanDependents
        } else if has(FOREGROUND) {
            Step::DeleteDependents
        } else {
            Step::Keep
        };
    }
    let gone: Vec<String> = owners
        .iter()
        .filter(|(_, state)| *state != Owner::Solid)
        .map(|(owner, _)| owner.uid.clone())
        .collect();
    if gone.is_empty() {
        return Step::Keep;
    }
    if owners.iter().any(|(_, state)| *state == Owner::Solid) {
        return Step::Unreference(gone);
    }
    let waiting = owners.iter().any(|(_, state)| *state == Owner::Waiting);
    let foreground = waiting && dependents.block;
    Step::Delete { foreground, unblock: foreground && dependents.wait }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    fn owner(uid: &str) -> OwnerReference {
        OwnerReference { uid: uid.to_owned(), ..OwnerReference::default() }
    }

    #[test]
    fn one_solid_owner_keeps_an_object() {
        let (here, away) = (owner("a"), owner("b"));
        let owners = [(&here, Owner::Solid), (&away, Owner::Absent)];
        assert_eq!(
            plan(&ObjectMeta::default(), &owners, Dependents::default()),
            Step::Unreference(vec!["b".to_owned()])
        );
        assert_eq!(plan(&ObjectMeta::default(), &owners[..1], Dependents::default()), Step::Keep);
        assert_eq!(
            plan(&ObjectMeta::default(), &[], Dependents::default()),
            Step::Keep,
            "who has no owner is nobody's garbage"
        );
    }

    #[test]
    fn without_owners_left_it_goes_and_waits_only_when_it_must() {
        let away = owner("b");
        let gone = |state, block, wait| match plan(
            &ObjectMeta::default(),
            &[(&away, state)],
            Dependents { block, wait },
        ) {
            Step::Delete { foreground, unblock } => (foreground, unblock),
            other => panic!("{other:?}"),
        };
        assert_eq!(gone(Owner::Absent, true, false), (false, false));
        assert_eq!(gone(Owner::Waiting, true, false), (true, false));
        assert_eq!(gone(Owner::Waiting, false, false), (false, false));
        assert_eq!(gone(Owner::Waiting, true, true), (true, true), "a circle must not wait for itself");
    }

    #[test]
    fn on_its_way_out_the_finalizer_decides() {
        let going = |finalizer: &str| ObjectMeta {
            deletion_timestamp: Some(Time(jiff::Timestamp::UNIX_EPOCH)),
            finalizers: Some(vec![finalizer.to_owned()]),
            ..ObjectMeta::default()
        };
        assert_eq!(
            plan(&going(FOREGROUND), &[], Dependents { block: true, wait: false }),
            Step::DeleteDependents
        );
        assert_eq!(
            plan(&going(ORPHAN), &[], Dependents { block: true, wait: false }),
            Step::OrphanDependents
        );
        assert_eq!(plan(&going("other"), &[], Dependents { block: true, wait: false }), Step::Keep);
    }
}
