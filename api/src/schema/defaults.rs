//! Fills in what the schema of a custom resource says stands where nothing does.
//!
//! Pure, and the same twice as once. A null that may not stand goes: to the default, or away.

use serde_json::Value;

use super::model::{Schema, Shape};

/// Fills in the defaults of an object's fields.
pub(crate) fn default(schema: &Schema, value: &mut Value) {
    match (schema.shape(), value) {
        (Shape::Object(properties), Value::Object(fields)) => {
            for (name, property) in properties {
                let Some(custom) = property.custom() else {
                    continue;
                };
                let lacks = match fields.get(name) {
                    None => true,
                    Some(Value::Null) => !custom.nullable,
                    Some(_) => false,
                };
                match &custom.default {
                    Some(default) if lacks => {
                        fields.insert(name.clone(), default.clone());
                    }
                    None if lacks => {
                        fields.remove(name);
                    }
                    _ => {}
                }
                if let Some(field) = fields.get_mut(name) {
                    self::default(property, field);
                }
            }
        }
        (Shape::Map(values), Value::Object(entries)) => {
            for entry in entries.values_mut() {
                inner(values, entry);
            }
        }
        (Shape::List(items), Value::Array(list)) => {
            for item in list {
                inner(items, item);
            }
        }
        _ => {}
    }
}

/// An item or an entry: it is there, if only as null.
fn inner(schema: &Schema, value: &mut Value) {
    if value.is_null()
        && let Some(custom) = schema.custom()
        && !custom.nullable
        && let Some(default) = &custom.default
    {
        *value = default.clone();
    }
    default(schema, value);
}
