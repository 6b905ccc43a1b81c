//! Notices that nothing has been said for long.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// How long a session may be silent, as upstream's kubelet and API server have it (4 h).
pub const IDLE_LIMIT: Duration = Duration::from_secs(4 * 60 * 60);

/// When something was last said. Cheap to clone; clones share the time.
#[derive(Clone, Debug)]
pub struct Idle {
    last: Arc<Mutex<Instant>>,
    limit: Duration,
}

impl Idle {
    /// Silent from now on; [`Idle::expired`] after `limit`.
    #[must_use]
    pub fn new(limit: Duration) -> Self {
        Self { last: Arc::new(Mutex::new(Instant::now())), limit }
    }

    /// Something was said.
    pub fn touch(&self) {
        *self.last.lock() = Instant::now();
    }

    /// Returns once nothing has been said for the limit.
    pub async fn expired(&self) {
        loop {
            let due = *self.last.lock() + self.limit;
            if Instant::now() >= due {
                return;
            }
            tokio::time::sleep_until(due).await;
        }
    }
}

impl Default for Idle {
    fn default() -> Self {
        Self::new(IDLE_LIMIT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_word_puts_the_end_off() {
        let idle = Idle::new(Duration::from_secs(10));
        let began = Instant::now();
        let talker = idle.clone();
        let talk = async {
            tokio::time::sleep(Duration::from_secs(7)).await;
            talker.touch();
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = idle.expired() => {}
            () = talk => {}
        }
        assert_eq!(began.elapsed(), Duration::from_secs(17));
    }
}
