//! Small questions about objects that several plans ask. Pure.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{
    api::core::v1::{Pod, PodTemplateSpec},
    apimachinery::pkg::{
        apis::meta::v1::{LabelSelector, ObjectMeta, OwnerReference},
        util::intstr::IntOrString,
    },
};

/// Tells which template a daemon's or a stateful pod was made from.
pub(crate) const REVISION_HASH: &str = "controller-revision-hash";

pub(crate) type Labels = BTreeMap<String, String>;

/// Whether `labels` satisfy `selector`. An empty selector matches nothing: no controller wants everything. So does one
/// with an operator that isn't known.
pub(crate) fn selects(selector: &LabelSelector, labels: Option<&Labels>) -> bool {
    let empty = Labels::new();
    let labels = labels.unwrap_or(&empty);
    let exact = selector.match_labels.as_ref();
    let expressions = selector.match_expressions.as_deref().unwrap_or_default();
    if exact.is_none_or(BTreeMap::is_empty) && expressions.is_empty() {
        return false;
    }
    exact.into_iter().flatten().all(|(key, value)| labels.get(key) == Some(value))
        && expressions.iter().all(|expression| {
            let value = labels.get(&expression.key);
            let values = expression.values.as_deref().unwrap_or_default();
            match expression.operator.as_str() {
                "In" => value.is_some_and(|value| values.contains(value)),
                "NotIn" => value.is_none_or(|value| !values.contains(value)),
                "Exists" => value.is_some(),
                "DoesNotExist" => value.is_none(),
                _ => false,
            }
        })
}

/// The reference that makes `owner` control an object.
pub(crate) fn controller_reference(api_version: &str, kind: &str, owner: &ObjectMeta) -> OwnerReference {
    OwnerReference {
        api_version: api_version.to_owned(),
        kind: kind.to_owned(),
        name: owner.name.clone().unwrap_or_default(),
        uid: owner.uid.clone().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

pub(crate) fn is_controlled_by(object: &ObjectMeta, uid: &str) -> bool {
    object.owner_references.iter().flatten().any(|owner| owner.controller == Some(true) && owner.uid == uid)
}

/// A pod as `template` wants it, named by the server after `base`.
pub(crate) fn pod_of(template: &PodTemplateSpec, base: &str, namespace: &str, owner: OwnerReference) -> Pod {
    let meta = template.metadata.clone().unwrap_or_default();
    Pod {
        metadata: ObjectMeta {
            generate_name: Some(format!("{base}-")),
            namespace: Some(namespace.to_owned()),
            labels: meta.labels,
            annotations: meta.annotations,
            finalizers: meta.finalizers,
            owner_references: Some(vec![owner]),
            ..ObjectMeta::default()
        },
        spec: template.spec.clone(),
        status: None,
    }
}

pub(crate) fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or("Pending")
}

/// Neither ended nor on its way out.
pub(crate) fn is_active(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_none() && !matches!(phase(pod), "Succeeded" | "Failed")
}

/// Since when the pod is ready; `None` when it is not.
pub(crate) fn ready_since(pod: &Pod) -> Option<Option<Timestamp>> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    let ready =
        conditions.iter().find(|condition| condition.type_ == "Ready" && condition.status == "True")?;
    Some(ready.last_transition_time.as_ref().map(|time| time.0))
}

pub(crate) fn is_ready(pod: &Pod) -> bool {
    ready_since(pod).is_some()
}

/// How much longer the pod must stay ready to count as available: zero when it counts; `None` when it is not ready.
pub(crate) fn until_available(pod: &Pod, min_ready_seconds: i32, now: Timestamp) -> Option<SignedDuration> {
    let since = ready_since(pod)?;
    if min_ready_seconds <= 0 {
        return Some(SignedDuration::ZERO);
    }
    let since = since.unwrap_or(now);
    let needed = SignedDuration::from_secs(i64::from(min_ready_seconds));
    Some((needed - now.duration_since(since)).max(SignedDuration::ZERO))
}

/// A number or a share of `total`, rounded up or down; what makes no sense counts as nothing.
pub(crate) fn share(value: Option<&IntOrString>, total: i32, round_up: bool) -> i32 {
    match value {
        None => 0,
        Some(IntOrString::Int(number)) => (*number).max(0),
        Some(IntOrString::String(text)) => {
            let percent = text.strip_suffix('%').and_then(|digits| digits.parse::<i64>().ok()).unwrap_or(0);
            let product = percent.clamp(0, 100_000) * i64::from(total.max(0));
            let number = if round_up { (product + 99) / 100 } else { product / 100 };
            i32::try_from(number).unwrap_or(i32::MAX)
        }
    }
}

/// FNV-1a over the template's JSON (whose keys are in a fixed order), in the letters Kubernetes uses for such names.
pub(crate) fn template_hash(template: &PodTemplateSpec, collisions: i32) -> String {
    const LETTERS: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
    let json = serde_json::json!([template, collisions]).to_string();
    let hash = json.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let mut rest = hash;
    (0..10)
        .map(|_| {
            let letter = usize::try_from(rest % 27).unwrap_or(0);
            rest /= 27;
            char::from(LETTERS[letter])
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelectorRequirement;

    #[test]
    fn shares_round_as_asked() {
        let quarter = IntOrString::String("25%".to_owned());
        assert_eq!((share(Some(&quarter), 10, true), share(Some(&quarter), 10, false)), (3, 2));
        assert_eq!(share(Some(&IntOrString::Int(4)), 10, true), 4);
        assert_eq!(share(Some(&IntOrString::String("many".to_owned())), 10, true), 0);
    }

    #[test]
    fn an_empty_selector_selects_nothing() {
        assert!(!selects(&LabelSelector::default(), Some(&Labels::new())));
        let not_in = LabelSelector {
            match_expressions: Some(vec![LabelSelectorRequirement {
                key: "a".to_owned(),
                operator: "NotIn".to_owned(),
                values: Some(vec!["x".to_owned()]),
            }]),
            match_labels: None,
        };
        assert!(selects(&not_in, None));
        assert!(!selects(&not_in, Some(&[("a".to_owned(), "x".to_owned())].into())));
    }
}
