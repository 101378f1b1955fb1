//! Many pods on many hollow nodes: what they take, and how long one more takes.

use std::time::{Duration, Instant};

use futures::{StreamExt as _, TryStreamExt as _};
use hyper::Method;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api,
    api::{WatchEvent, WatchParams},
};
use serde_json::{Value, json};

use super::{Bench, client};
use crate::row;

const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";
const PODS: &str = "/api/v1/namespaces/default/pods";
/// Pods of one Deployment.
const REPLICAS: usize = 500;
/// How long all may take to be Ready.
const READY: Duration = Duration::from_secs(900);
/// How long the cluster is left alone.
const REST: Duration = Duration::from_secs(30);
/// Pods that are made one after another when all others are there.
const MORE: usize = 200;
/// How long one of them may take.
const SOON: Duration = Duration::from_secs(30);

pub(super) async fn held(bench: &Bench) {
    bench.registered().await;
    let (empty, _) = bench.wk.memory();
    row(
        &format!("{} hollow nodes, no pods: memory of wk", bench.nodes),
        &format!("{empty:.0} MB"),
        "reported",
    );
    at_rest(bench, "no pods").await;
    let (begun, cpu) = (Instant::now(), bench.wk.cpu_seconds());
    let counts = (0..bench.pods).step_by(REPLICAS);
    let deployments = counts.map(|first| {
        let replicas = REPLICAS.min(bench.pods - first);
        deployment(&format!("held-{first}"), replicas).to_string()
    });
    bench.client.create_all(DEPLOYMENTS, deployments).await;
    bench
        .client
        .until(READY, "pods that are Ready", async || {
            let ready: usize = bench.client.list(DEPLOYMENTS).await.iter().map(ready).sum();
            tokio::time::sleep(Duration::from_millis(200)).await;
            if ready == bench.pods {
                Ok(())
            } else {
                Err(ready)
            }
        })
        .await;
    let took = begun.elapsed().as_secs_f64();
    let count = bench.pods as f64;
    let (full, most) = bench.wk.memory();
    row(
        &format!(
            "{} pods of Deployments on {} nodes, all Ready",
            bench.pods, bench.nodes
        ),
        &format!("{took:.1} s ({:.0}/s)", count / took),
        "reported",
    );
    row(
        "CPU of wk a pod, from the Deployments to Ready",
        &format!("{:.2} ms", (bench.wk.cpu_seconds() - cpu) * 1000.0 / count),
        "reported",
    );
    row(
        "memory of wk with all pods (most; a pod)",
        &format!(
            "{full:.0} MB ({most:.0}; {:.1} KiB)",
            (full - empty) * 1024.0 / count
        ),
        "reported",
    );
    at_rest(bench, "all pods").await;
    let mut times = Vec::with_capacity(MORE);
    for number in 0..MORE {
        let name = format!("more-{number}");
        let one = one_more(bench, &name);
        times.push(
            tokio::time::timeout(SOON, one)
                .await
                .expect("it gets Ready"),
        );
    }
    times.sort_unstable();
    let millis = |share: usize| times[times.len() * share / 100].as_secs_f64() * 1000.0;
    row(
        "one more pod, created to Ready, p50 and p99",
        &format!("{:.1} ms, {:.1} ms", millis(50), millis(99)),
        "reported",
    );
}

/// CPU of the server while nobody asks for anything; Leases are renewed all the time.
async fn at_rest(bench: &Bench, what: &str) {
    let cpu = bench.wk.cpu_seconds();
    tokio::time::sleep(REST).await;
    let idle = (bench.wk.cpu_seconds() - cpu) / REST.as_secs_f64() * 100.0;
    row(
        &format!(
            "CPU of wk at rest, of one core, {} nodes, {what}",
            bench.nodes
        ),
        &format!("{idle:.1} %"),
        "reported",
    );
}

/// Makes a pod and waits until a watch says that it is Ready.
async fn one_more(bench: &Bench, name: &str) -> Duration {
    let pods: Api<Pod> = Api::default_namespaced(bench.client.0.clone());
    let only = WatchParams::default().fields(&format!("metadata.name={name}"));
    let watch = pods.watch(&only, "0").await.expect("a watch");
    let mut events = watch.boxed();
    let pod =
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec()});
    let begun = Instant::now();
    bench
        .client
        .write(Method::POST, PODS, pod.to_string())
        .await;
    while let Some(event) = events.try_next().await.expect("the watch goes on") {
        if let WatchEvent::Added(pod) | WatchEvent::Modified(pod) = event
            && client::is_ready(&serde_json::to_value(&pod).expect("a pod is JSON"))
        {
            return begun.elapsed();
        }
    }
    panic!("the watch of {name} ended before it was Ready");
}

pub(super) fn deployment(name: &str, replicas: usize) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"labels": {"app": name}}, "spec": spec()},
        },
    })
}

/// A container that asks for little and has no token.
fn spec() -> Value {
    let container = json!({"name": "main", "image": "example.com/hollow:1",
        "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}}});
    json!({"automountServiceAccountToken": false, "terminationGracePeriodSeconds": 1, "containers": [container]})
}

/// Pods of a Deployment that are Ready.
pub(super) fn ready(deployment: &Value) -> usize {
    let ready = deployment["status"]["readyReplicas"].as_u64();
    ready
        .and_then(|ready| usize::try_from(ready).ok())
        .unwrap_or_default()
}
