//! Builds a value from any self-describing format, noting duplicate keys and bounding depth.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::{Body, DecodeError, MAX_DEPTH, integral};
use crate::schema::trail::{Findings, Trail};

/// What decoding found beside the value.
#[derive(Default)]
pub(super) struct Found {
    duplicates: Findings,
    too_deep: bool,
}

impl Found {
    /// The outcome, given what the format's own parser made of it.
    pub(super) fn body(self, value: Result<Value, String>) -> Result<Body, DecodeError> {
        match value {
            Ok(value) => Ok(Body {
                value,
                duplicates: self.duplicates.into_paths(),
            }),
            Err(_) if self.too_deep => Err(DecodeError::TooDeep),
            Err(message) => Err(DecodeError::Syntax { message }),
        }
    }
}

/// One node of the tree that is being built.
pub(super) struct Node<'a> {
    at: Trail<'a>,
    depth: usize,
    found: &'a mut Found,
}

impl<'a> Node<'a> {
    pub(super) fn root(found: &'a mut Found) -> Self {
        Self {
            at: Trail::Root,
            depth: 0,
            found,
        }
    }

    fn enter<E: Error>(&mut self) -> Result<(), E> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            self.found.too_deep = true;
            return Err(E::custom("nested too deep"));
        }
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Node<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Node<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        match integral(value) {
            Some(integer) => Ok(integer.into()),
            None => Number::from_f64(value)
                .map(Value::Number)
                .ok_or_else(|| E::custom("number out of range")),
        }
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E: Error>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        self.deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut items: A) -> Result<Value, A::Error> {
        self.enter()?;
        let mut list = Vec::new();
        loop {
            let node = Node {
                at: Trail::Index(&self.at, list.len()),
                depth: self.depth,
                found: self.found,
            };
            match items.next_element_seed(node)? {
                Some(item) => list.push(item),
                None => return Ok(Value::Array(list)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut entries: A) -> Result<Value, A::Error> {
        self.enter()?;
        let mut map = Map::new();
        while let Some(key) = entries.next_key_seed(Key)? {
            let at = Trail::Field(&self.at, &key);
            if map.contains_key(&key) {
                self.found.duplicates.push(&at);
            }
            let value = entries.next_value_seed(Node {
                at,
                depth: self.depth,
                found: self.found,
            })?;
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }
}

/// A key; YAML has keys that are not strings.
struct Key;

impl<'de> DeserializeSeed<'de> for Key {
    type Value = String;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<String, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Visitor<'_> for Key {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string, number or boolean as key")
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<String, E> {
        Ok(value.to_string())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<String, E> {
        Ok(value.to_string())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<String, E> {
        Ok(value.to_string())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<String, E> {
        Ok(integral(value).map_or_else(|| value.to_string(), |integer| integer.to_string()))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<String, E> {
        Ok(value.to_owned())
    }

    fn visit_string<E: Error>(self, value: String) -> Result<String, E> {
        Ok(value)
    }
}
