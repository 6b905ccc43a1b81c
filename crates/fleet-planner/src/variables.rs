//! Typed variables: their values for one cluster, and writing them into manifests. The syntax is described at
//! `fleet_objects::VariableDefinition`'s module.

use std::borrow::Cow;
use std::collections::BTreeMap;

use fleet_objects::{VariableDefinition, VariableType};
use serde_json::Value;

/// Every variable with its value.
pub type Values = BTreeMap<String, Value>;

/// What is wrong with variables.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VariableError {
    /// A definition's name cannot be written in a reference.
    #[error("variable name {name:?} may hold only letters, digits, '_' and '-'")]
    BadName {
        /// The name.
        name: String,
    },
    /// Two definitions of one name.
    #[error("variable {name:?} is defined twice")]
    Duplicate {
        /// The name.
        name: String,
    },
    /// A value for a variable that does not exist.
    #[error("there is no variable {name:?} to give a value to")]
    NotDefined {
        /// The name.
        name: String,
    },
    /// A required variable without a value.
    #[error("variable {name:?} is required and has no value")]
    Missing {
        /// The name.
        name: String,
    },
    /// A value of the wrong type.
    #[error("variable {name:?} takes {expected}, not {value}")]
    WrongType {
        /// The name.
        name: String,
        /// What it takes.
        expected: &'static str,
        /// The value, as JSON.
        value: String,
    },
    /// A secret variable with something else than a reference.
    #[error(
        "variable {name:?} is secret: it takes secretKeyRef with name and key of a Secret in the cluster, or hubSecretKeyRef \
         of one on the hub, never a value"
    )]
    NoReference {
        /// The name.
        name: String,
    },
    /// A value that is not one of the allowed.
    #[error("variable {name:?} does not allow {value}")]
    NotAllowed {
        /// The name.
        name: String,
        /// The value, as JSON.
        value: String,
    },
    /// A manifest refers to a variable that does not exist.
    #[error("{place}: unknown variable ${{var.{name}}}")]
    UnknownReference {
        /// The name.
        name: String,
        /// Where.
        place: String,
    },
    /// A reference without its closing brace.
    #[error("{place}: \"${{var.\" without a closing brace")]
    Unclosed {
        /// Where.
        place: String,
    },
}

/// How a Secret in the cluster is referred to.
const IN_CLUSTER: &str = "secretKeyRef";
/// How a Secret on the hub is referred to.
const ON_HUB: &str = "hubSecretKeyRef";

/// Stands between the name of a Secret on the hub and its uid; no Kubernetes name has it. A Secret that was made anew under its
/// name is another one, and what refers to it changes as it does for any other change. Agents take the whole for a name.
const INCARNATION: &str = "..";

/// Where the value of a secret variable is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretReference {
    /// In the profile's own namespace on the hub; else in the cluster.
    pub on_hub: bool,
    /// The Secret's namespace in the cluster; the profile's target namespace when none.
    pub namespace: Option<String>,
    /// The Secret.
    pub name: String,
    /// The key in its data.
    pub key: String,
}

impl SecretReference {
    /// Reads `{"secretKeyRef": {"name": …, "key": …}}`, or `hubSecretKeyRef`, which must say nothing else. On the hub there
    /// is no `namespace` to say: nobody reaches beyond the profile's.
    #[must_use]
    pub fn of(value: &Value) -> Option<Self> {
        let outer = value.as_object().filter(|outer| outer.len() == 1)?;
        let (kind, inner) = outer.iter().next()?;
        let on_hub = match kind.as_str() {
            IN_CLUSTER => false,
            ON_HUB => true,
            _ => return None,
        };
        let inner = inner.as_object()?;
        let text = |key: &str| inner.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
        let known = |key: &str| matches!(key, "name" | "key") || (key == "namespace" && !on_hub);
        let (name, key) = (text("name")?.to_owned(), text("key")?.to_owned());
        let plain = |text: &str| {
            text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
                && !text.starts_with('.')
        };
        // What is on the hub is asked for by a path.
        let known = inner.keys().all(|key| known(key)) && (!on_hub || (plain(&name) && plain(&key)));
        known.then(|| Self { on_hub, namespace: text("namespace").map(str::to_owned), name, key })
    }

    /// Every secret on the hub that values refer to.
    pub fn on_hub(values: &Values) -> impl Iterator<Item = Self> + '_ {
        values.values().filter_map(Self::of).filter(|reference| reference.on_hub)
    }

    /// The name that people know, and the uid of the very Secret that is meant, where it is said.
    #[must_use]
    pub fn incarnation(&self) -> (&str, Option<&str>) {
        match self.name.split_once(INCARNATION) {
            Some((name, uid)) if self.on_hub => (name, Some(uid)),
            _ => (&self.name, None),
        }
    }

    fn value(&self) -> Value {
        let mut inner = serde_json::json!({"name": self.name, "key": self.key});
        if let Some(namespace) = &self.namespace {
            inner["namespace"] = Value::from(namespace.as_str());
        }
        let kind = if self.on_hub { ON_HUB } else { IN_CLUSTER };
        serde_json::json!({kind: inner})
    }

    /// What stands in a manifest where the value is not known: everywhere but in the cluster's agent.
    fn stand_in(&self) -> Value {
        Value::from(format!("(key {} of secret {})", self.key, self.incarnation().0))
    }
}

/// Has every reference to a Secret on the hub mean the one that is there now; those that are not known stay as they are.
pub fn pin_incarnations<'a>(values: &mut Values, uid_of: impl Fn(&str) -> Option<&'a str>) {
    for value in values.values_mut() {
        let Some(mut reference) = SecretReference::of(value).filter(|reference| reference.on_hub) else {
            continue;
        };
        let (name, _) = reference.incarnation();
        if let Some(uid) = uid_of(name) {
            reference.name = format!("{name}{INCARNATION}{uid}");
            *value = reference.value();
        }
    }
}

/// The value of every variable, from definitions and what a placement gives.
///
/// # Errors
/// Anything that does not fit, the first found in the order of names.
pub fn resolve(definitions: &[VariableDefinition], given: &Values) -> Result<Values, VariableError> {
    let mut known: BTreeMap<&str, &VariableDefinition> = BTreeMap::new();
    for definition in definitions {
        if !is_name(&definition.name) {
            return Err(VariableError::BadName { name: definition.name.clone() });
        }
        if known.insert(&definition.name, definition).is_some() {
            return Err(VariableError::Duplicate { name: definition.name.clone() });
        }
    }
    if let Some(name) = given.keys().find(|name| !known.contains_key(name.as_str())) {
        return Err(VariableError::NotDefined { name: name.clone() });
    }
    let mut values = Values::new();
    for (name, definition) in known {
        match given.get(name).or(definition.default.as_ref()) {
            Some(value) => {
                values.insert(name.to_owned(), typed(definition, value)?);
            }
            None if definition.required => return Err(VariableError::Missing { name: name.to_owned() }),
            None => {
                values.insert(name.to_owned(), zero(definition.kind));
            }
        }
    }
    Ok(values)
}

/// Whether a definition can be used at all: its name, and its default.
///
/// # Errors
/// What is wrong with it. The default of a secret variable is not repeated.
pub fn check(definition: &VariableDefinition) -> Result<(), VariableError> {
    if !is_name(&definition.name) {
        return Err(VariableError::BadName { name: definition.name.clone() });
    }
    definition.default.as_ref().map_or(Ok(()), |default| typed(definition, default).map(drop))
}

/// Values that stand for whatever a placement may give: as unlike each other as their types let them be.
pub(crate) fn any(definitions: &[VariableDefinition]) -> Values {
    let number = |index: usize| 1_000_003 + u64::try_from(index).unwrap_or_default();
    let value = |(index, definition): (usize, &VariableDefinition)| {
        let value = match definition.kind {
            VariableType::String => Value::from(format!("any-{}", number(index))),
            VariableType::Int => Value::from(number(index)),
            VariableType::Bool => Value::from(true),
            VariableType::Quantity => Value::from(number(index).to_string()),
        };
        (definition.name.clone(), value)
    };
    definitions.iter().enumerate().map(value).collect()
}

fn is_name(name: &str) -> bool {
    (1..=63).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
}

/// An optional variable without default is empty text, 0 or false.
fn zero(kind: VariableType) -> Value {
    match kind {
        VariableType::String => Value::from(""),
        VariableType::Int => Value::from(0),
        VariableType::Bool => Value::from(false),
        VariableType::Quantity => Value::from("0"),
    }
}

fn typed(definition: &VariableDefinition, value: &Value) -> Result<Value, VariableError> {
    if definition.secret {
        // Whatever was given instead is not repeated: it may be the secret.
        let reference = SecretReference::of(value)
            .filter(|reference| reference.incarnation().1.is_none())
            .ok_or_else(|| VariableError::NoReference { name: definition.name.clone() })?;
        return Ok(reference.value());
    }
    let wrong = |expected| VariableError::WrongType {
        name: definition.name.clone(),
        expected,
        value: value.to_string(),
    };
    let typed = match definition.kind {
        VariableType::String if value.is_string() => value.clone(),
        VariableType::String => return Err(wrong("text")),
        VariableType::Int if value.is_i64() => value.clone(),
        VariableType::Int => return Err(wrong("a whole number")),
        VariableType::Bool if value.is_boolean() => value.clone(),
        VariableType::Bool => return Err(wrong("true or false")),
        VariableType::Quantity => match value {
            Value::String(text) if is_quantity(text) => value.clone(),
            Value::Number(number) => Value::from(number.to_string()),
            _ => return Err(wrong("a quantity such as 500m or 1Gi")),
        },
    };
    if !definition.allowed.is_empty() && !definition.allowed.contains(value) {
        return Err(VariableError::NotAllowed { name: definition.name.clone(), value: value.to_string() });
    }
    Ok(typed)
}

fn is_quantity(text: &str) -> bool {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let end = unsigned.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(unsigned.len());
    let (number, suffix) = unsigned.split_at(end);
    let digits = number.bytes().any(|byte| byte.is_ascii_digit()) && number.matches('.').count() <= 1;
    let exponent = suffix.strip_prefix(['e', 'E']).is_some_and(|power| {
        let power = power.strip_prefix(['+', '-']).unwrap_or(power);
        !power.is_empty() && power.bytes().all(|byte| byte.is_ascii_digit())
    });
    const SUFFIXES: [&str; 16] =
        ["", "n", "u", "m", "k", "M", "G", "T", "P", "E", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
    digits && (exponent || SUFFIXES.contains(&suffix))
}

/// Writes values into every scalar of `value`. `place` names it in errors.
///
/// # Errors
/// [`VariableError::UnknownReference`] and [`VariableError::Unclosed`].
pub fn substitute(value: Value, values: &Values, place: &str) -> Result<Value, VariableError> {
    Ok(match value {
        Value::String(text) => substitute_text(text, values, place)?,
        Value::Array(items) => Value::Array(
            items
                .into_iter()
                .enumerate()
                .map(|(index, item)| substitute(item, values, &format!("{place}[{index}]")))
                .collect::<Result<_, _>>()?,
        ),
        Value::Object(map) => Value::Object(
            map.into_iter()
                .map(|(key, item)| {
                    let item = substitute(item, values, &format!("{place}.{key}"))?;
                    Ok((key, item))
                })
                .collect::<Result<_, VariableError>>()?,
        ),
        other => other,
    })
}

const OPEN: &str = "${var.";

fn substitute_text(text: String, values: &Values, place: &str) -> Result<Value, VariableError> {
    if !text.contains("${") {
        return Ok(Value::String(text));
    }
    if let Some(name) =
        text.strip_prefix(OPEN).and_then(|rest| rest.strip_suffix('}')).filter(|name| is_name(name))
    {
        return lookup(name, values, place).map(Cow::into_owned);
    }
    let mut out = String::with_capacity(text.len());
    for piece in pieces(&text) {
        match piece {
            Piece::Text(text) => out.push_str(text),
            Piece::Unclosed => return Err(VariableError::Unclosed { place: place.to_owned() }),
            Piece::Reference(name) => match &*lookup(name, values, place)? {
                Value::String(text) => out.push_str(text),
                other => out.push_str(&other.to_string()),
            },
        }
    }
    Ok(Value::String(out))
}

/// What a text is made of.
#[derive(Clone, Copy)]
enum Piece<'a> {
    /// Stands as it is.
    Text(&'a str),
    /// `${var.name}`.
    Reference(&'a str),
    /// A reference that does not end; nothing follows.
    Unclosed,
}

fn pieces(text: &str) -> impl Iterator<Item = Piece<'_>> {
    let mut rest = text;
    let mut next = None;
    std::iter::from_fn(move || {
        if let Some(piece) = next.take() {
            return Some(piece);
        }
        if rest.is_empty() {
            return None;
        }
        let Some(at) = rest.find("${") else {
            return Some(Piece::Text(std::mem::take(&mut rest)));
        };
        let before = &rest[..at];
        let (own, piece) = if let Some(literal) = before.strip_suffix('$') {
            // An odd dollar before it makes it literal.
            rest = &rest[at + 2..];
            (literal, Piece::Text("${"))
        } else if let Some(after) = rest[at..].strip_prefix(OPEN) {
            match after.find('}') {
                Some(end) => {
                    rest = &after[end + 1..];
                    (before, Piece::Reference(&after[..end]))
                }
                None => {
                    rest = "";
                    (before, Piece::Unclosed)
                }
            }
        } else {
            rest = &rest[at + 2..];
            (before, Piece::Text("${"))
        };
        next = Some(piece);
        Some(Piece::Text(own))
    })
}

/// Every reference in the scalars of `value` that [`substitute`] would fail at, given which variables there are. `place`
/// names it in errors.
pub fn unresolved(value: &Value, place: &str, exists: &dyn Fn(&str) -> bool, found: &mut Vec<VariableError>) {
    match value {
        Value::String(text) if text.contains("${") => {
            for piece in pieces(text) {
                let place = || place.to_owned();
                match piece {
                    Piece::Reference(name) if !exists(name) => {
                        found.push(VariableError::UnknownReference { name: name.to_owned(), place: place() });
                    }
                    Piece::Unclosed => found.push(VariableError::Unclosed { place: place() }),
                    Piece::Reference(_) | Piece::Text(_) => {}
                }
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                unresolved(item, &format!("{place}[{index}]"), exists, found);
            }
        }
        Value::Object(map) => {
            for (key, item) in map {
                unresolved(item, &format!("{place}.{key}"), exists, found);
            }
        }
        _ => {}
    }
}

fn lookup<'a>(name: &str, values: &'a Values, place: &str) -> Result<Cow<'a, Value>, VariableError> {
    let unknown = || VariableError::UnknownReference { name: name.to_owned(), place: place.to_owned() };
    let value = values.get(name).ok_or_else(unknown)?;
    Ok(match SecretReference::of(value) {
        Some(reference) => Cow::Owned(reference.stand_in()),
        None => Cow::Borrowed(value),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn definition(name: &str, kind: VariableType) -> VariableDefinition {
        VariableDefinition {
            name: name.into(),
            kind,
            default: None,
            required: false,
            allowed: Vec::new(),
            description: None,
            secret: false,
        }
    }

    #[test]
    fn whole_scalars_keep_their_type_and_parts_become_text() {
        let values =
            Values::from([("n".into(), json!(3)), ("s".into(), json!("web")), ("b".into(), json!(true))]);
        let out = substitute(
            json!({"replicas": "${var.n}", "on": "${var.b}", "name": "a-${var.s}-${var.n}", "sh": "${HOME} $${var.n} $$x"}),
            &values,
            "x",
        );
        assert_eq!(
            out.unwrap(),
            json!({"replicas": 3, "on": true, "name": "a-web-3", "sh": "${HOME} ${var.n} $$x"})
        );
    }

    #[test]
    fn unknown_and_unclosed_references_say_where() {
        let error =
            substitute(json!({"a": [{"b": "x${var.nope}"}]}), &Values::new(), "Deployment web").unwrap_err();
        assert_eq!(error.to_string(), "Deployment web.a[0].b: unknown variable ${var.nope}");
        assert!(matches!(
            substitute(json!("${var.x"), &Values::new(), "p"),
            Err(VariableError::Unclosed { .. })
        ));
    }

    #[test]
    fn resolution_is_strict() {
        let mut replicas = definition("replicas", VariableType::Int);
        replicas.allowed = vec![json!(1), json!(3)];
        let mut name = definition("name", VariableType::String);
        name.required = true;
        let all = [replicas, name, definition("memory", VariableType::Quantity)];
        let given = |pairs: &[(&str, Value)]| {
            resolve(&all, &pairs.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect())
        };
        assert_eq!(given(&[]), Err(VariableError::Missing { name: "name".into() }));
        assert!(matches!(given(&[("name", json!(1))]), Err(VariableError::WrongType { .. })));
        assert!(matches!(
            given(&[("name", json!("a")), ("replicas", json!(2))]),
            Err(VariableError::NotAllowed { .. })
        ));
        assert!(matches!(
            given(&[("name", json!("a")), ("nmae", json!(2))]),
            Err(VariableError::NotDefined { .. })
        ));
        assert!(matches!(
            given(&[("name", json!("a")), ("memory", json!("1Gx"))]),
            Err(VariableError::WrongType { .. })
        ));
        let good =
            given(&[("name", json!("a")), ("memory", json!("1.5Gi")), ("replicas", json!(3))]).unwrap();
        assert_eq!(
            good,
            Values::from([
                ("memory".into(), json!("1.5Gi")),
                ("name".into(), json!("a")),
                ("replicas".into(), json!(3))
            ])
        );
    }

    proptest! {
        #[test]
        fn substitution_never_panics_and_leaves_text_without_references_alone(text in "[$\\{}a-z. é]{0,24}") {
            let out = substitute(Value::String(text.clone()), &Values::new(), "p");
            if !text.contains("${var.") && !text.contains("$${") {
                prop_assert_eq!(out, Ok(Value::String(text)));
            }
        }
    }

    #[test]
    fn a_secret_is_only_ever_referred_to() {
        let mut secret = definition("password", VariableType::String);
        secret.secret = true;
        let given = |value: Value| Values::from([("password".to_owned(), value)]);
        let error = resolve(std::slice::from_ref(&secret), &given(json!("hunter2"))).unwrap_err().to_string();
        assert!(error.contains("secretKeyRef") && !error.contains("hunter2"), "{error}");
        let reference = json!({"secretKeyRef": {"name": "db", "key": "pw"}});
        let values = resolve(std::slice::from_ref(&secret), &given(reference.clone())).unwrap();
        assert_eq!(values["password"], reference);
        let text =
            substitute(json!({"a": "${var.password}", "b": "x=${var.password}"}), &values, "o").unwrap();
        assert_eq!(text, json!({"a": "(key pw of secret db)", "b": "x=(key pw of secret db)"}));
        let on_hub = json!({"hubSecretKeyRef": {"name": "db", "key": "pw"}});
        assert!(SecretReference::of(&on_hub).is_some_and(|found| found.on_hub && found.value() == on_hub));
        assert_eq!(
            SecretReference::on_hub(&Values::from([
                ("a".into(), on_hub.clone()),
                ("b".into(), reference.clone())
            ]))
            .count(),
            1
        );
        let mut pinned = Values::from([("a".into(), on_hub.clone()), ("b".into(), reference.clone())]);
        pin_incarnations(&mut pinned, |name| (name == "db").then_some("u-1"));
        assert_eq!(pinned["b"], reference);
        assert_eq!(pinned["a"], json!({"hubSecretKeyRef": {"name": "db..u-1", "key": "pw"}}));
        let meant = SecretReference::of(&pinned["a"]).expect("a reference");
        assert_eq!(meant.incarnation(), ("db", Some("u-1")));
        assert_eq!(meant.stand_in(), SecretReference::of(&on_hub).expect("a reference").stand_in());
        // Made anew, it is another; gone, nothing changes.
        pin_incarnations(&mut pinned, |_| Some("u-2"));
        assert_eq!(pinned["a"]["hubSecretKeyRef"]["name"], "db..u-2");
        pin_incarnations(&mut pinned, |_| None);
        assert_eq!(pinned["a"]["hubSecretKeyRef"]["name"], "db..u-2");
        let given = Values::from([(secret.name.clone(), pinned["a"].clone())]);
        assert!(resolve(std::slice::from_ref(&secret), &given).is_err(), "people name no incarnation");
        for bad in [
            json!({"hubSecretKeyRef": {"name": "db", "key": "pw", "namespace": "other"}}),
            json!({"hubSecretKeyRef": {"name": "../db", "key": "pw"}}),
            json!({"otherKeyRef": {"name": "db", "key": "pw"}}),
            json!({"secretKeyRef": {"name": "db"}}),
            json!({"secretKeyRef": {"name": "a", "key": "b", "value": "c"}}),
            json!({}),
        ] {
            assert!(SecretReference::of(&bad).is_none(), "{bad}");
        }
    }
}
