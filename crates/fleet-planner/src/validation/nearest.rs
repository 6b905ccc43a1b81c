//! What somebody may have meant.

/// Words longer than this are not compared: names are at most as long.
const MAX_LENGTH: usize = 253;

/// The candidate that differs by the fewest letters, if that is a slip: at most two, and less than half of the word.
pub(super) fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if word.len() > MAX_LENGTH {
        return None;
    }
    let near = candidates.into_iter().map(|candidate| (distance(word, candidate), candidate));
    let (slips, found) = near.min()?;
    (slips <= 2 && slips * 2 < word.chars().count()).then_some(found)
}

/// Letters to be added, left out, replaced, or changed with their neighbour (optimal string alignment).
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for (i, own) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, other) in b.iter().enumerate() {
            let replaced = last[j] + usize::from(own != other);
            let mut least = replaced.min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *own == b[j - 1] && a[i - 1] == *other {
                least = least.min(before[j - 1] + 1);
            }
            row.push(least);
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_known_by_what_is_nearest() {
        let known = ["replicas", "region", "x"];
        for (word, meant) in [
            ("replcias", Some("replicas")),
            ("replica", Some("replicas")),
            ("rgion", Some("region")),
            ("colour", None),
            ("y", None),
            ("", None),
        ] {
            assert_eq!(nearest(word, known), meant, "{word}");
        }
        assert_eq!(nearest(&"r".repeat(300), known), None);
        assert_eq!(nearest("x", []), None);
    }
}
