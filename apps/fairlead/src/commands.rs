//! The commands, one file each.

mod access;
mod agent;
mod alert;
mod bundle;
mod cluster;
mod completion;
mod credential;
mod diff;
mod down;
mod get;
mod hub;
mod image;
mod join;
mod kubeconfig;
mod login;
mod placement;
mod policy;
mod profile;
mod rollout;
mod source;
mod status;
mod store;
mod test;
mod throw_away;
mod up;
mod version;

use clap::Subcommand;

use crate::arguments::Arguments;
use crate::failure::{Code, Failure};

#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Bring up a fleet on this machine
    Up(up::UpArguments),
    /// End it
    Down(down::DownArguments),
    /// Show what runs of it
    Status(status::StatusArguments),
    /// Clusters of the fleet
    #[command(subcommand)]
    Cluster(cluster::ClusterCommand),
    /// Invite clusters
    #[command(subcommand)]
    Join(join::JoinCommand),
    /// What clusters should hold
    #[command(subcommand)]
    Profile(profile::ProfileCommand),
    /// Where the hub pulls profiles from
    #[command(subcommand)]
    Source(source::SourceCommand),
    /// Which clusters get what
    #[command(subcommand)]
    Placement(placement::PlacementCommand),
    /// What policies say of manifests and clusters
    #[command(subcommand)]
    Policy(policy::PolicyCommand),
    /// What is wrong in the fleet, and whom that is told
    #[command(subcommand)]
    Alert(alert::AlertCommand),
    /// Show what documents would change in each cluster
    Diff(diff::DiffArguments),
    /// How changes go through the clusters
    #[command(subcommand)]
    Rollout(rollout::RolloutCommand),
    /// Show objects of many clusters in one list
    Get(get::GetArguments),
    /// Run tests in clusters
    #[command(subcommand)]
    Test(test::TestCommand),
    /// Carry tests to clusters that never connect, and results back
    #[command(subcommand)]
    Bundle(bundle::BundleCommand),
    /// Projects and the roles of people in them
    #[command(subcommand)]
    Access(access::AccessCommand),
    /// The hub
    #[command(subcommand)]
    Hub(hub::HubCommand),
    /// The store behind a cluster or hub: snapshots
    #[command(subcommand)]
    Store(store::StoreCommand),
    /// The agent of a cluster
    #[command(subcommand)]
    Agent(agent::AgentCommand),
    /// Container images without a registry
    #[command(subcommand)]
    Image(image::ImageCommand),
    /// Print the kubeconfig of the hub, or of a cluster
    Kubeconfig(kubeconfig::KubeconfigArguments),
    /// Log in as a person at the issuer that the hub trusts
    Login(login::LoginArguments),
    /// Print the hub's credentials for a client that runs this as its exec plug-in
    Credential(credential::CredentialArguments),
    /// Print the version
    Version(version::VersionArguments),
    /// Print a completion script
    Completion(completion::CompletionArguments),
}

impl Command {
    /// Whether the command ends itself in order on a signal. The others are simply left.
    pub(crate) fn takes_signals(&self) -> bool {
        matches!(
            self,
            Self::Up(_)
                | Self::Hub(hub::HubCommand::Serve(_))
                | Self::Agent(agent::AgentCommand::Serve(_))
                | Self::Cluster(cluster::ClusterCommand::Serve(_) | cluster::ClusterCommand::Ephemeral(_))
        )
    }
}

/// Runs a command.
pub(crate) async fn run(arguments: Arguments) -> Result<Code, Failure> {
    let global = arguments.global;
    match arguments.command {
        Command::Up(arguments) => up::run(&global, arguments).await,
        Command::Down(arguments) => down::run(&global, arguments).await,
        Command::Status(arguments) => status::run(&global, arguments).await,
        Command::Access(command) => access::run(&global, command).await,
        Command::Hub(command) => hub::run(&global, command).await,
        Command::Agent(command) => agent::run(command).await,
        Command::Store(command) => store::run(&global, command).await,
        Command::Image(command) => image::run(&global, command).await,
        Command::Cluster(command) => cluster::run(&global, command).await,
        Command::Join(command) => join::run(&global, command).await,
        Command::Profile(command) => profile::run(&global, command).await,
        Command::Source(command) => source::run(&global, command).await,
        Command::Placement(command) => placement::run(&global, command).await,
        Command::Policy(command) => policy::run(&global, command).await,
        Command::Alert(command) => alert::run(&global, command).await,
        Command::Diff(arguments) => diff::run(&global, arguments).await,
        Command::Rollout(command) => rollout::run(&global, command).await,
        Command::Get(arguments) => get::run(&global, arguments).await,
        Command::Bundle(command) => Box::pin(bundle::run(&global, command)).await,
        Command::Test(command) => test::run(&global, command).await,
        Command::Kubeconfig(command) => kubeconfig::run(&global, &command).await,
        Command::Login(arguments) => login::run(arguments).await,
        Command::Credential(arguments) => credential::run(&global, &arguments).await,
        Command::Version(command) => version::run(&command),
        Command::Completion(command) => completion::run(&command),
    }
}
