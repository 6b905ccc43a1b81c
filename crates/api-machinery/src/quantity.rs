//! Resource quantities: `500m`, `128Mi`, `1e3` (apimachinery `pkg/api/resource`).
//!
//! A [`Quantity`] is an exact decimal: an integer of at most 128 bits times a power of ten no smaller than 10⁻⁹. What is finer
//! is rounded up, as upstream does; what is larger than upstream's bound (2⁶³−1) is capped there.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

/// Which suffixes a quantity is written with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// `m`, none, `k`, `M` …
    DecimalSi,
    /// `Ki`, `Mi` …
    BinarySi,
    /// `e3`.
    DecimalExponent,
}

/// An amount of a resource. Equality and order are by amount, whatever the format.
#[derive(Clone, Copy, Debug)]
pub struct Quantity {
    /// In billionths.
    nanos: i128,
    format: Format,
}

/// Text that is no quantity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")]
pub struct QuantityError;

const NANOS: i128 = 1_000_000_000;

/// Upstream's largest quantity, in whole units.
const MAX_UNITS: i128 = i64::MAX as i128;

/// A longer text is no quantity anybody wrote; bounds the work of parsing.
const MAX_LENGTH: usize = 128;

const DECIMAL: [(&str, i32); 10] =
    [("n", -9), ("u", -6), ("m", -3), ("", 0), ("k", 3), ("M", 6), ("G", 9), ("T", 12), ("P", 15), ("E", 18)];
const BINARY: [(&str, u32); 6] = [("Ki", 10), ("Mi", 20), ("Gi", 30), ("Ti", 40), ("Pi", 50), ("Ei", 60)];

impl Quantity {
    /// Nothing, in decimal format.
    pub const ZERO: Self = Self { nanos: 0, format: Format::DecimalSi };

    /// Whole units.
    #[must_use]
    pub fn from_units(units: i64, format: Format) -> Self {
        Self { nanos: i128::from(units) * NANOS, format }
    }

    /// Thousandths.
    #[must_use]
    pub fn from_millis(millis: i64) -> Self {
        Self { nanos: i128::from(millis) * 1_000_000, format: Format::DecimalSi }
    }

    /// Whole units, rounded up, within `i64`.
    #[must_use]
    pub fn units(&self) -> i64 {
        clamp(ceiling(self.nanos, NANOS))
    }

    /// Thousandths, rounded up, within `i64`.
    #[must_use]
    pub fn millis(&self) -> i64 {
        clamp(ceiling(self.nanos, 1_000_000))
    }

    /// How it is written.
    #[must_use]
    pub fn format(&self) -> Format {
        self.format
    }

    /// Whether it is less than nothing.
    #[must_use]
    pub fn is_negative(&self) -> bool {
        self.nanos < 0
    }

    /// Whether it is nothing.
    #[must_use]
    pub fn is_zero(&self) -> bool {
        self.nanos == 0
    }

    /// The sum, in this one's format (in the other's when this is zero, as upstream).
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        let format = if self.is_zero() { other.format } else { self.format };
        Self { nanos: cap(self.nanos.saturating_add(other.nanos)), format }
    }

    /// The difference, in this one's format (in the other's when this is zero).
    #[must_use]
    pub fn minus(&self, other: &Self) -> Self {
        self.plus(&Self { nanos: -other.nanos, ..*other })
    }
}

fn clamp(value: i128) -> i64 {
    i64::try_from(value).unwrap_or(if value < 0 { i64::MIN } else { i64::MAX })
}

/// Division away from zero for what does not divide, as upstream rounds.
fn ceiling(value: i128, by: i128) -> i128 {
    let (whole, rest) = (value / by, value % by);
    whole + rest.signum()
}

fn cap(nanos: i128) -> i128 {
    nanos.clamp(-MAX_UNITS * NANOS, MAX_UNITS * NANOS)
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nanos == other.nanos
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nanos.cmp(&other.nanos)
    }
}

impl FromStr for Quantity {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        if text.len() > MAX_LENGTH {
            return Err(QuantityError);
        }
        let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
        let negative = text.starts_with('-');
        let split = unsigned.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(unsigned.len());
        let (number, suffix) = unsigned.split_at(split);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
            return Err(QuantityError);
        }
        let (format, scale) = suffix_of(suffix).ok_or(QuantityError)?;
        let digits = format!("{whole}{fraction}");
        let places = i32::try_from(fraction.len()).map_err(|_| QuantityError)?;
        let magnitude = match scale {
            Scale::Ten(exponent) => decimal(&digits, exponent.saturating_sub(places).saturating_add(9)),
            Scale::Two(bits) => binary(&digits, places, bits),
        };
        let nanos = cap(magnitude);
        Ok(Self { nanos: if negative { -nanos } else { nanos }, format })
    }
}

enum Scale {
    Ten(i32),
    Two(u32),
}

fn suffix_of(suffix: &str) -> Option<(Format, Scale)> {
    if let Some((_, bits)) = BINARY.iter().find(|(name, _)| *name == suffix) {
        return Some((Format::BinarySi, Scale::Two(*bits)));
    }
    if let Some((_, exponent)) = DECIMAL.iter().find(|(name, _)| *name == suffix) {
        return Some((Format::DecimalSi, Scale::Ten(*exponent)));
    }
    let exponent = suffix.strip_prefix(['e', 'E'])?;
    let digits = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    exponent.parse().ok().map(|exponent| (Format::DecimalExponent, Scale::Ten(exponent)))
}

/// `digits` × 10^`exponent`, rounded up; saturates far above the cap.
fn decimal(digits: &str, exponent: i32) -> i128 {
    let digits = digits.trim_start_matches('0');
    if digits.is_empty() {
        return 0;
    }
    let length = i32::try_from(digits.len()).unwrap_or(i32::MAX);
    if length.saturating_add(exponent) > 37 {
        return i128::MAX;
    }
    if exponent >= 0 {
        // At most 37 digits in all, which 128 bits hold.
        return parse_digits(digits) * 10_i128.pow(exponent.unsigned_abs());
    }
    // Digits behind the point are dropped, rounding up.
    let kept = usize::try_from(length + exponent).unwrap_or(0);
    let (kept, dropped) = digits.split_at(kept);
    parse_digits(kept) + i128::from(dropped.bytes().any(|byte| byte != b'0'))
}

/// `digits` × 10^−`places` × 2^`bits` in billionths, rounded up.
fn binary(digits: &str, places: i32, bits: u32) -> i128 {
    let digits = digits.trim_start_matches('0');
    if digits.len() > 30 {
        // Either far above the cap, or finer than a billionth in its tail: read the leading digits.
        let dropped = i32::try_from(digits.len() - 30).unwrap_or(i32::MAX);
        return binary(&digits[..30], places.saturating_sub(dropped), bits);
    }
    let Some(value) = parse_digits(digits).checked_mul(1 << bits.min(60)) else { return i128::MAX };
    let exponent = 9_i32.saturating_sub(places);
    if exponent >= 0 {
        return 10_i128
            .checked_pow(exponent.unsigned_abs())
            .and_then(|ten| value.checked_mul(ten))
            .unwrap_or(i128::MAX);
    }
    match 10_i128.checked_pow(exponent.unsigned_abs()) {
        Some(ten) => ceiling(value, ten),
        None => i128::from(value > 0),
    }
}

fn parse_digits(digits: &str) -> i128 {
    digits
        .bytes()
        .fold(0_i128, |value, byte| value.saturating_mul(10).saturating_add(i128::from(byte - b'0')))
}

/// The canonical form: no fraction, the largest suffix that needs none, no precision lost.
impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nanos == 0 {
            return f.write_str("0");
        }
        let binary =
            self.format == Format::BinarySi && self.nanos % NANOS == 0 && self.nanos.abs() >= 1024 * NANOS;
        if binary {
            let units = self.nanos / NANOS;
            let fitting = BINARY.iter().rev().find(|(_, bits)| units % (1 << bits) == 0);
            return match fitting {
                Some((suffix, bits)) => write!(f, "{}{suffix}", units >> bits),
                None => write!(f, "{units}"),
            };
        }
        let mut exponent = -9;
        let mut mantissa = self.nanos;
        while mantissa % 1000 == 0 && exponent < 18 {
            mantissa /= 1000;
            exponent += 3;
        }
        match self.format {
            Format::DecimalExponent if exponent == 0 => write!(f, "{mantissa}"),
            Format::DecimalExponent => write!(f, "{mantissa}e{exponent}"),
            Format::DecimalSi | Format::BinarySi => {
                let suffix =
                    DECIMAL.iter().find(|(_, own)| *own == exponent).map_or("", |(suffix, _)| suffix);
                write!(f, "{mantissa}{suffix}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn canonical(text: &str) -> String {
        text.parse::<Quantity>().unwrap().to_string()
    }

    #[test]
    fn canonical_forms_are_upstreams() {
        for (text, expected) in [
            ("0", "0"),
            ("0.5", "500m"),
            ("1.5Gi", "1536Mi"),
            ("1024Mi", "1Gi"),
            ("1000m", "1"),
            ("1e3", "1e3"),
            ("100000", "100k"),
            ("0.1m", "100u"),
            ("1.0000000001", "1000000001n"),
            ("512", "512"),
            ("-2.5", "-2500m"),
            ("1024", "1024"),
            ("128974848", "128974848"),
            ("129M", "129M"),
            ("12e6", "12e6"),
            ("0.5Ki", "512"),
            ("1100Ki", "1100Ki"),
            ("+3k", "3k"),
            (".5", "500m"),
            ("5.", "5"),
            ("10E", "9223372036854775807"),
        ] {
            assert_eq!(canonical(text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_quantity_is_refused() {
        for text in ["", "-", ".", "1.2.3", "1Kib", "1 Gi", "1ki", "e3", "1e", "1e+", "abc", "1_000", "１"] {
            assert!(text.parse::<Quantity>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn amounts_round_up() {
        let quantity: Quantity = "1500m".parse().unwrap();
        assert_eq!((quantity.units(), quantity.millis()), (2, 1500));
    }

    proptest! {
        #[test]
        fn canonical_text_means_the_same_and_is_stable(text in "[+-]?[0-9]{1,12}(\\.[0-9]{0,6})?(n|u|m||k|M|G|Ki|Mi|Gi|e[0-9]|E-[0-9])") {
            let quantity: Quantity = text.parse().unwrap();
            let written = quantity.to_string();
            let again: Quantity = written.parse().unwrap();
            prop_assert_eq!(quantity, again);
            prop_assert_eq!(again.to_string(), written);
        }

        #[test]
        fn sums_undo_themselves(a in -1_000_000_000_i64..1_000_000_000, b in -1_000_000_000_i64..1_000_000_000) {
            let (a, b) = (Quantity::from_millis(a), Quantity::from_millis(b));
            prop_assert_eq!(a.plus(&b).minus(&b), a);
            prop_assert_eq!(a.plus(&b), b.plus(&a));
            prop_assert_eq!(a < b, a.minus(&b).is_negative());
        }

        #[test]
        fn any_text_is_a_quantity_or_refused(text in ".{0,40}") {
            let _ = text.parse::<Quantity>();
        }
    }
}
