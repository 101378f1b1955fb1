//! JSON patch (RFC 6902), bounded in operations, in what it copies and moves, and in depth.

use json_patch::{Patch, PatchErrorKind, PatchOperation, jsonptr::Pointer};
use serde_json::Value;

use super::MergeError;
use crate::encoding::{MAX_DEPTH, depth};

/// As in Kubernetes.
const MOST_OPERATIONS: usize = 10_000;

/// How many bytes all `copy` operations together may copy.
const MOST_COPIED_BYTES: usize = 3 * 1024 * 1024;

/// How many values all operations together may move: the items behind one that is put into or taken out
/// of a list, and the parts of what `move` moves.
const MOST_MOVED: usize = 10_000_000;

/// What the operations so far have cost.
#[derive(Default)]
struct Spent {
    copied_bytes: usize,
    moved: usize,
}

/// Applies a JSON patch: all of it or an error.
pub fn json_patch(mut document: Value, patch: &Value) -> Result<Value, MergeError> {
    let operations = parse(patch)?;
    let mut spent = Spent::default();
    for (index, operation) in operations.iter().enumerate() {
        bound(&document, operation, &mut spent)?;
        if holds_for_absent(&document, operation) {
            continue;
        }
        json_patch::patch_unsafe(&mut document, std::slice::from_ref(operation))
            .map_err(|error| refused(index, operation, &error.kind))?;
    }
    Ok(document)
}

fn parse(patch: &Value) -> Result<Patch, MergeError> {
    let operations = patch.as_array().ok_or_else(|| {
        MergeError::Invalid("a JSON patch must be an array of operations".to_owned())
    })?;
    if operations.len() > MOST_OPERATIONS {
        return Err(MergeError::Invalid(format!(
            "the allowed maximum operations in a JSON patch is {MOST_OPERATIONS}, got {}",
            operations.len()
        )));
    }
    operations
        .iter()
        .enumerate()
        .map(|(index, operation)| {
            serde::Deserialize::deserialize(operation).map_err(|error| {
                MergeError::Invalid(format!("operation {index} of the JSON patch: {error}"))
            })
        })
        .collect::<Result<Vec<PatchOperation>, _>>()
        .map(Patch)
}

/// Refuses an operation that would copy or move too much, or nest too deep.
fn bound(
    document: &Value,
    operation: &PatchOperation,
    spent: &mut Spent,
) -> Result<(), MergeError> {
    let items = |at: &Pointer| {
        let list = at.parent().and_then(|list| document.pointer(list.as_str()));
        list.and_then(Value::as_array).map_or(0, Vec::len)
    };
    spent.moved += match operation {
        PatchOperation::Add(_) | PatchOperation::Remove(_) | PatchOperation::Copy(_) => {
            items(operation.path())
        }
        PatchOperation::Move(from) => {
            let moved = document.pointer(from.from.as_str()).map_or(0, parts);
            moved + items(&from.from) + items(&from.path)
        }
        PatchOperation::Replace(_) | PatchOperation::Test(_) => 0,
    };
    if spent.moved > MOST_MOVED {
        return Err(MergeError::NotApplicable(format!(
            "the JSON patch moves more than {MOST_MOVED} values"
        )));
    }
    let inserted = match operation {
        PatchOperation::Add(add) => Some(&add.value),
        PatchOperation::Replace(replace) => Some(&replace.value),
        PatchOperation::Move(from) => document.pointer(from.from.as_str()),
        PatchOperation::Copy(from) => document.pointer(from.from.as_str()),
        PatchOperation::Remove(_) | PatchOperation::Test(_) => None,
    };
    let Some(inserted) = inserted else {
        return Ok(());
    };
    if operation.path().count() + depth(inserted) > MAX_DEPTH {
        return Err(MergeError::NotApplicable(format!(
            "the patched object would be nested deeper than {MAX_DEPTH} levels at {}",
            operation.path()
        )));
    }
    if matches!(operation, PatchOperation::Copy(_)) {
        spent.copied_bytes += inserted.to_string().len();
        if spent.copied_bytes > MOST_COPIED_BYTES {
            return Err(MergeError::NotApplicable(format!(
                "the JSON patch copies more than {MOST_COPIED_BYTES} bytes"
            )));
        }
    }
    Ok(())
}

/// How many values there are in a value, itself among them.
fn parts(value: &Value) -> usize {
    match value {
        Value::Array(list) => 1 + list.iter().map(parts).sum::<usize>(),
        Value::Object(fields) => 1 + fields.values().map(parts).sum::<usize>(),
        _ => 1,
    }
}

/// Kubernetes lets `test` with a null value hold for a member that isn't there.
fn holds_for_absent(document: &Value, operation: &PatchOperation) -> bool {
    let PatchOperation::Test(test) = operation else {
        return false;
    };
    test.value.is_null()
        && document.pointer(test.path.as_str()).is_none()
        && test
            .path
            .split_back()
            .and_then(|(parent, _)| document.pointer(parent.as_str()))
            .is_some_and(Value::is_object)
}

fn refused(index: usize, operation: &PatchOperation, kind: &PatchErrorKind) -> MergeError {
    let path = operation.path();
    if let PatchErrorKind::TestFailed = kind {
        return MergeError::TestFailed(format!("testing value {path} failed (operation {index})"));
    }
    let name = match operation {
        PatchOperation::Add(_) => "add",
        PatchOperation::Remove(_) => "remove",
        PatchOperation::Replace(_) => "replace",
        PatchOperation::Move(_) => "move",
        PatchOperation::Copy(_) => "copy",
        PatchOperation::Test(_) => "test",
    };
    MergeError::NotApplicable(format!(
        "{name} operation does not apply: {path}: {kind} (operation {index})"
    ))
}
