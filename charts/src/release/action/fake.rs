//! A cluster in memory: keeps what it is told, becomes ready at once, and may end an action at any step.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::release::{
    CallError, Cluster, ObjectId, Report,
    cluster::{Apply, Propagation, Scope, Served},
};

#[derive(Default)]
struct State {
    objects: BTreeMap<ObjectId, Value>,
    revision: u64,
    seconds: i64,
    /// Calls until the process that makes them is killed: it never hears of the answer.
    left: Option<u32>,
    /// Whether that happened: time does not pass for it either.
    killed: bool,
    /// Whether the last call still takes effect.
    effective: bool,
    said: Vec<String>,
    /// Names of objects that the server refuses.
    refuse: Vec<String>,
    /// Whether it applies several objects as one write.
    transacts: bool,
}

#[derive(Default)]
pub(super) struct Fake(Mutex<State>);

impl Fake {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Kills whoever calls after this many calls.
    pub(super) fn kill_after(&self, calls: u32, effective: bool) {
        let mut state = self.state();
        (state.left, state.effective, state.killed) = (Some(calls), effective, false);
    }

    /// A new process calls; time has passed.
    pub(super) fn restart(&self) {
        let mut state = self.state();
        (state.left, state.killed) = (None, false);
        state.seconds += 60;
    }

    pub(super) fn refuse(&self, name: &str) {
        self.state().refuse.push(name.to_owned());
    }

    pub(super) fn transact(&self) {
        self.state().transacts = true;
    }

    pub(super) fn allow(&self) {
        self.state().refuse.clear();
    }

    /// Puts an object there.
    pub(super) fn put(&self, id: ObjectId, object: Value) {
        self.state().objects.insert(id, object);
    }

    /// The objects of kinds that users see, by kind and name.
    pub(super) fn names(&self) -> Vec<String> {
        self.state()
            .objects
            .keys()
            .filter(|id| !matches!(id.kind.as_str(), "Secret" | "Lease" | "Namespace"))
            .map(|id| format!("{}/{}", id.kind, id.name))
            .collect()
    }

    pub(super) fn get(&self, kind: &str, name: &str) -> Option<Value> {
        let state = self.state();
        let found = state
            .objects
            .iter()
            .find(|(id, _)| id.kind == kind && id.name == name);
        found.map(|(_, object)| object.clone())
    }

    /// What was reported since the last time.
    pub(super) fn said(&self) -> String {
        std::mem::take(&mut self.state().said).join("\n")
    }

    /// One call; it never ends if whoever makes it is killed.
    async fn call<T>(
        &self,
        answer: impl FnOnce(&mut State) -> Result<T, CallError>,
    ) -> Result<T, CallError> {
        let (killed, effective) = {
            let mut state = self.state();
            let killed = state.left == Some(0);
            if let Some(left) = &mut state.left {
                *left = left.saturating_sub(1);
            }
            (killed, state.effective)
        };
        if killed {
            if effective {
                let _ = answer(&mut self.state());
            }
            // Nothing more of this process has an effect.
            self.state().effective = false;
            self.state().killed = true;
            return std::future::pending().await;
        }
        answer(&mut self.state())
    }
}

fn error<T>(code: u16, message: &str) -> Result<T, CallError> {
    Err(CallError {
        code: Some(code),
        message: message.to_owned(),
    })
}

impl State {
    fn store(&mut self, id: &ObjectId, object: &Value) -> Value {
        self.revision += 1;
        let mut object = object.clone();
        object["metadata"]["resourceVersion"] = json!(self.revision.to_string());
        match id.kind.as_str() {
            "Job" => {
                object["status"] = json!({"conditions": [{"type": "Complete", "status": "True"}]});
            }
            "CustomResourceDefinition" => {
                object["status"] =
                    json!({"conditions": [{"type": "Established", "status": "True"}]});
            }
            _ => {}
        }
        self.objects.insert(id.clone(), object.clone());
        object
    }

    fn check(&self, id: &ObjectId) -> Result<(), CallError> {
        if self.refuse.contains(&id.name) {
            return error(
                422,
                &format!(
                    "{} {:?} is invalid: spec.a: Required value",
                    id.kind, id.name
                ),
            );
        }
        Ok(())
    }
}

#[async_trait]
impl Cluster for Fake {
    async fn scope(&self, _: &str, kind: &str) -> Result<Option<Scope>, CallError> {
        Ok(match kind {
            "Namespace" | "CustomResourceDefinition" | "ClusterRole" => Some(Scope::Cluster),
            "Unknown" => None,
            _ => Some(Scope::Namespaced),
        })
    }

    async fn served(&self) -> Result<Served, CallError> {
        Ok(Served::default())
    }

    async fn find(&self, id: &ObjectId) -> Result<Option<Value>, CallError> {
        self.call(|state| Ok(state.objects.get(id).cloned())).await
    }

    async fn list(
        &self,
        _: &str,
        kind: &str,
        namespace: Option<&str>,
        selector: &str,
    ) -> Result<Vec<Value>, CallError> {
        self.call(|state| {
            let matches = |object: &Value| {
                selector.split(',').all(|pair| {
                    let (key, value) = pair.split_once('=').unwrap_or_default();
                    object["metadata"]["labels"][key] == value
                })
            };
            let found = state.objects.iter().filter(|(id, object)| {
                id.kind == kind
                    && namespace.is_none_or(|namespace| id.namespace == namespace)
                    && matches(object)
            });
            Ok(found.map(|(_, object)| object.clone()).collect())
        })
        .await
    }

    async fn create(&self, id: &ObjectId, object: &Value) -> Result<Value, CallError> {
        self.call(|state| {
            state.check(id)?;
            if state.objects.contains_key(id) {
                return error(409, "already exists");
            }
            Ok(state.store(id, object))
        })
        .await
    }

    async fn replace(&self, id: &ObjectId, object: &Value) -> Result<Value, CallError> {
        self.call(|state| {
            let Some(before) = state.objects.get(id) else {
                return error(404, "not found");
            };
            let version = &object["metadata"]["resourceVersion"];
            if !version.is_null() && *version != before["metadata"]["resourceVersion"] {
                return error(409, "the object has been modified");
            }
            Ok(state.store(id, object))
        })
        .await
    }

    async fn patch(&self, id: &ObjectId, _: &Value) -> Result<Value, CallError> {
        self.call(|state| Ok(state.objects.get(id).cloned().unwrap_or_default()))
            .await
    }

    async fn apply(&self, id: &ObjectId, object: &Value, how: Apply) -> Result<Value, CallError> {
        self.call(|state| {
            state.check(id)?;
            if how.dry_run {
                return Ok(object.clone());
            }
            Ok(state.store(id, object))
        })
        .await
    }

    async fn transacts(&self) -> Result<bool, CallError> {
        Ok(self.state().transacts)
    }

    async fn apply_together(&self, objects: &[&Value], _: Apply) -> Result<(), CallError> {
        self.call(|state| {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let id = |object: &Value| ObjectId {
                api_version: text(&object["apiVersion"]),
                kind: text(&object["kind"]),
                namespace: text(&object["metadata"]["namespace"]),
                name: text(&object["metadata"]["name"]),
            };
            for object in objects {
                state.check(&id(object))?;
            }
            for object in objects {
                state.store(&id(object), object);
            }
            Ok(())
        })
        .await
    }

    async fn delete(&self, id: &ObjectId, _: Propagation) -> Result<bool, CallError> {
        self.call(|state| Ok(state.objects.remove(id).is_some()))
            .await
    }

    async fn log(&self, _: &str, pod: &str, container: &str) -> Result<String, CallError> {
        Ok(format!("log of {pod} {container}\n"))
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + self.state().seconds).unwrap()
    }

    async fn pause(&self, length: Duration) {
        if self.state().killed {
            return std::future::pending().await;
        }
        self.state().seconds += length.as_secs().max(1) as i64;
        // Others get their turn.
        futures::pending!();
    }

    async fn blocking(&self, work: Box<dyn FnOnce() + Send>) {
        work();
    }

    async fn report(&self, report: Report) {
        let line = match report {
            Report::Note(note) => note,
            Report::Hook { event, id } => format!("hook {event}: {id}"),
            Report::Log { hook, text } => format!("log {hook}: {text}"),
            Report::Progress { .. } => return,
        };
        self.state().said.push(line);
    }
}
