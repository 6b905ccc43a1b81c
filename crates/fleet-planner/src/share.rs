//! Numbers or shares (`25%`) of a total, as people write them in strategies.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// How a share of `total` is rounded.
#[derive(Clone, Copy)]
pub(crate) enum Round {
    Up,
    Down,
}

/// What a number or a share of `total` comes to.
///
/// # Errors
/// A text that is no share.
pub(crate) fn share(value: &IntOrString, total: usize, round: Round) -> Result<usize, String> {
    let text = match value {
        IntOrString::Int(number) => {
            return usize::try_from(*number).map_err(|_| format!("{number} is less than 0"));
        }
        IntOrString::String(text) => text,
    };
    let percent = text.strip_suffix('%').and_then(|digits| digits.parse::<usize>().ok());
    let percent = percent.filter(|percent| *percent <= 100);
    let percent = percent.ok_or_else(|| format!("{text:?} is neither a number nor a share like 25%"))?;
    let exact = total * percent;
    Ok(match round {
        Round::Up => exact.div_ceil(100),
        Round::Down => exact / 100,
    })
}
