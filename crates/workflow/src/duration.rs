//! Durations as people write them: `90s`, `10m`, `1h30m`.

use std::time::Duration;

/// Why a text is not a duration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a duration; write it like 90s, 10m or 1h30m")]
pub struct DurationError {
    /// What was written.
    pub text: String,
}

/// Reads a duration: numbers with the units `h`, `m`, `s` and `ms`, largest first or not.
///
/// # Errors
/// When the text is empty, a number lacks its unit, or the sum overflows.
pub fn parse(text: &str) -> Result<Duration, DurationError> {
    let error = || DurationError { text: text.chars().take(64).collect() };
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(error());
    }
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(error)?;
        let number: u64 = rest[..digits].parse().map_err(|_| error())?;
        rest = &rest[digits..];
        let letters = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
        let unit_millis = match &rest[..letters] {
            "h" => 3_600_000,
            "m" => 60_000,
            "s" => 1000,
            "ms" => 1,
            _ => return Err(error()),
        };
        rest = &rest[letters..];
        let millis = number.checked_mul(unit_millis).ok_or_else(error)?;
        total = total.checked_add(Duration::from_millis(millis)).ok_or_else(error)?;
    }
    Ok(total)
}

/// Writes a duration for people: `1.2s`, `3m05s`, `2h10m`.
#[must_use]
pub fn display(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..60 => format!("{:.1}s", duration.as_secs_f64()),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        _ => format!("{}h{:02}m", seconds / 3600, seconds % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_people_write() {
        for (text, millis) in
            [("90s", 90_000), ("10m", 600_000), ("1h30m", 5_400_000), ("250ms", 250), ("0s", 0)]
        {
            assert_eq!(parse(text), Ok(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn refuses_everything_else() {
        for text in [
            "",
            "10",
            "m",
            "-5s",
            "1.5m",
            "10 m",
            "99999999999999999999h",
            "18446744073709551615h",
            "5µs",
            "1d",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
