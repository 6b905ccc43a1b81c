//! Parts of timestamps and durations.

use jiff::civil::DateTime;

use super::{Implementation, no_overload};
use crate::cel::error::EvalError;
use crate::cel::value::{Result, Value};

pub(super) fn find(function: &str) -> Option<Implementation> {
    Some(match function {
        "getFullYear" => |args| part(args, |at| i64::from(at.year()), None),
        "getMonth" => |args| part(args, |at| i64::from(at.month()) - 1, None),
        "getDayOfYear" => |args| part(args, |at| i64::from(at.day_of_year()) - 1, None),
        "getDayOfMonth" => |args| part(args, |at| i64::from(at.day()) - 1, None),
        "getDate" => |args| part(args, |at| i64::from(at.day()), None),
        "getDayOfWeek" => |args| part(args, |at| i64::from(at.weekday().to_sunday_zero_offset()), None),
        "getHours" => |args| part(args, |at| i64::from(at.hour()), Some(3_600_000_000_000)),
        "getMinutes" => |args| part(args, |at| i64::from(at.minute()), Some(60_000_000_000)),
        "getSeconds" => |args| part(args, |at| i64::from(at.second()), Some(1_000_000_000)),
        "getMilliseconds" => {
            |args| part(args, |at| i64::from(at.subsec_nanosecond()) / 1_000_000, Some(1_000_000))
        }
        _ => return None,
    })
}

/// `unit`: of how many nanoseconds a duration is counted in, where durations have this part.
fn part<'a>(args: &[Value<'a>], of: impl Fn(DateTime) -> i64, unit: Option<i64>) -> Result<'a> {
    let (at, zone) = match (args, unit) {
        ([Value::Duration(nanos)], Some(unit)) => return Ok(Value::Int(nanos / unit)),
        ([Value::Timestamp(at)], _) => (at, None),
        ([Value::Timestamp(at), Value::String(zone)], _) => (at, Some(zone.as_str())),
        _ => return no_overload(),
    };
    at.in_zone(zone).map(|at| Value::Int(of(at))).map_err(EvalError::new)
}
