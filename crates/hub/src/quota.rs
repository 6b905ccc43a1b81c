//! How much one cluster may ask of the hub: an agent that runs wild, or was taken over, must not starve the others or fill
//! the disk faster than people can look. In memory alone: a restart forgives. Of a hub of several processes the one counts where
//! the cluster's agent opened its stream last, the others serve it nothing; what it has left does not move with it
//! ([`Quotas::came`]).

use std::collections::HashMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// What one cluster may use of the endpoints under `/fleet/v1/`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quota {
    /// Requests in a second, in the long run. An agent at rest makes one in five seconds.
    pub requests_per_second: f64,
    /// Requests at once after a rest.
    pub request_burst: f64,
    /// Bytes sent in a second, in the long run.
    pub bytes_per_second: f64,
    /// Bytes at once after a rest. What one request carries may go beyond, and is paid back by waiting.
    pub byte_burst: f64,
}

impl Default for Quota {
    /// A full outbox of 256 MiB passes in about a minute; a thousand agents at the limit are a few disks' full rate.
    fn default() -> Self {
        Self {
            requests_per_second: 50.0,
            request_burst: 500.0,
            bytes_per_second: (4 << 20) as f64,
            byte_burst: (64 << 20) as f64,
        }
    }
}

impl Quota {
    /// For files of tests, which may be large: they take nothing of what else a cluster may ask.
    #[must_use]
    pub fn of_files() -> Self {
        Self {
            requests_per_second: 100.0,
            request_burst: 500.0,
            bytes_per_second: (64 << 20) as f64,
            byte_burst: (256 << 20) as f64,
        }
    }
}

/// Requests that an agent has at least when it comes to one of several processes: enough to say that it is there and to begin.
const ON_COMING: f64 = 20.0;

/// What each cluster has left.
#[derive(Debug)]
pub(crate) struct Quotas {
    quota: Quota,
    /// By the name in the certificate, so that there are no more than certificates were issued.
    left: Mutex<HashMap<String, Left>>,
}

#[derive(Clone, Copy, Debug)]
struct Left {
    requests: f64,
    bytes: f64,
    at: Instant,
}

impl Quotas {
    pub(crate) fn new(quota: Quota) -> Self {
        Self { quota, left: Mutex::default() }
    }

    /// A cluster's agent opened a stream at this process, one of several: what it did not use here while it was elsewhere is
    /// not saved up.
    pub(crate) fn came(&self, cluster: &str, now: Instant) {
        let mut all = self.left.lock();
        let none = Left { requests: ON_COMING, bytes: 0.0, at: now };
        let left = all.entry(cluster.to_owned()).or_insert(none);
        *left = Left { requests: left.requests.min(ON_COMING), bytes: left.bytes.min(0.0), at: now };
    }

    /// Takes a request of so many bytes.
    ///
    /// # Errors
    /// How long to wait before the next one can be taken.
    pub(crate) fn take(&self, cluster: &str, bytes: u64, now: Instant) -> Result<(), Duration> {
        let quota = self.quota;
        let mut all = self.left.lock();
        let fresh = Left { requests: quota.request_burst, bytes: quota.byte_burst, at: now };
        let left = all.entry(cluster.to_owned()).or_insert(fresh);
        let passed = now.saturating_duration_since(left.at).as_secs_f64();
        left.at = now;
        left.requests = (left.requests + passed * quota.requests_per_second).min(quota.request_burst);
        left.bytes = (left.bytes + passed * quota.bytes_per_second).min(quota.byte_burst);
        let lacking =
            [(1.0 - left.requests) / quota.requests_per_second, -left.bytes / quota.bytes_per_second];
        let wait = lacking.into_iter().fold(0.0, f64::max);
        if wait > 0.0 {
            // Bounded, for a quota of nothing would make it infinite.
            return Err(Duration::try_from_secs_f64(wait)
                .unwrap_or(Duration::MAX)
                .min(Duration::from_secs(3600)));
        }
        left.requests -= 1.0;
        let bytes = bytes as f64;
        left.bytes -= bytes;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_cluster_is_slowed_down_and_the_others_are_not() {
        let quota =
            Quota { requests_per_second: 1.0, request_burst: 2.0, bytes_per_second: 10.0, byte_burst: 100.0 };
        let quotas = Quotas::new(quota);
        let start = Instant::now();
        let later = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(quotas.take("wild", 0, start), Ok(()));
        assert_eq!(quotas.take("wild", 0, start), Ok(()));
        assert_eq!(quotas.take("wild", 0, start), Err(Duration::from_secs(1)));
        assert_eq!(quotas.take("calm", 0, start), Ok(()));
        assert_eq!(quotas.take("wild", 0, later(1)), Ok(()));
        // A large request passes once, and is paid back.
        assert_eq!(quotas.take("calm", 300, later(10)), Ok(()));
        assert_eq!(quotas.take("calm", 0, later(10)), Err(Duration::from_secs(20)));
        assert_eq!(quotas.take("calm", 0, later(31)), Ok(()));
        // However long the rest was, no more than the burst is there.
        assert_eq!((0..10).filter(|_| quotas.take("wild", 0, later(100_000)).is_ok()).count(), 2);
    }

    #[test]
    fn who_goes_from_process_to_process_saves_nothing_up() {
        let quota = Quota { request_burst: 500.0, requests_per_second: 50.0, ..Quota::default() };
        let processes = [Quotas::new(quota), Quotas::new(quota)];
        let start = Instant::now();
        let mut taken = 0;
        for turn in 0..100_u64 {
            // Long enough for a whole burst, had it been counted while it was away.
            let now = start + Duration::from_secs(10 * turn);
            let here = &processes[usize::from(turn % 2 == 1)];
            // The stream itself.
            taken += usize::from(here.take("wild", 0, now).is_ok());
            here.came("wild", now);
            taken += (0..1000).filter(|_| here.take("wild", 0, now).is_ok()).count();
        }
        assert!(taken <= 100 * 21, "{taken}");
        // Who stays has what one cluster has.
        let stays =
            (0..2000).filter(|_| processes[0].take("wild", 0, start + Duration::from_secs(5000)).is_ok());
        assert_eq!(stays.count(), 500);
    }
}
