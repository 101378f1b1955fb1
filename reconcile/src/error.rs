//! What can go wrong in a reconcile, and the deadline that every request to the apiserver has.

use std::time::Duration;

use thiserror::Error;
use tokio::time::error::Elapsed;

/// After this a request counts as lost and its key is tried again.
const REQUEST_DEADLINE: Duration = Duration::from_secs(30);

/// Why a reconcile stopped; the queue tries its key again after a while.
#[derive(Debug, Error)]
pub enum Error {
    /// Someone changed the object first, or it is there already: read again and decide again.
    #[error("{0}")]
    Conflict(String),
    /// The object is gone.
    #[error("{0}")]
    NotFound(String),
    /// The namespace is being deleted: nothing can be made in it any more, and nothing need be.
    #[error("{0}")]
    Ending(String),
    /// The apiserver refused for good: it will refuse the same request again.
    #[error("{0}")]
    Refused(String),
    /// The apiserver did not answer in time, or the answer could not be read.
    #[error("ask the apiserver")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// An object holds something that this controller cannot work with.
    #[error("{0}")]
    Invalid(String),
}

impl Error {
    /// Whether what was asked for may have been done all the same: the time was up before an answer came.
    pub fn is_timeout(&self) -> bool {
        let Self::Unavailable(source) = self else {
            return false;
        };
        let answer = source.downcast_ref::<kube::Error>();
        source.is::<Elapsed>()
            || matches!(answer, Some(kube::Error::Api(status)) if status.code == 504)
    }
}

impl From<kube::Error> for Error {
    fn from(error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) if is_ending(&status) => Self::Ending(status.message),
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

fn is_ending(status: &kube::core::Status) -> bool {
    let details = status.details.iter();
    details
        .flat_map(|details| &details.causes)
        .any(|cause| cause.reason == "NamespaceTerminating")
}

impl From<serde_json::Error> for Error {
    fn from(error: serde_json::Error) -> Self {
        Self::Invalid(format!("read the object: {error}"))
    }
}

/// Waits for a request, no longer than the deadline of every request.
pub async fn within<T>(request: impl Future<Output = kube::Result<T>>) -> Result<T, Error> {
    match tokio::time::timeout(REQUEST_DEADLINE, request).await {
        Ok(answer) => Ok(answer?),
        Err(elapsed) => Err(Error::Unavailable(Box::new(elapsed))),
    }
}

/// The same, where an object that is gone is an answer and not a failure.
pub async fn within_opt<T>(
    request: impl Future<Output = kube::Result<T>>,
) -> Result<Option<T>, Error> {
    match within(request).await {
        Ok(answer) => Ok(Some(answer)),
        Err(Error::NotFound(_)) => Ok(None),
        Err(error) => Err(error),
    }
}
