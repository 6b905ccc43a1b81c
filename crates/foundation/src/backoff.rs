//! How long to wait after a failure.

use std::time::Duration;

use crate::random::Random;

/// Waits that double from `initial` to `maximum`, spread by `jitter` so that many who failed together don't come back
/// together.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Backoff {
    /// After the first failure.
    pub initial: Duration,
    /// Never longer than this.
    pub maximum: Duration,
    /// The share of a wait that chance may take away, from 0 (none) to 1 (all of it).
    pub jitter: f64,
}

impl Backoff {
    /// Doubling from `initial` to `maximum` with a fifth of jitter.
    #[must_use]
    pub const fn new(initial: Duration, maximum: Duration) -> Self {
        Self { initial, maximum, jitter: 0.2 }
    }

    /// The wait after the `failures`-th failure in a row; none after no failure.
    #[must_use]
    pub fn delay(&self, failures: u32, random: &dyn Random) -> Duration {
        if failures == 0 {
            return Duration::ZERO;
        }
        // 2^31 times anything useful is beyond every maximum.
        let factor = 1_u32 << (failures - 1).min(31);
        let full = self.initial.checked_mul(factor).unwrap_or(self.maximum).min(self.maximum);
        full.mul_f64(1.0 - self.jitter.clamp(0.0, 1.0) * random.unit())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::SeededRandom;

    #[test]
    fn doubles_up_to_the_maximum_and_jitter_only_shortens() {
        let backoff = Backoff::new(Duration::from_millis(10), Duration::from_secs(1));
        let random = SeededRandom::new(7);
        assert_eq!(backoff.delay(0, &random), Duration::ZERO);
        for (failures, full) in [(1, 10), (2, 20), (3, 40), (7, 640), (8, 1000), (40, 1000), (u32::MAX, 1000)]
        {
            let full = Duration::from_millis(full);
            let delay = backoff.delay(failures, &random);
            assert!(delay <= full && delay >= full.mul_f64(0.8), "{failures}: {delay:?}");
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_waits() {
        let backoff = Backoff::new(Duration::from_millis(10), Duration::from_secs(1));
        let waits = |seed| {
            let random = SeededRandom::new(seed);
            (1..5).map(|failures| backoff.delay(failures, &random)).collect::<Vec<_>>()
        };
        assert_eq!(waits(1), waits(1));
        assert_ne!(waits(1), waits(2));
    }
}
