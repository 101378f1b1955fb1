//! The scheduler against a small API server in memory: list, watch, binding, events, status.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, stream};
use http::{Method, Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use kube::client::Body;
use scheduler::{Config, Scheduler};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

type Answer = Response<UnsyncBoxBody<Bytes, Infallible>>;

/// Objects by resource and name, and every change to them.
#[derive(Default)]
struct Objects {
    live: BTreeMap<(String, String), Value>,
    changes: Vec<(String, Value)>,
    conflicts: usize,
    /// How many writes of a pod's status are refused.
    refused_statuses: usize,
}

#[derive(Clone)]
struct Fake {
    objects: Arc<Mutex<Objects>>,
    revision: Arc<watch::Sender<usize>>,
}

impl Fake {
    fn new() -> Self {
        Self {
            objects: Arc::default(),
            revision: Arc::new(watch::Sender::new(0)),
        }
    }

    fn put(&self, resource: &str, name: &str, mut object: Value) {
        let mut objects = self.objects.lock().unwrap();
        object["metadata"]["name"] = name.into();
        object["metadata"]["resourceVersion"] = (objects.changes.len() + 1).to_string().into();
        let old = objects
            .live
            .insert((resource.into(), name.into()), object.clone());
        let kind = if old.is_some() { "MODIFIED" } else { "ADDED" };
        objects
            .changes
            .push((resource.into(), json!({ "type": kind, "object": object })));
        self.revision.send_replace(objects.changes.len());
    }

    fn all(&self, resource: &str) -> Vec<Value> {
        let objects = self.objects.lock().unwrap();
        let of = objects.live.iter().filter(|((of, _), _)| of == resource);
        of.map(|(_, object)| object.clone()).collect()
    }

    fn add_node(&self, name: &str, cpu: &str) {
        self.put(
            "nodes",
            name,
            json!({
                "apiVersion": "v1", "kind": "Node", "metadata": {},
                "status": { "allocatable": { "cpu": cpu, "memory": "64Gi", "pods": "500" } },
            }),
        );
    }

    fn add_pod(&self, name: &str, cpu: &str) {
        self.put(
            "pods",
            name,
            json!({
                "apiVersion": "v1", "kind": "Pod",
                "metadata": { "namespace": "default", "uid": format!("uid-{name}") },
                "spec": { "schedulerName": "default-scheduler", "containers": [
                    { "name": "c", "resources": { "requests": { "cpu": cpu } } },
                ] },
            }),
        );
    }

    async fn answer(self, request: Request<Body>) -> Answer {
        let (parts, body) = request.into_parts();
        let body = body.collect_bytes().await.unwrap();
        let body: Value = serde_json::from_slice(&body).unwrap_or_default();
        let query = parts.uri.query().unwrap_or_default().to_owned();
        let path = parts.uri.path();
        let path = path.trim_start_matches("/apis/storage.k8s.io/v1/");
        let path = path.trim_start_matches("/apis/apps/v1/");
        let path = path.trim_start_matches("/apis/policy/v1/");
        let path: Vec<_> = path.trim_start_matches("/api/v1/").split('/').collect();
        match (parts.method.clone(), path.as_slice()) {
            (Method::GET, [resource]) if query.contains("watch=true") => {
                self.watch(resource, &query)
            }
            (Method::GET, [resource]) => {
                let revision = self.objects.lock().unwrap().changes.len();
                json_answer(
                    200,
                    &json!({
                        "apiVersion": "v1", "kind": "List", "items": self.all(resource),
                        "metadata": { "resourceVersion": revision.to_string() },
                    }),
                )
            }
            (Method::POST, ["namespaces", _, "pods", name, "binding"]) => self.bind(name, &body),
            (Method::POST, ["namespaces", _, "events"]) => {
                let name = body["metadata"]["name"].as_str().unwrap().to_owned();
                self.put("events", &name, body.clone());
                json_answer(201, &body)
            }
            (Method::PATCH, ["namespaces", _, "events", name]) => {
                let mut event = self.get("events", name);
                event["count"] = body["count"].clone();
                self.put("events", name, event.clone());
                json_answer(200, &event)
            }
            (Method::PATCH, ["namespaces", _, "persistentvolumeclaims", name]) => {
                let mut claim = self.get("persistentvolumeclaims", name);
                let added = body["metadata"]["annotations"].as_object().unwrap();
                for (key, value) in added {
                    claim["metadata"]["annotations"][key] = value.clone();
                }
                self.put("persistentvolumeclaims", name, claim.clone());
                json_answer(200, &claim)
            }
            (Method::PATCH, ["namespaces", _, "pods", _, "status"]) if self.refuses_status() => {
                json_answer(
                    500,
                    &json!({
                        "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 500,
                        "reason": "InternalError", "message": "not now",
                    }),
                )
            }
            (Method::PATCH, ["namespaces", _, "pods", name, "status"]) => {
                let mut pod = self.get("pods", name);
                pod["status"] = body["status"].clone();
                self.put("pods", name, pod.clone());
                json_answer(200, &pod)
            }
            other => panic!("{other:?}"),
        }
    }

    fn refuses_status(&self) -> bool {
        let refused = &mut self.objects.lock().unwrap().refused_statuses;
        let refuses = *refused > 0;
        *refused = refused.saturating_sub(1);
        refuses
    }

    fn get(&self, resource: &str, name: &str) -> Value {
        self.objects.lock().unwrap().live[&(resource.into(), name.into())].clone()
    }

    fn bind(&self, name: &str, binding: &Value) -> Answer {
        let refuse = {
            let mut objects = self.objects.lock().unwrap();
            let refuse = objects.conflicts > 0;
            objects.conflicts = objects.conflicts.saturating_sub(1);
            refuse
        };
        let mut pod = self.get("pods", name);
        if refuse || pod["spec"]["nodeName"].is_string() {
            return json_answer(
                409,
                &json!({
                    "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 409,
                    "reason": "Conflict", "message": "the object has been modified",
                }),
            );
        }
        pod["spec"]["nodeName"] = binding["target"]["name"].clone();
        self.put("pods", name, pod);
        json_answer(
            201,
            &json!({ "kind": "Status", "apiVersion": "v1", "status": "Success" }),
        )
    }

    fn watch(&self, resource: &str, query: &str) -> Answer {
        let after = query
            .split('&')
            .find_map(|pair| pair.strip_prefix("resourceVersion="));
        let next: usize = after.unwrap().parse().unwrap();
        let state = (
            self.clone(),
            self.revision.subscribe(),
            next,
            resource.to_owned(),
        );
        let frames = stream::unfold(
            state,
            |(fake, mut revision, mut next, resource)| async move {
                loop {
                    revision.wait_for(|revision| *revision > next).await.ok()?;
                    let (of, change) = fake.objects.lock().unwrap().changes[next].clone();
                    next += 1;
                    if of == resource {
                        let line = Bytes::from(format!("{change}\n"));
                        let frame = Ok::<_, Infallible>(http_body::Frame::data(line));
                        return Some((frame, (fake, revision, next, resource)));
                    }
                }
            },
        );
        Response::new(StreamBody::new(frames.boxed()).boxed_unsync())
    }

    /// Runs the scheduler on this API until the condition holds.
    async fn run_until(&self, holds: impl Fn(&Self) -> bool) {
        let fake = self.clone();
        let service = tower::service_fn(move |request| {
            let fake = fake.clone();
            async move { Ok::<_, Infallible>(fake.answer(request).await) }
        });
        let client = kube::Client::new(service, "default");
        let stop = CancellationToken::new();
        let mut running = tokio::task::JoinSet::new();
        running.spawn(Scheduler::new(client, Config::default()).run(stop.clone()));
        self.wait(holds).await;
        stop.cancel();
        running.join_next().await.unwrap().unwrap().unwrap();
    }

    async fn wait(&self, holds: impl Fn(&Self) -> bool) {
        let mut revision = self.revision.subscribe();
        let reached = tokio::time::timeout(Duration::from_secs(60), async {
            while !holds(self) {
                revision.changed().await.unwrap();
            }
        });
        if reached.await.is_err() {
            panic!(
                "not reached; {} bound, events {:#?}",
                self.bound(),
                self.messages("FailedScheduling")
            );
        }
    }

    fn bound(&self) -> usize {
        let pods = self.all("pods");
        pods.iter()
            .filter(|pod| pod["spec"]["nodeName"].is_string())
            .count()
    }

    fn messages(&self, reason: &str) -> Vec<String> {
        let events = self.all("events");
        let of = events.iter().filter(|event| event["reason"] == reason);
        of.map(|event| event["message"].as_str().unwrap().to_owned())
            .collect()
    }
}

fn json_answer(code: u16, body: &Value) -> Answer {
    let body = Full::new(Bytes::from(body.to_string())).boxed_unsync();
    Response::builder().status(code).body(body).unwrap()
}

#[tokio::test]
async fn a_burst_fills_the_nodes_without_overcommitting_one() {
    let fake = Fake::new();
    for node in 0..10 {
        fake.add_node(&format!("node-{node}"), "10");
    }
    for pod in 0..1000 {
        fake.add_pod(&format!("pod-{pod}"), "100m");
    }
    fake.run_until(|fake| fake.bound() == 1000).await;
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for pod in fake.all("pods") {
        *counts
            .entry(pod["spec"]["nodeName"].as_str().unwrap().to_owned())
            .or_default() += 1;
    }
    assert!(counts.values().all(|count| *count == 100), "{counts:?}");
    let scheduled = fake.messages("Scheduled");
    assert_eq!(scheduled.len(), 1000);
    assert!(
        scheduled[0].starts_with("Successfully assigned default/pod-"),
        "{}",
        scheduled[0]
    );
}

#[tokio::test]
async fn a_pod_that_fits_nowhere_is_placed_when_a_node_comes() {
    let fake = Fake::new();
    fake.add_node("small", "1");
    fake.add_pod("big", "2");
    let node = fake.clone();
    let added = async move {
        node.wait(|fake| fake.get("pods", "big")["status"]["conditions"].is_array())
            .await;
        node.add_node("large", "4");
    };
    let placed = fake.run_until(|fake| fake.bound() == 1 && fake.messages("Scheduled").len() == 1);
    tokio::join!(added, placed);
    let pod = fake.get("pods", "big");
    let message = "0/1 nodes are available: 1 Insufficient cpu. no new claims to deallocate, preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling.";
    assert_eq!(pod["spec"]["nodeName"], "large");
    assert_eq!(pod["status"]["conditions"][0]["reason"], "Unschedulable");
    assert_eq!(pod["status"]["conditions"][0]["message"], message);
    assert_eq!(fake.messages("FailedScheduling"), [message]);
}

#[tokio::test]
async fn a_condition_that_was_refused_is_written_at_the_next_attempt() {
    let fake = Fake::new();
    fake.objects.lock().unwrap().refused_statuses = 1;
    fake.add_node("small", "1");
    fake.add_pod("big", "2");
    let user = fake.clone();
    let tried_anew = async move {
        // The event follows the condition.
        user.wait(|fake| fake.messages("FailedScheduling").len() == 1)
            .await;
        let mut pod = user.get("pods", "big");
        assert!(pod["status"].is_null());
        pod["metadata"]["labels"] = json!({ "try": "again" });
        user.put("pods", "big", pod);
    };
    let told = fake.run_until(|fake| fake.get("pods", "big")["status"]["conditions"].is_array());
    tokio::join!(tried_anew, told);
}

#[tokio::test]
async fn a_pod_asks_for_its_volume_and_is_bound_once_it_is_there_and_nobody_else_waits() {
    let fake = Fake::new();
    fake.add_node("only", "10");
    let class = json!({"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {},
        "provisioner": "example.com/disk", "volumeBindingMode": "WaitForFirstConsumer"});
    fake.put("storageclasses", "k", class);
    let claim = |extra: &Value| {
        let mut claim = json!({
            "apiVersion": "v1", "kind": "PersistentVolumeClaim",
            "metadata": {"namespace": "default", "uid": "uid-c", "annotations": {}},
            "spec": {"storageClassName": "k", "accessModes": ["ReadWriteOnce"],
                "resources": {"requests": {"storage": "1Gi"}}},
        });
        for (key, value) in extra.as_object().unwrap() {
            claim["metadata"]["annotations"][key] = value.clone();
        }
        claim
    };
    fake.put("persistentvolumeclaims", "c", claim(&json!({})));
    fake.add_pod("waits", "1");
    let mut pod = fake.get("pods", "waits");
    pod["spec"]["volumes"] = json!([{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}]);
    fake.put("pods", "waits", pod);
    // More than there are slots for bindings: none of them is held by the pod that waits.
    for index in 0..100 {
        fake.add_pod(&format!("other-{index}"), "10m");
    }
    let provisioner = fake.clone();
    let provisioned = async move {
        const SELECTED: &str = "volume.kubernetes.io/selected-node";
        let asked = |fake: &Fake| {
            let claim = fake.get("persistentvolumeclaims", "c");
            claim["metadata"]["annotations"][SELECTED] == "only" && fake.bound() == 100
        };
        provisioner.wait(asked).await;
        assert!(provisioner.get("pods", "waits")["spec"]["nodeName"].is_null());
        let volume = json!({
            "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"uid": "uid-v"},
            "spec": {"storageClassName": "k", "claimRef":
                {"namespace": "default", "name": "c", "uid": "uid-c"}},
            "status": {"phase": "Bound"},
        });
        provisioner.put("persistentvolumes", "v", volume);
        let done = json!({SELECTED: "only", "pv.kubernetes.io/bind-completed": "yes"});
        let mut claim = claim(&done);
        claim["spec"]["volumeName"] = "v".into();
        provisioner.put("persistentvolumeclaims", "c", claim.clone());
        claim["status"]["phase"] = "Bound".into();
        provisioner.put("persistentvolumeclaims", "c", claim);
    };
    let placed = fake.run_until(|fake| fake.bound() == 101);
    tokio::join!(provisioned, placed);
    assert_eq!(fake.get("pods", "waits")["spec"]["nodeName"], "only");
}

#[tokio::test]
async fn a_refused_binding_is_tried_again() {
    let fake = Fake::new();
    fake.objects.lock().unwrap().conflicts = 1;
    fake.add_node("only", "1");
    fake.add_pod("pod", "1");
    fake.run_until(|fake| fake.bound() == 1).await;
}

/// Six nodes in three zones.
fn zones(fake: &Fake) {
    for (index, zone) in ["a", "a", "b", "b", "c", "c"].iter().enumerate() {
        let name = format!("node-{index}");
        let node = json!({
            "apiVersion": "v1", "kind": "Node",
            "metadata": { "labels": { "zone": zone, "kubernetes.io/hostname": name } },
            "status": { "allocatable": { "cpu": "8", "memory": "64Gi", "pods": "500" } },
        });
        fake.put("nodes", &name, node);
    }
}

/// Adds a pod that is labelled `app: web`, with these fields of its spec.
fn add_web(fake: &Fake, name: &str, spec: &Value) {
    fake.add_pod(name, "1");
    let mut pod = fake.get("pods", name);
    pod["metadata"]["labels"] = json!({ "app": "web" });
    for (key, value) in spec.as_object().unwrap() {
        pod["spec"][key] = value.clone();
    }
    fake.put("pods", name, pod);
}

#[tokio::test]
async fn pods_are_spread_though_their_bindings_are_on_the_way() {
    let fake = Fake::new();
    zones(&fake);
    let spread = |key: &str| {
        json!({ "maxSkew": 1, "topologyKey": key, "whenUnsatisfiable": "DoNotSchedule",
            "labelSelector": { "matchLabels": { "app": "web" } } })
    };
    let rules = [spread("zone"), spread("kubernetes.io/hostname")];
    for pod in 0..24 {
        let spec = json!({ "topologySpreadConstraints": rules });
        add_web(&fake, &format!("web-{pod}"), &spec);
    }
    fake.run_until(|fake| fake.bound() == 24).await;
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for pod in fake.all("pods") {
        let node = pod["spec"]["nodeName"].as_str().unwrap().to_owned();
        *counts.entry(node).or_default() += 1;
    }
    assert_eq!(counts.into_values().collect::<Vec<_>>(), [4; 6]);
}

#[tokio::test]
async fn a_pod_that_may_not_be_near_its_like_waits_for_a_zone_of_its_own() {
    let fake = Fake::new();
    zones(&fake);
    let term =
        json!({ "topologyKey": "zone", "labelSelector": { "matchLabels": { "app": "web" } } });
    let alone = json!({ "affinity": { "podAntiAffinity":
        { "requiredDuringSchedulingIgnoredDuringExecution": [term] } } });
    for pod in 0..4 {
        add_web(&fake, &format!("web-{pod}"), &alone);
    }
    let adder = fake.clone();
    let added = async move {
        adder
            .wait(|fake| !fake.messages("FailedScheduling").is_empty())
            .await;
        let node = json!({
            "apiVersion": "v1", "kind": "Node", "metadata": { "labels": { "zone": "d" } },
            "status": { "allocatable": { "cpu": "8", "memory": "64Gi", "pods": "500" } },
        });
        adder.put("nodes", "new", node);
    };
    let placed = fake.run_until(|fake| fake.bound() == 4);
    tokio::join!(added, placed);
    let message = &fake.messages("FailedScheduling")[0];
    let expected = "0/6 nodes are available: 6 node(s) didn't match pod anti-affinity rules.";
    assert!(message.starts_with(expected), "{message}");
    let pods = fake.all("pods");
    assert!(pods.iter().any(|pod| pod["spec"]["nodeName"] == "new"));
}
