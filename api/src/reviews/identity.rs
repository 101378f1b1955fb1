//! TokenReview: whom a bearer token identifies.

use serde_json::{Value, json};

use super::{texts, user_info};
use crate::{
    auth::{AUTHENTICATED, authenticate},
    error::Error,
    verbs::call::Call,
};

pub(super) async fn of_token(call: &Call, review: &Value) -> Result<Value, Error> {
    let token = review["spec"]["token"].as_str().unwrap_or_default();
    if token.is_empty() {
        return Err(Error::BadRequest(
            "token is required for TokenReview in authentication".to_owned(),
        ));
    }
    let mut audiences = texts(&review["spec"]["audiences"]);
    if audiences.is_empty() {
        audiences.push(call.server.config.issuer.url.clone());
    }
    Ok(
        match authenticate::bearer(&call.server, token, &audiences).await {
            Ok(identity) => json!({
                "authenticated": true,
                "user": user_info(&identity.user.within(AUTHENTICATED)),
                "audiences": identity.audiences,
            }),
            Err(refusal) => json!({
                "user": {},
                "error": format!("[invalid bearer token, {refusal}]"),
            }),
        },
    )
}
