//! How good a feasible cluster is: the sum of what prioritizers say, stickiness, and taints that would rather have it left.

use fleet_objects::{Prioritizer, TaintEffect};

use super::{Input, untolerated};
use crate::cluster_view::ClusterView;
use crate::expressions::facts;

/// What one prioritizer gives at most, times its weight: the best feasible cluster gets it, the worst nothing.
const FULL: i64 = 100;
/// What being chosen already counts when the placement does not say: as much as one prioritizer.
const STICKINESS: i32 = 100;
/// What a taint with `PreferNoPlace` takes away: as much as one prioritizer gives.
const AVOIDED: i64 = 100;
/// Weights beyond make no difference that a person means, and none overflows.
const MAX_WEIGHT: i32 = 1000;

/// The scores of clusters, in their order, or what is wrong with an expression.
pub(super) fn scores(input: &Input<'_>, feasible: &[&ClusterView]) -> Result<Vec<i64>, String> {
    let placement = input.placement;
    let stickiness = i64::from(placement.stickiness.unwrap_or(STICKINESS));
    let mut scores: Vec<i64> = feasible
        .iter()
        .map(|cluster| {
            let sticky = if input.already.contains(&cluster.name) { stickiness } else { 0 };
            let avoid = untolerated(placement, cluster)
                .filter(|taint| taint.effect == TaintEffect::PreferNoPlace)
                .map(|_| AVOIDED);
            sticky - avoid.sum::<i64>()
        })
        .collect();
    for prioritizer in &placement.prioritizers {
        for (score, points) in scores.iter_mut().zip(points(input, prioritizer, feasible)?) {
            *score = score.saturating_add(points);
        }
    }
    Ok(scores)
}

/// From the raw values of all feasible clusters to points: between the worst and the best on a straight line.
fn points(
    input: &Input<'_>,
    prioritizer: &Prioritizer,
    feasible: &[&ClusterView],
) -> Result<Vec<i64>, String> {
    let expression = &prioritizer.expression;
    let value = |cluster: &&ClusterView| {
        let value = input.expressions.score(expression, &facts(cluster));
        value.map_err(|problem| format!("{expression}: cluster {}: {problem}", cluster.name))
    };
    let values: Vec<i64> = feasible.iter().map(value).collect::<Result<_, _>>()?;
    let (Some(least), Some(most)) = (values.iter().min(), values.iter().max()) else {
        return Ok(Vec::new());
    };
    let weight = i128::from(prioritizer.weight.clamp(-MAX_WEIGHT, MAX_WEIGHT));
    let range = i128::from(*most) - i128::from(*least);
    let point = |value: &i64| {
        if range == 0 {
            return 0;
        }
        let share = (i128::from(*value) - i128::from(*least)) * i128::from(FULL) / range;
        // At most 100 * 1000.
        i64::try_from(share * weight).unwrap_or(0)
    };
    Ok(values.iter().map(point).collect())
}
