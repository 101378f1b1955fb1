//! `/openapi/v3`: an index with a digest for each document, and one document a group-version.
//!
//! Reads the registry and the structural facts; a document is built at the first request and kept
//! as bytes. kubectl plans its patches by these documents, so a definition is published with every
//! `x-kubernetes-*` extension that it has or not at all.

mod document;
mod paths;
mod schemas;

use std::{
    collections::BTreeMap,
    sync::{Arc, LazyLock},
};

use axum::{
    Router,
    body::Body,
    extract::{Path, State},
    response::{IntoResponse, Response},
    routing::get,
};
use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};
use serde_json::json;

use crate::{
    discovery::{etag, hash, is_known},
    error::Error,
    kinds::Registry,
};

/// Every document by its path: `api/v1`, `apis/apps/v1`.
struct Documents {
    all: BTreeMap<String, Bytes>,
    index: Bytes,
}

type Shared = Arc<LazyLock<Documents, Box<dyn FnOnce() -> Documents + Send>>>;

/// Routes of the index and the documents.
pub fn router(registry: Arc<Registry>) -> Router {
    let documents: Shared = Arc::new(LazyLock::new(Box::new(move || Documents::build(&registry))));
    Router::new()
        .route("/openapi/v3", get(index))
        .route("/openapi/v3/", get(index))
        .route("/openapi/v3/{*path}", get(one))
        .with_state(documents)
}

impl Documents {
    fn build(registry: &Registry) -> Self {
        let mut all = BTreeMap::new();
        let mut paths = serde_json::Map::new();
        for served in registry.group_versions() {
            let path = served.path();
            let document = Bytes::from(document::build(&served).to_string());
            let url = format!("/openapi/v3/{path}?hash={}", hash(&document));
            paths.insert(path.clone(), json!({ "serverRelativeURL": url }));
            all.insert(path, document);
        }
        let index = json!({ "paths": paths }).to_string().into();
        Self { all, index }
    }
}

async fn index(State(documents): State<Shared>, headers: HeaderMap) -> Response {
    answer(&documents.index, &headers)
}

async fn one(
    State(documents): State<Shared>,
    Path(path): Path<String>,
    headers: HeaderMap,
) -> Response {
    match documents.all.get(path.trim_end_matches('/')) {
        Some(document) => answer(document, &headers),
        None => Error::NoSuchPath.into_response(),
    }
}

fn answer(body: &Bytes, request: &HeaderMap) -> Response {
    let tag = etag(body);
    if is_known(request, &tag) {
        return respond(StatusCode::NOT_MODIFIED, tag, Body::empty());
    }
    respond(StatusCode::OK, tag, body.clone().into())
}

fn respond(status: StatusCode, tag: String, body: Body) -> Response {
    Response::builder()
        .status(status)
        .header(header::VARY, "Accept")
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::ETAG, tag)
        .body(body)
        .expect("every header is a constant or a digest")
}
