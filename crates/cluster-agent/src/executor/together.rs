//! Instances of `parallel` that begin at once: each waits in its pod until all others are as far or have ended.

use std::collections::BTreeSet;

use tokio::sync::watch;
use workflow::pod;

use super::run::Execution;
use super::take::Trouble;

/// Those that are not as far. Known in memory alone: after a restart each says again where it is.
pub(super) struct Together(watch::Sender<BTreeSet<String>>);

impl Together {
    /// All of these parts wait for each other.
    pub(super) fn new(parts: impl IntoIterator<Item = String>) -> Self {
        Self(watch::Sender::new(parts.into_iter().collect()))
    }

    /// This one does not hold up the others any more.
    pub(super) fn here(&self, part: &str) {
        self.0.send_if_modified(|missing| missing.remove(part));
    }

    /// Until nobody is missing.
    async fn all(&self) {
        let mut missing = self.0.subscribe();
        // Fails when the sender is gone, which is this one.
        let _ = missing.wait_for(BTreeSet::is_empty).await;
    }
}

impl Execution {
    /// Waits for the other instances, then lets this one's pod go on.
    ///
    /// # Errors
    /// Why the pod does not go on, for people.
    pub(super) async fn start_together(&self, part: &str, pod: &str) -> Result<(), String> {
        let together = self.together.lock().get(part).cloned();
        if let Some(together) = together {
            together.here(part);
            together.all().await;
        }
        match self.mark(pod, pod::START, pod::START_NUMBER).await {
            Ok(()) => Ok(()),
            Err(Trouble::Broken(why) | Trouble::Final(why)) => Err(why),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn nobody_begins_before_the_last_is_there() {
        let together = Together::new(["a".to_owned(), "b".to_owned(), "c".to_owned()]);
        together.here("a");
        together.here("a");
        let mut all = std::pin::pin!(together.all());
        assert!(futures::poll!(&mut all).is_pending());
        together.here("b");
        assert!(futures::poll!(&mut all).is_pending());
        // It failed before it came so far.
        together.here("c");
        all.await;
    }
}
