//! What happens to every request before it is answered: who is it, is there room, until when.
//!
//! Leaves the [`User`](crate::auth::User) in the request's extensions, and asks whether they may have a path
//! that names no resource. Never looks at objects.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use http::Method;
use http_body_util::BodyExt;
use tokio::time::timeout;

use super::{health, path, state::Server};
use crate::{
    auth::{Attributes, User, authenticate, impersonation},
    error::{Denial, Error},
    verbs::query::Query,
};

/// Lets a request through, or answers 401, 429 or 504.
pub(crate) async fn admit(
    State(server): State<Arc<Server>>,
    mut request: Request,
    next: Next,
) -> Response {
    if health::is_open(request.uri().path()) {
        return next.run(request).await;
    }
    match identify(&server, &mut request).await {
        Ok(user) => request.extensions_mut().insert(user),
        Err(error) => return error.into_response(),
    };
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

/// Who asks, or in whose name; may they have the path?
async fn identify(server: &Server, request: &mut Request) -> Result<User, Error> {
    let user = authenticate::user(server, request.extensions(), request.headers()).await;
    let user = user.ok_or(Error::Unauthorized)?;
    let user = impersonation::apply(&server.authorizer, user, request.headers_mut())?;
    let path = request.uri().path();
    if path::parse(path).is_none() {
        let verb = request.method().as_str().to_ascii_lowercase();
        let asked = Attributes::path(&verb, path);
        let decision = server.authorizer.decide(&user, &asked);
        if !decision.allowed {
            return Err(Denial::of(&asked, &user, &decision).into());
        }
    }
    Ok(user)
}

/// A watch, a log or a proxied request: it lasts as long as its client wants. Read as the verbs read it, so that no
/// spelling of `watch` is a stream for them and none here.
fn is_stream(request: &Request) -> bool {
    let uri = request.uri();
    let watches = || {
        uri.query().is_some()
            && Query::read(uri)
                .and_then(|query| query.flag("watch"))
                .is_ok_and(|watch| watch == Some(true))
    };
    path::parse(uri.path()).is_some_and(|target| target.is_proxied())
        || request.method() == Method::GET && (uri.path().ends_with("/log") || watches())
}
