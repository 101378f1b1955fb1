//! `/.well-known/openid-configuration` and `/openid/v1/jwks`: how others verify the tokens of
//! ServiceAccounts (OpenID Connect Discovery 1.0).

use std::sync::Arc;

use axum::{
    Router,
    extract::State,
    response::{IntoResponse, Response},
    routing::get,
};
use http::header;
use serde_json::{Value, json};

use super::state::Server;
use crate::auth::service_account;

const KEYS: &str = "/openid/v1/jwks";

pub(crate) fn router() -> Router<Arc<Server>> {
    Router::new()
        .route("/.well-known/openid-configuration", get(configuration))
        .route(KEYS, get(keys))
}

async fn configuration(State(server): State<Arc<Server>>) -> Response {
    let url = format!("https://{}{KEYS}", server.config.advertised);
    let document = service_account::discovery(&server.config.issuer, &url);
    answer("application/json", &document)
}

async fn keys(State(server): State<Arc<Server>>) -> Response {
    let keys = json!({"keys": [server.config.issuer.key.jwk()]});
    answer("application/jwk-set+json", &keys)
}

fn answer(content_type: &'static str, document: &Value) -> Response {
    let headers = [
        (header::CONTENT_TYPE, content_type),
        (header::CACHE_CONTROL, "public, max-age=3600"),
    ];
    (headers, document.to_string()).into_response()
}
