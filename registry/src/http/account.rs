//! Who asks. A certificate or a bearer token is what it is for the cluster's API; a password is such a token too,
//! whatever the name beside it: so `docker login` works with a ServiceAccount's token.
//!
//! `/v2/token` answers clients that exchange a password for a token with that very token: there is no second sort of
//! token, and nothing here signs one.

use std::sync::Arc;

use axum::{
    Json,
    response::{IntoResponse as _, Response},
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use http::{HeaderMap, HeaderValue, Method, header, request::Parts};
use serde_json::json;

use super::{Scheme, Server, route::Route};
use crate::{
    access::Caller,
    error::{Code, Error},
    registry::Inner,
};

/// After which a client asks again, whether or not its token still holds.
const EXPIRES_SECONDS: u32 = 300;

/// The sender of a request; refused if nobody knows them.
pub(super) async fn identify(inner: &Inner, head: &Parts) -> Result<Arc<dyn Caller>, Error> {
    let headers = &head.headers;
    if headers
        .keys()
        .any(|name| name.as_str().starts_with("impersonate-"))
    {
        return Err(Error::new(
            Code::Unsupported,
            "the registry does not act in somebody else's name: leave the Impersonate- headers out",
            json!(null),
        ));
    }
    let token = token_of(headers);
    let caller = inner
        .access
        .identify(&head.extensions, token.as_deref())
        .await;
    caller.ok_or_else(|| {
        Error::new(
            Code::Unauthorized,
            "authentication required: a client certificate of the cluster, or a ServiceAccount's token as the password",
            json!(null),
        )
    })
}

/// Answers a known sender with the token that they have shown.
pub(super) fn token(head: &Parts) -> Result<Response, Error> {
    if head.method != Method::GET {
        return Err(Error::new(
            Code::Unsupported,
            "ask for tokens with GET",
            json!(null),
        ));
    }
    let Some(token) = token_of(&head.headers) else {
        return Err(Error::new(
            Code::Unauthorized,
            "a certificate needs no token: send requests with it as they are",
            json!(null),
        ));
    };
    let body = json!({"token": token, "access_token": token, "expires_in": EXPIRES_SECONDS});
    Ok(Json(body).into_response())
}

/// What tells a client without an account where to show one.
pub(super) fn challenge(server: &Server, head: &Parts, route: Option<&Route<'_>>) -> HeaderValue {
    let scheme = match server.scheme {
        Scheme::Http => "http",
        Scheme::Https => "https",
    };
    let host = head
        .headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok());
    let host = host.or(head.uri.authority().map(|authority| authority.as_str()));
    let plain = |host: &&str| {
        host.bytes()
            .all(|byte| byte.is_ascii_graphic() && byte != b'"')
    };
    let Some(host) = host.filter(plain) else {
        return HeaderValue::from_static("Basic realm=\"wk\"");
    };
    let mut text = format!("Bearer realm=\"{scheme}://{host}/v2/token\",service=\"{host}\"");
    let scope = route.and_then(Route::name).filter(plain);
    if let Some(name) = scope {
        let actions = match head.method {
            Method::GET | Method::HEAD => "pull",
            Method::DELETE => "delete",
            _ => "pull,push",
        };
        text.push_str(&format!(",scope=\"repository:{name}:{actions}\""));
    }
    HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static("Basic realm=\"wk\""))
}

/// A bearer token, or the password of a Basic account.
fn token_of(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, rest) = value.split_once(' ')?;
    let rest = rest.trim();
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(rest.to_owned());
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let account = String::from_utf8(BASE64_STANDARD.decode(rest).ok()?).ok()?;
    let (_, password) = account.split_once(':')?;
    Some(password.to_owned())
}
