//! Questions put as objects: created, answered in their status, never stored.
//!
//! - [`access`]: may somebody do something? [`rules`]: what may I do?
//! - [`identity`]: whom does a token identify? Who am I?

mod access;
mod identity;
mod rules;

use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::StatusCode;
use serde_json::{Map, Value, json};

use crate::{
    auth::User,
    error::Error,
    verbs::{answer::Answer, call::Call, decode},
};

/// Answers the POST of a review.
pub(crate) async fn serve(call: &Call, body: &Bytes) -> Result<Response, Error> {
    if call.resource.names().namespaced && call.namespace.is_empty() {
        return Err(Error::MethodNotAllowed);
    }
    let (mut object, warnings) = decode::object(call, body)?;
    object["status"] = match call.resource.names().kind {
        "SubjectAccessReview" | "LocalSubjectAccessReview" => access::of_anyone(call, &object)?,
        "SelfSubjectAccessReview" => access::of_oneself(call, &object)?,
        "SelfSubjectRulesReview" => rules::answer(call, &object)?,
        "TokenReview" => identity::of_token(call, &object).await?,
        "SelfSubjectReview" => json!({"userInfo": user_info(&call.user)}),
        kind => return Err(Error::internal(format!("{kind} is no review"))),
    };
    if !object["metadata"].is_object() {
        object["metadata"] = Value::Object(Map::new());
    }
    let answer = Answer::json(StatusCode::CREATED, &object).with_warnings(warnings);
    Ok(answer.into_response())
}

/// `authentication.k8s.io/v1` `UserInfo`.
pub(crate) fn user_info(user: &User) -> Value {
    let mut info = json!({"username": user.name});
    if !user.uid.is_empty() {
        info["uid"] = user.uid.clone().into();
    }
    if !user.groups.is_empty() {
        info["groups"] = json!(user.groups);
    }
    if !user.extra.is_empty() {
        info["extra"] = json!(user.extra);
    }
    info
}

/// The texts of a list.
fn texts(list: &Value) -> Vec<String> {
    let list = list.as_array().into_iter().flatten();
    list.filter_map(|text| Some(text.as_str()?.to_owned()))
        .collect()
}
