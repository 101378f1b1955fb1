//! What CPU limits are worth: `cargo bench -p runtime-wasm --bench cpu` prints the figures.
//!
//! A component that spins under `cpu: 100m`, and what a server beside it answers in: alone, beside that one,
//! and beside four that spin without a limit. Prints only: a busy machine makes its own figures.

#![expect(clippy::unwrap_used, reason = "a benchmark that cannot go on ends")]
#![expect(clippy::print_stdout, reason = "its figures are what is asked for")]

#[path = "../tests/node/mod.rs"]
mod node;

use std::time::{Duration, Instant};

use node::{Node, SOON, at, example, fixture, get};
use runtimes::{ContainerSpec, Runtime as _};

/// How long each figure is measured.
const TIME: Duration = Duration::from_secs(10);

fn main() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(measure());
}

async fn measure() {
    let node = Node::new(140);
    let server = node.spec("server", &example("hello.wat")).await;
    node.start(&server).await.unwrap();
    get(at(server.address), "/").await.unwrap();
    latencies("a server alone", &server).await;

    let spinning = spin(&node, "limited", Some(100)).await;
    let (before, begun) = (
        node.runtime.stats(&spinning.id).await.unwrap().cpu,
        Instant::now(),
    );
    latencies("beside one that spins under cpu: 100m", &server).await;
    let used = node.runtime.stats(&spinning.id).await.unwrap().cpu - before;
    let share = used.as_secs_f64() / begun.elapsed().as_secs_f64() * 100.0;
    println!("{:<48} {share:.1} % of a core", "what it took");
    node.runtime.stop(&spinning.id, SOON).await.unwrap();

    let mut spinners = Vec::new();
    for number in 0..4 {
        spinners.push(spin(&node, &format!("free-{number}"), None).await);
    }
    latencies("beside four that spin without a limit", &server).await;
    for spec in spinners {
        node.runtime.stop(&spec.id, SOON).await.unwrap();
    }
}

async fn spin(node: &Node, name: &str, cpu_millis: Option<u64>) -> ContainerSpec {
    let mut spec = node.spec(name, &fixture("loop.wat")).await;
    spec.limits.cpu_millis = cpu_millis;
    node.start(&spec).await.unwrap();
    spec
}

/// One request after another, for a while.
async fn latencies(what: &str, server: &ContainerSpec) {
    let mut taken = Vec::new();
    let end = Instant::now() + TIME;
    while Instant::now() < end {
        let begun = Instant::now();
        get(at(server.address), "/").await.unwrap();
        taken.push(begun.elapsed());
    }
    taken.sort_unstable();
    let at = |part: f64| taken[((taken.len() - 1) as f64 * part) as usize];
    println!(
        "{what:<48} {} requests, p50 {:?}, p99 {:?}, longest {:?}",
        taken.len(),
        at(0.5),
        at(0.99),
        at(1.0)
    );
}
