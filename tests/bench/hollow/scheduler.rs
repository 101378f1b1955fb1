//! The scheduler, end to end: pods that a client creates as fast as it can, until each has a node in the store.
//!
//! The cases are Kubernetes' own (`scheduler_perf`), as are the nodes and the pods. Nodes are objects and nothing
//! more: nobody runs the pods.

use std::time::{Duration, Instant};

use futures::{FutureExt as _, future::Either};
use hyper::Method;
use serde_json::{Value, json};

use super::Bench;
use crate::row;

const PODS: &str = "/api/v1/namespaces/default/pods";
const NODES: &str = "/api/v1/nodes";
const SERVICES: &str = "/api/v1/namespaces/default/services";
/// How long all pods may take.
const BOUND: Duration = Duration::from_secs(300);
/// Pods that are bound before the clock starts.
const WARM: usize = 500;
/// Between two changes of the churn.
const CHURN: Duration = Duration::from_secs(1);

/// Nodes that all pods fit on.
pub(super) async fn basic(bench: &Bench) {
    make_nodes(bench).await;
    measure(bench, "basic", "goal >= 3,000", |_| Value::Null).await;
}

/// Pods that each may run on one node only, as a DaemonSet's.
pub(super) async fn pinned(bench: &Bench) {
    make_nodes(bench).await;
    let affinity = |number: usize| {
        let field = json!({"key": "metadata.name", "operator": "In",
            "values": [node_name(number % bench.nodes)]});
        let terms = json!({"nodeSelectorTerms": [{"matchFields": [field]}]});
        json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}})
    };
    measure(bench, "pinned as a DaemonSet's", "reported", affinity).await;
}

/// The basic case while a node, a pod that fits nowhere and a Service come and go.
pub(super) async fn churn(bench: &Bench) {
    make_nodes(bench).await;
    let measured = measure(bench, "with churn", "reported", |_| Value::Null);
    match futures::future::select(measured.boxed_local(), come_and_go(bench).boxed_local()).await {
        Either::Left(_) => {}
        Either::Right((never, _)) => match never {},
    }
}

async fn make_nodes(bench: &Bench) {
    let nodes = (0..bench.nodes).map(|number| node(&node_name(number), number));
    bench.client.create_all(NODES, nodes).await;
}

async fn measure(bench: &Bench, what: &str, goal: &str, affinity: impl Fn(usize) -> Value) {
    let client = &bench.client;
    let bound = async |wanted: usize| {
        let look = async || {
            let seen = scheduled(&client.metrics().await);
            if seen >= wanted { Ok(()) } else { Err(seen) }
        };
        client.until(BOUND, "pods that are bound", look).await;
    };
    let pods = |name: &'static str, count: usize| {
        let affinity = &affinity;
        (0..count).map(move |number| pod(&format!("{name}-{number}"), "100m", affinity(number)))
    };
    let warm = WARM.min(bench.pods);
    client.create_all(PODS, pods("warm", warm)).await;
    bound(warm).await;
    let (begun, cpu) = (Instant::now(), bench.wk.cpu_seconds());
    client.create_all(PODS, pods("pod", bench.pods)).await;
    let created = begun.elapsed().as_secs_f64();
    bound(warm + bench.pods).await;
    let took = begun.elapsed().as_secs_f64();
    let cpu = bench.wk.cpu_seconds() - cpu;
    let unbound = client
        .list(&format!("{PODS}?fieldSelector=spec.nodeName%3D"))
        .await;
    let large = |pod: &&Value| pod["metadata"]["name"] == "churn";
    let left = unbound.len() - unbound.iter().filter(large).count();
    assert_eq!(left, 0, "pods that the scheduler counted as bound");
    let count = bench.pods as f64;
    row(
        &format!(
            "{what}: {} nodes, {} pods, created and bound",
            bench.nodes, bench.pods
        ),
        &format!("{:.0}/s ({took:.1} s)", count / took),
        goal,
    );
    row(
        "the same: created alone; CPU of wk a pod; decision",
        &format!(
            "{:.0}/s; {:.2} ms; {:.0} µs",
            count / created,
            cpu * 1000.0 / count,
            decision_micros(&client.metrics().await),
        ),
        "reported",
    );
}

/// Creates and deletes one of each, in turn, for ever.
async fn come_and_go(bench: &Bench) -> std::convert::Infallible {
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "churn"},
        "spec": {"selector": {"app": "churn"}, "ports": [{"port": 8080}]}});
    let made = [
        (NODES, node("churn", 0)),
        (PODS, pod("churn", "9", Value::Null)),
        (SERVICES, service.to_string()),
    ];
    let now = json!({"gracePeriodSeconds": 0}).to_string();
    loop {
        for (path, body) in &made {
            bench.client.write(Method::POST, path, body.clone()).await;
        }
        tokio::time::sleep(CHURN).await;
        for (path, _) in &made {
            let path = format!("{path}/churn");
            bench.client.write(Method::DELETE, &path, now.clone()).await;
        }
        tokio::time::sleep(CHURN).await;
    }
}

fn node_name(number: usize) -> String {
    format!("node-{number}")
}

/// A node as Kubernetes' own benchmarks have it, with a part of the pods' addresses, so that nobody gives it one.
fn node(name: &str, number: usize) -> String {
    let [_, a, b, c] = u32::try_from(number << 8).expect("few nodes").to_be_bytes();
    let range = format!("10.{a}.{b}.{c}/24");
    let room = json!({"cpu": "4", "memory": "32Gi", "pods": "110"});
    json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": name},
        "spec": {"podCIDR": range, "podCIDRs": [range]},
        "status": {"capacity": room, "allocatable": room,
            "conditions": [{"type": "Ready", "status": "True", "reason": "Bench"}]},
    })
    .to_string()
}

fn pod(name: &str, cpu: &str, affinity: Value) -> String {
    let requests = json!({"cpu": cpu, "memory": "500Mi"});
    let mut pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name},
        "spec": {"automountServiceAccountToken": false,
            "containers": [{"name": "pause", "image": "registry.k8s.io/pause:3.10",
                "resources": {"requests": requests}}]},
    });
    if !affinity.is_null() {
        pod["spec"]["affinity"] = affinity;
    }
    pod.to_string()
}

/// Pods that the scheduler has bound.
fn scheduled(metrics: &str) -> usize {
    let counted = metrics.lines().filter(|line| {
        line.starts_with("scheduler_schedule_attempts_total{")
            && line.contains("result=\"scheduled\"")
    });
    let counts = counted.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok());
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a count"
    )]
    let sum = counts.sum::<f64>() as usize;
    sum
}

/// How long one decision took on average.
fn decision_micros(metrics: &str) -> f64 {
    let value = |name: &str| -> f64 {
        let lines = metrics.lines().filter(|line| line.starts_with(name));
        let values = lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok());
        values.sum()
    };
    const NAME: &str = "scheduler_scheduling_algorithm_duration_seconds";
    value(&format!("{NAME}_sum")) * 1e6 / value(&format!("{NAME}_count"))
}
