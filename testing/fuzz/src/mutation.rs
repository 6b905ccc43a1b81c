//! Random changes of inputs: flipped, cut, doubled and foreign bytes, words of the target's language. The same seed makes
//! the same changes.

/// The longest input: what is longer takes time and shows little.
pub const MAX_BYTES: usize = 4096;

/// Numbers that sit on the edges of what parsers hold them in.
const NUMBERS: [&str; 10] = [
    "0",
    "-1",
    "255",
    "65536",
    "2147483648",
    "4294967296",
    "9223372036854775807",
    "-9223372036854775808",
    "18446744073709551616",
    "1e400",
];

/// SplitMix64: enough for mutations, and without a dependency the same on every machine.
#[derive(Clone, Copy, Debug)]
pub struct Random(u64);

impl Random {
    /// From a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Any number.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`; 0 when the bound is 0.
    pub fn below(&mut self, bound: usize) -> usize {
        if bound == 0 {
            return 0;
        }
        usize::try_from(self.draw() % bound as u64).unwrap_or_default()
    }
}

/// A changed copy of `input`; `others` are inputs to take pieces of, `words` pieces of the language.
#[must_use]
pub fn mutate(random: &mut Random, input: &[u8], others: &[Vec<u8>], words: &[&str]) -> Vec<u8> {
    let mut bytes = input.to_vec();
    for _ in 0..=random.below(4) {
        change(random, &mut bytes, others, words);
    }
    bytes.truncate(MAX_BYTES);
    bytes
}

fn change(random: &mut Random, bytes: &mut Vec<u8>, others: &[Vec<u8>], words: &[&str]) {
    let at = random.below(bytes.len() + 1);
    match random.below(9) {
        0 => flip(random, bytes),
        1 => bytes.insert(at, u8::try_from(random.below(256)).unwrap_or_default()),
        2 => cut(random, bytes),
        3 => double(random, bytes),
        4 => put(bytes, at, NUMBERS[random.below(NUMBERS.len())].as_bytes()),
        5 | 6 if !words.is_empty() => put(bytes, at, words[random.below(words.len())].as_bytes()),
        7 if !others.is_empty() => {
            let other = &others[random.below(others.len())];
            let (from, to) = range(random, other.len());
            put(bytes, at, &other[from..to]);
        }
        _ => {
            let (from, to) = range(random, bytes.len());
            let word = if words.is_empty() { "" } else { words[random.below(words.len())] };
            bytes.splice(from..to.min(from + 8), word.bytes());
        }
    }
}

fn flip(random: &mut Random, bytes: &mut [u8]) {
    let at = random.below(bytes.len());
    if let Some(byte) = bytes.get_mut(at) {
        *byte ^= 1 << random.below(8);
    }
}

fn cut(random: &mut Random, bytes: &mut Vec<u8>) {
    let (from, to) = range(random, bytes.len());
    bytes.drain(from..to.min(from + 32));
}

/// Repeats a piece: nesting and long lists come of it.
fn double(random: &mut Random, bytes: &mut Vec<u8>) {
    let (from, to) = range(random, bytes.len());
    let piece = bytes[from..to.min(from + 64)].to_vec();
    for _ in 0..=random.below(6) {
        put(bytes, from, &piece);
    }
}

fn put(bytes: &mut Vec<u8>, at: usize, piece: &[u8]) {
    if bytes.len() + piece.len() <= MAX_BYTES {
        let at = at.min(bytes.len());
        bytes.splice(at..at, piece.iter().copied());
    }
}

fn range(random: &mut Random, length: usize) -> (usize, usize) {
    let (one, other) = (random.below(length + 1), random.below(length + 1));
    (one.min(other), one.max(other))
}
