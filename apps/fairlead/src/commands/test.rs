//! `fairlead test …`

pub(crate) mod artifacts;
mod compare;
mod control;
mod ephemeral;
mod flaky;
pub(crate) mod import;
mod list;
mod logs;
mod report;
mod run;
mod targets;
pub(crate) mod watch;

use clap::Subcommand;
use fleet_objects::test_run::{Outcome, TestRun};
use kube::Api;
use kube::Client;
use workflow::fold;

use crate::arguments::Global;
use crate::failure::{Code, Failure, api};

#[derive(Subcommand, Debug)]
pub(crate) enum TestCommand {
    /// Run a workflow in clusters
    Run(Box<run::RunArguments>),
    /// Make Testkube's workflows and templates ours; names what cannot be
    Import(import::ImportArguments),
    /// Follow a run to its end; replays what happened before
    Watch(watch::WatchArguments),
    /// List runs
    List(list::ListArguments),
    /// Show one run
    Get(list::GetArguments),
    /// One report over all clusters of a run
    Report(report::ReportArguments),
    /// List the files a run kept, or save them
    Artifacts(artifacts::ArtifactsArguments),
    /// Print a run's logs
    Logs(logs::LogsArguments),
    /// Run again, everywhere or where it did not pass
    Rerun(control::RerunArguments),
    /// End a run; steps that have not ended are reported as not run
    Cancel(control::ControlArguments),
    /// Hold a run before its next step
    Pause(control::ControlArguments),
    /// Let a paused run go on
    Resume(control::ControlArguments),
    /// What changed from one run to another
    Compare(compare::CompareArguments),
    /// What comes and goes by itself over many runs
    Flaky(flaky::FlakyArguments),
}

pub(crate) async fn run(global: &Global, command: TestCommand) -> Result<Code, Failure> {
    match command {
        TestCommand::Run(arguments) => run::run(global, *arguments).await,
        TestCommand::Import(arguments) => import::run(global, arguments).await,
        TestCommand::Watch(arguments) => watch::run(global, arguments).await,
        TestCommand::List(arguments) => list::list(global, &arguments).await,
        TestCommand::Get(arguments) => list::get(global, &arguments).await,
        TestCommand::Report(arguments) => report::run(global, &arguments).await,
        TestCommand::Artifacts(arguments) => artifacts::run(global, &arguments).await,
        TestCommand::Logs(arguments) => logs::run(global, &arguments).await,
        TestCommand::Rerun(arguments) => control::rerun(global, &arguments).await,
        TestCommand::Cancel(arguments) => control::cancel(global, &arguments).await,
        TestCommand::Pause(arguments) => control::pause(global, &arguments).await,
        TestCommand::Resume(arguments) => control::resume(global, &arguments).await,
        TestCommand::Compare(arguments) => compare::run(global, &arguments).await,
        TestCommand::Flaky(arguments) => flaky::run(global, &arguments).await,
    }
}

pub(crate) async fn get(client: &Client, global: &Global, name: &str) -> Result<TestRun, Failure> {
    let runs: Api<TestRun> = Api::namespaced(client.clone(), &global.namespace);
    let found = runs.get(name).await.map_err(api(format!("cannot get test run {name}")));
    found.map_err(|failure| if failure.hint.is_none() { failure.hint("fairlead test list") } else { failure })
}

/// What a run's end means for the exit code; `None` while it has not ended.
fn code(run: &TestRun) -> Option<Code> {
    let status = run.status.as_ref()?;
    let condition = status.conditions.iter().find(|condition| condition.type_ == "Succeeded")?;
    match (condition.status.as_str(), fold::outcome(&status.clusters)) {
        ("True", _) => Some(Code::Ok),
        ("False", Some(Outcome::NotRun)) => Some(Code::Partial),
        ("False", None) => {
            Some(if condition.reason == "NoClusters" { Code::Partial } else { Code::Negative })
        }
        ("False", _) => Some(Code::Negative),
        _ => None,
    }
}

fn condition(run: &TestRun) -> (String, String) {
    let conditions = run.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    conditions.iter().find(|condition| condition.type_ == "Succeeded").map_or_else(
        || ("Pending".to_owned(), "no hub has taken it up yet".to_owned()),
        |condition| (condition.reason.clone(), condition.message.clone()),
    )
}

#[cfg(test)]
mod tests {
    use fleet_objects::test_run::{ClusterResult, TestRunSpec, TestRunStatus};
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;

    fn ended(outcomes: &[Option<Outcome>]) -> TestRun {
        let clusters = outcomes.iter().enumerate().map(|(index, outcome)| ClusterResult {
            cluster: format!("c{index}"),
            outcome: *outcome,
            ..ClusterResult::default()
        });
        let mut status = TestRunStatus { clusters: clusters.collect(), ..TestRunStatus::default() };
        fold::run(&mut status, Some(1), &Time(jiff::Timestamp::UNIX_EPOCH));
        let mut run = TestRun::new("r", TestRunSpec::default());
        run.status = Some(status);
        run
    }

    #[test]
    fn exit_codes_tell_failed_from_not_run() {
        let (passed, failed, not_run) = (Some(Outcome::Passed), Some(Outcome::Failed), Some(Outcome::NotRun));
        assert_eq!(code(&ended(&[passed, passed])), Some(Code::Ok));
        assert_eq!(code(&ended(&[passed, failed, not_run])), Some(Code::Negative));
        assert_eq!(code(&ended(&[passed, not_run])), Some(Code::Partial));
        assert_eq!(code(&ended(&[passed, None])), None);
        assert_eq!(code(&ended(&[])), Some(Code::Partial));
        assert_eq!(code(&TestRun::new("r", TestRunSpec::default())), None);
    }
}
