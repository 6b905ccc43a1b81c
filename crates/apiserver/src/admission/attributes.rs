//! What plug-ins know of a request (upstream `admission.Attributes`).

use std::any::Any;
use std::collections::{BTreeMap, HashMap};

use kube_objects::{GroupVersionKind, Status};
use parking_lot::Mutex;
use policy_engines::admission_policy::Request;
use serde_json::{Value, json};

use crate::registry::strategy::RequestContext;

/// What a request does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Operation {
    /// POST, and a PUT or apply of what is not there.
    Create,
    /// PUT and PATCH.
    Update,
    /// DELETE, one object at a time in a collection too.
    Delete,
    /// exec, attach, port-forward, proxy.
    Connect,
}

impl Operation {
    /// As in an AdmissionReview.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Create => "CREATE",
            Self::Update => "UPDATE",
            Self::Delete => "DELETE",
            Self::Connect => "CONNECT",
        }
    }
}

/// The options a request came with, as far as an AdmissionReview shows them.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct RequestOptions<'a> {
    /// `fieldManager`.
    pub(crate) field_manager: Option<&'a str>,
    /// `fieldValidation`.
    pub(crate) field_validation: Option<&'a str>,
    /// The DeleteOptions of a DELETE.
    pub(crate) deletion: Option<&'a Value>,
}

/// What a request wants to do to one object. The object itself is handed to plug-ins beside this record, because the
/// mutating phase changes it; it and [`Attributes::old`] are in the storage version.
pub(crate) struct Attributes<'a> {
    /// Who asks, for which resource, namespace, name and subresource; other objects.
    pub(crate) cx: RequestContext<'a>,
    /// What it does.
    pub(crate) operation: Operation,
    /// Kind of the object in this request: that of the resource, or `Scale`, `Binding`, `Eviction`, `PodExecOptions` …
    pub(crate) kind: GroupVersionKind,
    /// The object as it is stored now; `None` on CREATE and CONNECT.
    pub(crate) old: Option<&'a Value>,
    /// What the request's options say.
    pub(crate) options: RequestOptions<'a>,
    /// `Warning` headers of the answer.
    pub(crate) warnings: &'a Mutex<Vec<String>>,
    /// Annotations of the audit event, by `PLUGIN/KEY`.
    pub(crate) audit: &'a Mutex<BTreeMap<String, String>>,
    /// Whether plug-ins want to see the object again.
    pub(crate) reinvocation: Reinvocation,
}

impl Attributes<'_> {
    /// Tells the client something.
    pub(crate) fn warn(&self, warning: impl Into<String>) {
        self.warnings.lock().push(warning.into());
    }

    /// Tells the audit log something; the first word under a key counts (upstream refuses to overwrite).
    pub(crate) fn annotate(&self, key: impl Into<String>, value: impl Into<String>) {
        self.audit.lock().entry(key.into()).or_insert_with(|| value.into());
    }

    /// The request as policies and webhooks choose by it.
    pub(crate) fn asked<'r>(&'r self, object: &'r Value) -> Request<'r> {
        Request {
            operation: self.operation.as_str(),
            resource: &self.cx.resource.gvr,
            subresource: self.cx.subresource.unwrap_or_default(),
            within: self.cx.namespace,
            name: self.cx.name,
            object,
            old: self.old,
        }
    }

    /// Whether the request is about `resource` of `group` itself or the given subresource (`None`: itself).
    pub(crate) fn is(&self, group: &str, resource: &str, subresource: Option<&str>) -> bool {
        let own = &self.cx.resource.gvr;
        own.resource == resource && own.group == group && self.cx.subresource == subresource
    }

    /// The group and resource of the request whatever its subresource.
    pub(crate) fn is_resource(&self, group: &str, resource: &str) -> bool {
        let own = &self.cx.resource.gvr;
        own.resource == resource && own.group == group
    }

    /// The request's namespace; that of a Namespace is itself (upstream does so since its path names it as both).
    pub(crate) fn namespace(&self) -> &str {
        if self.is_resource("", "namespaces") { self.cx.name } else { self.cx.namespace }
    }

    /// The name that messages use: the request's, the object's, or what it will be generated from.
    pub(crate) fn shown_name(&self, object: &Value) -> String {
        let of = |key: &str| object["metadata"][key].as_str().filter(|text| !text.is_empty());
        if !self.cx.name.is_empty() {
            return self.cx.name.to_owned();
        }
        of("name").or_else(|| of("generateName")).unwrap_or("Unknown").to_owned()
    }

    /// 403 about this request's object (upstream `admission.NewForbidden`).
    pub(crate) fn forbidden(&self, object: &Value, why: &str) -> Status {
        let resource = &self.cx.resource.gvr;
        access::authorization::forbidden(&resource.group, &resource.resource, &self.shown_name(object), why)
    }

    /// The options as a document: CreateOptions, UpdateOptions, DeleteOptions; null on CONNECT.
    pub(crate) fn options_document(&self) -> Value {
        let kind = match self.operation {
            Operation::Create => "CreateOptions",
            Operation::Update => "UpdateOptions",
            Operation::Delete => "DeleteOptions",
            Operation::Connect => return Value::Null,
        };
        let mut document = json!({});
        if let Some(given) = self.options.deletion.filter(|given| given.is_object()) {
            document = given.clone();
        }
        document["kind"] = json!(kind);
        document["apiVersion"] = json!("meta.k8s.io/v1");
        if self.cx.dry_run {
            document["dryRun"] = json!(["All"]);
        }
        if self.operation != Operation::Delete {
            for (key, value) in [
                ("fieldManager", self.options.field_manager),
                ("fieldValidation", self.options.field_validation),
            ] {
                if let Some(value) = value {
                    document[key] = json!(value);
                }
            }
        }
        document
    }
}

/// State of the mutating phase's two rounds: a plug-in that changed the object may ask that those before it see it once
/// more (`reinvocationPolicy: IfNeeded`). There are never more than two rounds.
#[derive(Default)]
pub(crate) struct Reinvocation {
    state: Mutex<ReinvocationState>,
}

#[derive(Default)]
struct ReinvocationState {
    again: bool,
    second: bool,
    notes: HashMap<&'static str, Box<dyn Any + Send>>,
}

impl Reinvocation {
    /// Whether this is the second round.
    pub(crate) fn is_second(&self) -> bool {
        self.state.lock().second
    }

    /// Asks for a second round.
    pub(crate) fn request(&self) {
        self.state.lock().again = true;
    }

    /// Begins the second round if one was asked for.
    pub(crate) fn begin_second(&self) -> bool {
        let mut state = self.state.lock();
        state.second = state.again;
        state.second
    }

    /// What `plugin` remembers between its calls in this request; made when it is first asked for.
    pub(crate) fn with<T: Default + Send + 'static, R>(
        &self,
        plugin: &'static str,
        use_note: impl FnOnce(&mut T) -> R,
    ) -> R {
        let mut state = self.state.lock();
        let note = state.notes.entry(plugin).or_insert_with(|| Box::new(T::default()));
        if !note.is::<T>() {
            *note = Box::new(T::default());
        }
        use_note(note.downcast_mut::<T>().expect("it was just made a T"))
    }
}
