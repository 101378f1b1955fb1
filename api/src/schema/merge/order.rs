//! The order of a merged list.
//!
//! Items that the patch names come in the patch's order; the others keep the order of the live
//! list; the two are interleaved as the live list had them, as far as both orders allow.

use std::collections::HashMap;

use serde_json::Value;

use super::MergeError;

/// What tells the items of a list apart: themselves, or the value of a merge key.
#[derive(Clone, Copy)]
pub(super) enum Identity<'a> {
    Whole,
    Key(&'a str),
}

impl<'a> Identity<'a> {
    pub(super) fn of(self, item: &'a Value) -> Result<&'a Value, MergeError> {
        match self {
            Self::Whole => Ok(item),
            Self::Key(key) => item.get(key).ok_or_else(|| {
                MergeError::NotApplicable(format!(
                    "map: {item} does not contain declared merge key: {key}"
                ))
            }),
        }
    }

    /// Where each identity first stands in a list.
    pub(super) fn positions(
        self,
        list: &'a [Value],
    ) -> Result<HashMap<&'a Value, usize>, MergeError> {
        let mut positions = HashMap::with_capacity(list.len());
        for (index, item) in list.iter().enumerate() {
            positions.entry(self.of(item)?).or_insert(index);
        }
        Ok(positions)
    }
}

/// Orders a merged list: by `wanted` where that names an item, by `live` elsewhere.
pub(super) fn arrange(
    merged: Vec<Value>,
    wanted: &[Value],
    live: &[Value],
    identity: Identity<'_>,
) -> Result<Vec<Value>, MergeError> {
    let wanted = identity.positions(wanted)?;
    let live = identity.positions(live)?;
    let mut named = Vec::new();
    let mut others = Vec::new();
    for item in &merged {
        let id = identity.of(item)?;
        let place = live.get(id).copied();
        match wanted.get(id) {
            Some(rank) => named.push((*rank, place, item)),
            None => others.push((place, item)),
        }
    }
    named.sort_by_key(|(rank, _, _)| *rank);
    others.sort_by_key(|(place, _)| *place);

    let mut arranged = Vec::with_capacity(merged.len());
    let mut named = named.into_iter().peekable();
    for (place, other) in others {
        // A named item goes first unless both stood in the live list, this one in front of it.
        while let Some((_, _, item)) =
            named.next_if(|(_, named, _)| place.is_none() || named.is_none() || place > *named)
        {
            arranged.push(item.clone());
        }
        arranged.push(other.clone());
    }
    arranged.extend(named.map(|(_, _, item)| item.clone()));
    Ok(arranged)
}
