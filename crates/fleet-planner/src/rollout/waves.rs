//! Which clusters are in which wave.

use fleet_objects::rollout::{Gate, RolloutStrategy, Wave};

use super::{MAX_CONCURRENCY, MAX_WAVES, Member};
use crate::cluster_view::selects;
use crate::expressions::Expressions;
use crate::share::{Round, share};

/// A wave with its clusters.
#[derive(Debug)]
pub(super) struct Planned<'a> {
    pub(super) name: String,
    pub(super) members: Vec<&'a Member>,
    pub(super) soak_seconds: u32,
    pub(super) gates: &'a [Gate],
}

/// How many may be under change at a time.
pub(super) fn max_concurrency(strategy: &RolloutStrategy, total: usize) -> Result<usize, String> {
    let Some(value) = &strategy.max_concurrency else { return Ok(MAX_CONCURRENCY) };
    let count = share(value, total, Round::Up).map_err(|problem| format!("maxConcurrency: {problem}"))?;
    Ok(count.clamp(1, MAX_CONCURRENCY))
}

/// How many may fail.
pub(super) fn failure_budget(strategy: &RolloutStrategy, total: usize) -> Result<usize, String> {
    let Some(value) = &strategy.failure_budget else { return Ok(0) };
    let count = share(value, total, Round::Down).map_err(|problem| format!("failureBudget: {problem}"))?;
    Ok(count.min(super::MAX_FAILED - 1))
}

/// How many that were away may catch up at a time: as many as a canary has.
pub(super) fn catch_up(strategy: &RolloutStrategy, total: usize) -> usize {
    let size = strategy.canary.as_ref().and_then(|canary| canary.clusters.as_ref());
    size.and_then(|size| share(size, total, Round::Up).ok()).unwrap_or(1).clamp(1, MAX_CONCURRENCY)
}

/// The waves in order. `began` says of a cluster whether it has the target or is getting it: such clusters come first in
/// their wave, then those that are there, then by name. So a wave by number takes clusters that can be changed, and those
/// that are away move to the end; once changed a cluster stays in its wave.
///
/// # Errors
/// What is wrong with the strategy.
pub(super) fn waves<'a>(
    strategy: &'a RolloutStrategy,
    members: &'a [Member],
    expressions: &dyn Expressions,
    began: impl Fn(&str) -> bool,
) -> Result<Vec<Planned<'a>>, String> {
    if strategy.waves.len() > MAX_WAVES {
        return Err(format!("{} waves are more than {MAX_WAVES}", strategy.waves.len()));
    }
    let total = members.len();
    let mut left: Vec<&Member> = members.iter().collect();
    left.sort_by_key(|member| {
        (!began(&member.view.name), member.unavailable.is_some(), member.view.name.as_str())
    });
    let mut planned = Vec::new();
    if let Some(canary) = &strategy.canary {
        planned.push(take(canary, "canary".to_owned(), true, &mut left, total, expressions)?);
    }
    for (index, wave) in strategy.waves.iter().enumerate() {
        planned.push(take(wave, format!("wave {}", index + 1), false, &mut left, total, expressions)?);
    }
    // What no wave takes; a strategy without waves is this one alone.
    if !left.is_empty() || planned.is_empty() {
        let name = if planned.is_empty() { "all" } else { "rest" }.to_owned();
        planned.push(Planned { name, members: left, soak_seconds: 0, gates: &[] });
    }
    Ok(planned)
}

fn take<'a>(
    wave: &'a Wave,
    name: String,
    canary: bool,
    left: &mut Vec<&'a Member>,
    total: usize,
    expressions: &dyn Expressions,
) -> Result<Planned<'a>, String> {
    let name = wave.name.clone().unwrap_or(name);
    let limit = match (&wave.clusters, &wave.cluster_selector) {
        (Some(size), _) => {
            share(size, total, Round::Up).map_err(|problem| format!("{name}: clusters: {problem}"))?
        }
        (None, None) if canary => 1,
        (None, _) => usize::MAX,
    };
    let mut members = Vec::new();
    left.retain(|member| {
        let chosen = wave
            .cluster_selector
            .as_ref()
            .is_none_or(|selector| selects(selector, &member.view, expressions).is_ok());
        let takes = chosen && members.len() < limit;
        if takes {
            members.push(*member);
        }
        !takes
    });
    Ok(Planned { name, members, soak_seconds: wave.soak_seconds, gates: &wave.gates })
}
