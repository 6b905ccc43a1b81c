//! Commands in simulated containers: a declared few, and what the pod's annotation tells.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use jiff::Timestamp;
use serde::Deserialize;
use streams::Ending;
use streams::session::{CHUNK_BYTES, CommandSide};
use tokio::sync::mpsc;
use tool_image::ToolCommand;
use tool_image::command::words;

use super::Inner;
use super::host::{self, Files, Outcome, View};
use crate::runtime::LogStream;

/// Bytes of a line of a shell's input, at most.
const MAX_LINE: usize = 64 << 10;
/// What a shell would have to understand beyond words, quotes, `;` and `&&`.
const OPERATORS: [char; 11] = ['|', '<', '>', '`', '$', '(', ')', '*', '?', '&', '#'];

/// What the annotation tells of one command line.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Scripted {
    stdout: String,
    stderr: String,
    exit_code: u8,
}

/// Command lines and what they do.
pub(super) type Scripts = BTreeMap<String, Scripted>;

/// What a container brings to its commands.
#[derive(Clone, Debug, Default)]
pub(super) struct Container {
    pub(super) view: View,
    pub(super) scripts: Scripts,
    pub(super) hostname: String,
}

/// What a command is.
#[derive(Debug, PartialEq, Eq)]
enum Program {
    Scripted(Scripted),
    Tool(ToolCommand),
    /// Prints and ends.
    Prints(String),
    /// Repeats its input.
    Repeats,
    Ends(u8),
    /// Several, until one does not end with 0.
    Sequence(Vec<Vec<String>>),
    /// Each line of its input.
    Shell,
}

/// Finds out what a command line is; why not, for people.
fn program(command: &[String], container: &Container) -> Result<Program, String> {
    if let Some(scripted) = container.scripts.get(&command.join(" ")) {
        return Ok(Program::Scripted(scripted.clone()));
    }
    if let Some(tool) = ToolCommand::of_container(command, &[]).filter(|_| !command.is_empty()) {
        return tool.map(Program::Tool);
    }
    let (name, arguments) = command.split_first().ok_or("no command is given")?;
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let tool = |words: &[&str]| ToolCommand::from_words(words).map(Program::Tool);
    let name = name.strip_prefix("/usr/bin/").or_else(|| name.strip_prefix("/bin/")).unwrap_or(name);
    match (name, arguments.as_slice()) {
        ("echo", words) => Ok(Program::Prints(format!("{}\n", words.join(" ")))),
        ("true", _) => Ok(Program::Ends(0)),
        ("false", _) => Ok(Program::Ends(1)),
        ("exit", []) => Ok(Program::Ends(0)),
        ("exit", [code]) => code.parse().map(Program::Ends).map_err(|_| format!("exit: {code}: no number")),
        ("cat", [] | ["-"]) => Ok(Program::Repeats),
        ("cat", [path]) => tool(&["cat", path]),
        ("sleep", [time]) => tool(&["sleep", time]),
        ("printenv", [name]) => tool(&["env", name]),
        ("env" | "printenv", []) => {
            let variables = &container.view.environment;
            Ok(Program::Prints(variables.iter().map(|(name, value)| format!("{name}={value}\n")).collect()))
        }
        ("hostname", []) => Ok(Program::Prints(format!("{}\n", container.hostname))),
        ("sh" | "bash" | "ash", [] | ["-i" | "-l"]) => Ok(Program::Shell),
        ("sh" | "bash" | "ash", ["-c" | "-lc" | "-ec", line, ..]) => sequence(line).map(Program::Sequence),
        _ => Err(format!(
            "the simulated container {:?} has no command {:?}; the annotation simulation.fairlead.dev/{}.exec can \
             script it",
            container.view.container,
            command.join(" "),
            container.view.container
        )),
    }
}

/// One command of a container's own command line.
#[derive(Debug)]
pub(super) enum Step {
    Tool(ToolCommand),
    Ends(u8),
    Prints(String),
}

/// What a container's own command line does, step by step; `None` when that is not understood or has no end that can be
/// told (a shell that reads its input).
pub(super) fn steps(command: &[String], container: &Container) -> Option<Vec<Step>> {
    match program(command, container).ok()? {
        Program::Tool(tool) => Some(vec![Step::Tool(tool)]),
        Program::Ends(code) => Some(vec![Step::Ends(code)]),
        Program::Prints(text) => Some(vec![Step::Prints(text)]),
        Program::Sequence(commands) => {
            let mut steps = Vec::new();
            for command in commands {
                // A line within a line is not looked into.
                match program(&command, container).ok()? {
                    Program::Tool(tool) => steps.push(Step::Tool(tool)),
                    Program::Ends(code) => steps.push(Step::Ends(code)),
                    Program::Prints(text) => steps.push(Step::Prints(text)),
                    _ => return None,
                }
            }
            Some(steps)
        }
        Program::Scripted(_) | Program::Repeats | Program::Shell => None,
    }
}

/// The commands of a shell's line: words, quotes, `;` and `&&`.
fn sequence(line: &str) -> Result<Vec<Vec<String>>, String> {
    let mut commands = Vec::new();
    for part in line.split("&&").flat_map(|part| part.split([';', '\n'])) {
        if part.contains(OPERATORS) {
            return Err(format!("the simulated shell does not understand {:?}", part.trim()));
        }
        let words = words(part)?;
        if !words.is_empty() {
            commands.push(words);
        }
    }
    Ok(commands)
}

struct Session {
    inner: Arc<Inner>,
    uid: String,
    container: Container,
    side: CommandSide,
}

/// Runs a command until it ends.
pub(super) async fn run(
    inner: Arc<Inner>,
    uid: String,
    id: String,
    command: Vec<String>,
    side: CommandSide,
) -> Ending {
    let Some(container) = inner.world.lock().running(&uid, &id) else {
        return Ending::failed("the container has ended");
    };
    let mut session = Session { inner, uid, container, side };
    match program(&command, &session.container) {
        Ok(program) => Ending::exited(i32::from(Box::pin(session.run(program)).await)),
        Err(why) => Ending::failed(&format!("error executing command in container: {why}")),
    }
}

impl Session {
    async fn run(&mut self, program: Program) -> u8 {
        match program {
            Program::Scripted(Scripted { stdout, stderr, exit_code }) => {
                self.say(&stdout, false).await;
                self.say(&stderr, true).await;
                exit_code
            }
            Program::Prints(text) => {
                self.say(&text, false).await;
                0
            }
            Program::Ends(code) => code,
            Program::Tool(command) => self.tool(&command).await,
            Program::Repeats => {
                while let Some(chunk) = self.input().await {
                    send(self.side.stdout.as_ref(), chunk).await;
                }
                0
            }
            Program::Sequence(commands) => self.sequence(commands).await,
            Program::Shell => self.shell().await,
        }
    }

    async fn input(&mut self) -> Option<Bytes> {
        self.side.stdin.as_mut()?.recv().await
    }

    /// So many bytes of the input, or what there is.
    async fn whole_input(&mut self, bytes: u64) -> Bytes {
        let mut whole = Vec::new();
        while (whole.len() as u64) < bytes {
            let Some(chunk) = self.input().await else { break };
            whole.extend_from_slice(&chunk);
        }
        whole.into()
    }

    async fn say(&self, text: &str, error: bool) {
        // A terminal has one output.
        let to = self.side.stderr.as_ref().filter(|_| error).or(self.side.stdout.as_ref());
        if !text.is_empty() {
            send(to, Bytes::copy_from_slice(text.as_bytes())).await;
        }
    }

    async fn tool(&mut self, command: &ToolCommand) -> u8 {
        let view = self.container.view.clone();
        let input = match command {
            ToolCommand::Unpack { bytes, .. } => Some(self.whole_input(*bytes).await),
            _ => None,
        };
        let fed = input.is_some();
        let work = |files: &mut Files| match input {
            Some(input) => host::fed(command, &view, files, input),
            None => host::start(command, &view, files),
        };
        let outcome = self.inner.world.lock().files(&self.uid, work).unwrap_or_default();
        if fed && self.inner.world.lock().look_again(&self.uid, Timestamp::now()) {
            self.inner.timers.notify_one();
        }
        let Outcome { lines, errors, sent, end, .. } = outcome;
        let mut passed = Duration::ZERO;
        for (index, (at, line)) in lines.into_iter().enumerate() {
            tokio::time::sleep(at.saturating_sub(passed)).await;
            passed = at.max(passed);
            self.say(&format!("{line}\n"), errors.contains(&index)).await;
        }
        let mut sent = sent;
        while !sent.is_empty() {
            let chunk = sent.split_to(sent.len().min(CHUNK_BYTES));
            send(self.side.stdout.as_ref(), chunk).await;
        }
        match end {
            Some((at, code)) => {
                tokio::time::sleep(at.saturating_sub(passed)).await;
                code
            }
            // Until its user lets go of it.
            None => std::future::pending().await,
        }
    }

    async fn sequence(&mut self, commands: Vec<Vec<String>>) -> u8 {
        for command in commands {
            let code = match program(&command, &self.container) {
                // A shell in a shell would be the first step into something without end.
                Ok(Program::Shell | Program::Sequence(_)) => self.fail("sh: no shells in shells", 126).await,
                Ok(program) => Box::pin(self.run(program)).await,
                Err(why) => self.fail(&format!("sh: {why}"), 127).await,
            };
            if code != 0 || command.first().is_some_and(|name| name == "exit") {
                return code;
            }
        }
        0
    }

    async fn fail(&self, why: &str, code: u8) -> u8 {
        self.say(&format!("{why}\n"), true).await;
        code
    }

    /// Line by line, until the input ends or says `exit`.
    async fn shell(&mut self) -> u8 {
        let mut pending = Vec::new();
        let mut code = 0;
        while let Some(chunk) = self.input().await {
            for byte in chunk.iter().copied() {
                // A terminal sends a carriage return; what is typed while a command runs is the shell's next.
                if !matches!(byte, b'\n' | b'\r') {
                    pending.push(byte);
                    continue;
                }
                let line = String::from_utf8_lossy(&std::mem::take(&mut pending)).into_owned();
                let commands = match sequence(&line) {
                    Ok(commands) => commands,
                    Err(why) => {
                        code = self.fail(&format!("sh: {why}"), 2).await;
                        continue;
                    }
                };
                let exits = commands.last().and_then(|last| last.first()).is_some_and(|name| name == "exit");
                code = self.sequence(commands).await;
                if exits {
                    return code;
                }
            }
            if pending.len() > MAX_LINE {
                return self.fail("sh: the line is too long", 2).await;
            }
        }
        code
    }
}

async fn send(to: Option<&mpsc::Sender<Bytes>>, chunk: Bytes) {
    if let Some(to) = to {
        let _ = to.send(chunk).await;
    }
}

/// A container's output as it comes; its input goes nowhere.
pub(super) async fn attach(mut log: LogStream, side: CommandSide) -> Ending {
    let CommandSide { mut stdin, stdout, .. } = side;
    let output = async {
        while let Some(Ok(chunk)) = log.next().await {
            send(stdout.as_ref(), chunk).await;
        }
    };
    let input = async {
        while let Some(stdin) = &mut stdin
            && stdin.recv().await.is_some()
        {}
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = output => {}
        () = input => {}
    }
    Ending::success()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container() -> Container {
        let scripted = Scripted { stdout: "bin\n".to_owned(), ..Scripted::default() };
        Container {
            scripts: Scripts::from([("ls /".to_owned(), scripted)]),
            hostname: "web".to_owned(),
            ..Container::default()
        }
    }

    fn of(line: &str) -> Result<Program, String> {
        program(&words(line).expect("words"), &container())
    }

    #[test]
    fn a_declared_few_commands_are_known() {
        assert_eq!(of("echo a b"), Ok(Program::Prints("a b\n".to_owned())));
        assert_eq!(of("/bin/hostname"), Ok(Program::Prints("web\n".to_owned())));
        assert_eq!(of("/fairlead tool exit 3"), Ok(Program::Tool(ToolCommand::Exit { code: 3 })));
        assert_eq!(of("cat"), Ok(Program::Repeats));
        assert_eq!(of("sh"), Ok(Program::Shell));
        assert!(matches!(of("ls /"), Ok(Program::Scripted(_))));
        let why = of("tar cf - /x").expect_err("not known");
        assert!(why.contains("has no command \"tar cf - /x\""), "{why}");
    }

    #[test]
    fn a_shell_understands_words_and_sequences_and_says_what_it_does_not() {
        let own = |texts: &[&[&str]]| {
            let list = texts.iter().map(|words| words.iter().map(|word| (*word).to_owned()).collect());
            list.collect::<Vec<Vec<String>>>()
        };
        assert_eq!(
            sequence("echo 'a b' && exit 3; true"),
            Ok(own(&[&["echo", "a b"], &["exit", "3"], &["true"]]))
        );
        assert!(sequence("cat x | wc").is_err());
        assert!(of("sh -c 'echo $HOME'").is_err());
    }
}
