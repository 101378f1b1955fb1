//! `certificatesigningrequests/<name>/approval`: whether a request may be signed.

use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::Method;

use crate::{
    error::Error,
    verbs::{call::Call, change::Part, get, patch, update},
};

pub(crate) async fn serve(call: &Call, method: &Method, body: &Bytes) -> Result<Response, Error> {
    let answer = match *method {
        Method::GET => get::get(call).await?,
        Method::PUT => update::update(call, Part::Approval, body).await?,
        Method::PATCH => patch::patch(call, Part::Approval, body).await?,
        _ => return Err(Error::MethodNotAllowed),
    };
    Ok(answer.into_response())
}
