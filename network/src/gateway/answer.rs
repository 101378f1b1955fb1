//! The gateway's own answers: short, with the Function and the request's id, and never what went wrong inside.

use std::{fmt, time::Duration};

use http::{
    HeaderMap, HeaderValue, Response, StatusCode,
    header::{ACCEPT, ALLOW, CONTENT_TYPE, RETRY_AFTER},
};
use runtimes::ServeError;

use super::{body::Outgoing, headers::REQUEST_ID, routes::paths::Methods};

/// What answers in place of the one that was asked.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    message: String,
    allow: Option<Methods>,
    /// In the log alone.
    pub(super) cause: Option<String>,
    /// Whether it may be different another time.
    pub(super) passing: bool,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, message: impl fmt::Display) -> Self {
        Self {
            status,
            message: message.to_string(),
            allow: None,
            cause: None,
            passing: false,
        }
    }

    /// Sent again, it might be answered.
    pub(super) fn passing(mut self) -> Self {
        self.passing = true;
        self
    }

    pub(super) fn because(mut self, cause: impl fmt::Display) -> Self {
        self.cause = Some(cause.to_string());
        self
    }

    pub(super) fn other_methods(methods: Methods) -> Self {
        let refusal = Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            format!("there is no route for this method here, only for {methods}"),
        );
        Self {
            allow: Some(methods),
            ..refusal
        }
    }

    pub(super) fn no_host(host: &str) -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            format!(
                "nothing is served for host {host:?}: kubectl get functions -A and kubectl get ingresses -A list what is"
            ),
        )
    }

    pub(super) fn no_path(host: &str, path: &str) -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            format!("nothing is served for path {path:?} of host {host:?}"),
        )
    }

    pub(super) fn late(who: impl fmt::Display, timeout: Duration) -> Self {
        Self::new(
            StatusCode::GATEWAY_TIMEOUT,
            format!("{who} had no answer within {} s", timeout.as_secs_f64()),
        )
    }

    pub(super) fn busy(who: impl fmt::Display) -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            format!("{who} serves as many requests as it may, and as many wait"),
        )
        .passing()
    }

    /// What a Function's failure is to a client.
    pub(super) fn of(error: &ServeError, who: impl fmt::Display, timeout: Duration) -> Self {
        let refusal = match error {
            ServeError::Unknown(_) => {
                Self::new(StatusCode::NOT_FOUND, format!("{who} is not here"))
            }
            ServeError::Unavailable(_) => Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                format!("{who} cannot serve now"),
            )
            .passing(),
            ServeError::Busy(_) => Self::busy(who),
            ServeError::Failed(_) => {
                Self::new(StatusCode::BAD_GATEWAY, format!("{who} failed")).passing()
            }
            ServeError::OutOfMemory(_) => Self::new(
                StatusCode::BAD_GATEWAY,
                format!("{who} needed more memory than it may have"),
            ),
            ServeError::TimedOut(_) => Self::late(who, timeout),
        };
        refusal.because(error)
    }

    /// The response: JSON for those that ask for it, otherwise a line of text.
    pub(super) fn response(&self, request: &HeaderMap, id: &HeaderValue) -> Response<Outgoing> {
        let json = request
            .get_all(ACCEPT)
            .iter()
            .any(|value| value.as_bytes().starts_with(b"application/json"));
        let shown = id.to_str().unwrap_or_default();
        let Self {
            status, message, ..
        } = self;
        let (text, kind) = match json {
            true => {
                let value = serde_json::json!({
                    "status": status.as_u16(), "message": message, "requestId": shown,
                });
                (format!("{value}\n"), "application/json")
            }
            false => (
                format!("{message} (request {shown})\n"),
                "text/plain; charset=utf-8",
            ),
        };
        let mut response = Response::new(Outgoing::text(text));
        *response.status_mut() = *status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        headers.insert(REQUEST_ID.clone(), id.clone());
        if *status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        if let Some(allow) = &self.allow
            && let Ok(allow) = HeaderValue::from_str(&allow.to_string())
        {
            headers.insert(ALLOW, allow);
        }
        response
    }
}
