//! What update, patch and every subresource that writes share: read, edit, check, compare-and-swap.

use bytes::Bytes;
use serde_json::Value;
use store::{Commit, Expect, Op};

use super::{call::Call, create::ATTEMPTS, managed, metadata};
use crate::{
    admission::{self, Admitted, Review, lifecycle},
    auth::rbac::escalation,
    codec,
    custom::cel,
    error::Error,
    field::FieldErrors,
    kinds::{
        not_acted_on,
        pod::{ephemeral, resize},
    },
    object,
};

/// Which part of an object a write is about: the rest stays as it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Part {
    /// Everything but the status.
    Main,
    Status,
    /// A pod's ephemeral containers.
    EphemeralContainers,
    /// The resources of a pod's containers.
    Resize,
    /// The conditions of a request for a certificate.
    Approval,
    /// A Namespace's `spec.finalizers`.
    Finalize,
    /// Exactly what the server's own edit says: a pod's binding.
    System,
}

/// Who owns what a write changes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Ownership {
    /// The writer takes what is changed. The edit does not see who owns what.
    Taken,
    /// The same, but the edit may change who owns what.
    Edited,
    /// The edit says so itself: an apply.
    Said,
}

impl Part {
    /// What the user of this part should know though the change is made.
    pub(crate) fn warnings(self, call: &Call, object: &Value) -> Vec<String> {
        match self {
            Self::Main | Self::EphemeralContainers => call.resource.kind.warnings(object),
            Self::Resize => vec![not_acted_on::kind(
                "resize containers that run",
                "they go on with what they had",
            )],
            Self::Status | Self::Approval | Self::Finalize | Self::System => Vec::new(),
        }
    }
}

/// How a change ended.
pub(crate) struct Changed {
    /// The object as clients get it.
    pub(crate) bytes: Bytes,
    pub(crate) object: Value,
}

/// Changes an object. `edit` makes the new object from the old one, each time it is tried; it refuses
/// by an error. If what it makes names a `resourceVersion` that is not the old one's, that is a conflict;
/// otherwise a faster writer only means that it is tried again.
pub(crate) async fn change(
    call: &Call,
    name: &str,
    part: Part,
    edit: impl FnMut(&Value) -> Result<Value, Error>,
) -> Result<Changed, Error> {
    change_as(call, name, part, Ownership::Taken, edit).await
}

/// The same, with a say in who owns what is changed.
pub(crate) async fn change_as(
    call: &Call,
    name: &str,
    part: Part,
    ownership: Ownership,
    mut edit: impl FnMut(&Value) -> Result<Value, Error>,
) -> Result<Changed, Error> {
    let review = Review::update(call, name)?;
    let dry = review.dry_run;
    let asked = dry || (part != Part::System && admission::calls_out(&review));
    let key = call.key(name);
    for attempt in 0..ATTEMPTS {
        // The first time, what the cache has will do: the commit fails if it is not the newest. Any
        // other end (a refusal, nothing to change) must be that of the newest state.
        let newest = attempt > 0 || asked;
        if newest {
            call.server.cache.fresh().await?;
        }
        let Some(item) = call.server.cache.get(&key) else {
            if newest {
                return Err(call.not_found(name));
            }
            continue;
        };
        let current = call.resource.served(item.decoded.value.clone()).await?;
        let mut old: Value = serde_json::from_slice(&current).map_err(Error::internal)?;
        // Owners are large and hardly anybody's business: what can works without them.
        let hidden = (ownership == Ownership::Taken)
            .then(|| object::take(&mut old, "managedFields"))
            .flatten();
        let edited = match edit(&old) {
            Ok(object) => {
                let before = hidden.or_else(|| object::take(&mut old, "managedFields"));
                admit(&review, part, ownership, object, &mut old, before).await
            }
            Err(error) => Err(error),
        };
        let (mut object, mut ops, admitted) = match edited {
            Err(_) if !newest => continue,
            edited => edited?,
        };
        let same = object == old && !call.resource.outdated(&item.decoded.value);
        if same && !newest {
            continue;
        }
        if same {
            return Ok(Changed {
                bytes: current,
                object,
            });
        }
        if dry {
            return Ok(Changed {
                bytes: call.fit(Bytes::from(object.to_string()))?,
                object,
            });
        }
        let value = call.fit(call.resource.stored(&mut object).await?)?;
        let expect = Expect::At(item.revision);
        if is_finished(call, &object, &old) {
            ops.extend(admission::release(call, &old));
            ops.push(Op::Delete {
                key: key.clone(),
                expect,
                value: value.clone(),
            });
        } else {
            ops.push(Op::Put {
                key: key.clone(),
                expect,
                value: value.clone(),
            });
        }
        if let Commit::Done(revisions) = admitted.commit(call, ops).await? {
            let revision = revisions.last().copied().unwrap_or_default();
            let bytes = codec::with_revision(&value, revision).map_err(Error::internal)?;
            return Ok(Changed {
                bytes: call.resource.served(bytes).await?,
                object,
            });
        }
    }
    Err(Error::modified(call.subject(name)))
}

/// Brings an edited object through admission and preparation; answers it as it will be stored, with
/// what commits along with it. `before`: who owned what, which `old` has back at the end.
async fn admit(
    review: &Review<'_>,
    part: Part,
    ownership: Ownership,
    mut object: Value,
    old: &mut Value,
    before: Option<Value>,
) -> Result<(Value, Vec<Op>, Admitted), Error> {
    let call = review.call;
    let said = object::take(&mut object, "managedFields");
    if part == Part::System {
        prepare(call, part, &mut object, old)?;
        managed::set(&mut object, before.clone());
        managed::set(old, before);
        return Ok((object, Vec::new(), Admitted::default()));
    }
    if part == Part::Main {
        call.resource.kind.default(&mut object);
    }
    // What admission adds belongs to nobody; of other parts, only what is taken counts.
    let owners = |object: &Value, old: &Value| match ownership {
        Ownership::Said => Ok(said.clone()),
        _ => managed::of_changed(call, object, said.clone(), old, before.clone()),
    };
    let wanted = match part {
        Part::Main => Some(owners(&object, old)?),
        _ => None,
    };
    // A part of a kind of its own was admitted as what it is.
    let as_owner = review.own_kind().is_none();
    if as_owner {
        admission::mutate(review, Some(&mut object), Some(old)).await?;
    }
    prepare(call, part, &mut object, old)?;
    if matches!(part, Part::Main | Part::Status) {
        let errors = cel::check(&call.resource, &object, Some(old)).await;
        if !errors.is_empty() {
            return Err(Error::Invalid {
                subject: call.subject(object::name(old)),
                errors,
            });
        }
    }
    escalation::check(call, &object, Some(old))?;
    let owners = match wanted {
        Some(owners) => owners,
        None => owners(&object, old)?,
    };
    managed::set(&mut object, owners);
    managed::set(old, before);
    if !as_owner {
        return Ok((object, Vec::new(), Admitted::default()));
    }
    let ops = admission::allocate(call, &mut object, Some(old))?;
    let admitted = admission::validate(review, Some(&object), Some(old)).await?;
    Ok((object, ops, admitted))
}

/// Keeps what this write may not change, and checks the rest.
fn prepare(call: &Call, part: Part, object: &mut Value, old: &Value) -> Result<(), Error> {
    let kind = &call.resource.kind;
    metadata::keep(call, object, old)?;
    match part {
        Part::System => return Ok(()),
        Part::Finalize => {
            let finalizers = object["spec"]["finalizers"].take();
            *object = old.clone();
            object["spec"]["finalizers"] = match finalizers {
                Value::Array(_) => finalizers,
                _ => Value::Array(Vec::new()),
            };
            return Ok(());
        }
        Part::Main => {
            kind.prepare_update(object, old);
        }
        Part::EphemeralContainers => {
            kind.default(object);
            ephemeral::take(object, old);
            kind.prepare_update(object, old);
        }
        Part::Resize => {
            resize::take(object, old);
            kind.default(object);
            kind.prepare_update(object, old);
        }
        Part::Status => kind.prepare_status(object, old),
        Part::Approval => kind.prepare_approval(object, old),
    }
    kind.stamp(object, Some(old), &call.stamp());
    let mut errors = FieldErrors::default();
    metadata::validate(call, object, &mut errors);
    match part {
        Part::EphemeralContainers => {
            kind.validate(object, &mut errors);
            ephemeral::validate_change(object, old, &mut errors);
        }
        Part::Resize => {
            kind.validate(object, &mut errors);
            resize::validate(object, old, &mut errors);
        }
        Part::Status if kind.custom().is_none() => {
            kind.validate(object, &mut errors);
            kind.validate_status(object, old, &mut errors);
        }
        _ => kind.validate_change(object, old, &mut errors),
    }
    if errors.is_empty() {
        Ok(())
    } else {
        Err(Error::Invalid {
            subject: call.subject(object::name(old)),
            errors,
        })
    }
}

/// True if this write takes away the last thing that held a deleted object.
fn is_finished(call: &Call, object: &Value, old: &Value) -> bool {
    object::deleting(old)
        && object::deletion_grace_seconds(old).unwrap_or_default() == 0
        && !is_held(call, object)
}

/// True if finalizers keep the object.
pub(crate) fn is_held(call: &Call, object: &Value) -> bool {
    let namespace_finalizers = || {
        object["spec"]["finalizers"]
            .as_array()
            .is_some_and(|finalizers| !finalizers.is_empty())
    };
    !object::finalizers(object).is_empty()
        || (lifecycle::is_namespace(call) && namespace_finalizers())
}
