//! Lists of indexes: `0,2-4`.

/// How many indexes a list names; an error in upstream's words.
pub(super) fn count(text: &str, completions: i64) -> Result<i64, String> {
    let (mut last, mut total) = (None, 0);
    if text.is_empty() {
        return Ok(0);
    }
    for part in text.split(',') {
        let (from, to) = interval(part, completions)?;
        if let Some(last) = last.filter(|last| *last >= from) {
            return Err(format!("non-increasing order, previous: {last}, current: {from}"));
        }
        total += to - from + 1;
        last = Some(to);
    }
    Ok(total)
}

fn interval(part: &str, completions: i64) -> Result<(i64, i64), String> {
    let quoted = crate::problems::quoted;
    let limits: Vec<&str> = part.split('-').collect();
    if limits.len() > 2 {
        return Err(format!(
            "the fragment {} violates the requirement that an index interval can have at most two parts separated by '-'",
            quoted(part)
        ));
    }
    let read = |text: &str| -> Result<i64, String> {
        let index: i64 = text
            .parse()
            .map_err(|_| format!("cannot convert string to integer for index: {}", quoted(text)))?;
        if index >= completions {
            return Err(format!("too large index: {}", quoted(text)));
        }
        Ok(index)
    };
    let from = read(limits[0])?;
    let Some(to) = limits.get(1) else { return Ok((from, from)) };
    let to = read(to)?;
    if from >= to {
        return Err(format!("non-increasing order, previous: {from}, current: {to}"));
    }
    Ok((from, to))
}

/// The first index that two lists share; what cannot be read is passed over.
pub(super) fn overlap(one: &str, other: &str, completions: i64) -> Option<i64> {
    let read = |text: &str| -> Vec<(i64, i64)> {
        text.split(',').filter_map(|part| interval(part, completions).ok()).collect()
    };
    let (left, right) = (read(one), read(other));
    let shared = |(a, b): (i64, i64), (x, y): (i64, i64)| (a <= y && x <= b).then(|| a.max(x));
    left.iter().find_map(|one| right.iter().find_map(|other| shared(*one, *other)))
}

#[cfg(test)]
mod tests {
    use super::{count, overlap};

    #[test]
    fn lists_of_indexes() {
        assert_eq!(count("", 5), Ok(0));
        assert_eq!(count("0,2-4", 5), Ok(4));
        for bad in ["5", "2,1", "a", "1-2-3", "3-3", "1,1"] {
            assert!(count(bad, 5).is_err(), "{bad}");
        }
        assert_eq!(overlap("0-2", "2,4", 5), Some(2));
        assert_eq!(overlap("0-1", "2,4", 5), None);
    }
}
