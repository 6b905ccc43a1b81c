//! `fairlead join chart`: the agent as a Helm chart. Its templates are the very objects of `fairlead join manifest`, with
//! values in place of what differs, so that the two ways to join can never drift apart.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use serde_json::Value;

use super::manifest::{
    ProfileRights, Values, access_rights, ceiling, join_token, namespaces, profile_rights, rights,
    service_account, shipped_ceiling, stateful_set,
};
use crate::failure::{Code, Failure};
use crate::output;

/// The chart's name.
const CHART: &str = "fairlead-agent";

/// Write the Helm chart of the agent: `helm upgrade --install fairlead-agent DIR -n fairlead-system --create-namespace
/// -f values.yaml`, with the values of `fairlead join manifest NAME -o helm-values`.
#[derive(Args, Debug)]
pub(crate) struct ChartArguments {
    /// Where; files of the chart that are there are replaced
    directory: PathBuf,
}

pub(crate) fn write(arguments: &ChartArguments) -> Result<Code, Failure> {
    let directory = &arguments.directory;
    std::fs::create_dir_all(directory.join("templates"))
        .with_context(|| format!("cannot make the directory {}", directory.display()))?;
    for (name, text) in files()? {
        let path = directory.join(name);
        std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    output::progress(&format!(
        "next: helm upgrade --install {CHART} {} -n fairlead-system --create-namespace -f values.yaml, \
         with the values of `fairlead join manifest NAME -o helm-values`",
        directory.display()
    ));
    Ok(Code::Ok)
}

/// What stands for a value in a document until it is written; words that nothing else in a document is made of.
struct Slot {
    mark: &'static str,
    template: &'static str,
}

const SLOTS: [Slot; 8] = [
    Slot {
        mark: "SLOT-CLUSTER",
        template: r#"{{ required "cluster is missing" .Values.cluster | toJson }}"#,
    },
    Slot { mark: "SLOT-HUB", template: r#"{{ required "hub is missing" .Values.hub | toJson }}"# },
    Slot { mark: "SLOT-PIN", template: r#"{{ required "caPin is missing" .Values.caPin | toJson }}"# },
    Slot { mark: "SLOT-TOKEN", template: "{{ .Values.joinToken | toJson }}" },
    Slot { mark: "SLOT-IMAGE", template: "{{ .Values.image | toJson }}" },
    Slot { mark: "SLOT-ACCESS", template: "{{ .Values.access | toJson }}" },
    Slot { mark: "SLOT-STORAGE", template: "{{ .Values.storage | toJson }}" },
    Slot { mark: "SLOT-CEILING", template: "{{ .Values.ceiling | toJson }}" },
];
/// The agent itself binds nobody; it only opens the way or does not.
const OWN_ACCESS: Slot =
    Slot { mark: "SLOT-OWN", template: r#"{{ ternary "off" "none" (eq .Values.access "off") | toJson }}"# };

/// Every file of the chart by its path.
fn files() -> Result<BTreeMap<&'static str, String>, Failure> {
    let mark = |index: usize| SLOTS[index].mark.to_owned();
    let slots = Values {
        cluster: mark(0),
        hub: mark(1),
        ca_pin: mark(2),
        join_token: mark(3),
        image: mark(4),
        profiles: ProfileRights::default(),
        access: mark(5),
        storage: mark(6),
    };
    // Helm makes the namespace of the release itself; one that it did not make it would not take over.
    let namespaces: Vec<Value> = namespaces().into_iter().skip(1).collect();
    let agent = [service_account(), ceiling(SLOTS[7].mark), stateful_set(&slots, OWN_ACCESS.mark)];
    let access = access_rights(&slots.access);
    let (way, administrators) = access.split_at(2);
    let when = |condition: &str, documents: &[Value]| {
        Ok::<_, Failure>(format!("{{{{- if {condition} }}}}\n{}{{{{- end }}}}\n", template(documents)?))
    };
    let profiles = when(r#"eq .Values.profiles "workloads""#, &profile_rights(ProfileRights::Workloads))?
        + &when(r#"eq .Values.profiles "cluster-admin""#, &profile_rights(ProfileRights::ClusterAdmin))?;
    let named = r#"and (ne .Values.access "off") (ne .Values.access "none")"#;
    let access = when(r#"ne .Values.access "off""#, way)? + &when(named, administrators)?;
    Ok(BTreeMap::from([
        ("Chart.yaml", chart()),
        ("values.yaml", values()?),
        ("templates/namespaces.yaml", template(&namespaces)?),
        ("templates/agent.yaml", template(&agent)?),
        ("templates/join-token.yaml", when(".Values.joinToken", &[join_token(&slots.join_token)])?),
        ("templates/rights.yaml", template(&rights())?),
        ("templates/profiles.yaml", profiles),
        ("templates/access.yaml", access),
    ]))
}

/// Documents, with their slots as expressions.
fn template(documents: &[Value]) -> Result<String, Failure> {
    let mut text = String::new();
    for document in documents {
        let _ = write!(text, "---\n{}", output::yaml(document)?);
    }
    for Slot { mark, template } in SLOTS.iter().chain([&OWN_ACCESS]) {
        text = text.replace(mark, template);
    }
    Ok(text)
}

fn chart() -> String {
    let version = env!("CARGO_PKG_VERSION");
    format!(
        "apiVersion: v2\nname: {CHART}\ndescription: The agent by which this cluster belongs to a fleet\n\
         type: application\nversion: {version}\nappVersion: \"{version}\"\n"
    )
}

fn values() -> Result<String, Failure> {
    let ceiling: String = shipped_ceiling()?.lines().map(|line| format!("  {line}\n")).collect();
    let image = concat!("fairlead.dev/fairlead:", env!("CARGO_PKG_VERSION"));
    Ok(format!(
        "# What `fairlead join manifest NAME -o helm-values` prints.
# Name of the cluster in the fleet; needed.
cluster: \"\"
# Where the cluster reaches the hub, https://HOST:PORT; needed.
hub: \"\"
# By what the hub is recognised, sha256:…; needed.
caPin: \"\"
# A join token; needed until the cluster has joined, may go afterwards.
joinToken: \"\"
image: {image}
# What profiles may do before the owner grants them anything by name: none, workloads or cluster-admin.
profiles: workloads
# A ClusterRole for the hub's administrators; none: whom the cluster binds as cluster:hub:…; off: nobody.
access: \"off\"
# Size of the agent's volume.
storage: 2Gi
# What the fleet may do here at most; the owner's to change. `fairlead agent ceiling FILE` checks one.
ceiling: |
{ceiling}"
    ))
}

#[cfg(test)]
mod tests;
