//! `fairlead placement …`

use clap::{Args, Subcommand};
use fleet_objects::Placement;
use kube::Api;
use kube::ResourceExt;
use kube::api::ListParams;

use crate::arguments::{Format, Global};
use crate::failure::{Code, Failure, api};
use crate::{connection, output};

#[derive(Subcommand, Debug)]
pub(crate) enum PlacementCommand {
    /// Say for each cluster why it was chosen or not
    Explain(ExplainArguments),
    /// List placements
    List(ListArguments),
}

#[derive(Args, Debug)]
pub(crate) struct ExplainArguments {
    /// Which placement
    name: String,
}

#[derive(Args, Debug)]
pub(crate) struct ListArguments {
    /// How to print
    #[arg(long, short, value_enum, default_value_t)]
    output: Format,
}

pub(crate) async fn run(global: &Global, command: PlacementCommand) -> Result<Code, Failure> {
    let placements: Api<Placement> = Api::namespaced(connection::hub(global).await?, &global.namespace);
    match command {
        PlacementCommand::Explain(arguments) => {
            let found = placements.get(&arguments.name).await;
            let found = found.map_err(api(format!("cannot get placement {}", arguments.name)))?;
            output::data(&explain(&found))?;
            Ok(Code::Ok)
        }
        PlacementCommand::List(arguments) => {
            let found =
                placements.list(&ListParams::default()).await.map_err(api("cannot list placements"))?;
            let header = ["NAME", "PROFILE", "SELECTED", "CONSIDERED", "AGE"];
            output::objects(arguments.output, "placement", &header, &found.items, row)?;
            Ok(Code::Ok)
        }
    }
}

fn explain(placement: &Placement) -> String {
    let Some(status) = &placement.status else {
        return format!("placement {}: the hub has not looked at it yet\n", placement.name_any());
    };
    let mut rows = vec![["CLUSTER", "SELECTED", "STEP", "SCORE", "REASON"].map(str::to_owned).to_vec()];
    rows.extend(status.decisions.iter().map(|decision| {
        let selected = if decision.selected { "yes" } else { "no" };
        let score = decision.score.map_or_else(String::new, |score| score.to_string());
        let step = format!("{:?}", decision.step);
        vec![decision.cluster.clone(), selected.to_owned(), step, score, decision.reason.clone()]
    }));
    let mut out = workflow::report::columns(&rows);
    let figures = format!(
        "\n{} of {} clusters get profile {}",
        status.selected, status.considered, placement.spec.profile
    );
    out.push_str(&figures);
    if placement.metadata.generation.is_some_and(|generation| generation > status.observed_generation) {
        out.push_str("; the hub has not looked at the newest change yet");
    }
    out.push('\n');
    out
}

fn row(placement: &Placement) -> Vec<String> {
    let status = placement.status.clone().unwrap_or_default();
    vec![
        placement.name_any(),
        placement.spec.profile.clone(),
        status.selected.to_string(),
        status.considered.to_string(),
        output::age(placement.metadata.creation_timestamp.as_ref()),
    ]
}
