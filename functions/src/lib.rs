//! Functions: what makes their revisions, decides where requests go, and scales and calls them.
//!
//! Speaks to the apiserver through a [`kube::Client`] and holds nothing that a restart would lose. In reading order:
//! the crate [`reconcile`]; [`cache`], [`events`], [`context`]; then [`controller`]; [`autoscaler`], which says how
//! many pods containers have; [`triggers`], which call Functions at times.
//!
//! Never answers a request of a Function's: gateways and nodelets do.

mod address;
mod autoscaler;
mod cache;
mod clock;
mod context;
mod controller;
mod events;
pub mod metrics;
mod triggers;

use std::sync::Arc;

use anyhow::Context as _;
use kube::Client;
use reconcile::{error, key, queue};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::context::Context;

pub use address::Address;
pub use autoscaler::{Demand, Gateway, Sample};
pub use key::Key;
pub use triggers::{Call, Deliver, HttpDelivery};

/// What an operator may choose.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where gateways listen.
    pub address: Address,
    /// How many Functions are worked on at a time.
    pub workers: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            address: Address {
                domain: "localhost".to_owned(),
                port: Some(8080),
            },
            workers: 8,
        }
    }
}

/// The controller of Functions, ready to run.
pub struct Functions {
    client: Client,
    config: Config,
    gateways: Gateways,
}

/// The ways to gateways. Without one, what needs it is not done.
#[derive(Clone, Default)]
pub struct Gateways {
    /// What they count, for the autoscaler.
    pub demand: Option<Arc<dyn Demand>>,
    /// Where requests of triggers go.
    pub deliver: Option<Arc<dyn Deliver>>,
}

impl Functions {
    /// The client's identity should be `system:controller:functions`.
    pub fn new(client: Client, config: Config, gateways: Gateways) -> Self {
        Self {
            client,
            config,
            gateways,
        }
    }

    /// Runs until `stop`, then lets what is in hand finish.
    ///
    /// # Errors
    /// When a part of it ended in a panic.
    pub async fn run(self, stop: CancellationToken) -> anyhow::Result<()> {
        let context = Context::new(self.client, self.config);
        let mut tasks = JoinSet::new();
        context.watch(&mut tasks, &stop);
        tokio::select! {
            () = stop.cancelled() => {}
            () = context.ready() => work(&context, self.gateways, &mut tasks, &stop),
        }
        while let Some(ended) = tasks.join_next().await {
            ended.context("run the controller of Functions")?;
        }
        Ok(())
    }
}

/// Starts what works on the caches, which hold their first lists.
fn work(
    context: &Arc<Context>,
    gateways: Gateways,
    tasks: &mut JoinSet<()>,
    stop: &CancellationToken,
) {
    let (shared, ending) = (context.clone(), stop.clone());
    tasks.spawn(async move {
        let reconcile = |key| controller::reconcile(shared.clone(), key);
        let workers = shared.config.workers;
        shared.queue.run(workers, ending, reconcile).await;
    });
    if let Some(demand) = gateways.demand {
        tasks.spawn(autoscaler::run(context.clone(), demand, stop.clone()));
    }
    if let Some(deliver) = gateways.deliver {
        let (shared, stop) = (context.clone(), stop.clone());
        tasks.spawn(async move {
            let reconcile =
                |key| triggers::reconcile(shared.clone(), deliver.clone(), stop.clone(), key);
            shared
                .triggers
                .run(triggers::WORKERS, stop.clone(), reconcile)
                .await;
        });
    }
}
