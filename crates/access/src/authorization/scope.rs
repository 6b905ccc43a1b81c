//! Where else a thing belongs than its path says: the consumer's own rule, asked when no role has allowed a request.

use std::collections::BTreeSet;

use super::Attributes;
use super::rule::PolicyRule;

/// Names that a listing of somebody's rules shows of one namespace at most; a request is decided whatever their number.
const NAMES: usize = 1000;

/// Says in which namespaces roles count for a thing besides where it lies: they are asked as if it lay there. It can give
/// nothing that a role does not give. Must neither block nor wait.
pub trait Scopes: Send + Sync + 'static {
    /// The namespaces, in the order in which they are asked. Called for requests that would be denied.
    fn namespaces_of(&self, attributes: &Attributes) -> Vec<String>;

    /// Whether a thing lies in no namespace whatever is said of one, so that only [`Self::namespaces_of`] tells where roles
    /// count for it: `kubectl auth can-i` names a namespace in every question.
    fn lies_in_none(&self, attributes: &Attributes) -> bool;

    /// Everything that belongs to namespaces in this way, for a listing of what somebody may do.
    fn belongings(&self) -> Vec<Belongings>;
}

/// Things of one resource that belong to a namespace and lie in none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Belongings {
    /// The namespace whose roles count.
    pub namespace: String,
    /// The API group.
    pub group: String,
    /// The resource.
    pub resource: String,
    /// Its subresources.
    pub subresources: Vec<String>,
    /// Their names.
    pub names: Vec<String>,
}

impl Belongings {
    /// What rules of the namespace say of these things, by their names; and whether some were left out.
    pub(super) fn rules(&self, rules: &[PolicyRule]) -> (Vec<PolicyRule>, bool) {
        let (mut own, mut cut) = (Vec::new(), false);
        for rule in rules {
            let of_group = rule.api_groups.iter().any(|group| group == "*" || *group == self.group);
            let resources: BTreeSet<String> =
                rule.resources.iter().flat_map(|resource| self.resources(resource)).collect();
            let mut names: Vec<String> = match rule.resource_names.as_slice() {
                [] => self.names.clone(),
                only => self.names.iter().filter(|name| only.contains(name)).cloned().collect(),
            };
            if !of_group || resources.is_empty() || names.is_empty() {
                continue;
            }
            cut |= names.len() > NAMES;
            names.truncate(NAMES);
            own.push(PolicyRule {
                verbs: rule.verbs.clone(),
                api_groups: vec![self.group.clone()],
                resources: resources.into_iter().collect(),
                resource_names: names,
                ..PolicyRule::default()
            });
        }
        (own, cut)
    }

    /// What of these things a rule's resource names.
    fn resources(&self, named: &str) -> Vec<String> {
        let own = self.subresources.iter().map(|subresource| format!("{}/{subresource}", self.resource));
        let all = std::iter::once(self.resource.clone()).chain(own);
        let means = |one: &String| {
            named == "*"
                || named == one
                || named
                    .strip_prefix("*/")
                    .is_some_and(|wanted| one.split_once('/').is_some_and(|(_, own)| own == wanted))
        };
        all.filter(means).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(groups: &[&str], resources: &[&str], names: &[&str]) -> PolicyRule {
        let own = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect::<Vec<_>>();
        PolicyRule {
            verbs: own(&["get"]),
            api_groups: own(groups),
            resources: own(resources),
            resource_names: own(names),
            ..PolicyRule::default()
        }
    }

    #[test]
    fn rules_are_told_of_what_belongs_there_and_of_nothing_else() {
        let belongings = |names: Vec<String>| Belongings {
            namespace: "shop".to_owned(),
            group: "fleet".to_owned(),
            resource: "clusters".to_owned(),
            subresources: vec!["proxy".to_owned()],
            names,
        };
        let two = belongings(vec!["a".to_owned(), "b".to_owned()]);
        let told = |one: PolicyRule| two.rules(&[one]).0;
        assert_eq!(
            told(rule(&["*"], &["clusters/proxy", "pods"], &[])),
            [rule(&["fleet"], &["clusters/proxy"], &["a", "b"])]
        );
        assert_eq!(
            told(rule(&["fleet"], &["*"], &["b", "c"])),
            [rule(&["fleet"], &["clusters", "clusters/proxy"], &["b"])]
        );
        assert_eq!(
            told(rule(&["fleet"], &["*/proxy"], &[])),
            [rule(&["fleet"], &["clusters/proxy"], &["a", "b"])]
        );
        for other in [
            rule(&[""], &["*"], &[]),
            rule(&["fleet"], &["pods", "pods/log"], &[]),
            rule(&["fleet"], &["*"], &["c"]),
        ] {
            assert_eq!(told(other), []);
        }
        let many = belongings((0..NAMES + 1).map(|number| number.to_string()).collect());
        let (rules, cut) = many.rules(&[rule(&["fleet"], &["clusters"], &[])]);
        assert!(cut && rules[0].resource_names.len() == NAMES);
    }
}
