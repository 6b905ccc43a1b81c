//! What can be typed.

use std::path::PathBuf;

use clap::{Args, Parser, ValueEnum};

use crate::commands::Command;

/// Guides fleets of Kubernetes clusters
#[derive(Parser, Debug)]
#[command(name = "fairlead", version, propagate_version = true, max_term_width = 100)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// How to find the hub and how to print.
#[derive(Args, Clone, Debug)]
pub(crate) struct Global {
    /// Kubeconfig of the hub [default: $FAIRLEAD_KUBECONFIG, hub.kubeconfig in the state directory, then $KUBECONFIG]
    // $FAIRLEAD_KUBECONFIG is read where the hub is looked for: clap would give it to `agent serve --kubeconfig` too.
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig [default: its current one]
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) context: Option<String>,
    /// State directory of `fairlead up` [default: $FAIRLEAD_DIR, fairlead in the user's data directory]
    #[arg(long = "dir", global = true, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
    /// Namespace on the hub
    #[arg(long, short, global = true, default_value = "default", value_name = "NAME")]
    pub(crate) namespace: String,
}

/// How lists and objects are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people
    #[default]
    Table,
    /// With every column
    Wide,
    /// The objects
    Json,
    /// The objects
    Yaml,
    /// One name a line
    Name,
}

/// Which clusters.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct ClusterChoice {
    /// Clusters by name
    #[arg(long, value_delimiter = ',', value_name = "NAME,…")]
    pub(crate) clusters: Vec<String>,
    /// Clusters by label, like region=eu,tier!=test
    #[arg(long, short = 'l', value_name = "SELECTOR")]
    pub(crate) selector: Option<String>,
    /// Every cluster
    #[arg(long, conflicts_with_all = ["clusters", "selector"])]
    pub(crate) all_clusters: bool,
}

/// Reads a duration for an argument.
pub(crate) fn duration(text: &str) -> Result<std::time::Duration, String> {
    workflow::duration::parse(text).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_arguments_agree_with_each_other() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn help_is_what_it_was() {
        let mut command = Arguments::command();
        insta::assert_snapshot!("help", command.render_help());
        let test = command.find_subcommand_mut("test").expect("test");
        let run = test.find_subcommand_mut("run").expect("run");
        insta::assert_snapshot!("help_test_run", run.render_long_help());
    }
}
