//! PUT: the whole object, as the client wants it.

use bytes::Bytes;

use super::{
    answer::Answer,
    call::Call,
    change::{Part, change},
    decode, view,
};
use crate::{error::Error, object};

pub(crate) async fn update(call: &Call, part: Part, body: &Bytes) -> Result<Answer, Error> {
    let (object, mut warnings) = decode::object(call, body)?;
    if object::name(&object).is_empty() {
        return Err(Error::BadRequest(format!(
            "the name of the object must be set in metadata.name and match the name on the URL ({})",
            call.name
        )));
    }
    let changed = change(call, &call.name, part, |_| Ok(object.clone())).await?;
    warnings.extend(part.warnings(call, &changed.object));
    Ok(Answer::ok(view::one(call, changed.bytes)?).with_warnings(warnings))
}
