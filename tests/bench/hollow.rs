//! What stands above nodes, with nodes that do no work: `cargo xtask bench hollow`.
//!
//! Each case has a `wk up --no-node` of its own, in a sandbox, and a client in the same network. The client's and the
//! hollow nodes' time is on the same cores as the server's, so what is printed is less than the server alone can do.
//!
//! - [`scheduler`]: pods created and bound in a second, to nodes that are objects and nothing more.
//! - [`held`]: many pods on hollow nodes, what they take, and how long one more takes to be Ready.
//! - [`deployment`]: one Deployment of many pods, made, rolled and removed.
//! - [`client`]: how the API is asked. [`calls`]: what was asked of it. [`process`]: what the server takes.

mod calls;
mod client;
mod deployment;
mod held;
mod process;
mod scheduler;

use std::{
    fmt::Write as _,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use e2e::{Cluster, Options, program};

use client::Client;
use process::Process;

/// What is measured: its name, and how many nodes and pods it has when a run is to be short, and in full.
const CASES: [(&str, Counts, Counts); 5] = [
    ("basic", Counts(1_000, 2_000), Counts(5_000, 10_000)),
    ("pinned", Counts(1_000, 2_000), Counts(15_000, 30_000)),
    ("churn", Counts(1_000, 2_000), Counts(5_000, 10_000)),
    ("held", Counts(100, 2_000), Counts(1_000, 50_000)),
    ("deployment", Counts(20, 500), Counts(100, 5_000)),
];
/// How long all nodes may take to be Ready.
const REGISTERED: Duration = Duration::from_secs(300);

/// Nodes and pods.
#[derive(Clone, Copy)]
struct Counts(usize, usize);

/// What a case works with.
struct Bench {
    client: Client,
    wk: Process,
    nodes: usize,
    pods: usize,
}

/// Runs the cases that the words name, all by default; `--full`, `--nodes N` and `--pods N` change their counts.
pub(crate) fn bench(words: &[&str]) {
    let full = words.contains(&"--full");
    let number = |flag: &str| {
        let place = words.iter().position(|word| *word == flag)?;
        words.get(place + 1)?.parse::<usize>().ok()
    };
    let named = |name: &str| words.contains(&name);
    let any = CASES.iter().any(|(name, _, _)| named(name));
    for (name, short, long) in CASES {
        if any && !named(name) {
            continue;
        }
        let Counts(nodes, pods) = if full { long } else { short };
        let nodes = number("--nodes").unwrap_or(nodes);
        let pods = number("--pods").unwrap_or(pods);
        case(name, nodes, pods);
    }
}

/// Starts what a case needs, and measures within its network.
fn case(name: &str, nodes: usize, pods: usize) {
    let own = std::env::current_exe().expect("this program is a file");
    let dir = tempfile::tempdir().expect("a temporary directory");
    let tokens = dir.path().join("tokens");
    std::fs::write(&tokens, identities(nodes)).expect("a temporary directory can be written");
    let arguments = ["--no-node", "--token-auth-file"].map(str::to_owned);
    let cluster = Cluster::with(Options {
        arguments: [&arguments[..], &[tokens.display().to_string()]].concat(),
        ..Options::default()
    });
    let _hollow = matches!(name, "held" | "deployment").then(|| {
        let mut command = cluster.sandbox.command(program("hollow"));
        command
            .arg(cluster.kubeconfig())
            .arg(&tokens)
            .arg(dir.path().join("nodes"));
        Hollow::start(command)
    });
    let ended = cluster
        .sandbox
        .command(own)
        .arg("hollow-within")
        .arg(cluster.kubeconfig())
        .args([name, &cluster.pid().to_string()])
        .args([nodes, pods].map(|number| number.to_string()))
        .status();
    assert!(
        ended.is_ok_and(|status| status.success()),
        "{name} was not measured; wk printed:\n{}",
        cluster.log()
    );
}

/// A token for each node, as `--token-auth-file` reads them.
fn identities(nodes: usize) -> String {
    let mut text = String::new();
    for number in 0..nodes {
        let name = format!("hollow-{number}");
        writeln!(
            text,
            "token-{name},system:node:{name},{name},\"system:nodes\""
        )
        .expect("memory");
    }
    text
}

/// The process of the hollow nodes; killed with the value.
struct Hollow(Child);

impl Hollow {
    fn start(mut command: Command) -> Hollow {
        Hollow(
            command
                .stdout(Stdio::null())
                .spawn()
                .expect("hollow starts"),
        )
    }
}

impl Drop for Hollow {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Measures one case from within the sandbox.
pub(crate) fn within(arguments: &[&str]) {
    let [kubeconfig, name, pid, nodes, pods] = arguments else {
        panic!("arguments: {arguments:?}");
    };
    let number = |text: &str| text.parse::<usize>().expect("a number");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let bench = Bench {
            client: Client::new(&PathBuf::from(kubeconfig)).await,
            wk: Process(number(pid)),
            nodes: number(nodes),
            pods: number(pods),
        };
        match *name {
            "basic" => scheduler::basic(&bench).await,
            "pinned" => scheduler::pinned(&bench).await,
            "churn" => scheduler::churn(&bench).await,
            "held" => held::held(&bench).await,
            _ => deployment::deployment(&bench).await,
        }
    });
}

impl Bench {
    /// Waits until all hollow nodes are Ready.
    async fn registered(&self) {
        self.client
            .until(REGISTERED, "nodes that are Ready", async || {
                let nodes = self.client.list("/api/v1/nodes").await;
                let ready = |node: &&serde_json::Value| client::is_ready(node);
                let ready = nodes.iter().filter(ready).count();
                if ready >= self.nodes {
                    Ok(())
                } else {
                    Err(ready)
                }
            })
            .await;
    }
}
