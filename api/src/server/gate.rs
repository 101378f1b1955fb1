//! What happens to every request before it is answered: who is it, is there room, until when.
//!
//! Leaves the [`User`] in the request's extensions. Never looks at objects.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use http::header;

use super::{bounds, health, state::Server};
use crate::{auth::User, error::Error};

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
    bounds::run(&server, request, next).await
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
