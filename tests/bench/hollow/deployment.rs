//! One Deployment of many pods: made, rolled over to a new template, and removed.

use std::time::{Duration, Instant};

use hyper::Method;
use serde_json::{Value, json};

use super::{Bench, calls::Calls, held};
use crate::row;

const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";
const DEPLOYMENT: &str = "/apis/apps/v1/namespaces/default/deployments/big";
const PODS: &str = "/api/v1/namespaces/default/pods?limit=1";
/// How long each step may take.
const DONE: Duration = Duration::from_secs(900);
/// Between two looks: each reads the whole Deployment.
const LOOK: Duration = Duration::from_millis(100);

pub(super) async fn deployment(bench: &Bench) {
    bench.registered().await;
    let client = &bench.client;
    let made = held::deployment("big", bench.pods);
    step(bench, "made", async || {
        client
            .write(Method::POST, DEPLOYMENTS, made.to_string())
            .await;
        finished(bench).await;
    })
    .await;
    let patch = json!({"spec": {"template": {"metadata": {"annotations": {"turn": "2"}}}}});
    step(bench, "rolled (25 % surge, 25 % unavailable)", async || {
        client
            .write(Method::PATCH, DEPLOYMENT, patch.to_string())
            .await;
        finished(bench).await;
    })
    .await;
    step(bench, "deleted with its pods", async || {
        let background = json!({"propagationPolicy": "Background"});
        client
            .write(Method::DELETE, DEPLOYMENT, background.to_string())
            .await;
        let gone = async || {
            let pods = client.get(PODS).await;
            let left = pods["metadata"]["remainingItemCount"].as_u64();
            let first = pods["items"].as_array().map_or(0, Vec::len) as u64;
            let left = left.unwrap_or_default() + first;
            tokio::time::sleep(LOOK).await;
            if left == 0 { Ok(()) } else { Err(left) }
        };
        client.until(DONE, "pods that are left", gone).await;
    })
    .await;
}

/// Does one step and prints what it took.
async fn step(bench: &Bench, what: &str, work: impl AsyncFnOnce()) {
    let before = Calls::so_far(&bench.client).await;
    let (begun, cpu) = (Instant::now(), bench.wk.cpu_seconds());
    work().await;
    let took = begun.elapsed().as_secs_f64();
    let cpu = (bench.wk.cpu_seconds() - cpu) * 1000.0 / bench.pods as f64;
    let (memory, most) = bench.wk.memory();
    row(
        &format!("a Deployment of {} pods {what}", bench.pods),
        &format!("{took:.1} s ({:.0}/s)", bench.pods as f64 / took),
        "reported",
    );
    row(
        "CPU of wk a pod; its memory now and at most",
        &format!("{cpu:.2} ms; {memory:.0} MB, {most:.0} MB"),
        "reported",
    );
    let calls = Calls::so_far(&bench.client).await;
    row(
        "calls of the API a pod",
        "",
        &calls.per_pod(&before, bench.pods),
    );
}

/// Waits until all pods are of the newest template and available.
async fn finished(bench: &Bench) {
    let look = async || {
        let deployment = bench.client.get(DEPLOYMENT).await;
        let seen = deployment["status"].clone();
        let all = Value::from(bench.pods);
        let counts = ["replicas", "updatedReplicas", "availableReplicas"];
        let current = seen["observedGeneration"] == deployment["metadata"]["generation"];
        tokio::time::sleep(LOOK).await;
        match current && counts.iter().all(|count| seen[*count] == all) {
            true => Ok(()),
            false => Err(seen),
        }
    };
    bench
        .client
        .until(DONE, "the Deployment's status", look)
        .await;
}
