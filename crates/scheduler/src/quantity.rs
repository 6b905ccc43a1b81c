//! Reads Kubernetes quantities as thousandths. Pure.

use api_machinery::quantity::Quantity;

/// The amount in thousandths, rounded up; `None` for what is no quantity. CPU `100m` is 100, memory `1Ki` is 1 024 000.
/// Wider than the quantity itself, so that sums over all pods of a node cannot overflow.
pub(crate) fn milli(text: &str) -> Option<i128> {
    text.parse::<Quantity>().ok().map(|quantity| i128::from(quantity.millis()))
}

#[cfg(test)]
mod tests {
    use super::milli;

    #[test]
    fn thousandths_of_cpu_and_of_bytes() {
        for (text, expected) in [
            ("100m", Some(100)),
            ("1.5", Some(1_500)),
            ("1Ki", Some(1_024_000)),
            ("1n", Some(1)),
            ("abc", None),
        ] {
            assert_eq!(milli(text), expected, "{text}");
        }
    }
}
