//! `metadata.generateName`: a base and five letters that cannot spell words.

/// No vowels and nothing that reads like another letter.
const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
/// Letters appended.
const SUFFIX: usize = 5;
/// A label's 63 bytes less the suffix.
const BASE_MAX: usize = 63 - SUFFIX;

/// A name from `base` (cut to 58 bytes) and `random`, of which any value will do. Names may collide: a server tries
/// again with other randomness, upstream up to eight times.
#[must_use]
pub fn generate_name(base: &str, random: u64) -> String {
    let mut name = base[..base.floor_char_boundary(BASE_MAX)].to_owned();
    let mut rest = random;
    for _ in 0..SUFFIX {
        let count = ALPHABET.len() as u64;
        let letter = usize::try_from(rest % count).ok().and_then(|index| ALPHABET.get(index));
        name.push(char::from(letter.copied().unwrap_or(b'x')));
        rest /= count;
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_keep_their_base_and_fit_a_label() {
        let name = generate_name(&"a".repeat(100), 12_345_678);
        assert_eq!(name.len(), 63);
        assert!(crate::names::dns1123_label(&name).is_empty());
        assert_ne!(generate_name("a-", 1), generate_name("a-", 2));
        assert_eq!(generate_name("a-", 0), "a-bbbbb");
    }
}
