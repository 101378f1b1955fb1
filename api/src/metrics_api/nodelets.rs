//! Asks every nodelet what its node and pods use.
//!
//! At most [`AT_ONCE`] are asked at a time and each has [`DEADLINE`]; those that have not answered after
//! [`ROUND`] are left out. Answers are kept for [`KEPT`], and whoever comes meanwhile waits for the round that runs.

use std::{sync::Arc, time::Duration};

use axum::body::Body;
use futures::{StreamExt as _, stream};
use http::Request;
use http_body_util::{BodyExt as _, Limited};
use store::ResourceKey;
use tokio::{
    sync::Mutex,
    time::{Instant, sleep, timeout},
};

use super::summary::Summary;
use crate::{
    error::Source, proxy::NodeTarget, server::state::Server, subresources::log, verbs::view,
};

/// How many nodelets are asked at once.
const AT_ONCE: usize = 32;
/// How long one may take.
const DEADLINE: Duration = Duration::from_secs(3);
/// How long all of them may take.
const ROUND: Duration = Duration::from_secs(5);
/// How long answers are given again: nodelets look every 5 s.
const KEPT: Duration = Duration::from_secs(5);
/// How much one may tell.
const BYTES: usize = 16 * 1024 * 1024;

/// What a node's nodelet answered.
pub(crate) struct Answered {
    pub(super) name: String,
    pub(super) summary: Summary,
}

/// The last round, and when it ended.
#[derive(Default)]
pub(crate) struct Round(Mutex<Option<(Instant, Arc<Vec<Answered>>)>>);

/// The answers of all nodes that answer.
pub(super) async fn ask(server: &Server) -> Arc<Vec<Answered>> {
    let mut last = server.usage.0.lock().await;
    if let Some((at, answers)) = &*last
        && at.elapsed() < KEPT
    {
        return answers.clone();
    }
    let answers = Arc::new(ask_all(server).await);
    *last = Some((Instant::now(), answers.clone()));
    answers
}

async fn ask_all(server: &Server) -> Vec<Answered> {
    let nodes = server.cache.list(&ResourceKey::new("", "nodes"), None);
    let targets = nodes.items.iter().filter_map(|item| {
        let node = view::parse(&item.decoded.value).ok()?;
        Some(log::target(item.key.name(), &node))
    });
    let targets: Vec<NodeTarget> = targets.collect();
    stream::iter(targets)
        .map(|node| answer(server, node))
        .buffer_unordered(AT_ONCE)
        .take_until(sleep(ROUND))
        .filter_map(std::future::ready)
        .collect()
        .await
}

/// One node's answer; none if there is none in time, which is no error: the node may be down.
async fn answer(server: &Server, node: NodeTarget) -> Option<Answered> {
    match timeout(DEADLINE, read(server, &node)).await {
        Ok(Ok(summary)) => Some(Answered {
            name: node.name,
            summary,
        }),
        Ok(Err(error)) => {
            tracing::debug!(node = node.name, error, "ask what a node uses");
            None
        }
        Err(_) => {
            tracing::debug!(node = node.name, "a node did not say in time what it uses");
            None
        }
    }
}

async fn read(server: &Server, node: &NodeTarget) -> Result<Summary, Source> {
    let request = Request::get("/stats/summary").body(Body::empty())?;
    let response = server.node_proxy.request(node, request).await?;
    if !response.status().is_success() {
        return Err(format!("the nodelet answered {}", response.status()).into());
    }
    let body = Limited::new(response.into_body(), BYTES).collect().await?;
    Ok(serde_json::from_slice(&body.to_bytes())?)
}
