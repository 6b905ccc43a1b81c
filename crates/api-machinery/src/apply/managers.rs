//! The entries of `metadata.managedFields`.

use serde_json::{Map, Value};

use super::field_set::FieldSet;
use super::{Conflict, Manager};

/// How an owner came to its fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    /// It stated them.
    Apply,
    /// It changed them.
    Update,
}

impl Operation {
    fn name(self) -> &'static str {
        match self {
            Self::Apply => "Apply",
            Self::Update => "Update",
        }
    }
}

/// Who owns fields. An applier is the same whatever version it applies in; an updater is one per version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The manager's name.
    pub manager: String,
    /// How it came to its fields.
    pub operation: Operation,
    /// Through which subresource; "" for the object itself.
    pub subresource: String,
    /// In which version it last wrote.
    pub api_version: String,
}

impl Owner {
    /// Of a writer.
    #[must_use]
    pub fn of(manager: &Manager<'_>, operation: Operation) -> Self {
        Self {
            manager: manager.name.to_owned(),
            operation,
            subresource: manager.subresource.to_owned(),
            api_version: manager.api_version.to_owned(),
        }
    }

    fn is(&self, other: &Self) -> bool {
        self.manager == other.manager
            && self.operation == other.operation
            && self.subresource == other.subresource
            && (self.operation == Operation::Apply || self.api_version == other.api_version)
    }

    /// As conflict messages name it.
    fn spoken(&self) -> String {
        let mut name = format!("{:?}", self.manager);
        if !self.subresource.is_empty() {
            name.push_str(&format!(" with subresource {:?}", self.subresource));
        }
        if self.operation == Operation::Update {
            name.push_str(&format!(" using {}", self.api_version));
        }
        name
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    owner: Owner,
    time: String,
    fields: FieldSet,
    /// At which place it was read, as long as its fields are what was read there.
    read_at: Option<usize>,
}

/// How many updaters are kept apart; older ones are folded into one entry (upstream's `DefaultMaxUpdateManagers`).
const MAX_UPDATERS: usize = 10;

/// What the folded entry is called.
const FOLDED: &str = "ancient-changes";

/// Entries read from one object; far more than a real one has, so that a hostile one costs little.
const MAX_ENTRIES: usize = 1_000;

/// All owners of an object's fields.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Managed {
    entries: Vec<Entry>,
}

/// Whether a client asks to forget all ownership: one entry, empty.
pub(super) fn is_reset(entries: &Value) -> bool {
    entries.as_array().is_some_and(|list| list.len() == 1 && list[0].as_object().is_some_and(Map::is_empty))
}

impl Managed {
    /// Reads the field; `None` if any entry is malformed.
    #[must_use]
    pub fn decode(json: &Value) -> Option<Self> {
        let list = json.as_array()?;
        if list.len() > MAX_ENTRIES {
            return None;
        }
        let mut entries = list.iter().map(decode_entry).collect::<Option<Vec<_>>>()?;
        entries.iter_mut().enumerate().for_each(|(place, entry)| entry.read_at = Some(place));
        Some(Self { entries })
    }

    /// The field: appliers first, then by time and name. `read` is what the owners were [decoded](Self::decode) from, or
    /// null: fields that nobody changed meanwhile are taken out of it instead of being written anew.
    #[must_use]
    pub fn encode(&self, mut read: Value) -> Value {
        let mut entries: Vec<&Entry> = self.entries.iter().filter(|entry| !entry.fields.is_empty()).collect();
        entries.sort_by(|a, b| {
            let key = |entry: &Entry| {
                (
                    entry.owner.operation,
                    entry.time.clone(),
                    entry.owner.manager.clone(),
                    entry.owner.api_version.clone(),
                    entry.owner.subresource.clone(),
                )
            };
            key(a).cmp(&key(b))
        });
        let encoded = entries.into_iter().map(|entry| {
            let same = entry.read_at.and_then(|place| read.get_mut(place)?.get_mut("fieldsV1"));
            let same = same.map(Value::take).filter(Value::is_object);
            encode_entry(entry, same.unwrap_or_else(|| entry.fields.to_json()))
        });
        Value::Array(encoded.collect())
    }

    /// Whether nobody owns anything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.iter().all(|entry| entry.fields.is_empty())
    }

    /// What an owner owns.
    #[must_use]
    pub fn fields_of(&self, owner: &Owner) -> Option<&FieldSet> {
        self.entries.iter().find(|entry| entry.owner.is(owner)).map(|entry| &entry.fields)
    }

    /// Forgets who wrote through another group than that of `api_version`: upstream cannot compare what they own and drops
    /// them (events are served in two groups).
    pub(super) fn keep_group(&mut self, api_version: &str) {
        let group = |text: &str| text.rsplit_once('/').map(|(group, _)| group.to_owned());
        let own = group(api_version);
        self.entries.retain(|entry| group(&entry.owner.api_version) == own);
    }

    /// Takes out everybody but `own` who wrote in a version.
    pub(super) fn take_version(&mut self, api_version: &str, own: &Owner) -> Self {
        let is_theirs = |entry: &mut Entry| entry.owner.api_version == api_version && !entry.owner.is(own);
        Self { entries: self.entries.extract_if(.., is_theirs).collect() }
    }

    /// Adds owners that it does not have.
    pub(super) fn join(&mut self, others: Self) {
        self.entries.extend(others.entries);
    }

    /// What each owns.
    pub(super) fn each_fields(&self) -> impl Iterator<Item = &FieldSet> {
        self.entries.iter().map(|entry| &entry.fields)
    }

    /// Makes an owner own exactly `fields`, in the version it writes now; its time stays.
    pub fn set(&mut self, owner: Owner, fields: FieldSet) {
        match self.entries.iter_mut().find(|entry| entry.owner.is(&owner)) {
            Some(entry) => {
                entry.read_at = entry.read_at.filter(|_| entry.fields == fields);
                entry.fields = fields;
                entry.owner = owner;
            }
            None => self.entries.push(Entry { owner, time: String::new(), fields, read_at: None }),
        }
    }

    /// Makes an owner own `fields` too, now.
    pub fn grant(&mut self, owner: Owner, fields: FieldSet, time: &str) {
        match self.entries.iter_mut().find(|entry| entry.owner.is(&owner)) {
            Some(entry) => {
                entry.fields.absorb(fields);
                entry.read_at = None;
                entry.owner = owner;
                time.clone_into(&mut entry.time);
            }
            None => self.entries.push(Entry { owner, time: time.to_owned(), fields, read_at: None }),
        }
    }

    /// Says that an owner wrote now.
    pub fn touch(&mut self, owner: &Owner, time: &str) {
        if let Some(entry) = self.entries.iter_mut().find(|entry| entry.owner.is(owner)) {
            time.clone_into(&mut entry.time);
        }
    }

    /// Takes `fields` from everybody.
    pub fn release(&mut self, fields: &FieldSet) {
        self.entries.iter_mut().for_each(|entry| entry.release(fields));
        self.entries.retain(|entry| !entry.fields.is_empty());
    }

    /// Takes `fields` from everybody but `owner`.
    pub fn release_others(&mut self, owner: &Owner, fields: &FieldSet) {
        let others = self.entries.iter_mut().filter(|entry| !entry.owner.is(owner));
        others.for_each(|entry| entry.release(fields));
        self.entries.retain(|entry| !entry.fields.is_empty());
    }

    /// Which of `fields` somebody other than `owner` owns.
    #[must_use]
    pub fn conflicts(&self, owner: &Owner, fields: &FieldSet) -> Vec<Conflict> {
        let others = self.entries.iter().filter(|entry| !entry.owner.is(owner));
        others
            .flat_map(|entry| {
                let spoken = entry.owner.spoken();
                let both = entry.fields.intersection(fields).paths();
                both.into_iter().map(move |field| Conflict { owner: spoken.clone(), field })
            })
            .collect()
    }

    /// Folds the oldest updaters into one entry once there are too many, so that the field cannot grow without bound.
    pub fn cap_updates(&mut self) {
        let mut updaters: Vec<usize> = (0..self.entries.len())
            .filter(|index| {
                let owner = &self.entries[*index].owner;
                owner.operation == Operation::Update && owner.subresource.is_empty()
            })
            .collect();
        let Some(surplus) = updaters.len().checked_sub(MAX_UPDATERS).filter(|surplus| *surplus > 0) else {
            return;
        };
        updaters.sort_by(|a, b| self.entries[*a].time.cmp(&self.entries[*b].time));
        let folded = &updaters[..=surplus];
        let Some(newest) = folded.last().map(|index| self.entries[*index].clone()) else { return };
        let fields =
            folded.iter().fold(FieldSet::default(), |all, index| all.union(&self.entries[*index].fields));
        let mut index = 0;
        self.entries.retain(|_| {
            index += 1;
            !folded.contains(&(index - 1))
        });
        let owner = Owner { manager: FOLDED.to_owned(), ..newest.owner };
        self.entries.push(Entry { owner, time: newest.time, fields, read_at: None });
    }
}

fn decode_entry(json: &Value) -> Option<Entry> {
    let map = json.as_object()?;
    let text = |key: &str| map.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let operation = match text("operation").as_str() {
        "Apply" => Operation::Apply,
        "Update" => Operation::Update,
        _ => return None,
    };
    if text("fieldsType") != "FieldsV1" {
        return None;
    }
    let fields = match map.get("fieldsV1") {
        None | Some(Value::Null) => FieldSet::default(),
        Some(fields) => FieldSet::from_json(fields)?,
    };
    let owner = Owner {
        manager: text("manager"),
        operation,
        subresource: text("subresource"),
        api_version: text("apiVersion"),
    };
    Some(Entry { owner, time: text("time"), fields, read_at: None })
}

impl Entry {
    fn release(&mut self, fields: &FieldSet) {
        if self.fields.subtract(fields) {
            self.read_at = None;
        }
    }
}

/// `fields` as they stand in the entry.
fn encode_entry(entry: &Entry, fields: Value) -> Value {
    let Entry { owner, time, .. } = entry;
    let mut json = Map::new();
    let mut put = |key: &str, value: &str| json.insert(key.to_owned(), Value::from(value));
    put("manager", &owner.manager);
    put("operation", owner.operation.name());
    put("apiVersion", &owner.api_version);
    put("fieldsType", "FieldsV1");
    if !time.is_empty() {
        put("time", time);
    }
    if !owner.subresource.is_empty() {
        put("subresource", &owner.subresource);
    }
    // Not by `json!`, which copies a tree that it is given.
    json.insert("fieldsV1".to_owned(), fields);
    Value::Object(json)
}
