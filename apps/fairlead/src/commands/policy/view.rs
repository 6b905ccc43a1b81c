//! `fairlead policy status|results|history`: what the agents' audits found.

use clap::Args;
use fleet_objects::compliance::{ComplianceReport, ResultCounts, ViolationResult};
use kube::Api;
use kube::api::ListParams;
use workflow::report::columns;

use crate::arguments::{Format, Global};
use crate::failure::{Code, Failure, api};
use crate::{connection, output};

/// Which clusters and policies, and how to print.
#[derive(Args, Debug)]
pub(crate) struct ViewArguments {
    /// Clusters by name; all unless given
    #[arg(long, visible_alias = "cluster", value_delimiter = ',', value_name = "NAME,…")]
    clusters: Vec<String>,
    /// Only these policies; pod-security are the Pod Security Standards
    #[arg(long, value_delimiter = ',', value_name = "NAME,…")]
    policy: Vec<String>,
    /// How to print
    #[arg(long, short, value_enum, default_value_t)]
    output: Format,
}

impl ViewArguments {
    fn wants(&self, policy: &str) -> bool {
        self.policy.is_empty() || self.policy.iter().any(|wanted| wanted == policy)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum View {
    Status,
    Results,
    History,
}

/// The reports, cut to what is asked for.
async fn reports(global: &Global, arguments: &ViewArguments) -> Result<Vec<ComplianceReport>, Failure> {
    let all: Api<ComplianceReport> = Api::all(connection::hub(global).await?);
    let found = all.list(&ListParams::default()).await.map_err(api("cannot list compliance reports"))?;
    let mut reports = found.items;
    for wanted in &arguments.clusters {
        if !reports.iter().any(|report| report.spec.cluster == *wanted) {
            output::progress(&format!("cluster {wanted} has reported nothing of policies"));
        }
    }
    let wanted = &arguments.clusters;
    reports.retain(|report| wanted.is_empty() || wanted.contains(&report.spec.cluster));
    reports.sort_by(|a, b| a.spec.cluster.cmp(&b.spec.cluster));
    for report in &mut reports {
        let Some(status) = &mut report.status else { continue };
        status.state.policies.retain(|policy| arguments.wants(&policy.policy));
        status.state.violations.retain(|violation| arguments.wants(&violation.policy));
        status.history.retain(|change| arguments.wants(&change.policy));
    }
    Ok(reports)
}

pub(super) async fn run(global: &Global, view: View, arguments: &ViewArguments) -> Result<Code, Failure> {
    let reports = reports(global, arguments).await?;
    if !matches!(arguments.output, Format::Table | Format::Wide) {
        output::objects(arguments.output, "compliancereport", &[], &reports, |_| Vec::new())?;
        return Ok(Code::Ok);
    }
    if reports.is_empty() && arguments.clusters.is_empty() {
        output::progress("no cluster has reported anything of policies");
    }
    let known = |wanted: &&String| {
        let mut states = reports.iter().filter_map(|report| report.status.as_ref());
        states.any(|status| status.state.policies.iter().any(|policy| policy.policy == **wanted))
    };
    for wanted in arguments.policy.iter().filter(|wanted| !known(wanted)) {
        output::progress(&format!("nothing is reported of a policy {wanted}"));
    }
    if reports.is_empty() {
        return Ok(Code::Ok);
    }
    let rows = match view {
        View::Status => status(&reports),
        View::Results => results(&reports),
        View::History => history(&reports),
    };
    if rows.len() > 1 {
        output::data(&columns(&rows))?;
    }
    for line in reports.iter().flat_map(|report| remarks(report, view)) {
        output::progress(&line);
    }
    Ok(Code::Ok)
}

fn header(cells: &[&str]) -> Vec<Vec<String>> {
    vec![cells.iter().map(|cell| (*cell).to_owned()).collect()]
}

fn status(reports: &[ComplianceReport]) -> Vec<Vec<String>> {
    let mut rows = header(&["CLUSTER", "POLICY", "PROFILE", "PASS", "FAIL", "ERROR", "CHANGED"]);
    for report in reports {
        let Some(status) = &report.status else { continue };
        rows.extend(status.state.policies.iter().map(|policy| {
            let changed = status.history.iter().rev().find(|change| change.policy == policy.policy);
            let ResultCounts { pass, fail, error } = policy.counts;
            vec![
                report.spec.cluster.clone(),
                policy.policy.clone(),
                policy.profile.clone().unwrap_or_default(),
                pass.to_string(),
                fail.to_string(),
                error.to_string(),
                changed.map(|change| output::age(Some(&change.time))).unwrap_or_default(),
            ]
        }));
    }
    rows
}

fn results(reports: &[ComplianceReport]) -> Vec<Vec<String>> {
    let mut rows = header(&["CLUSTER", "OBJECT", "POLICY", "RULE", "RESULT", "MESSAGE"]);
    for report in reports {
        let Some(status) = &report.status else { continue };
        rows.extend(status.state.violations.iter().map(|violation| {
            let object = &violation.object;
            let place = object.namespace.iter().map(|namespace| format!("{namespace}/")).collect::<String>();
            let result = match violation.result {
                ViolationResult::Fail => "fail",
                ViolationResult::Error => "error",
            };
            vec![
                report.spec.cluster.clone(),
                format!("{}/{place}{}", object.kind, object.name),
                violation.policy.clone(),
                violation.rule.clone(),
                result.to_owned(),
                violation.message.clone(),
            ]
        }));
    }
    rows
}

fn shown(counts: Option<ResultCounts>) -> String {
    match counts {
        None => "none".to_owned(),
        Some(ResultCounts { pass, fail, error: 0 }) => format!("{fail} of {} fail", pass + fail),
        Some(ResultCounts { pass, fail, error }) => {
            format!("{fail} of {} fail, {error} unknown", pass + fail + error)
        }
    }
}

fn history(reports: &[ComplianceReport]) -> Vec<Vec<String>> {
    let changes = reports.iter().flat_map(|report| {
        let history = report.status.iter().flat_map(|status| &status.history);
        history.map(move |change| (report.spec.cluster.clone(), change))
    });
    let mut changes: Vec<_> = changes.collect();
    changes.sort_by_key(|(_, change)| change.time.0);
    let mut rows = header(&["TIME", "CLUSTER", "POLICY", "BEFORE", "AFTER"]);
    rows.extend(changes.into_iter().map(|(cluster, change)| {
        let time = change.time.0.to_string();
        vec![time, cluster, change.policy.clone(), shown(change.before), shown(change.after)]
    }));
    rows
}

/// What a table does not show.
fn remarks(report: &ComplianceReport, view: View) -> Vec<String> {
    let Some(status) = &report.status else { return Vec::new() };
    let mut lines = Vec::new();
    let cluster = &report.spec.cluster;
    let mut say = |count: u64, what: &str| {
        if count > 0 {
            lines.push(format!("{cluster}: {count} {what}"));
        }
    };
    match view {
        View::Status => say(status.state.unjudged, "objects could not be judged"),
        View::Results => say(status.state.violations_omitted, "more violations are counted and not listed"),
        View::History => say(status.history_omitted, "older changes are not kept"),
    }
    lines.extend(status.state.problem.iter().map(|problem| format!("{cluster}: {problem}")));
    lines
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn tables_say_what_was_found_and_what_they_leave_out() {
        let report: ComplianceReport = serde_json::from_value(json!({
            "apiVersion": "fleet.fairlead.dev/v1alpha1", "kind": "ComplianceReport",
            "metadata": {"name": "prod", "namespace": "cluster-prod"}, "spec": {"cluster": "prod"},
            "status": {"policyCount": 1, "violationsOmitted": 7, "problem": "cannot follow pods",
                "policies": [{"policy": "replicas", "profile": "default.shop", "counts": {"pass": 1, "fail": 2}}],
                "violations": [{"policy": "replicas", "rule": "validations[0]", "result": "fail", "message": "too many",
                    "object": {"apiVersion": "apps/v1", "kind": "Deployment", "namespace": "shop", "name": "web"}}],
                "history": [{"time": "2026-01-01T00:00:00Z", "policy": "replicas", "before": {"pass": 3},
                    "after": {"pass": 1, "fail": 2}}]}}))
        .expect("a report");
        let all = [report.clone()];
        assert_eq!(status(&all)[1][..6], ["prod", "replicas", "default.shop", "1", "2", "0"]);
        assert_eq!(
            results(&all)[1][1..],
            ["Deployment/shop/web", "replicas", "validations[0]", "fail", "too many"]
        );
        assert_eq!(history(&all)[1][2..], ["replicas", "0 of 3 fail", "2 of 3 fail"]);
        assert_eq!(
            remarks(&report, View::Results),
            ["prod: 7 more violations are counted and not listed", "prod: cannot follow pods"]
        );
    }
}
