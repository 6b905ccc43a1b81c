//! When the watchers of a storage are woken: at once while they are few or little happens, else as often as they can be
//! told.
//!
//! Waking a thousand watchers for one event and then for the next costs a wake-up, an encrypted record and a system call
//! for each event and watcher, on both ends. What comes while the last wake-up is still being worked off is told with the
//! next one, in one piece.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// About what it costs to wake a watcher and write to it.
const PER_WATCHER: Duration = Duration::from_micros(10);
/// Below this nothing is put off: timers go no finer.
const SHORTEST: Duration = Duration::from_millis(1);
/// An event is put off by no more than this, however many watch.
const LONGEST: Duration = Duration::from_millis(20);

/// When watchers were woken last, and whether they will be.
#[derive(Debug, Default)]
pub(super) struct Pace(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    last: Option<Instant>,
    awaited: bool,
}

/// When to wake watchers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wake {
    /// At once.
    Now,
    /// Then, by whoever asked, who says so by [`Pace::begin`].
    At(Instant),
    /// Somebody was told to already.
    Awaited,
}

impl Pace {
    /// Something happened before so many watchers.
    pub(super) fn next(&self, now: Instant, watchers: usize) -> Wake {
        let mut state = self.0.lock();
        if state.awaited {
            return Wake::Awaited;
        }
        let count = u32::try_from(watchers).unwrap_or(u32::MAX);
        let pause = PER_WATCHER.saturating_mul(count).min(LONGEST);
        let due = state.last.filter(|_| pause >= SHORTEST).map(|last| last + pause);
        if let Some(due) = due.filter(|due| *due > now) {
            state.awaited = true;
            return Wake::At(due);
        }
        state.last = Some(now);
        Wake::Now
    }

    /// The wake-up that was awaited begins: what happens from now on is not part of it.
    pub(super) fn begin(&self, now: Instant) {
        *self.0.lock() = State { last: Some(now), awaited: false };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_watchers_are_woken_at_once_many_no_oftener_than_they_can_be_told() {
        let (start, few, many) = (Instant::now(), 99, 500);
        let pace = Pace::default();
        for _ in 0..3 {
            assert_eq!(pace.next(start, few), Wake::Now);
        }
        let due = start + PER_WATCHER * 500;
        assert_eq!(pace.next(start, many), Wake::At(due));
        assert_eq!(pace.next(start, many), Wake::Awaited);
        pace.begin(due);
        assert_eq!(pace.next(due, many), Wake::At(due + PER_WATCHER * 500));
        pace.begin(due + PER_WATCHER * 500);
        assert_eq!(pace.next(due + LONGEST, many), Wake::Now);
        assert_eq!(pace.next(due + LONGEST, 1_000_000), Wake::At(due + LONGEST * 2));
    }
}
