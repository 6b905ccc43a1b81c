//! Alert rules and silences. Whether the receivers that a rule names are there is not looked at: they may come after it.

use fleet_objects::alert::{AlertRuleSpec, AlertSilenceSpec, MAX_RECEIVERS};

use super::{FieldError, at, wrong};
use crate::cluster_view;
use crate::expressions::Expressions;

/// Everything that keeps a rule from being judged as it says.
#[must_use]
pub fn rule_problems(spec: &AlertRuleSpec, expressions: &dyn Expressions) -> Vec<FieldError> {
    let mut found = Vec::new();
    if let Some(selector) = &spec.clusters {
        found.extend(cluster_view::problems(&at("clusters"), selector, expressions));
    }
    if spec.receivers.len() > MAX_RECEIVERS {
        found.push(FieldError::too_many(&at("receivers"), spec.receivers.len(), MAX_RECEIVERS));
    }
    found
}

/// Everything that keeps a silence from ever being about an alert. One that is over already is not wrong: it did what it was
/// written for.
#[must_use]
pub fn silence_problems(spec: &AlertSilenceSpec) -> Vec<FieldError> {
    let mut found = Vec::new();
    if spec.match_labels.is_empty() {
        let detail = "at least one label, of which the value * is any";
        found.push(FieldError::required(&at("matchLabels"), detail));
    }
    if let Some(starts) = spec.starts_at.as_ref().filter(|starts| starts.0 >= spec.ends_at.0) {
        let detail = format!("{} is not after its beginning, {}", spec.ends_at.0, starts.0);
        found.push(wrong(&at("endsAt"), detail));
    }
    found
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::validation::odd::Odd;

    fn of_rule(spec: Value) -> Vec<String> {
        let found = rule_problems(&serde_json::from_value(spec).unwrap(), &Odd);
        found.iter().map(ToString::to_string).collect()
    }

    fn of_silence(spec: Value) -> Vec<String> {
        let found = silence_problems(&serde_json::from_value(spec).unwrap());
        found.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn rules_choose_clusters_that_can_be_chosen_and_tell_at_most_ten() {
        let receivers: Vec<String> = (0..11).map(|number| format!("r{number}")).collect();
        let wrong = of_rule(json!({"on": "ClusterOffline", "receivers": receivers,
            "clusters": {"celExpressions": ["odd"]}}));
        assert_eq!(
            wrong,
            [
                "spec.clusters.celExpressions[0]: Invalid value: \"odd\": no condition",
                "spec.receivers: Too many: 11: must have at most 10 items",
            ]
        );
        let good = json!({"on": "DriftFight", "receivers": ["comes-later"], "clusters": {}});
        assert_eq!(of_rule(good), Vec::<String>::new());
    }

    #[test]
    fn silences_are_about_something_and_end_after_they_begin() {
        let wrong = of_silence(json!({"matchLabels": {}, "startsAt": "2026-02-01T00:00:00Z",
            "endsAt": "2026-01-01T00:00:00Z"}));
        assert_eq!(
            wrong,
            [
                "spec.matchLabels: Required value: at least one label, of which the value * is any",
                "spec.endsAt: Invalid value: 2026-01-01T00:00:00Z is not after its beginning, 2026-02-01T00:00:00Z",
            ]
        );
        let over = json!({"matchLabels": {"cluster": "*"}, "endsAt": "2001-01-01T00:00:00Z"});
        assert_eq!(of_silence(over), Vec::<String>::new());
    }
}
