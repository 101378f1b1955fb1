//! `namespaces/<name>/finalize`: writes `spec.finalizers`; the last one gone, so is the Namespace.

use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::Method;

use crate::{
    error::Error,
    verbs::{call::Call, change::Part, update},
};

pub(crate) async fn serve(call: &Call, method: &Method, body: &Bytes) -> Result<Response, Error> {
    if *method != Method::PUT {
        return Err(Error::MethodNotAllowed);
    }
    Ok(update::update(call, Part::Finalize, body)
        .await?
        .into_response())
}
