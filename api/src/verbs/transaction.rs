//! Several applies as one write: all of their objects, or none.
//!
//! A `Transaction` of `apply.wk.dev/v1` is created, answered and never stored. Each of its objects is applied as a PATCH of
//! its own would apply it (decision 007): the same rights, defaults, admission and checks, in the order in which they are
//! given. Only the end differs: what each would commit is gathered in a [`Together`], and commits as one group of the store.
//! So watchers see the objects in their order, and nobody sees some of them alone.
//!
//! An object is judged by what is there before the transaction: it cannot need another object of the same transaction to be
//! admitted (a namespace for what is in it, a ServiceAccount for a Pod).

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use serde_json::{Map, Value, json};
use store::{Commit, Group, Key, Op, Revision};

use super::{
    accept::View, answer::Answer, apply, call::Call, change::Part, create::ATTEMPTS, decode,
    managed, patch, payload::Payload,
};
use crate::{
    admission::quota,
    auth::{Attributes, authorizer},
    error::Error,
    field::{FieldErrors, Path},
    object,
    server::{
        resources,
        state::{Resource, Server},
    },
};

/// The kind's group.
pub(crate) const GROUP: &str = "apply.wk.dev";

/// Most objects of a transaction; a body's own bound is in its bytes.
const OBJECTS: usize = 500;
/// Most bytes of all that a transaction writes: it is one commit, for which all other writers wait.
const BYTES: usize = 8 << 20;
/// How often objects of one transaction may choose what another has taken, an address say.
const COLLISIONS: usize = 64;

/// Answers the POST of a transaction.
pub(crate) async fn serve(call: &Call, body: &Bytes) -> Result<Response, Error> {
    let (mut transaction, warnings) = decode::object(call, body)?;
    let mut calls = calls(call, &transaction)?;
    for (call, _) in &calls {
        managed::check_options(call, "patch")?;
        authorize(call).await?;
    }
    let dry_run = call.query.dry_run()?;
    for attempt in 0..ATTEMPTS {
        if attempt > 0 {
            call.server.cache.fresh().await?;
        }
        let together = Arc::new(Together::default());
        let mut outcomes = Vec::new();
        for (one, body) in &mut calls {
            one.together = (!dry_run).then(|| together.clone());
            outcomes.push(Outcome::of(one, body, &together).await?);
        }
        let Some(revisions) = together.commit(&call.server).await? else {
            continue;
        };
        let objects = outcomes.into_iter().map(|outcome| outcome.told(&revisions));
        transaction["status"] = json!({"objects": objects.collect::<Vec<_>>()});
        if !transaction["metadata"].is_object() {
            transaction["metadata"] = Value::Object(Map::new());
        }
        // It was said once, and may be large.
        if let Some(fields) = transaction.as_object_mut() {
            fields.remove("spec");
        }
        let answer = Answer::json(StatusCode::CREATED, &transaction).with_warnings(warnings);
        return Ok(answer.into_response());
    }
    Err(Error::TooManyRequests)
}

/// One call for each object, with its body; refuses a transaction that is none.
fn calls(call: &Call, transaction: &Value) -> Result<Vec<(Call, Bytes)>, Error> {
    let path = Path::root("spec").field("objects");
    let mut errors = FieldErrors::default();
    let objects = transaction["spec"]["objects"].as_array();
    let objects = objects.map(Vec::as_slice).unwrap_or_default();
    if objects.is_empty() {
        errors.required(&path, "a transaction has at least one object");
    }
    if objects.len() > OBJECTS {
        let message = format!("must have at most {OBJECTS} items");
        errors.invalid(&path, json!(objects.len()), message);
    }
    let mut calls: Vec<(Call, Bytes)> = Vec::new();
    let mut seen = BTreeSet::new();
    if errors.is_empty() {
        for (index, object) in objects.iter().enumerate() {
            let path = path.index(index);
            let Some(one) = one(call, object, &path, &mut errors) else {
                continue;
            };
            let key = one.key(&one.name);
            if !seen.insert(key.to_string()) {
                let named = json!(one.name);
                errors.invalid(
                    &path.field("metadata").field("name"),
                    named,
                    "the transaction has this object twice",
                );
            }
            calls.push((one, Bytes::from(object.to_string())));
        }
    }
    if errors.is_empty() {
        return Ok(calls);
    }
    Err(Error::Invalid {
        subject: call.subject(""),
        errors,
    })
}

/// The call that applies one object.
fn one(call: &Call, object: &Value, path: &Path, errors: &mut FieldErrors) -> Option<Call> {
    let text = |field: &str| object[field].as_str().unwrap_or_default();
    let (version, kind) = (text("apiVersion"), text("kind"));
    let Some(resource) = call.server.find_kind(version, kind) else {
        let message = format!("the server serves no such kind in {version:?}");
        errors.invalid(&path.field("kind"), json!(kind), message);
        return None;
    };
    if !resource.kind.is_stored() || !resource.kind.verbs().contains(&"patch") {
        let message = "objects of this kind cannot be applied";
        errors.invalid(&path.field("kind"), json!(kind), message);
        return None;
    }
    let metadata = path.field("metadata");
    let name = object::name(object);
    if name.is_empty() {
        errors.required(&metadata.field("name"), "");
        return None;
    }
    let namespace = object::text(object, "namespace");
    match (resource.names().namespaced, namespace.is_empty()) {
        (true, true) => {
            errors.required(&metadata.field("namespace"), "");
            return None;
        }
        (false, false) => {
            let message = "an object of the whole cluster has no namespace";
            errors.invalid(&metadata.field("namespace"), json!(namespace), message);
            return None;
        }
        _ => {}
    }
    let mut headers = call.headers.clone();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static(apply::MEDIA_TYPE),
    );
    Some(Call {
        server: call.server.clone(),
        user: call.user.clone(),
        resource,
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        subresource: None,
        query: call.query.clone(),
        view: View::Object,
        headers,
        draining: call.draining.clone(),
        warnings: call.warnings.clone(),
        together: None,
    })
}

/// May the user apply this object? Whether it may be made is asked where it is.
async fn authorize(call: &Call) -> Result<(), Error> {
    let names = call.resource.names();
    // A Namespace is in itself.
    let itself = names.group.is_empty() && names.plural == "namespaces";
    let asked = authorizer::Resource {
        group: names.group,
        resource: names.plural,
        subresource: "",
        namespace: if itself { &call.name } else { &call.namespace },
        name: &call.name,
        fields: None,
    };
    let asked = Attributes::resource("patch", asked);
    resources::allow(&call.server, &call.user, &asked).await
}

/// What became of one object.
struct Outcome {
    resource: Arc<Resource>,
    namespace: String,
    name: String,
    uid: String,
    /// As it was answered: that of an object that did not change.
    version: String,
    outcome: &'static str,
    /// Which operation of the group writes it.
    place: Option<usize>,
}

impl Outcome {
    async fn of(call: &Call, body: &Bytes, together: &Together) -> Result<Outcome, Error> {
        together.begin();
        let answer = patch::patch(call, Part::Main, body).await?;
        for warning in answer.warnings {
            call.warnings.add(warning);
        }
        let shown: Value = match answer.body {
            Payload::Whole(bytes) => serde_json::from_slice(&bytes).map_err(Error::internal)?,
            Payload::List(_) => return Err(Error::internal("an apply answers one object")),
        };
        let place = together.written();
        let outcome = match (answer.code, call.query.dry_run()?, place) {
            (StatusCode::CREATED, ..) => "created",
            (_, false, None) => "unchanged",
            _ => "configured",
        };
        Ok(Outcome {
            resource: call.resource.clone(),
            namespace: call.namespace.clone(),
            name: call.name.clone(),
            uid: object::uid(&shown).to_owned(),
            version: object::resource_version(&shown).to_owned(),
            outcome,
            place,
        })
    }

    fn told(self, revisions: &[Revision]) -> Value {
        let committed = self.place.and_then(|place| revisions.get(place));
        let version = committed.map_or(self.version, Revision::to_string);
        let mut told = json!({
            "apiVersion": self.resource.api_version(),
            "kind": self.resource.names().kind,
            "name": self.name,
            "uid": self.uid,
            "resourceVersion": version,
            "outcome": self.outcome,
        });
        if !self.namespace.is_empty() {
            told["namespace"] = self.namespace.into();
        }
        told
    }
}

/// Writes that commit together.
#[derive(Debug, Default)]
pub(crate) struct Together(Mutex<Gathered>);

#[derive(Debug, Default)]
struct Gathered {
    ops: Vec<Op>,
    places: HashMap<Key, usize>,
    /// Of the values of all operations.
    bytes: usize,
    charges: Vec<quota::Charge>,
    touched: BTreeSet<String>,
    /// The last operation of the object that is being applied.
    last: Option<usize>,
    collisions: usize,
}

/// The bytes of a value that an operation writes.
fn size(op: &Op) -> usize {
    match op {
        Op::Check { .. } => 0,
        Op::Put { value, .. } | Op::Delete { value, .. } => value.len(),
    }
}

impl Together {
    /// Takes a write in place of committing it. Answers as the store would, but for revisions, which nobody knows yet.
    pub(crate) fn join(
        &self,
        call: &Call,
        ops: Vec<Op>,
        charge: Option<quota::Charge>,
        touched: Option<String>,
    ) -> Result<Commit, Error> {
        let mut gathered = self.lock();
        let taken = ops.iter().find(|op| {
            let other = gathered.places.get(op.key()).map(|&at| &gathered.ops[at]);
            other.is_some_and(|other| !agree(other, op))
        });
        if let Some(taken) = taken {
            let key = taken.key().clone();
            gathered.collisions += 1;
            if gathered.collisions > COLLISIONS {
                return Err(Error::Conflict {
                    subject: call.subject(&call.name),
                    message: format!("another object of the transaction takes {key} too"),
                });
            }
            let current = None;
            return Ok(Commit::Conflict { key, current });
        }
        let revisions = vec![Revision(0); ops.len()];
        gathered.bytes += ops.iter().map(size).sum::<usize>();
        if gathered.bytes > BYTES {
            return Err(Error::TooLarge { limit: BYTES });
        }
        for op in ops {
            let at = gathered.add(op);
            gathered.last = Some(at);
        }
        gathered.charges.extend(charge);
        gathered.touched.extend(touched);
        Ok(Commit::Done(revisions))
    }

    /// From here on the operations are another object's.
    fn begin(&self) {
        self.lock().last = None;
    }

    /// Which operation writes the object; none if it is as it should be.
    fn written(&self) -> Option<usize> {
        self.lock().last
    }

    /// Commits what was gathered, with what it uses of quotas; `None` if somebody else was faster.
    async fn commit(&self, server: &Server) -> Result<Option<Vec<Revision>>, Error> {
        let gathered = std::mem::take(&mut *self.lock());
        if gathered.ops.is_empty() {
            return Ok(Some(Vec::new()));
        }
        let mut ops = gathered.ops;
        let priced = quota::price(server, &gathered.charges).await?;
        let priced = priced
            .into_iter()
            .filter(|op| !gathered.places.contains_key(op.key()));
        ops.extend(priced);
        match server.cache.write(Group { ops }).await? {
            Commit::Done(revisions) => {
                for namespace in gathered.touched {
                    server.quota.touch(namespace);
                }
                Ok(Some(revisions))
            }
            Commit::Conflict { .. } => Ok(None),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Gathered> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Gathered {
    /// Adds an operation; one that is there and says no more is enough for both.
    fn add(&mut self, op: Op) -> usize {
        if let Some(&at) = self.places.get(op.key()) {
            if matches!(self.ops[at], Op::Check { .. }) {
                self.ops[at] = op;
            }
            return at;
        }
        self.places.insert(op.key().clone(), self.ops.len());
        self.ops.push(op);
        self.ops.len() - 1
    }
}

/// Whether two operations on one key can be one: both expect the same, and at most one of them writes.
fn agree(one: &Op, other: &Op) -> bool {
    let checks = |op: &Op| matches!(op, Op::Check { .. });
    (checks(one) || checks(other)) && one.expect() == other.expect()
}

#[cfg(test)]
mod tests {
    use store::{Expect, ResourceKey};

    use super::*;

    fn key(name: &str) -> Key {
        ResourceKey::new("", "namespaces").key("", name)
    }

    fn check(name: &str, revision: u64) -> Op {
        let expect = Expect::At(Revision(revision));
        Op::Check {
            key: key(name),
            expect,
        }
    }

    fn put(name: &str, revision: u64) -> Op {
        Op::Put {
            key: key(name),
            expect: Expect::At(Revision(revision)),
            value: Bytes::new(),
        }
    }

    #[test]
    fn operations_on_one_key_are_one_if_they_can_be() {
        assert!(agree(&check("a", 1), &check("a", 1)));
        assert!(agree(&check("a", 1), &put("a", 1)));
        assert!(!agree(&check("a", 1), &check("a", 2)));
        assert!(!agree(&put("a", 1), &put("a", 1)));
    }

    #[test]
    fn a_write_takes_the_place_of_a_check() {
        let mut gathered = Gathered::default();
        assert_eq!(gathered.add(check("a", 1)), 0);
        assert_eq!(gathered.add(check("b", 1)), 1);
        assert_eq!(gathered.add(put("a", 1)), 0);
        assert_eq!(gathered.add(check("a", 1)), 0);
        assert!(matches!(gathered.ops[0], Op::Put { .. }));
        assert_eq!(gathered.ops.len(), 2);
    }
}
