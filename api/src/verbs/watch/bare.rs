//! Objects as the components of this process want them: without `metadata.managedFields`, which none of them reads, which
//! are a good part of an object's bytes and most of the pieces that it is read into.
//!
//! Whoever sends the header [`BARE`] gets them so, in watches.

use std::ops::Range;

use http::{HeaderMap, HeaderName};
use serde::Deserialize;
use serde_json::value::RawValue;

pub(crate) const BARE: HeaderName = HeaderName::from_static("wk-without-managed-fields");

const KEY: &[u8] = b"\"managedFields\":";

/// Whether a client wants objects so.
pub(super) fn is_wanted(headers: &HeaderMap) -> bool {
    headers.contains_key(BARE)
}

/// The object without `managedFields`; `None` if it has none.
pub(super) fn bare(object: &[u8]) -> Option<Vec<u8>> {
    let Range { start, end } = managed_fields(object)?;
    Some([&object[..start], &object[end..]].concat())
}

/// Where they are, with their key and a comma.
fn managed_fields(object: &[u8]) -> Option<Range<usize>> {
    #[derive(Deserialize)]
    struct Object<'a> {
        #[serde(borrow)]
        metadata: &'a RawValue,
    }
    #[derive(Deserialize)]
    struct Metadata<'a> {
        #[serde(borrow, rename = "managedFields")]
        managed_fields: Option<&'a RawValue>,
    }
    let metadata = serde_json::from_slice::<Object<'_>>(object).ok()?.metadata;
    let metadata: Metadata<'_> = serde_json::from_str(metadata.get()).ok()?;
    let fields = metadata.managed_fields?.get();
    let from = fields.as_ptr().addr().checked_sub(object.as_ptr().addr())?;
    let (start, end) = (from.checked_sub(KEY.len())?, from + fields.len());
    if object.get(start..from)? != KEY {
        return None;
    }
    match (object.get(start.checked_sub(1)?)?, object.get(end)?) {
        (_, b',') => Some(start..end + 1),
        (b',', _) => Some(start - 1..end),
        _ => Some(start..end),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(object: &str, expected: Option<&str>) {
        let found = bare(object.as_bytes());
        let found = found.map(|found| String::from_utf8(found).expect("text"));
        assert_eq!(found.as_deref(), expected);
    }

    #[test]
    fn only_the_objects_own_managed_fields_are_left_out() {
        let of = |metadata: &str| {
            format!(r#"{{"kind":"Pod","metadata":{metadata},"spec":{{"managedFields":[]}}}}"#)
        };
        for (with, without) in [
            (
                r#"{"managedFields":[{"a":"]},"}],"name":"n"}"#,
                r#"{"name":"n"}"#,
            ),
            (r#"{"name":"n","managedFields":[{}]}"#, r#"{"name":"n"}"#),
            (r#"{"a":1,"managedFields":[],"b":2}"#, r#"{"a":1,"b":2}"#),
            (r#"{"managedFields":[]}"#, "{}"),
        ] {
            check(&of(with), Some(&of(without)));
        }
        check(&of(r#"{"annotations":{"managedFields":"[]"}}"#), None);
        check(&of(r#"{"name":"\"managedFields\":[]"}"#), None);
        check(r#"{"kind":"Pod"}"#, None);
        check("{", None);
    }
}
