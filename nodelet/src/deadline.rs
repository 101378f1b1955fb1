//! No remote call waits for ever.

use std::{future::Future, time::Duration};

/// How long one call to the apiserver may take.
pub(crate) const API_DEADLINE: Duration = Duration::from_secs(10);

/// Why a call to the apiserver failed.
#[derive(Debug)]
pub(crate) enum CallError {
    Api(kube::Error),
    Late,
}

impl CallError {
    /// The HTTP status that the apiserver answered with, if it answered.
    pub(crate) fn code(&self) -> Option<u16> {
        match self {
            CallError::Api(kube::Error::Api(status)) => Some(status.code),
            CallError::Api(_) | CallError::Late => None,
        }
    }
}

impl std::fmt::Display for CallError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            CallError::Api(kube::Error::Api(status)) => f.write_str(&status.message),
            CallError::Api(error) => error.fmt(f),
            CallError::Late => write!(
                f,
                "the apiserver did not answer within {} s",
                API_DEADLINE.as_secs()
            ),
        }
    }
}

impl std::error::Error for CallError {}

/// Runs one call to the apiserver under [`API_DEADLINE`].
pub(crate) async fn call<T>(
    request: impl Future<Output = kube::Result<T>>,
) -> Result<T, CallError> {
    match tokio::time::timeout(API_DEADLINE, request).await {
        Ok(answer) => answer.map_err(CallError::Api),
        Err(_) => Err(CallError::Late),
    }
}
