//! Values of `fieldRef` and `resourceFieldRef`.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Pod, ResourceFieldSelector};

use crate::inputs::InputError;
use crate::pod::facts;

/// What a pod's own fields are, beside its document.
#[derive(Clone, Debug, Default)]
pub struct Own<'a> {
    /// The pod's addresses.
    pub pod_ips: &'a [String],
    /// The node's address.
    pub host_ip: &'a str,
    /// The node's name.
    pub node_name: &'a str,
}

/// The value of a `fieldRef`.
///
/// # Errors
/// For a path that upstream has not either.
pub fn field(pod: &Pod, path: &str, own: &Own<'_>) -> Result<String, InputError> {
    let meta = &pod.metadata;
    let spec = facts::spec(pod);
    if let Some((map, key)) = subscript(path) {
        let from = match map {
            "metadata.labels" => meta.labels.as_ref(),
            "metadata.annotations" => meta.annotations.as_ref(),
            _ => return Err(InputError::Field(path.to_owned())),
        };
        return Ok(from.and_then(|map| map.get(key)).cloned().unwrap_or_default());
    }
    let value = match path {
        "metadata.name" => meta.name.clone(),
        "metadata.namespace" => meta.namespace.clone(),
        "metadata.uid" => meta.uid.clone(),
        "metadata.labels" => Some(lines(meta.labels.as_ref())),
        "metadata.annotations" => Some(lines(meta.annotations.as_ref())),
        "spec.nodeName" => Some(own.node_name.to_owned()),
        "spec.serviceAccountName" => spec.service_account_name.clone(),
        "status.hostIP" | "status.hostIPs" => Some(own.host_ip.to_owned()),
        "status.podIP" => own.pod_ips.first().cloned(),
        "status.podIPs" => Some(own.pod_ips.join(",")),
        _ => return Err(InputError::Field(path.to_owned())),
    };
    Ok(value.unwrap_or_default())
}

fn subscript(path: &str) -> Option<(&str, &str)> {
    let (map, rest) = path.split_once('[')?;
    let key = rest.strip_suffix(']')?;
    Some((map, key.trim_matches(['\'', '"'])))
}

/// `key="value"` lines, as downward API files have them.
fn lines(map: Option<&BTreeMap<String, String>>) -> String {
    let each: Vec<String> =
        map.into_iter().flatten().map(|(key, value)| format!("{key}={value:?}")).collect();
    each.join("\n")
}

/// The value of a `resourceFieldRef`, divided and rounded up; a missing limit is 0 (upstream: the node's allocatable).
///
/// # Errors
/// For a resource that is none, or a container that isn't there.
pub fn resource(pod: &Pod, selector: &ResourceFieldSelector, container: &str) -> Result<String, InputError> {
    let name = selector.container_name.as_deref().filter(|name| !name.is_empty()).unwrap_or(container);
    let (_, container) =
        facts::container(pod, name).ok_or_else(|| InputError::Field(format!("container {name}")))?;
    let (list, resource) =
        selector.resource.split_once('.').ok_or_else(|| InputError::Field(selector.resource.clone()))?;
    let resources = container.resources.as_ref();
    let values = match list {
        "limits" => resources.and_then(|resources| resources.limits.as_ref()),
        "requests" => resources.and_then(|resources| resources.requests.as_ref()),
        _ => return Err(InputError::Field(selector.resource.clone())),
    };
    let amount =
        values.and_then(|values| values.get(resource)).map_or(0.0, |quantity| parse_quantity(&quantity.0));
    let divisor = selector.divisor.as_ref().map_or(1.0, |divisor| parse_quantity(&divisor.0));
    let divisor = if divisor > 0.0 { divisor } else { 1.0 };
    Ok(format!("{}", (amount / divisor).ceil()))
}

/// A quantity as a number: exact enough for shares and limits, below 2^53. What cannot be read is 0.
#[must_use]
pub fn parse_quantity(text: &str) -> f64 {
    let split =
        text.find(|c: char| !c.is_ascii_digit() && !matches!(c, '.' | '-' | '+')).unwrap_or(text.len());
    let (number, suffix) = text.split_at(split);
    let Ok(number) = number.parse::<f64>() else { return 0.0 };
    let factor = match suffix {
        "" => 1.0,
        "n" => 1e-9,
        "u" => 1e-6,
        "m" => 1e-3,
        "k" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        "T" => 1e12,
        "P" => 1e15,
        "E" => 1e18,
        "Ki" => 1024.0,
        "Mi" => 1024.0_f64.powi(2),
        "Gi" => 1024.0_f64.powi(3),
        "Ti" => 1024.0_f64.powi(4),
        "Pi" => 1024.0_f64.powi(5),
        "Ei" => 1024.0_f64.powi(6),
        exponent => match exponent.strip_prefix(['e', 'E']).and_then(|power| power.parse::<i32>().ok()) {
            Some(power) => 10f64.powi(power),
            None => return 0.0,
        },
    };
    number * factor
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read() {
        for (text, value) in
            [("100m", 0.1), ("1", 1.0), ("64Mi", 67_108_864.0), ("2e3", 2000.0), ("1.5G", 1.5e9), ("x", 0.0)]
        {
            assert!((parse_quantity(text) - value).abs() < 1e-9, "{text}");
        }
    }
}
