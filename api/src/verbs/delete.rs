//! DELETE: at once, after a grace period, or when the last finalizer lets go.

use bytes::Bytes;
use http::StatusCode;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use store::{Commit, Expect, Op};

use super::{answer::Answer, call::Call, change::is_held, create::ATTEMPTS, decode, view};
use crate::{
    admission::{self, Review, lifecycle},
    codec,
    error::Error,
    kinds::Kind,
    object, time,
};

const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";

/// What happens to the objects that the deleted one owns.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Propagation {
    Background,
    Foreground,
    Orphan,
}

/// `DeleteOptions`, from body and query.
#[derive(Clone, Default, Debug)]
pub(crate) struct DeleteOptions {
    grace_seconds: Option<i64>,
    propagation: Option<Propagation>,
    uid: Option<String>,
    resource_version: Option<String>,
    dry_run: bool,
}

impl DeleteOptions {
    pub(crate) fn read(call: &Call, body: &Bytes) -> Result<Self, Error> {
        let given = if body.iter().all(u8::is_ascii_whitespace) {
            Value::Null
        } else {
            decode::body(call, body, "meta.k8s.io/v1", "DeleteOptions")?.value
        };
        Self::of(call, &given)
    }

    /// Reads options that are part of something else.
    pub(crate) fn of(call: &Call, given: &Value) -> Result<Self, Error> {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let grace_seconds = match &given["gracePeriodSeconds"] {
            Value::Null => call.query.integer("gracePeriodSeconds")?,
            value => Some(value.as_i64().ok_or_else(|| {
                Error::BadRequest(format!(
                    "DeleteOptions: gracePeriodSeconds: Invalid value: {value}: must be an integer"
                ))
            })?),
        };
        let policy = text(&given["propagationPolicy"])
            .or_else(|| call.query.text("propagationPolicy").map(str::to_owned));
        let orphans = match given["orphanDependents"].as_bool() {
            Some(orphans) => Some(orphans),
            None => call.query.flag("orphanDependents")?,
        };
        let propagation = match (policy.as_deref(), orphans) {
            (None, None) => None,
            (None, Some(true)) | (Some("Orphan"), None) => Some(Propagation::Orphan),
            (None, Some(false)) | (Some("Background"), None) => Some(Propagation::Background),
            (Some("Foreground"), None) => Some(Propagation::Foreground),
            (Some(_), Some(_)) => {
                return Err(Error::BadRequest(
                    "DeleteOptions: orphanDependents and propagationPolicy cannot be both set"
                        .to_owned(),
                ));
            }
            (Some(other), None) => {
                return Err(Error::BadRequest(format!(
                    "DeleteOptions: propagationPolicy: Unsupported value: {other:?}: supported values: \"Background\", \"Foreground\", \"Orphan\""
                )));
            }
        };
        let dry_run = given["dryRun"]
            .as_array()
            .is_some_and(|values| values.iter().any(|value| value == "All"));
        Ok(Self {
            grace_seconds: grace_seconds.map(|seconds| seconds.max(0)),
            propagation,
            uid: text(&given["preconditions"]["uid"]),
            resource_version: text(&given["preconditions"]["resourceVersion"]),
            dry_run: dry_run || call.query.dry_run()?,
        })
    }

    pub(crate) fn dry_run(&self) -> bool {
        self.dry_run
    }

    /// Whether only one state of the object is to be deleted.
    pub(crate) fn expects_revision(&self) -> bool {
        self.resource_version.is_some()
    }

    /// Only this state of the object is deleted.
    pub(crate) fn expect_revision(&mut self, revision: &str) {
        self.resource_version = Some(revision.to_owned());
    }

    /// Whether the object is the one that is to be deleted.
    pub(crate) fn check(&self, call: &Call, object: &Value) -> Result<(), Error> {
        check_preconditions(call, object::name(object), object, self)
    }
}

impl DeleteOptions {
    /// As webhooks see them.
    fn value(&self) -> Value {
        let mut value = json!({"kind": "DeleteOptions", "apiVersion": "meta.k8s.io/v1"});
        if let Some(seconds) = self.grace_seconds {
            value["gracePeriodSeconds"] = seconds.into();
        }
        if let Some(propagation) = self.propagation {
            value["propagationPolicy"] = format!("{propagation:?}").into();
        }
        for (field, text) in [
            ("uid", &self.uid),
            ("resourceVersion", &self.resource_version),
        ] {
            if let Some(text) = text {
                value["preconditions"][field] = text.as_str().into();
            }
        }
        if self.dry_run {
            value["dryRun"] = json!(["All"]);
        }
        value
    }
}

/// What a delete does to an object.
#[derive(PartialEq, Debug)]
enum Plan {
    Remove,
    Mark(Value),
    /// It is being deleted already, and no later than asked.
    Nothing,
}

/// The object as it was last, and whether it is gone.
pub(crate) struct Deleted {
    pub(crate) bytes: Bytes,
    pub(crate) object: Value,
    pub(crate) removed: bool,
}

pub(crate) async fn delete(call: &Call, body: &Bytes) -> Result<Answer, Error> {
    let options = DeleteOptions::read(call, body)?;
    let deleted = remove(call, &call.name, &options).await?;
    let names = call.resource.names();
    // These kinds answer the object even when it is gone.
    let shows =
        names.group.is_empty() && matches!(names.plural, "pods" | "services" | "serviceaccounts");
    if deleted.removed && !shows {
        let subject = call.subject(&call.name);
        return Ok(Answer::success(
            StatusCode::OK,
            &subject,
            object::uid(&deleted.object),
        ));
    }
    Ok(Answer::ok(view::one(call, deleted.bytes)?))
}

/// Deletes one object, or marks it as to be deleted.
pub(crate) async fn remove(
    call: &Call,
    name: &str,
    options: &DeleteOptions,
) -> Result<Deleted, Error> {
    let review = Review::delete(call, name, options.dry_run, options.value());
    lifecycle::admit(&review)?;
    let key = call.key(name);
    for attempt in 0..ATTEMPTS {
        // As for a change: what the cache has will do for the first time, since the commit fails if it
        // is not the newest; an answer without a commit must be of the newest state.
        let newest = attempt > 0 || options.dry_run || admission::calls_out(&review);
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
        let mut object: Value = serde_json::from_slice(&current).map_err(Error::internal)?;
        match check_preconditions(call, name, &object, options) {
            Err(_) if !newest => continue,
            checked => checked?,
        }
        admission::mutate(&review, None, Some(&object)).await?;
        let admitted = admission::validate(&review, None, Some(&object)).await?;
        let held = |object: &Value| is_held(call, object);
        let plan = plan(
            &*call.resource.kind,
            &object,
            options,
            held,
            call.server.now(),
        );
        let expect = Expect::At(item.revision);
        let (ops, value, removed) = match plan {
            Plan::Nothing if !newest => continue,
            Plan::Nothing => {
                return Ok(Deleted {
                    bytes: current,
                    object,
                    removed: false,
                });
            }
            Plan::Mark(mut marked) => {
                if lifecycle::is_namespace(call) {
                    marked["status"]["phase"] = "Terminating".into();
                }
                let value = call.resource.stored(&mut marked).await?;
                object = marked;
                let put = Op::Put {
                    key: key.clone(),
                    expect,
                    value: value.clone(),
                };
                (vec![put], value, false)
            }
            Plan::Remove => {
                let mut ops = admission::release(call, &object);
                let value = call.resource.stored(&mut object).await?;
                ops.push(Op::Delete {
                    key: key.clone(),
                    expect,
                    value: value.clone(),
                });
                (ops, value, true)
            }
        };
        let revision = if options.dry_run {
            item.revision
        } else {
            match admitted.commit(call, ops).await? {
                Commit::Done(revisions) => revisions.last().copied().unwrap_or_default(),
                Commit::Conflict { .. } => continue,
            }
        };
        let bytes = codec::with_revision(&value, revision).map_err(Error::internal)?;
        return Ok(Deleted {
            bytes: call.resource.served(bytes).await?,
            object,
            removed,
        });
    }
    Err(Error::modified(call.subject(name)))
}

fn check_preconditions(
    call: &Call,
    name: &str,
    object: &Value,
    options: &DeleteOptions,
) -> Result<(), Error> {
    let pairs = [
        ("UID", &options.uid, object::uid(object)),
        (
            "ResourceVersion",
            &options.resource_version,
            object::resource_version(object),
        ),
    ];
    for (what, wanted, found) in pairs {
        if let Some(wanted) = wanted.as_deref().filter(|wanted| *wanted != found) {
            return Err(Error::Conflict {
                subject: call.subject(name),
                message: format!(
                    "Precondition failed: {what} in precondition: {wanted}, {what} in object meta: {found}"
                ),
            });
        }
    }
    Ok(())
}

/// Decides what a delete does. Pure.
fn plan(
    kind: &dyn Kind,
    object: &Value,
    options: &DeleteOptions,
    held: impl Fn(&Value) -> bool,
    now: Timestamp,
) -> Plan {
    let mut marked = object.clone();
    if !object::deleting(object) {
        kind.prepare_delete(&mut marked);
    }
    set_finalizers(&mut marked, options.propagation);
    let held = held(&marked);
    let had = object::deletion_grace_seconds(object);
    let grace = if object::deleting(object) {
        let had = had.unwrap_or_default();
        // A grace period only ever gets shorter.
        options.grace_seconds.map_or(had, |asked| asked.min(had))
    } else {
        kind.grace_seconds(object, options.grace_seconds).max(0)
    };
    if grace == 0 && !held {
        return Plan::Remove;
    }
    if !object::deleting(object) || had != Some(grace) {
        let since = if object::deleting(object) {
            // The time of the first request: the mark is that time and the grace period.
            object::text(object, "deletionTimestamp")
                .parse()
                .unwrap_or(now)
                .saturating_sub(SignedDuration::from_secs(had.unwrap_or_default()))
                .unwrap_or(now)
        } else {
            now
        };
        let end = since
            .saturating_add(SignedDuration::from_secs(grace))
            .unwrap_or(since);
        object::set(&mut marked, "deletionTimestamp", time::seconds(end));
        object::set(&mut marked, "deletionGracePeriodSeconds", grace);
        let generation = object::generation(object);
        if generation > 0 && !object::deleting(object) {
            object::set(&mut marked, "generation", generation + 1);
        }
    }
    if marked == *object {
        Plan::Nothing
    } else {
        Plan::Mark(marked)
    }
}

/// The garbage collector's finalizers, as the propagation policy wants them; without a policy they stay.
fn set_finalizers(object: &mut Value, propagation: Option<Propagation>) {
    let Some(propagation) = propagation else {
        return;
    };
    let mut finalizers: Vec<&str> = object::finalizers(object)
        .into_iter()
        .filter(|finalizer| ![ORPHAN, FOREGROUND].contains(finalizer))
        .collect();
    match propagation {
        Propagation::Background => {}
        Propagation::Foreground => finalizers.push(FOREGROUND),
        Propagation::Orphan => finalizers.push(ORPHAN),
    }
    let finalizers = json!(finalizers);
    if finalizers == json!([]) {
        object::unset(object, "finalizers");
    } else {
        object::set(object, "finalizers", finalizers);
    }
}
