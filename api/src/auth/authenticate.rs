//! A request's user: of a verified certificate or in-process identity first, then of a bearer token.

use http::{Extensions, HeaderMap, header};

use super::{
    AUTHENTICATED, User, jwt,
    service_account::{Identity, Refusal},
};
use crate::server::state::Server;

/// Who sends a request; `None` if nobody knows.
pub(crate) async fn user(
    server: &Server,
    extensions: &Extensions,
    headers: &HeaderMap,
) -> Option<User> {
    let user = match extensions.get::<User>() {
        Some(user) => user.clone(),
        None => {
            let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
            let (scheme, token) = value.split_once(' ')?;
            if !scheme.eq_ignore_ascii_case("bearer") {
                return None;
            }
            let audiences = std::slice::from_ref(&server.config.issuer.url);
            match bearer(server, token.trim(), audiences).await {
                Ok(identity) => identity.user,
                Err(refusal) => {
                    tracing::debug!(%refusal, "a bearer token was refused");
                    return None;
                }
            }
        }
    };
    Some(user.within(AUTHENTICATED))
}

/// Whom a bearer token identifies to one of `audiences`.
pub(crate) async fn bearer(
    server: &Server,
    token: &str,
    audiences: &[String],
) -> Result<Identity, Refusal> {
    let issuer = &server.config.issuer;
    if let Some(user) = server.tokens.find(token) {
        return if audiences.contains(&issuer.url) {
            Ok(Identity {
                user: user.clone(),
                audiences: vec![issuer.url.clone()],
            })
        } else {
            Err(Refusal::Token(
                "the token is for the apiserver only".to_owned(),
            ))
        };
    }
    if !jwt::looks_like_one(token) {
        return Err(Refusal::Token("the token is not known".to_owned()));
    }
    match issuer.identify(&server.cache, token, audiences, server.now()) {
        // Another apiserver may have signed it a moment ago: only what is not in the newest state is gone.
        Err(Refusal::Gone(_)) => {
            let fresh = server.cache.fresh().await;
            fresh.map_err(|error| Refusal::Token(error.to_string()))?;
            issuer.identify(&server.cache, token, audiences, server.now())
        }
        identified => identified,
    }
}
