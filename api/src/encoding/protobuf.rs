//! Kubernetes' protobuf to the values that the same objects are in JSON.
//!
//! A body is four bytes of magic and a `runtime.Unknown`, which says what kind of object its raw
//! bytes are; the rest follows the table in [`facts`]. As JSON has it: what Go leaves away when it
//! is empty is absent, bytes are base64, times are RFC 3339. Fields whose number is not in the
//! table are skipped, as protobuf has it. Never writes protobuf, and never trusts its input: depth
//! is bounded, lengths are checked; the length of the whole is the caller's to bound.

mod facts;
mod wire;

use base64::{Engine, prelude::BASE64_STANDARD};
use jiff::Timestamp;
use serde_json::{Map, Value};

use super::{Body, DecodeError, MAX_DEPTH, integral};
use crate::time;

use facts::{Item, Message, Shape};
use wire::{Payload, Wire};

/// What every body begins with.
const MAGIC: &[u8] = b"k8s\0";
const ENVELOPE: &str = "runtime.Unknown";
const MEDIA_TYPE: &str = "application/vnd.kubernetes.protobuf";
/// The only message that holds itself, through messages that JSON does not show.
const SCHEMA: &str = "apiextensions.v1.JSONSchemaProps";

/// Decodes a protobuf body. One that does not say what it is, is of this version and kind.
pub fn protobuf(bytes: &[u8], version: &str, kind: &str) -> Result<Body, DecodeError> {
    let Some(bytes) = bytes.strip_prefix(MAGIC) else {
        return Err(problem(ENVELOPE, "", "the body does not begin with k8s\\0"));
    };
    let envelope = Envelope::read(bytes)?;
    let version = or(envelope.version, version);
    let kind = or(envelope.kind, kind);
    let Some(message) = facts::object(version, kind) else {
        return Err(DecodeError::UnknownKind {
            version: version.to_owned(),
            kind: kind.to_owned(),
        });
    };
    let mut fields = Map::new();
    fields.insert("apiVersion".to_owned(), version.into());
    fields.insert("kind".to_owned(), kind.into());
    read(message, envelope.raw, 1, &mut fields)?;
    Ok(Body {
        value: Value::Object(fields),
        duplicates: Vec::new(),
    })
}

/// `runtime.Unknown`, with its `runtime.TypeMeta`.
#[derive(Default)]
struct Envelope<'a> {
    version: &'a str,
    kind: &'a str,
    raw: &'a [u8],
}

impl<'a> Envelope<'a> {
    fn read(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let mut envelope = Self::default();
        for_each(ENVELOPE, bytes, |number, payload| {
            match number {
                1 => envelope.identify(block(payload).map_err(at(ENVELOPE, "typeMeta"))?)?,
                2 => envelope.raw = block(payload).map_err(at(ENVELOPE, "raw"))?,
                3 if !text(payload)
                    .map_err(at(ENVELOPE, "contentEncoding"))?
                    .is_empty() =>
                {
                    return Err(problem(ENVELOPE, "contentEncoding", "must be empty"));
                }
                4 => {
                    let kind = text(payload).map_err(at(ENVELOPE, "contentType"))?;
                    if !["", MEDIA_TYPE].contains(&kind) {
                        let detail = format!("must be empty or {MEDIA_TYPE}");
                        return Err(problem(ENVELOPE, "contentType", detail));
                    }
                }
                _ => {}
            }
            Ok(())
        })?;
        Ok(envelope)
    }

    fn identify(&mut self, bytes: &'a [u8]) -> Result<(), DecodeError> {
        const MESSAGE: &str = "runtime.TypeMeta";
        for_each(MESSAGE, bytes, |number, payload| {
            match number {
                1 => self.version = text(payload).map_err(at(MESSAGE, "apiVersion"))?,
                2 => self.kind = text(payload).map_err(at(MESSAGE, "kind"))?,
                _ => {}
            }
            Ok(())
        })
    }
}

/// Reads the fields of a message among those that are there: what comes twice is merged.
fn read(
    message: &'static Message,
    bytes: &[u8],
    depth: usize,
    fields: &mut Map<String, Value>,
) -> Result<(), DecodeError> {
    if depth > MAX_DEPTH {
        return Err(DecodeError::TooDeep);
    }
    for_each(message.name, bytes, |number, payload| {
        let Some(field) = message.field(number) else {
            return Ok(());
        };
        let reader = Reader {
            message: message.name,
            field: field.name,
            depth: depth + usize::from(matches!(field.shape, Shape::List(_) | Shape::Map(_))),
        };
        match field.shape {
            Shape::Inline(name) => {
                let bytes = block(payload).map_err(|detail| reader.problem(detail))?;
                read(facts::message(name), bytes, depth, fields)
            }
            Shape::One(item) | Shape::Kept(item) => {
                let old = fields.remove(field.name);
                let value = reader.item(item, payload, old)?;
                if let Some(value) = value
                    && (matches!(field.shape, Shape::Kept(_)) || !zero(item, &value))
                {
                    fields.insert(field.name.to_owned(), value);
                }
                Ok(())
            }
            Shape::List(item) => {
                let list = fields
                    .entry(field.name)
                    .or_insert_with(|| Value::Array(Vec::new()));
                match list.as_array_mut() {
                    Some(list) => reader.add(item, payload, list),
                    None => Ok(()),
                }
            }
            Shape::Map(item) => {
                let (key, value) = reader.entry(item, payload)?;
                let map = fields
                    .entry(field.name)
                    .or_insert_with(|| Value::Object(Map::new()));
                if let Some(map) = map.as_object_mut() {
                    map.insert(key, value);
                }
                Ok(())
            }
        }
    })
}

/// True for what Go leaves away: an empty string, 0 and false, where they are scalars.
fn zero(item: Item, value: &Value) -> bool {
    match item {
        Item::String | Item::Bytes => value.as_str().is_some_and(str::is_empty),
        Item::Int32 | Item::Int64 => value == 0,
        Item::Bool => value == false,
        _ => false,
    }
}

/// Reads what one field holds, and tells where it stood if that cannot be read.
struct Reader {
    message: &'static str,
    field: &'static str,
    /// Of the object, list or map that its items belong to.
    depth: usize,
}

impl Reader {
    fn problem(&self, detail: impl Into<String>) -> DecodeError {
        problem(self.message, self.field, detail)
    }

    /// A value, merged into the old one if both are messages. None for a time that is not set.
    fn item(
        &self,
        item: Item,
        payload: Payload<'_>,
        old: Option<Value>,
    ) -> Result<Option<Value>, DecodeError> {
        let scalar = match item {
            Item::String => text(payload).map(Value::from),
            Item::Bytes => block(payload).map(|bytes| BASE64_STANDARD.encode(bytes).into()),
            Item::Bool => number(payload).map(|value| (value != 0).into()),
            Item::Int32 => small(payload).map(Value::from),
            Item::Int64 => number(payload).map(Value::from),
            Item::Double => double(payload),
            Item::Quantity => return self.quantity(payload).map(Some),
            Item::IntOrString => return self.int_or_string(payload).map(Some),
            Item::Time => return self.time(payload, false),
            Item::MicroTime => return self.time(payload, true),
            Item::Json => return self.json(payload),
            Item::Strings => return self.strings(payload).map(Some),
            Item::SchemaOrArray | Item::SchemaOrBool | Item::SchemaOrStrings => {
                return self.schema_or(item, payload);
            }
            Item::Message(name) => {
                let bytes = self.block(payload)?;
                let mut fields = match old {
                    Some(Value::Object(fields)) => fields,
                    _ => Map::new(),
                };
                read(facts::message(name), bytes, self.depth + 1, &mut fields)?;
                return Ok(Some(Value::Object(fields)));
            }
        };
        scalar.map(Some).map_err(|detail| self.problem(detail))
    }

    /// Adds to a list: one item, or packed numbers.
    fn add(
        &self,
        item: Item,
        payload: Payload<'_>,
        list: &mut Vec<Value>,
    ) -> Result<(), DecodeError> {
        let packs = matches!(item, Item::Bool | Item::Int32 | Item::Int64);
        let Payload::Bytes(bytes) = payload else {
            list.extend(self.item(item, payload, None)?);
            return Ok(());
        };
        if !packs {
            list.extend(self.item(item, payload, None)?);
            return Ok(());
        }
        let mut wire = Wire::new(bytes);
        while let Some(number) = wire.packed().map_err(|detail| self.problem(detail))? {
            list.extend(self.item(item, Payload::Varint(number), None)?);
        }
        Ok(())
    }

    /// An entry of a map; what it lacks is empty.
    fn entry(&self, item: Item, payload: Payload<'_>) -> Result<(String, Value), DecodeError> {
        let mut key = String::new();
        let mut value = Payload::Bytes(&[]);
        self.each(payload, |number, payload| {
            match number {
                1 => {
                    text(payload)?.clone_into(&mut key);
                }
                2 => value = payload,
                _ => {}
            }
            Ok(())
        })?;
        let value = self.item(item, value, None)?;
        Ok((key, value.unwrap_or_default()))
    }

    fn quantity(&self, payload: Payload<'_>) -> Result<Value, DecodeError> {
        let mut quantity = "0";
        self.each(payload, |number, payload| {
            if number == 1 {
                quantity = text(payload)?;
            }
            Ok(())
        })?;
        Ok(quantity.into())
    }

    fn int_or_string(&self, payload: Payload<'_>) -> Result<Value, DecodeError> {
        let (mut kind, mut integer, mut string) = (0, 0, "");
        self.each(payload, |field, payload| {
            match field {
                1 => kind = number(payload)?,
                2 => integer = small(payload)?,
                3 => string = text(payload)?,
                _ => {}
            }
            Ok(())
        })?;
        match kind {
            0 => Ok(integer.into()),
            1 => Ok(string.into()),
            _ => Err(self.problem("is neither an integer nor a string")),
        }
    }

    /// A time; one of no bytes is not set. Kubernetes' `Time` has whole seconds.
    fn time(&self, payload: Payload<'_>, micro: bool) -> Result<Option<Value>, DecodeError> {
        let (mut seconds, mut nanos) = (0, 0);
        self.each(payload, |field, payload| {
            match field {
                1 => seconds = number(payload)?,
                2 => nanos = small(payload)?,
                _ => {}
            }
            Ok(())
        })?;
        if payload == Payload::Bytes(&[]) {
            return Ok(None);
        }
        let instant = Timestamp::new(seconds, if micro { nanos } else { 0 })
            .map_err(|_| self.problem("is a time out of range"))?;
        Ok(Some(if micro {
            time::micros(instant).into()
        } else {
            time::seconds(instant).into()
        }))
    }

    /// JSON inside protobuf.
    fn json(&self, payload: Payload<'_>) -> Result<Option<Value>, DecodeError> {
        let mut raw: &[u8] = &[];
        self.each(payload, |number, payload| {
            if number == 1 {
                raw = block(payload)?;
            }
            Ok(())
        })?;
        if raw.is_empty() {
            return Ok(None);
        }
        let value = match super::json(raw) {
            Ok(body) => body.value,
            Err(DecodeError::TooDeep) => return Err(DecodeError::TooDeep),
            Err(error) => return Err(self.problem(error.to_string())),
        };
        if self.depth + super::depth(&value) > MAX_DEPTH {
            return Err(DecodeError::TooDeep);
        }
        Ok(Some(value))
    }

    fn strings(&self, payload: Payload<'_>) -> Result<Value, DecodeError> {
        let mut strings = Vec::new();
        self.each(payload, |number, payload| {
            if number == 1 {
                strings.push(Value::from(text(payload)?));
            }
            Ok(())
        })?;
        Ok(strings.into())
    }

    /// A schema, or what may stand in its place. None if neither is there.
    fn schema_or(&self, item: Item, payload: Payload<'_>) -> Result<Option<Value>, DecodeError> {
        let mut parts = Vec::new();
        self.each(payload, |number, payload| {
            parts.push((number, payload));
            Ok(())
        })?;
        let (mut schema, mut list, mut allows) = (None, Vec::new(), false);
        let in_list = Self {
            depth: self.depth + 1,
            ..*self
        };
        for (part, payload) in parts {
            match (item, part) {
                (Item::SchemaOrBool, 2) | (Item::SchemaOrArray | Item::SchemaOrStrings, 1) => {
                    schema = self.item(Item::Message(SCHEMA), payload, schema)?;
                }
                (Item::SchemaOrBool, 1) => {
                    allows = number(payload).map_err(|detail| self.problem(detail))? != 0;
                }
                (Item::SchemaOrArray, 2) => {
                    list.extend(in_list.item(Item::Message(SCHEMA), payload, None)?);
                }
                (Item::SchemaOrStrings, 2) => {
                    list.extend(self.item(Item::String, payload, None)?);
                }
                _ => {}
            }
        }
        Ok(match item {
            Item::SchemaOrBool => schema.or_else(|| Some(allows.into())),
            _ if list.is_empty() => schema,
            _ => Some(list.into()),
        })
    }

    fn block<'a>(&self, payload: Payload<'a>) -> Result<&'a [u8], DecodeError> {
        block(payload).map_err(|detail| self.problem(detail))
    }

    /// Calls `visit` with every field of a message that has no facts of its own.
    fn each<'a>(
        &self,
        payload: Payload<'a>,
        mut visit: impl FnMut(u32, Payload<'a>) -> Result<(), &'static str>,
    ) -> Result<(), DecodeError> {
        let mut wire = Wire::new(self.block(payload)?);
        let mut next = || -> Result<bool, &'static str> {
            match wire.field()? {
                Some((number, payload)) => visit(number, payload).map(|()| true),
                None => Ok(false),
            }
        };
        while next().map_err(|detail| self.problem(detail))? {}
        Ok(())
    }
}

/// Calls `visit` with every field of a message.
fn for_each<'a>(
    message: &'static str,
    bytes: &'a [u8],
    mut visit: impl FnMut(u32, Payload<'a>) -> Result<(), DecodeError>,
) -> Result<(), DecodeError> {
    let mut wire = Wire::new(bytes);
    while let Some((number, payload)) = wire.field().map_err(at(message, ""))? {
        visit(number, payload)?;
    }
    Ok(())
}

fn block(payload: Payload<'_>) -> Result<&[u8], &'static str> {
    match payload {
        Payload::Bytes(bytes) => Ok(bytes),
        _ => Err("is not written as bytes"),
    }
}

fn text(payload: Payload<'_>) -> Result<&str, &'static str> {
    let bytes = block(payload).map_err(|_| "is not written as a string")?;
    std::str::from_utf8(bytes).map_err(|_| "is not valid UTF-8")
}

fn number(payload: Payload<'_>) -> Result<i64, &'static str> {
    match payload {
        Payload::Varint(value) => Ok(value.cast_signed()),
        _ => Err("is not written as a number"),
    }
}

/// A number, without a fraction if it has none.
fn double(payload: Payload<'_>) -> Result<Value, &'static str> {
    let Payload::Double(value) = payload else {
        return Err("is not written as a double");
    };
    match integral(value) {
        Some(whole) => Ok(whole.into()),
        None if value.is_finite() => Ok(value.into()),
        None => Err("is not a finite number"),
    }
}

fn small(payload: Payload<'_>) -> Result<i32, &'static str> {
    i32::try_from(number(payload)?).map_err(|_| "does not fit 32 bits")
}

fn or<'a>(text: &'a str, default: &'a str) -> &'a str {
    if text.is_empty() { default } else { text }
}

fn problem(message: &'static str, field: &'static str, detail: impl Into<String>) -> DecodeError {
    DecodeError::Field {
        message,
        field,
        detail: detail.into(),
    }
}

fn at(message: &'static str, field: &'static str) -> impl Fn(&'static str) -> DecodeError {
    move |detail| problem(message, field, detail)
}

#[cfg(test)]
mod tests;
