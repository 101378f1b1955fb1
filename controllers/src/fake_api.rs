//! A small API server in memory for tests: objects, watches, patches, finalizers, and faults.
//!
//! Kinds are what discovery names here. Deletion honours preconditions, propagation and finalizers
//! as the real one does. Faults are drawn from a seed: requests that fail before or after they take
//! effect, and watches that end, start late or repeat what they said.

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, stream};
use http::{Method, Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use kube::client::Body;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::clock;

type Answer = Response<UnsyncBoxBody<Bytes, Infallible>>;
/// Resource, namespace and name.
type Place = (String, String, String);

/// Group version, kind, plural, whether it is namespaced.
const KINDS: &[(&str, &str, &str, bool)] = &[
    ("v1", "Namespace", "namespaces", false),
    ("v1", "Node", "nodes", false),
    ("v1", "Pod", "pods", true),
    ("v1", "Service", "services", true),
    ("v1", "ConfigMap", "configmaps", true),
    ("v1", "Event", "events", true),
    (
        "v1",
        "PersistentVolumeClaim",
        "persistentvolumeclaims",
        true,
    ),
    ("v1", "PersistentVolume", "persistentvolumes", false),
    ("storage.k8s.io/v1", "StorageClass", "storageclasses", false),
    (
        "v1",
        "ReplicationController",
        "replicationcontrollers",
        true,
    ),
    ("v1", "Endpoints", "endpoints", true),
    ("apps/v1", "ReplicaSet", "replicasets", true),
    ("apps/v1", "StatefulSet", "statefulsets", true),
    ("apps/v1", "DaemonSet", "daemonsets", true),
    ("apps/v1", "ControllerRevision", "controllerrevisions", true),
    ("batch/v1", "Job", "jobs", true),
    ("batch/v1", "CronJob", "cronjobs", true),
    (
        "autoscaling/v2",
        "HorizontalPodAutoscaler",
        "horizontalpodautoscalers",
        true,
    ),
    ("apps/v1", "Deployment", "deployments", true),
    (
        "discovery.k8s.io/v1",
        "EndpointSlice",
        "endpointslices",
        true,
    ),
    ("coordination.k8s.io/v1", "Lease", "leases", true),
    ("charts.wk.dev/v1", "ChartRelease", "chartreleases", true),
    (
        "apiextensions.k8s.io/v1",
        "CustomResourceDefinition",
        "customresourcedefinitions",
        false,
    ),
    (
        "policy/v1",
        "PodDisruptionBudget",
        "poddisruptionbudgets",
        true,
    ),
];

/// How often, in percent, something goes wrong.
#[derive(Clone, Copy, Default)]
pub(crate) struct Faults {
    pub(crate) request: u32,
    pub(crate) watch: u32,
}

/// A resource, and what a watch of it says.
type Change = (String, Arc<Value>);

#[derive(Default)]
struct Objects {
    live: BTreeMap<Place, Value>,
    changes: Vec<Change>,
    calls: HashMap<String, usize>,
    /// How many writes there were of each `resource/name`; of new ones without a name, of the `resource/`.
    writes: BTreeMap<String, usize>,
    /// Messages with which a `verb resource` is forbidden.
    refusals: HashMap<String, String>,
    faults: Faults,
    /// How many faults there were.
    faulty: usize,
    /// Writes that are answered; after them no request is, as if the asker had ended.
    answers_left: Option<usize>,
    load: u64,
}

impl Objects {
    /// The objects of a kind, by namespace and name.
    fn of(&self, resource: &str) -> impl Iterator<Item = &Value> {
        let first = (resource.to_owned(), String::new(), String::new());
        let rest = self.live.range(first..);
        rest.take_while(move |((of, _, _), _)| of == resource)
            .map(|(_, object)| object)
    }
}

/// The API; clones are the same one.
#[derive(Clone)]
pub(crate) struct FakeApi {
    objects: Arc<Mutex<Objects>>,
    revision: Arc<watch::Sender<usize>>,
    rng: Arc<Mutex<StdRng>>,
}

struct Call {
    verb: &'static str,
    place: Place,
    subresource: String,
    query: HashMap<String, String>,
    content_type: String,
    body: Value,
}

impl FakeApi {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            objects: Arc::default(),
            revision: Arc::new(watch::Sender::new(0)),
            rng: Arc::new(Mutex::new(StdRng::seed_from_u64(seed))),
        }
    }

    pub(crate) fn client(&self) -> kube::Client {
        let api = self.clone();
        let service = tower::service_fn(move |request| {
            let api = api.clone();
            async move { Ok::<_, Infallible>(api.serve(request).await) }
        });
        kube::Client::new(service, "default")
    }

    pub(crate) fn set_faults(&self, faults: Faults) {
        self.objects().faults = faults;
    }

    /// How many requests there were of each `verb resource`.
    pub(crate) fn calls(&self) -> HashMap<String, usize> {
        self.objects().calls.clone()
    }

    /// How many writing requests there were of each `resource/name`.
    pub(crate) fn writes(&self) -> BTreeMap<String, usize> {
        self.objects().writes.clone()
    }

    /// How many faults there were.
    pub(crate) fn faulty(&self) -> usize {
        self.objects().faulty
    }

    /// Answers so many writes more and then no request, until it is told `None`.
    pub(crate) fn fall_silent_after(&self, writes: Option<usize>) {
        self.objects().answers_left = writes;
    }

    pub(crate) fn silent(&self) -> bool {
        self.objects().answers_left == Some(0)
    }

    pub(crate) fn changed(&self) -> watch::Receiver<usize> {
        self.revision.subscribe()
    }

    /// Forbids every `verb resource` from now on, with a message; `None` allows it again.
    pub(crate) fn refuse(&self, call: &str, message: Option<&str>) {
        let refusals = &mut self.objects().refusals;
        match message {
            Some(message) => refusals.insert(call.to_owned(), message.to_owned()),
            None => refusals.remove(call),
        };
    }

    pub(crate) fn all(&self, resource: &str) -> Vec<Value> {
        let objects = self.objects();
        objects.of(resource).cloned().collect()
    }

    pub(crate) fn count(&self, resource: &str) -> usize {
        self.objects().of(resource).count()
    }

    pub(crate) fn find(&self, resource: &str, name: &str) -> Option<Value> {
        let objects = self.objects();
        // Nearly every test has one namespace: ten thousand objects are not looked through for each.
        let place = (resource.to_owned(), "ns".to_owned(), name.to_owned());
        if let Some(object) = objects.live.get(&place) {
            return Some(object.clone());
        }
        let mut all = objects.of(resource);
        all.find(|object| object["metadata"]["name"] == name)
            .cloned()
    }

    /// The objects of a kind that were written after a revision, as they were then.
    pub(crate) fn written_after(&self, resource: &str, revision: usize) -> Vec<Arc<Value>> {
        let objects = self.objects();
        let changes = objects.changes[revision..].iter();
        changes
            .filter(|(of, _)| of == resource)
            .map(|(_, change)| change.clone())
            .collect()
    }

    /// Creates an object, as a user would.
    pub(crate) fn create(&self, resource: &str, object: Value) -> Value {
        let namespace = object["metadata"]["namespace"].as_str().unwrap_or("");
        let place = (resource.to_owned(), namespace.to_owned(), String::new());
        self.insert(&place, object).unwrap()
    }

    /// Changes an object, as a user or a nodelet would.
    pub(crate) fn patch(&self, resource: &str, name: &str, patch: Value) {
        let object = self.find(resource, name).unwrap();
        let place = place_of(resource, &object);
        let mut new = object.clone();
        merge(&mut new, &patch, true);
        self.store(&place, new);
    }

    /// Deletes an object; `policy` is a propagation policy.
    pub(crate) fn delete(&self, resource: &str, name: &str, policy: &str) {
        let object = self.find(resource, name).unwrap();
        self.remove(
            &place_of(resource, &object),
            &json!({"propagationPolicy": policy}),
        )
        .unwrap();
    }

    /// Takes an object away at once, as a nodelet does when a pod has ended.
    pub(crate) fn purge(&self, resource: &str, name: &str) {
        let object = self.find(resource, name).unwrap();
        self.drop(&place_of(resource, &object), object);
    }

    fn objects(&self) -> MutexGuard<'_, Objects> {
        self.objects.lock().unwrap()
    }

    fn happens(&self, percent: u32) -> bool {
        let happens = percent > 0 && self.rng.lock().unwrap().random_range(0..100) < percent;
        self.objects().faulty += usize::from(happens);
        happens
    }

    /// How much CPU all ready pods together use, in thousandths.
    pub(crate) fn set_load(&self, load: u64) {
        self.objects().load = load;
    }

    /// The PodMetrics of all pods that are ready: each has its share of the load.
    fn usage(&self) -> Value {
        let mut pods = self.all("pods");
        pods.retain(|pod| pod["status"]["conditions"][0]["status"] == "True");
        let share = self.objects().load / u64::try_from(pods.len()).unwrap().max(1);
        let of = |pod: &Value| {
            json!({
                "metadata": {"name": pod["metadata"]["name"]},
                "timestamp": jiff::Timestamp::now(), "window": "0s",
                "containers": [{"name": "c", "usage": {"cpu": format!("{share}m")}}],
            })
        };
        json!({"items": pods.iter().map(of).collect::<Vec<_>>()})
    }

    async fn serve(self, request: Request<Body>) -> Answer {
        let (parts, body) = request.into_parts();
        let body = body.collect_bytes().await.unwrap();
        let path = parts.uri.path().to_owned();
        if let Some(answer) = discovery(&path) {
            return json_answer(200, &answer);
        }
        if path.starts_with("/apis/metrics.k8s.io/") {
            let faults = self.objects().faults;
            return if self.happens(faults.request) {
                status(503, "ServiceUnavailable", "not now")
            } else {
                json_answer(200, &self.usage())
            };
        }
        let query: HashMap<String, String> = parts
            .uri
            .query()
            .unwrap_or_default()
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let content_type = parts.headers.get("content-type");
        let content_type = content_type.map_or("", |value| value.to_str().unwrap());
        let call = parse(
            &parts.method,
            &path,
            query,
            content_type,
            serde_json::from_slice(&body).unwrap_or_default(),
        );
        let name = format!("{} {}", call.verb, call.place.0);
        *self.objects().calls.entry(name).or_default() += 1;
        if self.silent() {
            return std::future::pending().await;
        }
        if !["get", "list", "watch"].contains(&call.verb) {
            let written = format!("{}/{}", call.place.0, call.place.2);
            *self.objects().writes.entry(written).or_default() += 1;
        }
        let faults = self.objects().faults;
        if self.happens(faults.request) {
            return status(503, "ServiceUnavailable", "not now");
        }
        if call.verb == "watch" {
            return self.watch(&call);
        }
        let refusal = {
            let call = format!("{} {}", call.verb, call.place.0);
            self.objects().refusals.get(&call).cloned()
        };
        if let Some(message) = refusal {
            return status(403, "Forbidden", &message);
        }
        let answer = self.answer(&call);
        if !matches!(call.verb, "get" | "list") && call.place.0 != "events" {
            let last = self.objects().answers_left.as_mut().is_some_and(|left| {
                *left = left.saturating_sub(1);
                *left == 0
            });
            if last {
                // Done, and whoever asked never hears of it.
                return std::future::pending().await;
            }
        }
        if call.verb != "list" && self.happens(faults.request) {
            // Done, and the answer is lost.
            return status(504, "Timeout", "took too long");
        }
        answer.unwrap_or_else(|(code, reason)| status(code, reason, &format!("{:?}", call.place)))
    }

    fn answer(&self, call: &Call) -> Result<Answer, (u16, &'static str)> {
        let object = match call.verb {
            "list" => return Ok(json_answer(200, &self.list(&call.place))),
            "get" if call.subresource == "scale" => scale_of(&self.get(&call.place)?),
            "get" => self.get(&call.place)?,
            "create" => self.insert(&call.place, call.body.clone())?,
            "patch" => self.change(call)?,
            "update" if call.subresource == "scale" => self.rescale(call)?,
            "update" => self.finalize(call)?,
            "delete" => return Ok(json_answer(200, &self.remove(&call.place, &call.body)?)),
            "deletecollection" => {
                for object in self.list(&call.place)["items"].as_array().unwrap() {
                    self.remove(&place_of(&call.place.0, object), &call.body)?;
                }
                self.list(&call.place)
            }
            verb => panic!("{verb}"),
        };
        Ok(json_answer(200, &object))
    }

    fn get(&self, place: &Place) -> Result<Value, (u16, &'static str)> {
        let found = self.objects().live.get(place).cloned();
        found.ok_or((404, "NotFound"))
    }

    fn list(&self, place: &Place) -> Value {
        let objects = self.objects();
        let of = objects.of(&place.0);
        let items: Vec<Value> = of
            .filter(|object| place.1.is_empty() || object["metadata"]["namespace"] == place.1)
            .cloned()
            .collect();
        let (version, kind, ..) = kind_of(&place.0);
        json!({
            "apiVersion": version, "kind": format!("{kind}List"), "items": items,
            "metadata": {"resourceVersion": objects.changes.len().to_string()},
        })
    }

    fn insert(&self, place: &Place, mut object: Value) -> Result<Value, (u16, &'static str)> {
        let (version, kind, ..) = kind_of(&place.0);
        let revision = self.objects().changes.len() + 1;
        let metadata = &mut object["metadata"];
        if metadata["name"].is_null() {
            let prefix = metadata["generateName"].as_str().unwrap();
            metadata["name"] = format!("{prefix}{revision:05}").into();
        }
        let name = metadata["name"].as_str().unwrap().to_owned();
        if !place.1.is_empty() {
            metadata["namespace"] = place.1.clone().into();
        }
        metadata["uid"] = format!("uid-{revision}").into();
        metadata["creationTimestamp"] = json!(clock::now());
        metadata["generation"] = 1.into();
        object["apiVersion"] = version.into();
        object["kind"] = kind.into();
        if kind == "Namespace" {
            object["spec"]["finalizers"] = json!(["kubernetes"]);
        }
        let place = (place.0.clone(), place.1.clone(), name);
        if self.objects().live.contains_key(&place) {
            return Err((409, "AlreadyExists"));
        }
        Ok(self.store(&place, object))
    }

    fn store(&self, place: &Place, mut object: Value) -> Value {
        let mut objects = self.objects();
        let old = objects.live.get(place);
        if let Some(old) = old {
            object["metadata"]["resourceVersion"] = old["metadata"]["resourceVersion"].clone();
            if *old == object {
                return object;
            }
            if old["spec"] != object["spec"] {
                let generation = old["metadata"]["generation"].as_i64().unwrap_or(1);
                object["metadata"]["generation"] = (generation + 1).into();
            }
        }
        let kind = if old.is_some() { "MODIFIED" } else { "ADDED" };
        let revision = objects.changes.len() + 1;
        object["metadata"]["resourceVersion"] = revision.to_string().into();
        objects.live.insert(place.clone(), object.clone());
        let change = json!({"type": kind, "object": object});
        objects.changes.push((place.0.clone(), Arc::new(change)));
        self.revision.send_replace(revision);
        object
    }

    fn drop(&self, place: &Place, mut object: Value) {
        let mut objects = self.objects();
        let revision = objects.changes.len() + 1;
        object["metadata"]["resourceVersion"] = revision.to_string().into();
        objects.live.remove(place);
        let change = json!({"type": "DELETED", "object": object});
        objects.changes.push((place.0.clone(), Arc::new(change)));
        self.revision.send_replace(revision);
    }

    fn change(&self, call: &Call) -> Result<Value, (u16, &'static str)> {
        let old = self.get(&call.place)?;
        let mut patch = call.body.clone();
        if let Some(metadata) = patch.get_mut("metadata").and_then(Value::as_object_mut) {
            for field in ["uid", "resourceVersion"] {
                let wanted = metadata.remove(field).filter(|wanted| !wanted.is_null());
                if wanted.is_some_and(|wanted| wanted != old["metadata"][field]) {
                    return Err((409, "Conflict"));
                }
            }
        }
        let mut new = old.clone();
        merge(&mut new, &patch, call.content_type.contains("strategic"));
        for field in ["status", "spec"] {
            if (field == "status") != (call.subresource == "status") {
                new[field] = old[field].clone();
            }
        }
        Ok(self.settle(&call.place, new))
    }

    /// `PUT …/scale`.
    fn rescale(&self, call: &Call) -> Result<Value, (u16, &'static str)> {
        let mut new = self.get(&call.place)?;
        let wanted = &call.body["metadata"]["resourceVersion"];
        if wanted.is_string() && *wanted != new["metadata"]["resourceVersion"] {
            return Err((409, "Conflict"));
        }
        new["spec"]["replicas"] = call.body["spec"]["replicas"].clone();
        Ok(scale_of(&self.settle(&call.place, new)))
    }

    /// `PUT …/finalize`.
    fn finalize(&self, call: &Call) -> Result<Value, (u16, &'static str)> {
        let mut new = self.get(&call.place)?;
        new["spec"]["finalizers"] = call.body["spec"]["finalizers"].clone();
        Ok(self.settle(&call.place, new))
    }

    /// Stores an object, or lets it go if it was asked to and nothing holds it any more.
    fn settle(&self, place: &Place, new: Value) -> Value {
        let empty = |list: &Value| list.as_array().is_none_or(Vec::is_empty);
        let held = !empty(&new["metadata"]["finalizers"])
            || (place.0 == "namespaces" && !empty(&new["spec"]["finalizers"]))
            || (place.0 == "pods"
                && new["spec"]["nodeName"].is_string()
                && new["metadata"]["deletionGracePeriodSeconds"] != 0);
        if new["metadata"]["deletionTimestamp"].is_null() || held {
            self.store(place, new)
        } else {
            self.drop(place, new.clone());
            new
        }
    }

    fn remove(&self, place: &Place, options: &Value) -> Result<Value, (u16, &'static str)> {
        let mut object = self.get(place)?;
        let uid = &options["preconditions"]["uid"];
        if uid.is_string() && *uid != object["metadata"]["uid"] {
            return Err((409, "Conflict"));
        }
        if options["gracePeriodSeconds"] == 0 {
            self.drop(place, object.clone());
            return Ok(object);
        }
        let finalizer = match options["propagationPolicy"].as_str() {
            Some("Foreground") => Some("foregroundDeletion"),
            Some("Orphan") => Some("orphan"),
            _ => None,
        };
        if let Some(finalizer) = finalizer {
            let finalizers = &mut object["metadata"]["finalizers"];
            let mut list = finalizers.as_array().cloned().unwrap_or_default();
            if !list.iter().any(|known| known == finalizer) {
                list.push(finalizer.into());
            }
            *finalizers = list.into();
        }
        if object["metadata"]["deletionTimestamp"].is_null() {
            object["metadata"]["deletionTimestamp"] = json!(clock::now());
        }
        Ok(self.settle(place, object))
    }

    fn watch(&self, call: &Call) -> Answer {
        let after: usize = call.query["resourceVersion"].parse().unwrap();
        let state = (
            self.clone(),
            self.revision.subscribe(),
            after,
            call.place.clone(),
        );
        let frames = stream::unfold(state, |(api, mut revision, mut next, place)| async move {
            loop {
                revision.wait_for(|revision| *revision > next).await.ok()?;
                let (change, faults) = {
                    let objects = api.objects();
                    let left = objects.changes[next..].iter();
                    let mut skipped = left.take_while(|(of, _)| *of != place.0);
                    next += skipped.by_ref().count();
                    let Some((_, change)) = objects.changes.get(next) else {
                        continue;
                    };
                    (change.clone(), objects.faults)
                };
                next += 1;
                let namespace = &change["object"]["metadata"]["namespace"];
                if !place.1.is_empty() && *namespace != place.1 {
                    continue;
                }
                if api.happens(faults.watch) {
                    if api.happens(50) {
                        return None;
                    }
                    let delay = api.rng.lock().unwrap().random_range(1..3000);
                    tokio::time::sleep(Duration::from_millis(delay)).await;
                }
                let times = if api.happens(faults.watch) { 2 } else { 1 };
                let line = Bytes::from(format!("{change}\n").repeat(times));
                let frame = Ok::<_, Infallible>(http_body::Frame::data(line));
                return Some((frame, (api, revision, next, place)));
            }
        });
        Response::new(StreamBody::new(frames.boxed()).boxed_unsync())
    }
}

fn parse(
    method: &Method,
    path: &str,
    query: HashMap<String, String>,
    content_type: &str,
    body: Value,
) -> Call {
    let mut parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    parts.drain(..if parts[0] == "api" { 2 } else { 3 });
    let mut namespace = "";
    if parts[0] == "namespaces" && parts.len() > 2 && parts[2] != "status" && parts[2] != "finalize"
    {
        namespace = parts[1];
        parts.drain(..2);
    }
    let part = |place: usize| parts.get(place).copied().unwrap_or_default().to_owned();
    let named = parts.len() > 1;
    let verb = match *method {
        Method::GET if query.get("watch").is_some_and(|watch| watch != "false") => "watch",
        Method::GET if named => "get",
        Method::GET => "list",
        Method::POST => "create",
        Method::PATCH => "patch",
        Method::PUT => "update",
        Method::DELETE if named => "delete",
        Method::DELETE => "deletecollection",
        _ => panic!("{method}"),
    };
    Call {
        verb,
        place: (part(0), namespace.to_owned(), part(1)),
        subresource: part(2),
        query,
        content_type: content_type.to_owned(),
        body,
    }
}

/// The Scale of an object whose selector is of labels only.
fn scale_of(object: &Value) -> Value {
    let labels = object["spec"]["selector"]["matchLabels"].as_object();
    let labels = labels.into_iter().flatten();
    let selector = labels.map(|(key, value)| format!("{key}={}", value.as_str().unwrap()));
    let mut metadata = object["metadata"].clone();
    metadata
        .as_object_mut()
        .unwrap()
        .retain(|field, _| ["name", "namespace", "uid", "resourceVersion"].contains(&&**field));
    json!({
        "apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": metadata,
        "spec": {"replicas": object["spec"]["replicas"]},
        "status": {
            "replicas": object["status"]["replicas"].as_i64().unwrap_or(0),
            "selector": selector.collect::<Vec<_>>().join(","),
        },
    })
}

fn kind_of(resource: &str) -> (&'static str, &'static str, &'static str, bool) {
    let mut kinds = KINDS.iter().copied();
    kinds.find(|(_, _, plural, _)| *plural == resource).unwrap()
}

fn place_of(resource: &str, object: &Value) -> Place {
    let text = |field: &str| object["metadata"][field].as_str().unwrap_or("").to_owned();
    (resource.to_owned(), text("namespace"), text("name"))
}

fn discovery(path: &str) -> Option<Value> {
    let groups = ["apps", "batch", "discovery.k8s.io", "coordination.k8s.io"];
    let version = path
        .strip_prefix("/apis/")
        .or(path.strip_prefix("/api/"))
        .unwrap_or_default();
    Some(match path {
        "/api" => {
            json!({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []})
        }
        "/apis" => json!({"kind": "APIGroupList", "groups": groups.map(|group| {
            let version = json!({"groupVersion": format!("{group}/v1"), "version": "v1"});
            json!({"name": group, "versions": [version], "preferredVersion": version})
        })}),
        _ if KINDS.iter().any(|(of, ..)| *of == version) => {
            let of = KINDS.iter().filter(|(of, ..)| *of == version);
            let resources: Vec<Value> = of
                .map(|(_, kind, plural, namespaced)| {
                    json!({"name": plural, "singularName": "", "kind": kind,
                        "namespaced": namespaced,
                        "verbs": ["create", "delete", "get", "list", "patch", "update", "watch"]})
                })
                .collect();
            json!({"kind": "APIResourceList", "groupVersion": version, "resources": resources})
        }
        _ => return None,
    })
}

/// A merge patch; a strategic one merges the lists that controllers patch by their keys.
fn merge(target: &mut Value, patch: &Value, strategic: bool) {
    let Value::Object(fields) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (name, value) in fields {
        if let Some(list) = name.strip_prefix("$deleteFromPrimitiveList/") {
            let gone = value.as_array().unwrap();
            if let Some(items) = target[list].as_array_mut() {
                items.retain(|item| !gone.contains(item));
            }
            continue;
        }
        let key = match name.as_str() {
            "conditions" => Some("type"),
            "ownerReferences" => Some("uid"),
            _ => None,
        };
        match (key, value) {
            (_, Value::Null) => {
                target.as_object_mut().unwrap().remove(name);
            }
            (Some(key), Value::Array(items)) if strategic => {
                let mut list = target[name].as_array().cloned().unwrap_or_default();
                for item in items {
                    let place = list.iter().position(|old| old[key] == item[key]);
                    match (place, item["$patch"] == "delete") {
                        (Some(place), true) => drop(list.remove(place)),
                        (Some(place), false) => merge(&mut list[place], item, true),
                        (None, true) => {}
                        (None, false) => list.push(item.clone()),
                    }
                }
                target[name] = list.into();
            }
            _ => merge(&mut target[name], value, strategic),
        }
    }
}

fn json_answer(code: u16, body: &Value) -> Answer {
    let body = Full::new(Bytes::from(body.to_string())).boxed_unsync();
    Response::builder().status(code).body(body).unwrap()
}

fn status(code: u16, reason: &str, message: &str) -> Answer {
    json_answer(
        code,
        &json!({"kind": "Status", "apiVersion": "v1", "status": "Failure",
            "code": code, "reason": reason, "message": message}),
    )
}
