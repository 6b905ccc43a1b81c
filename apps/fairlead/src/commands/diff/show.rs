//! How changes are printed.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use fleet_planner::compare::{Action, FieldChange, ObjectChange};
use fleet_planner::preview::{ClusterChange, Unchosen};
use serde_json::{Value, json};

/// Clusters named of a group.
const NAMED: usize = 3;
/// Characters of a value that are shown.
const SHOWN: usize = 120;

type Changes = BTreeMap<String, Vec<ClusterChange>>;

/// For programs.
pub(super) fn machine(changes: &Changes, unchosen: &[Unchosen], looked_at: usize) -> Value {
    let clusters = changes.iter().map(|(cluster, changes)| json!({"cluster": cluster, "changes": changes}));
    json!({
        "clusters": clusters.collect::<Vec<_>>(),
        "changed": changes.len(),
        "unchanged": looked_at.saturating_sub(changes.len()),
        "unchosen": unchosen,
    })
}

/// For people: clusters in which the same happens are told together, the larger groups first.
pub(super) fn text(changes: &Changes, unchosen: &[Unchosen], looked_at: usize) -> String {
    let mut groups: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for (cluster, changes) in changes {
        groups.entry(changes.iter().map(change).collect()).or_default().push(cluster);
    }
    let mut groups: Vec<(String, Vec<&str>)> = groups.into_iter().collect();
    groups.sort_by(|a, b| b.1.len().cmp(&a.1.len()).then_with(|| a.1.cmp(&b.1)));
    let mut out = String::new();
    for (text, clusters) in &groups {
        let named = clusters.iter().take(NAMED).copied().collect::<Vec<_>>().join(", ");
        let more = clusters.len().saturating_sub(NAMED);
        let _ = match (clusters.len(), more) {
            (1, _) => writeln!(out, "cluster {named}:"),
            (_, 0) => writeln!(out, "clusters {named}:"),
            _ => writeln!(out, "clusters {named} and {more} more:"),
        };
        out.push_str(text);
        out.push('\n');
    }
    for Unchosen { placement, problem, clusters } in unchosen {
        let _ = writeln!(
            out,
            "! placement {placement} cannot be told of {clusters} clusters: who has its profile keeps it, nobody gets it\n    \
             {problem}\n"
        );
    }
    let _ = writeln!(out, "{} of {looked_at} clusters would change", changes.len());
    out
}

fn change(change: &ClusterChange) -> String {
    let ClusterChange { profile, action, placement, rollout, objects, problem, notes } = change;
    let mut out = match action {
        Action::Add => format!("  + profile {profile}"),
        Action::Change => format!("  ~ profile {profile}"),
        Action::Remove => format!("  - profile {profile}, which no placement brings any more"),
    };
    if let Some(placement) = placement {
        let _ = write!(out, " by placement {placement}");
    }
    if let Some(rollout) = rollout {
        let _ = write!(out, ", when rollout {rollout} lets it");
    }
    out.push('\n');
    for one in objects {
        object(one, &mut out);
    }
    if let Some(problem) = problem {
        let _ = writeln!(out, "    ! nothing changes: {problem}");
    }
    for note in notes {
        let _ = writeln!(out, "    note: {note}");
    }
    out
}

fn object(change: &ObjectChange, out: &mut String) {
    let ObjectChange { action, object, fields, more_fields } = change;
    let name = match &object.namespace {
        Some(namespace) => format!("{} {namespace}/{}", object.kind, object.name),
        None => format!("{} {}", object.kind, object.name),
    };
    let sign = match action {
        Action::Add => '+',
        Action::Change => '~',
        Action::Remove => '-',
    };
    let _ = writeln!(out, "    {sign} {name}");
    for FieldChange { path, before, after } in fields {
        let _ = match (before, after) {
            (None, after) => writeln!(out, "        {path}: + {}", value(after.as_ref())),
            (before, None) => writeln!(out, "        {path}: - {}", value(before.as_ref())),
            (before, after) => {
                writeln!(out, "        {path}: {} -> {}", value(before.as_ref()), value(after.as_ref()))
            }
        };
    }
    if *more_fields > 0 {
        let _ = writeln!(out, "        and {more_fields} more fields");
    }
}

fn value(value: Option<&Value>) -> String {
    let text = value.map(Value::to_string).unwrap_or_default();
    if text.chars().count() <= SHOWN {
        return text;
    }
    let cut: String = text.chars().take(SHOWN).collect();
    format!("{cut}…")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clusters_with_the_same_changes_are_told_together() {
        let reference = fleet_objects::ObjectReference {
            api_version: "v1".into(),
            kind: "ConfigMap".into(),
            namespace: None,
            name: "app".into(),
        };
        let field = FieldChange {
            path: "data.color".into(),
            before: Some(json!("blue")),
            after: Some(json!("green")),
        };
        let object =
            ObjectChange { action: Action::Change, object: reference, fields: vec![field], more_fields: 0 };
        let change = ClusterChange {
            profile: "default/app".into(),
            action: Action::Change,
            placement: Some("default/app".into()),
            rollout: Some("careful".into()),
            objects: vec![object],
            problem: None,
            notes: vec!["3 deletions wait for confirmation".into()],
        };
        let lost = ClusterChange {
            action: Action::Remove,
            placement: None,
            rollout: None,
            problem: Some("no YAML".into()),
            notes: Vec::new(),
            objects: Vec::new(),
            ..change.clone()
        };
        let mut changes: Changes =
            ["a", "b", "c", "d"].map(|name| (name.to_owned(), vec![change.clone()])).into();
        changes.insert("aa".to_owned(), vec![lost]);
        let unchosen = [Unchosen {
            placement: "default/gpu".into(),
            problem: "cluster a: no such key: gpu".into(),
            clusters: 9,
        }];
        insta::assert_snapshot!(text(&changes, &unchosen, 9), @r#"
        clusters a, b, c and 1 more:
          ~ profile default/app by placement default/app, when rollout careful lets it
            ~ ConfigMap app
                data.color: "blue" -> "green"
            note: 3 deletions wait for confirmation

        cluster aa:
          - profile default/app, which no placement brings any more
            ! nothing changes: no YAML

        ! placement default/gpu cannot be told of 9 clusters: who has its profile keeps it, nobody gets it
            cluster a: no such key: gpu

        5 of 9 clusters would change
        "#);
        let machine = machine(&changes, &unchosen, 9);
        assert_eq!((&machine["unchanged"], &machine["unchosen"][0]["clusters"]), (&json!(4), &json!(9)));
    }
}
