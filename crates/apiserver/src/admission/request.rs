//! Where handlers call admission.

use kube_objects::{GroupVersionKind, Status};
use serde_json::Value;

use super::attributes::Reinvocation;
use super::{Attributes, Operation, RequestOptions};
use crate::catalogue::Resource;
use crate::handlers::Call;
use crate::registry::subresources;

/// The kind of what is read and written at a subresource (`None`: of the resource).
pub(crate) fn subresource_kind(resource: &Resource, subresource: Option<&str>) -> GroupVersionKind {
    let sub = subresource.and_then(|name| resource.subresource(name));
    sub.map_or_else(|| resource.gvk(), |sub| sub.kind.clone())
}

impl Call {
    /// What admission knows of this request about the object `name` ("" while it is still to be generated).
    pub(crate) fn attributes<'a>(
        &'a self,
        name: &'a str,
        operation: Operation,
        old: Option<&'a Value>,
    ) -> Attributes<'a> {
        let cx = self.context(name);
        Attributes {
            kind: subresource_kind(&self.resource, cx.subresource),
            cx,
            operation,
            old,
            options: RequestOptions {
                field_manager: self.query.text("fieldManager"),
                field_validation: self.query.text("fieldValidation"),
                deletion: None,
            },
            warnings: &self.warnings,
            audit: &self.audit,
            reinvocation: Reinvocation::default(),
        }
    }

    /// The mutating phase for an object to be created or changed: before the strategy prepares it.
    ///
    /// # Errors
    /// The first refusal.
    pub(crate) async fn mutate(
        &self,
        name: &str,
        operation: Operation,
        object: &mut Value,
        old: Option<&Value>,
    ) -> Result<(), Status> {
        let chain = &self.server.admission;
        if let (Some("scale"), Some(old)) = (self.context(name).subresource, old) {
            // What is admitted there is the Scale, not the workload.
            let (mut scale, old) = (subresources::scale_of(object), subresources::scale_of(old));
            let before = scale.clone();
            chain.mutate(&self.attributes(name, operation, Some(&old)), &mut scale).await?;
            return if scale == before { Ok(()) } else { subresources::apply_scale(object, &scale) };
        }
        chain.mutate(&self.attributes(name, operation, old), object).await
    }

    /// The validating phase: the object as it would be written.
    ///
    /// # Errors
    /// The first refusal.
    pub(crate) async fn admit(
        &self,
        name: &str,
        operation: Operation,
        object: &Value,
        old: Option<&Value>,
    ) -> Result<(), Status> {
        let chain = &self.server.admission;
        if let (Some("scale"), Some(old)) = (self.context(name).subresource, old) {
            let (scale, old) = (subresources::scale_of(object), subresources::scale_of(old));
            return chain.validate(&self.attributes(name, operation, Some(&old)), &scale).await;
        }
        chain.validate(&self.attributes(name, operation, old), object).await
    }

    /// Both phases of a deletion, which has nothing to change.
    ///
    /// # Errors
    /// The first refusal.
    pub(crate) async fn admit_deletion(
        &self,
        name: &str,
        old: &Value,
        options: &Value,
        dry_run: bool,
    ) -> Result<(), Status> {
        let mut attributes = self.attributes(name, Operation::Delete, Some(old));
        attributes.cx.dry_run = dry_run;
        attributes.options.deletion = Some(options);
        self.both(&attributes, &mut Value::Null).await
    }

    /// Both phases of what is answered and not stored: reviews, bindings, evictions, token requests.
    ///
    /// # Errors
    /// The first refusal.
    pub(crate) async fn admit_unstored(&self, name: &str, object: &mut Value) -> Result<(), Status> {
        self.both(&self.attributes(name, Operation::Create, None), object).await
    }

    /// Both phases of a connection to a pod, service or node; `options` is the document of the subresource's kind
    /// (`PodExecOptions` …) with apiVersion and kind.
    ///
    /// # Errors
    /// The first refusal.
    pub(crate) async fn admit_connection(&self, options: &mut Value) -> Result<(), Status> {
        self.both(&self.attributes(&self.path.name, Operation::Connect, None), options).await
    }

    async fn both(&self, attributes: &Attributes<'_>, object: &mut Value) -> Result<(), Status> {
        let chain = &self.server.admission;
        chain.mutate(attributes, object).await?;
        chain.validate(attributes, object).await
    }
}
