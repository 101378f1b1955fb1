//! The protocol: from a request under `/v2/` to an answer.
//!
//! - [`route`]: what a path is about. Pure.
//! - [`account`]: who asks, and how clients without a certificate get in.
//! - `blobs`, `uploads`, `manifests`, `lists`: the answers.
//!
//! Every request is identified and allowed before anything is read. What writes goes on in a task of the registry's
//! when its client goes away, so that what came can be taken up again.

mod account;
mod blobs;
mod lists;
mod manifests;
mod route;
mod uploads;

use std::sync::Arc;

use axum::{
    Router,
    extract::{Request, State},
    response::{IntoResponse, Response},
    routing::any,
};
use futures::{StreamExt as _, TryStreamExt as _};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header, request::Parts};
use serde_json::json;

use crate::{
    access::{Action, Caller},
    digest::Digest,
    error::{Code, Error},
    name::{Reference, Repository},
    registry::{Inner, Registry},
    uploads::Body,
};
use route::Route;

/// By which clients know the protocol.
const API_VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");
const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

/// How clients reach a listener.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scheme {
    /// In the clear, on this host alone.
    Http,
    /// Over TLS.
    Https,
}

/// What an answer is made with.
#[derive(Clone)]
struct Server {
    inner: Arc<Inner>,
    scheme: Scheme,
}

/// A request whose sender is known.
struct Asked {
    inner: Arc<Inner>,
    caller: Arc<dyn Caller>,
    head: Parts,
}

impl Registry {
    /// Answers everything under `/v2/` to clients that come by that scheme.
    pub fn router(&self, scheme: Scheme) -> Router {
        let server = Server {
            inner: self.0.clone(),
            scheme,
        };
        Router::new()
            .route("/v2", any(serve))
            .route("/v2/", any(serve))
            .route("/v2/{*path}", any(serve))
            .with_state(server)
    }
}

async fn serve(State(server): State<Server>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let path = head.uri.path().to_owned();
    let route = route::parse(&path);
    let operation = route
        .as_ref()
        .map_or("unknown", |route| route.operation(&head.method));
    let is_head = head.method == Method::HEAD;
    let challenge = account::challenge(&server, &head, route.as_ref());
    let mut response = match answer(&server, route, head, body).await {
        Ok(response) => response,
        Err(error) => error.into_response(),
    };
    let headers = response.headers_mut();
    headers.insert(API_VERSION, HeaderValue::from_static("registry/2.0"));
    if response.status() == StatusCode::UNAUTHORIZED {
        response
            .headers_mut()
            .insert(header::WWW_AUTHENTICATE, challenge);
    }
    server
        .inner
        .metrics
        .asked(operation, response.status().as_u16());
    match is_head {
        true => response.map(|_| axum::body::Body::empty()),
        false => response,
    }
}

async fn answer(
    server: &Server,
    route: Option<Route<'_>>,
    head: Parts,
    body: axum::body::Body,
) -> Result<Response, Error> {
    let Ok(_place) = server.inner.requests.try_acquire() else {
        return Err(Error::new(
            Code::TooManyRequests,
            "the registry is busy: try again later",
            json!(null),
        ));
    };
    let unknown = || {
        Error::new(
            Code::Unsupported,
            "there is nothing at this path",
            json!(null),
        )
    };
    let route = route.ok_or_else(unknown)?;
    let caller = account::identify(&server.inner, &head).await?;
    if let Route::Token = route {
        return account::token(&head);
    }
    let asked = Asked {
        inner: server.inner.clone(),
        caller,
        head,
    };
    match route {
        Route::Token | Route::Version => asked.version(),
        Route::Catalog => asked.catalog().await,
        Route::Blob { name, digest } => asked.blob(&repository(name)?, &parse(&digest)?).await,
        Route::Uploads { name } => asked.begin(repository(name)?, body).await,
        Route::Upload { name, id } => asked.upload(repository(name)?, id, body).await,
        Route::Manifest { name, reference } => {
            let repository = repository(name)?;
            asked
                .manifest(repository, reference_of(&reference)?, body)
                .await
        }
        Route::Tags { name } => asked.tags(&repository(name)?).await,
        Route::Referrers { name, digest } => {
            asked.referrers(&repository(name)?, &parse(&digest)?).await
        }
    }
}

impl Asked {
    /// Refuses what the caller may not do.
    fn allow(&self, action: Action, repository: &Repository) -> Result<(), Error> {
        self.caller.may(action, repository).map_err(|why| {
            tracing::debug!(user = self.caller.name(), %repository, ?action, "refused");
            let detail = json!({"name": repository.as_str(), "verb": action.verb()});
            Error::new(Code::Denied, why, detail)
        })
    }

    fn version(&self) -> Result<Response, Error> {
        match self.head.method {
            Method::GET | Method::HEAD => Ok(axum::Json(json!({})).into_response()),
            _ => Err(self.unsupported()),
        }
    }

    fn unsupported(&self) -> Error {
        let method = &self.head.method;
        let message = format!("{method} is not done here");
        Error::new(Code::Unsupported, message, json!(null))
    }

    /// A parameter of the query; empty ones count as left out.
    fn parameter(&self, name: &str) -> Option<String> {
        let pairs: Vec<(String, String)> = axum::extract::Query::try_from_uri(&self.head.uri)
            .map_or_else(|_| Vec::new(), |query| query.0);
        let mut values = pairs.into_iter().filter(|(own, _)| own == name);
        values
            .next()
            .map(|(_, value)| value)
            .filter(|value| !value.is_empty())
    }

    /// How many entries of a list are wanted.
    fn count(&self) -> Result<Option<usize>, Error> {
        let Some(text) = self.parameter("n") else {
            return Ok(None);
        };
        let count = text.parse().map_err(|_| {
            let message = format!("n={text:?} is no number");
            Error::new(Code::Unsupported, message, json!({"n": text}))
        });
        count.map(Some)
    }

    fn header(&self, name: &HeaderName) -> Option<&str> {
        self.head.headers.get(name)?.to_str().ok()
    }

    /// How long the body says it is.
    fn content_length(&self) -> Option<u64> {
        self.header(&header::CONTENT_LENGTH)?.parse().ok()
    }
}

/// Runs what writes to its end, whether or not the client waits for it.
async fn to_the_end(
    inner: &Arc<Inner>,
    work: impl Future<Output = Result<Response, Error>> + Send + 'static,
) -> Result<Response, Error> {
    let task = inner.writes.spawn(work);
    task.await.unwrap_or_else(|error| {
        Err(Error::Storage(object_store::Error::JoinError {
            source: error,
        }))
    })
}

fn repository(name: &str) -> Result<Repository, Error> {
    Repository::parse(name).map_err(|why| Error::new(Code::NameInvalid, why, json!({"name": name})))
}

fn parse(digest: &str) -> Result<Digest, Error> {
    let parsed = digest.parse::<Digest>();
    parsed.map_err(|why| {
        Error::new(
            Code::DigestInvalid,
            why.to_string(),
            json!({"digest": digest}),
        )
    })
}

fn reference_of(text: &str) -> Result<Reference, Error> {
    Reference::parse(text).map_err(|why| {
        let code = match text.contains(':') {
            true => Code::DigestInvalid,
            false => Code::ManifestInvalid,
        };
        Error::new(code, why, json!({"reference": text}))
    })
}

/// Headers of an answer.
fn headers<const N: usize>(pairs: [(HeaderName, String); N]) -> HeaderMap {
    let pairs = pairs.into_iter().map(|(name, value)| {
        let value =
            HeaderValue::try_from(value).expect("names, digests and numbers are headers' values");
        (name, value)
    });
    pairs.collect()
}

/// A body as its bytes come.
fn stream(body: axum::body::Body) -> Body {
    body.into_data_stream()
        .map_err(std::io::Error::other)
        .boxed()
}
