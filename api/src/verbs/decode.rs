//! From a request's body to an object that its schema accepts.

use http::header;
use serde_json::Value;

use super::{call::Call, query::FieldValidation};
use crate::{
    encoding::{self, DecodeError},
    error::Error,
    schema,
    server::state::Resource,
};

const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";

/// A body as a value, with the fields that stand in it twice.
pub(crate) struct Body {
    pub(crate) value: Value,
    pub(crate) duplicates: Vec<String>,
}

/// The body's media type without parameters; JSON if there is none.
pub(crate) fn media_type(call: &Call) -> &str {
    call.headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next())
        .map(str::trim)
        .filter(|value| !value.is_empty())
        .unwrap_or("application/json")
}

/// Reads a body by its content type. One in protobuf that does not say what it is, is of this
/// version and kind.
pub(crate) fn body(call: &Call, bytes: &[u8], version: &str, kind: &str) -> Result<Body, Error> {
    match media_type(call) {
        "application/json" | "*/*" => json(bytes),
        "application/yaml" => readable("application/yaml", encoding::yaml(bytes)),
        PROTOBUF => readable(PROTOBUF, encoding::protobuf(bytes, version, kind)),
        other => Err(Error::UnsupportedMediaType(format!(
            "the body of the request was in an unknown format ({other}) - accepted media types include: \
             application/json, application/yaml, {PROTOBUF}"
        ))),
    }
}

/// Reads a body in JSON.
pub(crate) fn json(bytes: &[u8]) -> Result<Body, Error> {
    readable("application/json", encoding::json(bytes))
}

fn readable(format: &str, read: Result<encoding::Body, DecodeError>) -> Result<Body, Error> {
    read.map(|body| Body {
        value: body.value,
        duplicates: body.duplicates,
    })
    .map_err(|error| {
        Error::BadRequest(format!(
            "the object provided is unrecognized (must be of type {format}): {error}"
        ))
    })
}

/// Reads the object that a create or an update sends, and what to warn its user of.
pub(crate) fn object(call: &Call, bytes: &[u8]) -> Result<(Value, Vec<String>), Error> {
    let names = call.resource.names();
    let mut body = body(call, bytes, &call.resource.api_version(), names.kind)?;
    identify(&call.resource, &mut body.value)?;
    let prefix = format!(
        "{0} in version {1:?} cannot be handled as a {0}",
        names.kind, names.version
    );
    checked(call, body.value, &body.duplicates)?
        .map_err(|complaint| Error::BadRequest(format!("{prefix}: {complaint}")))
}

/// The object must be of the kind that the path is about; one that does not say is taken for it.
pub(crate) fn identify(resource: &Resource, object: &mut Value) -> Result<(), Error> {
    let names = resource.names();
    let expected = resource.api_version();
    let Some(fields) = object.as_object_mut() else {
        return Err(Error::BadRequest(format!(
            "{} in version {:?} must be an object",
            names.kind, names.version
        )));
    };
    match fields.get("kind").and_then(Value::as_str) {
        Some(kind) if kind == names.kind => {}
        None | Some("") => {
            fields.insert("kind".to_owned(), names.kind.into());
        }
        Some(kind) => {
            return Err(Error::BadRequest(format!(
                "{kind} in version {:?} cannot be handled as a {}: the kind in the data ({kind}) does not match the expected kind ({})",
                names.version, names.kind, names.kind
            )));
        }
    }
    match fields.get("apiVersion").and_then(Value::as_str) {
        Some(version) if version == expected => Ok(()),
        None | Some("") => {
            fields.insert("apiVersion".to_owned(), expected.into());
            Ok(())
        }
        Some(version) => Err(Error::BadRequest(format!(
            "the API version in the data ({version}) does not match the expected API version ({expected})"
        ))),
    }
}

/// Checks an object against its schema. The inner error is what a caller puts into its own words;
/// the inner value is the object without what the schema does not know, and the warnings.
pub(crate) fn checked(
    call: &Call,
    object: Value,
    duplicates: &[String],
) -> Result<Result<(Value, Vec<String>), String>, Error> {
    let validation = call.query.field_validation()?;
    let checked = schema::check(&call.resource.schema, object);
    if !checked.errors.is_empty() {
        let all: Vec<String> = checked
            .errors
            .iter()
            .map(|error| format!("{}: {}", error.path, error.message))
            .collect();
        return Ok(Err(all.join(", ")));
    }
    let complaints: Vec<String> = checked
        .unknown
        .iter()
        .map(|path| format!("unknown field {path:?}"))
        .chain(
            duplicates
                .iter()
                .map(|path| format!("duplicate field {path:?}")),
        )
        .collect();
    Ok(match validation {
        FieldValidation::Strict if !complaints.is_empty() => {
            Err(format!("strict decoding error: {}", complaints.join(", ")))
        }
        FieldValidation::Ignore => Ok((checked.value, Vec::new())),
        _ => Ok((checked.value, complaints)),
    })
}
