//! Requests whose bodies are too large to be held.
//!
//! kube's own bodies are whole: these go over a connection of their own, to the same server as the same user.

use std::{io, time::Duration};

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use futures::{Stream, StreamExt as _, TryStreamExt as _};
use http::{Request, header};
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
        let request = Request::post(path)
            .header(header::USER_AGENT, AGENT)
            .header(header::ACCEPT, JSON)
            .header(header::CONTENT_TYPE, content_type);
        let Some(config) = self.config() else {
            // In one process nothing is gained.
            let whole = body.map_ok(|chunk| chunk.to_vec()).try_concat().await?;
            let request = request.body(whole.into()).context("build the request")?;
            let answer = self.answer(request).await?.into_body().collect().await;
            let answer = answer.context("read the server's answer")?.to_bytes();
            return serde_json::from_slice(&answer).context("read the server's answer");
        };
        let body = StreamBody::new(body.map(|chunk| chunk.map(Frame::data)));
        let request = request
            .body(body.boxed_unsync())
            .context("build the request")?;
        let sent = tokio::time::timeout(DEADLINE, send(config, request)).await;
        sent.context("the server did not answer within an hour")?
    }
}

async fn send(config: &Config, request: Request<UnsyncBoxBody<Bytes, io::Error>>) -> Result<Value> {
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
    let code = response.status();
    let answer = response.into_body().collect().await;
    let answer = answer.context("read the server's answer")?.to_bytes();
    if !code.is_success() {
        return Err(api::server_error(code, &answer).into());
    }
    serde_json::from_slice(&answer).context("read the server's answer")
}
