//! A CustomResourceDefinition as it is served: what routing, discovery and conversion need at once, the rest read from
//! the stored document when it is asked for. A definition whose objects nobody touches costs its document and a few
//! kilobytes.

use std::fmt;
use std::sync::{Arc, OnceLock};

use api_machinery::custom_resource::scale::ScalePaths;
use api_machinery::custom_resource::status;
use api_machinery::schema::{Schema, SchemaRef};
use bytes::Bytes;
use kube_objects::{GroupVersionKind, GroupVersionResource};
use policy_engines::crd_rules::RuleSet;
use serde_json::Value;
use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;

use super::builtin::ALL_VERBS;
use super::{Resource, Subresource};
use crate::registry::custom::Custom;

/// A definition that cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum DefinitionError {
    /// A field is missing or has the wrong shape.
    #[error("custom resource definition {name:?} has no usable `{field}`")]
    Field {
        /// The definition's metadata.name.
        name: String,
        /// The field's path.
        field: &'static str,
    },
}

/// One version of a definition.
pub struct DefinedVersion {
    /// `v1`.
    pub name: String,
    /// Whether requests may use it.
    pub served: bool,
    /// Told to clients in a `Warning` header; `None` for a version that is not deprecated.
    pub deprecation: Option<String>,
    /// What its objects look like; compiled when first used.
    pub schema: SchemaRef,
    /// Where its replicas are, when it has a scale subresource.
    pub scale: Option<ScalePaths>,
    /// Its subresources, sorted by name.
    subresources: Vec<Subresource>,
    strategy: Arc<Custom>,
    /// Compiled when an object is written first; shared by definitions of one shape.
    rules: Arc<OnceLock<Option<Arc<RuleSet>>>>,
}

impl DefinedVersion {
    /// The rules (`x-kubernetes-validations`) of its objects.
    pub(crate) fn rules(&self) -> Option<&Arc<RuleSet>> {
        self.rules.get_or_init(|| RuleSet::compile(&self.schema, true)).as_ref()
    }
}

/// How an object of one version becomes one of another.
#[derive(Clone, Debug)]
pub enum Conversion {
    /// Only the apiVersion changes.
    None,
    /// A webhook is asked.
    Webhook {
        /// `spec.conversion.webhook.clientConfig`.
        client: Value,
        /// The version of `ConversionReview` that is spoken: the first that both sides know.
        review: String,
    },
}

impl Conversion {
    fn read(own: &Value) -> Self {
        if own["strategy"] != "Webhook" {
            return Self::None;
        }
        let reviews = own["webhook"]["conversionReviewVersions"].as_array().into_iter().flatten();
        let known = reviews.filter_map(Value::as_str).find(|version| matches!(*version, "v1" | "v1beta1"));
        Self::Webhook {
            client: own["webhook"]["clientConfig"].clone(),
            review: known.unwrap_or("v1").to_owned(),
        }
    }
}

/// From when on it is recorded who owns an object's fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ownership {
    /// From its creation, as of every kind of a cluster.
    #[default]
    FromCreation,
    /// From its first server-side apply: for kinds that programs write and hardly anybody applies, whose managedFields would be
    /// a third of what is stored. Who applies to such an object finds it owned by `before-first-apply`, as upstream has it of
    /// objects that it did not track (its `SkipNonAppliedManager`).
    FromFirstApply,
}

/// A definition as it is served.
pub struct Definition {
    /// `widgets.example.com`.
    pub name: String,
    /// `example.com`.
    pub group: String,
    /// `widgets`.
    pub plural: String,
    /// `Widget`.
    pub kind: String,
    /// `WidgetList`.
    pub list_kind: String,
    /// Whether its objects live in namespaces.
    pub namespaced: bool,
    /// How versions become each other.
    pub conversion: Conversion,
    /// In the document's order.
    pub versions: Vec<DefinedVersion>,
    /// Index of the version that objects are stored in.
    pub storage: usize,
    /// Its names are accepted and it is served.
    pub established: bool,
    /// All names it wants are its own.
    pub names_accepted: bool,
    /// Its objects are being deleted: nothing new is created.
    pub terminating: bool,
    /// `status.acceptedNames`.
    pub accepted_names: Value,
    /// From when on it is recorded who owns fields of its objects.
    pub ownership: Ownership,
    /// Names everything that the form of its objects depends on.
    pub shape: [u8; 32],
    /// Set when another shape has taken its place, or none: watches of its objects end.
    pub retired: CancellationToken,
    document: Bytes,
}

impl fmt::Debug for Definition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Definition").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Definition {
    /// Of a stored document. What an older definition of the same shape has compiled is taken over.
    pub(crate) fn read(document: &Bytes, older: Option<&Arc<Self>>) -> Result<Self, DefinitionError> {
        // Stored documents are JSON; anything else has no field at all and is refused below.
        let value: Value = serde_json::from_slice(document).unwrap_or_default();
        Self::of(&value, document.clone(), older)
    }

    /// Of a document compiled into the program: established without anybody's doing.
    pub(crate) fn fixed(value: &Value, ownership: Ownership) -> Result<Self, DefinitionError> {
        let mut value = value.clone();
        api_machinery::custom_resource::normal::normalise(&mut value);
        status::accept(&mut value, &status::NamesInUse::default(), "");
        let own = Self::of(&value, Bytes::from(value.to_string()), None)?;
        Ok(Self { ownership, ..own })
    }

    fn of(value: &Value, document: Bytes, older: Option<&Arc<Self>>) -> Result<Self, DefinitionError> {
        let name = value["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let missing = |field: &'static str| DefinitionError::Field { name: name.clone(), field };
        let spec = &value["spec"];
        let text = |value: &Value, field: &'static str| {
            value.as_str().filter(|text| !text.is_empty()).map(str::to_owned).ok_or_else(|| missing(field))
        };
        let group = text(&spec["group"], "spec.group")?;
        let kind = text(&spec["names"]["kind"], "spec.names.kind")?;
        let declared = spec["versions"].as_array().ok_or_else(|| missing("spec.versions"))?;
        let shape = shape(spec);
        let older = older.filter(|older| older.shape == shape);
        let mut versions = Vec::with_capacity(declared.len());
        for (index, version) in declared.iter().enumerate() {
            let version_name = text(&version["name"], "spec.versions[*].name")?;
            let gvk = GroupVersionKind::new(&group, &version_name, &kind);
            let (schema, rules) = match older.and_then(|older| older.versions.get(index)) {
                Some(same) => (same.schema.clone(), Arc::clone(&same.rules)),
                None => (lazy_schema(&document, index, gvk.clone()), Arc::default()),
            };
            versions.push(DefinedVersion {
                served: version["served"] == true,
                deprecation: deprecation(spec, version),
                scale: ScalePaths::read(&version["subresources"]["scale"]),
                schema,
                rules,
                subresources: subresources(&version["subresources"], &gvk),
                strategy: Arc::new(Custom::of_version(version)),
                name: version_name,
            });
        }
        let storage = declared.iter().position(|version| version["storage"] == true);
        let list_kind =
            spec["names"]["listKind"].as_str().map_or_else(|| format!("{kind}List"), str::to_owned);
        Ok(Self {
            plural: text(&spec["names"]["plural"], "spec.names.plural")?,
            namespaced: text(&spec["scope"], "spec.scope")? == "Namespaced",
            storage: storage.ok_or_else(|| missing("spec.versions[*].storage"))?,
            established: status::is_true(value, "Established"),
            names_accepted: status::is_true(value, "NamesAccepted"),
            terminating: status::is_true(value, "Terminating"),
            accepted_names: value["status"]["acceptedNames"].clone(),
            conversion: Conversion::read(&spec["conversion"]),
            ownership: Ownership::default(),
            retired: older.map(|older| older.retired.clone()).unwrap_or_default(),
            shape,
            document,
            list_kind,
            versions,
            kind,
            group,
            name,
        })
    }

    /// The version that objects are stored in.
    #[must_use]
    pub fn storage_version(&self) -> &DefinedVersion {
        &self.versions[self.storage]
    }

    /// A version by name.
    #[must_use]
    pub fn version(&self, name: &str) -> Option<&DefinedVersion> {
        self.versions.iter().find(|version| version.name == name)
    }

    /// What a version does beyond the engine.
    pub(crate) fn strategy(&self, version: &str) -> Option<&dyn crate::Strategy> {
        self.version(version).map(|version| version.strategy.as_ref() as &dyn crate::Strategy)
    }

    /// The same for the version that objects are stored in.
    pub(crate) fn strategy_of_storage(&self) -> &dyn crate::Strategy {
        self.storage_version().strategy.as_ref()
    }

    /// The stored document.
    #[must_use]
    pub fn document(&self) -> &Bytes {
        &self.document
    }

    /// A version's part of the document.
    #[must_use]
    pub fn version_document(&self, version: &str) -> Option<Value> {
        let mut value: Value = serde_json::from_slice(&self.document).ok()?;
        let versions = value.pointer_mut("/spec/versions")?.as_array_mut()?;
        versions.iter_mut().find(|each| each["name"] == version).map(Value::take)
    }

    /// The whole document as a tree.
    #[must_use]
    pub fn value(&self) -> Value {
        serde_json::from_slice(&self.document).unwrap_or_default()
    }

    /// One resource per version; those that requests may reach first have `true`.
    pub(super) fn resources(self: &Arc<Self>) -> Vec<(bool, Arc<Resource>)> {
        let served = |version: &DefinedVersion| version.served && self.established;
        self.versions.iter().map(|version| (served(version), Arc::new(self.resource(version)))).collect()
    }

    fn resource(self: &Arc<Self>, version: &DefinedVersion) -> Resource {
        let names = &self.accepted_names;
        let text = |key: &str| names[key].as_str().unwrap_or_default().to_owned();
        Resource {
            gvr: GroupVersionResource::new(&self.group, &version.name, &self.plural),
            kind: self.kind.clone(),
            singular: text("singular"),
            namespaced: self.namespaced,
            short_names: texts(&names["shortNames"]),
            categories: texts(&names["categories"]),
            verbs: ALL_VERBS.iter().map(|verb| (*verb).to_owned()).collect(),
            subresources: version.subresources.clone(),
            storage: (self.group.clone(), self.plural.clone()),
            virtual_only: false,
            custom: true,
            strategy: Arc::clone(&version.strategy) as Arc<dyn crate::Strategy>,
            schema: version.schema.clone(),
            definition: Some(Arc::clone(self)),
        }
    }
}

/// A version's schema, read from the document when it is first looked at. A schema that cannot be read (no server
/// accepts one; another writer of the store may) keeps every field and checks nothing.
fn lazy_schema(document: &Bytes, index: usize, gvk: GroupVersionKind) -> SchemaRef {
    let document = document.clone();
    SchemaRef::lazy(move || {
        let value: Value = serde_json::from_slice(&document).unwrap_or_default();
        let published = &value["spec"]["versions"][index]["schema"]["openAPIV3Schema"];
        let published = Some(published).filter(|schema| !schema.is_null());
        let read = Schema::for_custom_resource(published, gvk.clone());
        read.or_else(|_| Schema::for_custom_resource(None, gvk.clone())).unwrap_or_default()
    })
}

/// What the form of objects depends on; names, columns and deprecations do not.
fn shape(spec: &Value) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in [
        &spec["group"],
        &spec["names"]["kind"],
        &spec["names"]["plural"],
        &spec["scope"],
        &spec["conversion"],
    ] {
        hash.update(part.to_string());
    }
    for version in spec["versions"].as_array().into_iter().flatten() {
        for key in ["name", "served", "storage", "schema", "selectableFields", "subresources"] {
            hash.update(version[key].to_string());
        }
    }
    hash.finalize().into()
}

fn deprecation(spec: &Value, version: &Value) -> Option<String> {
    if version["deprecated"] != true {
        return None;
    }
    if let Some(own) = version["deprecationWarning"].as_str() {
        return Some(own.to_owned());
    }
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (group, kind, name) = (text(&spec["group"]), text(&spec["names"]["kind"]), text(&version["name"]));
    let rank = |name: &str| crate::discovery::priority(name);
    let better = spec["versions"].as_array().into_iter().flatten().filter(|other| {
        other["served"] == true && other["deprecated"] != true && rank(&text(&other["name"])) > rank(&name)
    });
    let best = better.map(|other| text(&other["name"])).max_by_key(|name| rank(name));
    let advice = best.map_or_else(String::new, |best| format!("; use {group}/{best} {kind}"));
    Some(format!("{group}/{name} {kind} is deprecated{advice}"))
}

fn subresources(declared: &Value, own: &GroupVersionKind) -> Vec<Subresource> {
    let verbs = || ["get", "patch", "update"].map(str::to_owned).to_vec();
    let is_there = |key: &str| declared.get(key).is_some_and(|part| !part.is_null());
    let mut subresources = Vec::new();
    if is_there("scale") {
        let kind = GroupVersionKind::new("autoscaling", "v1", "Scale");
        subresources.push(Subresource { name: "scale".to_owned(), kind, verbs: verbs() });
    }
    if is_there("status") {
        subresources.push(Subresource { name: "status".to_owned(), kind: own.clone(), verbs: verbs() });
    }
    subresources
}

fn texts(list: &Value) -> Vec<String> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::catalogue::Catalogue;

    fn definition() -> Value {
        json!({
            "metadata": { "name": "widgets.example.com" },
            "spec": {
                "group": "example.com", "scope": "Namespaced",
                "names": { "kind": "Widget", "plural": "widgets", "shortNames": ["wd"] },
                "versions": [
                    { "name": "v1", "served": true, "storage": true, "subresources": { "status": {} },
                      "schema": { "openAPIV3Schema": { "type": "object" } } },
                    { "name": "v0", "served": false },
                    { "name": "v1beta1", "served": true, "deprecated": true },
                ],
            },
        })
    }

    #[test]
    fn served_versions_are_found_where_they_are_served() {
        let catalogue =
            Catalogue::control_plane().with_custom_resource(&definition(), Ownership::default()).unwrap();
        let widgets = catalogue.find("example.com", "v1", "widgets").unwrap();
        assert!(widgets.namespaced && widgets.custom && widgets.has_status());
        assert_eq!((widgets.singular.as_str(), &widgets.short_names[..]), ("widget", &["wd".to_owned()][..]));
        assert!(catalogue.find("example.com", "v0", "widgets").is_none());
        let beta = catalogue.find("example.com", "v1beta1", "widgets").unwrap();
        let warning = beta.defined_version().and_then(|version| version.deprecation.clone());
        assert_eq!(warning.unwrap(), "example.com/v1beta1 Widget is deprecated; use example.com/v1 Widget");
        assert_eq!(catalogue.stored("example.com", "widgets").unwrap().gvr.version, "v1");
    }

    #[test]
    fn a_definition_without_its_names_is_refused_by_name_and_field() {
        let mut definition = definition();
        definition["spec"]["names"]["kind"] = Value::Null;
        let refused =
            Catalogue::control_plane().with_custom_resource(&definition, Ownership::default()).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "custom resource definition \"widgets.example.com\" has no usable `spec.names.kind`"
        );
    }

    #[test]
    fn labels_leave_the_shape_and_what_was_compiled_alone() {
        let mut value = definition();
        let first = Arc::new(Definition::fixed(&value, Ownership::default()).unwrap());
        value["metadata"]["labels"] = json!({ "a": "b" });
        let bytes = Bytes::from(value.to_string());
        let second = Definition::read(&bytes, Some(&first));
        assert!(second.is_ok_and(|second| second.shape != first.shape), "not normalised, so another shape");
        let again = Definition::read(first.document(), Some(&first)).unwrap();
        first.retired.cancel();
        assert!(again.shape == first.shape && again.retired.is_cancelled());
    }
}
