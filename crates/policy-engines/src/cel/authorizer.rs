//! `authorizer`: expressions that ask whether somebody may do something.

use std::fmt;
use std::sync::Arc;

use kube_objects::UserInfo;

/// What is asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Question {
    /// `get`, `create` …; of a path the HTTP method in lower case.
    pub verb: String,
    /// A non-resource path; the other fields are then empty.
    pub path: Option<String>,
    /// The API group; `*` for all.
    pub group: String,
    /// The resource.
    pub resource: String,
    /// The subresource, or nothing.
    pub subresource: String,
    /// The namespace, or nothing.
    pub namespace: String,
    /// The object's name, or nothing.
    pub name: String,
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Whether it may be done.
    pub allowed: bool,
    /// Why.
    pub reason: String,
    /// What went wrong while finding out, or nothing.
    pub error: Option<String>,
}

/// Who answers. Asked while an expression runs: an implementation must neither block nor wait.
pub trait Authorizer: Send + Sync {
    /// Whether `user` may do it.
    fn authorize(&self, user: &UserInfo, question: &Question) -> Answer;
}

/// Steps of a question in an expression.
#[derive(Clone)]
pub(crate) struct AuthorizerValue<'a> {
    pub(crate) by: &'a dyn Authorizer,
    pub(crate) user: Arc<UserInfo>,
    pub(crate) state: State,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Authorizer,
    Path(String),
    Group(String),
    Resource(Question),
    Decision(Answer),
}

impl fmt::Debug for AuthorizerValue<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthorizerValue").field("state", &self.state).finish_non_exhaustive()
    }
}

impl<'a> AuthorizerValue<'a> {
    pub(crate) fn new(by: &'a dyn Authorizer, user: UserInfo) -> Self {
        Self { by, user: Arc::new(user), state: State::Authorizer }
    }

    pub(crate) fn with(&self, state: State) -> Self {
        Self { by: self.by, user: Arc::clone(&self.user), state }
    }

    pub(crate) fn type_name(&self) -> &'static str {
        match self.state {
            State::Authorizer => "kubernetes.authorization.Authorizer",
            State::Path(_) => "kubernetes.authorization.PathCheck",
            State::Group(_) => "kubernetes.authorization.GroupCheck",
            State::Resource(_) => "kubernetes.authorization.ResourceCheck",
            State::Decision(_) => "kubernetes.authorization.Decision",
        }
    }

    pub(crate) fn is(&self, other: &Self) -> bool {
        self.state == other.state && self.user == other.user
    }
}
