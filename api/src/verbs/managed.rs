//! Who owns which field after a write: `metadata.managedFields`, kept on every write of every kind.
//!
//! Reads who writes from the query, the `User-Agent` or the identity. What follows from it is decided
//! in [`merge::apply`](crate::schema::merge::apply).

use http::header;
use serde_json::{Value, json};

use super::{apply, call::Call, change::Part};
use crate::{
    auth::{NODES, User},
    error::{Error, Subject},
    field::{Cause, FieldErrors, Path},
    kinds::Subresource,
    object,
    schema::merge::apply::{Managers, Reach, Said, Writer, update},
    time,
};

/// Bytes that the name of a manager may have.
const MANAGER_BYTES: usize = 128;
/// Bytes that the name of a subresource may have.
const SUBRESOURCE_BYTES: usize = 256;

/// Checks the query parameters that say who writes.
pub(crate) fn check_options(call: &Call, verb: &str) -> Result<(), Error> {
    let kind = match verb {
        "create" => "CreateOptions",
        "update" => "UpdateOptions",
        "patch" => "PatchOptions",
        _ => return Ok(()),
    };
    let path = Path::root("fieldManager");
    let mut errors = FieldErrors::default();
    if verb == "patch" && !apply::is_apply(call) {
        if call.query.flag("force")?.is_some() {
            errors.forbidden(
                &Path::root("force"),
                "may not be specified for non-apply patch",
            );
        }
    } else if verb == "patch" && call.query.text("fieldManager").is_none() {
        errors.required(&path, "is required for apply patch");
    }
    let manager = call.query.text("fieldManager").unwrap_or_default();
    validate_manager(&path, manager, &mut errors);
    if errors.is_empty() {
        return Ok(());
    }
    Err(Error::Invalid {
        subject: Subject {
            group: "meta.k8s.io",
            kind,
            ..Subject::default()
        },
        errors,
    })
}

fn validate_manager(path: &Path, manager: &str, errors: &mut FieldErrors) {
    if manager.len() > MANAGER_BYTES {
        let message = format!("may not be more than {MANAGER_BYTES} bytes");
        errors.push(path, Cause::TooLong, Value::Null, message);
    }
    for (position, character) in manager.char_indices() {
        if !is_printable(character) {
            let code = u32::from(character);
            errors.invalid(
                path,
                manager,
                format!("invalid character U+{code:04X} (at position {position})"),
            );
        }
    }
}

fn is_printable(character: char) -> bool {
    character == ' ' || !(character.is_control() || character.is_whitespace())
}

/// Who writes, and through what.
pub(crate) fn writer(call: &Call) -> Writer {
    let agent = call.headers.get(header::USER_AGENT);
    let agent = agent.and_then(|value| value.to_str().ok());
    let manager = match (call.query.text("fieldManager"), agent.map(agent_name)) {
        (Some(manager), _) => manager.to_owned(),
        (None, Some(agent)) if !agent.is_empty() => agent,
        _ => user_name(&call.user).to_owned(),
    };
    let subresource = call.subresource.map_or("", Subresource::path);
    Writer {
        manager,
        api_version: call.resource.api_version(),
        subresource: subresource.to_owned(),
        now: time::seconds(call.server.now()),
    }
}

/// A program's name: what its `User-Agent` says up to the first slash.
fn agent_name(agent: &str) -> String {
    let name = agent.split('/').next().unwrap_or_default();
    let mut kept = String::new();
    for character in name.chars().filter(|character| is_printable(*character)) {
        if kept.len() + character.len_utf8() > MANAGER_BYTES {
            break;
        }
        kept.push(character);
    }
    kept
}

/// The cluster's own components, by their identities: in process they send no `User-Agent`.
fn user_name(user: &User) -> &str {
    if user.is_in(NODES) {
        return "kubelet";
    }
    match user.name.strip_prefix("system:") {
        Some("apiserver") => "kube-apiserver",
        Some(name @ ("kube-controller-manager" | "kube-scheduler")) => name,
        _ => "unknown",
    }
}

/// The fields that a write may change: those whose other changes are undone are nobody's.
fn reach(call: &Call) -> Reach {
    let subresources = call.resource.kind.subresources();
    match call.subresource {
        Some(Subresource::Status) => Reach::Everything,
        _ if subresources.contains(&Subresource::Status) => Reach::AllBut("status"),
        _ => Reach::Everything,
    }
}

/// The same for an apply, which says what it wants before any of it is undone.
pub(crate) fn reach_of_apply(call: &Call, part: Part) -> Reach {
    match part {
        Part::Status => Reach::Only(&[&["status"], &["metadata", "annotations"]]),
        Part::EphemeralContainers => Reach::Only(&[&["spec", "ephemeralContainers"]]),
        Part::Resize => Reach::Only(&[
            &["spec", "containers", "*", "resources"],
            &["spec", "containers", "*", "resizePolicy"],
            &["spec", "initContainers", "*", "resources"],
            &["spec", "initContainers", "*", "resizePolicy"],
        ]),
        _ => reach(call),
    }
}

/// Who owns a new object: what an apply says (`applied`), else all of it is the writer's.
pub(crate) fn of_new(call: &Call, object: &Value, applied: Option<Value>) -> Option<Value> {
    applied.or_else(|| {
        let managers = Managers::default();
        let (schema, reach) = (&call.resource.schema, reach(call));
        update(schema, None, object, managers, &writer(call), reach).into_json()
    })
}

/// Who owns a changed object. `said` is what the write says of its `managedFields`, `before` what
/// they were; neither object has any.
pub(crate) fn of_changed(
    call: &Call,
    object: &Value,
    said: Option<Value>,
    old: &Value,
    before: Option<Value>,
) -> Result<Option<Value>, Error> {
    // A subresource has no say in it.
    let managers = if said.is_none() || said == before || call.subresource.is_some() {
        Managers::stored(before)
    } else {
        validate(call, said.as_ref(), object::name(old))?;
        match Managers::said(said.as_ref()) {
            Said::Nothing => Managers::stored(before),
            Said::Reset => Managers::default(),
            Said::These(managers) => managers,
        }
    };
    let (schema, reach) = (&call.resource.schema, reach(call));
    let managers = update(schema, Some(old), object, managers, &writer(call), reach);
    Ok(managers.into_json())
}

/// Puts `managedFields` into an object, or takes them away if nobody owns anything.
pub(crate) fn set(object: &mut Value, managed_fields: Option<Value>) {
    match managed_fields {
        Some(Value::Array(entries)) => object::set(object, "managedFields", entries),
        _ => object::unset(object, "managedFields"),
    }
}

/// What is wrong with `managedFields` that a client wrote; `[{}]` takes them away.
fn validate(call: &Call, said: Option<&Value>, name: &str) -> Result<(), Error> {
    let path = Path::root("metadata").field("managedFields");
    let mut errors = FieldErrors::default();
    let entries = said.and_then(Value::as_array).into_iter().flatten();
    for (index, entry) in entries.enumerate() {
        if *entry == json!({}) {
            continue;
        }
        let path = path.index(index);
        let text = |field: &str| entry[field].as_str().unwrap_or_default();
        if !["Apply", "Update"].contains(&text("operation")) {
            errors.invalid(
                &path.field("operation"),
                text("operation"),
                "must be `Apply` or `Update`",
            );
        }
        if !["", "FieldsV1"].contains(&text("fieldsType")) {
            errors.invalid(
                &path.field("fieldsType"),
                text("fieldsType"),
                "must be `FieldsV1`",
            );
        }
        validate_manager(&path.field("manager"), text("manager"), &mut errors);
        if text("subresource").len() > SUBRESOURCE_BYTES {
            let message = format!("may not be more than {SUBRESOURCE_BYTES} bytes");
            errors.push(
                &path.field("subresource"),
                Cause::TooLong,
                Value::Null,
                message,
            );
        }
    }
    if errors.is_empty() {
        return Ok(());
    }
    Err(Error::Invalid {
        subject: call.subject(name),
        errors,
    })
}
