//! Objects in the shape that the client asked for.

use bytes::Bytes;
use serde_json::{Value, json};

use super::{
    accept::{MetaVersion, View},
    call::Call,
};
use crate::{
    error::Error,
    object,
    table::{self, IncludeObject},
};

pub(crate) fn parse(bytes: &Bytes) -> Result<Value, Error> {
    serde_json::from_slice(bytes).map_err(Error::internal)
}

/// One object.
pub(crate) fn one(call: &Call, bytes: Bytes) -> Result<Bytes, Error> {
    Ok(match call.view {
        View::Object => bytes,
        View::Table(version) => {
            let object = parse(&bytes)?;
            let meta = json!({"resourceVersion": object::resource_version(&object)});
            Bytes::from(table(call, version, &[object], meta)?.to_string())
        }
        View::Metadata(version) => Bytes::from(metadata(parse(&bytes)?, version).to_string()),
    })
}

/// A table of objects.
pub(crate) fn table(
    call: &Call,
    version: MetaVersion,
    objects: &[Value],
    list_meta: Value,
) -> Result<Value, Error> {
    let asked = call.query.text("includeObject").unwrap_or_default();
    let include = IncludeObject::parse(asked).ok_or_else(|| {
        Error::BadRequest(format!(
            "includeObject: Unsupported value: {asked:?}: supported values: \"None\", \"Metadata\", \"Object\""
        ))
    })?;
    let kind = &*call.resource.kind;
    let mut table = table::render(kind, objects, list_meta, include, call.server.now());
    table["apiVersion"] = version.api_version().into();
    Ok(table)
}

/// Only an object's metadata.
pub(crate) fn metadata(mut object: Value, version: MetaVersion) -> Value {
    json!({
        "kind": "PartialObjectMetadata",
        "apiVersion": version.api_version(),
        "metadata": object["metadata"].take(),
    })
}
