//! `fairlead test run`

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use fleet_objects::test_run::{TestRun, TestRunSpec, TestTargets, WorkflowReference};
use fleet_objects::test_workflow::{TestPriority, TestWorkflow};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};
use kube::api::PostParams;
use kube::{Api, ResourceExt};

use super::targets::Target;
use super::{ephemeral, watch};
use crate::arguments::{self, ClusterChoice, Global};
use crate::commands::throw_away::ThrowAway;
use crate::documents::Document;
use crate::failure::{Code, Failure, api};
use crate::{connection, documents, output};

/// Exit code 0: passed everywhere; 1: failed somewhere; 4: could not run somewhere; 5: --timeout is over (the run goes on).
#[derive(Args, Debug)]
pub(crate) struct RunArguments {
    /// Name of a TestWorkflow on the hub
    #[arg(required_unless_present = "file", conflicts_with = "file", value_name = "WORKFLOW")]
    workflow: Option<String>,
    /// File with a TestWorkflow, also one of Testkube's, or a TestRun; - for stdin
    #[arg(long, short)]
    file: Option<PathBuf>,
    #[command(flatten)]
    clusters: ClusterChoice,
    /// Set a variable of the workflow
    #[arg(long = "var", value_name = "NAME=VALUE")]
    variables: Vec<String>,
    /// Set a parameter of the workflow
    #[arg(long = "config", value_name = "NAME=VALUE")]
    config: Vec<String>,
    /// Who comes first where executions wait for a place in a cluster [default: the workflow's, else normal]
    #[arg(long, value_parser = ["background", "normal", "high", "urgent"])]
    priority: Option<String>,
    /// Name of the run [default: the workflow's name and a few letters]
    #[arg(long)]
    name: Option<String>,
    /// Stream the logs of all clusters and wait for the end
    #[arg(long, short)]
    watch: bool,
    /// How long to wait with --watch
    #[arg(long, default_value = "30m", value_parser = arguments::duration, value_name = "DURATION")]
    pub(super) timeout: Duration,
    /// Print the TestRun instead of making it
    #[arg(long)]
    export: bool,
    /// Write a report of the run, like junit=results.xml; implies --watch
    #[arg(long = "report", value_name = "FORMAT=FILE")]
    pub(super) reports: Vec<Target>,
    /// Run in a cluster of its own in this process, gone afterwards: no hub, no set-up; implies --watch
    #[arg(long, requires = "file", conflicts_with_all = ["clusters", "selector", "all_clusters"])]
    ephemeral: bool,
    #[command(flatten)]
    pub(super) cluster: ThrowAway,
    /// Lead KUBECONFIG in every step to the ephemeral cluster itself, with all rights
    #[arg(long, requires = "ephemeral", help_heading = "Ephemeral cluster")]
    pub(super) cluster_access: bool,
}

pub(crate) async fn run(global: &Global, arguments: RunArguments) -> Result<Code, Failure> {
    if !arguments.ephemeral && arguments.cluster.is_given() {
        return Err(Failure::usage("--nodes, --runtime and --seed are of --ephemeral"));
    }
    let (run, others) = resolve(global, &arguments)?;
    if arguments.export {
        output::data(&output::yaml(&run)?)?;
        return Ok(Code::Ok);
    }
    if arguments.ephemeral {
        return Box::pin(ephemeral::run(global, &arguments, run, &others)).await;
    }
    let client = connection::hub(global).await?;
    let runs: Api<TestRun> = Api::namespaced(client.clone(), &global.namespace);
    let made = runs.create(&PostParams::default(), &run).await.map_err(api("cannot make the test run"))?;
    let name = made.name_any();
    if !arguments.watch && arguments.reports.is_empty() {
        output::data(&format!("testrun/{name}\n"))?;
        output::progress(&format!("follow it with: fairlead test watch {name}"));
        return Ok(Code::Ok);
    }
    output::progress(&format!("test run {name} in namespace {}", global.namespace));
    let code = watch::follow(&client, global, &name, arguments.timeout).await?;
    super::targets::write(&client, global, &name, &arguments.reports).await?;
    Ok(code)
}

/// The run, and what else its file holds.
fn resolve(global: &Global, arguments: &RunArguments) -> Result<(TestRun, Vec<Document>), Failure> {
    let (mut run, others) = match (&arguments.file, &arguments.workflow) {
        (Some(file), _) => from_file(file, arguments.ephemeral)?,
        (None, name) => {
            let name = name.clone().unwrap_or_default();
            let workflow_ref = Some(WorkflowReference { name: name.clone() });
            (TestRun::new(&name, TestRunSpec { workflow_ref, ..TestRunSpec::default() }), Vec::new())
        }
    };
    let chosen = targets_of(&arguments.clusters)?;
    if arguments.ephemeral {
        run.spec.targets = TestTargets { all: true, ..TestTargets::default() };
    } else if chosen != TestTargets::default() {
        run.spec.targets = chosen;
    }
    run.spec.variables.extend(variables(&arguments.variables)?);
    let config = variables(&arguments.config)?.into_iter();
    run.spec.config.extend(config.map(|(name, value)| (name, serde_json::Value::from(value))));
    if let Some(priority) = arguments.priority.as_deref() {
        run.spec.priority = Some(match priority {
            "background" => TestPriority::Background,
            "high" => TestPriority::High,
            "urgent" => TestPriority::Urgent,
            _ => TestPriority::Normal,
        });
    }
    let base = run.name_any();
    run.metadata.name = None;
    run.metadata.namespace = Some(global.namespace.clone());
    match &arguments.name {
        Some(name) => run.metadata.name = Some(name.clone()),
        None => run.metadata.generate_name = Some(format!("{base}-")),
    }
    workflow::validate::run(&run.spec).map_err(|invalid| {
        let missing = invalid.0.iter().any(|error| error.field == "spec.targets");
        let mut text = String::from("the test run is not valid");
        for error in &invalid.0 {
            text.push_str(&format!("\n  {error}"));
        }
        let failure = Failure::usage(text);
        if missing { failure.hint("fairlead test run … --all-clusters") } else { failure }
    })?;
    Ok((run, others))
}

/// The first TestRun of a file, else its first TestWorkflow, is what runs. The rest is of use to an ephemeral cluster only:
/// a hub has its workflows already.
fn from_file(file: &std::path::Path, ephemeral: bool) -> Result<(TestRun, Vec<Document>), Failure> {
    let mut documents = documents::read(file)?;
    for document in &mut documents {
        super::import::in_place(document);
    }
    if documents.len() != 1 && !ephemeral {
        let message = format!("{} holds {} documents; one is wanted", file.display(), documents.len());
        return Err(Failure::usage(message));
    }
    let of_kind = |kind: &str| documents.iter().position(|document| document.kind() == kind);
    let Some(main) = of_kind("TestRun").or_else(|| of_kind("TestWorkflow")) else {
        let kinds: Vec<_> = documents.iter().map(Document::kind).collect();
        let message = format!(
            "{} holds {}; a TestWorkflow or a TestRun is wanted",
            file.display(),
            if kinds.is_empty() { "nothing".to_owned() } else { kinds.join(", ") }
        );
        return Err(Failure::usage(message));
    };
    let document = documents.remove(main);
    if document.kind() == "TestRun" {
        return Ok((document.parse()?, documents));
    }
    let workflow: TestWorkflow = document.parse()?;
    let spec = TestRunSpec { workflow: Some(workflow.spec.clone()), ..TestRunSpec::default() };
    let name = workflow.metadata.name.unwrap_or_else(|| "run".to_owned());
    Ok((TestRun::new(&name, spec), documents))
}

fn targets_of(choice: &ClusterChoice) -> Result<TestTargets, Failure> {
    let selector = choice.selector.as_deref().map(selector).transpose()?;
    Ok(TestTargets { clusters: choice.clusters.clone(), selector, all: choice.all_clusters })
}

/// Reads a selector as `kubectl -l` does.
fn selector(text: &str) -> Result<LabelSelector, Failure> {
    let mut expressions = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        let end = requirement_end(rest);
        let (part, after) = rest.split_at(end);
        let expression = requirement(part.trim());
        expressions.push(expression.ok_or_else(|| {
            Failure::usage(format!("-l {text:?} is not a label selector: {:?} cannot be read", part.trim()))
        })?);
        rest = after.strip_prefix(',').unwrap_or(after).trim();
    }
    if expressions.is_empty() {
        return Err(Failure::usage("-l is empty").hint("fairlead test run … --all-clusters"));
    }
    Ok(LabelSelector { match_expressions: Some(expressions), match_labels: None })
}

/// The first comma that is not within brackets.
fn requirement_end(text: &str) -> usize {
    let mut depth = 0_u32;
    for (index, character) in text.char_indices() {
        match character {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => return index,
            _ => {}
        }
    }
    text.len()
}

fn requirement(part: &str) -> Option<LabelSelectorRequirement> {
    let make = |key: &str, operator: &str, values: Option<Vec<String>>| {
        let key = key.trim();
        let plain = !key.is_empty() && !key.contains([' ', '(', ')', '=', '!', ',']);
        let (key, operator) = (key.to_owned(), operator.to_owned());
        plain.then_some(LabelSelectorRequirement { key, operator, values })
    };
    let list = |text: &str| {
        let inner = text.trim().strip_prefix('(')?.strip_suffix(')')?;
        Some(inner.split(',').map(|value| value.trim().to_owned()).collect())
    };
    let one = |value: &str| Some(vec![value.trim().to_owned()]);
    if let Some((key, value)) = part.split_once("!=") {
        make(key, "NotIn", one(value))
    } else if let Some((key, value)) = part.split_once("==").or_else(|| part.split_once('=')) {
        make(key, "In", one(value))
    } else if let Some((key, values)) = part.split_once(" notin ") {
        make(key, "NotIn", Some(list(values)?))
    } else if let Some((key, values)) = part.split_once(" in ") {
        make(key, "In", Some(list(values)?))
    } else if let Some(key) = part.strip_prefix('!') {
        make(key, "DoesNotExist", None)
    } else {
        make(part, "Exists", None)
    }
}

fn variables(texts: &[String]) -> Result<BTreeMap<String, String>, Failure> {
    let pair = |text: &String| {
        let (name, value) =
            text.split_once('=').ok_or_else(|| Failure::usage(format!("{text:?} is not NAME=VALUE")))?;
        Ok((name.to_owned(), value.to_owned()))
    };
    texts.iter().map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_read_as_kubectl_reads_them() {
        let selector = selector("region=eu,tier!=test,zone in (a, b),!old,new").expect("valid");
        let told: Vec<_> = selector
            .match_expressions
            .expect("expressions")
            .into_iter()
            .map(|requirement| (requirement.key, requirement.operator))
            .collect();
        let expected =
            [("region", "In"), ("tier", "NotIn"), ("zone", "In"), ("old", "DoesNotExist"), ("new", "Exists")];
        assert_eq!(told, expected.map(|(key, operator)| (key.to_owned(), operator.to_owned())));
        for bad in ["", "a b", "=x", "zone in a", "!"] {
            assert!(super::selector(bad).is_err(), "{bad}");
        }
    }
}
