//! An apiserver in memory, as small as the nodelet's tests allow: objects are JSON, every client may do everything.
//!
//! Serves get, list, watch, create, merge and strategic merge patch, finalizers, and graceful deletion of pods.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::{
    Json, Router,
    body::{Body, Bytes},
    extract::{Query, State},
    http::{HeaderMap, Method, StatusCode, Uri},
    response::{IntoResponse, Response},
};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use futures::stream;
use kube::Client;
use serde_json::{Map, Value, json};
use tokio::sync::watch;

/// When tests begin, as the nodelet's clock has it.
pub(crate) const BEGIN: i64 = 1_767_225_600;

/// Resource, namespace, name.
type Key = (String, String, String);

#[derive(Default)]
struct Inner {
    objects: BTreeMap<Key, Value>,
    /// Requests for tokens: the ServiceAccount, and the request.
    tokens: Vec<(Key, Value)>,
    /// Watches that began: resource and field selector.
    watches: Vec<(String, String)>,
    log: Vec<(u64, String, &'static str, Value)>,
    patches: Vec<(Key, Value)>,
    /// How many more requests for single objects are answered; `None` is all.
    answered: Option<usize>,
}

/// The server; clones are the same one.
#[derive(Clone)]
pub(crate) struct FakeApi {
    inner: Arc<Mutex<Inner>>,
    began: tokio::time::Instant,
    revision: Arc<watch::Sender<u64>>,
    stalled: Arc<watch::Sender<bool>>,
}

impl FakeApi {
    pub(crate) fn new() -> FakeApi {
        FakeApi {
            inner: Arc::default(),
            began: tokio::time::Instant::now(),
            revision: Arc::new(watch::Sender::new(1)),
            stalled: Arc::new(watch::Sender::new(false)),
        }
    }

    /// Call inside a tokio runtime.
    pub(crate) fn client(&self) -> Client {
        Client::new(
            Router::new().fallback(handle).with_state(self.clone()),
            "default",
        )
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, key: &Key, kind: &'static str, mut object: Value) -> Value {
        let mut inner = self.inner();
        let revision = *self.revision.borrow() + 1;
        object["metadata"]["resourceVersion"] = revision.to_string().into();
        if kind == "DELETED" {
            inner.objects.remove(key);
        } else {
            inner.objects.insert(key.clone(), object.clone());
        }
        inner
            .log
            .push((revision, key.0.clone(), kind, object.clone()));
        drop(inner);
        self.revision.send_replace(revision);
        object
    }

    /// Creates an object; its uid is `<name>-uid` unless it has one, and another for the next of that name.
    pub(crate) fn create(&self, resource: &str, mut object: Value) -> Value {
        let text = |object: &Value, field: &str| {
            object["metadata"][field]
                .as_str()
                .unwrap_or_default()
                .to_owned()
        };
        let name = text(&object, "name");
        if text(&object, "uid").is_empty() {
            let uid = Value::from(format!("{name}-uid"));
            let inner = self.inner();
            let mut log = inner.log.iter();
            let used =
                log.any(|(_, of, _, other)| of == resource && other["metadata"]["uid"] == uid);
            object["metadata"]["uid"] = if used {
                format!("{name}-uid-{}", inner.log.len()).into()
            } else {
                uid
            };
        }
        object["metadata"]["creationTimestamp"] = "2026-01-01T00:00:00Z".into();
        let key = (resource.to_owned(), text(&object, "namespace"), name);
        self.write(&key, "ADDED", object)
    }

    /// Changes an object that is there.
    pub(crate) fn edit(
        &self,
        resource: &str,
        namespace: &str,
        name: &str,
        change: impl FnOnce(&mut Value),
    ) {
        let key = (resource.to_owned(), namespace.to_owned(), name.to_owned());
        let mut object = self.get(resource, namespace, name).expect("an object");
        change(&mut object);
        self.write(&key, "MODIFIED", object);
    }

    /// Deletes an object as a user would: a pod gracefully, unless `grace` is 0.
    pub(crate) fn delete(&self, resource: &str, namespace: &str, name: &str, grace: u64) {
        let key = (resource.to_owned(), namespace.to_owned(), name.to_owned());
        let Some(mut object) = self.get(resource, namespace, name) else {
            return;
        };
        object["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
        object["metadata"]["deletionGracePeriodSeconds"] = grace.into();
        if resource == "pods" {
            let kind = if grace > 0 { "MODIFIED" } else { "DELETED" };
            self.write(&key, kind, object);
        } else {
            self.settle(&key, object);
        }
    }

    pub(crate) fn get(&self, resource: &str, namespace: &str, name: &str) -> Option<Value> {
        let key = (resource.to_owned(), namespace.to_owned(), name.to_owned());
        self.inner().objects.get(&key).cloned()
    }

    pub(crate) fn list(&self, resource: &str) -> Vec<Value> {
        let inner = self.inner();
        inner
            .objects
            .iter()
            .filter(|(key, _)| key.0 == resource)
            .map(|(_, object)| object.clone())
            .collect()
    }

    /// Answers so many requests for single objects and then no more; waits until one is left unanswered, or
    /// until none comes.
    pub(crate) async fn stall_after(&self, requests: usize) {
        self.inner().answered = Some(requests);
        let mut stalled = self.stalled.subscribe();
        let seen = stalled.wait_for(|stalled| *stalled);
        // None need come: whoever asks may have done so already.
        let _ = tokio::time::timeout(Duration::from_millis(200), seen).await;
    }

    /// Answers all requests again; those that were left unanswered stay so.
    pub(crate) fn resume(&self) {
        self.inner().answered = None;
        self.stalled.send_replace(false);
    }

    /// Waits for ever if no more requests are answered.
    async fn stall(&self) {
        let silent = {
            let mut inner = self.inner();
            match &mut inner.answered {
                None => false,
                Some(0) => true,
                Some(left) => {
                    *left -= 1;
                    false
                }
            }
        };
        if silent {
            self.stalled.send_replace(true);
            std::future::pending::<()>().await;
        }
    }

    /// Changes an object, as another client would.
    pub(crate) fn patch(&self, resource: &str, namespace: &str, name: &str, patch: &Value) {
        let Some(mut object) = self.get(resource, namespace, name) else {
            return;
        };
        merge(&mut object, patch, false);
        let key = (resource.to_owned(), namespace.to_owned(), name.to_owned());
        self.settle(&key, object);
    }

    /// Stores an object, or lets it go if it is being deleted and nothing holds it any more.
    fn settle(&self, key: &Key, object: Value) -> Value {
        let free = |list: &Value| list.as_array().is_none_or(Vec::is_empty);
        let ends = object["metadata"]["deletionTimestamp"].is_string() && key.0 != "pods";
        let kind = if ends && free(&object["metadata"]["finalizers"]) {
            "DELETED"
        } else {
            "MODIFIED"
        };
        self.write(key, kind, object)
    }

    /// How many patches an object has had.
    pub(crate) fn patches(&self, resource: &str, name: &str) -> usize {
        self.inner()
            .patches
            .iter()
            .filter(|(key, _)| key.0 == resource && key.2 == name)
            .count()
    }

    /// Every request for a token so far.
    pub(crate) fn tokens(&self) -> Vec<Value> {
        let inner = self.inner();
        inner
            .tokens
            .iter()
            .map(|(_, request)| request.clone())
            .collect()
    }

    /// How many watches of a resource began, of one object of this name if it is not empty.
    pub(crate) fn watches(&self, resource: &str, name: &str) -> usize {
        let inner = self.inner();
        let selector = format!("metadata.name={name}");
        let mut watches = inner.watches.iter();
        let of = |(own, selected): &&(String, String)| {
            own == resource && (name.is_empty() || *selected == selector)
        };
        watches.by_ref().filter(of).count()
    }

    /// Changes an object by a merge patch.
    pub(crate) fn change(&self, resource: &str, namespace: &str, name: &str, patch: &Value) {
        let key = (resource.to_owned(), namespace.to_owned(), name.to_owned());
        let mut object = self.get(resource, namespace, name).expect("it is there");
        merge(&mut object, patch, false);
        self.write(&key, "MODIFIED", object);
    }

    /// Gives a token as an apiserver would, but for the signature. Its time is the test's begin and what tokio's
    /// paused clock has gone since.
    fn token(&self, key: &Key, request: &Value) -> Value {
        let seconds = request["spec"]["expirationSeconds"]
            .as_i64()
            .unwrap_or(3_600);
        let mut inner = self.inner();
        inner.tokens.push((key.clone(), request.clone()));
        let elapsed = i64::try_from(self.began.elapsed().as_secs()).unwrap_or(i64::MAX);
        let issued = BEGIN + elapsed;
        let claims = json!({"iat": issued, "exp": issued + seconds, "jti": inner.tokens.len()});
        let claims = BASE64_URL_SAFE_NO_PAD.encode(claims.to_string());
        let mut answer = request.clone();
        answer["status"] = json!({
            "token": format!("e30.{claims}.c2ln"),
            "expirationTimestamp": "2026-01-01T01:00:00Z",
        });
        answer
    }

    /// The last patch of an object, which may be gone.
    pub(crate) fn last_patch(&self, resource: &str, name: &str) -> Option<Value> {
        let inner = self.inner();
        let mut patches = inner.patches.iter().rev();
        patches
            .find(|(key, _)| key.0 == resource && key.2 == name)
            .map(|(_, patch)| patch.clone())
    }

    /// Waits until `seen` answers something about the objects.
    #[track_caller]
    pub(crate) fn wait<T>(
        &self,
        what: &str,
        seen: impl Fn(&FakeApi) -> Option<T>,
    ) -> impl Future<Output = T> {
        let mut revision = self.revision.subscribe();
        async move {
            let found = tokio::time::timeout(Duration::from_secs(900), async {
                loop {
                    if let Some(found) = seen(self) {
                        return found;
                    }
                    revision.changed().await.expect("the API lives");
                }
            });
            match found.await {
                Ok(found) => found,
                Err(_) => panic!("waited for {what}; pods are {:#?}", self.list("pods")),
            }
        }
    }
}

async fn handle(
    State(api): State<FakeApi>,
    method: Method,
    uri: Uri,
    Query(query): Query<BTreeMap<String, String>>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let segments: Vec<&str> = uri.path().trim_matches('/').split('/').collect();
    let rest = if segments[0] == "api" {
        &segments[2..]
    } else {
        &segments[3..]
    };
    let (namespace, rest) = match rest {
        ["namespaces", namespace, rest @ ..] if !rest.is_empty() => (*namespace, rest),
        rest => ("", rest),
    };
    let resource = rest[0].to_owned();
    if rest.len() > 1 || method == Method::POST {
        api.stall().await;
    }
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let Some(name) = rest.get(1) else {
        return match (method, query.get("watch").map(String::as_str)) {
            (Method::POST, _) => {
                let mut body = body;
                if !namespace.is_empty() {
                    body["metadata"]["namespace"] = namespace.into();
                }
                let name = body["metadata"]["name"].as_str().unwrap_or_default();
                if api.get(&resource, namespace, name).is_some() {
                    return refuse(409, "AlreadyExists");
                }
                Json(api.create(&resource, body)).into_response()
            }
            (_, Some("true")) => watch_from(api, resource, namespace, &query),
            _ => {
                let revision = api.revision.borrow().to_string();
                let items: Vec<Value> = api
                    .list(&resource)
                    .into_iter()
                    .filter(|o| within(o, namespace) && selected(o, &query))
                    .collect();
                Json(json!({"kind": "List", "apiVersion": "v1", "metadata": {"resourceVersion": revision}, "items": items}))
                    .into_response()
            }
        };
    };
    let key = (resource, namespace.to_owned(), (*name).to_owned());
    if (key.0.as_str(), rest.get(2)) == ("serviceaccounts", Some(&"token")) {
        return (StatusCode::CREATED, Json(api.token(&key, &body))).into_response();
    }
    let Some(object) = api.get(&key.0, &key.1, &key.2) else {
        return refuse(404, "NotFound");
    };
    match method {
        Method::GET => Json(object).into_response(),
        Method::PATCH => {
            let uid = &body["metadata"]["uid"];
            if !uid.is_null() && *uid != object["metadata"]["uid"] {
                return refuse(409, "Conflict");
            }
            api.inner().patches.push((key.clone(), body.clone()));
            let strategic = headers
                .get("content-type")
                .is_some_and(|t| t.as_bytes().starts_with(b"application/strategic"));
            let mut merged = object.clone();
            merge(&mut merged, &body, strategic);
            Json(api.settle(&key, merged)).into_response()
        }
        Method::DELETE => {
            let grace = body["gracePeriodSeconds"].as_u64().unwrap_or(30);
            api.delete(&key.0, &key.1, &key.2, grace);
            Json(object).into_response()
        }
        _ => refuse(405, "MethodNotAllowed"),
    }
}

fn selected(object: &Value, query: &BTreeMap<String, String>) -> bool {
    let selector = query
        .get("fieldSelector")
        .and_then(|selector| selector.split_once('='));
    selector.is_none_or(|(path, wanted)| {
        if path == "wk.dev/node" {
            // The API's own field of claims and volumes.
            let annotations = &object["metadata"]["annotations"];
            let selected = &annotations["volume.kubernetes.io/selected-node"];
            return *selected == wanted || annotations[path] == wanted;
        }
        let found = path.split('.').fold(object, |value, field| &value[field]);
        *found == wanted
    })
}

/// Whether an object is of this namespace; all are of none.
fn within(object: &Value, namespace: &str) -> bool {
    namespace.is_empty() || object["metadata"]["namespace"] == namespace
}

fn watch_from(
    api: FakeApi,
    resource: String,
    namespace: &str,
    query: &BTreeMap<String, String>,
) -> Response {
    let selector = query.get("fieldSelector").cloned().unwrap_or_default();
    api.inner().watches.push((resource.clone(), selector));
    let namespace = namespace.to_owned();
    let from: u64 = query
        .get("resourceVersion")
        .and_then(|text| text.parse().ok())
        .unwrap_or(0);
    let query = query.clone();
    let revision = api.revision.subscribe();
    let events = stream::unfold((from, revision), move |(mut seen, mut revision)| {
        let (api, resource, query) = (api.clone(), resource.clone(), query.clone());
        let namespace = namespace.clone();
        async move {
            loop {
                let next = {
                    let inner = api.inner();
                    let from = inner.log.partition_point(|(at, ..)| *at <= seen);
                    let mut news = inner.log[from..].iter().filter(|(_, kind, _, object)| {
                        *kind == resource && within(object, &namespace) && selected(object, &query)
                    });
                    news.next().map(|(at, _, kind, object)| {
                        (
                            *at,
                            format!("{}\n", json!({"type": kind, "object": object})),
                        )
                    })
                };
                if let Some((at, line)) = next {
                    seen = at;
                    return Some((Ok::<_, std::io::Error>(line), (seen, revision)));
                }
                revision.changed().await.ok()?;
            }
        }
    });
    Body::from_stream(events).into_response()
}

fn refuse(code: u16, reason: &str) -> Response {
    let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason, "message": reason});
    (StatusCode::from_u16(code).expect("a code"), Json(status)).into_response()
}

/// A merge patch; if `strategic`, conditions merge by type.
fn merge(target: &mut Value, patch: &Value, strategic: bool) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    for (name, value) in patch {
        match value {
            Value::Null => {
                target.as_object_mut().expect("an object").remove(name);
            }
            Value::Array(items) if strategic && name == "conditions" => {
                let mut list = target[name].as_array().cloned().unwrap_or_default();
                for item in items {
                    match list.iter_mut().find(|old| old["type"] == item["type"]) {
                        Some(old) => merge(old, item, true),
                        None => {
                            let mut fresh = json!({});
                            merge(&mut fresh, item, true);
                            list.push(fresh);
                        }
                    }
                }
                target[name] = list.into();
            }
            Value::Array(items) if strategic => {
                target[name] = items
                    .iter()
                    .filter(|item| item.get("$patch").is_none())
                    .cloned()
                    .collect();
            }
            value => merge(&mut target[name], value, strategic),
        }
    }
}
