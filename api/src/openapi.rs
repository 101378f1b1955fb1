//! What clients may send and get, as OpenAPI: `/openapi/v3`, an index with a digest for each document
//! and one document a group-version; `/openapi/v2`, all in one, as JSON or protobuf.
//!
//! Reads the catalog and the facts; the documents of what is served are built at the first request and
//! kept as bytes. kubectl plans its patches by these documents, so a definition is published with every
//! `x-kubernetes-*` extension that it has or not at all.
//!
//! - [`document`]: one document of v3: [`paths`] and their [`parameters`], and [`schemas`].
//! - [`custom`]: schemas of kinds that users define.
//! - [`descriptions`], [`values`]: what the structure doesn't say: texts, enums, defaults.
//! - [`v2`]: the documents of v3, together and in the older form.

mod custom;
mod descriptions;
mod document;
mod parameters;
mod paths;
mod schemas;
mod v2;
mod values;

use std::{
    collections::BTreeMap,
    sync::{Arc, LazyLock, OnceLock},
};

use axum::{
    Router,
    body::Body,
    extract::{Path, RawQuery, State},
    response::{IntoResponse, Response},
    routing::get,
};
use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};
use serde_json::{Value, json};

use crate::{
    accept::{self, Format},
    catalog::Catalog,
    discovery::{etag, hash, is_known},
    error::Error,
    kinds::GroupVersion,
};
use descriptions::Descriptions;

/// What a client that asks by the document's digest may do with the answer: keep it for a year.
const FOREVER: &str = "public, immutable, max-age=31536000";

/// The protobuf form of v2, as clients ask for it and as it is labelled.
const V2_PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";
const V2_PROTOBUF_LABEL: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

/// Every document, ready to be sent.
pub(crate) struct Documents {
    /// Of v3, by path: `api/v1`, `apis/apps/v1`.
    all: BTreeMap<String, Arc<Document>>,
    index: Bytes,
    /// Of v2, when somebody asked: in JSON, in protobuf.
    v2: OnceLock<[Bytes; 2]>,
}

pub(crate) struct Document {
    body: Bytes,
    hash: String,
}

impl Document {
    fn new(document: &Value) -> Self {
        let body = Bytes::from(document.to_string());
        let hash = hash(&body);
        Self { body, hash }
    }
}

/// Routes of the index and the documents.
pub fn router(catalog: Arc<Catalog>) -> Router {
    Router::new()
        .route("/openapi/v2", get(whole))
        .route("/openapi/v3", get(index))
        .route("/openapi/v3/", get(index))
        .route("/openapi/v3/{*path}", get(one))
        .with_state(catalog)
}

impl Documents {
    /// Builds the documents of what is served, and of discovery.
    ///
    /// Those of `carried` were built before, of group-versions that have not changed since.
    pub(crate) fn build(
        served: &[GroupVersion<'_>],
        carried: &BTreeMap<String, Arc<Document>>,
    ) -> Self {
        let descriptions = LazyLock::new(Descriptions::read);
        let known = |path: String, build: &dyn Fn(&str) -> Value| {
            let document = carried
                .get(&path)
                .cloned()
                .unwrap_or_else(|| Arc::new(Document::new(&build(&path))));
            (path, document)
        };
        let of_path = |path: &str| document::of_path(path, &descriptions);
        let mut all: BTreeMap<_, _> = ["version", "api", "apis"]
            .map(|path| known(path.to_owned(), &of_path))
            .into();
        for served in served {
            all.extend([known(served.path(), &|_| {
                document::build(served, &descriptions)
            })]);
            if !served.group.is_empty() {
                all.extend([known(format!("apis/{}", served.group), &of_path)]);
            }
        }
        let paths: serde_json::Map<_, _> = all
            .iter()
            .map(|(path, document)| {
                let url = format!("/openapi/v3/{path}?hash={}", document.hash);
                (path.clone(), json!({ "serverRelativeURL": url }))
            })
            .collect();
        Self {
            all,
            index: json!({ "paths": paths }).to_string().into(),
            v2: OnceLock::new(),
        }
    }

    /// Every document by its path.
    pub(crate) fn all(&self) -> &BTreeMap<String, Arc<Document>> {
        &self.all
    }

    /// The document of v2, in JSON and in protobuf.
    fn v2(&self) -> &[Bytes; 2] {
        self.v2.get_or_init(|| {
            let parsed = self.all.values().map(|document| {
                serde_json::from_slice(&document.body)
                    .expect("a document was JSON when it was built")
            });
            let whole = v2::build(parsed);
            [
                whole.to_string().into(),
                v2::protobuf::encode(&whole).into(),
            ]
        })
    }
}

async fn index(State(catalog): State<Arc<Catalog>>, headers: HeaderMap) -> Response {
    let served = catalog.served();
    let documents = served.openapi();
    answer(&documents.index, "application/json", &headers, "no-cache")
}

async fn one(
    State(catalog): State<Arc<Catalog>>,
    Path(path): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    let served = catalog.served();
    let documents = served.openapi();
    let path = path.trim_end_matches('/');
    let Some(document) = documents.all.get(path) else {
        return Error::NoSuchPath.into_response();
    };
    let asked = query.as_deref().unwrap_or_default().split('&');
    let mut hashes = asked.filter_map(|pair| pair.strip_prefix("hash="));
    match hashes.next() {
        None => answer(&document.body, "application/json", &headers, "no-cache"),
        Some(hash) if hash == document.hash => {
            answer(&document.body, "application/json", &headers, FOREVER)
        }
        // The document changed since the client read the index.
        Some(_) => Response::builder()
            .status(StatusCode::MOVED_PERMANENTLY)
            .header(
                header::LOCATION,
                format!("/openapi/v3/{path}?hash={}", document.hash),
            )
            .body(Body::empty())
            .unwrap_or_else(|_| Error::NoSuchPath.into_response()),
    }
}

async fn whole(State(catalog): State<Arc<Catalog>>, headers: HeaderMap) -> Response {
    let served = catalog.served();
    let documents = served.openapi();
    let mut ranges = accept::ranges(&headers).into_iter().peekable();
    let wants_json = ranges.peek().is_none();
    let protobuf = ranges.find_map(|range| match range.is(V2_PROTOBUF) {
        true => Some(true),
        false => (range.format() == Some(Format::Json)).then_some(false),
    });
    let [json, packed] = documents.v2();
    match protobuf {
        Some(true) => answer(packed, V2_PROTOBUF_LABEL, &headers, "no-cache"),
        None if !wants_json => Error::NotAcceptable.into_response(),
        _ => answer(json, "application/json", &headers, "no-cache"),
    }
}

fn answer(body: &Bytes, media_type: &str, request: &HeaderMap, cache: &str) -> Response {
    let tag = etag(body);
    let (status, body) = if is_known(request, &tag) {
        (StatusCode::NOT_MODIFIED, Body::empty())
    } else {
        (StatusCode::OK, body.clone().into())
    };
    Response::builder()
        .status(status)
        .header(header::VARY, "Accept")
        .header(header::CACHE_CONTROL, cache)
        .header(header::CONTENT_TYPE, media_type)
        .header(header::ETAG, tag)
        .body(body)
        .expect("every header is a constant or a digest")
}

#[cfg(test)]
mod tests {
    use axum::body::to_bytes;
    use tower::util::ServiceExt as _;

    use super::*;
    use crate::kinds::Registry;

    async fn ask(path: &str, accept: &str) -> (StatusCode, HeaderMap, Bytes) {
        let router = router(Catalog::new(&Registry::builtin()));
        let request = http::Request::get(path).header(header::ACCEPT, accept);
        let request = request.body(Body::empty()).expect("a request");
        let response = router.oneshot(request).await.expect("it cannot fail");
        let (head, body) = response.into_parts();
        let body = to_bytes(body, usize::MAX).await.expect("a body");
        (head.status, head.headers, body)
    }

    #[tokio::test]
    async fn the_index_leads_to_documents_that_may_be_kept() {
        let (_, _, body) = ask("/openapi/v3", "application/json").await;
        let index: Value = serde_json::from_slice(&body).expect("it is JSON");
        let paths = index["paths"].as_object().expect("it lists paths");
        for path in [
            "version",
            "api",
            "apis",
            "api/v1",
            "apis/apps",
            "apis/apps/v1",
        ] {
            let url = paths[path]["serverRelativeURL"].as_str().expect("a URL");
            let (status, headers, _) = ask(url, "*/*").await;
            assert_eq!(status, StatusCode::OK, "{url}");
            assert_eq!(headers[header::CACHE_CONTROL], FOREVER, "{url}");
        }
    }

    #[tokio::test]
    async fn an_old_digest_leads_to_the_new_one() {
        let (status, headers, _) = ask("/openapi/v3/apis/apps/v1?hash=OLD", "*/*").await;
        assert_eq!(status, StatusCode::MOVED_PERMANENTLY);
        let location = headers[header::LOCATION].to_str().expect("it is text");
        assert_eq!(ask(location, "*/*").await.0, StatusCode::OK);
        let (status, _, _) = ask("/openapi/v3/apis/none/v1", "*/*").await;
        assert_eq!(status, StatusCode::NOT_FOUND);
    }

    #[tokio::test]
    async fn v2_comes_in_the_form_that_is_asked_for() {
        for (accept, expected) in [
            ("application/json", "application/json"),
            ("*/*", "application/json"),
            (V2_PROTOBUF, V2_PROTOBUF_LABEL),
        ] {
            let (status, headers, body) = ask("/openapi/v2", accept).await;
            assert_eq!(status, StatusCode::OK, "{accept}");
            assert_eq!(headers[header::CONTENT_TYPE], expected, "{accept}");
            assert!(body.len() > 100_000, "{accept}");
        }
        let (status, _, _) = ask("/openapi/v2", "text/html").await;
        assert_eq!(status, StatusCode::NOT_ACCEPTABLE);
    }
}
