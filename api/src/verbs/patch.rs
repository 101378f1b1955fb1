//! PATCH: JSON patch (RFC 6902), merge patch (RFC 7386), strategic merge patch; [`apply`] does the rest.

use bytes::Bytes;
use serde_json::{Value, json};

use super::{
    answer::Answer,
    apply,
    call::Call,
    change::{Ownership, Part, change_as},
    decode, view,
};
use crate::{
    error::{Error, Subject},
    field::{FieldErrors, Path},
    schema::{
        Schema,
        merge::{self, MergeError},
    },
};

/// A patch, read and ready to be applied.
#[derive(Debug)]
pub(crate) enum Patch {
    Json(Value),
    Merge(Value),
    Strategic(Value),
}

impl Patch {
    /// Reads the body by its content type.
    pub(crate) fn read(call: &Call, body: &Bytes) -> Result<Self, Error> {
        let kind = match decode::media_type(call) {
            "application/json-patch+json" => Self::Json,
            "application/merge-patch+json" => Self::Merge,
            "application/strategic-merge-patch+json" if call.resource.kind.custom().is_some() => {
                return Err(Error::UnsupportedMediaType(
                    "the body of the request was in an unknown format - accepted media types include: \
                     application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml"
                        .to_owned(),
                ));
            }
            "application/strategic-merge-patch+json" => Self::Strategic,
            other => {
                return Err(Error::UnsupportedMediaType(format!(
                    "the body of the request was in an unknown format ({other}) - accepted media types include: \
                     application/json-patch+json, application/merge-patch+json, application/strategic-merge-patch+json, {}",
                    apply::MEDIA_TYPE
                )));
            }
        };
        let read = decode::json(body)?;
        Ok(kind(read.value))
    }

    /// The patch applied to an object; a strategic one needs the object's schema, and is a merge
    /// patch where there is none.
    pub(crate) fn apply(&self, schema: Option<&Schema>, object: Value) -> Result<Value, Error> {
        let refused = |error: MergeError| match error {
            MergeError::Invalid(text) => Error::BadRequest(text),
            MergeError::TestFailed(text) | MergeError::NotApplicable(text) => {
                Error::Unprocessable(text)
            }
        };
        match (self, schema) {
            (Self::Json(patch), _) => merge::json_patch(object, patch).map_err(refused),
            (Self::Strategic(patch), Some(schema)) => {
                merge::strategic(schema, object, patch.clone()).map_err(refused)
            }
            (Self::Merge(patch) | Self::Strategic(patch), _) => {
                Ok(merge::merge_patch(object, patch.clone()))
            }
        }
    }

    fn value(&self) -> &Value {
        match self {
            Self::Json(value) | Self::Merge(value) | Self::Strategic(value) => value,
        }
    }
}

pub(crate) async fn patch(call: &Call, part: Part, body: &Bytes) -> Result<Answer, Error> {
    if apply::is_apply(call) {
        return apply::apply(call, part, body).await;
    }
    let patch = Patch::read(call, body)?;
    let mut warnings = Vec::new();
    let ownership = if patch.value().to_string().contains("managedFields") {
        Ownership::Edited
    } else {
        Ownership::Taken
    };
    let changed = change_as(call, &call.name, part, ownership, |old| {
        let mut object = patch.apply(Some(&call.resource.schema), old.clone())?;
        decode::identify(&call.resource, &mut object)?;
        let (object, found) =
            decode::checked(call, object, &[])?.map_err(|complaint| refuse(&patch, complaint))?;
        warnings = found;
        Ok(object)
    })
    .await?;
    warnings.extend(part.warnings(call, &changed.object));
    Ok(Answer::ok(view::one(call, changed.bytes)?).with_warnings(warnings))
}

/// A patch whose result its kind's schema does not accept, as Kubernetes says it.
fn refuse(patch: &Patch, complaint: String) -> Error {
    let mut errors = FieldErrors::default();
    errors.invalid(
        &Path::root("patch"),
        json!(patch.value().to_string()),
        complaint,
    );
    Error::Invalid {
        subject: Subject::default(),
        errors,
    }
}
