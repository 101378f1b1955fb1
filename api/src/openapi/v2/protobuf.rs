//! The v2 document in protobuf, which kubectl asks for when v3 lacks a group-version.
//!
//! Pure. Message and field numbers are those of gnostic's `openapi.v2`, which Kubernetes uses; values
//! without a message of their own (extensions, defaults) travel as YAML, of which JSON is a part.

use serde_json::{Map, Value};

/// Encodes a whole document.
pub(in crate::openapi) fn encode(document: &Value) -> Vec<u8> {
    let mut message = Message::default();
    message.text(1, &document["swagger"]);
    let mut info = Message::default();
    info.text(1, &document["info"]["title"]);
    info.text(2, &document["info"]["version"]);
    message.message(2, info);
    let mut paths = Message::default();
    for (path, item) in entries(&document["paths"]) {
        paths.named(2, path, path_item(item));
    }
    message.message(8, paths);
    let mut definitions = Message::default();
    for (name, definition) in entries(&document["definitions"]) {
        definitions.named(1, name, schema(definition));
    }
    message.message(9, definitions);
    message.0
}

fn path_item(item: &Value) -> Message {
    let mut message = Message::default();
    let methods = [
        ("get", 2),
        ("put", 3),
        ("post", 4),
        ("delete", 5),
        ("patch", 8),
    ];
    for (method, number) in methods {
        if item[method].is_object() {
            message.message(number, operation(&item[method]));
        }
    }
    for parameter in list(&item["parameters"]) {
        message.message(9, parameter_item(parameter));
    }
    message
}

fn operation(operation: &Value) -> Message {
    let mut message = Message::default();
    message.texts(1, &operation["tags"]);
    message.text(3, &operation["description"]);
    message.text(5, &operation["operationId"]);
    message.texts(6, &operation["produces"]);
    message.texts(7, &operation["consumes"]);
    for parameter in list(&operation["parameters"]) {
        message.message(8, parameter_item(parameter));
    }
    let mut responses = Message::default();
    for (status, response) in entries(&operation["responses"]) {
        let mut own = Message::default();
        own.text(1, &response["description"]);
        if response["schema"].is_object() {
            own.message(2, Message::holding(1, schema(&response["schema"])));
        }
        responses.named(1, status, Message::holding(1, own));
    }
    message.message(9, responses);
    message.texts(10, &operation["schemes"]);
    message.extensions(13, operation);
    message
}

/// A parameter within the messages that say of which sort it is.
fn parameter_item(parameter: &Value) -> Message {
    let mut own = Message::default();
    let place = parameter["in"].as_str().unwrap_or_default();
    let sort = if place == "body" {
        own.text(1, &parameter["description"]);
        own.text(2, &parameter["name"]);
        own.text(3, &parameter["in"]);
        own.flag(4, &parameter["required"]);
        own.message(5, schema(&parameter["schema"]));
        Message::holding(1, own)
    } else {
        own.flag(1, &parameter["required"]);
        own.text(2, &parameter["in"]);
        own.text(3, &parameter["description"]);
        own.text(4, &parameter["name"]);
        // A query parameter's message has `allowEmptyValue` before its type, a path's has not.
        let (sort, kind, unique) = if place == "query" {
            (3, 6, 20)
        } else {
            (4, 5, 19)
        };
        own.text(kind, &parameter["type"]);
        own.flag(unique, &parameter["uniqueItems"]);
        Message::holding(2, Message::holding(sort, own))
    };
    Message::holding(1, sort)
}

fn schema(schema: &Value) -> Message {
    let mut message = Message::default();
    message.text(1, &schema["$ref"]);
    message.text(2, &schema["format"]);
    message.text(4, &schema["description"]);
    message.texts(19, &schema["required"]);
    let values = &schema["additionalProperties"];
    if values.is_object() {
        message.message(21, Message::holding(1, self::schema(values)));
    }
    if schema["type"].is_string() {
        let mut kind = Message::default();
        kind.text(1, &schema["type"]);
        message.message(22, kind);
    }
    if schema["items"].is_object() {
        message.message(23, Message::holding(1, self::schema(&schema["items"])));
    }
    if schema["properties"].is_object() {
        let mut properties = Message::default();
        for (name, property) in entries(&schema["properties"]) {
            properties.named(1, name, self::schema(property));
        }
        message.message(25, properties);
    }
    message.extensions(31, schema);
    message
}

fn entries(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flat_map(Map::iter)
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// The bytes of a protobuf message. Empty texts and false are not written.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    /// A message whose only field is this one.
    fn holding(number: u32, inner: Message) -> Self {
        let mut message = Self::default();
        message.message(number, inner);
        message
    }

    fn message(&mut self, number: u32, inner: Message) {
        self.bytes(number, &inner.0);
    }

    fn text(&mut self, number: u32, value: &Value) {
        if let Some(text) = value.as_str().filter(|text| !text.is_empty()) {
            self.bytes(number, text.as_bytes());
        }
    }

    fn texts(&mut self, number: u32, values: &Value) {
        for value in list(values) {
            self.text(number, value);
        }
    }

    fn flag(&mut self, number: u32, value: &Value) {
        if value == true {
            self.number(u64::from(number) << 3);
            self.0.push(1);
        }
    }

    /// An entry of a map: its name and its value.
    fn named(&mut self, number: u32, name: &str, value: Message) {
        let mut entry = Self::default();
        entry.bytes(1, name.as_bytes());
        entry.message(2, value);
        self.message(number, entry);
    }

    /// Every `x-…` of a value.
    fn extensions(&mut self, number: u32, value: &Value) {
        for (name, value) in entries(value).filter(|(name, _)| name.starts_with("x-")) {
            let mut yaml = Self::default();
            yaml.bytes(2, value.to_string().as_bytes());
            self.named(number, name, yaml);
        }
    }

    /// A field of bytes: number and wire type 2, length, bytes.
    fn bytes(&mut self, number: u32, bytes: &[u8]) {
        self.number(u64::from(number) << 3 | 2);
        self.number(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    /// A number in groups of seven bits, lowest first.
    fn number(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.0.push((number & 0x7f) as u8 | 0x80);
            number >>= 7;
        }
        self.0.push(number as u8);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_schema_is_written_by_field_numbers() {
        let message = schema(&json!({
            "type": "array",
            "items": { "$ref": "#/definitions/a" },
            "x-kubernetes-list-type": "set",
        }));
        let expected: &[u8] = b"\xb2\x01\x07\n\x05array\
            \xba\x01\x13\n\x11\n\x0f#/definitions/a\
            \xfa\x01\x21\n\x16x-kubernetes-list-type\x12\x07\x12\x05\"set\"";
        assert_eq!(message.0, expected);
    }

    #[test]
    fn long_lengths_take_several_bytes() {
        let mut message = Message::default();
        message.number(300);
        assert_eq!(message.0, [0xac, 0x02]);
    }
}
