//! What gateways count of containers' revisions: each node's server tells it, and whoever leads asks every ready node.
//!
//! A node tells at `/functions/demand`, behind the same door as its other answers, and is asked as the apiserver asks
//! nodelets: its own process' node in process, others over mutual TLS. One path for one process and for many.

use std::sync::{Arc, OnceLock};

use anyhow::{Context, Result, bail};
use api::proxy::{NodeProxy as _, NodeTarget};
use axum::{
    Json, Router,
    body::{Body, to_bytes},
    routing::get,
};
use http::{Request, StatusCode};
use k8s_openapi::api::core::v1::Node;
use kube::{Api, Client, api::ListParams};
use network::gateway::Handle;
use serde::{Deserialize, Serialize};

use crate::{components::NODELET_PORT, node_proxy::Nodelets};

const PATH: &str = "/functions/demand";

/// Bytes that a node may answer: a hundred or two for each revision that is asked for anything.
const ANSWER_BYTES: usize = 16 * 1024 * 1024;

/// What one gateway says of one revision.
#[derive(Serialize, Deserialize)]
struct Told {
    namespace: String,
    name: String,
    concurrency: f64,
    waiting: u64,
}

/// This node's gateway, once it is there.
#[derive(Clone, Default)]
pub(crate) struct Own(Arc<OnceLock<Handle>>);

impl Own {
    /// Names it; later calls change nothing.
    pub(crate) fn set(&self, gateway: Handle) {
        let _ = self.0.set(gateway);
    }

    /// Where this node tells what its gateway counts: nothing, while there is none.
    pub(crate) fn router(&self) -> Router {
        let own = self.0.clone();
        let tell = move || async move {
            let all = own.get().map(Handle::demand).unwrap_or_default();
            let told = all.into_iter().map(|(revision, sample)| Told {
                namespace: revision.namespace,
                name: revision.name,
                concurrency: sample.concurrency,
                waiting: sample.waiting,
            });
            Json(told.collect::<Vec<_>>())
        };
        Router::new().route(PATH, get(tell))
    }
}

/// The gateways of all nodes that are ready.
pub(crate) struct AllGateways {
    /// It may list nodes.
    pub(crate) client: Client,
    pub(crate) nodelets: Arc<Nodelets>,
}

#[async_trait::async_trait]
impl functions::Demand for AllGateways {
    async fn gateways(&self) -> Result<Vec<Arc<dyn functions::Gateway>>> {
        let nodes: Api<Node> = Api::all(self.client.clone());
        let any_version = ListParams::default().match_any();
        let nodes = nodes.list(&any_version).await.context("list nodes")?;
        let ready = nodes.items.into_iter().filter(is_ready);
        let gateways = ready.map(|node| -> Arc<dyn functions::Gateway> {
            Arc::new(Remote {
                target: target(node),
                nodelets: self.nodelets.clone(),
            })
        });
        Ok(gateways.collect())
    }
}

/// A node's gateway, by way of its server.
struct Remote {
    target: NodeTarget,
    nodelets: Arc<Nodelets>,
}

#[async_trait::async_trait]
impl functions::Gateway for Remote {
    fn node(&self) -> &str {
        &self.target.name
    }

    /// Nothing, where the node has no such answer.
    async fn demand(&self) -> Result<Vec<(functions::Key, functions::Sample)>> {
        let request = Request::get(PATH).body(Body::empty())?;
        let response = self.nodelets.request(&self.target, request).await?;
        match response.status() {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND => return Ok(Vec::new()),
            other => bail!("the node answered {other}"),
        }
        let body = to_bytes(response.into_body(), ANSWER_BYTES).await?;
        let told: Vec<Told> = serde_json::from_slice(&body).context("read a node's demand")?;
        let samples = told.into_iter().map(|each| {
            let sample = functions::Sample {
                concurrency: each.concurrency,
                waiting: each.waiting,
            };
            (functions::Key::new(&each.namespace, &each.name), sample)
        });
        Ok(samples.collect())
    }
}

/// Where a node's server listens.
fn target(node: Node) -> NodeTarget {
    let name = node.metadata.name.unwrap_or_default();
    let status = node.status.unwrap_or_default();
    let mut addresses = status.addresses.into_iter().flatten();
    let internal = addresses.find(|address| address.type_ == "InternalIP");
    let port = status.daemon_endpoints.and_then(|it| it.kubelet_endpoint);
    let port = port.and_then(|endpoint| u16::try_from(endpoint.port).ok());
    NodeTarget {
        address: internal.map_or_else(|| name.clone(), |address| address.address),
        port: port.unwrap_or(NODELET_PORT),
        name,
    }
}

fn is_ready(node: &Node) -> bool {
    let conditions = node.status.as_ref().and_then(|it| it.conditions.as_ref());
    let mut conditions = conditions.into_iter().flatten();
    conditions.any(|condition| condition.type_ == "Ready" && condition.status == "True")
}
