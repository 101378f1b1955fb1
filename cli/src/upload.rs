//! Requests whose bodies are too large to be held.
//!
//! kube's own bodies are whole: these go over a connection of their own, to the same server as the same user.

use std::{io, time::Duration};

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use http::{Request, Response, header};
use http_body_util::{BodyExt as _, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::Frame;
use hyper_util::{client::legacy, rt::TokioExecutor};
use kube::{Config, client::ConfigExt as _};
use serde_json::Value;
use tower::{BoxError, ServiceBuilder, ServiceExt as _};

use crate::api::{self, AGENT, Api, JSON};

/// How long it may take until it is all there and the server has answered.
const DEADLINE: Duration = Duration::from_secs(60 * 60);

impl Api {
    /// POSTs a body as it comes; the JSON that is answered.
    pub(crate) async fn upload(
        &self,
        path: &str,
        content_type: &str,
        body: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
    ) -> Result<Value> {
        let body = StreamBody::new(body.map(|chunk| chunk.map(Frame::data)));
        let request = Request::post(path)
            .header(header::USER_AGENT, AGENT)
            .header(header::ACCEPT, JSON)
            .header(header::CONTENT_TYPE, content_type)
            .body(body.boxed_unsync())
            .context("build the request")?;
        let answer = self.transfer(request).await?;
        serde_json::from_slice(answer.body()).context("read the server's answer")
    }

    /// Sends a request whose body is read as it goes; an answer that is a failure is an error.
    pub(crate) async fn transfer(&self, request: Request<Body>) -> Result<Response<Bytes>> {
        let Some(config) = self.config() else {
            // In one process nothing is gained.
            let (parts, body) = request.into_parts();
            let whole = body.collect().await.context("read what is to be sent")?;
            let whole = whole.to_bytes().to_vec();
            let answer = self
                .answer(Request::from_parts(parts, whole.into()))
                .await?;
            let (parts, body) = answer.into_parts();
            let body = body.collect().await.context("read the server's answer")?;
            return Ok(Response::from_parts(parts, body.to_bytes()));
        };
        let sent = tokio::time::timeout(DEADLINE, send(config, request)).await;
        sent.context("the server did not answer within an hour")?
    }
}

/// What is sent, as it is read.
type Body = UnsyncBoxBody<Bytes, io::Error>;

async fn send(config: &Config, request: Request<Body>) -> Result<Response<Bytes>> {
    if config.proxy_url.is_some() {
        bail!("this does not go through a proxy");
    }
    let connector = config.rustls_https_connector();
    let connector = connector.context("set up the connection")?;
    let client = legacy::Client::builder(TokioExecutor::new()).build(connector);
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer().context("set up the account")?)
        .layer(config.extra_headers_layer().context("set up the headers")?)
        .map_err(BoxError::from)
        .service(client);
    let response = match service.oneshot(request).await {
        Ok(response) => response,
        Err(error) => bail!("send to {}: {error}", config.cluster_url),
    };
    let (parts, body) = response.into_parts();
    let answer = body.collect().await.context("read the server's answer")?;
    let answer = answer.to_bytes();
    if !parts.status.is_success() {
        return Err(api::server_error(parts.status, &answer).into());
    }
    Ok(Response::from_parts(parts, answer))
}
