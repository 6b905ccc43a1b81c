//! How many pods each ReplicaSet of a Deployment should have next. Pure arithmetic.

/// A ReplicaSet, as far as the arithmetic goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Size {
    /// Pods asked for.
    pub(super) replicas: i32,
    /// Pods available.
    pub(super) available: i32,
    /// The most pods the whole Deployment could have when this set was last sized.
    pub(super) max_replicas: i32,
}

/// What the rollout may do.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) desired: i32,
    pub(super) surge: i32,
    pub(super) unavailable: i32,
}

/// One step of a rolling update: the new sizes of the new set and of the old ones (oldest first).
pub(super) fn rolling(new: Size, old: &[Size], limits: Limits) -> (i32, Vec<i32>) {
    let total = new.replicas + old.iter().map(|size| size.replicas).sum::<i32>();
    let mut sizes: Vec<i32> = old.iter().map(|size| size.replicas).collect();
    if new.replicas > limits.desired {
        return (limits.desired, sizes);
    }
    let room = (limits.desired + limits.surge - total).max(0);
    let grown = new.replicas + room.min(limits.desired - new.replicas);
    let min_available = limits.desired - limits.unavailable;
    let new_unavailable = (new.replicas - new.available).max(0);
    // What may go without falling under the minimum even if no unavailable new pod ever becomes available.
    let mut may_go = (total - min_available - new_unavailable).max(0);
    // Pods that serve nobody go first.
    for (size, next) in old.iter().zip(&mut sizes) {
        let cut = may_go.min(size.replicas - size.available.min(size.replicas));
        *next -= cut;
        may_go -= cut;
    }
    let available = new.available.min(new.replicas)
        + old.iter().map(|size| size.available.min(size.replicas)).sum::<i32>();
    let mut spare = (available - min_available).max(0).min(may_go);
    for next in &mut sizes {
        let cut = spare.min(*next);
        *next -= cut;
        spare -= cut;
    }
    (grown, sizes)
}

/// Spreads a change of the wanted size over several sets in proportion to their sizes, so that a rollout under way
/// keeps its balance. What rounding leaves over goes to the first set. `sizes` should come largest first.
pub(super) fn proportional(sizes: &[Size], limits: Limits) -> Vec<i32> {
    let total: i32 = sizes.iter().map(|size| size.replicas).sum();
    let allowed = if limits.desired > 0 { limits.desired + limits.surge } else { 0 };
    let to_add = allowed - total;
    let mut added = 0;
    let mut next: Vec<i32> = sizes
        .iter()
        .map(|size| {
            let base = i64::from(if size.max_replicas > 0 { size.max_replicas } else { total.max(1) });
            let ideal = (2 * i64::from(size.replicas) * i64::from(allowed) + base) / (2 * base);
            let fair = i32::try_from(ideal).unwrap_or(i32::MAX) - size.replicas;
            let left = to_add - added;
            let part = if to_add >= 0 { fair.clamp(0, left.max(0)) } else { fair.clamp(left.min(0), 0) };
            added += part;
            size.replicas + part
        })
        .collect();
    if let Some(first) = next.first_mut() {
        *first = (*first + to_add - added).max(0);
    }
    next
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn size(replicas: i32, available: i32) -> Size {
        Size { replicas, available, max_replicas: 0 }
    }

    #[test]
    fn grows_to_the_surge_and_shrinks_what_may_be_missing() {
        let limits = Limits { desired: 4, surge: 1, unavailable: 1 };
        assert_eq!(rolling(size(0, 0), &[size(4, 4)], limits), (1, vec![3]));
        assert_eq!(rolling(size(1, 0), &[size(3, 3)], limits), (2, vec![3]));
        assert_eq!(rolling(size(2, 2), &[size(3, 3)], limits), (2, vec![1]));
    }

    #[test]
    fn broken_old_pods_go_first() {
        let limits = Limits { desired: 4, surge: 1, unavailable: 0 };
        assert_eq!(
            rolling(size(1, 0), &[size(4, 2)], limits),
            (1, vec![4]),
            "the minimum is not reached yet"
        );
        let limits = Limits { desired: 4, surge: 1, unavailable: 2 };
        assert_eq!(rolling(size(1, 1), &[size(2, 0), size(2, 2)], limits).1, [0, 1]);
    }

    #[test]
    fn scaling_keeps_proportions() {
        let limits = Limits { desired: 20, surge: 2, unavailable: 0 };
        let sized = |replicas| Size { replicas, available: replicas, max_replicas: 11 };
        assert_eq!(proportional(&[sized(8), sized(3)], limits), [16, 6]);
    }

    proptest! {
        #[test]
        fn never_over_the_surge_nor_under_the_minimum(
            desired in 0..50_i32, surge in 0..10_i32, unavailable in 0..10_i32,
            new in 0..50_i32, new_ready in 0..50_i32, old in prop::collection::vec((0..20_i32, 0..20_i32), 0..4),
        ) {
            prop_assume!(surge > 0 || unavailable > 0);
            let unavailable = unavailable.min(desired);
            let limits = Limits { desired, surge, unavailable };
            let new = size(new.min(desired), new_ready.min(new).min(desired));
            let old: Vec<Size> = old.into_iter().map(|(replicas, ready)| size(replicas, ready.min(replicas))).collect();
            let total = new.replicas + old.iter().map(|size| size.replicas).sum::<i32>();
            let available = new.available + old.iter().map(|size| size.available).sum::<i32>();
            let (grown, sizes) = rolling(new, &old, limits);
            prop_assert!(grown >= new.replicas && grown <= desired);
            prop_assert!(grown + old.iter().map(|size| size.replicas).sum::<i32>() <= total.max(desired + surge));
            // What is left of the available ones, if everything cut was available beyond the unavailable.
            let left: i32 = new.available + sizes.iter().zip(&old).map(|(next, size)| size.available.min(*next)).sum::<i32>();
            prop_assert!(left >= available.min(desired - unavailable), "{left} of {available}");
        }

        #[test]
        fn a_rollout_always_ends(desired in 1..40_i32, surge in 0..5_i32, unavailable in 0..5_i32, start in 0..40_i32) {
            prop_assume!(surge > 0 || unavailable > 0);
            let limits = Limits { desired, surge, unavailable: unavailable.min(desired) };
            let (mut new, mut old) = (size(0, 0), size(start, start));
            for _ in 0..200 {
                let (grown, sizes) = rolling(new, &[old], limits);
                new = size(grown, grown);
                old = size(sizes[0], sizes[0]);
            }
            prop_assert_eq!((new.replicas, old.replicas), (desired, 0));
        }
    }
}
