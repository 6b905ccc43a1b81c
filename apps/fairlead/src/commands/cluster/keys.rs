//! `fairlead cluster keys …`

use std::path::PathBuf;

use assembly::token_keys::{self, KeptKey};
use clap::{Args, Subcommand};

use crate::failure::{Code, Failure, program};
use crate::output;

#[derive(Subcommand, Debug)]
pub(crate) enum KeysCommand {
    /// List the keys, the one that signs first
    List(DirectoryArguments),
    /// Sign with a new key from now on; tokens of the one before stay good. A running server follows within seconds
    Rotate(DirectoryArguments),
    /// Refuse the tokens that a key signed
    Retire(RetireArguments),
}

#[derive(Args, Debug)]
pub(crate) struct DirectoryArguments {
    /// The state directory of the cluster or hub
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
}

#[derive(Args, Debug)]
pub(crate) struct RetireArguments {
    /// The key, as `list` shows it
    id: String,
    #[command(flatten)]
    directory: DirectoryArguments,
}

pub(crate) fn run(command: &KeysCommand) -> Result<Code, Failure> {
    match command {
        KeysCommand::List(arguments) => {
            let keys = token_keys::list(&arguments.dir).map_err(program)?;
            let lines: Vec<String> = keys.iter().map(line).collect();
            output::data(&format!("ID SIGNS SINCE\n{}\n", lines.join("\n")))?;
        }
        KeysCommand::Rotate(arguments) => {
            let id = token_keys::rotate(&arguments.dir).map_err(program)?;
            output::progress(&format!("key {id} signs from now on"));
        }
        KeysCommand::Retire(arguments) => {
            token_keys::retire(&arguments.directory.dir, &arguments.id).map_err(program)?;
            output::progress(&format!("key {} is retired", arguments.id));
        }
    }
    Ok(Code::Ok)
}

fn line(key: &KeptKey) -> String {
    let since =
        jiff::Timestamp::try_from(key.since).map_or_else(|_| "-".to_owned(), |time| format!("{time:.0}"));
    format!("{} {} {since}", key.id, key.signs)
}
