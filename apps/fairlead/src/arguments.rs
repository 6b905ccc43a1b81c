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
    #[value(alias = "text")]
    Table,
    /// With every column
    Wide,
    /// Everything, for programs
    Json,
    /// The same
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

    /// Commands that show nothing by themselves, or print what has a form of its own: a kubeconfig, a token, a report, a log.
    const NO_LISTING: [&str; 65] = [
        "up",
        "down",
        "cluster label",
        "cluster approve",
        "cluster pause",
        "cluster resume",
        "cluster drain",
        "cluster revoke",
        "cluster remove",
        "cluster serve",
        "cluster ephemeral",
        "cluster keys rotate",
        "cluster keys retire",
        "join token create",
        "join token revoke",
        "join manifest",
        "join chart",
        "join cluster",
        "profile create",
        "profile apply",
        "profile key",
        "profile sign",
        "source sync",
        "source suspend",
        "source resume",
        "placement confirm",
        "policy test",
        "alert silence",
        "alert unsilence",
        "rollout watch",
        "rollout pause",
        "rollout resume",
        "rollout promote",
        "rollout abort",
        "rollout rollback",
        "test run",
        "test import",
        "test watch",
        "test report",
        "test logs",
        "test rerun",
        "test cancel",
        "test pause",
        "test resume",
        "bundle create",
        "bundle load",
        "access project",
        "access grant",
        "access revoke",
        "hub serve",
        "hub authority prepare",
        "hub authority switch",
        "hub authority finish",
        "hub backup",
        "hub restore",
        "store rewrite",
        "agent serve",
        "agent rebind",
        "agent ceiling",
        "image load",
        "image build-tool",
        "kubeconfig",
        "login",
        "credential",
        "completion",
    ];

    /// Every command that can be run, by its words.
    fn leaves(command: &clap::Command, words: &str, all: &mut Vec<(String, clap::Command)>) {
        for child in command.get_subcommands().filter(|child| child.get_name() != "help") {
            let name = format!("{words} {}", child.get_name()).trim_start().to_owned();
            if child.has_subcommands() {
                leaves(child, &name, all);
            } else {
                all.push((name, child.clone()));
            }
        }
    }

    #[test]
    fn every_listing_is_printed_in_the_same_formats() {
        let (mut all, mut wrong) = (Vec::new(), Vec::new());
        leaves(&Arguments::command(), "", &mut all);
        for (name, command) in &all {
            let output = command.get_arguments().find(|argument| argument.get_short() == Some('o'));
            let values: Vec<String> = output.map_or_else(Vec::new, |output| {
                let values = output.get_possible_values().into_iter();
                values.map(|value| value.get_name().to_owned()).collect()
            });
            let is_listing = values == ["table", "wide", "json", "yaml", "name"];
            if is_listing == NO_LISTING.contains(&name.as_str()) {
                wrong.push(format!("{name}: -o {values:?}"));
            }
        }
        assert_eq!(wrong, Vec::<String>::new());
        for name in NO_LISTING {
            assert!(all.iter().any(|(known, _)| known == name), "there is no command {name}");
        }
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
