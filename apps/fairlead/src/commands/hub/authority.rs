//! `fairlead hub authority …`

use std::path::PathBuf;

use assembly::authority::{self, Rotation};
use clap::{Args, Subcommand};

use crate::failure::{Code, Failure, program};
use crate::output;

/// Rotate the authority by which agents recognise the hub. A running hub follows each step within seconds. `prepare`; when
/// every agent has been connected since, `switch`; when agents' certificates are renewed, `finish`. Who was away for all of
/// it is brought back by `fairlead agent rebind`.
#[derive(Subcommand, Debug)]
pub(crate) enum AuthorityCommand {
    /// Show the present authority and how far a rotation is
    Show(DirectoryArguments),
    /// Make the next authority; agents learn to trust both
    Prepare(DirectoryArguments),
    /// Let the next authority sign; what the previous one signed is still good
    Switch(DirectoryArguments),
    /// Forget the previous authority
    Finish(DirectoryArguments),
}

#[derive(Args, Debug)]
pub(crate) struct DirectoryArguments {
    /// The hub's directory
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

type Step = fn(&std::path::Path) -> Result<Rotation, assembly::AssemblyError>;

pub(crate) fn run(command: &AuthorityCommand) -> Result<Code, Failure> {
    let (arguments, step, next): (_, Step, _) = match command {
        AuthorityCommand::Show(arguments) => (arguments, authority::show, None),
        AuthorityCommand::Prepare(arguments) => (
            arguments,
            authority::prepare,
            Some("when every agent has been connected since: fairlead hub authority switch"),
        ),
        AuthorityCommand::Switch(arguments) => (
            arguments,
            authority::switch,
            Some("when agents' certificates are renewed: fairlead hub authority finish"),
        ),
        AuthorityCommand::Finish(arguments) => (arguments, authority::finish, None),
    };
    let directory = arguments.dir.as_ref().ok_or_else(|| Failure::usage("--dir is missing"))?;
    let rotation = step(directory).map_err(program)?;
    let mut text = format!("current   {}\n", rotation.current);
    for (name, pin) in [("next", &rotation.next), ("previous", &rotation.previous)] {
        if let Some(pin) = pin {
            text.push_str(&format!("{name:<9} {pin}\n"));
        }
    }
    output::data(&text)?;
    if let Some(next) = next {
        output::progress(next);
    }
    Ok(Code::Ok)
}
