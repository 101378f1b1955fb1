//! Objects in the shape that the client asked for.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json, value::RawValue};

use super::{
    accept::{MetaVersion, View},
    call::Call,
};
use crate::{
    error::Error,
    object,
    table::{self, IncludeObject},
};

pub(crate) fn parse(bytes: &[u8]) -> Result<Value, Error> {
    serde_json::from_slice(bytes).map_err(Error::internal)
}

/// One object.
pub(crate) fn one(call: &Call, bytes: Bytes) -> Result<Bytes, Error> {
    Ok(match call.view {
        View::Object => bytes,
        View::Table(version) => Bytes::from(table(call, version, &bytes)?.to_string()),
        View::Metadata(version) => metadata(&bytes, version)?,
    })
}

/// A table of one object.
pub(crate) fn table(call: &Call, version: MetaVersion, bytes: &[u8]) -> Result<Value, Error> {
    let object = parse(bytes)?;
    let kind = &*call.resource.kind;
    let cells = kind.cells(&object, call.server.now());
    one_row(call, version, kind.column_definitions(), cells, &object)
}

/// A table with one row, of an object that need not be of the call's kind.
pub(crate) fn one_row(
    call: &Call,
    version: MetaVersion,
    columns: Value,
    cells: Vec<Value>,
    object: &Value,
) -> Result<Value, Error> {
    Ok(json!({
        "kind": "Table",
        "apiVersion": version.api_version(),
        "metadata": {"resourceVersion": object::resource_version(object)},
        "columnDefinitions": columns,
        "rows": [table::row_of(cells, object, include(call)?)],
    }))
}

/// A table without rows.
pub(crate) fn empty_table(
    call: &Call,
    version: MetaVersion,
    list_meta: Value,
) -> Result<Value, Error> {
    include(call)?;
    let mut table = table::empty(&*call.resource.kind, list_meta);
    table["apiVersion"] = version.api_version().into();
    Ok(table)
}

fn include(call: &Call) -> Result<IncludeObject, Error> {
    let asked = call.query.text("includeObject").unwrap_or_default();
    IncludeObject::parse(asked).ok_or_else(|| {
        Error::BadRequest(format!(
            "includeObject: Unsupported value: {asked:?}: supported values: \"None\", \"Metadata\", \"Object\""
        ))
    })
}

/// Only an object's metadata: found in the text, nothing is built.
pub(crate) fn metadata(bytes: &[u8], version: MetaVersion) -> Result<Bytes, Error> {
    #[derive(Deserialize)]
    struct Object<'a> {
        #[serde(borrow)]
        metadata: &'a RawValue,
    }
    let object: Object<'_> = serde_json::from_slice(bytes).map_err(Error::internal)?;
    Ok(Bytes::from(format!(
        r#"{{"kind":"PartialObjectMetadata","apiVersion":"{}","metadata":{}}}"#,
        version.api_version(),
        object.metadata
    )))
}

/// How a list is written.
pub(crate) struct ListShape {
    /// Its text up to the first item.
    pub(crate) head: String,
    /// How an item is made of an object, if it is not the object itself.
    pub(crate) item: Option<ItemShape>,
}

/// What an item of a list is.
pub(crate) enum ItemShape {
    Row(IncludeObject),
    Metadata(MetaVersion),
}

impl ListShape {
    pub(crate) fn of(call: &Call, meta: &Value) -> Result<Self, Error> {
        let head = |kind: &str, version: &str| {
            format!(r#"{{"kind":"{kind}","apiVersion":"{version}","metadata":{meta},"items":["#)
        };
        Ok(match call.view {
            View::Object => Self {
                head: head(
                    &call.resource.kind.list_kind(),
                    &call.resource.api_version(),
                ),
                item: None,
            },
            View::Metadata(version) => Self {
                head: head("PartialObjectMetadataList", version.api_version()),
                item: Some(ItemShape::Metadata(version)),
            },
            View::Table(version) => Self {
                head: format!(
                    r#"{{"kind":"Table","apiVersion":"{}","metadata":{meta},"columnDefinitions":{},"rows":["#,
                    version.api_version(),
                    call.resource.kind.column_definitions(),
                ),
                item: Some(ItemShape::Row(include(call)?)),
            },
        })
    }
}

impl ItemShape {
    /// An object as an item.
    pub(crate) fn render(&self, call: &Call, bytes: &[u8]) -> Result<Bytes, Error> {
        match self {
            Self::Metadata(version) => metadata(bytes, *version),
            Self::Row(include) => {
                let object = parse(bytes)?;
                let row = table::row(&*call.resource.kind, &object, *include, call.server.now());
                Ok(Bytes::from(row.to_string()))
            }
        }
    }
}
