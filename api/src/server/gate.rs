//! What happens to every request before it is answered: who is it, is there room, until when.
//!
//! Leaves the [`User`] in the request's extensions. Never looks at objects.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use http::{Method, header};
use http_body_util::BodyExt;
use tokio::time::timeout;

use super::{health, state::Server};
use crate::{auth::User, error::Error, verbs::query::Query};

/// Lets a request through, or answers 401, 429 or 504.
pub(crate) async fn admit(
    State(server): State<Arc<Server>>,
    mut request: Request,
    next: Next,
) -> Response {
    if health::is_open(request.uri().path()) {
        return next.run(request).await;
    }
    let Some(user) = authenticate(&server, &request) else {
        return Error::Unauthorized.into_response();
    };
    request.extensions_mut().insert(user);
    if is_stream(&request) {
        let Ok(permit) = server.streams.clone().try_acquire_owned() else {
            return Error::TooManyRequests.into_response();
        };
        // The permit is given back when the stream ends or the client goes away.
        return next.run(request).await.map(|body| {
            Body::new(body.map_frame(move |frame| {
                let _held = &permit;
                frame
            }))
        });
    }
    let Ok(_permit) = server.in_flight.try_acquire() else {
        return Error::TooManyRequests.into_response();
    };
    match timeout(server.config.limits.request, next.run(request)).await {
        Ok(response) => response,
        Err(_) => Error::Timeout.into_response(),
    }
}

/// A verified certificate or in-process identity first, then a bearer token.
fn authenticate(server: &Server, request: &Request) -> Option<User> {
    if let Some(user) = request.extensions().get::<User>() {
        return Some(user.clone());
    }
    let value = request
        .headers()
        .get(header::AUTHORIZATION)?
        .to_str()
        .ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme
        .eq_ignore_ascii_case("bearer")
        .then(|| server.tokens.find(token.trim()).cloned())?
}

/// A watch or a log: it lasts as long as its client wants. Read as the verbs read it, so that no
/// spelling of `watch` is a stream for them and none here.
fn is_stream(request: &Request) -> bool {
    let uri = request.uri();
    let watches = || {
        uri.query().is_some()
            && Query::read(uri)
                .and_then(|query| query.flag("watch"))
                .is_ok_and(|watch| watch == Some(true))
    };
    request.method() == Method::GET && (uri.path().ends_with("/log") || watches())
}
