//! `…/status`, a pod's `…/ephemeralcontainers` and `…/resize`: the same verbs, on that part alone.

use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::Method;

use crate::{
    error::Error,
    verbs::{call::Call, change::Part, get, patch, update},
};

pub(crate) async fn serve(
    call: &Call,
    method: &Method,
    body: &Bytes,
    part: Part,
) -> Result<Response, Error> {
    let answer = match *method {
        Method::GET => get::get(call).await?,
        Method::PUT => update::update(call, part, body).await?,
        Method::PATCH => patch::patch(call, part, body).await?,
        _ => return Err(Error::MethodNotAllowed),
    };
    Ok(answer.into_response())
}
