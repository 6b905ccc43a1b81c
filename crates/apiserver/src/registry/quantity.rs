//! Comparing resource quantities exactly: `500m` < `1`, `1Gi` > `1G`.

/// A quantity in billionths; `None` when it is not one or is too large to count.
pub(crate) fn nanos(text: &str) -> Option<i128> {
    let split =
        text.find(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | '+' | '-'))).unwrap_or(text.len());
    let (number, suffix) = text.split_at(split);
    let (negative, digits) = match number.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, number.strip_prefix('+').unwrap_or(number)),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let all = format!("{whole}{fraction}");
    let mantissa: i128 = all.parse().ok()?;
    let (numerator, denominator) = factor(suffix)?;
    let scale = 10_i128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let value = mantissa.checked_mul(numerator)?.checked_mul(1_000_000_000)?;
    let divisor = scale.checked_mul(denominator)?;
    // Rounded up, as upstream rounds what is finer than a billionth.
    let quotient = value / divisor + i128::from(value % divisor != 0);
    Some(if negative { -quotient } else { quotient })
}

fn factor(suffix: &str) -> Option<(i128, i128)> {
    Some(match suffix {
        "" => (1, 1),
        "n" => (1, 1_000_000_000),
        "u" => (1, 1_000_000),
        "m" => (1, 1000),
        "k" => (1000, 1),
        "M" => (1_000_000, 1),
        "G" => (1_000_000_000, 1),
        "T" => (1_000_000_000_000, 1),
        "P" => (1_000_000_000_000_000, 1),
        "E" => (1_000_000_000_000_000_000, 1),
        "Ki" => (1 << 10, 1),
        "Mi" => (1 << 20, 1),
        "Gi" => (1 << 30, 1),
        "Ti" => (1 << 40, 1),
        "Pi" => (1 << 50, 1),
        "Ei" => (1 << 60, 1),
        exponent => {
            let power: i32 = exponent.strip_prefix(['e', 'E'])?.parse().ok()?;
            let size = 10_i128.checked_pow(power.unsigned_abs())?;
            if power < 0 { (1, size) } else { (size, 1) }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::nanos;

    #[test]
    fn quantities_compare_over_suffixes() {
        assert_eq!(nanos("500m"), nanos("0.5"));
        assert!(nanos("1Gi") > nanos("1G"));
        assert_eq!(nanos("1e3"), nanos("1k"));
        assert_eq!(nanos("-1"), Some(-1_000_000_000));
        for bad in ["", "m", "1x", "1.2.3", "abc", "1 Gi"] {
            assert_eq!(nanos(bad), None, "{bad}");
        }
    }
}
