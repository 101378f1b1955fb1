//! What gateways count of containers' revisions: told by each node's server, summed over all nodes for the autoscaler.
//!
//! A node tells at `/functions/demand`, behind the same door as its other answers: `GET /api/v1/nodes/NAME/proxy/…`.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use axum::{Json, Router, routing::get};
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::Node;
use kube::{Api, Client, api::ListParams};
use network::gateway::Handle;
use serde::{Deserialize, Serialize};

const PATH: &str = "/functions/demand";

/// Nodes that are asked at a time.
const AT_ONCE: usize = 32;

/// What one gateway says of one revision.
#[derive(Serialize, Deserialize)]
struct Told {
    namespace: String,
    name: String,
    concurrency: f64,
    waiting: u64,
}

/// Where a node tells what its gateway counts.
pub(crate) fn router(gateway: Handle) -> Router {
    let tell = move || async move {
        let all = gateway.demand().into_iter();
        let told = all.map(|(revision, sample)| Told {
            namespace: revision.namespace,
            name: revision.name,
            concurrency: sample.concurrency,
            waiting: sample.waiting,
        });
        Json(told.collect::<Vec<_>>())
    };
    Router::new().route(PATH, get(tell))
}

/// Asks every node that is ready.
pub(crate) struct AllGateways(pub(crate) Client);

#[async_trait::async_trait]
impl functions::Demand for AllGateways {
    async fn demand(&self) -> Result<Vec<(functions::Key, functions::Sample)>> {
        let nodes: Api<Node> = Api::all(self.0.clone());
        let any_version = ListParams::default().match_any();
        let nodes = nodes.list(&any_version).await.context("list nodes")?;
        let names = nodes.items.into_iter().filter(is_ready);
        let names = names.filter_map(|node| node.metadata.name);
        let told: Vec<Vec<Told>> = stream::iter(names.map(|name| self.ask(name)))
            .buffer_unordered(AT_ONCE)
            .try_collect()
            .await?;
        let mut sums: BTreeMap<functions::Key, functions::Sample> = BTreeMap::new();
        for told in told.into_iter().flatten() {
            let key = functions::Key::new(&told.namespace, &told.name);
            let sum = sums.entry(key).or_default();
            sum.concurrency += told.concurrency;
            sum.waiting += told.waiting;
        }
        Ok(sums.into_iter().collect())
    }
}

impl AllGateways {
    /// What one node tells; nothing, where it has no gateway.
    async fn ask(&self, name: String) -> Result<Vec<Told>> {
        let request = http::Request::get(format!("/api/v1/nodes/{name}/proxy{PATH}"));
        let request = request.body(Vec::new()).context("name a node's gateway")?;
        match self.0.request(request).await {
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(Vec::new()),
            told => told.with_context(|| format!("ask the gateway of node {name}")),
        }
    }
}

fn is_ready(node: &Node) -> bool {
    let conditions = node.status.as_ref().and_then(|it| it.conditions.as_ref());
    let mut conditions = conditions.into_iter().flatten();
    conditions.any(|condition| condition.type_ == "Ready" && condition.status == "True")
}
