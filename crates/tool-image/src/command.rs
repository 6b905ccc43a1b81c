//! The grammar of `fairlead tool …`.

use clap::{Parser, Subcommand};

use crate::duration::{self, Span};

/// What the tool image can do.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum ToolCommand {
    /// Answer HTTP until told to stop: `/healthz` says ok, every other path says the text.
    Serve {
        /// Port to listen on; every address of the machine.
        #[arg(long, env = "PORT", default_value_t = 8080)]
        port: u16,
        /// What to answer; `$NAME` at the beginning is looked up in the environment.
        #[arg(long, default_value = "hello from fairlead")]
        text: String,
    },
    /// Do nothing for a while.
    Sleep {
        /// 500ms, 2s, 5m, 1h, inf.
        #[arg(value_parser = duration::parse)]
        time: Span,
    },
    /// End with an exit code.
    Exit {
        /// The exit code.
        code: u8,
    },
    /// Write a file, and the directories above it.
    Write {
        /// Its path.
        path: String,
        /// Its whole content.
        content: String,
    },
    /// Print a line on standard output.
    Print {
        /// The line.
        text: Vec<String>,
    },
    /// Print a file.
    Cat {
        /// Its path.
        path: String,
    },
    /// Print a variable of the environment; ends with 1 when it isn't set.
    Env {
        /// Its name.
        name: String,
    },
    /// Write a JUnit report; ends with 1 when a case fails.
    Junit {
        /// Where to write it.
        path: String,
        /// The suite's name.
        #[arg(long, default_value = "suite")]
        suite: String,
        /// A case that passes.
        #[arg(long = "pass")]
        passing: Vec<String>,
        /// A case that fails.
        #[arg(long = "fail")]
        failing: Vec<String>,
        /// A case that fails where a variable of the environment has a value, and passes elsewhere: to try what
        /// differs between clusters.
        #[arg(long = "fail-when", value_name = "VARIABLE=VALUE:CASE")]
        fail_when: Vec<String>,
        /// End with 0 also when a case fails.
        #[arg(long)]
        always_succeed: bool,
    },
    /// Wait to be told to stop, then print the files that match as framed lines on standard output.
    Collect {
        /// The directory to collect from.
        #[arg(long, default_value = "/workspace")]
        dir: String,
        /// Files to keep, relative to the directory.
        #[arg(long = "artifact")]
        artifacts: Vec<String>,
        /// JUnit reports, relative to the directory.
        #[arg(long)]
        junit: Vec<String>,
        /// Bytes of all files together, at most.
        #[arg(long)]
        max_bytes: Option<u64>,
        /// Don't wait to be told to stop.
        #[arg(long)]
        now: bool,
        /// Files for other pods, as JSON: a name, a directory, globs.
        #[arg(long = "pack")]
        packs: Vec<String>,
    },
    /// Wait until so many packs have come.
    Receive {
        /// How many.
        count: usize,
        /// The number of the first.
        #[arg(long, default_value_t = 0)]
        first: usize,
    },
    /// Read a pack from standard input, put its files below a directory and say that it has come.
    Unpack {
        /// The directory.
        to: String,
        /// Bytes of the pack.
        #[arg(long)]
        bytes: u64,
        /// Only what lies below this in it.
        #[arg(long, default_value = "")]
        from: String,
        /// Only files that match, relative to that.
        #[arg(long = "file")]
        files: Vec<String>,
        /// Its number among those that come.
        #[arg(long)]
        number: usize,
    },
    /// Put a file of any size on standard output as it is.
    Take {
        /// Its path.
        path: String,
        /// Begin with this byte.
        #[arg(long, default_value_t = 0)]
        from: u64,
    },
    /// Write a file of so many bytes that look random.
    Fill {
        /// Its path.
        path: String,
        /// How many bytes.
        size: u64,
        /// The same number gives the same bytes.
        #[arg(long, default_value_t = 0)]
        seed: u64,
    },
    /// Run a step of a test around its command, as the plan in the pod's state volume says.
    Step {
        /// Its place in the plan.
        index: usize,
        /// End the pod here when the next step, which runs without this, must not run.
        #[arg(long)]
        guard: bool,
    },
    /// Write a test's plan into the pod's state volume and this program into a directory, for containers of any image.
    Install {
        /// The directory.
        dir: String,
    },
    /// Carry out several command lines one after another; ends at the first that does not end with 0.
    Do {
        /// Each a whole command line, its words parted by blanks; quotes keep words together.
        commands: Vec<String>,
    },
    /// Wait to be told to stop, reaping orphaned processes: holds a pod's namespaces.
    Pause,
}

#[derive(Parser)]
#[command(name = "tool", no_binary_name = true, disable_help_subcommand = true)]
struct Line {
    #[command(subcommand)]
    command: ToolCommand,
}

impl ToolCommand {
    /// Reads the words after `tool`.
    ///
    /// # Errors
    /// What is wrong, for people.
    pub fn from_words<S: AsRef<str>>(words: &[S]) -> Result<Self, String> {
        Line::try_parse_from(words.iter().map(|word| word.as_ref().to_owned()))
            .map(|line| line.command)
            .map_err(|error| error.render().to_string())
    }

    /// The command of a container's `command` and `args`, if it is one of the tool's: `/fairlead tool …`, or only
    /// arguments, or nothing (the image's own command is `pause`).
    #[must_use]
    pub fn of_container(command: &[String], args: &[String]) -> Option<Result<Self, String>> {
        let words: Vec<&String> = command.iter().chain(args).collect();
        if command.is_empty() {
            return Some(if words.is_empty() { Ok(Self::Pause) } else { Self::from_words(&words) });
        }
        // The loader that `install` left runs the program that it left.
        let loaded =
            command[0].ends_with("/loader") && command.get(1).is_some_and(|word| word == "--library-path");
        let is_ours = loaded || matches!(command[0].as_str(), "/fairlead" | "fairlead");
        let rest = words.get(if loaded { 4 } else { 1 }..)?;
        match rest.first() {
            Some(word) if is_ours && word.as_str() == "tool" => Some(Self::from_words(&rest[1..])),
            _ => None,
        }
    }
}

/// Parts a command line into words at blanks, minding quotes.
///
/// # Errors
/// When a quote isn't closed.
pub fn words(line: &str) -> Result<Vec<String>, String> {
    workflow::words::words(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_runs_the_tool_or_not() {
        let of = |command: &[&str], args: &[&str]| {
            let own = |list: &[&str]| list.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
            ToolCommand::of_container(&own(command), &own(args))
        };
        assert_eq!(of(&[], &[]), Some(Ok(ToolCommand::Pause)));
        assert_eq!(of(&[], &["exit", "3"]), Some(Ok(ToolCommand::Exit { code: 3 })));
        assert_eq!(of(&["/fairlead", "tool"], &["exit", "3"]), Some(Ok(ToolCommand::Exit { code: 3 })));
        assert_eq!(of(&["/fairlead", "tool", "pause"], &[]), Some(Ok(ToolCommand::Pause)));
        let loader = ["/f/lib/loader", "--library-path", "/f/lib", "/f/fairlead", "tool", "step", "3"];
        assert_eq!(of(&loader, &[]), Some(Ok(ToolCommand::Step { index: 3, guard: false })));
        assert_eq!(of(&["/bin/sh"], &["-c", "true"]), None);
        assert_eq!(of(&["/fairlead"], &[]), None);
        assert!(matches!(of(&[], &["dance"]), Some(Err(_))));
    }
}
