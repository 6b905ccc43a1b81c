//! `fairlead hub authority …`

mod standing;

use std::path::{Path, PathBuf};

use assembly::authority::{self, Rotation};
use assembly::control_plane::kubeconfig_path;
use clap::{Args, Subcommand};
use jiff::Timestamp;

use super::super::cluster;
use crate::arguments::{Format, Global};
use crate::failure::{Code, Failure, program};
use crate::{connection, output};
use standing::{COLUMNS, Standing, Step};

/// Rotate the authority by which agents recognise the hub. A running hub follows each step within seconds. `prepare`; when
/// every agent has been connected since, `switch`; when agents' certificates are renewed, `finish`. `status` says who is not
/// so far. Who was away for all of it is brought back by `fairlead agent rebind`.
#[derive(Subcommand, Debug)]
pub(crate) enum AuthorityCommand {
    /// Show the present authority and how far a rotation is
    Show(ShowArguments),
    /// Show of each cluster whether it has taken the next authority. Exit code 0: every one has; 1: not
    Status(ShowArguments),
    /// Make the next authority; agents learn to trust both
    Prepare(DirectoryArguments),
    /// Let the next authority sign; what the previous one signed is still good
    Switch(StepArguments),
    /// Forget the previous authority
    Finish(StepArguments),
}

#[derive(Args, Debug)]
pub(crate) struct DirectoryArguments {
    /// The hub's directory
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub(crate) struct ShowArguments {
    #[command(flatten)]
    directory: DirectoryArguments,
    /// How to print
    #[arg(long, short, value_enum, default_value_t)]
    output: Format,
}

#[derive(Args, Debug)]
pub(crate) struct StepArguments {
    #[command(flatten)]
    directory: DirectoryArguments,
    /// Also while clusters have not taken the next authority, or the hub cannot be asked which
    #[arg(long)]
    force: bool,
}

impl DirectoryArguments {
    fn path(&self) -> Result<&Path, Failure> {
        self.dir.as_deref().ok_or_else(|| Failure::usage("--dir is missing"))
    }
}

pub(crate) async fn run(global: &Global, command: &AuthorityCommand) -> Result<Code, Failure> {
    match command {
        AuthorityCommand::Show(arguments) => {
            let rotation = authority::show(arguments.directory.path()?).map_err(program)?;
            print(arguments.output, &rotation)?;
        }
        AuthorityCommand::Status(arguments) => return status(global, arguments).await,
        AuthorityCommand::Prepare(arguments) => {
            let rotation = authority::prepare(arguments.path()?).map_err(program)?;
            print(Format::Table, &rotation)?;
            output::progress("when every agent has been connected since: fairlead hub authority switch");
        }
        AuthorityCommand::Switch(arguments) => {
            step(global, arguments, Step::Switch, authority::switch).await?;
            output::progress("when agents' certificates are renewed: fairlead hub authority finish");
        }
        AuthorityCommand::Finish(arguments) => {
            step(global, arguments, Step::Finish, authority::finish).await?;
        }
    }
    Ok(Code::Ok)
}

/// Takes a step that leaves behind who is not so far.
async fn step(
    global: &Global,
    arguments: &StepArguments,
    step: Step,
    take: fn(&Path) -> Result<Rotation, assembly::AssemblyError>,
) -> Result<(), Failure> {
    let directory = arguments.directory.path()?;
    let rotation = authority::show(directory).map_err(program)?;
    // A step out of order is refused by itself.
    if !arguments.force && step.is_next(&rotation) {
        let standings = standings(global, directory, &rotation).await.map_err(|failure| {
            let error = failure.error.unwrap_or_else(|| anyhow::anyhow!("the hub does not answer"));
            let error = error.context("cannot tell which clusters have taken the next authority");
            Failure::new(failure.code, error).hint("start the hub; or --force")
        })?;
        if let Some(behind) = standing::behind(&standings, step, Timestamp::now()) {
            return Err(Failure::negative(behind).hint(format!(
                "fairlead hub authority status --dir {}; --force leaves them behind, for `fairlead agent rebind`",
                directory.display()
            )));
        }
    }
    print(Format::Table, &take(directory).map_err(program)?)
}

async fn status(global: &Global, arguments: &ShowArguments) -> Result<Code, Failure> {
    let directory = arguments.directory.path()?;
    let rotation = authority::show(directory).map_err(program)?;
    let standings = standings(global, directory, &rotation).await?;
    let name = |one: &Standing| format!("cluster/{}", one.cluster);
    output::values(arguments.output, "no cluster has joined", &COLUMNS, &standings, standing::row, name)?;
    let step = Step::of(&rotation);
    Ok(match standing::behind(&standings, step, Timestamp::now()) {
        None => Code::Ok,
        Some(behind) => {
            output::progress(&behind);
            Code::Negative
        }
    })
}

/// How far each cluster is, as the running hub knows it.
async fn standings(global: &Global, directory: &Path, rotation: &Rotation) -> Result<Vec<Standing>, Failure> {
    let kubeconfig = global.kubeconfig.clone().unwrap_or_else(|| kubeconfig_path(directory));
    let client = connection::server(global, &kubeconfig).await?;
    let clusters = cluster::list(client, None).await?;
    Ok(clusters.iter().filter_map(|cluster| Standing::of(cluster, rotation)).collect())
}

fn print(format: Format, rotation: &Rotation) -> Result<(), Failure> {
    match format {
        Format::Json => output::data(&(output::json(rotation)? + "\n")),
        Format::Yaml => output::data(&output::yaml(rotation)?),
        Format::Name => output::data(&format!("{}\n", rotation.current)),
        Format::Table | Format::Wide => {
            let mut text = format!("current   {}\n", rotation.current);
            for (name, pin) in [("next", &rotation.next), ("previous", &rotation.previous)] {
                if let Some(pin) = pin {
                    text.push_str(&format!("{name:<9} {pin}\n"));
                }
            }
            output::data(&text)
        }
    }
}
