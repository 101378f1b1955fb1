//! `hollow <kubeconfig> <tokens> <directory>`: many nodelets in one process, for tests of what stands above them.
//!
//! Each line of `tokens` (as `wk up --token-auth-file` reads it) whose user is `system:node:<name>` is a node. Its
//! nodelet is the real one: it registers the Node, renews its Lease, watches its pods and writes their status, over an
//! HTTP/2 connection of its own with its own identity. What is below it is not there: containers, images and pod
//! addresses are the fakes of `runtimes`, so a pod is Ready as soon as the nodelet has done its part. No nodelet has a
//! server, so logs and exec find nobody.
//!
//! - [`client`](mod@client): the connection of one node.
//! - [`node`]: one node.
//!
//! Runs until it is killed; below `directory` are the pods' own directories. Never part of the product.

mod client;
mod node;

use std::{path::Path, process::ExitCode, time::Duration};

use anyhow::{Context as _, Result, bail};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// As the product has it: a nodelet's cost is compared with the product's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Between the starts of two nodelets: their Leases and reports are spread over time, as those of real nodes are.
const STAGGER: Duration = Duration::from_millis(10);
/// Who a node's token is for.
const USER: &str = "system:node:";

fn main() -> ExitCode {
    let filter = std::env::var("WK_LOG").unwrap_or_else(|_| "error".to_owned());
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .init();
    match start() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [kubeconfig, tokens, directory] = arguments.as_slice() else {
        bail!("usage: hollow <kubeconfig> <tokens> <directory>");
    };
    rustls::crypto::ring::default_provider()
        .install_default()
        .map_err(|_| anyhow::anyhow!("another TLS provider is installed"))?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("start the async runtime")?;
    runtime.block_on(run(
        kubeconfig.as_ref(),
        tokens.as_ref(),
        directory.as_ref(),
    ))
}

/// Runs a nodelet for each node; the first that fails ends them all.
async fn run(kubeconfig: &Path, tokens: &Path, directory: &Path) -> Result<()> {
    let text = std::fs::read_to_string(tokens)
        .with_context(|| format!("read the tokens {}", tokens.display()))?;
    let nodes: Vec<(&str, &str)> = text.lines().filter_map(node_of).collect();
    let server = client::Server::of(kubeconfig).await?;
    let stop = CancellationToken::new();
    let mut running = JoinSet::new();
    for (place, (token, name)) in nodes.into_iter().enumerate() {
        let client = server.client(token)?;
        let nodelet = node::hollow(client, name, place, &directory.join(name))?;
        running.spawn(nodelet.run(stop.clone()));
        tokio::select! {
            Some(ended) = running.join_next() => {
                return ended.context("a nodelet panicked")?.context("a nodelet failed");
            }
            () = tokio::time::sleep(STAGGER) => {}
        }
    }
    while let Some(ended) = running.join_next().await {
        ended.context("a nodelet panicked")??;
    }
    Ok(())
}

/// The token and the node of a line of the tokens' file.
fn node_of(line: &str) -> Option<(&str, &str)> {
    let (token, rest) = line.split_once(',')?;
    let (user, _) = rest.split_once(',')?;
    Some((token, user.strip_prefix(USER)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_tokens_of_nodes_are_nodes() {
        let line = "secret,system:node:n1,n1,\"system:nodes\"";
        assert_eq!(node_of(line), Some(("secret", "n1")));
        assert_eq!(node_of("secret,alice,7,\"dev\""), None);
        assert_eq!(node_of(""), None);
    }
}
