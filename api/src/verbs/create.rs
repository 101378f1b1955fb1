//! POST: a new object, under the name it has or one made for it. [`insert`] is how an apply makes one.

use bytes::Bytes;
use http::StatusCode;
use serde_json::Value;
use store::{Commit, Expect, Op};

use super::{answer::Answer, call::Call, decode, managed, metadata, view};
use crate::{
    admission::{self, Review},
    auth::rbac::escalation,
    codec,
    custom::cel,
    error::Error,
    field::FieldErrors,
    object,
};

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
    let (object, warnings) = decode::object(call, body)?;
    insert(call, object, None, warnings).await
}

/// Makes an object and answers it. `managed_fields`: what an apply says about its managers; without
/// it, who creates the object owns what is in it.
pub(crate) async fn insert(
    call: &Call,
    object: Value,
    managed_fields: Option<Value>,
    warnings: Vec<String>,
) -> Result<Answer, Error> {
    let (bytes, object) = commit(call, object, managed_fields).await?;
    for text in call.resource.kind.warnings(&object) {
        call.warnings.add(text);
    }
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
    let mut review = Review::create(call, object::name(&object))?;
    let dry = review.dry_run;
    let newest = dry || admission::calls_out(&review);
    if newest {
        call.server.cache.fresh().await?;
    }
    // What admission adds belongs to nobody.
    let owners = managed::of_new(call, &object, managed_fields);
    admission::mutate(&review, Some(&mut object), None).await?;
    metadata::fill_new(&mut object, call.server.now());
    kind.prepare_create(&mut object);
    kind.stamp(&mut object, None, &call.stamp());
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
    escalation::check(call, &object, None)?;
    managed::set(&mut object, owners);
    for attempt in 0..ATTEMPTS {
        if attempt > 0 {
            call.server.cache.fresh().await?;
        }
        let mut ready = object.clone();
        let allocated = admission::allocate(call, &mut ready, None);
        let admitted = match allocated {
            Ok(ops) => admission::validate(&review, Some(&ready), None)
                .await
                .map(|admitted| (ops, admitted)),
            Err(error) => Err(error),
        };
        let (mut ops, admitted) = match admitted {
            // What the cache does not have yet may be there all the same.
            Err(_) if attempt == 0 && !newest => continue,
            admitted => admitted?,
        };
        let key = call.key(object::name(&ready));
        if dry {
            if call.server.cache.get(&key).is_some() {
                return Err(Error::AlreadyExists(call.subject(object::name(&ready))));
            }
            let shown = Bytes::from(ready.to_string());
            return Ok((call.fit(shown)?, ready));
        }
        let value = call.fit(call.resource.stored(&mut ready).await?)?;
        ops.push(Op::Put {
            key: key.clone(),
            expect: Expect::Absent,
            value: value.clone(),
        });
        match admitted.commit(call, ops).await? {
            Commit::Done(revisions) => {
                let revision = revisions.last().copied().unwrap_or_default();
                let bytes = codec::with_revision(&value, revision).map_err(Error::internal)?;
                return Ok((call.resource.served(bytes).await?, ready));
            }
            Commit::Conflict { key: taken, .. } if taken == key && !generated => {
                return Err(Error::AlreadyExists(call.subject(object::name(&ready))));
            }
            Commit::Conflict { key: taken, .. } if taken == key => {
                review.name = metadata::generate_name(&base);
                object::set(&mut object, "name", &*review.name);
            }
            // The namespace changed or somebody took the address: look again.
            Commit::Conflict { .. } => {}
        }
    }
    Err(Error::TooManyRequests)
}
