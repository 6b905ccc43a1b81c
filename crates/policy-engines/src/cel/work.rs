//! A bound on what an evaluation does, beside its cost: Kubernetes' costs leave out copies and comparisons of nested
//! data, so that a cheap expression could still take gigabytes or minutes. Upstream leaves that to request timeouts.

use std::cell::Cell;

use super::error::EvalError;

/// Steps of one evaluation: items compared or copied, bytes of text made. 32 million take well under a second and
/// bound what is made to some hundred megabytes in the worst case.
const MAX_STEPS: u64 = 32_000_000;

thread_local! {
    static LEFT: Cell<u64> = const { Cell::new(MAX_STEPS) };
}

/// Runs an evaluation with steps of its own. Evaluations do not leave their thread.
pub(super) fn bounded<T>(evaluate: impl FnOnce() -> T) -> T {
    let before = LEFT.replace(MAX_STEPS);
    let out = evaluate();
    LEFT.set(before);
    out
}

/// Takes steps.
///
/// # Errors
/// When none are left.
pub(super) fn spend(steps: usize) -> Result<(), EvalError> {
    let left = LEFT.get().checked_sub(steps as u64).ok_or_else(EvalError::cost_exceeded)?;
    LEFT.set(left);
    Ok(())
}
