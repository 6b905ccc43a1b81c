//! When a source is looked at. No effects: the moment is given.

use std::time::{Duration, Instant};

use fleet_objects::ANNOTATION_SYNC;
use fleet_objects::source::Source;
use kube::ResourceExt;

/// Between two looks when the source does not say.
const INTERVAL: u32 = 300;
/// What a source may say: no faster than a server bears from many hubs, no slower than a day.
pub(super) const INTERVALS: std::ops::RangeInclusive<u32> = 10..=86_400;
/// After a look that failed, unless the source's own interval is shorter.
const RETRY: Duration = Duration::from_secs(60);

/// What is remembered of the last look.
#[derive(Clone, Debug)]
pub(super) struct Last {
    /// When it ended.
    pub(super) at: Instant,
    /// At which generation.
    pub(super) generation: Option<i64>,
    /// At which word of a person.
    pub(super) sync: Option<String>,
    /// Whether it went well.
    pub(super) good: bool,
}

/// When to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// Not while it is as it is.
    Never,
    /// Now.
    Now,
    /// Then.
    At(Instant),
}

/// When to look at a source.
pub(super) fn look(source: &Source, last: Option<&Last>, now: Instant) -> Look {
    if source.spec.suspend || source.metadata.deletion_timestamp.is_some() {
        return Look::Never;
    }
    let Some(last) = last else { return Look::Now };
    let word = source.annotations().get(ANNOTATION_SYNC);
    if last.generation != source.metadata.generation || last.sync.as_ref() != word {
        return Look::Now;
    }
    let given = source.spec.interval_seconds.unwrap_or(INTERVAL);
    let interval = Duration::from_secs(u64::from(given.clamp(*INTERVALS.start(), *INTERVALS.end())));
    let wait = if last.good { interval } else { interval.min(RETRY) };
    match last.at.checked_add(wait) {
        Some(at) if at > now => Look::At(at),
        _ => Look::Now,
    }
}

#[cfg(test)]
mod tests {
    use fleet_objects::source::SourceSpec;

    use super::*;

    #[test]
    fn changes_words_and_time_make_it_look() {
        let now = Instant::now();
        let mut source = Source::new("app", SourceSpec::default());
        source.metadata.generation = Some(1);
        let last = Last { at: now, generation: Some(1), sync: None, good: true };
        assert_eq!(look(&source, None, now), Look::Now);
        assert_eq!(look(&source, Some(&last), now), Look::At(now + Duration::from_secs(300)));
        assert_eq!(look(&source, Some(&last), now + Duration::from_secs(300)), Look::Now);
        let failed = Last { good: false, ..last.clone() };
        assert_eq!(look(&source, Some(&failed), now), Look::At(now + RETRY));
        source.spec.interval_seconds = Some(1);
        assert_eq!(look(&source, Some(&last), now), Look::At(now + Duration::from_secs(10)));
        source.annotations_mut().insert(ANNOTATION_SYNC.to_owned(), "x".to_owned());
        assert_eq!(look(&source, Some(&last), now), Look::Now);
        source.spec.suspend = true;
        assert_eq!(look(&source, None, now), Look::Never);
    }
}
