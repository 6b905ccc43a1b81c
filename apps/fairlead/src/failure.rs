//! How a command fails: an exit code, what failed and why, and the command that may mend it.

use std::fmt::Write as _;
use std::process::ExitCode;

use assembly::backup::{self, NoStore};

/// The exit codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Code {
    /// Done.
    Ok = 0,
    /// Done, with a negative result; or failed in a way that has no code of its own.
    Negative = 1,
    /// The arguments or a given file are wrong.
    Usage = 2,
    /// The hub cannot be reached or does not know who asks.
    Unreachable = 3,
    /// Done in part.
    Partial = 4,
    /// Out of time.
    Timeout = 5,
    /// Ctrl-C.
    Interrupted = 130,
}

/// A failed command.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) code: Code,
    pub(crate) error: Option<anyhow::Error>,
    pub(crate) hint: Option<String>,
}

impl Failure {
    pub(crate) fn new(code: Code, error: anyhow::Error) -> Self {
        Self { code, error: Some(error), hint: None }
    }

    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Code::Usage, anyhow::Error::msg(message.into()))
    }

    pub(crate) fn negative(message: impl Into<String>) -> Self {
        Self::new(Code::Negative, anyhow::Error::msg(message.into()))
    }

    pub(crate) fn timeout(message: impl Into<String>) -> Self {
        Self::new(Code::Timeout, anyhow::Error::msg(message.into()))
    }

    pub(crate) fn interrupted() -> Self {
        Self { code: Code::Interrupted, error: None, hint: None }
    }

    /// Adds a command to run.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// What a request to the hub failed with, and what that means.
pub(crate) fn api(what: impl Into<String>) -> impl FnOnce(kube::Error) -> Failure {
    move |error| {
        let what = what.into();
        let (code, hint) = match &error {
            kube::Error::Api(status) if matches!(status.code, 401 | 403) => (Code::Unreachable, None),
            kube::Error::Api(status) if status.code == 404 && status.message.contains("could not find") => {
                (Code::Unreachable, Some("fairlead status".to_owned()))
            }
            kube::Error::Api(status) if matches!(status.code, 400 | 422) => (Code::Usage, None),
            kube::Error::Api(_) => (Code::Negative, None),
            _ => (Code::Unreachable, Some("fairlead status".to_owned())),
        };
        // The server's own words; kube's rendering repeats them.
        let error = match error {
            kube::Error::Api(status) => anyhow::Error::msg(status.message).context(what),
            other => anyhow::Error::new(other).context(what),
        };
        Failure { code, error: Some(error), hint }
    }
}

/// What a served program failed with.
pub(crate) fn program(error: assembly::AssemblyError) -> Failure {
    let error = anyhow::Error::new(error);
    let in_use = error.chain().any(|cause| {
        cause
            .downcast_ref::<std::io::Error>()
            .is_some_and(|error| error.kind() == std::io::ErrorKind::AddrInUse)
    });
    let no_store = error.downcast_ref().and_then(NoStore::of).map(where_a_store_is);
    if let Some(hint) = no_store {
        return Failure::new(Code::Usage, error).hint(hint);
    }
    let failure = Failure::new(Code::Negative, error);
    if in_use { failure.hint("--listen 127.0.0.1:0 takes a free port") } else { failure }
}

/// What to type where there is no store.
fn where_a_store_is(nothing: &NoStore) -> String {
    match nothing {
        // The directory of `fairlead up` has a store of the hub, and one of each cluster.
        NoStore::Store(directory) if backup::exists(&directory.join("hub")).is_ok() => {
            format!("--dir {}", directory.join("hub").display())
        }
        NoStore::Store(_) | NoStore::Directory(_) => {
            "--dir DIR, as `fairlead hub serve` or `fairlead cluster serve` has it; --store etcd=URL for a store in etcd"
                .to_owned()
        }
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::new(Code::Negative, error)
    }
}

/// `error: …`, then each cause, then a hint.
pub(crate) fn render(failure: &Failure) -> String {
    let mut out = String::new();
    let Some(error) = &failure.error else { return out };
    let mut chain = error.chain();
    if let Some(first) = chain.next() {
        let _ = writeln!(out, "error: {first}");
    }
    let mut last = String::new();
    for cause in chain {
        let text = cause.to_string();
        if text != last {
            let _ = writeln!(out, "  caused by: {text}");
        }
        last = text;
    }
    if let Some(hint) = &failure.hint {
        let _ = writeln!(out, "  hint: {hint}");
    }
    out
}

/// Prints a failure and gives its code.
pub(crate) fn report(failure: &Failure) -> ExitCode {
    eprint!("{}", render(failure));
    ExitCode::from(failure.code as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_its_causes_and_what_to_run() {
        let error = anyhow::anyhow!("connection refused").context("cannot reach the hub");
        let failure = Failure::new(Code::Unreachable, error).hint("fairlead status");
        insta::assert_snapshot!(render(&failure));
    }

    #[tokio::test]
    async fn a_store_that_is_not_there_is_no_damage_and_the_hint_is_what_to_type() {
        let dir = tempfile::tempdir().expect("a directory");
        let said = async |directory: &std::path::Path| {
            let place = backup::Place::Directory(directory.to_owned());
            let error = backup::snapshot(&place, &dir.path().join("out.snap")).await.expect_err("no store");
            let failure = program(error);
            assert_eq!(failure.code, Code::Usage);
            render(&failure).replace(&dir.path().display().to_string(), "DIR")
        };
        let nowhere = said(&dir.path().join("nope")).await;
        assert!(
            nowhere.contains("caused by: there is no directory `DIR/nope`\n  hint: --dir DIR, as"),
            "{nowhere}"
        );
        let empty = said(dir.path()).await;
        assert!(empty.contains("caused by: there is no store in the directory `DIR`\n"), "{empty}");
        std::fs::create_dir_all(dir.path().join("hub/store")).expect("directories");
        let up = said(dir.path()).await;
        assert!(up.ends_with("hint: --dir DIR/hub\n"), "{up}");
        assert!(!dir.path().join("out.snap").exists() && !dir.path().join("nope").exists());
    }

    #[test]
    fn an_interruption_says_nothing() {
        assert_eq!(render(&Failure::interrupted()), "");
    }
}
