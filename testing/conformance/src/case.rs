//! A case: its name, what it needs, and what it does.

use std::future::Future;
use std::pin::Pin;
use std::time::{Duration, Instant};

use crate::subject::Subject;

/// How long a case may take. Only what waits for a server's own loops comes near it.
const LIMIT: Duration = Duration::from_secs(60);

/// What a subject must have for a case to make sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    /// An API server.
    ApiServer,
    /// Kubernetes' controllers too: garbage collection, ends of namespaces, service accounts.
    Controllers,
    /// Nodes that run pods, or say that they do.
    Nodes,
}

/// A running case.
pub type Running<'a> = Pin<Box<dyn Future<Output = anyhow::Result<()>> + Send + 'a>>;

/// One case.
#[derive(Clone, Copy)]
pub struct Case {
    /// `topic/what holds`.
    pub name: &'static str,
    /// Titles of Kubernetes' conformance tests that assert this too, without the `[sig-…]` in front.
    pub official: &'static [&'static str],
    /// What the subject must have.
    pub needs: Needs,
    /// What is done and asserted.
    pub run: for<'a> fn(&'a Subject) -> Running<'a>,
}

impl std::fmt::Debug for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Case").field("name", &self.name).finish_non_exhaustive()
    }
}

/// How a case ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// What it asserts holds.
    Passed,
    /// It does not; why.
    Failed(String),
    /// The subject lacks something; what.
    Skipped(String),
}

impl Case {
    /// Runs it within its limit.
    pub async fn outcome(&self, subject: &Subject) -> (Outcome, Duration) {
        let begun = Instant::now();
        let outcome = match (self.needs, subject.controllers, subject.nodes) {
            (Needs::Controllers | Needs::Nodes, false, _) => {
                Outcome::Skipped("the subject runs no controllers".to_owned())
            }
            (Needs::Nodes, _, false) => Outcome::Skipped("the subject has no nodes".to_owned()),
            _ => match tokio::time::timeout(LIMIT, (self.run)(subject)).await {
                Ok(Ok(())) => Outcome::Passed,
                Ok(Err(error)) => match error.downcast_ref::<Skip>() {
                    Some(Skip(why)) => Outcome::Skipped(why.clone()),
                    None => Outcome::Failed(format!("{error:#}")),
                },
                Err(_) => Outcome::Failed(format!("not done within {LIMIT:?}")),
            },
        };
        (outcome, begun.elapsed())
    }
}

/// Why a case that has begun makes no sense for this subject.
#[derive(Debug)]
struct Skip(String);

impl std::fmt::Display for Skip {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "skipped: {}", self.0)
    }
}

impl std::error::Error for Skip {}

/// Ends a running case as skipped: `return Err(skip("the subject …"))`.
pub fn skip(why: impl Into<String>) -> anyhow::Error {
    anyhow::Error::new(Skip(why.into()))
}

/// Lists cases: `case!("topic/name", needs, ["official title"], function)`.
#[macro_export]
macro_rules! case {
    ($name:literal, $needs:ident, [$($official:literal),* $(,)?], $run:path) => {
        $crate::case::Case {
            name: $name,
            official: &[$($official),*],
            needs: $crate::case::Needs::$needs,
            run: |subject| Box::pin($run(subject)),
        }
    };
}
