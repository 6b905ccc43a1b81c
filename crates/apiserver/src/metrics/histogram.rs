//! Durations in buckets, counted without locks.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::text::Text;

/// How many observations were at most each bound. A scrape during an observation may see one and not the other half of it.
#[derive(Debug)]
pub(crate) struct Histogram<const N: usize> {
    bounds: &'static [f64; N],
    /// By bucket, not cumulative; what is above the last bound is only in `count`.
    buckets: [AtomicU64; N],
    count: AtomicU64,
    nanoseconds: AtomicU64,
}

impl<const N: usize> Histogram<N> {
    pub(crate) fn new(bounds: &'static [f64; N]) -> Self {
        Self {
            bounds,
            buckets: std::array::from_fn(|_| AtomicU64::new(0)),
            count: AtomicU64::new(0),
            nanoseconds: AtomicU64::new(0),
        }
    }

    pub(crate) fn observe(&self, duration: Duration) {
        let seconds = duration.as_secs_f64();
        if let Some(bucket) = self.bounds.iter().position(|bound| seconds <= *bound) {
            self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        }
        self.count.fetch_add(1, Ordering::Relaxed);
        // 584 years of it fit.
        let nanoseconds = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.nanoseconds.fetch_add(nanoseconds, Ordering::Relaxed);
    }

    pub(crate) fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// Appends it; one that nothing was observed of is left out.
    pub(crate) fn write(&self, text: &mut Text, name: &str, labels: &[(&str, &str)]) {
        let count = self.count();
        if count == 0 {
            return;
        }
        let mut sum = 0;
        for (bound, bucket) in self.bounds.iter().zip(&self.buckets) {
            sum += bucket.load(Ordering::Relaxed);
            text.bucket(name, labels, Some(*bound), sum);
        }
        text.bucket(name, labels, None, count.max(sum));
        let seconds = super::seconds(Duration::from_nanos(self.nanoseconds.load(Ordering::Relaxed)));
        text.number(&format!("{name}_sum"), labels, seconds);
        text.number(&format!("{name}_count"), labels, count.max(sum) as f64);
    }
}
