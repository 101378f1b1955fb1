//! `/healthz`, `/livez` and `/readyz`. They need no identity, and neither does discovery's `/version`.
//!
//! Live means that this process answers; ready that the store answers and the cluster's first objects
//! are there. A single check is `/readyz/<check>`; `?verbose` lists them all.

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{Path, RawQuery, State},
    response::{IntoResponse, Response},
    routing::get,
};
use http::StatusCode;
use tokio::time::timeout;

use super::state::{Server, Stage};
use crate::error::Error;

/// A store that has not answered by then is not healthy.
const DEADLINE: Duration = Duration::from_secs(2);

const LIVE: &[&str] = &["ping"];
const READY: &[&str] = &["ping", "store", "poststarthook/bootstrap"];

/// True for the paths that need no identity.
pub(crate) fn is_open(path: &str) -> bool {
    path == "/version"
        || ["/healthz", "/livez", "/readyz"].iter().any(|open| {
            path.strip_prefix(open)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        })
}

pub(crate) fn router() -> Router<Arc<Server>> {
    let mut router = Router::new();
    for (path, word, checks) in [
        ("/healthz", "healthz", READY),
        ("/livez", "livez", LIVE),
        ("/readyz", "readyz", READY),
    ] {
        router = router
            .route(
                path,
                get(
                    move |State(server): State<Arc<Server>>, RawQuery(query): RawQuery| async move {
                        all(&server, word, checks, query.as_deref().unwrap_or_default()).await
                    },
                ),
            )
            .route(
                &format!("{path}/{{*check}}"),
                get(
                    move |State(server): State<Arc<Server>>, Path(check): Path<String>| async move {
                        one(&server, checks, &check).await
                    },
                ),
            );
    }
    router
}

async fn all(server: &Server, word: &str, checks: &[&str], query: &str) -> Response {
    let mut text = String::new();
    let mut healthy = true;
    for check in checks {
        let passed = passes(server, check).await;
        healthy &= passed;
        text.push_str(&match passed {
            true => format!("[+]{check} ok\n"),
            false => format!("[-]{check} failed: reason withheld\n"),
        });
    }
    let verbose = query
        .split('&')
        .any(|pair| pair.split('=').next() == Some("verbose"));
    if !healthy {
        let text = format!("{text}{word} check failed\n");
        (StatusCode::INTERNAL_SERVER_ERROR, text).into_response()
    } else if verbose {
        format!("{text}{word} check passed\n").into_response()
    } else {
        "ok".into_response()
    }
}

async fn one(server: &Server, checks: &[&str], check: &str) -> Response {
    if !checks.contains(&check) {
        return Error::NoSuchPath.into_response();
    }
    if passes(server, check).await {
        "ok".into_response()
    } else {
        let text = "internal server error: reason withheld\n";
        (StatusCode::INTERNAL_SERVER_ERROR, text).into_response()
    }
}

async fn passes(server: &Server, check: &str) -> bool {
    match check {
        "store" => match timeout(DEADLINE, server.cache.fresh()).await {
            Ok(Ok(_)) => true,
            Ok(Err(error)) => {
                tracing::warn!(%error, "the store is not healthy");
                false
            }
            Err(_) => {
                tracing::warn!("the store does not answer");
                false
            }
        },
        "poststarthook/bootstrap" => *server.bootstrapped.borrow() == Stage::Ready,
        _ => true,
    }
}
