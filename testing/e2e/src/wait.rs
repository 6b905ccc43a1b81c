//! Waiting for conditions, never for time.

use std::fmt::Debug;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// How often a condition is tried: often enough to measure a repair in tens of milliseconds.
const PAUSE: Duration = Duration::from_millis(20);

/// Tries `probe` until it answers `Ok(Some(_))`, and says after `limit` what it answered last.
///
/// # Errors
/// When `limit` passes first.
pub fn until<T>(what: &str, limit: Duration, mut probe: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let start = Instant::now();
    loop {
        let last = match probe() {
            Ok(Some(value)) => return Ok(value),
            Ok(None) => "not yet".to_owned(),
            Err(error) => format!("{error:#}"),
        };
        if start.elapsed() > limit {
            bail!("waited {limit:?} for {what}; last answer: {last}");
        }
        std::thread::sleep(PAUSE);
    }
}

/// [`until`] for a value that has to become `wanted`.
///
/// # Errors
/// When `limit` passes first.
pub fn until_equal<T: PartialEq + Debug>(
    what: &str,
    limit: Duration,
    wanted: &T,
    mut probe: impl FnMut() -> Result<T>,
) -> Result<()> {
    until(what, limit, || {
        let seen = probe()?;
        if &seen == wanted { Ok(Some(())) } else { bail!("{seen:?} instead of {wanted:?}") }
    })
}
