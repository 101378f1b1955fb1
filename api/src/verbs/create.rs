//! POST: a new object, under the name it has or one made for it. [`insert`] is how an apply makes one.

use bytes::Bytes;
use http::StatusCode;
use serde_json::Value;
use store::{Commit, Expect, Group, Op};

use super::{answer::Answer, call::Call, decode, managed, metadata, view};
use crate::{admission, codec, error::Error, field::FieldErrors, object};

/// How often a write that others get in the way of is tried; each time somebody else succeeded.
pub(crate) const ATTEMPTS: usize = 32;

pub(crate) async fn create(call: &Call, body: &Bytes) -> Result<Answer, Error> {
    if call.resource.names().namespaced && call.namespace.is_empty() {
        return Err(Error::MethodNotAllowed);
    }
    let (object, warnings) = decode::object(call, body)?;
    insert(call, object, None, warnings).await
}

/// Makes an object and answers it. `managed_fields`: what an apply says about its managers; without
/// it, who creates the object owns what is in it.
pub(crate) async fn insert(
    call: &Call,
    object: Value,
    managed_fields: Option<Value>,
    mut warnings: Vec<String>,
) -> Result<Answer, Error> {
    let (bytes, object) = commit(call, object, managed_fields).await?;
    warnings.extend(call.resource.kind.warnings(&object));
    let shown = view::one(call, bytes)?;
    Ok(Answer::new(StatusCode::CREATED, shown).with_warnings(warnings))
}

/// Completes, checks and writes a new object; answers it as clients get it.
async fn commit(
    call: &Call,
    mut object: Value,
    managed_fields: Option<Value>,
) -> Result<(Bytes, Value), Error> {
    let kind = &call.resource.kind;
    metadata::place(call, &mut object)?;
    let base = object::text(&object, "generateName").to_owned();
    let generated = object::name(&object).is_empty() && !base.is_empty();
    if generated {
        object::set(&mut object, "name", metadata::generate_name(&base));
    }
    kind.default(&mut object);
    metadata::fill_new(&mut object, call.server.now());
    kind.prepare_create(&mut object);
    let mut errors = FieldErrors::default();
    metadata::validate(call, &object, &mut errors);
    kind.validate(&object, &mut errors);
    if !errors.is_empty() {
        return Err(Error::Invalid {
            subject: call.subject(object::name(&object)),
            errors,
        });
    }
    managed::of_new(call, &mut object, managed_fields);
    let dry = call.query.dry_run()?;
    for attempt in 0..ATTEMPTS {
        if attempt > 0 || dry {
            call.server.cache.fresh().await?;
        }
        let mut ready = object.clone();
        let mut ops = match admission::admit_create(call, &mut ready) {
            // What the cache does not have yet may be there all the same.
            Err(_) if attempt == 0 && !dry => continue,
            admitted => admitted?,
        };
        let key = call.key(object::name(&ready));
        if dry {
            if call.server.cache.get(&key).is_some() {
                return Err(Error::AlreadyExists(call.subject(object::name(&ready))));
            }
            return Ok((Bytes::from(ready.to_string()), ready));
        }
        let value = codec::stored(&mut ready);
        ops.push(Op::Put {
            key: key.clone(),
            expect: Expect::Absent,
            value: value.clone(),
        });
        match call.server.cache.write(Group { ops }).await? {
            Commit::Done(revisions) => {
                let revision = revisions.last().copied().unwrap_or_default();
                let bytes = codec::with_revision(&value, revision).map_err(Error::internal)?;
                return Ok((bytes, ready));
            }
            Commit::Conflict { key: taken, .. } if taken == key && !generated => {
                return Err(Error::AlreadyExists(call.subject(object::name(&ready))));
            }
            Commit::Conflict { key: taken, .. } if taken == key => {
                object::set(&mut object, "name", metadata::generate_name(&base));
            }
            // The namespace changed or somebody took the address: look again.
            Commit::Conflict { .. } => {}
        }
    }
    Err(Error::TooManyRequests)
}
