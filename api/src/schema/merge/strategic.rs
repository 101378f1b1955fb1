//! Strategic merge patch: a merge patch that knows which lists are sets of named items.
//!
//! Semantics are those of Kubernetes: `$patch: replace|delete` on objects and list items,
//! `$deleteFromPrimitiveList/<field>`, `$setElementOrder/<field>`, `$retainKeys`. Lists merge
//! where the field's patch strategy says so, by its merge key; all other lists are replaced.
//! Fields that the schema doesn't know are merged as a merge patch would.

use std::collections::HashSet;

use serde_json::{Map, Value};

use super::MergeError;
use super::order::{Identity, arrange};
use crate::schema::{PatchStrategy, Schema};

const DIRECTIVE: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const DELETE_FROM_LIST: &str = "$deleteFromPrimitiveList";
const SET_ORDER: &str = "$setElementOrder";

/// Applies a strategic merge patch. Document and patch must be objects.
pub fn strategic(schema: &Schema, document: Value, patch: Value) -> Result<Value, MergeError> {
    match (document, patch) {
        (Value::Object(document), Value::Object(patch)) => {
            merge_object(Some(schema), document, patch).map(Value::Object)
        }
        _ => Err(MergeError::Invalid(
            "a strategic merge patch must be an object".to_owned(),
        )),
    }
}

fn merge_object(
    schema: Option<&Schema>,
    mut live: Map<String, Value>,
    mut patch: Map<String, Value>,
) -> Result<Map<String, Value>, MergeError> {
    match patch.remove(DIRECTIVE) {
        None => {}
        Some(directive) => match directive.as_str() {
            Some("replace") => return Ok(patch),
            Some("delete") => return Ok(Map::new()),
            _ => return Err(unknown_directive(&directive)),
        },
    }
    retain_keys(&mut live, &mut patch)?;
    merge_ordered_lists(schema, &mut live, &mut patch)?;

    for (name, value) in patch {
        if name.starts_with(DELETE_FROM_LIST) {
            let name = target(&name, DELETE_FROM_LIST)?;
            if value.is_null() {
                live.remove(name);
            } else {
                delete_from_list(&mut live, name, value)?;
            }
            continue;
        }
        let merged = match (live.remove(&name), value) {
            (_, Value::Null) => continue,
            (Some(Value::Object(live)), Value::Object(patch)) => {
                let field = field(schema, &name);
                Value::Object(if has(field.as_ref(), PatchStrategy::Replace) {
                    patch
                } else {
                    merge_object(field.as_ref(), live, patch)?
                })
            }
            (Some(Value::Array(live)), Value::Array(patch)) => {
                Value::Array(merge_list(field(schema, &name).as_ref(), live, patch)?)
            }
            (_, value) => match added(value) {
                Some(value) => value,
                None => continue,
            },
        };
        live.insert(name, merged);
    }
    Ok(live)
}

/// The schema of a field; the values of a map all have one.
fn field(schema: Option<&Schema>, name: &str) -> Option<Schema> {
    let schema = schema?;
    schema.property(name).or_else(|| schema.values())
}

fn has(schema: Option<&Schema>, strategy: PatchStrategy) -> bool {
    schema.is_some_and(|schema| schema.patch_strategies().contains(&strategy))
}

/// Removes from the live object what the patch does not list as kept.
fn retain_keys(
    live: &mut Map<String, Value>,
    patch: &mut Map<String, Value>,
) -> Result<(), MergeError> {
    let Some(directive) = patch.remove(RETAIN_KEYS) else {
        return Ok(());
    };
    let malformed = || MergeError::Invalid(format!("invalid patch format of {RETAIN_KEYS}"));
    let kept: HashSet<&str> = directive
        .as_array()
        .ok_or_else(malformed)?
        .iter()
        .filter_map(Value::as_str)
        .collect();
    let stray = patch.iter().any(|(name, value)| {
        !value.is_null()
            && !name.starts_with(DELETE_FROM_LIST)
            && !name.starts_with(SET_ORDER)
            && !kept.contains(name.as_str())
    });
    if stray {
        return Err(malformed());
    }
    live.retain(|name, _| kept.contains(name.as_str()));
    Ok(())
}

/// Merges the lists whose order the patch gives, and takes them out of the patch.
fn merge_ordered_lists(
    schema: Option<&Schema>,
    live: &mut Map<String, Value>,
    patch: &mut Map<String, Value>,
) -> Result<(), MergeError> {
    let directives: Vec<String> = patch
        .keys()
        .filter(|name| name.starts_with(SET_ORDER))
        .cloned()
        .collect();
    for directive in directives {
        let name = target(&directive, SET_ORDER)?;
        let order = patch
            .remove(&directive)
            .map(|order| list(order, &directive));
        let order = order.transpose()?.unwrap_or_default();
        let before = live
            .remove(name)
            .map(|value| list(value, name))
            .transpose()?;
        let change = patch
            .remove(name)
            .map(|value| list(value, name))
            .transpose()?;

        let field = field(schema, name);
        let identity = match field.as_ref().and_then(Schema::patch_merge_key) {
            Some(key) => Identity::Key(key),
            None => Identity::Whole,
        };
        if let Some(change) = &change {
            agree(change, &order, identity)?;
        }
        let positions = before.clone().unwrap_or_default();
        let merged = match (before, change) {
            (None, None) => continue,
            (Some(before), None) => before,
            (None, Some(change)) => added_list(change),
            (Some(before), Some(change)) => merge_list(field.as_ref(), before, change)?,
        };
        let arranged = arrange(merged, &order, &positions, identity)?;
        live.insert(name.to_owned(), Value::Array(arranged));
    }
    Ok(())
}

/// Every item of the patch must be in the order, and in that order; deletions don't count.
fn agree(change: &[Value], order: &[Value], identity: Identity<'_>) -> Result<(), MergeError> {
    if order.is_empty() {
        return Ok(());
    }
    let mut rest = order.iter();
    for item in change.iter().filter(|item| item.get(DIRECTIVE).is_none()) {
        let wanted = identity.of(item)?;
        let mut found = false;
        for candidate in rest.by_ref() {
            if identity.of(candidate)? == wanted {
                found = true;
                break;
            }
        }
        if !found {
            return Err(MergeError::NotApplicable(format!(
                "the order in the patch list doesn't match the {SET_ORDER} list: {wanted} is out of place"
            )));
        }
    }
    Ok(())
}

fn merge_list(
    schema: Option<&Schema>,
    live: Vec<Value>,
    patch: Vec<Value>,
) -> Result<Vec<Value>, MergeError> {
    if !has(schema, PatchStrategy::Merge) {
        return Ok(patch);
    }
    if !objects(&live, &patch)? {
        let mut seen = HashSet::new();
        let both = live.iter().chain(&patch);
        let merged = both.filter(|item| seen.insert(*item)).cloned().collect();
        return arrange(merged, &patch, &live, Identity::Whole);
    }
    let key = schema.and_then(Schema::patch_merge_key).ok_or_else(|| {
        MergeError::NotApplicable("cannot merge lists without merge key".to_owned())
    })?;
    let items = schema.and_then(Schema::items);
    merge_items(items.as_ref(), key, live, patch)
}

/// Merges items by their merge key: deletions first, then the rest in turn.
fn merge_items(
    schema: Option<&Schema>,
    key: &str,
    mut live: Vec<Value>,
    patch: Vec<Value>,
) -> Result<Vec<Value>, MergeError> {
    let identity = Identity::Key(key);
    let mut replace = false;
    let mut deleted = HashSet::new();
    let mut changes = Vec::new();
    for item in patch {
        match item
            .get(DIRECTIVE)
            .map(|directive| (directive, directive.as_str()))
        {
            None => changes.push(item),
            Some((_, Some("delete"))) => {
                deleted.insert(identity.of(&item)?.clone());
            }
            Some((_, Some("replace"))) => replace = true,
            Some((_, Some("merge"))) => {
                let message = "merging lists cannot yet be specified in the patch";
                return Err(MergeError::Invalid(message.to_owned()));
            }
            Some((directive, _)) => return Err(unknown_directive(directive)),
        }
    }
    if replace {
        return Ok(changes);
    }
    live.retain(|item| item.get(key).is_none_or(|id| !deleted.contains(id)));

    let mut merged: Vec<Value> = live.clone();
    let mut positions = std::collections::HashMap::new();
    for (index, item) in merged.iter().enumerate() {
        positions.entry(identity.of(item)?.clone()).or_insert(index);
    }
    for change in &changes {
        let id = identity.of(change)?;
        let Some(index) = positions.get(id) else {
            positions.insert(id.clone(), merged.len());
            merged.extend(added(change.clone()));
            continue;
        };
        if let (Value::Object(before), Value::Object(change)) = (merged[*index].take(), change) {
            merged[*index] = Value::Object(merge_object(schema, before, change.clone())?);
        }
    }
    arrange(merged, &changes, &live, identity)
}

fn delete_from_list(
    live: &mut Map<String, Value>,
    name: &str,
    patch: Value,
) -> Result<(), MergeError> {
    let removed = list(patch, DELETE_FROM_LIST)?;
    if let Some(Value::Array(live)) = live.get_mut(name) {
        if !removed.is_empty() && objects(live, &removed)? {
            return Err(MergeError::Invalid(format!(
                "invalid patch format of {DELETE_FROM_LIST}: {name} is not a list of primitives"
            )));
        }
        let removed: HashSet<Value> = removed.into_iter().collect();
        live.retain(|item| !removed.contains(item));
    }
    Ok(())
}

/// True if the items are objects, false if they are scalars (or there are none).
fn objects(live: &[Value], patch: &[Value]) -> Result<bool, MergeError> {
    let mut kinds = live.iter().chain(patch).map(std::mem::discriminant);
    let Some(first) = kinds.next() else {
        return Ok(false);
    };
    if kinds.any(|kind| kind != first) {
        return Err(MergeError::NotApplicable(
            "list element types are not identical".to_owned(),
        ));
    }
    match live.iter().chain(patch).next() {
        Some(Value::Object(_)) => Ok(true),
        Some(Value::Array(_)) => Err(MergeError::NotApplicable(
            "lists of lists are not supported".to_owned(),
        )),
        _ => Ok(false),
    }
}

/// A value of the patch that has nothing to merge with: without nulls and directives. None if it
/// is a directive itself: there is nothing that it could replace or delete.
fn added(value: Value) -> Option<Value> {
    match value {
        Value::Object(fields) if fields.contains_key(DIRECTIVE) => None,
        Value::Object(fields) => Some(
            fields
                .into_iter()
                .filter(|(name, value)| !value.is_null() && !is_directive(name))
                .filter_map(|(name, value)| Some((name, added(value)?)))
                .collect(),
        ),
        Value::Array(list) => Some(Value::Array(added_list(list))),
        value => Some(value),
    }
}

fn added_list(list: Vec<Value>) -> Vec<Value> {
    list.into_iter().filter_map(added).collect()
}

fn is_directive(name: &str) -> bool {
    name == RETAIN_KEYS || name.starts_with(DELETE_FROM_LIST) || name.starts_with(SET_ORDER)
}

/// The field that a directive is about: what follows the slash.
fn target<'a>(name: &'a str, directive: &str) -> Result<&'a str, MergeError> {
    name.strip_prefix(directive)
        .and_then(|rest| rest.strip_prefix('/'))
        .filter(|field| !field.is_empty())
        .ok_or_else(|| MergeError::Invalid(format!("invalid patch format of {directive}: {name}")))
}

fn list(value: Value, name: &str) -> Result<Vec<Value>, MergeError> {
    match value {
        Value::Array(list) => Ok(list),
        _ => Err(MergeError::Invalid(format!("expected a list at {name}"))),
    }
}

fn unknown_directive(directive: &Value) -> MergeError {
    MergeError::Invalid(format!("unknown patch type found: {directive} in map"))
}
