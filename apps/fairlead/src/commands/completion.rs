//! `fairlead completion`

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::arguments::Arguments;
use crate::failure::{Code, Failure};
use crate::output;

#[derive(Args, Debug)]
pub(crate) struct CompletionArguments {
    /// For which shell
    shell: Shell,
}

pub(crate) fn run(arguments: &CompletionArguments) -> Result<Code, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut Arguments::command(), "fairlead", &mut script);
    output::data(&String::from_utf8_lossy(&script))?;
    Ok(Code::Ok)
}
