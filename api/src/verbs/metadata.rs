//! The metadata of what is written: filled in, kept, and validated, the same for every kind.
//!
//! Pure but for the uid and the random part of a generated name.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::call::Call;
use crate::{
    error::Error,
    field::{Cause, FieldErrors, Path},
    kinds::check,
    name, object, time,
};

/// The alphabet of generated names: no vowels, no digits that look like letters.
const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
const SUFFIX: usize = 5;
/// A generated name has room for its suffix within a label.
const GENERATED_BASE: usize = 63 - SUFFIX;
/// Bytes that all annotations may have together.
const ANNOTATIONS: usize = 256 * 1024;

/// A new name on the base that the user gave.
pub(crate) fn generate_name(base: &str) -> String {
    let mut end = base.len().min(GENERATED_BASE);
    while !base.is_char_boundary(end) {
        end -= 1;
    }
    let mut name = base[..end].to_owned();
    for _ in 0..SUFFIX {
        name.push(ALPHABET[rand::random_range(0..ALPHABET.len())].into());
    }
    name
}

/// Makes the object's namespace that of the path, or says that they differ.
pub(crate) fn place(call: &Call, object: &mut Value) -> Result<(), Error> {
    let own = object::namespace(object);
    if !own.is_empty() && own != call.namespace {
        return Err(Error::BadRequest(if call.resource.names().namespaced {
            "the namespace of the provided object does not match the namespace sent on the request"
                .to_owned()
        } else {
            format!(
                "{} is not namespaced: remove metadata.namespace",
                call.resource.names().kind
            )
        }));
    }
    if call.resource.names().namespaced {
        object::set(object, "namespace", &*call.namespace);
    } else {
        object::unset(object, "namespace");
    }
    Ok(())
}

/// Gives a new object what only the server gives.
pub(crate) fn fill_new(object: &mut Value, now: Timestamp) {
    for field in [
        "resourceVersion",
        "selfLink",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "managedFields",
    ] {
        object::unset(object, field);
    }
    leave_out_empty(object);
    object::set(object, "uid", uuid::Uuid::new_v4().to_string());
    object::set(object, "creationTimestamp", time::seconds(now));
}

/// Drops lists and maps of the metadata that hold nothing: Kubernetes doesn't write them.
fn leave_out_empty(object: &mut Value) {
    for field in ["annotations", "finalizers", "labels", "ownerReferences"] {
        let value = object::metadata(object).and_then(|metadata| metadata.get(field));
        let empty = match value {
            Some(Value::Array(list)) => list.is_empty(),
            Some(Value::Object(map)) => map.is_empty(),
            _ => false,
        };
        if empty {
            object::unset(object, field);
        }
    }
}

/// Fields that a writer may leave out and may not change.
const KEPT: &[&str] = &[
    "uid",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
];

/// Keeps from the old object what no writer changes, and checks what it said about it.
pub(crate) fn keep(call: &Call, object: &mut Value, old: &Value) -> Result<(), Error> {
    let name = object::name(old);
    let own = object::name(object);
    if !own.is_empty() && own != name {
        return Err(Error::BadRequest(format!(
            "the name of the object ({own}) does not match the name on the URL ({name})"
        )));
    }
    place(call, object)?;
    let uid = object::uid(object);
    if !uid.is_empty() && uid != object::uid(old) {
        return Err(Error::Conflict {
            subject: call.subject(name),
            message: format!(
                "Precondition failed: UID in precondition: {uid}, UID in object meta: {}",
                object::uid(old)
            ),
        });
    }
    let version = object::resource_version(object);
    if !version.is_empty() && version != object::resource_version(old) {
        return Err(Error::modified(call.subject(name)));
    }
    let mut errors = FieldErrors::default();
    for &field in KEPT {
        let new = object::metadata(object).and_then(|metadata| metadata.get(field));
        let was = object::metadata(old).and_then(|metadata| metadata.get(field));
        match (new, was) {
            (None | Some(Value::Null), Some(was)) => object::set(object, field, was.clone()),
            (Some(Value::Null), None) => object::unset(object, field),
            (Some(new), was) if Some(new) != was => errors.invalid(
                &Path::root("metadata").field(field),
                new.clone(),
                "field is immutable",
            ),
            _ => {}
        }
    }
    for field in ["generation", "resourceVersion", "name"] {
        match object::metadata(old).and_then(|metadata| metadata.get(field)) {
            Some(was) => object::set(object, field, was.clone()),
            None => object::unset(object, field),
        }
    }
    object::unset(object, "selfLink");
    leave_out_empty(object);
    if object::deleting(old) {
        let had = object::finalizers(old);
        let added: Vec<&str> = object::finalizers(object)
            .into_iter()
            .filter(|finalizer| !had.contains(finalizer))
            .collect();
        if !added.is_empty() {
            let added: Vec<_> = added.iter().map(|name| format!("{name:?}")).collect();
            let added = added.join(", ");
            errors.forbidden(
                &Path::root("metadata").field("finalizers"),
                format!("no new finalizers can be added if the object is being deleted, found new finalizers []string{{{added}}}"),
            );
        }
    }
    if errors.is_empty() {
        Ok(())
    } else {
        Err(Error::Invalid {
            subject: call.subject(name),
            errors,
        })
    }
}

/// What is wrong with an object's metadata.
pub(crate) fn validate(call: &Call, object: &Value, errors: &mut FieldErrors) {
    let path = Path::root("metadata");
    let own = object::name(object);
    if own.is_empty() {
        errors.required(&path.field("name"), "name or generateName is required");
    } else {
        let problems = call.resource.kind.name_problems(own);
        check::problems(&path.field("name"), own, problems, errors);
    }
    let Some(metadata) = object::metadata(object) else {
        return;
    };
    let entries = |field: &str| {
        metadata
            .get(field)
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
    };
    for (key, value) in entries("labels") {
        let path = path.field("labels");
        check::problems(&path, key, name::qualified_problems(key), errors);
        let value = value.as_str().unwrap_or_default();
        check::problems(&path, value, name::label_value_problems(value), errors);
    }
    let mut size = 0;
    for (key, value) in entries("annotations") {
        size += key.len() + value.as_str().map_or(0, str::len);
        let problems = name::qualified_problems(&key.to_lowercase());
        check::problems(&path.field("annotations"), key, problems, errors);
    }
    if size > ANNOTATIONS {
        errors.push(
            &path.field("annotations"),
            Cause::TooLong,
            Value::Null,
            format!("may not be more than {ANNOTATIONS} bytes"),
        );
    }
    for finalizer in object::finalizers(object) {
        let path = path.field("finalizers");
        let problems = name::qualified_problems(finalizer);
        if !problems.is_empty() {
            check::problems(&path, finalizer, problems, errors);
        } else if !finalizer.contains('/')
            // Kubernetes asks this of its own kinds only, and not of definitions.
            && call.resource.kind.custom().is_none()
            && call.resource.names().group != "apiextensions.k8s.io"
            && !["orphan", "foregroundDeletion", "kubernetes"].contains(&finalizer)
        {
            errors.invalid(
                &path,
                finalizer,
                "name is neither a standard finalizer name nor is it fully qualified",
            );
        }
    }
    validate_owners(metadata.get("ownerReferences"), errors);
}

fn validate_owners(owners: Option<&Value>, errors: &mut FieldErrors) {
    let path = Path::root("metadata").field("ownerReferences");
    let owners = owners.and_then(Value::as_array).into_iter().flatten();
    let mut controllers = 0;
    for (index, owner) in owners.enumerate() {
        let path = path.index(index);
        for field in ["apiVersion", "kind", "name", "uid"] {
            if owner[field].as_str().unwrap_or_default().is_empty() {
                errors.push(
                    &path.field(field),
                    Cause::Invalid,
                    json!(""),
                    format!("{field} must not be empty"),
                );
            }
        }
        controllers += usize::from(owner["controller"] == true);
    }
    if controllers > 1 {
        errors.invalid(
            &path,
            owners_value(controllers),
            "Only one reference can have Controller set to true",
        );
    }
}

fn owners_value(controllers: usize) -> Value {
    format!("{controllers} controllers").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generated_name_keeps_its_base_and_fits_a_label() {
        let name = generate_name("web-");
        assert_eq!(name.len(), 9);
        assert!(name.starts_with("web-"));
        assert_eq!(generate_name(&"a".repeat(100)).len(), 63);
        assert!(generate_name(&"ä".repeat(100)).len() <= 63);
    }

    #[test]
    fn a_new_object_gets_its_uid_and_time_from_the_server() {
        let mut object =
            json!({"metadata": {"uid": "mine", "resourceVersion": "3", "deletionTimestamp": "x"}});
        fill_new(&mut object, "2026-01-02T03:04:05Z".parse().expect("a time"));
        assert_eq!(object::uid(&object).len(), 36);
        assert_eq!(
            object::text(&object, "creationTimestamp"),
            "2026-01-02T03:04:05Z"
        );
        assert!(!object::deleting(&object));
        assert_eq!(object::resource_version(&object), "");
    }
}
