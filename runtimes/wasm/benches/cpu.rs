//! What CPU limits are worth: `cargo bench -p runtime-wasm --bench cpu` prints the figures.
//!
//! What a server answers in, alone, beside a component that spins under `cpu: 100m`, and beside four that
//! spin without a limit; and what the limited one took. The phases take turns, several times, and medians
//! are printed with the least and the most, so that a busy machine shows. Prints only.

#![expect(clippy::unwrap_used, reason = "a benchmark that cannot go on ends")]
#![expect(clippy::print_stdout, reason = "its figures are what is asked for")]

#[path = "../tests/node/mod.rs"]
mod node;

use std::time::{Duration, Instant};

use node::{Node, SOON, at, example, fixture, get};
use runtimes::{ContainerSpec, Runtime as _};

/// How long a phase is each time.
const TIME: Duration = Duration::from_secs(4);
/// How often.
const ROUNDS: usize = 7;

fn main() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(measure());
}

async fn measure() {
    let node = Node::new(140);
    let server = node.spec("server", &example("hello.wat")).await;
    node.start(&server).await.unwrap();
    latencies(&server, TIME / 4).await;

    let [mut alone, mut limited, mut free] = [const { Vec::new() }; 3];
    let mut shares = Vec::new();
    for round in 0..ROUNDS {
        alone.push(latencies(&server, TIME).await);

        let spinning = spin(&node, &format!("limited-{round}"), Some(100)).await;
        let used = async || node.runtime.stats(&spinning.id).await.unwrap().cpu;
        let (before, begun) = (used().await, Instant::now());
        limited.push(latencies(&server, TIME).await);
        let took = used().await - before;
        shares.push(took.as_secs_f64() / begun.elapsed().as_secs_f64() * 100.0);
        node.runtime.stop(&spinning.id, SOON).await.unwrap();

        let mut spinners = Vec::new();
        for number in 0..4 {
            spinners.push(spin(&node, &format!("free-{round}-{number}"), None).await);
        }
        free.push(latencies(&server, TIME).await);
        for spec in spinners {
            node.runtime.stop(&spec.id, SOON).await.unwrap();
        }
    }
    println!("medians of {ROUNDS} turns of {TIME:?} (least, most)");
    print("a server alone", &alone, &alone);
    print("beside one that spins under cpu: 100m", &limited, &alone);
    println!("{:<40} {} % of a core", "  what it took", spread(shares));
    print("beside four that spin without a limit", &free, &alone);
}

async fn spin(node: &Node, name: &str, cpu_millis: Option<u64>) -> ContainerSpec {
    let mut spec = node.spec(name, &fixture("loop.wat")).await;
    spec.limits.cpu_millis = cpu_millis;
    node.start(&spec).await.unwrap();
    spec
}

/// Of one phase: requests a second, and what they took in microseconds.
struct Latencies {
    rate: f64,
    p50: f64,
    p99: f64,
    longest: f64,
}

/// One request after another, for a while.
async fn latencies(server: &ContainerSpec, time: Duration) -> Latencies {
    let mut taken = Vec::new();
    let end = Instant::now() + time;
    while Instant::now() < end {
        let begun = Instant::now();
        get(at(server.address), "/").await.unwrap();
        taken.push(begun.elapsed());
    }
    taken.sort_unstable();
    let at = |part: f64| taken[((taken.len() - 1) as f64 * part) as usize].as_secs_f64() * 1e6;
    Latencies {
        rate: taken.len() as f64 / time.as_secs_f64(),
        p50: at(0.5),
        p99: at(0.99),
        longest: at(1.0),
    }
}

fn print(what: &str, phases: &[Latencies], alone: &[Latencies]) {
    let all = |value: fn(&Latencies) -> f64| spread(phases.iter().map(value).collect());
    let pairs = phases.iter().zip(alone);
    let times = spread(pairs.map(|(phase, alone)| phase.p99 / alone.p99).collect());
    println!(
        "{what:<40} {}/s, p50 {} us, p99 {} us: {times} times, longest {} us",
        all(|phase| phase.rate),
        all(|phase| phase.p50),
        all(|phase| phase.p99),
        all(|phase| phase.longest),
    );
}

/// Median, least and most.
fn spread(mut values: Vec<f64>) -> String {
    values.sort_unstable_by(f64::total_cmp);
    let (least, most) = (values[0], values[values.len() - 1]);
    let digits = if most < 30.0 { 1 } else { 0 };
    format!(
        "{:.digits$} ({least:.digits$}, {most:.digits$})",
        values[values.len() / 2]
    )
}
