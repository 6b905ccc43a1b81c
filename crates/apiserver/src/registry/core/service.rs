//! `v1.Service`: its rules, and its addresses from the service network.

pub(crate) mod addresses;

use async_trait::async_trait;
use jiff::Timestamp;
use kube_objects::{Status, StatusCause};
use serde_json::{Value, json};

use self::addresses::{Addresses, Cidr};
use crate::registry::plain::Plain;
use crate::registry::strategy::{RequestContext, Strategy};
use kind_rules::columns::Column;
use kind_rules::core::service::{RULES, beyond_ipv4, cluster_ips, is_headless, needs_address};
use kind_rules::json::{default, default_text, entries, existing, list, set, text, texts};
use kind_rules::names::NameRule;
use kind_rules::path::Path;
use kind_rules::problems::Problems;

/// Services; holds which addresses and node ports are taken.
#[derive(Debug, Default)]
pub(crate) struct Service {
    addresses: Addresses,
}

const PLAIN: Plain = Plain(RULES);

#[async_trait]
impl Strategy for Service {
    fn name_rule(&self) -> NameRule {
        PLAIN.name_rule()
    }

    fn default_fields(&self, object: &mut Value) {
        PLAIN.default_fields(object);
    }

    async fn prepare_for_create(&self, cx: &RequestContext<'_>, object: &mut Value) -> Result<(), Status> {
        PLAIN.prepare_for_create(cx, object).await?;
        self.allocate(cx, object, None).await
    }

    async fn prepare_for_update(
        &self,
        cx: &RequestContext<'_>,
        object: &mut Value,
        old: &Value,
    ) -> Result<(), Status> {
        set(object, "status", old["status"].clone());
        PLAIN.prepare_for_update(cx, object, old).await?;
        self.allocate(cx, object, Some(old)).await?;
        if !cx.dry_run {
            self.addresses.release_difference(old, object);
        }
        Ok(())
    }

    fn validate(&self, cx: &RequestContext<'_>, object: &Value) -> Vec<StatusCause> {
        PLAIN.validate(cx, object)
    }

    fn validate_update(&self, cx: &RequestContext<'_>, object: &Value, old: &Value) -> Vec<StatusCause> {
        PLAIN.validate_update(cx, object, old)
    }

    fn warnings(&self, object: &Value) -> Vec<String> {
        PLAIN.warnings(object)
    }

    fn update_warnings(&self, object: &Value, old: &Value) -> Vec<String> {
        PLAIN.update_warnings(object, old)
    }

    async fn abandon_create(&self, cx: &RequestContext<'_>, object: &Value) {
        if cx.dry_run {
            return;
        }
        // A Service of that name may be there already and hold the very address this one asked for. If that cannot be
        // found out, nothing is freed: an address lost until the next start harms less than one given twice.
        let name = text(&object["metadata"], "name");
        if let Ok(existing) = cx.objects.get("", "services", cx.namespace, name).await {
            self.addresses.release_difference(object, &existing.unwrap_or_default());
        }
    }

    async fn after_delete(&self, _: &RequestContext<'_>, object: &Value) {
        self.addresses.release(object);
    }

    fn selectable_fields(&self) -> &'static [&'static str] {
        RULES.selectable
    }

    fn counts_generation(&self) -> bool {
        RULES.counts_generation
    }

    fn columns(&self) -> Vec<Column> {
        PLAIN.columns()
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        PLAIN.cells(object, now)
    }
}

impl Service {
    /// Gives the service what it lacks. On a dry run it gets what it would get, and nothing is kept.
    async fn allocate(
        &self,
        cx: &RequestContext<'_>,
        object: &mut Value,
        old: Option<&Value>,
    ) -> Result<(), Status> {
        if !needs_address(&object["spec"]) {
            return Ok(());
        }
        let Some(cidr) = cx.facts.service_cidr.as_deref().and_then(Cidr::parse) else { return Ok(()) };
        let before = old.map(|old| &old["spec"]).filter(|old| needs_address(old));
        if before.is_some_and(|before| text(before, "clusterIP") != text(&object["spec"], "clusterIP")) {
            // Addresses do not change: the rules will say so, and of nothing else.
            if let (Some(before), Some(spec)) = (before, existing(object, "spec")) {
                for key in ["ipFamilies", "ipFamilyPolicy"] {
                    default(spec, key, before[key].clone());
                }
            }
            return Ok(());
        }
        self.addresses.load(cx.objects).await?;
        // A name still to be generated leaves the allocation to its namespace; see `Addresses::release`.
        let name = match text(&object["metadata"], "name") {
            "" => cx.name.to_owned(),
            name => name.to_owned(),
        };
        let Some(spec) = existing(object, "spec") else { return Ok(()) };
        let mut problems = Problems::default();
        cluster_ips(&mut problems, &Path::new("spec"), spec, before);
        if problems.is_empty() {
            default_families(spec);
            for (field, value, why) in beyond_ipv4(spec) {
                problems.invalid(field, &value, why);
            }
        }
        if problems.is_empty() {
            let identity = format!("{}/{name}", cx.namespace);
            if let Err((field, value, why)) = self.addresses.assign(cidr, &identity, spec, cx.dry_run) {
                problems.invalid(field, &value, &why);
            }
        }
        if problems.is_empty() {
            return Ok(());
        }
        Err(Status::invalid("", "Service", cx.name, problems.into_causes()))
    }
}

/// The families of a network of IPv4 alone. One without address or selector may be served by both: whoever writes its
/// endpoints knows.
fn default_families(spec: &mut Value) {
    if is_headless(spec) && entries(spec, "selector").next().is_none() {
        default_text(spec, "ipFamilyPolicy", "RequireDualStack");
        let both = text(spec, "ipFamilyPolicy") != "SingleStack";
        match list(spec, "ipFamilies") {
            [] if both => set(spec, "ipFamilies", json!(["IPv4", "IPv6"])),
            [only] if both => {
                let other = if only == "IPv4" { "IPv6" } else { "IPv4" };
                set(spec, "ipFamilies", json!([only, other]));
            }
            [] => set(spec, "ipFamilies", json!(["IPv4"])),
            _ => {}
        }
        return;
    }
    let of = |ip: &str| if ip.contains(':') { "IPv6" } else { "IPv4" };
    let own: Vec<&str> = texts(spec, "clusterIPs").filter(|ip| *ip != "None").map(of).collect();
    let families = if own.is_empty() { json!(["IPv4"]) } else { json!(own) };
    default_text(spec, "ipFamilyPolicy", if own.len() > 1 { "RequireDualStack" } else { "SingleStack" });
    if list(spec, "ipFamilies").is_empty() {
        set(spec, "ipFamilies", Value::Null);
    }
    default(spec, "ipFamilies", families);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_follow_the_addresses() {
        let cases = [
            (json!({}), "SingleStack", json!(["IPv4"])),
            (
                json!({"clusterIP": "None", "clusterIPs": ["None"]}),
                "RequireDualStack",
                json!(["IPv4", "IPv6"]),
            ),
            (
                json!({"clusterIP": "None", "clusterIPs": ["None"], "selector": {"a": "b"}}),
                "SingleStack",
                json!(["IPv4"]),
            ),
            (json!({"clusterIPs": ["fd00::1"]}), "SingleStack", json!(["IPv6"])),
        ];
        for (mut spec, policy, families) in cases {
            default_families(&mut spec);
            assert_eq!((&spec["ipFamilyPolicy"], &spec["ipFamilies"]), (&json!(policy), &families));
        }
    }
}
