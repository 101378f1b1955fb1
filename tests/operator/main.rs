//! An operator as people write them with kube-rs: `operator KUBECONFIG NAME`. The test in
//! `tests/operator.rs` runs it in a cluster's sandbox.
//!
//! - [`greeting`]: its kind, and what it does for each object.
//! - [`election`]: a Lease says which of its processes works.
//! - [`webhook`]: what it lets nobody write.

mod election;
mod greeting;
mod webhook;

use anyhow::Context as _;
use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use tokio::task::JoinSet;

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().context("which kubeconfig?")?;
    let name = arguments.next().context("which name?")?;
    let kubeconfig = Kubeconfig::read_from(path)?;
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    let client = Client::try_from(config)?;
    greeting::define(&client).await.context("define the kind")?;
    let lease = election::win(&client, &name).await.context("be elected")?;
    let mut tasks = JoinSet::new();
    tasks.spawn(lease.keep());
    tasks.spawn(webhook::serve(client.clone()));
    tasks.spawn(greeting::control(client, name));
    // Each goes on for ever: the first that ends, ends the process.
    tasks.join_next().await.context("there are tasks")??
}
