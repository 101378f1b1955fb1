//! The way to registries and repositories: over the network, and to the cluster's own registry through the apiserver.

use std::time::Duration;

use anyhow::{Context as _, Result};
use async_trait::async_trait;
use charts::fetch::{Answer, Request, Transport};
use http::header;
use http_body_util::{BodyExt as _, Limited};
use kube::client::Body;

use crate::{
    api::{AGENT, Api, ServerError},
    session::Session,
};

/// A request and its answer; an archive may be large and the line slow.
const DEADLINE: Duration = Duration::from_secs(300);

/// Whom requests go to.
pub(in crate::commands::chart) struct Network {
    client: reqwest::Client,
    /// The cluster, where its registry is asked.
    api: Option<Api>,
}

impl Network {
    /// With a cluster if its own registry takes part.
    pub(in crate::commands::chart) async fn connect(
        session: &Session,
        own: bool,
    ) -> Result<Network> {
        let client = reqwest::Client::builder()
            .timeout(DEADLINE)
            .user_agent(AGENT)
            .build()
            .context("set up the connection")?;
        let api = match own {
            true => Some(session.api().await?.clone()),
            false => None,
        };
        Ok(Network { client, api })
    }
}

#[async_trait]
impl Transport for Network {
    async fn send(&self, request: Request) -> Result<Answer, String> {
        let url = request.url.clone();
        let sent = match (&self.api, url.starts_with('/')) {
            (Some(api), true) => own(api, request).await,
            (None, true) => Err(anyhow::anyhow!("{url}: no cluster is asked here")),
            (_, false) => outside(&self.client, request).await,
        };
        sent.map_err(|error| format!("{error:#}"))
    }
}

async fn own(api: &Api, request: Request) -> Result<Answer> {
    let mut built = http::Request::builder()
        .method(request.method)
        .uri(&request.url)
        .header(header::USER_AGENT, AGENT)
        .header(header::ACCEPT, request.accept);
    if let Some(content_type) = request.content_type {
        built = built.header(header::CONTENT_TYPE, content_type);
    }
    let built = built
        .body(Body::from(request.body))
        .context("build the request")?;
    let answer = match api.answer(built).await {
        Ok(answer) => answer,
        Err(error) => match error.downcast::<ServerError>() {
            Ok(refusal) => {
                return Ok(Answer {
                    status: refusal.code,
                    body: refusal.message.into_bytes(),
                    ..Answer::default()
                });
            }
            Err(error) => return Err(error),
        },
    };
    let (parts, body) = answer.into_parts();
    let body = tokio::time::timeout(DEADLINE, Limited::new(body, request.limit).collect()).await;
    let body = body
        .context("the server's answer did not end in time")?
        .map_err(|error| anyhow::anyhow!("read the server's answer: {error}"))?;
    Ok(Answer {
        status: parts.status.as_u16(),
        challenge: None,
        location: text(&parts.headers, header::LOCATION),
        body: body.to_bytes().to_vec(),
    })
}

async fn outside(client: &reqwest::Client, request: Request) -> Result<Answer> {
    let method = http::Method::from_bytes(request.method.as_bytes()).context("the method")?;
    let mut sent = client
        .request(method, &request.url)
        .header(header::ACCEPT, request.accept)
        .body(request.body);
    if let Some(content_type) = request.content_type {
        sent = sent.header(header::CONTENT_TYPE, content_type);
    }
    if let Some(authorization) = request.authorization {
        sent = sent.header(header::AUTHORIZATION, authorization);
    }
    let mut answer = sent.send().await?;
    let mut fetched = Answer {
        status: answer.status().as_u16(),
        challenge: text(answer.headers(), header::WWW_AUTHENTICATE),
        location: text(answer.headers(), header::LOCATION),
        body: Vec::new(),
    };
    while let Some(chunk) = answer.chunk().await? {
        if fetched.body.len() + chunk.len() > request.limit {
            anyhow::bail!("{} is larger than {} bytes", request.url, request.limit);
        }
        fetched.body.extend_from_slice(&chunk);
    }
    Ok(fetched)
}

fn text(headers: &http::HeaderMap, name: header::HeaderName) -> Option<String> {
    let value = headers.get(name)?.to_str().ok()?;
    Some(value.to_owned())
}
