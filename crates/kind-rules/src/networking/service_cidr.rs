//! `ServiceCIDR`.

use serde_json::Value;

use crate::checks::columns;
use crate::columns::age;
use crate::json::list;
use crate::net;
use crate::path::Path;
use crate::problems::{IMMUTABLE, Problems, Verbatim, go_form};
use crate::rules::KindRules;
use crate::storage::keep_metadata;

/// `networking.k8s.io/v1.ServiceCIDR`.
pub const SERVICE_CIDR: KindRules = KindRules {
    validate,
    validates_updates: false,
    validate_update: |problems, object, old| {
        let (new, before) = (list(&object["spec"], "cidrs"), list(&old["spec"], "cidrs"));
        let at = Path::new("spec.cidrs");
        match (before.len(), new.len()) {
            (was, is) if was == is => {
                for (index, (new, before)) in new.iter().zip(before).enumerate() {
                    if new != before {
                        problems.invalid(at.index(index), new, IMMUTABLE);
                    }
                }
            }
            // A second family may join.
            (1, 2) => {
                if new[0] != before[0] {
                    problems.invalid(at.index(0), &new[0], IMMUTABLE);
                }
                validate(problems, object);
            }
            _ => problems.invalid(at, &object["spec"]["cidrs"], IMMUTABLE),
        }
    },
    prepare_status: keep_metadata,
    counts_generation: false,
    columns: || columns(&["CIDRs", "Age"]),
    cells: |object, now| {
        let all: Vec<&str> = list(&object["spec"], "cidrs").iter().filter_map(Value::as_str).collect();
        vec![all.join(",").into(), age(object, now)]
    },
    ..KindRules::NEW
};

fn validate(problems: &mut Problems, object: &Value) {
    let at = Path::new("spec.cidrs");
    let all = list(&object["spec"], "cidrs");
    let spec = go_form(&object["spec"], &[("cidrs", "CIDRs", "null")]);
    match all.len() {
        0 => return problems.required(at, "at least one CIDR required"),
        1 | 2 => {}
        _ => return problems.invalid(at, Verbatim(&spec), "may only hold up to 2 values"),
    }
    for (index, own) in all.iter().enumerate() {
        net::cidr(problems, at.index(index), own.as_str().unwrap_or_default());
    }
    let family = |own: &Value| own.as_str().and_then(net::parse_cidr).map(|cidr| cidr.address.is_ipv4());
    if let [one, other] = all
        && family(one).is_some()
        && family(one) == family(other)
    {
        let detail =
            "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64";
        problems.invalid(at, &object["spec"]["cidrs"], detail);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::{findings, update_findings};

    #[test]
    fn networks_come_one_per_family_and_stay() {
        let of = |cidrs: &[&str]| json!({"spec": {"cidrs": cidrs}});
        assert_eq!(
            findings(&SERVICE_CIDR, &of(&[])),
            ["spec.cidrs: Required value: at least one CIDR required"]
        );
        assert_eq!(findings(&SERVICE_CIDR, &of(&["10.0.0.0/8", "11.0.0.0/8"])).len(), 1);
        let (one, two) = (of(&["10.0.0.0/8"]), of(&["10.0.0.0/8", "fd00::/64"]));
        assert!(update_findings(&SERVICE_CIDR, &two, &one).is_empty());
        assert_eq!(
            update_findings(&SERVICE_CIDR, &of(&["11.0.0.0/8"]), &one),
            ["spec.cidrs[0]: Invalid value: \"11.0.0.0/8\": field is immutable"]
        );
        assert_eq!(update_findings(&SERVICE_CIDR, &one, &two).len(), 1);
    }
}
