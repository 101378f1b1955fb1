//! The entries of `metadata.managedFields`: who owns what, since when, through which version and
//! subresource.

use std::{cmp::Reverse, collections::HashMap};

use serde_json::{Map, Value, json};

use super::field_set::FieldSet;

/// How many entries of updates there may be; the oldest are folded into one.
const MOST_UPDATERS: usize = 10;

/// Who owns what was folded.
const ANCIENT: &str = "ancient-changes";

/// How a manager came to own its fields.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Operation {
    /// It applied a configuration.
    Apply,
    /// It wrote in any other way.
    Update,
}

impl Operation {
    fn text(self) -> &'static str {
        match self {
            Self::Apply => "Apply",
            Self::Update => "Update",
        }
    }
}

/// What one manager owns.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    pub manager: String,
    pub operation: Operation,
    pub api_version: String,
    /// Empty for the object itself.
    pub subresource: String,
    /// RFC 3339, seconds.
    pub time: Option<String>,
    pub fields: FieldSet,
}

/// Who writes now.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Writer {
    pub manager: String,
    pub api_version: String,
    /// Empty for the object itself.
    pub subresource: String,
    /// RFC 3339, seconds.
    pub now: String,
}

impl Writer {
    pub(super) fn entry(&self, operation: Operation) -> Entry {
        Entry {
            manager: self.manager.clone(),
            operation,
            api_version: self.api_version.clone(),
            subresource: self.subresource.clone(),
            time: Some(self.now.clone()),
            fields: FieldSet::default(),
        }
    }
}

/// What a write says about `managedFields`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Said {
    /// Nothing, or nothing that can be read: the live object's hold.
    Nothing,
    /// `[{}]`: nobody owns anything.
    Reset,
    /// These are to hold.
    These(Managers),
}

/// Everything that is said about an object's managers.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Managers(pub Vec<Entry>);

impl Managers {
    /// What an object was stored with.
    pub fn stored(managed_fields: Option<Value>) -> Self {
        let Some(Value::Array(entries)) = managed_fields else {
            return Self::default();
        };
        let entries = entries.into_iter().filter_map(|mut entry| {
            let fields = FieldSet::stored(entry["fieldsV1"].take());
            Some(Entry {
                operation: operation(&entry)?,
                fields,
                ..named(&entry)
            })
        });
        Self(entries.collect())
    }

    /// What a write says. Field errors are not its business.
    pub fn said(managed_fields: Option<&Value>) -> Said {
        let Some(Value::Array(entries)) = managed_fields else {
            return Said::Nothing;
        };
        if let [only] = entries.as_slice()
            && *only == json!({})
        {
            return Said::Reset;
        }
        let read: Option<Vec<Entry>> = entries
            .iter()
            .map(|entry| {
                let fields = FieldSet::parse(&entry["fieldsV1"]).ok()?;
                let known = entry["fieldsType"] == "FieldsV1";
                known.then_some(Entry {
                    operation: operation(entry)?,
                    fields,
                    ..named(entry)
                })
            })
            .collect();
        match read {
            Some(entries) if !entries.is_empty() => Said::These(Self::gather(entries)),
            _ => Said::Nothing,
        }
    }

    /// As `metadata.managedFields` has it; None if nobody owns anything.
    pub fn into_json(mut self) -> Option<Value> {
        self.0.retain(|entry| !entry.fields.is_empty());
        self.0.sort_by(|a, b| Self::order(a).cmp(&Self::order(b)));
        let entries: Vec<Value> = self.0.into_iter().map(written).collect();
        (!entries.is_empty()).then_some(Value::Array(entries))
    }

    fn order(entry: &Entry) -> (Operation, &str, &str, &str, &str) {
        (
            entry.operation,
            // Times of one form sort as texts; none is the oldest.
            entry.time.as_deref().unwrap_or_default(),
            &entry.manager,
            &entry.api_version,
            &entry.subresource,
        )
    }

    /// The entry of a writer, if it has one. Who applies has one entry whatever the version.
    pub(super) fn find(&self, writer: &Writer, operation: Operation) -> Option<usize> {
        let entry = writer.entry(operation);
        self.0.iter().position(|known| known.is_of(&entry))
    }

    /// Adds fields to a manager's entry, which is made if there is none.
    pub(super) fn add(&mut self, entry: Entry) {
        match self.0.iter_mut().find(|known| known.is_of(&entry)) {
            Some(known) => known.join(entry),
            None => self.0.push(entry),
        }
    }

    /// Folds the oldest updates, where there are too many, into one entry for each version.
    pub(super) fn cap(&mut self) {
        let count = |managers: &Self| {
            let updates = managers.0.iter();
            updates
                .filter(|entry| entry.operation == Operation::Update)
                .count()
        };
        if count(self) <= MOST_UPDATERS {
            return;
        }
        // Newest first, so that the oldest are taken from the end.
        let (mut updates, mut kept): (Vec<Entry>, Vec<Entry>) = std::mem::take(&mut self.0)
            .into_iter()
            .partition(|entry| entry.operation == Operation::Update);
        updates.sort_by(|a, b| Reverse(Self::order(a)).cmp(&Reverse(Self::order(b))));
        let mut ancient: Vec<Entry> = Vec::new();
        while updates.len() + ancient.len() > MOST_UPDATERS {
            let Some(oldest) = updates.pop() else { break };
            let version = |known: &&mut Entry| known.api_version == oldest.api_version;
            match ancient.iter_mut().find(version) {
                Some(bucket) => {
                    ANCIENT.clone_into(&mut bucket.manager);
                    bucket.subresource.clear();
                    bucket.fields = bucket.fields.union(&oldest.fields);
                    bucket.time = oldest.time;
                }
                // The first of its version keeps its name until another one joins it.
                None => ancient.push(oldest),
            }
        }
        kept.append(&mut ancient);
        kept.append(&mut updates);
        *self = Self::gather(kept);
    }

    /// These entries, those of one manager joined.
    fn gather(entries: Vec<Entry>) -> Self {
        let mut places = HashMap::new();
        let mut managers: Vec<Entry> = Vec::new();
        for entry in entries {
            let version = match entry.operation {
                Operation::Apply => None,
                Operation::Update => Some(entry.api_version.clone()),
            };
            let identity = (entry.manager.clone(), entry.subresource.clone(), version);
            let place = *places.entry(identity).or_insert(managers.len());
            match managers.get_mut(place) {
                Some(known) => known.join(entry),
                None => managers.push(entry),
            }
        }
        Self(managers)
    }
}

impl Entry {
    /// Takes over what another entry of the same manager says.
    fn join(&mut self, other: Self) {
        if !self.fields.contains(&other.fields) {
            self.fields = self.fields.union(&other.fields);
        }
        self.time = other.time;
        self.api_version = other.api_version;
    }

    fn is_of(&self, other: &Self) -> bool {
        self.manager == other.manager
            && self.operation == other.operation
            && self.subresource == other.subresource
            && (self.operation == Operation::Apply || self.api_version == other.api_version)
    }
}

fn operation(entry: &Value) -> Option<Operation> {
    match entry["operation"].as_str() {
        Some("Apply") => Some(Operation::Apply),
        Some("Update") => Some(Operation::Update),
        _ => None,
    }
}

/// An entry without its operation and fields.
fn named(entry: &Value) -> Entry {
    let text = |field: &str| entry[field].as_str().unwrap_or_default().to_owned();
    Entry {
        manager: text("manager"),
        operation: Operation::Update,
        api_version: text("apiVersion"),
        subresource: text("subresource"),
        time: entry["time"].as_str().map(str::to_owned),
        fields: FieldSet::default(),
    }
}

fn written(entry: Entry) -> Value {
    let mut fields = Map::new();
    let texts = [
        ("manager", Some(entry.manager)),
        ("operation", Some(entry.operation.text().to_owned())),
        ("apiVersion", Some(entry.api_version)),
        ("time", entry.time),
        ("subresource", Some(entry.subresource)),
    ];
    for (name, text) in texts {
        if let Some(text) = text.filter(|text| !text.is_empty()) {
            fields.insert(name.to_owned(), text.into());
        }
    }
    fields.insert("fieldsType".to_owned(), "FieldsV1".into());
    fields.insert("fieldsV1".to_owned(), entry.fields.into_json());
    Value::Object(fields)
}
