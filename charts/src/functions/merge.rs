//! Merging of maps, as the library behind Sprig's `merge` and `mergeOverwrite` does it.
//!
//! Maps that both have are merged in place; everything else is taken over as it is, shared with its source.

use super::defaults::is_empty;
use crate::{Failure, Map, Value};

/// What becomes of what is there already.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Existing {
    /// It stays, unless it is empty.
    Wins,
    /// It goes, unless both are maps.
    Loses,
}

pub(super) fn merge(
    into: &Map,
    from: &Map,
    existing: Existing,
    depth: usize,
) -> Result<(), Failure> {
    let overwrite = existing == Existing::Loses;
    if into.same(from) {
        return Ok(());
    }
    let Some(depth) = depth.checked_sub(1) else {
        return Err(Failure::new("merge: the maps are nested too deeply"));
    };
    for (key, theirs) in from.entries() {
        let ours = into.peek(&key);
        if matches!(theirs, Value::Nil) {
            if overwrite {
                insert(into, key, theirs)?;
            }
            continue;
        }
        if let (Some(Value::Map(ours)), Value::Map(theirs)) = (&ours, &theirs) {
            merge(ours, theirs, existing, depth)?;
            if !ours.is_empty() {
                continue;
            }
        }
        if overwrite || ours.as_ref().is_none_or(is_empty) {
            insert(into, key, theirs)?;
        }
    }
    Ok(())
}

fn insert(into: &Map, key: bytes::Bytes, value: Value) -> Result<(), Failure> {
    if into.type_name() == "map[string]string" && !matches!(value, Value::String(_)) {
        return Err(Failure::new(
            "reflect.Value.SetMapIndex: value of type interface {} is not assignable to type string",
        ));
    }
    into.insert(key, value);
    Ok(())
}
