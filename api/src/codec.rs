//! Between what is stored and what clients get: fills in `resourceVersion`, finds what selectors need.
//!
//! What is stored is the object as JSON without `metadata.resourceVersion`: the revision is known only
//! once it is committed, and the history has it anyway. Pure.

use std::{borrow::Cow, collections::BTreeMap, collections::HashMap, fmt, sync::Arc};

use bytes::{Bytes, BytesMut};
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, IgnoredAny, MapAccess, Visitor},
};
use serde_json::{Map, Value};
use store::{Decode, Decoded, Key, ResourceKey, Revision};

use crate::{
    kinds::{Kind, Registry},
    object,
};

/// The group of what the server keeps for itself and never serves.
pub(crate) const INTERNAL_GROUP: &str = "wk.internal";

/// Decodes every kind of a registry for the watch cache.
pub struct Codec {
    /// The kinds that each stored resource is served as.
    kinds: HashMap<ResourceKey, Vec<Arc<dyn Kind>>>,
}

/// Where a kind's objects are stored: one place for all its versions.
pub(crate) fn resource_key(kind: &dyn Kind) -> ResourceKey {
    let names = match kind.conversion() {
        None => kind.names(),
        Some(conversion) => conversion.stored,
    };
    ResourceKey::new(names.group, names.plural)
}

impl Codec {
    /// A codec for the kinds of a registry.
    pub fn new(registry: &Registry) -> Self {
        let mut kinds: HashMap<_, Vec<_>> = HashMap::new();
        for kind in registry.all() {
            let served = kinds.entry(resource_key(kind.as_ref())).or_default();
            served.push(kind.clone());
        }
        Self { kinds }
    }
}

impl Decode for Codec {
    fn decode(&self, key: &Key, revision: Revision, value: &Bytes) -> Result<Decoded, String> {
        let resource = key.resource_key();
        if &*resource.group == INTERNAL_GROUP {
            return Ok(Decoded {
                value: value.clone(),
                ..Decoded::default()
            });
        }
        let kinds = self.kinds.get(&resource).map_or(&[][..], Vec::as_slice);
        let (labels, fields) = if kinds.iter().any(|kind| !kind.field_names().is_empty()) {
            // Selectable fields may be computed from anywhere in the object: it is read whole.
            let object = without_owners(value)?;
            let fields = kinds.iter().flat_map(|kind| kind.fields(&object));
            (object::labels(&object), fields.collect())
        } else {
            (labels(value)?, BTreeMap::new())
        };
        Ok(Decoded {
            value: with_revision(value, revision)?,
            labels,
            fields,
        })
    }
}

fn parse<'a, T: Deserialize<'a>>(value: &'a [u8]) -> Result<T, String> {
    serde_json::from_slice(value).map_err(|error| error.to_string())
}

/// Reads an object but for its `metadata.managedFields`, which are large and select nothing.
fn without_owners(value: &[u8]) -> Result<Value, String> {
    struct Fields {
        metadata: bool,
    }
    impl<'de> Visitor<'de> for Fields {
        type Value = Map<String, Value>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut given: A) -> Result<Self::Value, A::Error> {
            let mut fields = Map::new();
            while let Some(name) = given.next_key::<String>()? {
                if self.metadata && name == "managedFields" {
                    given.next_value::<IgnoredAny>()?;
                } else if !self.metadata && name == "metadata" {
                    let metadata = given.next_value_seed(Fields { metadata: true })?;
                    fields.insert(name, Value::Object(metadata));
                } else {
                    let value = given.next_value()?;
                    fields.insert(name, value);
                }
            }
            Ok(fields)
        }
    }
    impl<'de> DeserializeSeed<'de> for Fields {
        type Value = Map<String, Value>;

        fn deserialize<D: Deserializer<'de>>(self, object: D) -> Result<Self::Value, D::Error> {
            object.deserialize_map(self)
        }
    }
    let mut json = serde_json::Deserializer::from_slice(value);
    let fields = Fields { metadata: false }.deserialize(&mut json);
    fields.map(Value::Object).map_err(|error| error.to_string())
}

/// Reads the labels and skips the rest without building it.
fn labels(value: &[u8]) -> Result<BTreeMap<String, String>, String> {
    #[derive(Deserialize)]
    struct Object {
        #[serde(default)]
        metadata: Metadata,
    }
    #[derive(Deserialize, Default)]
    struct Metadata {
        labels: Option<BTreeMap<String, String>>,
    }
    parse::<Object>(value).map(|object| object.metadata.labels.unwrap_or_default())
}

/// An object as it is stored.
pub(crate) fn stored(object: &mut Value) -> Bytes {
    object::unset(object, "resourceVersion");
    Bytes::from(object.to_string())
}

/// A stored object as clients get it.
pub(crate) fn with_revision(value: &Bytes, revision: Revision) -> Result<Bytes, String> {
    let start = metadata_start(value).ok_or("the stored object has no metadata")?;
    let empty = value[start..].trim_ascii_start().starts_with(b"}");
    let text = format!(
        r#""resourceVersion":"{revision}"{}"#,
        if empty { "" } else { "," }
    );
    let mut filled = BytesMut::with_capacity(value.len() + text.len());
    filled.extend_from_slice(&value[..start]);
    filled.extend_from_slice(text.as_bytes());
    filled.extend_from_slice(&value[start..]);
    Ok(filled.freeze())
}

/// Where the inside of the top-level `metadata` object starts. `value` is valid JSON.
fn metadata_start(value: &[u8]) -> Option<usize> {
    let mut depth = 0_usize;
    let mut at = 0;
    let mut key: Cow<'_, [u8]> = Cow::Borrowed(b"");
    while at < value.len() {
        match value[at] {
            b'"' => {
                let end = string_end(value, at)?;
                if depth == 1 {
                    key = Cow::Borrowed(&value[at + 1..end]);
                }
                at = end;
            }
            b'{' if depth == 1 && *key == *b"metadata" => return Some(at + 1),
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.checked_sub(1)?,
            _ => {}
        }
        at += 1;
    }
    None
}

/// The closing quote of the string that opens at `start`.
fn string_end(value: &[u8], start: usize) -> Option<usize> {
    let mut at = start + 1;
    loop {
        match value.get(at)? {
            b'"' => return Some(at),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(stored: &str, expected: &str) {
        let filled = with_revision(&Bytes::from(stored.to_owned()), Revision(7)).expect("filled");
        assert_eq!(std::str::from_utf8(&filled), Ok(expected));
    }

    #[test]
    fn the_revision_goes_into_the_top_level_metadata() {
        check(
            r#"{"metadata":{"name":"a"}}"#,
            r#"{"metadata":{"resourceVersion":"7","name":"a"}}"#,
        );
        check(
            r#"{"metadata":{}}"#,
            r#"{"metadata":{"resourceVersion":"7"}}"#,
        );
        check(
            r#"{"data":{"metadata":"{\"x"},"kind":"metadata","metadata":{"name":"a"}}"#,
            r#"{"data":{"metadata":"{\"x"},"kind":"metadata","metadata":{"resourceVersion":"7","name":"a"}}"#,
        );
    }

    #[test]
    fn an_object_without_metadata_is_an_error() {
        assert!(with_revision(&Bytes::from_static(b"{}"), Revision(1)).is_err());
        assert!(with_revision(&Bytes::from_static(b"\"{\\"), Revision(1)).is_err());
    }

    #[test]
    fn an_object_is_read_without_its_owners() {
        let value = br#"{"managedFields":1,"metadata":{"managedFields":[{"a":{}}],"name":"a"},"spec":{"metadata":{"managedFields":2}}}"#;
        assert_eq!(
            without_owners(value),
            Ok(json!({
                "managedFields": 1, "metadata": {"name": "a"}, "spec": {"metadata": {"managedFields": 2}},
            }))
        );
        assert!(without_owners(b"[]").is_err());
        assert!(without_owners(b"{\"metadata\":1}").is_err());
    }

    #[test]
    fn labels_are_found_without_reading_the_rest() {
        let value = br#"{"spec":{"labels":{"no":"no"}},"metadata":{"labels":{"app":"web"}}}"#;
        let found = labels(value).expect("labels");
        assert_eq!(
            found,
            BTreeMap::from([("app".to_owned(), "web".to_owned())])
        );
        assert!(
            labels(br#"{"metadata":{"labels":null}}"#)
                .expect("labels")
                .is_empty()
        );
    }

    proptest! {
        #[test]
        fn filling_in_is_the_same_as_setting_the_field(name in ".*", other in ".*") {
            let mut object = json!({"a": {&other: &name}, "metadata": {"name": name}, "z": [other]});
            let stored = stored(&mut object);
            let filled = with_revision(&stored, Revision(3)).expect("filled");
            object["metadata"]["resourceVersion"] = "3".into();
            prop_assert_eq!(serde_json::from_slice::<Value>(&filled).expect("JSON"), object);
        }
    }
}
