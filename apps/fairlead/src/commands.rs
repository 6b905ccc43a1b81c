//! The commands, one file each.

mod cluster;
mod completion;
mod join;
mod kubeconfig;
mod placement;
mod profile;
mod test;
mod version;

use clap::Subcommand;

use crate::arguments::Arguments;
use crate::failure::{Code, Failure};

#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Clusters of the fleet
    #[command(subcommand)]
    Cluster(cluster::ClusterCommand),
    /// Invite clusters
    #[command(subcommand)]
    Join(join::JoinCommand),
    /// What clusters should hold
    #[command(subcommand)]
    Profile(profile::ProfileCommand),
    /// Which clusters get what
    #[command(subcommand)]
    Placement(placement::PlacementCommand),
    /// Run tests in clusters
    #[command(subcommand)]
    Test(test::TestCommand),
    /// Print the kubeconfig of the hub
    Kubeconfig(kubeconfig::KubeconfigArguments),
    /// Print the version
    Version(version::VersionArguments),
    /// Print a completion script
    Completion(completion::CompletionArguments),
}

/// Runs a command.
pub(crate) async fn run(arguments: Arguments) -> Result<Code, Failure> {
    let global = arguments.global;
    match arguments.command {
        Command::Cluster(command) => cluster::run(&global, command).await,
        Command::Join(command) => join::run(&global, command).await,
        Command::Profile(command) => profile::run(&global, command).await,
        Command::Placement(command) => placement::run(&global, command).await,
        Command::Test(command) => test::run(&global, command).await,
        Command::Kubeconfig(command) => kubeconfig::run(&global, &command),
        Command::Version(command) => version::run(&command),
        Command::Completion(command) => completion::run(&command),
    }
}
