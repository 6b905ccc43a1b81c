//! Columns of a Table, and cells that several kinds share.

use jiff::Timestamp;
use serde_json::Value;

/// A column of `kubectl get`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// Its head.
    pub name: String,
    /// `string`, `integer`, `date` …
    pub kind: String,
    /// `name` for the first column, else "".
    pub format: String,
    /// For a person.
    pub description: String,
    /// Where the description is to be taken from when the column has none of its own: a type of `io.k8s.api` or
    /// apimachinery and one of its fields (`("ObjectMeta", "name")`), whose published description it is upstream too.
    pub documented_at: Option<(&'static str, &'static str)>,
    /// 0: always shown; more: only in wide output.
    pub priority: i32,
}

impl Column {
    /// A string column that is always shown.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            kind: "string".to_owned(),
            format: String::new(),
            description: String::new(),
            documented_at: None,
            priority: 0,
        }
    }

    /// A column only of wide output.
    #[must_use]
    pub fn wide(name: &str) -> Self {
        Self { priority: 1, ..Self::new(name) }
    }

    /// With another type.
    #[must_use]
    pub fn of(self, kind: &str) -> Self {
        Self { kind: kind.to_owned(), ..self }
    }

    /// The first column.
    #[must_use]
    pub fn object_name() -> Self {
        Self { format: "name".to_owned(), documented_at: Some(("ObjectMeta", "name")), ..Self::new("Name") }
    }

    /// The age column; its cell is made by [`age`].
    #[must_use]
    pub fn age() -> Self {
        Self::described("Age", "ObjectMeta", "creationTimestamp")
    }

    /// A string column that is described as a field of a type is.
    #[must_use]
    pub fn described(name: &str, kind: &'static str, field: &'static str) -> Self {
        Self { documented_at: Some((kind, field)), ..Self::new(name) }
    }

    /// With a description of its own.
    #[must_use]
    pub fn saying(self, description: &str) -> Self {
        Self { description: description.to_owned(), ..self }
    }

    /// The same, only of wide output.
    #[must_use]
    pub fn in_wide(self) -> Self {
        Self { priority: 1, ..self }
    }
}

/// How long ago an object was created, the way `kubectl` prints it; `<unknown>` without a creationTimestamp.
#[must_use]
pub fn age(object: &Value, now: Timestamp) -> Value {
    let created = object["metadata"]["creationTimestamp"].as_str().and_then(|text| text.parse().ok());
    Value::String(created.map_or_else(|| "<unknown>".to_owned(), |created| human_duration(created, now)))
}

/// A span in the two largest units that say something: `45s`, `3m20s`, `5h`, `2d4h`, `400d`, `2y30d`
/// (the thresholds are those of apimachinery `duration.HumanDuration`).
#[must_use]
pub fn human_duration(from: Timestamp, to: Timestamp) -> String {
    let seconds = to.as_second() - from.as_second();
    let (minutes, hours) = (seconds / 60, seconds / 3600);
    let (days, years) = (hours / 24, hours / 24 / 365);
    let pair = |large: i64, large_unit: &str, small: i64, small_unit: &str| {
        if small == 0 {
            format!("{large}{large_unit}")
        } else {
            format!("{large}{large_unit}{small}{small_unit}")
        }
    };
    match seconds {
        ..-1 => "<invalid>".to_owned(),
        -1..0 => "0s".to_owned(),
        0..120 => format!("{seconds}s"),
        120..600 => pair(minutes, "m", seconds % 60, "s"),
        600..10_800 => format!("{minutes}m"),
        10_800..28_800 => pair(hours, "h", minutes % 60, "m"),
        28_800..172_800 => format!("{hours}h"),
        172_800..691_200 => pair(days, "d", hours % 24, "h"),
        _ if years < 2 => format!("{days}d"),
        _ if years < 8 => pair(years, "y", days % 365, "d"),
        _ => format!("{years}y"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_kubectl_prints_them() {
        let zero = Timestamp::UNIX_EPOCH;
        for (seconds, text) in [
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (200, "3m20s"),
            (660, "11m"),
            (10_860, "3h1m"),
            (36_000, "10h"),
            (187_200, "2d4h"),
            (86_400 * 400, "400d"),
            (86_400 * 760, "2y30d"),
        ] {
            let to = Timestamp::from_second(seconds).expect("small");
            assert_eq!(human_duration(zero, to), text);
        }
    }
}
