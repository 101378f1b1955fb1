//! Fields taken out of an object.

use serde_json::{Map, Value};

use super::{
    atom::{self, Atom},
    element,
    field_set::FieldSet,
};
use crate::schema::Schema;

/// The object without the paths of a set, and what is below them. A structure that is left with
/// nothing goes too. What tells an item of a list apart stays as long as the item does.
pub fn remove(schema: &Schema, object: Value, doomed: &FieldSet) -> Value {
    match (atom::of(schema, &object), object) {
        (Atom::Map, Value::Object(live)) => Value::Object(fields(schema, live, doomed, |_| false)),
        (Atom::List, Value::Array(live)) => Value::Array(items(schema, live, doomed)),
        (_, object) => object,
    }
}

fn fields(
    schema: &Schema,
    live: Map<String, Value>,
    doomed: &FieldSet,
    stays: impl Fn(&str) -> bool,
) -> Map<String, Value> {
    live.into_iter()
        .filter_map(|(name, value)| match doomed.step(&element::field(&name)) {
            None => Some((name, value)),
            Some(_) if stays(&name) => Some((name, value)),
            Some((_, true)) => None,
            Some((below, false)) => {
                let left = remove(&atom::child(schema, &name).0, value, &below);
                (!atom::is_hollow(Some(&left))).then_some((name, left))
            }
        })
        .collect()
}

fn items(schema: &Schema, live: Vec<Value>, doomed: &FieldSet) -> Vec<Value> {
    let of_items = atom::items(schema);
    live.into_iter()
        .filter_map(|item| {
            let element = element::item(schema, &item).ok();
            match (element.and_then(|element| doomed.step(&element)), item) {
                (None, item) => Some(item),
                (Some((_, true)), _) => None,
                (Some((below, false)), Value::Object(item)) => {
                    let stays = |field: &str| element::is_key(schema, field);
                    Some(Value::Object(fields(&of_items, item, &below, stays)))
                }
                (Some((below, false)), item) => Some(remove(&of_items, item, &below)),
            }
        })
        .collect()
}
