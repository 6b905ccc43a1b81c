//! `fairlead policy …`

mod expectations;
mod junit;
mod suites;
mod test;
mod view;

use clap::Subcommand;

use crate::arguments::Global;
use crate::failure::{Code, Failure};
use view::View;

#[derive(Subcommand, Debug)]
pub(crate) enum PolicyCommand {
    /// Try policies on manifests; neither hub nor cluster is needed
    Test(test::TestArguments),
    /// What each policy says of each cluster, in figures
    Status(view::ViewArguments),
    /// Which objects break policies, and why
    Results(view::ViewArguments),
    /// When policies began and ceased to be broken
    History(view::ViewArguments),
}

pub(crate) async fn run(global: &Global, command: PolicyCommand) -> Result<Code, Failure> {
    match command {
        PolicyCommand::Test(arguments) => test::run(global, arguments).await,
        PolicyCommand::Status(arguments) => view::run(global, View::Status, &arguments).await,
        PolicyCommand::Results(arguments) => view::run(global, View::Results, &arguments).await,
        PolicyCommand::History(arguments) => view::run(global, View::History, &arguments).await,
    }
}
