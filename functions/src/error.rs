//! What can go wrong in a reconcile, and the deadline that every request to the apiserver has.

use std::time::Duration;

use thiserror::Error;

/// After this a request counts as lost and its key is tried again.
const REQUEST_DEADLINE: Duration = Duration::from_secs(30);

/// Why a reconcile stopped; its key is tried again after a while.
#[derive(Debug, Error)]
pub(crate) enum Error {
    /// Someone changed the object first, or it is there already: read again and decide again.
    #[error("{0}")]
    Conflict(String),
    /// The object is gone.
    #[error("{0}")]
    NotFound(String),
    /// The apiserver refused for good: it will refuse the same request again, until something changes.
    #[error("{0}")]
    Refused(String),
    /// The apiserver did not answer in time, or the answer could not be read.
    #[error("ask the apiserver")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// An object holds something that cannot be worked with.
    #[error("{0}")]
    Invalid(String),
}

impl From<kube::Error> for Error {
    fn from(error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => match status.code {
                404 => Self::NotFound(status.message),
                409 => Self::Conflict(status.message),
                400..=499 if status.code != 429 => Self::Refused(status.message),
                _ => Self::Unavailable(Box::new(kube::Error::Api(status))),
            },
            other => Self::Unavailable(Box::new(other)),
        }
    }
}

impl From<serde_json::Error> for Error {
    fn from(error: serde_json::Error) -> Self {
        Self::Invalid(format!("read the object: {error}"))
    }
}

/// Waits for a request, no longer than the deadline of every request.
pub(crate) async fn within<T>(request: impl Future<Output = kube::Result<T>>) -> Result<T, Error> {
    match tokio::time::timeout(REQUEST_DEADLINE, request).await {
        Ok(answer) => Ok(answer?),
        Err(elapsed) => Err(Error::Unavailable(Box::new(elapsed))),
    }
}

/// The same, where an object that is gone is an answer and not a failure.
pub(crate) async fn within_opt<T>(
    request: impl Future<Output = kube::Result<T>>,
) -> Result<Option<T>, Error> {
    match within(request).await {
        Ok(answer) => Ok(Some(answer)),
        Err(Error::NotFound(_)) => Ok(None),
        Err(error) => Err(error),
    }
}
