//! Points in time and durations, as Go reads and writes them.

use jiff::civil::DateTime;
use jiff::tz::{Offset, TimeZone};

/// A point in time, with the offset it was written with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timestamp {
    pub(crate) at: jiff::Timestamp,
    /// Seconds east of Greenwich.
    offset: i32,
}

/// 0001-01-01T00:00:00Z and 9999-12-31T23:59:59Z in Unix seconds: CEL's first and last second.
const FIRST_SECOND: i64 = -62_135_596_800;
const LAST_SECOND: i64 = 253_402_300_799;
const NANOS: i64 = 1_000_000_000;

impl Timestamp {
    /// At so many seconds of Unix time, if CEL knows such a time.
    pub(crate) fn from_seconds(seconds: i64) -> Option<Self> {
        Self::new(jiff::Timestamp::from_second(seconds).ok()?, 0)
    }

    fn new(at: jiff::Timestamp, offset: i32) -> Option<Self> {
        (FIRST_SECOND..=LAST_SECOND).contains(&floor_seconds(at)).then_some(Self { at, offset })
    }

    /// Whether it is Go's zero time, the first second there is.
    pub(crate) fn is_zero(&self) -> bool {
        self.at.as_nanosecond() == i128::from(FIRST_SECOND) * i128::from(NANOS)
    }

    /// Unix seconds, rounded down.
    pub(crate) fn seconds(&self) -> i64 {
        floor_seconds(self.at)
    }

    /// The time that much later.
    pub(crate) fn plus(&self, nanos: i64) -> Option<Self> {
        let at = self.at.as_nanosecond().checked_add(i128::from(nanos))?;
        Self::new(jiff::Timestamp::from_nanosecond(at).ok()?, self.offset)
    }

    /// How much later this is than `other`, in nanoseconds.
    pub(crate) fn since(&self, other: &Self) -> Option<i64> {
        i64::try_from(self.at.as_nanosecond() - other.at.as_nanosecond()).ok()
    }

    /// The calendar and clock in a zone: a name, or `+01:00`. UTC without one.
    pub(crate) fn in_zone(&self, zone: Option<&str>) -> Result<DateTime, String> {
        let zone = match zone {
            None => TimeZone::UTC,
            Some(name) => time_zone(name)?,
        };
        Ok(zone.to_datetime(self.at))
    }

    /// RFC 3339 with as many digits of the second as needed.
    pub(crate) fn written(&self) -> String {
        let offset = Offset::from_seconds(self.offset).unwrap_or(Offset::UTC);
        let local = offset.to_datetime(self.at);
        let mut text = local.strftime("%Y-%m-%dT%H:%M:%S").to_string();
        let nanos = local.subsec_nanosecond();
        if nanos != 0 {
            text.push_str(format!(".{nanos:09}").trim_end_matches('0'));
        }
        if self.offset == 0 {
            text.push('Z');
        } else {
            let sign = if self.offset < 0 { '-' } else { '+' };
            let minutes = self.offset.abs() / 60;
            text.push_str(&format!("{sign}{:02}:{:02}", minutes / 60, minutes % 60));
        }
        text
    }
}

fn floor_seconds(at: jiff::Timestamp) -> i64 {
    at.as_second() - i64::from(at.subsec_nanosecond() < 0)
}

fn time_zone(name: &str) -> Result<TimeZone, String> {
    if let Some((hours, minutes)) = name.split_once(':') {
        let negative = hours.starts_with('-');
        let hours: i32 = hours.trim_start_matches('+').parse().map_err(|_| unknown_zone(name))?;
        let minutes: i32 = minutes.parse().map_err(|_| unknown_zone(name))?;
        let seconds = hours * 3600 + if negative { -minutes } else { minutes } * 60;
        let offset = Offset::from_seconds(seconds).map_err(|_| unknown_zone(name))?;
        return Ok(TimeZone::fixed(offset));
    }
    match name {
        "" | "UTC" => Ok(TimeZone::UTC),
        _ => TimeZone::get(name).map_err(|_| unknown_zone(name)),
    }
}

fn unknown_zone(name: &str) -> String {
    format!("unknown time zone {name}")
}

fn digits(text: &str, from: usize, count: usize) -> Option<i32> {
    let digits = text.get(from..from + count)?;
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
}

/// `2006-01-02`.
pub(crate) fn parse_date(text: &str) -> Result<Timestamp, String> {
    let broken = || format!("parsing time \"{text}\" as \"2006-01-02\": cannot parse");
    let parsed = (text.len() == 10).then(|| date_time(&format!("{text}T00:00:00Z"))).flatten();
    parsed.ok_or_else(broken)
}

/// RFC 3339, nothing else.
pub(crate) fn parse_timestamp(text: &str) -> Result<Timestamp, String> {
    date_time(text).ok_or_else(|| {
        format!(
            "parsing time \"{text}\" as \"2006-01-02T15:04:05Z07:00\": cannot parse \"{text}\" as \"2006\""
        )
    })
}

/// RFC 3339, and without an offset, seconds or the `T`: what the OpenAPI format `date-time` takes.
pub(crate) fn parse_date_time_format(text: &str) -> Result<Timestamp, String> {
    let spaced = text.replacen(' ', "T", 1);
    let candidates = [text.to_owned(), format!("{spaced}Z"), format!("{spaced}:00Z")];
    candidates
        .iter()
        .find_map(|candidate| date_time(candidate))
        .ok_or_else(|| format!("parsing time \"{text}\""))
}

fn date_time(text: &str) -> Option<Timestamp> {
    let bytes = text.as_bytes();
    let separators = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')];
    if separators.iter().any(|(at, separator)| bytes.get(*at) != Some(separator)) {
        return None;
    }
    let number = |from, count| digits(text, from, count);
    let (year, month, day) = (number(0, 4)?, number(5, 2)?, number(8, 2)?);
    let (hour, minute, second) = (number(11, 2)?, number(14, 2)?, number(17, 2)?);
    let mut rest = text.get(19..)?;
    let mut nanos = 0;
    if let Some(fraction) = rest.strip_prefix(['.', ',']) {
        let length = fraction.bytes().take_while(u8::is_ascii_digit).count();
        let kept: String = fraction[..length.min(9)].to_owned();
        nanos = format!("{kept:0<9}").parse().ok().filter(|_| length > 0)?;
        rest = &fraction[length..];
    }
    let offset = offset_seconds(rest)?;
    let narrow = |value: i32| i8::try_from(value).ok();
    let local = DateTime::new(
        i16::try_from(year).ok()?,
        narrow(month)?,
        narrow(day)?,
        narrow(hour)?,
        narrow(minute)?,
        narrow(second)?,
        nanos,
    )
    .ok()?;
    let utc = TimeZone::UTC.to_timestamp(local).ok()?;
    let at = utc.as_nanosecond() - i128::from(offset) * i128::from(NANOS);
    Timestamp::new(jiff::Timestamp::from_nanosecond(at).ok()?, offset)
}

fn offset_seconds(text: &str) -> Option<i32> {
    if text == "Z" {
        return Some(0);
    }
    let sign = match text.as_bytes().first()? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    if text.len() != 6 || text.as_bytes()[3] != b':' {
        return None;
    }
    let (hours, minutes) = (digits(text, 1, 2)?, digits(text, 4, 2)?);
    (hours <= 24 && minutes < 60).then_some(sign * (hours * 3600 + minutes * 60))
}

const UNITS: [(&str, i128); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// Nanoseconds of a Go duration: `1h30m`, `-1.5s`, `0`.
pub(crate) fn parse_duration(text: &str) -> Result<i64, String> {
    let invalid = || format!("time: invalid duration {text:?}");
    let (negative, mut rest) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut total: i128 = 0;
    while !rest.is_empty() {
        let length = rest.bytes().take_while(|byte| byte.is_ascii_digit() || *byte == b'.').count();
        let number = &rest[..length];
        rest = &rest[length..];
        let unit_length =
            rest.find(|letter: char| letter.is_ascii_digit() || letter == '.').unwrap_or(rest.len());
        let unit = &rest[..unit_length];
        rest = &rest[unit_length..];
        if number.is_empty() || number == "." || number.matches('.').count() > 1 {
            return Err(invalid());
        }
        if unit.is_empty() {
            return Err(format!("time: missing unit in duration {text:?}"));
        }
        let scale = UNITS.iter().find(|(name, _)| *name == unit).map(|(_, scale)| *scale);
        let scale = scale.ok_or_else(|| format!("time: unknown unit {unit:?} in duration {text:?}"))?;
        total = total.checked_add(amount(number, scale).ok_or_else(invalid)?).ok_or_else(invalid)?;
    }
    let total = if negative { -total } else { total };
    i64::try_from(total).map_err(|_| invalid())
}

/// `number` times `scale`, cut off at whole nanoseconds.
fn amount(number: &str, scale: i128) -> Option<i128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let whole: i128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let fraction = &fraction[..fraction.len().min(18)];
    let part = if fraction.is_empty() {
        0
    } else {
        let base = 10_i128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
        fraction.parse::<i128>().ok()?.checked_mul(scale)? / base
    };
    whole.checked_mul(scale)?.checked_add(part)
}

/// Nanoseconds of the OpenAPI format `duration`: a Go duration, or words such as `3 days`.
pub(crate) fn parse_duration_format(text: &str) -> Result<i64, String> {
    if let Ok(nanos) = parse_duration(text) {
        return Ok(nanos);
    }
    const HOUR: i128 = 3_600_000_000_000;
    let words: [(&[&str], i128); 8] = [
        (&["ns", "nano"], 1),
        (&["us", "µs", "micro"], 1_000),
        (&["ms", "milli"], 1_000_000),
        (&["s", "sec", "secs", "second", "seconds"], 1_000_000_000),
        (&["m", "min", "mins", "minute", "minutes"], 60_000_000_000),
        (&["h", "hr", "hour", "hours"], HOUR),
        (&["d", "day", "days"], 24 * HOUR),
        (&["w", "wk", "week", "weeks"], 168 * HOUR),
    ];
    let unable = || format!("unable to parse {text} as duration");
    let trimmed = text.trim();
    let length = trimmed.bytes().take_while(|byte| byte.is_ascii_digit() || *byte == b'.').count();
    let unit = trimmed[length..].trim();
    let scale = words.iter().find(|(names, _)| names.contains(&unit)).map(|(_, scale)| *scale);
    let nanos = amount(
        trimmed.get(..length).filter(|number| !number.is_empty()).ok_or_else(unable)?,
        scale.ok_or_else(unable)?,
    );
    i64::try_from(nanos.ok_or_else(unable)?).map_err(|_| unable())
}

/// A duration as CEL writes it: seconds, `1.5s`.
pub(crate) fn written_duration(nanos: i64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "Go's Duration.Seconds rounds the same way")]
    let seconds = (nanos / NANOS) as f64 + (nanos % NANOS) as f64 / 1e9;
    format!("{seconds}s")
}
