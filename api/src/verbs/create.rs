//! POST: a new object, under the name it has or one made for it.

use bytes::Bytes;
use http::StatusCode;
use serde_json::Value;
use store::{Commit, Expect, Group, Op};

use super::{answer::Answer, call::Call, decode, metadata, view};
use crate::{admission, codec, custom::cel, error::Error, field::FieldErrors, object};

/// How often a write that others get in the way of is tried; each time somebody else succeeded.
pub(crate) const ATTEMPTS: usize = 32;

pub(crate) async fn create(call: &Call, body: &Bytes) -> Result<Answer, Error> {
    if call.resource.names().namespaced && call.namespace.is_empty() {
        return Err(Error::MethodNotAllowed);
    }
    let custom = call.resource.kind.custom();
    if custom.is_some_and(|kind| kind.terminating()) {
        return Err(Error::Forbidden {
            subject: call.subject(""),
            message: "create not allowed while custom resource definition is terminating"
                .to_owned(),
            cause: None,
        });
    }
    let (object, mut warnings) = decode::object(call, body)?;
    let (bytes, object) = insert(call, object).await?;
    warnings.extend(call.resource.kind.warnings(&object));
    let shown = view::one(call, bytes)?;
    Ok(Answer::new(StatusCode::CREATED, shown).with_warnings(warnings))
}

/// Completes, checks and writes a new object; answers it as clients get it.
async fn insert(call: &Call, mut object: Value) -> Result<(Bytes, Value), Error> {
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
    kind.validate_create(&object, &mut errors);
    if errors.is_empty() {
        errors = cel::check(&call.resource, &object, None).await;
    }
    if !errors.is_empty() {
        return Err(Error::Invalid {
            subject: call.subject(object::name(&object)),
            errors,
        });
    }
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
        let value = call.resource.stored(&mut ready).await?;
        ops.push(Op::Put {
            key: key.clone(),
            expect: Expect::Absent,
            value: value.clone(),
        });
        match call.server.cache.write(Group { ops }).await? {
            Commit::Done(revisions) => {
                let revision = revisions.last().copied().unwrap_or_default();
                let bytes = codec::with_revision(&value, revision).map_err(Error::internal)?;
                return Ok((call.resource.served(bytes).await?, ready));
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
