//! What happens to every request before it is answered: who is it, is there room, until when.
//!
//! Leaves the [`User`](crate::auth::User) in the request's extensions, and asks whether they may have a path
//! that names no resource. Never looks at objects.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};

use super::{bounds, health, path, state::Server};
use crate::{
    auth::{Attributes, User, authenticate, impersonation},
    error::{Denial, Error},
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
    bounds::run(&server, request, next).await
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
