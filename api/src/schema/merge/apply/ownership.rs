//! What a write means for who owns what: an apply, and every other write.

use std::sync::LazyLock;

use serde_json::{Map, Value};

use super::{
    compare::{Difference, compare},
    conflict::{Conflict, Conflicts},
    field_set::FieldSet,
    last_applied,
    managers::{Managers, Operation, Writer},
    overlay::overlay,
    remove::remove,
    set_of::set_of,
};
use crate::schema::Schema;

/// Who owns the fields of an object that nobody's ownership was known of before it was applied.
const BEFORE_FIRST_APPLY: &str = "before-first-apply";

/// Nobody owns what says which object it is, and what the server alone writes.
static NOBODYS: LazyLock<FieldSet> = LazyLock::new(|| {
    let paths: [&[&str]; 12] = [
        &["apiVersion"],
        &["kind"],
        &["metadata"],
        &["metadata", "name"],
        &["metadata", "namespace"],
        &["metadata", "creationTimestamp"],
        &["metadata", "selfLink"],
        &["metadata", "uid"],
        &["metadata", "clusterName"],
        &["metadata", "generation"],
        &["metadata", "managedFields"],
        &["metadata", "resourceVersion"],
    ];
    let sets = paths.into_iter().map(FieldSet::path);
    sets.fold(FieldSet::default(), |all, path| all.union(&path))
});

/// Which fields a write can reach: the rest of what it says has no effect, and is not owned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reach {
    Everything,
    /// All but a field of the object: its status.
    AllBut(&'static str),
    /// Only what is at and below these paths.
    Only(&'static [&'static [&'static str]]),
}

impl Reach {
    fn limit(self, set: FieldSet) -> FieldSet {
        match self {
            Self::Everything => set,
            Self::AllBut(field) => set.without(field),
            Self::Only(paths) => set.within(paths),
        }
        .difference(&NOBODYS)
    }

    fn limit_both(self, difference: Difference) -> Difference {
        Difference {
            changed: self.limit(difference.changed),
            removed: self.limit(difference.removed),
        }
    }
}

/// Who owns what after a write that is no apply. `old` is None for a new object. An object that
/// nobody owns anything of stays so: its managers were taken from it on purpose.
pub fn update(
    schema: &Schema,
    old: Option<&Value>,
    new: &Value,
    mut managers: Managers,
    writer: &Writer,
    reach: Reach,
) -> Managers {
    if old.is_some() && managers.0.is_empty() {
        return managers;
    }
    let bare = old.is_none().then(|| bare(schema));
    let old = old.or(bare.as_ref()).unwrap_or(&Value::Null);
    let difference = reach.limit_both(compare(schema, old, new));
    take(&mut managers, &difference);
    if !difference.changed.is_empty() {
        let mut entry = writer.entry(Operation::Update);
        entry.fields = difference.changed;
        managers.add(entry);
    }
    managers.0.retain(|entry| !entry.fields.is_empty());
    managers.cap();
    managers
}

/// Takes from everybody what a write changed or removed.
fn take(managers: &mut Managers, difference: &Difference) {
    for lost in [&difference.changed, &difference.removed] {
        for entry in &mut managers.0 {
            if entry.fields.intersects(lost) {
                entry.fields = entry.fields.difference(lost);
            }
        }
    }
}

/// What there is of an object before anything is said about it: the structures that every object of
/// a built-in kind has, which are therefore nobody's.
fn bare(schema: &Schema) -> Value {
    let structures = schema.references().into_iter();
    let empty = structures.map(|name| (name.to_owned(), Value::Object(Map::new())));
    Value::Object(empty.collect())
}

/// What an apply made.
#[derive(Clone, PartialEq, Debug)]
pub struct Applied {
    /// The object without its `managedFields`.
    pub object: Value,
    pub managers: Managers,
}

/// Why a configuration was not applied.
#[derive(Clone, PartialEq, Debug)]
pub enum ApplyError {
    /// What is wrong with the configuration's lists.
    Invalid(Vec<String>),
    /// What would be taken from others without force.
    Conflicts(Conflicts),
}

/// Applies a configuration. `live` is the object without its `managedFields`; None: there is none yet.
pub fn apply(
    schema: &Schema,
    live: Option<&Value>,
    config: &Value,
    mut managers: Managers,
    writer: &Writer,
    reach: Reach,
    force: bool,
) -> Result<Applied, ApplyError> {
    let said = set_of(schema, config).map_err(ApplyError::Invalid)?;
    if let (Some(live), true) = (live, managers.0.is_empty()) {
        let before = Writer {
            manager: BEFORE_FIRST_APPLY.to_owned(),
            ..writer.clone()
        };
        managers = update(schema, None, live, managers, &before, reach);
    }
    let previous = managers
        .find(writer, Operation::Apply)
        .map(|index| managers.0.remove(index));
    let empty = Value::Object(Map::new());
    let live = live.unwrap_or(&empty);
    let mut object = overlay(schema, live.clone(), config);
    if let Some(previous) = &previous {
        let others = managers.0.iter().map(|entry| &entry.fields);
        let wanted = others.fold(said.union(&NOBODYS), |all, set| all.union(set));
        let dropped = previous.fields.with_structures(schema);
        let doomed = dropped.difference(&wanted.with_structures(schema));
        object = remove(schema, object, &doomed);
    }
    let difference = reach.limit_both(compare(schema, live, &object));
    if !force && let Some(conflicts) = conflicts(&managers, &difference) {
        let own = (writer.manager == last_applied::KUBECTL)
            .then(|| last_applied::owned(schema, live, &writer.api_version))
            .flatten();
        let left = match own {
            Some(own) => conflicts.without(&own),
            None => Some(conflicts),
        };
        if let Some(conflicts) = left {
            return Err(ApplyError::Conflicts(conflicts));
        }
    }
    take(&mut managers, &difference);
    let mut entry = writer.entry(Operation::Apply);
    entry.fields = reach.limit(said);
    if let Some(previous) = previous
        && difference.is_empty()
        && previous.fields == entry.fields
    {
        entry.time = previous.time;
    }
    managers.0.push(entry);
    managers.0.retain(|entry| !entry.fields.is_empty());
    if writer.manager == last_applied::KUBECTL {
        last_applied::keep_in_step(&mut object, config);
    }
    Ok(Applied { object, managers })
}

/// What of others a change would take.
fn conflicts(managers: &Managers, difference: &Difference) -> Option<Conflicts> {
    let mut found: Vec<Conflict> = managers
        .0
        .iter()
        .filter(|entry| entry.fields.intersects(&difference.changed))
        .map(|entry| Conflict::new(entry, entry.fields.intersection(&difference.changed)))
        .collect();
    found.sort_by(|a, b| a.manager.cmp(&b.manager));
    (!found.is_empty()).then_some(Conflicts(found))
}
