//! `fairlead alert …`

use std::collections::BTreeMap;
use std::time::Duration;

use clap::{Args, Subcommand};
use fleet_objects::alert::{Alert, AlertRule, AlertSilence, AlertSilenceSpec, AlertState};
use jiff::Timestamp;
use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::{Api, Client, ResourceExt};
use serde::Serialize;

use crate::arguments::{self, Format, Global};
use crate::failure::{Code, Failure, api};
use crate::{connection, output};

#[derive(Subcommand, Debug)]
pub(crate) enum AlertCommand {
    /// Show what is wrong in the fleet, by the rules of the hub
    List(ListArguments),
    /// Tell nobody of some alerts for a time
    Silence(SilenceArguments),
    /// End a silence
    Unsilence(UnsilenceArguments),
}

#[derive(Args, Debug)]
pub(crate) struct ListArguments {
    /// Of clusters by name; all unless given
    #[arg(long, visible_alias = "cluster", value_delimiter = ',', value_name = "NAME,…")]
    clusters: Vec<String>,
    /// Of these rules
    #[arg(long, value_delimiter = ',', value_name = "NAME,…")]
    rule: Vec<String>,
    /// What does not fire yet, too
    #[arg(long)]
    pending: bool,
    /// How to print
    #[arg(long, short, value_enum, default_value_t)]
    output: Format,
}

#[derive(Args, Debug)]
pub(crate) struct SilenceArguments {
    /// Labels that an alert must have, like cluster=prod or alertname=offline; a value * is any
    #[arg(required = true, value_name = "LABEL=VALUE", value_parser = label)]
    labels: Vec<(String, String)>,
    /// For how long
    #[arg(long = "for", value_parser = arguments::duration, value_name = "DURATION")]
    length: Duration,
    /// Why
    #[arg(long, default_value = "", value_name = "TEXT")]
    comment: String,
}

#[derive(Args, Debug)]
pub(crate) struct UnsilenceArguments {
    /// Which silence
    name: String,
}

fn label(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("a label is written LABEL=VALUE")?;
    if key.is_empty() || value.is_empty() {
        return Err("a label is written LABEL=VALUE".to_owned());
    }
    Ok((key.to_owned(), value.to_owned()))
}

pub(crate) async fn run(global: &Global, command: AlertCommand) -> Result<Code, Failure> {
    let client = connection::hub(global).await?;
    match command {
        AlertCommand::List(arguments) => list(client, &arguments).await,
        AlertCommand::Silence(arguments) => silence(client, arguments).await,
        AlertCommand::Unsilence(arguments) => {
            let silences: Api<AlertSilence> = Api::all(client);
            let ended = silences.delete(&arguments.name, &DeleteParams::default()).await;
            ended.map_err(api(format!("cannot end silence {}", arguments.name)))?;
            output::progress(&format!("ended silence {}", arguments.name));
            Ok(Code::Ok)
        }
    }
}

/// An alert with its rule, for programs.
#[derive(Serialize)]
struct Shown<'a> {
    rule: String,
    #[serde(flatten)]
    alert: &'a Alert,
}

async fn list(client: Client, arguments: &ListArguments) -> Result<Code, Failure> {
    let rules: Api<AlertRule> = Api::all(client);
    let rules = rules.list(&ListParams::default()).await.map_err(api("cannot list alert rules"))?.items;
    let wanted = |alert: &Alert| {
        let cluster = alert.labels.get("cluster");
        let of = arguments.clusters.is_empty()
            || cluster.is_some_and(|cluster| arguments.clusters.contains(cluster));
        of && match alert.state {
            AlertState::Firing => true,
            AlertState::Pending => arguments.pending,
            AlertState::Resolved => false,
        }
    };
    let mut shown: Vec<Shown<'_>> = Vec::new();
    for rule in
        rules.iter().filter(|rule| arguments.rule.is_empty() || arguments.rule.contains(&rule.name_any()))
    {
        let Some(status) = &rule.status else { continue };
        if let Some(problem) = &status.problem {
            output::progress(&format!("rule {}: {problem}", rule.name_any()));
        }
        if status.omitted > 0 {
            output::progress(&format!(
                "rule {}: {} more alerts are not followed",
                rule.name_any(),
                status.omitted
            ));
        }
        let own = status.alerts.iter().filter(|alert| wanted(alert));
        shown.extend(own.map(|alert| Shown { rule: rule.name_any(), alert }));
    }
    let nothing = if rules.is_empty() { "there is no alert rule" } else { "no alert" };
    let name = |shown: &Shown<'_>| format!("{}/{}", shown.rule, shown.alert.fingerprint);
    output::values(arguments.output, nothing, &COLUMNS, &shown, row, name)?;
    Ok(Code::Ok)
}

const COLUMNS: output::Columns<'_> = output::Columns {
    always: &["STATE", "RULE", "SEVERITY", "SINCE", "SILENCED-BY", "MESSAGE"],
    wide: &["FINGERPRINT"],
};

fn row(Shown { rule, alert }: &Shown<'_>) -> Vec<String> {
    vec![
        format!("{:?}", alert.state),
        rule.clone(),
        alert.labels.get("severity").cloned().unwrap_or_default(),
        output::age(Some(&alert.since)),
        alert.silenced_by.clone().unwrap_or_else(|| "-".to_owned()),
        alert.message.clone(),
        alert.fingerprint.clone(),
    ]
}

async fn silence(client: Client, arguments: SilenceArguments) -> Result<Code, Failure> {
    let length = jiff::SignedDuration::try_from(arguments.length).unwrap_or(jiff::SignedDuration::MAX);
    let ends = Timestamp::now().saturating_add(length).unwrap_or(Timestamp::MAX);
    let ends = Timestamp::from_second(ends.as_second()).unwrap_or(ends);
    let spec = AlertSilenceSpec {
        match_labels: arguments.labels.into_iter().collect::<BTreeMap<_, _>>(),
        starts_at: None,
        ends_at: Time(ends),
        comment: arguments.comment,
        created_by: whoami(&client).await,
    };
    let mut silence = AlertSilence::new("", spec);
    silence.metadata.name = None;
    silence.metadata.generate_name = Some("silence-".to_owned());
    let silences: Api<AlertSilence> = Api::all(client);
    let made = silences.create(&PostParams::default(), &silence).await;
    let made = made.map_err(api("cannot silence these alerts"))?;
    output::data(&format!("{}\n", made.name_any()))?;
    output::progress(&format!(
        "until {ends}; it ends earlier with: fairlead alert unsilence {}",
        made.name_any()
    ));
    Ok(Code::Ok)
}

/// As whom the hub knows who asks; nothing when it does not say.
async fn whoami(client: &Client) -> String {
    let reviews: Api<SelfSubjectReview> = Api::all(client.clone());
    let asked = reviews.create(&PostParams::default(), &SelfSubjectReview::default()).await;
    asked.ok().and_then(|review| review.status?.user_info?.username).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_whole_and_a_row_says_who_keeps_it_quiet() {
        assert_eq!(label("cluster=a=b"), Ok(("cluster".to_owned(), "a=b".to_owned())));
        assert!(label("cluster").is_err() && label("=a").is_err() && label("a=").is_err());
        let alert: Alert = serde_json::from_value(serde_json::json!({
            "fingerprint": "f", "state": "Firing", "labels": {"severity": "critical"}, "message": "m",
            "since": "2026-01-01T00:00:00Z", "silencedBy": "quiet"}))
        .expect("an alert");
        let row = row(&Shown { rule: "gone".to_owned(), alert: &alert });
        assert_eq!((row[0].as_str(), row[2].as_str(), row[4].as_str()), ("Firing", "critical", "quiet"));
    }
}
