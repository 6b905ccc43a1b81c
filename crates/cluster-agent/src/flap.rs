//! When two writers fight over an object: how long to wait before repairing it again. Pure.

use std::time::Duration;

/// Repairs in quick succession that are still taken for honest drift.
const TOLERATED: u32 = 5;
/// A repair is forgotten after this long, or after twice the last wait where that is longer: a fighter that answers at
/// once must not look peaceful because we are slow.
const FORGET: Duration = Duration::from_secs(10);
/// The first wait, doubled with each further repair.
const FIRST: Duration = Duration::from_secs(1);
/// The longest wait.
const LONGEST: Duration = Duration::from_secs(300);

/// The recent repairs of one object. Times are since any fixed moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Repairs {
    recent: u32,
    last: Duration,
    waits: u32,
    not_before: Duration,
}

impl Repairs {
    /// How long a repair must wait now; zero: at once.
    pub(crate) fn wait(&self, now: Duration) -> Duration {
        self.not_before.saturating_sub(now)
    }

    /// Notes a repair. True when this is a fight.
    pub(crate) fn note(&mut self, now: Duration) -> bool {
        let period = FORGET.max(self.last_wait() * 2);
        let forgotten = now.saturating_sub(self.last).as_secs() / period.as_secs().max(1);
        self.recent = self.recent.saturating_sub(u32::try_from(forgotten).unwrap_or(u32::MAX)) + 1;
        self.last = now;
        if self.recent <= TOLERATED {
            self.waits = 0;
            return false;
        }
        self.recent = TOLERATED + 1;
        self.waits = (self.waits + 1).min(16);
        self.not_before = now + self.last_wait();
        true
    }

    /// Whether nothing had to be repaired for so long that a fight is over.
    pub(crate) fn is_calm(&self, now: Duration) -> bool {
        now.saturating_sub(self.last) > FORGET.max(self.last_wait() * 2)
    }

    fn last_wait(&self) -> Duration {
        match self.waits {
            0 => Duration::ZERO,
            waits => (FIRST * 2_u32.saturating_pow(waits - 1)).min(LONGEST),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_repairs_are_immediate_and_a_fight_slows_down() {
        let mut repairs = Repairs::default();
        let mut now = Duration::ZERO;
        for _ in 0..TOLERATED {
            assert_eq!(repairs.wait(now), Duration::ZERO);
            assert!(!repairs.note(now));
            now += Duration::from_millis(10);
        }
        let mut last = Duration::ZERO;
        for _ in 0..12 {
            assert!(repairs.note(now));
            let wait = repairs.wait(now);
            assert!(wait >= last && wait <= LONGEST);
            (last, now) = (wait, now + wait);
        }
        assert_eq!(last, LONGEST);
        assert!(!repairs.is_calm(now));
        now += Duration::from_secs(3600);
        assert!(repairs.is_calm(now));
        assert!(!repairs.note(now), "peace after an hour");
        assert_eq!(repairs.wait(now), Duration::ZERO);
    }
}
