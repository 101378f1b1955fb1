//! The nodelet's own HTTP server: `/containerLogs/…`, `/exec/…`, `/attach/…`, `/portForward/…`, `/pods`,
//! `/functionLogs/…`, `/functionUsage`, `/stats/summary`, `/metrics`, `/metrics/probes`, `/metrics/resource`, `/healthz` and `/images`.
//!
//! - [`listener`]: mutual TLS for it.
//! - `streams`: the requests whose connections become sessions.
//! - `images`: the node's images; `pipe`: between bodies and what blocks.
//! - `refusal`: why a request is not served.
//!
//! Changes nothing but the node's images and what a session does in a container.

mod images;
pub mod listener;
mod pipe;
mod refusal;
mod streams;

use std::{sync::Arc, time::Duration};

use axum::{
    Json, Router,
    body::Body,
    extract::{Path, Query, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use jiff::Timestamp;
use runtimes::{RevisionRef, log::Stream};
use serde::Deserialize;
use serde_json::json;
use tracing::warn;

use crate::{
    functions, host,
    inotify::Changes,
    logs::{self, Follow, Selection},
    pod::worker::Context,
    pods::Pods,
    probe::counts::Counts,
    sessions::Sessions,
    usage::{Usage, disk::Disk, resource, summary},
};
pub use listener::{API_SERVER, serve, tls};

#[derive(Clone)]
struct Shared {
    context: Arc<Context>,
    pods: Pods,
    usage: Usage,
    disk: Disk,
    probes: Counts,
    changes: Changes,
    sessions: Sessions,
}

pub(crate) fn router(
    context: Arc<Context>,
    pods: Pods,
    usage: Usage,
    disk: Disk,
    probes: Counts,
    changes: Changes,
    sessions: Sessions,
) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok" }))
        .route("/pods", get(list_pods))
        .route("/metrics", get(tell_metrics))
        .route("/metrics/probes", get(tell_probe_metrics))
        .route("/metrics/resource", get(tell_resource_metrics))
        .route("/stats/summary", get(tell_summary))
        .route(
            "/containerLogs/{namespace}/{pod}/{container}",
            get(container_logs),
        )
        .route("/functionLogs/{namespace}/{revision}", get(function_logs))
        .route("/functionUsage", get(function_usage))
        .merge(streams::router())
        .merge(images::router())
        .with_state(Shared {
            context,
            pods,
            usage,
            disk,
            probes,
            changes,
            sessions,
        })
}

async fn tell_metrics(State(shared): State<Shared>) -> Response {
    let headers = [(header::CONTENT_TYPE, metrics::text::CONTENT_TYPE)];
    (headers, shared.context.config.metrics.text()).into_response()
}

async fn tell_resource_metrics(State(shared): State<Shared>) -> Response {
    let headers = [(header::CONTENT_TYPE, metrics::text::CONTENT_TYPE)];
    (headers, resource::text(&shared.usage.now())).into_response()
}

async fn tell_probe_metrics(State(shared): State<Shared>) -> Response {
    let headers = [(header::CONTENT_TYPE, metrics::text::CONTENT_TYPE)];
    (headers, shared.probes.text()).into_response()
}

async fn tell_summary(State(shared): State<Shared>) -> Response {
    let config = &shared.context.config;
    let host = summary::Host {
        now: Timestamp::now(),
        started: host::started().and_then(|second| Timestamp::from_second(second).ok()),
        available_bytes: host::memory().1,
        disk: host::disk(&config.state_dir),
        threads: host::threads(),
        swap: host::swap(),
    };
    let disk = shared.disk.now().await;
    Json(summary::of(
        &config.node_name,
        host,
        &shared.usage.now(),
        &disk,
    ))
    .into_response()
}

async fn list_pods(State(shared): State<Shared>) -> Response {
    let items = shared.pods.list();
    let items: Vec<_> = items.iter().map(|pod| &**pod).collect();
    Json(json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items}))
        .into_response()
}

/// The query of `/containerLogs`, as `PodLogOptions` names its fields.
#[derive(Deserialize, Default, Debug)]
#[serde(rename_all = "camelCase", default)]
struct LogQuery {
    follow: Option<Switch>,
    previous: Option<Switch>,
    timestamps: Option<Switch>,
    tail_lines: Option<u64>,
    since_seconds: Option<u64>,
    since_time: Option<Timestamp>,
    limit_bytes: Option<u64>,
    /// `Stdout`, `Stderr` or `All`.
    stream: Option<String>,
}

/// A boolean as Go's clients write one: `?follow`, `true`, `1`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Switch(bool);

impl<'de> Deserialize<'de> for Switch {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Switch, D::Error> {
        match String::deserialize(deserializer)?.as_str() {
            "" | "1" | "t" | "true" | "True" => Ok(Switch(true)),
            "0" | "f" | "false" | "False" => Ok(Switch(false)),
            other => Err(serde::de::Error::custom(format!(
                "{other:?} is neither true nor false"
            ))),
        }
    }
}

async fn container_logs(
    State(shared): State<Shared>,
    Path((namespace, name, container)): Path<(String, String, String)>,
    Query(query): Query<LogQuery>,
) -> Response {
    let refuse = |code, message: String| (code, message).into_response();
    let Some((pod, views)) = shared.pods.find(&namespace, &name) else {
        return refuse(
            StatusCode::NOT_FOUND,
            format!("pod \"{namespace}/{name}\" not found on this node"),
        );
    };
    let view = views
        .borrow()
        .iter()
        .find(|view| *view.name == *container)
        .cloned();
    let Some(view) = view else {
        return refuse(
            StatusCode::BAD_REQUEST,
            format!("container {container} is not valid for pod {name}"),
        );
    };
    let attempt = if on(query.previous) {
        view.ended
    } else {
        view.attempt
    };
    let Some(attempt) = attempt else {
        let message = if on(query.previous) {
            format!("previous terminated container {container:?} in pod {name:?} not found")
        } else {
            let reason = view.waiting.unwrap_or("ContainerCreating");
            format!("container {container:?} in pod {name:?} is waiting to start: {reason}")
        };
        return refuse(StatusCode::BAD_REQUEST, message);
    };
    let path = logs::file(&shared.context.config.log_dir, &pod, &container, attempt);
    let follows = on(query.follow) && !on(query.previous);
    let follow = follows.then(|| Follow::new(&shared.changes, &path, views, &container, attempt));
    send_log(&path, &query, follow).await
}

fn on(switch: Option<Switch>) -> bool {
    switch.is_some_and(|switch| switch.0)
}

/// The log of a revision's instances here, which is one.
async fn function_logs(
    State(shared): State<Shared>,
    Path((namespace, name)): Path<(String, String)>,
    Query(query): Query<LogQuery>,
) -> Response {
    let revision = RevisionRef { namespace, name };
    let path = functions::log(&shared.context, &revision);
    let views = shared.context.functions.follow(&revision);
    let (Some(path), Some(views)) = (path, views) else {
        let message = format!("functionrevision \"{revision}\" not found on this node");
        return (StatusCode::NOT_FOUND, message).into_response();
    };
    let follow = on(query.follow)
        .then(|| Follow::new(&shared.changes, &path, views, functions::CONTAINER, 0));
    send_log(&path, &query, follow).await
}

/// What functions used on this node.
async fn function_usage(State(shared): State<Shared>) -> Response {
    let all = functions::summary(&shared.context.functions);
    let items: Vec<_> = all.into_values().collect();
    Json(json!({ "node": shared.context.config.node_name, "items": items })).into_response()
}

async fn send_log(path: &std::path::Path, query: &LogQuery, follow: Option<Follow>) -> Response {
    let ago = query
        .since_seconds
        .map(|seconds| Timestamp::now() - Duration::from_secs(seconds.min(u64::from(u32::MAX))));
    let selection = Selection {
        tail: query.tail_lines,
        since: query.since_time.or(ago),
        timestamps: on(query.timestamps),
        limit: query.limit_bytes,
        stream: match query.stream.as_deref() {
            Some("Stdout") => Some(Stream::Stdout),
            Some("Stderr") => Some(Stream::Stderr),
            _ => None,
        },
    };
    match logs::read(path, selection, follow).await {
        Ok(stream) => (
            [(header::CONTENT_TYPE, "text/plain")],
            Body::from_stream(stream),
        )
            .into_response(),
        Err(error) => {
            warn!(%error, path = %path.display(), "read a log");
            (StatusCode::INTERNAL_SERVER_ERROR, "cannot read the log").into_response()
        }
    }
}
