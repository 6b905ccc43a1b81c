//! [`Strategy`]: what a kind does beyond the engine.
//!
//! Order of a create: decode, schema defaults, [`Strategy::default_fields`], admission,
//! [`Strategy::prepare_for_create`], schema validation, [`Strategy::validate`], write, [`Strategy::after_create`].
//! An update: decode, defaults, admission, [`Strategy::prepare_for_update`], schema validation,
//! [`Strategy::validate_update`], write, [`Strategy::after_update`]. A status (or other subresource) update is an
//! update with [`RequestContext::subresource`] set and [`Strategy::prepare_for_status_update`] in place of
//! `prepare_for_update`. The engine itself sets uid, creationTimestamp, generation and managedFields, keeps metadata
//! immutables, isolates `status` from `spec` and checks metadata.

use async_trait::async_trait;
use jiff::Timestamp;
use kube_objects::{Status, StatusCause, UserInfo};
use serde_json::Value;

use crate::catalogue::Resource;
use crate::registry::bootstrap::Facts;

/// Reads objects for strategies and admission; a consistent view of this server's own objects, in the storage
/// version, resourceVersion included.
#[async_trait]
pub trait Objects: Send + Sync {
    /// One object; `namespace` is "" for a cluster-scoped one.
    async fn get(
        &self,
        group: &str,
        resource: &str,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Value>, Status>;

    /// Every object of a resource in a namespace ("" means all), by key order.
    async fn list(&self, group: &str, resource: &str, namespace: &str) -> Result<Vec<Value>, Status>;

    /// Writes an object as the server itself: no admission, no authorization; `change` gets the stored object and
    /// returns whether to write. Retries conflicts by itself, so `change` may run more than once. `false` when there
    /// is no such object.
    async fn modify(
        &self,
        group: &str,
        resource: &str,
        namespace: &str,
        name: &str,
        change: &(dyn for<'a> Fn(&'a mut Value) -> Result<bool, Status> + Send + Sync),
    ) -> Result<bool, Status>;
}

/// What a strategy may know about the request it serves.
#[derive(Clone, Copy)]
pub struct RequestContext<'a> {
    /// Who asks.
    pub user: &'a UserInfo,
    /// For what.
    pub resource: &'a Resource,
    /// "" for a cluster-scoped object.
    pub namespace: &'a str,
    /// The object's name; "" while a generated name is still to be drawn.
    pub name: &'a str,
    /// `status`, `scale` …
    pub subresource: Option<&'a str>,
    /// Nothing will be written: allocate nothing.
    pub dry_run: bool,
    /// When the request came.
    pub now: Timestamp,
    /// Reads other objects.
    pub objects: &'a dyn Objects,
    /// What start-up was told about this server: the service network.
    pub facts: &'a Facts,
    /// Whose word counts on granting; `None`: everything may be granted (no authorization at all).
    pub authorizer: Option<&'a access::Authorizer>,
}

impl std::fmt::Debug for RequestContext<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RequestContext")
            .field("user", &self.user.username)
            .field("resource", &self.resource.gvr)
            .field("namespace", &self.namespace)
            .field("name", &self.name)
            .field("subresource", &self.subresource)
            .finish_non_exhaustive()
    }
}

/// What names of a kind look like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NameRule {
    /// RFC 1123 subdomain, up to 253 characters.
    #[default]
    DnsSubdomain,
    /// RFC 1123 label, up to 63 characters.
    DnsLabel,
    /// RFC 1035 label: begins with a letter (services before 1.36).
    Dns1035Label,
    /// Anything that can stand in a path (RBAC).
    PathSegment,
}

/// A column of `kubectl get`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// Its head.
    pub name: String,
    /// `string`, `integer`, `date` …
    pub kind: String,
    /// `name` for the first column, else "".
    pub format: String,
    /// For a person.
    pub description: String,
    /// 0: always shown; more: only in wide output.
    pub priority: i32,
}

impl Column {
    /// A string column that is always shown.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            kind: "string".to_owned(),
            format: String::new(),
            description: String::new(),
            priority: 0,
        }
    }

    /// A column only of wide output.
    #[must_use]
    pub fn wide(name: &str) -> Self {
        Self { priority: 1, ..Self::new(name) }
    }

    /// With another type.
    #[must_use]
    pub fn of(self, kind: &str) -> Self {
        Self { kind: kind.to_owned(), ..self }
    }

    /// The first column.
    #[must_use]
    pub fn object_name() -> Self {
        Self {
            format: "name".to_owned(),
            description: "Name must be unique within a namespace.".to_owned(),
            ..Self::new("Name")
        }
    }

    /// The age column; its cell is made by [`crate::registry::strategy::age`].
    #[must_use]
    pub fn age() -> Self {
        Self::new("Age")
    }
}

/// How long ago an object was created, the way `kubectl` prints it; `<unknown>` without a creationTimestamp.
#[must_use]
pub fn age(object: &Value, now: Timestamp) -> Value {
    let created = object["metadata"]["creationTimestamp"].as_str().and_then(|text| text.parse().ok());
    Value::String(created.map_or_else(|| "<unknown>".to_owned(), |created| human_duration(created, now)))
}

/// A span in the two largest units that say something: `45s`, `3m20s`, `5h`, `2d4h`, `400d`, `2y30d`
/// (the thresholds are those of apimachinery `duration.HumanDuration`).
#[must_use]
pub fn human_duration(from: Timestamp, to: Timestamp) -> String {
    let seconds = to.as_second() - from.as_second();
    let (minutes, hours) = (seconds / 60, seconds / 3600);
    let (days, years) = (hours / 24, hours / 24 / 365);
    let pair = |large: i64, large_unit: &str, small: i64, small_unit: &str| {
        if small == 0 {
            format!("{large}{large_unit}")
        } else {
            format!("{large}{large_unit}{small}{small_unit}")
        }
    };
    match seconds {
        ..-1 => "<invalid>".to_owned(),
        -1..0 => "0s".to_owned(),
        0..120 => format!("{seconds}s"),
        120..600 => pair(minutes, "m", seconds % 60, "s"),
        600..10_800 => format!("{minutes}m"),
        10_800..28_800 => pair(hours, "h", minutes % 60, "m"),
        28_800..172_800 => format!("{hours}h"),
        172_800..691_200 => pair(days, "d", hours % 24, "h"),
        _ if years < 2 => format!("{days}d"),
        _ if years < 8 => pair(years, "y", days % 365, "d"),
        _ => format!("{years}y"),
    }
}

/// What a kind does beyond the engine. Every default is the engine's ordinary behaviour, so that a kind's file holds
/// only what is special about it. Methods get and change whole objects as JSON in the storage version.
#[async_trait]
pub trait Strategy: Send + Sync + 'static {
    /// What its names look like.
    fn name_rule(&self) -> NameRule {
        NameRule::DnsSubdomain
    }

    /// Defaults that the schema cannot express. Runs on every decoded object (create, update, after a patch).
    fn default_fields(&self, _object: &mut Value) {}

    /// Clears and sets what a new object may not bring along; may allocate (not on a dry run). Errors end the request.
    async fn prepare_for_create(&self, _cx: &RequestContext<'_>, _object: &mut Value) -> Result<(), Status> {
        Ok(())
    }

    /// Carries over what an update may not change.
    async fn prepare_for_update(
        &self,
        _cx: &RequestContext<'_>,
        _object: &mut Value,
        _old: &Value,
    ) -> Result<(), Status> {
        Ok(())
    }

    /// The same for a subresource (`cx.subresource`). The engine has already put back everything but `status` and
    /// managedFields for `status`.
    async fn prepare_for_status_update(
        &self,
        _cx: &RequestContext<'_>,
        _object: &mut Value,
        _old: &Value,
    ) -> Result<(), Status> {
        Ok(())
    }

    /// What is wrong with a new object; all of it becomes one 422.
    fn validate(&self, _cx: &RequestContext<'_>, _object: &Value) -> Vec<StatusCause> {
        Vec::new()
    }

    /// What is wrong with an update; called for subresources too (`cx.subresource`). The default holds an updated
    /// object to the rules of a new one.
    fn validate_update(&self, cx: &RequestContext<'_>, object: &Value, _old: &Value) -> Vec<StatusCause> {
        self.validate(cx, object)
    }

    /// Told to the client in `Warning` headers.
    fn warnings(&self, _object: &Value) -> Vec<String> {
        Vec::new()
    }

    /// Field selectors besides metadata.name and metadata.namespace, as paths: `spec.nodeName`.
    fn selectable_fields(&self) -> &[&'static str] {
        &[]
    }

    /// The value of a selectable field; the default reads the path, with "" for nothing there.
    fn field_value(&self, object: &Value, path: &str) -> String {
        let found = path.split('.').try_fold(object, |value, key| value.get(key));
        match found {
            Some(Value::String(text)) => text.clone(),
            Some(Value::Null) | None => String::new(),
            Some(other) => other.to_string(),
        }
    }

    /// Columns of a Table; the default is Name and Age (upstream calls the latter `Created At` there; kubectl shows
    /// an age either way).
    fn columns(&self) -> Vec<Column> {
        vec![Column::object_name(), Column::age()]
    }

    /// One cell per column of [`Strategy::columns`].
    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        vec![object["metadata"]["name"].clone(), age(object, now)]
    }

    /// Whether a spec change counts in metadata.generation. The engine takes everything outside metadata and status
    /// as spec. Objects without a status subresource never count.
    fn counts_generation(&self) -> bool {
        true
    }

    /// Whether a deletion has to wait for someone to end the object's work: `Some(seconds)` sets deletionTimestamp and
    /// deletionGracePeriodSeconds; `None` deletes now (finalizers aside). `requested` is the client's
    /// gracePeriodSeconds.
    fn graceful_deletion(&self, _object: &Value, _requested: Option<i64>) -> Option<i64> {
        None
    }

    /// Refuses a deletion (403 for the namespace `default` …), before anything is changed.
    async fn check_delete(&self, _cx: &RequestContext<'_>, _object: &Value) -> Result<(), Status> {
        Ok(())
    }

    /// Whether a PUT without resourceVersion may overwrite.
    fn allows_unconditional_update(&self) -> bool {
        true
    }

    /// Whether a PUT of an object that is not there creates it.
    fn allows_create_on_update(&self) -> bool {
        false
    }

    /// The propagation policy of a DELETE that names none is to orphan (never for today's kinds; jobs of batch/v1
    /// through the old default: `true`).
    fn orphans_by_default(&self) -> bool {
        false
    }

    /// The write of a prepared create did not happen: give back what was allocated.
    async fn abandon_create(&self, _cx: &RequestContext<'_>, _object: &Value) {}

    /// After a successful create (never on a dry run).
    async fn after_create(&self, _cx: &RequestContext<'_>, _object: &Value) {}

    /// After a successful update (never on a dry run).
    async fn after_update(&self, _cx: &RequestContext<'_>, _object: &Value, _old: &Value) {}

    /// After the object has gone (never on a dry run).
    async fn after_delete(&self, _cx: &RequestContext<'_>, _object: &Value) {}

    /// Authorization that depends on the object (RBAC escalation, bind): called after validation of creates
    /// (`old` is `None`) and updates.
    async fn authorize(
        &self,
        _cx: &RequestContext<'_>,
        _object: &Value,
        _old: Option<&Value>,
    ) -> Result<(), Status> {
        Ok(())
    }
}

/// The engine's ordinary behaviour and nothing else.
#[derive(Clone, Copy, Debug, Default)]
pub struct Generic;

impl Strategy for Generic {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_kubectl_prints_them() {
        let zero = Timestamp::UNIX_EPOCH;
        for (seconds, text) in [
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (200, "3m20s"),
            (660, "11m"),
            (10_860, "3h1m"),
            (36_000, "10h"),
            (187_200, "2d4h"),
            (86_400 * 400, "400d"),
            (86_400 * 760, "2y30d"),
        ] {
            let to = Timestamp::from_second(seconds).expect("small");
            assert_eq!(human_duration(zero, to), text);
        }
    }
}
