//! The clock seam: production code asks a [`Clock`], tests move a [`ManualClock`] by hand.
//!
//! Nothing that decides by time may call `Instant::now` or `SystemTime::now` itself, or its tests would have to sleep.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;

/// A future that ends when a sleep is over.
pub type Sleep = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A clock, shared by everything that must agree on the time.
pub type SharedClock = Arc<dyn Clock>;

/// Tells the time and waits for it.
pub trait Clock: fmt::Debug + Send + Sync + 'static {
    /// Time since some fixed point; never goes back. Only differences mean anything.
    fn monotonic(&self) -> Duration;

    /// The time of day; may jump.
    fn now(&self) -> Timestamp;

    /// Ends when `duration` has passed on this clock. Cancel safe.
    fn sleep(&self, duration: Duration) -> Sleep;
}

/// The machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl SystemClock {
    /// The machine's clock, ready to be shared.
    #[must_use]
    pub fn shared() -> SharedClock {
        Arc::new(Self)
    }
}

static ORIGIN: LazyLock<Instant> = LazyLock::new(Instant::now);

impl Clock for SystemClock {
    fn monotonic(&self) -> Duration {
        ORIGIN.elapsed()
    }

    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    fn sleep(&self, duration: Duration) -> Sleep {
        Box::pin(tokio::time::sleep(duration))
    }
}

/// A clock that stands still until a test moves it. Clones share the time.
#[derive(Clone, Debug)]
pub struct ManualClock {
    start: Timestamp,
    passed: Arc<watch::Sender<Duration>>,
}

impl ManualClock {
    /// A clock that shows `start`.
    #[must_use]
    pub fn new(start: Timestamp) -> Self {
        Self { start, passed: Arc::new(watch::Sender::new(Duration::ZERO)) }
    }

    /// Moves the time on and wakes every sleep that is over by then.
    pub fn advance(&self, by: Duration) {
        self.passed.send_modify(|passed| *passed = passed.saturating_add(by));
    }
}

impl Default for ManualClock {
    fn default() -> Self {
        Self::new(Timestamp::UNIX_EPOCH)
    }
}

impl Clock for ManualClock {
    fn monotonic(&self) -> Duration {
        *self.passed.borrow()
    }

    fn now(&self) -> Timestamp {
        let passed = SignedDuration::try_from(self.monotonic()).unwrap_or(SignedDuration::MAX);
        self.start.saturating_add(passed).unwrap_or(Timestamp::MAX)
    }

    fn sleep(&self, duration: Duration) -> Sleep {
        let deadline = self.monotonic().saturating_add(duration);
        let mut passed = self.passed.subscribe();
        Box::pin(async move {
            // An error means that the clock is gone: time will not pass any more, so the sleep never ends.
            if passed.wait_for(|now| *now >= deadline).await.is_err() {
                std::future::pending::<()>().await;
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_manual_clock_wakes_sleeps_in_its_own_time() {
        let clock = ManualClock::default();
        let hour = Duration::from_secs(3600);
        let mut sleep = clock.sleep(hour);
        clock.advance(hour - Duration::from_nanos(1));
        assert!(futures_poll(&mut sleep).await.is_none(), "a nanosecond is left");
        clock.advance(Duration::from_nanos(1));
        sleep.await;
        assert_eq!(clock.now(), Timestamp::from_second(3600).expect("in range"));
    }

    async fn futures_poll(sleep: &mut Sleep) -> Option<()> {
        tokio::time::timeout(Duration::from_millis(5), sleep).await.ok()
    }
}
