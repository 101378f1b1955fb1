use std::convert::Infallible;

use http::{Request, Response};
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::storage::v1::StorageClass;
use kube::client::Body;
use kube::runtime::watcher::Event;
use serde_json::{Value, json};

use super::feed::{Fed, SeenPod};
use super::*;
use crate::node::Node;
use crate::owners::OwnerKind;
use crate::storage::{Claim, Class};

/// The loop's state before an API that never answers; every watch has listed that there is nothing.
struct Fixture {
    state: State,
    _writer: Writer,
}

impl Fixture {
    fn new() -> Self {
        let never = |_: Request<Body>| std::future::pending::<Result<Response<Body>, Infallible>>();
        let client = Client::new(tower::service_fn(never), "default");
        let config = Config::default();
        let (reporter, writer) = Writer::new(client.clone(), &config);
        let mut state = State::new(client, config, reporter);
        for listed in [
            Fed::Pod(Event::InitDone),
            Fed::Node(Event::InitDone),
            Fed::Claim(Event::InitDone),
            Fed::Volume(Event::InitDone),
            Fed::Class(Event::InitDone),
            Fed::Namespace(Event::InitDone),
            Fed::Service(Event::InitDone),
            Fed::Owner(OwnerKind::ReplicaSet, Event::InitDone),
            Fed::Owner(OwnerKind::ReplicationController, Event::InitDone),
            Fed::Owner(OwnerKind::StatefulSet, Event::InitDone),
            Fed::Budget(Event::InitDone),
        ] {
            state.see(listed);
        }
        Self {
            state,
            _writer: writer,
        }
    }

    /// A node with this much CPU.
    fn node(&mut self, name: &str, cpu: &str) {
        let node = parse(json!({"metadata": {"name": name},
            "status": {"allocatable": {"cpu": cpu, "memory": "8Gi", "pods": "10"}}}));
        let node = Node::from(&parse::<core::Node>(node));
        self.state.see(Fed::Node(Event::Apply(node)));
    }

    fn pod(&mut self, event: fn(SeenPod) -> Event<SeenPod>, pod: &Value) {
        let pod = SeenPod::new(&parse(pod.clone()), |name| name == "default-scheduler");
        self.state.see(Fed::Pod(event(pod)));
    }

    /// A claim whose volume is being made on node `a`.
    fn claim(&mut self) {
        let class = json!({"metadata": {"name": "made"}, "provisioner": "example.com/disk",
            "volumeBindingMode": "WaitForFirstConsumer"});
        let class = Class::from(&parse::<StorageClass>(class));
        self.state
            .see(Fed::Class(Event::Apply(("made".to_owned(), class))));
        self.state.see(Fed::Claim(Event::Apply(claim())));
    }

    /// How many pods are in this part of the queue.
    fn waiting(&self, place: &str) -> usize {
        let mut counts = self.state.queue.counts().into_iter();
        counts.find(|(name, _)| *name == place).unwrap().1
    }

    fn is_assumed(&self, claim: &str) -> bool {
        self.state.snapshot.storage.assumed(claim).is_some()
    }
}

/// What a watch says that starts anew and finds these pods.
fn relist(fixture: &mut Fixture, pods: &[&Value]) {
    fixture.state.see(Fed::Pod(Event::Init));
    for pod in pods {
        fixture.pod(Event::InitApply, pod);
    }
    fixture.state.see(Fed::Pod(Event::InitDone));
}

fn parse<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

fn claim() -> Claim {
    let claim = json!({"metadata": {"name": "c", "namespace": "ns", "uid": "c",
            "annotations": {"volume.kubernetes.io/selected-node": "a"}},
        "spec": {"storageClassName": "made"}});
    Claim::from(&parse::<core::PersistentVolumeClaim>(claim))
}

/// A pod that asks for so much CPU.
fn pod(name: &str, cpu: &str) -> Value {
    json!({
        "metadata": {"name": name, "uid": name, "namespace": "ns"},
        "spec": {"schedulerName": "default-scheduler",
            "containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}}}]},
    })
}

/// A pod that uses the claim.
fn user() -> Value {
    let mut user = pod("user", "1");
    user["spec"]["volumes"] = json!([{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}]);
    user
}

#[tokio::test]
async fn a_pod_that_ends_while_it_waits_for_its_volume_leaves_nothing_assumed() {
    let mut fixture = Fixture::new();
    fixture.node("a", "4");
    fixture.claim();
    let mut user = user();
    fixture.pod(Event::Apply, &user);
    fixture.state.turn(Instant::now());
    assert!(fixture.state.waiting.has("user"));
    assert!(fixture.is_assumed("ns/c"));
    user["status"]["phase"] = "Failed".into();
    fixture.pod(Event::Apply, &user);
    assert!(!fixture.state.waiting.has("user"));
    assert!(!fixture.is_assumed("ns/c"));
    assert_eq!(fixture.state.snapshot.counts(), (0, 0));
}

/// A node on which there is room for one pod, room that is made for `first`; `second` is parked.
fn nominated() -> (Fixture, Value) {
    let mut fixture = Fixture::new();
    fixture.node("a", "1");
    let mut first = pod("first", "1");
    first["spec"]["schedulingGates"] = json!([{"name": "held"}]);
    first["status"]["nominatedNodeName"] = "a".into();
    fixture.pod(Event::Apply, &first);
    fixture.pod(Event::Apply, &pod("second", "1"));
    fixture.state.turn(Instant::now());
    assert_eq!(fixture.waiting("unschedulable"), 1);
    (fixture, first)
}

#[tokio::test]
async fn room_made_for_a_pod_is_for_others_once_the_pod_is_gone() {
    let (mut fixture, first) = nominated();
    fixture.pod(Event::Delete, &first);
    assert_eq!(fixture.waiting("active"), 1);
}

#[tokio::test]
async fn room_made_for_a_pod_is_for_others_once_a_list_lacks_the_pod() {
    let (mut fixture, _) = nominated();
    relist(&mut fixture, &[&pod("second", "1")]);
    assert!(fixture.state.snapshot.nominated_on("a").is_empty());
    assert_eq!(fixture.waiting("active"), 1);
}

#[tokio::test]
async fn room_made_for_a_pod_is_for_others_once_it_is_made_elsewhere() {
    for elsewhere in [json!("b"), Value::Null] {
        let (mut fixture, mut first) = nominated();
        first["status"]["nominatedNodeName"] = elsewhere;
        fixture.pod(Event::Apply, &first);
        assert_eq!(fixture.waiting("active"), 1);
    }
}

#[tokio::test]
async fn room_made_for_a_pod_is_for_others_once_the_pod_runs_elsewhere() {
    let (mut fixture, mut first) = nominated();
    first["spec"]["nodeName"] = "b".into();
    fixture.pod(Event::Apply, &first);
    assert_eq!(fixture.waiting("active"), 1);
    let (mut fixture, mut first) = nominated();
    first["spec"]["nodeName"] = "a".into();
    fixture.pod(Event::Apply, &first);
    assert_eq!(fixture.waiting("unschedulable"), 1);
}

#[tokio::test]
async fn no_room_is_kept_for_a_pod_that_is_being_bound() {
    let mut fixture = Fixture::new();
    fixture.node("a", "1");
    let mut first = pod("first", "1");
    first["status"]["nominatedNodeName"] = "a".into();
    fixture.pod(Event::Apply, &first);
    fixture.state.turn(Instant::now());
    assert!(fixture.state.snapshot.is_assumed("first"));
    first["status"]["conditions"] = json!([{"type": "PodScheduled", "status": "False"}]);
    fixture.pod(Event::Apply, &first);
    assert!(fixture.state.snapshot.nominated_on("a").is_empty());
}

#[tokio::test]
async fn nothing_is_assumed_of_a_claim_that_is_gone() {
    let mut fixture = Fixture::new();
    fixture.node("a", "4");
    fixture.claim();
    fixture.pod(Event::Apply, &user());
    fixture.state.turn(Instant::now());
    assert!(fixture.is_assumed("ns/c"));
    fixture.state.see(Fed::Claim(Event::Delete(claim())));
    assert!(!fixture.is_assumed("ns/c"));
}

#[tokio::test]
async fn a_pod_whose_time_has_come_is_tried_in_the_next_turn_whatever_else_happens() {
    let mut fixture = Fixture::new();
    let now = Instant::now();
    fixture.pod(Event::Apply, &pod("large", "8"));
    fixture.state.turn(now);
    assert_eq!(fixture.waiting("unschedulable"), 1);
    let (snapshot, hour) = (&mut fixture.state.snapshot, Duration::from_secs(3600));
    let node = json!({"metadata": {"name": "a"},
        "status": {"allocatable": {"cpu": "8", "memory": "8Gi", "pods": "10"}}});
    snapshot.put_node(Node::from(&parse::<core::Node>(node)));
    fixture.state.turn(now + hour);
    assert_eq!(fixture.state.snapshot.counts(), (1, 1));
}
