//! `/openapi/v3`: an index with a digest for each document, and one document a group-version.
//!
//! Reads the catalog and the structural facts; the documents of what is served are built at the first
//! request and kept as bytes. kubectl plans its patches by these documents, so a definition is published with every
//! `x-kubernetes-*` extension that it has or not at all.

mod document;
mod paths;
mod schemas;

use std::{collections::BTreeMap, sync::Arc};

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
    catalog::Catalog,
    discovery::{etag, hash, is_known},
    error::Error,
    kinds::GroupVersion,
};

/// Every document by its path: `api/v1`, `apis/apps/v1`.
pub(crate) struct Documents {
    all: BTreeMap<String, Bytes>,
    index: Bytes,
}

/// Routes of the index and the documents.
pub fn router(catalog: Arc<Catalog>) -> Router {
    Router::new()
        .route("/openapi/v3", get(index))
        .route("/openapi/v3/", get(index))
        .route("/openapi/v3/{*path}", get(one))
        .with_state(catalog)
}

impl Documents {
    /// Makes the documents of these group-versions.
    pub(crate) fn build(served: &[GroupVersion<'_>]) -> Self {
        let mut all = BTreeMap::new();
        let mut paths = serde_json::Map::new();
        for served in served {
            let path = served.path();
            let document = Bytes::from(document::build(served).to_string());
            let url = format!("/openapi/v3/{path}?hash={}", hash(&document));
            paths.insert(path.clone(), json!({ "serverRelativeURL": url }));
            all.insert(path, document);
        }
        let index = json!({ "paths": paths }).to_string().into();
        Self { all, index }
    }
}

async fn index(State(catalog): State<Arc<Catalog>>, headers: HeaderMap) -> Response {
    answer(&catalog.served().openapi().index, &headers)
}

async fn one(
    State(catalog): State<Arc<Catalog>>,
    Path(path): Path<String>,
    headers: HeaderMap,
) -> Response {
    match catalog
        .served()
        .openapi()
        .all
        .get(path.trim_end_matches('/'))
    {
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
