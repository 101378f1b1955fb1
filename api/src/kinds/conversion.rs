//! Kinds that are stored as another version, or another group's kind, of themselves.
//!
//! Pure. The object's own fields are moved by the kind; what every object has is done here.

use serde_json::Value;

use super::{Names, value::put};

/// Between an object as its kind serves it and as it is stored.
pub struct Conversion {
    /// What it is stored as. Kinds that are stored as the same share their objects.
    pub stored: &'static Names,
    /// Moves the fields of a served object to where the stored one has them.
    pub to_stored: fn(&mut Value),
    /// And back.
    pub to_served: fn(&mut Value),
}

impl Conversion {
    /// Makes the stored object of a served one.
    pub fn store(&self, object: &mut Value) {
        (self.to_stored)(object);
        name(object, self.stored);
    }

    /// Makes the object of a kind from the stored one.
    pub fn serve(&self, object: &mut Value, kind: &Names) {
        (self.to_served)(object);
        name(object, kind);
    }
}

/// Says of an object what it is.
fn name(object: &mut Value, names: &Names) {
    put(object, "apiVersion", names.api_version().into());
    put(object, "kind", names.kind.into());
}

/// Moves a field to another name; what stood there before is gone.
pub(crate) fn rename(object: &mut Value, from: &str, to: &str) {
    let moved = object
        .as_object_mut()
        .and_then(|fields| fields.remove(from))
        .unwrap_or_default();
    put(object, to, moved);
}
