//! Checks the house rules that no compiler checks.
pub(crate) fn run(_root: &std::path::Path) -> anyhow::Result<()> {
    Ok(())
}
