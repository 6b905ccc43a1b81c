//! `authorizer` in expressions of webhooks' conditions and of policies: asked of the server's own.

use access::authorization::{Attributes as Asked, Authorizer as Decides};
use kube_objects::UserInfo;
use policy_engines::cel::authorizer::{Answer, Authorizer, Question};

use super::Attributes;

/// Answers `authorizer`'s questions; without any authorization everything is allowed.
pub(super) struct Rights<'a>(pub(super) Option<&'a Decides>);

impl Authorizer for Rights<'_> {
    fn authorize(&self, user: &UserInfo, question: &Question) -> Answer {
        let Some(authorizer) = self.0 else {
            return Answer { allowed: true, reason: String::new(), error: None };
        };
        let Question { verb, group, resource, namespace, name, subresource, path } = question;
        let asked = match path {
            Some(path) => Asked::path(verb, path),
            None => Asked::resource(verb, group, resource, namespace, name).with_subresource(subresource),
        };
        let decision = authorizer.authorize(user, &asked);
        Answer { allowed: decision.allowed, reason: decision.reason, error: None }
    }
}

/// What `authorizer.requestResource` asks about; the expression says by which verb.
pub(super) fn question(attributes: &Attributes<'_>) -> Question {
    let own = &attributes.cx.resource.gvr;
    Question {
        group: own.group.clone(),
        resource: own.resource.clone(),
        subresource: attributes.cx.subresource.unwrap_or_default().to_owned(),
        namespace: attributes.namespace().to_owned(),
        name: attributes.cx.name.to_owned(),
        ..Question::default()
    }
}
