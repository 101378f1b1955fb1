//! Requests to the apiserver as a ServiceAccount.

use std::time::Duration;

use async_trait::async_trait;
use charts::release::{
    CallError, Report,
    rest::{Call, Transport},
};
use http::{HeaderValue, Request, header};
use http_body_util::{BodyExt as _, Limited};
use jiff::Timestamp;
use kube::{Client, client::Body};
use serde_json::Value;

use crate::{clock, error::Error};

/// After this a request counts as lost.
const DEADLINE: Duration = Duration::from_secs(60);
/// Largest answer, in bytes.
const LARGEST: usize = 64 << 20;

/// The controllers' client, as somebody else.
pub(super) struct Connection {
    client: Client,
    account: HeaderValue,
}

impl Connection {
    /// As a user: `system:serviceaccount:NAMESPACE:NAME`.
    pub(super) fn new(client: Client, account: &str) -> Result<Connection, Error> {
        let account = HeaderValue::from_str(account)
            .map_err(|_| Error::Invalid(format!("{account:?} is no user")))?;
        Ok(Connection { client, account })
    }

    /// Sends a request with an `Accept` header; answers status, media type and body.
    pub(super) async fn fetch(
        &self,
        method: &str,
        path: &str,
        accept: &str,
        body: Option<(&'static str, &Value)>,
    ) -> Result<(u16, Vec<u8>), CallError> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::USER_AGENT, "wk-chart-releases")
            .header(header::ACCEPT, accept)
            .header("impersonate-user", &self.account);
        let mut bytes = Vec::new();
        if let Some((content_type, value)) = body {
            request = request.header(header::CONTENT_TYPE, content_type);
            bytes = value.to_string().into_bytes();
        }
        let request = request
            .body(Body::from(bytes))
            .map_err(|error| lost(format!("build the request: {error}")))?;
        let answer = async {
            let answer = self.client.send(request).await;
            let answer = answer.map_err(|error| lost(error.to_string()))?;
            let status = answer.status().as_u16();
            let body = Limited::new(answer.into_body(), LARGEST).collect().await;
            let body = body.map_err(|error| lost(format!("read the answer: {error}")))?;
            Ok((status, body.to_bytes().to_vec()))
        };
        match tokio::time::timeout(DEADLINE, answer).await {
            Ok(answer) => answer,
            Err(_) => Err(lost("the apiserver did not answer in time".to_owned())),
        }
    }
}

fn lost(message: String) -> CallError {
    CallError {
        code: None,
        message,
    }
}

#[async_trait]
impl Transport for Connection {
    async fn send(&self, call: Call<'_>) -> Result<Vec<u8>, CallError> {
        let (code, body) = self
            .fetch(call.method, &call.path, call.accept, call.body)
            .await?;
        if (200..300).contains(&code) {
            return Ok(body);
        }
        let status: Value = serde_json::from_slice(&body).unwrap_or_default();
        let message = status["message"].as_str().map(str::to_owned);
        Err(CallError {
            code: Some(code),
            message: message.unwrap_or_else(|| String::from_utf8_lossy(&body).into_owned()),
        })
    }

    fn now(&self) -> Timestamp {
        clock::now()
    }

    async fn pause(&self, length: Duration) {
        tokio::time::sleep(length).await;
    }

    async fn blocking(&self, work: Box<dyn FnOnce() + Send>) {
        // It panicked, then: whoever waits for its result hears nothing.
        let _ = tokio::task::spawn_blocking(work).await;
    }

    async fn report(&self, report: Report) {
        tracing::debug!(?report, "release");
    }
}
