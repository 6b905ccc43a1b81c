//! Rollouts: their strategy. What a person says of one moment (`promote`, `abort`, `rollback`) is no part of it.

use fleet_objects::rollout::RolloutSpec;

use super::{FieldError, at};
use crate::expressions::Expressions;
use crate::rollout::strategy;

/// Everything that keeps the strategy from being followed.
#[must_use]
pub fn problems(spec: &RolloutSpec, expressions: &dyn Expressions) -> Vec<FieldError> {
    strategy::problems(&at("strategy"), &spec.strategy, expressions)
}
