//! Lengths of time on a command line: `2`, `2s`, `500ms`, `5m`, `1h`, `inf`.

use std::time::Duration;

/// A length of time, or for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Span {
    /// This long.
    For(Duration),
    /// Until told to stop.
    Forever,
}

/// Reads a length of time; a bare number is seconds.
///
/// # Errors
/// What is wrong, for people.
pub fn parse(text: &str) -> Result<Span, String> {
    if matches!(text, "inf" | "infinity" | "forever") {
        return Ok(Span::Forever);
    }
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let factor = match unit {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err(format!("{text:?} is no length of time; write 500ms, 2s, 5m, 1h or inf")),
    };
    let seconds: f64 = number
        .parse()
        .map_err(|_| format!("{text:?} is no length of time; write 500ms, 2s, 5m, 1h or inf"))?;
    Duration::try_from_secs_f64(seconds * factor).map(Span::For).map_err(|_| format!("{text:?} is too long"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_read() {
        assert_eq!(parse("2"), Ok(Span::For(Duration::from_secs(2))));
        assert_eq!(parse("1.5s"), Ok(Span::For(Duration::from_millis(1500))));
        assert_eq!(parse("500ms"), Ok(Span::For(Duration::from_millis(500))));
        assert_eq!(parse("2m"), Ok(Span::For(Duration::from_secs(120))));
        assert_eq!(parse("inf"), Ok(Span::Forever));
        for bad in ["", "s", "2d", "-1", "1e999", "9999999999999999999999h"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
