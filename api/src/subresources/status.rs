//! `…/status`: the same verbs, on the status alone.

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
        Method::PUT => update::update(call, Part::Status, body).await?,
        Method::PATCH => patch::patch(call, Part::Status, body).await?,
        _ => return Err(Error::MethodNotAllowed),
    };
    Ok(answer.into_response())
}
