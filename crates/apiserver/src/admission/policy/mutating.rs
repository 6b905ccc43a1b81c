//! MutatingAdmissionPolicy (upstream `plugin/policy/mutating/dispatcher.go`).

use std::collections::HashSet;
use std::sync::Arc;

use api_machinery::apply::{check, typed};
use api_machinery::patch;
use api_machinery::schema::{ListType, SchemaRef, ValueType};
use async_trait::async_trait;
use kind_rules::json::text;
use kube_objects::{Reason, Status, StatusCause};
use policy_engines::admission_policy::{
    Binding, FailurePolicy, GROUP, Invocation, Match, MutatingPolicy, Mutation, Policy, Wanted, is_exempt,
    select,
};
use serde_json::Value;

use super::view::{Version, View};
use super::{Around, bindings, policies};
use crate::admission::compiled::Compiled;
use crate::admission::seen::Seen;
use crate::admission::{Attributes, Plugin};
use crate::registry::objects::ObjectAccess;

const NAME: &str = "MutatingAdmissionPolicy";

/// The plug-in.
pub(in super::super) struct MutatingPolicies {
    objects: Arc<ObjectAccess>,
    policies: Compiled<Vec<Policy<MutatingPolicy>>>,
    bindings: Compiled<Vec<Binding>>,
}

/// What is remembered between the two rounds (upstream `policyReinvokeContext`).
#[derive(Default)]
struct Memory {
    last_output: Option<Value>,
    /// Invoked already, willing to be invoked again.
    invoked: HashSet<String>,
    /// To be invoked in the second round.
    due: HashSet<String>,
}

impl Memory {
    fn require_all(&mut self) {
        self.due.extend(std::mem::take(&mut self.invoked));
    }
}

impl MutatingPolicies {
    pub(in super::super) fn new(objects: &Arc<ObjectAccess>) -> Self {
        Self {
            objects: Arc::clone(objects),
            policies: Compiled::new(objects, GROUP, "mutatingadmissionpolicies", |objects| {
                policies(objects, MutatingPolicy::compile)
            }),
            bindings: Compiled::new(objects, GROUP, "mutatingadmissionpolicybindings", bindings),
        }
    }
}

#[async_trait]
impl Plugin for MutatingPolicies {
    fn name(&self) -> &'static str {
        NAME
    }

    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        !self.bindings.get().is_empty()
            && !self.policies.get().is_empty()
            && !is_exempt(&attributes.cx.resource.gvr)
    }

    async fn mutate(&self, attributes: &Attributes<'_>, object: &mut Value) -> Result<(), Status> {
        let (policies, bindings) = (self.policies.get(), self.bindings.get());
        let catalogue = self.objects.kinds.catalogue();
        let around = Around { attributes, catalogue: &catalogue };
        let wanted = select(&*policies, &bindings, &attributes.asked(object), &around).await?;
        if wanted.is_empty() {
            return Ok(());
        }
        let view = View::of(&self.objects, attributes).await?;
        let mut memory = attributes.reinvocation.with(NAME, |memory: &mut Memory| std::mem::take(memory));
        if attributes.reinvocation.is_second()
            && memory.last_output.as_ref().is_some_and(|last| last != object)
        {
            memory.require_all();
        }
        let mut errors = Vec::new();
        let mut current: Option<Current<'_>> = None;
        for wanted in &wanted {
            match wanted {
                Wanted::Misconfigured(one) => {
                    if one.policy.program.failure_policy() == FailurePolicy::Fail {
                        let binding = one.binding.map(|binding| binding.name.as_str());
                        errors.push((message(&one.policy.name, binding, &one.why), false));
                    }
                }
                Wanted::Invocation(one) => {
                    let kept = current.take_if(|current| current.version.is(&one.resource));
                    // The next policy sees what those before it made of the object, whatever version they saw.
                    self.put_back(&mut current, attributes, object).await?;
                    let now = match kept {
                        Some(kept) => kept,
                        None => match view.version(&one.resource, object).await {
                            Ok(version) => Current { version, changed: false },
                            Err(why) => {
                                if one.policy.program.failure_policy() == FailurePolicy::Fail {
                                    let why = format!("failed to configure policy: {why}");
                                    errors.push((message(&one.policy.name, None, &why), false));
                                }
                                continue;
                            }
                        },
                    };
                    let now = current.insert(now);
                    now.changed |= invoke(attributes, &view, one, &mut now.version, &mut memory, &mut errors);
                }
            }
        }
        self.put_back(&mut current, attributes, object).await?;
        memory.last_output = Some(object.clone());
        attributes.reinvocation.with(NAME, |kept: &mut Memory| *kept = memory);
        if errors.is_empty() { Ok(()) } else { Err(refusal(attributes, object, errors)) }
    }
}

/// The version of the object that the last policy saw.
struct Current<'a> {
    version: Version<'a>,
    changed: bool,
}

impl MutatingPolicies {
    /// What policies made of a version becomes the object that the plug-ins see.
    async fn put_back(
        &self,
        current: &mut Option<Current<'_>>,
        attributes: &Attributes<'_>,
        object: &mut Value,
    ) -> Result<(), Status> {
        let Some(mut done) = current.take().filter(|current| current.changed) else { return Ok(()) };
        let made = done.version.seen.object.take();
        *object = done.version.seen.returned(&self.objects, attributes, made).await?;
        Ok(())
    }
}

fn message(policy: &str, binding: Option<&str>, why: &str) -> String {
    match binding {
        Some(binding) => format!("policy '{policy}' with binding '{binding}' denied request: {why}"),
        None => format!("policy {policy:?} denied request: {why}"),
    }
}

/// One policy by one binding: all its mutations in order. Whether they changed the object.
fn invoke(
    attributes: &Attributes<'_>,
    view: &View,
    one: &Invocation<'_, MutatingPolicy>,
    version: &mut Version<'_>,
    memory: &mut Memory,
    errors: &mut Vec<(String, bool)>,
) -> bool {
    let program = &one.policy.program;
    let mut fail = |why: &str| {
        if program.failure_policy() == FailurePolicy::Fail {
            errors.push((message(&one.policy.name, Some(&one.binding.name), why), true));
        }
    };
    match program.matches(&view.inputs(version, one)) {
        Match::Yes => {}
        Match::No(_) => return false,
        Match::Error(why) => {
            fail(&why);
            return false;
        }
    }
    let parameter = one.parameter.as_ref().map_or("", |object| text(&object["metadata"], "name"));
    let key = format!("{}/{}/{parameter}", one.policy.name, one.binding.name);
    if attributes.reinvocation.is_second() && !memory.due.contains(&key) {
        return false;
    }
    if version.seen.object.is_null() {
        return false;
    }
    let before = version.seen.object.clone();
    for index in 0..program.mutations() {
        let wanted = program.mutation(index, &view.inputs(version, one));
        match wanted.and_then(|mutation| mutated(&version.seen, &mutation)) {
            Ok(made) => version.seen.object = made,
            Err(why) => fail(&why),
        }
    }
    let changed = version.seen.object != before;
    if changed {
        memory.require_all();
        attributes.reinvocation.request();
    }
    if program.is_reinvoked() {
        memory.invoked.insert(key);
    }
    changed
}

/// The object after a mutation: pruned and with its defaults.
fn mutated(seen: &Seen<'_>, mutation: &Mutation) -> Result<Value, String> {
    let (object, schema) = (&seen.object, seen.schema());
    let mut made = match (mutation, &schema) {
        (Mutation::Patch(operations), _) => match patch::json_patch(object, operations) {
            Ok(made) => made,
            // A test that fails says that nothing is to be done.
            Err(refused) if is_failed_test(&refused) => return Ok(object.clone()),
            Err(refused) => return Err(format!("JSON Patch: {}", refused.message)),
        },
        (Mutation::Apply(fields), Some(schema)) => {
            let mut atomic = Vec::new();
            find_atomic(schema, fields, "", &mut atomic);
            if !atomic.is_empty() {
                return Err(format!(
                    "error applying patch: invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: {}",
                    atomic.join(", ")
                ));
            }
            check::check(schema, fields).map_err(|why| {
                format!("error applying patch: failed to convert patch object to typed object: {why}")
            })?;
            typed::merge(schema, object, fields)
        }
        (Mutation::Apply(_), None) => {
            return Err("error applying patch: type converter must not be nil".to_owned());
        }
    };
    for key in ["apiVersion", "kind"] {
        if let Some(own) = object.get(key) {
            made[key] = own.clone();
        }
    }
    seen.complete(&mut made)?;
    Ok(made)
}

fn is_failed_test(refused: &Status) -> bool {
    refused.message.to_lowercase().contains("test")
}

/// Places of a configuration that are merged as one value: what they do not name would be lost.
fn find_atomic(schema: &SchemaRef, value: &Value, path: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            if schema.is_atomic_map() && !path.is_empty() {
                found.push(path.to_owned());
            }
            for (key, child) in map {
                if let Some(below) = schema.child(key) {
                    find_atomic(below, child, &format!("{path}.{key}"), found);
                }
            }
        }
        Value::Array(items) => {
            if schema.value_type == ValueType::Array && schema.list_type == ListType::Atomic {
                found.push(path.to_owned());
            } else if let Some(below) = &schema.items {
                for (index, item) in items.iter().enumerate() {
                    find_atomic(below, item, &format!("{path}[{index}]"), found);
                }
            }
        }
        _ => {}
    }
}

/// 403 with all that refused; the first gives message and reason.
fn refusal(attributes: &Attributes<'_>, object: &Value, errors: Vec<(String, bool)>) -> Status {
    let mut status = attributes.forbidden(object, "admission request denied by policy");
    if let Some((message, evaluated)) = errors.first() {
        status.message = message.clone();
        if *evaluated {
            status.reason = Some(Reason::Invalid);
        }
    }
    if let Some(details) = &mut status.details {
        let causes = errors.into_iter().map(|(message, _)| StatusCause { message, ..StatusCause::default() });
        details.causes.extend(causes);
    }
    status
}
