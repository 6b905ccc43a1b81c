//! The types of what policies can refer to (upstream `plugin/cel/compile.go`).

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use crate::cel::declared::{Declared, Shape};
use crate::cel::types::Type;

fn object(name: &str, fields: &[(&str, Type)]) -> Type {
    let shape = |(name, t): &(&str, Type)| ((*name).to_owned(), Arc::new(Shape::of(t.clone())));
    Type::Struct(Declared::new(name, fields.iter().map(shape).collect()))
}

fn texts() -> Type {
    Type::list(Type::String)
}

/// `request`.
pub(super) fn request() -> Type {
    static TYPE: OnceLock<Type> = OnceLock::new();
    let make = || {
        let text = || Type::String;
        let kind = object(
            "kubernetes.GroupVersionKind",
            &[("group", text()), ("version", text()), ("kind", text())],
        );
        let resource = object(
            "kubernetes.GroupVersionResource",
            &[("group", text()), ("version", text()), ("resource", text())],
        );
        object(
            "kubernetes.AdmissionRequest",
            &[
                ("kind", kind.clone()),
                ("resource", resource.clone()),
                ("subResource", text()),
                ("requestKind", kind),
                ("requestResource", resource),
                ("requestSubResource", text()),
                ("name", text()),
                ("namespace", text()),
                ("operation", text()),
                ("userInfo", user()),
                ("dryRun", Type::Bool),
                ("options", Type::Dyn),
            ],
        )
    };
    TYPE.get_or_init(make).clone()
}

/// Who asks.
pub(crate) fn user() -> Type {
    object(
        "kubernetes.UserInfo",
        &[
            ("username", Type::String),
            ("uid", Type::String),
            ("groups", texts()),
            ("extra", Type::map(Type::String, texts())),
        ],
    )
}

/// `namespaceObject`.
pub(super) fn namespace() -> Type {
    static TYPE: OnceLock<Type> = OnceLock::new();
    let make = || {
        let text = || Type::String;
        let labels = || Type::map(Type::String, Type::String);
        let condition = object(
            "kubernetes.NamespaceCondition",
            &[
                ("status", text()),
                ("type", text()),
                ("lastTransitionTime", Type::Timestamp),
                ("message", text()),
                ("reason", text()),
            ],
        );
        let metadata = object(
            "kubernetes.NamespaceMetadata",
            &[
                ("name", text()),
                ("generateName", text()),
                ("namespace", text()),
                ("labels", labels()),
                ("annotations", labels()),
                ("UID", text()),
                ("creationTimestamp", Type::Timestamp),
                ("deletionGracePeriodSeconds", Type::Int),
                ("deletionTimestamp", Type::Timestamp),
                ("generation", Type::Int),
                ("resourceVersion", text()),
                ("finalizers", texts()),
            ],
        );
        let status =
            object("kubernetes.NamespaceStatus", &[("conditions", Type::list(condition)), ("phase", text())]);
        let spec = object("kubernetes.NamespaceSpec", &[("finalizers", texts())]);
        object("kubernetes.Namespace", &[("metadata", metadata), ("spec", spec), ("status", status)])
    };
    TYPE.get_or_init(make).clone()
}

/// `variables`, with those that are known so far.
pub(super) fn variables(known: &[(String, Type)]) -> Type {
    let shape = |(name, t): &(String, Type)| (name.clone(), Arc::new(Shape::of(visible(t))));
    Type::Struct(Declared::new("kubernetes.variables", known.iter().map(shape).collect::<BTreeMap<_, _>>()))
}

/// The type that other expressions see of a variable: what is no plain type is seen as anything.
fn visible(t: &Type) -> Type {
    match t {
        Type::List(of) => Type::list(visible(of)),
        Type::Map(of) => Type::map(visible(&of.0), visible(&of.1)),
        Type::Struct(_) | Type::Object(_) | Type::Opaque(..) | Type::Meta(_) | Type::Error => Type::Dyn,
        other => other.clone(),
    }
}
