//! Schedules in cron's notation: five fields, names of months and days, ranges, steps, and `@daily` and its like. Pure.

use jiff::{Timestamp, civil::Date, tz::TimeZone};

/// When something is to happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    /// Whether the field leaves the day open; when neither does, one of the two is enough.
    any_day: bool,
    any_weekday: bool,
}

/// Days looked through for the next time: every date there is comes within eight years (29 February around 2100).
const HORIZON_DAYS: usize = 366 * 8 + 3;
const MONTHS: [&str; 12] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const WEEKDAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

impl Schedule {
    /// Reads a schedule.
    ///
    /// # Errors
    /// What is wrong with it, for a person.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = match text.trim() {
            "@yearly" | "@annually" => "0 0 1 1 *",
            "@monthly" => "0 0 1 * *",
            "@weekly" => "0 0 * * 0",
            "@daily" | "@midnight" => "0 0 * * *",
            "@hourly" => "0 * * * *",
            other => other,
        };
        let fields: Vec<&str> = text.split_whitespace().collect();
        let [minute, hour, day, month, weekday] = fields[..] else {
            return Err(format!("expected 5 fields, found {}", fields.len()));
        };
        let mut weekdays = field(weekday, 0, 7, &WEEKDAYS, 0)?;
        // Sunday is 0 and 7.
        weekdays |= weekdays >> 7 & 1;
        Ok(Self {
            minutes: field(minute, 0, 59, &[], 0)?,
            hours: field(hour, 0, 23, &[], 0)?,
            days: field(day, 1, 31, &[], 0)?,
            months: field(month, 1, 12, &MONTHS, 1)?,
            weekdays,
            any_day: day.starts_with(['*', '?']),
            any_weekday: weekday.starts_with(['*', '?']),
        })
    }

    /// The first time after `after`; `None` when there never is one. Times that a change of clocks skips are skipped;
    /// of those it repeats, the first counts.
    pub fn next(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let start = after.to_zoned(zone.clone()).date();
        let mut date = start;
        for _ in 0..HORIZON_DAYS {
            if self.includes(date) {
                for hour in (0..24_i8).filter(|hour| self.hours >> hour & 1 == 1) {
                    for minute in (0..60_i8).filter(|minute| self.minutes >> minute & 1 == 1) {
                        let ambiguous = zone.to_ambiguous_timestamp(date.at(hour, minute, 0, 0));
                        if matches!(ambiguous.offset(), jiff::tz::AmbiguousOffset::Gap { .. }) {
                            continue;
                        }
                        match ambiguous.earlier() {
                            Ok(time) if time > after => return Some(time),
                            _ => {}
                        }
                    }
                }
            }
            date = date.tomorrow().ok()?;
        }
        None
    }

    /// The last time after `since` and not after `now`.
    pub fn latest(&self, since: Timestamp, now: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        // Looks back further and further, so that a schedule that runs each minute costs no walk through a year.
        for hours in [1_i64, 24, 24 * 32, 24 * 366, 24 * 366 * 8] {
            let from = (now - jiff::SignedDuration::from_hours(hours)).max(since);
            let mut found = self.next(from, zone).filter(|time| *time <= now);
            while let Some(later) = found.and_then(|time| self.next(time, zone)).filter(|time| *time <= now) {
                found = Some(later);
            }
            if found.is_some() || from == since {
                return found;
            }
        }
        None
    }

    fn includes(&self, date: Date) -> bool {
        let day = self.days >> date.day() & 1 == 1;
        let weekday = self.weekdays >> date.weekday().to_sunday_zero_offset() & 1 == 1;
        let fits = if self.any_day || self.any_weekday { day && weekday } else { day || weekday };
        fits && self.months >> date.month() & 1 == 1
    }
}

/// The values a field names, one bit each.
fn field(text: &str, min: u32, max: u32, names: &[&str], first_name: u32) -> Result<u64, String> {
    let mut bits = 0;
    for part in text.split(',') {
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => (range, step.parse::<u32>().map_err(|_| format!("{part:?}: no step"))?),
            None => (part, 1),
        };
        let value = |text: &str| -> Result<u32, String> {
            let lower = text.to_ascii_lowercase();
            let named =
                names.iter().position(|name| *name == lower).and_then(|place| u32::try_from(place).ok());
            named
                .map(|place| place + first_name)
                .or_else(|| text.parse().ok())
                .ok_or_else(|| format!("{text:?} is no value"))
        };
        let (low, high) = match range.split_once('-') {
            _ if matches!(range, "*" | "?") => (min, if max == 7 { 6 } else { max }),
            Some((low, high)) => (value(low)?, value(high)?),
            None if part.contains('/') => (value(range)?, max),
            None => (value(range)?, value(range)?),
        };
        if step == 0 || low < min || high > max || low > high {
            return Err(format!("{part:?} is not within {min}-{max}"));
        }
        let mut value = low;
        while value <= high {
            bits |= 1_u64 << value;
            value = value.saturating_add(step);
        }
    }
    Ok(bits)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(schedule: &str, after: &str, zone: &str) -> String {
        let zone = TimeZone::get(zone).unwrap_or(TimeZone::UTC);
        let after: Timestamp = after.parse().expect("a time");
        Schedule::parse(schedule)
            .expect("a schedule")
            .next(after, &zone)
            .map_or("never".to_owned(), |time| time.to_string())
    }

    #[test]
    fn finds_the_next_time() {
        for (schedule, after, expected) in [
            ("* * * * *", "2026-03-01T00:00:00Z", "2026-03-01T00:01:00Z"),
            ("*/15 3-5 * * *", "2026-03-01T03:50:00Z", "2026-03-01T04:00:00Z"),
            ("0 0 29 2 *", "2026-03-01T00:00:00Z", "2028-02-29T00:00:00Z"),
            ("30 6 * * mon-fri", "2026-03-06T07:00:00Z", "2026-03-09T06:30:00Z"),
            ("0 0 13 * 5", "2026-03-01T00:00:00Z", "2026-03-06T00:00:00Z"),
            ("0 0 * * 7", "2026-03-02T00:00:00Z", "2026-03-08T00:00:00Z"),
            ("@monthly", "2026-12-05T00:00:00Z", "2027-01-01T00:00:00Z"),
            ("0 0 31 2 *", "2026-01-01T00:00:00Z", "never"),
        ] {
            assert_eq!(next(schedule, after, "UTC"), expected, "{schedule}");
        }
    }

    #[test]
    fn refuses_nonsense() {
        for schedule in ["", "* * * *", "60 * * * *", "5-1 * * * *", "*/0 * * * *", "a * * * *", "* * 0 * *"]
        {
            assert!(Schedule::parse(schedule).is_err(), "{schedule}");
        }
    }

    #[test]
    fn the_latest_time_is_found_from_far_away() {
        let times = |text: &str| text.parse::<Timestamp>().expect("a time");
        let each_minute = Schedule::parse("* * * * *").expect("a schedule");
        let (since, now) = (times("2020-01-01T00:00:00Z"), times("2026-03-01T12:00:30Z"));
        assert_eq!(each_minute.latest(since, now, &TimeZone::UTC), Some(times("2026-03-01T12:00:00Z")));
        let yearly = Schedule::parse("@yearly").expect("a schedule");
        assert_eq!(yearly.latest(since, now, &TimeZone::UTC), Some(times("2026-01-01T00:00:00Z")));
        assert_eq!(yearly.latest(times("2026-01-01T00:00:00Z"), now, &TimeZone::UTC), None);
    }
}
