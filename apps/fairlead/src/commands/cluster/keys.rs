//! `fairlead cluster keys …`

use std::path::PathBuf;

use assembly::token_keys::{self, KeptKey};
use clap::{Args, Subcommand};
use serde::Serialize;

use crate::arguments::Format;
use crate::failure::{Code, Failure, program};
use crate::output::{self, Columns};

#[derive(Subcommand, Debug)]
pub(crate) enum KeysCommand {
    /// List the keys, the one that signs first
    List(ListArguments),
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
pub(crate) struct ListArguments {
    #[command(flatten)]
    directory: DirectoryArguments,
    /// How to print
    #[arg(long, short, value_enum, default_value_t)]
    output: Format,
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
            let keys = token_keys::list(&arguments.directory.dir).map_err(program)?;
            let keys: Vec<Shown> = keys.iter().map(Shown::of).collect();
            output::values(arguments.output, "no key", &COLUMNS, &keys, Shown::row, |key| key.id.clone())?;
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

/// A key, for programs.
#[derive(Serialize)]
struct Shown {
    id: String,
    signs: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<String>,
}

const COLUMNS: Columns<'_> = Columns { always: &["ID", "SIGNS", "SINCE"], wide: &[] };

impl Shown {
    fn of(key: &KeptKey) -> Self {
        let since = jiff::Timestamp::try_from(key.since).ok().map(|time| format!("{time:.0}"));
        Self { id: key.id.to_string(), signs: key.signs, since }
    }

    fn row(&self) -> Vec<String> {
        let since = self.since.clone().unwrap_or_else(|| "-".to_owned());
        vec![self.id.clone(), self.signs.to_string(), since]
    }
}
